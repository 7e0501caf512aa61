"""What the product wants of an endpoint beside the model's own metrics: defined and retired by the product duty."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError as FieldError
from django.db import transaction

from audit.errors import AlreadyExists, Conflict, InvalidInput
from audit.trail import Actor, record
from registry.duties import require
from registry.models import Duty
from rollout.models import BusinessMetric, Endpoint

LONGEST_WINDOW = timedelta(days=400)
RESERVED = frozenset(
    (
        "agreement",
        "auc",
        "distribution",
        "errors",
        "kept-promise",
        "label",
        "latency",
        "loss",
        "predictions",
        "split",
    )
)
"""Names of what every look measures by itself: a look would say two things under one of them."""

DEFINITION = (
    "title",
    "unit",
    "per",
    "better",
    "window",
    "missing",
    "is_heavy_tailed",
    "harm_from",
    "tolerated_harm",
    "guards",
)
"""What a metric means and what is asked of it. A change of any of these is another row."""


def define_business_metric(
    endpoint: Endpoint,
    *,
    name: str,
    title: str,
    per: str,
    better: str,
    window: timedelta,
    missing: str,
    tolerated_harm: float,
    actor: Actor,
    now: datetime,
    harm_from: float = 0.0,
    unit: str = "",
    is_heavy_tailed: bool = False,
    guards: bool = True,
    reason: str = "",
) -> BusinessMetric:
    """Measure this for every canary of the endpoint that begins from now on.

    ``tolerated_harm`` and ``harm_from`` are in the metric's unit, per prediction or entity. One of the same name that
    is in force is retired and replaced; canaries that run keep to the one that they began with
    (``business.metrics_of``). Raises InvalidInput naming the field, AlreadyExists when it is defined exactly so.
    """
    require(actor, endpoint.registered_model, Duty.PRODUCT)
    metric = BusinessMetric(
        endpoint=endpoint,
        name=name,
        title=title,
        unit=unit,
        per=per,
        better=better,
        window=window,
        missing=missing,
        is_heavy_tailed=is_heavy_tailed,
        harm_from=harm_from,
        tolerated_harm=tolerated_harm,
        guards=guards,
        created_at=now,
    )
    _check(metric)
    with transaction.atomic():
        Endpoint.objects.select_for_update().get(pk=endpoint.pk)  # two definitions of one name, one after the other
        before = BusinessMetric.objects.filter(endpoint=endpoint, name=name, retired_at=None).first()
        if before is not None:
            if definition_of(before) == definition_of(metric):
                raise AlreadyExists(f"{before} is defined exactly so already.")
            BusinessMetric.objects.filter(pk=before.pk).update(retired_at=now)
        metric.save(force_insert=True)
        data = {"definition": definition_of(metric), "replaces": definition_of(before) if before else None}
        record("business_metric.defined", metric, actor=actor, reason=reason, data=data)
    return metric


def retire_business_metric(metric: BusinessMetric, *, reason: str, actor: Actor, now: datetime) -> None:
    """Measure it no more for canaries that begin from now on; those that run keep to what they began with."""
    require(actor, metric.endpoint.registered_model, Duty.PRODUCT)
    if not reason.strip():
        raise InvalidInput({"reason": "Say why: this is the record of the decision."})
    with transaction.atomic():
        if not BusinessMetric.objects.filter(pk=metric.pk, retired_at=None).update(retired_at=now):
            raise Conflict(f"{metric} is retired already.")
        metric.retired_at = now
        data = {"definition": definition_of(metric)}
        record("business_metric.retired", metric, actor=actor, reason=reason, data=data)


def definition_of(metric: BusinessMetric) -> dict[str, Any]:
    """The definition as an event and an answer tell it; the window in seconds."""
    told = {field: getattr(metric, field) for field in DEFINITION}
    for choice in ("per", "better", "missing"):
        told[choice] = str(told[choice])
    return {**told, "name": metric.name, "window": metric.window.total_seconds()}


def _check(metric: BusinessMetric) -> None:
    """Raise InvalidInput that names every field that can not be accepted."""
    wrong: dict[str, Any] = {}
    try:
        metric.clean_fields(exclude=["endpoint", "created_at", "harm_from", "tolerated_harm", "window"])
    except FieldError as problem:
        wrong |= problem.message_dict
    if metric.name in RESERVED:
        wrong["name"] = f"Every look measures {metric.name} by itself: call this something else."
    if not timedelta(0) < metric.window <= LONGEST_WINDOW:
        wrong["window"] = f"Longer than nothing, and at most {LONGEST_WINDOW.days} days: how long is it counted?"
    for field in ("harm_from", "tolerated_harm"):
        if not math.isfinite(getattr(metric, field)):
            wrong[field] = "A finite number is needed."
    if not wrong.keys() & {"harm_from", "tolerated_harm"}:
        wrong |= _wrong_sizes(metric)
    if wrong:
        raise InvalidInput(wrong)


def _wrong_sizes(metric: BusinessMetric) -> dict[str, str]:
    wrong: dict[str, str] = {}
    if metric.harm_from < 0:
        wrong["harm_from"] = "Not below 0: sizes of harm count in the bad direction, whichever that is."
    if metric.tolerated_harm <= 0:
        wrong["tolerated_harm"] = "Above 0: that nothing at all is worse can never be proven."
    elif metric.tolerated_harm < metric.harm_from:
        wrong["tolerated_harm"] = "Not below harm_from: what is rolled back can not be tolerated."
    return wrong
