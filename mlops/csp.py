"""The content security policy below /admin/, where unfold's Alpine needs eval and inline styles. Nowhere else."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import reverse


class AdminPolicyMiddleware:
    """Replace two directives for admin pages. Stands inside ``CSPMiddleware``, which writes the header.

    Replaced, not extended: beside a hash, browsers ignore ``'unsafe-inline'``.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        self.root = reverse("admin:index")

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if request.path.startswith(self.root):
            response._csp_replace = settings.ADMIN_CSP  # type: ignore[attr-defined]  # how django-csp's decorators tell it
        return response
