"""Two questions a load balancer or an orchestrator asks, answered as plain JSON and without signing in."""

from __future__ import annotations

from django.conf import settings
from django.db import Error
from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from jobs import heartbeat


@never_cache
@require_safe
def healthz(request: HttpRequest) -> JsonResponse:
    """This process answers."""
    return JsonResponse({"status": "ok"})


@never_cache
@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """The database answers (503 when not), and how long ago a worker gave a sign of life.

    A silent worker does not make the portal unready: people must be able to see what waits, and why.
    """
    try:
        last = heartbeat.last_sign_of_life()
    except Error:
        return JsonResponse({"status": "unavailable", "database": "does not answer"}, status=503)
    age = (timezone.now() - last).total_seconds() if last else None
    alive = age is not None and age <= settings.GATEHOUSE_HEARTBEAT_LIMIT + settings.GATEHOUSE_HEARTBEAT_EVERY
    worker = {"alive": alive, "seconds_since_sign_of_life": None if age is None else round(age, 1)}
    return JsonResponse({"status": "ok" if alive else "degraded", "database": "ok", "worker": worker})
