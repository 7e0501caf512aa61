"""The portal's page of a prediction: find it by its request id, see what was asked and answered, replay it."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import Any

from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.utils.http import urlencode
from django.views.decorators.http import require_POST

from audit import clock
from audit.errors import NotFound
from mlops import predictions, replay
from mlops.predictions import Prediction
from registry.models import RegisteredModel
from rollout.models import Endpoint

TONES = {replay.REPRODUCED: "good", replay.NOT_REPRODUCIBLE: "warn"}


def _user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # login_required stands before every view
    return request.user


def _endpoints(request: HttpRequest) -> QuerySet[Endpoint]:
    visible = RegisteredModel.objects.visible_to(_user(request))
    return Endpoint.objects.filter(registered_model__in=visible).order_by("name")


@login_required
def prediction_page(request: HttpRequest) -> HttpResponse:
    """What was asked under this id, who answered, on which inputs, and was it right?"""
    return render(request, "portal/prediction.html", _found(request))


@login_required
@require_POST
def replay_page(request: HttpRequest) -> HttpResponse:
    """The same page with the verdict: recompute the features, ask the version again.

    What is replayed is in the address: a form would send a line break in a request id as two characters.
    """
    context = _found(request)
    prediction: Prediction | None = context.get("prediction")
    if prediction is not None:
        verdict = replay.of(prediction)
        context |= {
            "replay": verdict,
            "causes": [(cause.replace("_", " "), TONES.get(cause, "bad")) for cause in verdict.causes],
            "inputs": verdict.inputs or context["inputs"],
            "is_compared": any(each.is_checked for each in verdict.inputs),
        }
    return render(request, "portal/prediction.html", context)


def _found(request: HttpRequest) -> dict[str, Any]:
    """The form as it was filled in, and what it finds."""
    endpoint, request_id, day = (request.GET.get(name, "") for name in ("endpoint", "request_id", "day"))
    context: dict[str, Any] = {
        "title": "Find a prediction",
        "endpoints": _endpoints(request),
        "endpoint": endpoint,
        "request_id": request_id,
        "day": day,
        "now": clock.now(),
    }
    if not endpoint or not request_id:
        return context
    try:
        found = predictions.find(endpoint, request_id, reader=_user(request), now=clock.now(), at=_moment(day))
    except NotFound as problem:
        return {**context, "problem": str(problem)}
    row = found.row
    return {
        **context,
        "title": "Prediction",
        "prediction": found,
        "row": row,
        "failed": row["error"],
        "model": found.endpoint.registered_model,
        "again": urlencode({"endpoint": endpoint, "request_id": request_id, "day": f"{found.at:%Y-%m-%d}"}),
        "inputs": _inputs(found),
        "acts": None if found.score is None else found.score >= found.endpoint.threshold,
    }


def _inputs(prediction: Prediction) -> list[replay.FeatureSkew]:
    """What was served, before anything is recomputed."""
    inputs = prediction.inputs()
    values = inputs.to_pylist()[0] if inputs is not None else {}
    return [replay.FeatureSkew(name, "", value) for name, value in values.items()]


def _moment(day: str) -> datetime | None:
    """A moment of the day that the form names; None for no day (all are looked through)."""
    try:
        return datetime.combine(date.fromisoformat(day), time(12), UTC) if day else None
    except ValueError:
        return None


urlpatterns = [
    path("predictions/", prediction_page, name="prediction"),
    path("predictions/replay/", replay_page, name="prediction-replay"),
]
