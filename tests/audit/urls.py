"""The project's addresses, and one that refuses whatever is asked."""

from django.http import HttpRequest, HttpResponse
from django.urls import path

from audit import errors
from mlops.urls import urlpatterns as project


def refuse(request: HttpRequest, kind: str) -> HttpResponse:
    raise getattr(errors, kind)("Only <delay-product> decides.")


def break_down(request: HttpRequest) -> HttpResponse:
    raise ZeroDivisionError


urlpatterns = [*project, path("refuse/<kind>/", refuse), path("break/", break_down)]
