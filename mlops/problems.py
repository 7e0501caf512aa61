"""Errors of the API as RFC 9457 problem documents (application/problem+json)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.defaults import server_error as server_error_page
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import exception_handler as drf_handler

from audit.errors import GatehouseError, InvalidInput, Unavailable
from audit.rest import TooLarge
from mlops import request_ids

MEDIA_TYPE = "application/problem+json"


def problem(*, code: int, title: str, detail: str, instance: str, errors: Any = None) -> dict[str, Any]:
    """The members of RFC 9457 section 3.1; extensions: the request's name, and ``errors`` by field."""
    body = {"type": "about:blank", "title": title, "status": int(code), "detail": detail, "instance": instance}
    body["request_id"] = request_ids.current()
    return body if not errors else {**body, "errors": errors}


def exception_handler(exception: Exception, context: dict[str, Any]) -> Response | None:
    """Every refusal in one shape; None (a 500 of Django's own) for what nobody foresaw."""
    instance = context["request"].path
    if isinstance(exception, OperationalError) and "locked" in str(exception):  # SQLite: others write for too long
        exception = Unavailable("The database was busy for too long. Nothing was done: ask again.")
    if isinstance(exception, GatehouseError):
        errors = exception.errors if isinstance(exception, InvalidInput) else None
        body = problem(
            code=exception.status, title=exception.title, detail=str(exception), instance=instance, errors=errors
        )
        return Response(body, status=exception.status, content_type=MEDIA_TYPE)
    if isinstance(exception, RequestDataTooBig):
        exception = TooLarge(str(exception))
    if isinstance(exception, SuspiciousOperation):
        exception = exceptions.ParseError(str(exception))
    if isinstance(exception, Http404):
        exception = exceptions.NotFound()
    if isinstance(exception, PermissionDenied):
        exception = exceptions.PermissionDenied()
    response = drf_handler(exception, context)
    if response is None or not isinstance(exception, exceptions.APIException):
        return None
    response.data = _from_api_exception(exception, response.status_code, instance)
    response.content_type = MEDIA_TYPE
    return response


def _from_api_exception(exception: exceptions.APIException, code: int, instance: str) -> dict[str, Any]:
    if isinstance(exception, exceptions.ValidationError):
        title = InvalidInput.title
        return problem(
            code=code, title=title, detail=_flat(exception.detail), instance=instance, errors=exception.detail
        )
    return problem(code=code, title=HTTPStatus(code).phrase, detail=_flat(exception.detail), instance=instance)


def _flat(detail: Any) -> str:
    if isinstance(detail, dict):
        return "; ".join(f"{field}: {_flat(texts)}" for field, texts in detail.items())
    if isinstance(detail, list):
        return " ".join(_flat(item) for item in detail)
    return str(detail)


@csrf_exempt  # nothing is done here, and a missing cookie is not what is wrong
def not_found(request: HttpRequest, exception: Exception | None = None) -> JsonResponse:
    """No address of the API is like this one."""
    code = HTTPStatus.NOT_FOUND
    detail = f"There is no {request.path}. Addresses of the API end with a slash; /api/docs/ lists them."
    return _as_response(problem(code=code, title=code.phrase, detail=detail, instance=request.path))


def server_error(request: HttpRequest) -> HttpResponse:
    """A defect of ours (``handler500``): logged with its traceback, told without."""
    if not request.path.startswith("/api/"):
        return server_error_page(request)
    code = HTTPStatus.INTERNAL_SERVER_ERROR
    detail = "This is a defect in Gatehouse; it has been logged. What was asked for may not have happened."
    return _as_response(problem(code=code, title=code.phrase, detail=detail, instance=request.path))


def _as_response(body: dict[str, Any]) -> JsonResponse:
    return JsonResponse(body, status=body["status"], content_type=MEDIA_TYPE)
