"""Where policies start: one template for each tier of stakes, and how a model's own overrides are merged into it.

What only a model's owners can know (the groups to compare, a bar in the label's unit) is left open in a template, so
that adopting it unanswered is refused with the path of the missing value. A check that does not apply is dropped in so
many words: ``{"checks": {"fairness": None}}``; at high stakes nothing can be dropped (``require_tier``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from gates.policy import PolicyDocument, PolicyError, parse

Json = dict[str, Any]
TierName = Literal["experimental", "standard", "high-stakes"]
REVISION = 2
"""Counts changes of the templates; stored with each policy made from one."""

_TRAINED_APART: Json = {"id": "training-data", "kind": "training_data", "minimum_rows": 1000}

_SERVED_AS_TRAINED: Json = {"id": "feature-consistency", "kind": "feature_consistency"}

_EXPERIMENTAL: Json = {
    "evidence_wait_hours": 168,
    "checks": [
        {
            "id": "auc-floor",
            "kind": "metric",
            "metric": "roc_auc",
            "at_least": 0.55,
            "use": "point",
            "minimum_rows": 500,
        },
        {
            "id": "auc-vs-champion",
            "kind": "versus_champion",
            "metric": "roc_auc",
            "not_worse_by": 0.01,
            "blocking": False,
        },
        {"id": "latency", "kind": "latency", "p95_ms": 250, "blocking": False},
        {"id": "data-quality", "kind": "data_quality", "blocking": False},
        _TRAINED_APART,
        _SERVED_AS_TRAINED,
        {"id": "ci", "kind": "ci_evidence", "require": ["lint", "unit"]},
    ],
}

_STANDARD: Json = {
    "evidence_wait_hours": 72,
    "checks": [
        {
            "id": "auc-floor",
            "kind": "metric",
            "metric": "roc_auc",
            "at_least": 0.65,
            "use": "lower_bound",
            "confidence": 0.9,
        },
        {
            "id": "auc-vs-champion",
            "kind": "versus_champion",
            "metric": "roc_auc",
            "not_worse_by": 0.01,
            "confidence": 0.9,
        },
        {
            "id": "brier-vs-champion",
            "kind": "versus_champion",
            "metric": "brier",
            "not_worse_by": 0.005,
            "confidence": 0.9,
            "blocking": False,
        },
        {"id": "fairness", "kind": "fairness", "at_most": 0.1, "use": "lower_bound", "confidence": 0.9},
        {"id": "latency", "kind": "latency", "p95_ms": 100},
        {"id": "data-quality", "kind": "data_quality"},
        _TRAINED_APART,
        _SERVED_AS_TRAINED,
        {"id": "ci", "kind": "ci_evidence", "require": ["lint", "unit", "integration"]},
    ],
}

_HIGH_STAKES: Json = {
    "evidence_wait_hours": 72,
    "checks": [
        {
            "id": "auc-floor",
            "kind": "metric",
            "metric": "roc_auc",
            "at_least": 0.7,
            "use": "lower_bound",
            "minimum_rows": 4000,
        },
        {
            "id": "auc-vs-champion",
            "kind": "versus_champion",
            "metric": "roc_auc",
            "not_worse_by": 0.005,
            "minimum_rows": 4000,
        },
        {
            "id": "brier-vs-champion",
            "kind": "versus_champion",
            "metric": "brier",
            "not_worse_by": 0.002,
            "minimum_rows": 4000,
        },
        {"id": "fairness", "kind": "fairness", "at_most": 0.1, "use": "upper_bound"},
        {"id": "latency", "kind": "latency", "p50_ms": 20, "p95_ms": 50, "confidence": 0.95, "drift_tolerance": 0.25},
        {
            "id": "data-quality",
            "kind": "data_quality",
            "null_increase": 0.1,
            "out_of_range": 0.02,
            "unseen": 0.01,
            "minimum_rows": 4000,
        },
        {**_TRAINED_APART, "minimum_rows": 4000, "maximum_age_days": 90},
        _SERVED_AS_TRAINED,
        {
            "id": "ci",
            "kind": "ci_evidence",
            "require": ["lint", "unit", "integration"],
            "maximum_age_days": 14,
        },
    ],
}

_CLASSIFICATION: Mapping[str, Json] = {
    "experimental": _EXPERIMENTAL,
    "standard": _STANDARD,
    "high-stakes": _HIGH_STAKES,
}
_CLASSIFIERS_ONLY = frozenset({"auc-floor", "auc-vs-champion", "brier-vs-champion", "fairness"})


def template(tier: str, *, task: str = "binary_classification") -> Json:
    """The template of a tier for a task, possibly with values left open. Raises PolicyError for an unknown tier."""
    if tier not in _CLASSIFICATION:
        raise PolicyError({"template": f"There is no template {tier!r}; there are {', '.join(_CLASSIFICATION)}."})
    chosen = _CLASSIFICATION[tier]
    name = f"{tier}@{REVISION}"
    if task == "binary_classification":
        return {**chosen, "template": name, "checks": [{**check} for check in chosen["checks"]]}
    strict = tier != "experimental"
    errors: list[Json] = [
        # the bars are in the label's unit: only the model's owner can name them
        {"id": "error-ceiling", "kind": "metric", "metric": "mae", "use": "upper_bound" if strict else "point"},
        {"id": "error-vs-champion", "kind": "versus_champion", "metric": "mae", "blocking": strict},
    ]
    others = [{**check} for check in chosen["checks"] if check["id"] not in _CLASSIFIERS_ONLY]
    return {**chosen, "template": name, "checks": [*errors, *others]}


def from_template(
    tier: str, *, task: str = "binary_classification", overrides: Mapping[str, Any] | None = None
) -> PolicyDocument:
    """The tier's template with a model's overrides, validated. Raises PolicyError naming the path of each wrong value.

    ``overrides`` has the document's own keys; its ``checks`` is a mapping by check id: settings to change, a whole new
    check (with its ``kind``), or None to drop the check.
    """
    base = template(tier, task=task)
    changes = dict(overrides or {})
    checks = changes.pop("checks", {})
    if not isinstance(checks, Mapping):
        raise PolicyError({"checks": "Overrides of checks are a mapping from check id to settings."})
    if "template" in changes:
        raise PolicyError({"template": "The template is chosen, not overridden."})
    return parse({**base, **changes, "checks": _merged(base["checks"], checks, tier)})


def require_tier(document: PolicyDocument, *, tier: str, task: str = "binary_classification") -> None:
    """Raise PolicyError when a document asks less than the tier's stakes demand.

    It may not come from the template of lower stakes; at high stakes every kind of check must be there and blocking.
    """
    tiers = list(_CLASSIFICATION)
    came_from = document.template.partition("@")[0]
    if came_from in tiers and tiers.index(came_from) < tiers.index(tier):
        raise PolicyError({"template": f"The model's tier is {tier}; {came_from} is for lower stakes."})
    if tier != "high-stakes":
        return
    blocking = {check.kind for check in document.blocking}
    missing = {check["kind"] for check in template(tier, task=task)["checks"]} - blocking
    if missing:
        names = ", ".join(sorted(missing))
        raise PolicyError(
            {"checks": f"At high stakes these kinds of checks can not be dropped or only reported: {names}."}
        )


def _merged(base: list[Json], overrides: Mapping[str, Any], tier: str) -> list[Json]:
    merged = {check["id"]: check for check in base}
    for check_id, settings in overrides.items():
        path = f"checks.{check_id}"
        if settings is None:
            if merged.pop(check_id, None) is None:
                raise PolicyError({path: f"The template {tier} has no such check; it has {', '.join(merged)}."})
        elif not isinstance(settings, Mapping):
            raise PolicyError({path: "Settings are a mapping, or null to drop the check."})
        elif settings.get("id", check_id) != check_id:
            raise PolicyError({f"{path}.id": "A check keeps its id."})
        elif check_id in merged:
            merged[check_id] = _changed(merged[check_id], settings, path)
        elif "kind" in settings:
            merged[check_id] = {**settings, "id": check_id}
        else:
            known = ", ".join(merged)
            raise PolicyError({path: f"The template {tier} has no such check; it has {known}. A new one needs a kind."})
    return list(merged.values())


def _changed(check: Json, settings: Mapping[str, Any], path: str) -> Json:
    if settings.get("kind", check["kind"]) != check["kind"]:
        raise PolicyError({f"{path}.kind": f"This check is a {check['kind']} check; give the other one its own id."})
    # a bar that changes sides replaces the template's bar instead of standing beside it
    turned = {"at_least": "at_most", "at_most": "at_least"}
    dropped = {turned[side] for side in turned if settings.get(side) is not None}
    kept = {name: value for name, value in check.items() if name not in dropped}
    return {**kept, **settings}
