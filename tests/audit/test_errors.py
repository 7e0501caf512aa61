"""Each refusal has one HTTP status, and one shape in the API."""

import pytest
from django.core.exceptions import PermissionDenied
from django.http import Http404
from rest_framework import exceptions
from rest_framework.test import APIRequestFactory

from audit import errors
from mlops.problems import MEDIA_TYPE, exception_handler

STATUS = {
    errors.InvalidInput: 422,
    errors.NotPermitted: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.TransitionError: 409,
    errors.AlreadyExists: 409,
    errors.GateNotPassed: 409,
    errors.Unavailable: 503,
}


def every_refusal(base: type[errors.GatehouseError] = errors.GatehouseError) -> set[type[errors.GatehouseError]]:
    below = base.__subclasses__()
    return set(below).union(*(every_refusal(each) for each in below))


def problem_of(exception: Exception):  # type: ignore[no-untyped-def]  # DRF's Response
    response = exception_handler(exception, {"request": APIRequestFactory().get("/api/v1/models/")})
    assert response is not None
    assert response.content_type == MEDIA_TYPE
    return response


def test_refusals__of_this_module__are_all_mapped_to_http() -> None:
    assert {each for each in every_refusal() if each.__module__ == "audit.errors"} == set(STATUS)


@pytest.mark.parametrize(("kind", "status"), [pair for pair in STATUS.items() if pair[0] is not errors.InvalidInput])
def test_problem__of_a_refusal__has_its_status_title_and_words(kind: type[errors.GatehouseError], status: int) -> None:
    response = problem_of(kind("Because of that."))

    assert response.status_code == status
    assert response.data == {
        "type": "about:blank",
        "title": kind.title,
        "status": status,
        "detail": "Because of that.",
        "instance": "/api/v1/models/",
        "request_id": "-",
    }


def test_problem__of_invalid_input__names_the_fields() -> None:
    response = problem_of(errors.InvalidInput({"tier": "unknown", "name": ["too long", "not a slug"]}))

    assert response.status_code == 422
    assert response.data["errors"] == {"tier": ["unknown"], "name": ["too long", "not a slug"]}
    assert response.data["detail"] == "tier: unknown; name: too long not a slug"


@pytest.mark.parametrize(
    ("exception", "status"),
    [
        (Http404(), 404),
        (PermissionDenied(), 403),
        (exceptions.NotAuthenticated(), 401),
        (exceptions.ValidationError({"tier": ["unknown"]}), 400),
        (exceptions.Throttled(wait=3), 429),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_problem__of_the_frameworks_own_refusals__has_the_same_shape(exception: Exception, status: int) -> None:
    response = problem_of(exception)

    assert (response.status_code, response.data["status"]) == (status, status)
    assert {"type", "title", "detail", "instance"} <= set(response.data)


def test_problem__of_a_defect__is_left_to_django() -> None:
    assert exception_handler(KeyError("x"), {"request": APIRequestFactory().get("/")}) is None
