"""Where policies start: one template for each tier of stakes, and how a model's own overrides are merged into it.

What only a model's owners can know (the groups to compare, the segments, a bar in the label's unit) is left open in a
template (``open_settings``), so that adopting it unanswered is refused with the path of the missing value. A check that
does not apply is dropped in so many words: ``{"checks": {"fairness": None}}``; at high stakes nothing can be dropped
(``require_tier``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from gates.policy.checks import KIND_CLASSES
from gates.policy.document import PolicyDocument, PolicyError, parse
from gates.policy.text import API_VERSION, written

Json = dict[str, Any]
TierName = Literal["experimental", "standard", "high-stakes"]
TIERS: tuple[TierName, ...] = get_args(TierName)
"""By rising stakes."""
REVISION = 3
"""Counts changes of the templates; stored with each policy made from one."""

_SERVED_AS_TRAINED: Json = {"id": "feature-consistency", "kind": "feature_consistency"}
_LEAKAGE: Json = {"id": "leakage", "kind": "leakage"}
_LIVE_DRIFT: Json = {"id": "live-drift", "kind": "live_drift"}

_EXPERIMENTAL: Json = {
    "evidence_wait_hours": 168,
    "checks": [
        {"id": "auc-floor", "kind": "metric", "metric": "roc_auc", "at_least": 0.55, "minimum_rows": 500},
        {
            "id": "auc-vs-champion",
            "kind": "versus_champion",
            "metric": "roc_auc",
            "not_worse_by": 0.01,
            "blocking": False,
        },
        {
            "id": "fairness",
            "kind": "fairness",
            "at_most": 0.1,
            "use": "lower_bound",
            "confidence": 0.9,
            "blocking": False,
        },
        {"id": "latency", "kind": "latency", "p95_ms": 250, "blocking": False},
        {"id": "robustness", "kind": "robustness", "missing_values": 0.0, "blocking": False},
        {"id": "data-quality", "kind": "data_quality", "blocking": False},
        {"id": "training-data", "kind": "training_data", "minimum_rows": 1000},
        _SERVED_AS_TRAINED,
        _LEAKAGE,
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
        {
            # finds the worst segments by itself; which ones must hold, the owners say by `by`
            "id": "slices",
            "kind": "slice",
            "metric": "roc_auc",
            "not_worse_than_overall_by": 0.05,
            "blocking": False,
        },
        {"id": "fairness", "kind": "fairness", "at_most": 0.1, "use": "lower_bound", "confidence": 0.9},
        {"id": "latency", "kind": "latency", "p95_ms": 100, "ratio_to_champion": 1.2},
        {"id": "robustness", "kind": "robustness", "missing_values": 0.0},
        {"id": "data-quality", "kind": "data_quality"},
        {"id": "training-data", "kind": "training_data", "minimum_rows": 1000},
        _SERVED_AS_TRAINED,
        _LEAKAGE,
        _LIVE_DRIFT,
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
            "id": "calibration",
            "kind": "metric",
            "metric": "ece",
            "at_most": 0.05,
            "use": "upper_bound",
            "minimum_rows": 4000,
            "blocking": False,
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
        {"id": "slices", "kind": "slice", "metric": "roc_auc", "not_worse_than_overall_by": 0.05},
        {
            "id": "fairness",
            "kind": "fairness",
            "at_most": 0.1,
            "use": "upper_bound",
            "minimum_group": 200,
            "small_groups": "inconclusive",
        },
        {
            # the p99 of a thousand calls is known to a tenth; fewer than four hundred give it no upper bound
            "id": "latency",
            "kind": "latency",
            "p50_ms": 20,
            "p95_ms": 50,
            "p99_ms": 100,
            "ratio_to_champion": 1.1,
            "confidence": 0.95,
            "calls": 1000,
            "minimum_calls": 400,
            "budget_seconds": 15,
            "control_tolerance": 0.1,
        },
        {"id": "robustness", "kind": "robustness"},
        {
            "id": "data-quality",
            "kind": "data_quality",
            "null_increase": 0.1,
            "out_of_range": 0.02,
            "unseen": 0.01,
            "minimum_rows": 4000,
        },
        {
            "id": "training-data",
            "kind": "training_data",
            "minimum_rows": 4000,
            "minimum_days": 28,
            "maximum_age_days": 90,
        },
        _SERVED_AS_TRAINED,
        _LEAKAGE,
        _LIVE_DRIFT,
        {
            "id": "ci",
            "kind": "ci_evidence",
            "require": ["lint", "unit", "integration"],
            "maximum_age_days": 14,
            "commit": "exact",
        },
    ],
}

_CLASSIFICATION: Mapping[str, Json] = {
    "experimental": _EXPERIMENTAL,
    "standard": _STANDARD,
    "high-stakes": _HIGH_STAKES,
}
_CLASSIFIERS_ONLY = frozenset(
    {"auc-floor", "auc-vs-champion", "brier-vs-champion", "calibration", "fairness", "slices"}
)

_OPEN: Mapping[tuple[str, str], str] = {
    ("fairness", "by"): "the column of the requests that names the groups to compare",
    ("slices", "by"): "the columns whose segments must hold, such as [region, channel]",
    ("slices", "not_worse_than_overall_by"): "in the label's unit",
    ("error-ceiling", "at_most"): "the largest mean absolute error, in the label's unit",
    ("error-vs-champion", "not_worse_by"): "how much larger the error may be, in the label's unit",
}
"""What is left open where a template does not say it, by check and setting: what the owners have to say."""


def template(tier: str, *, task: str = "binary_classification") -> Json:
    """The template of a tier for a task, possibly with values left open. Raises PolicyError for an unknown tier."""
    if tier not in _CLASSIFICATION:
        raise PolicyError({"template": f"There is no template {tier!r}; there are {', '.join(_CLASSIFICATION)}."})
    chosen = _CLASSIFICATION[tier]
    checks = chosen["checks"] if task == "binary_classification" else [*_of_errors(tier), *_of_any_task(chosen)]
    return {**chosen, "template": f"{tier}@{REVISION}", "checks": [{**check} for check in checks]}


def _of_errors(tier: str) -> list[Json]:
    """Of a regression. The bars are in the label's unit: only the model's owners can name them."""
    strict = tier != "experimental"
    errors: list[Json] = [
        {"id": "error-ceiling", "kind": "metric", "metric": "mae", "use": "upper_bound" if strict else "point"},
        {"id": "error-vs-champion", "kind": "versus_champion", "metric": "mae", "blocking": strict},
    ]
    return [*errors, {"id": "slices", "kind": "slice", "metric": "mae"}] if tier == "high-stakes" else errors


def _of_any_task(chosen: Json) -> list[Json]:
    return [check for check in chosen["checks"] if check["id"] not in _CLASSIFIERS_ONLY]


def open_settings(tier: str, *, task: str = "binary_classification") -> dict[tuple[str, str], str]:
    """What the owners have to add to a template: check and setting, and what is asked."""
    checks = {check["id"]: check for check in template(tier, task=task)["checks"]}
    return {
        (check, setting): asked
        for (check, setting), asked in _OPEN.items()
        # a slice check that only reports looks for segments by itself
        if check in checks
        and setting not in checks[check]
        and (check != "slices" or checks[check].get("blocking", True))
    }


def as_yaml(tier: str, *, task: str = "binary_classification") -> str:
    """The template as a text to be edited; what is open is empty there, with what is asked beside it."""
    chosen = template(tier, task=task)
    asked = open_settings(tier, task=task)
    checks = []
    for check in chosen["checks"]:
        first = {name: check[name] for name in ("id", "kind")}
        checks.append({**first, **{setting: None for of, setting in asked if of == check["id"]}, **check})
    head = {
        "apiVersion": API_VERSION,
        "template": chosen["template"],
        "threshold": PolicyDocument.model_fields["threshold"].default,
        "evidence_wait_hours": chosen["evidence_wait_hours"],
    }
    dropping = "no check is taken out" if tier == "high-stakes" else "a check that does not apply is taken out"
    comments = [f"The template {chosen['template']}. Fill in what is empty; {dropping}."]
    return written(head, checks, comments=comments, asked=asked)


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

    It may not come from the template of lower stakes; at high stakes every kind of check of the template must be there,
    and those that block in it must block.
    """
    came_from = document.template.partition("@")[0]
    if came_from in TIERS and TIERS.index(came_from) < TIERS.index(_known(tier)):
        raise PolicyError({"template": f"The model's tier is {tier}; {came_from} is for lower stakes."})
    if tier != "high-stakes":
        return
    demanded = template(tier, task=task)["checks"]
    there, blocking = {check.kind for check in document.checks}, {check.kind for check in document.blocking}
    missing = {check["kind"] for check in demanded} - there
    missing |= {check["kind"] for check in demanded if _blocks(check)} - blocking
    if missing:
        names = ", ".join(sorted(missing))
        raise PolicyError(
            {"checks": f"At high stakes these kinds of checks can not be dropped or only reported: {names}."}
        )


def _known(tier: str) -> TierName:
    for each in TIERS:
        if each == tier:
            return each
    raise PolicyError({"template": f"There is no tier {tier!r}; there are {', '.join(TIERS)}."})


def _blocks(check: Json) -> bool:
    """Whether a check of a template blocks: what it says, else its kind's default."""
    return bool(check.get("blocking", KIND_CLASSES[check["kind"]].model_fields["blocking"].default))


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
