"""What a refusal looks like to somebody with a browser: a message on the page they came from."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.utils.http import url_has_allowed_host_and_scheme

from audit.errors import GatehouseError


class RefusalMiddleware:
    """Turn a GatehouseError raised by an admin or portal view into a message (POST) or an error page (GET)."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if not isinstance(exception, GatehouseError):
            return None
        came_from = request.headers.get("Referer", "")
        if request.method == "POST" and exception.status == 409 and _is_ours(request, came_from):
            messages.error(request, f"{exception.title}: {exception}")
            return HttpResponseRedirect(came_from)
        context = {"title": exception.title, "explanation": str(exception)}
        return render(request, "refused.html", context, status=exception.status)


def _is_ours(request: HttpRequest, url: str) -> bool:
    return url_has_allowed_host_and_scheme(url, allowed_hosts={request.get_host()}, require_https=request.is_secure())
