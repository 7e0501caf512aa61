from typing import Any

import pytest

from gates.policy import FairnessCheck, LatencyCheck, MetricCheck, PolicyError, parse
from gates.templates import from_template, require_tier

BY_ORIGIN = {"fairness": {"by": "origin"}}


def refusals(tier: str, overrides: dict[str, Any], **fields: Any) -> dict[str, str]:
    with pytest.raises(PolicyError) as refused:
        from_template(tier, overrides=overrides, **fields)
    return refused.value.errors


@pytest.mark.parametrize("tier", ["experimental", "standard", "high-stakes"])
def test_template__with_its_open_values_given__is_a_policy(tier: str) -> None:
    policy = from_template(tier, overrides={} if tier == "experimental" else {"checks": BY_ORIGIN})

    assert policy.template == f"{tier}@2"
    require_tier(policy, tier=tier)


def test_template__open_value_not_given__is_refused_by_path() -> None:
    assert refusals("standard", {}) == {"checks.fairness.by": "This has to be given."}


def test_experimental__blocks_on_little() -> None:
    blocking = [check.id for check in from_template("experimental").blocking]

    assert blocking == ["auc-floor", "training-data", "feature-consistency", "ci"]


def test_overrides__of_some_settings__keep_the_others() -> None:
    policy = from_template(
        "standard",
        overrides={
            "threshold": 0.25,
            "checks": {**BY_ORIGIN, "auc-floor": {"at_least": 0.6}, "latency": {"p95_ms": 50}},
        },
    )
    checks = {check.id: check for check in policy.checks}
    floor, latency, fairness = checks["auc-floor"], checks["latency"], checks["fairness"]

    assert policy.threshold == 0.25
    assert isinstance(floor, MetricCheck)
    assert (floor.at_least, floor.use) == (0.6, "lower_bound")
    assert isinstance(latency, LatencyCheck)
    assert latency.p95_ms == 50
    assert isinstance(fairness, FairnessCheck)
    assert (fairness.by, fairness.at_most) == ("origin", 0.1)


def test_overrides__bar_on_the_other_side__replaces_the_templates() -> None:
    ratio = {"by": "origin", "measure": "demographic_parity_ratio", "at_least": 0.8}
    policy = from_template("standard", overrides={"checks": {"fairness": ratio}})
    fairness = next(check for check in policy.checks if check.id == "fairness")

    assert fairness.rule() == "demographic_parity_ratio by origin ≥ 0.8 (lower bound, 90%)"


def test_overrides__unknown_setting__is_refused_by_path() -> None:
    errors = refusals("standard", {"checks": {"fairness": {"by": "origin", "maximum": 0.1}}})

    assert errors == {"checks.fairness.maximum": "There is no such setting."}


def test_overrides__unknown_check_without_kind__is_refused_with_the_ids_there_are() -> None:
    assert "auc-floor" in refusals("standard", {"checks": {"auc-flor": {"at_least": 0.6}}})["checks.auc-flor"]


def test_overrides__new_check_with_kind__is_added() -> None:
    new = {"kind": "metric", "metric": "brier", "at_most": 0.2}
    policy = from_template("standard", overrides={"checks": {**BY_ORIGIN, "brier-ceiling": new}})

    assert "brier-ceiling" in [check.id for check in policy.checks]


def test_overrides__none__drops_the_check_at_standard_stakes() -> None:
    policy = from_template("standard", overrides={"checks": {"fairness": None}})

    assert "fairness" not in [check.id for check in policy.checks]


def test_overrides__changing_a_kind__is_refused() -> None:
    assert "checks.latency.kind" in refusals("standard", {"checks": {**BY_ORIGIN, "latency": {"kind": "metric"}}})


def test_unknown_template__is_refused() -> None:
    assert "high-stakes" in refusals("strict", {})["template"]


@pytest.mark.parametrize("tier", ["experimental", "standard", "high-stakes"])
def test_template__of_every_tier__stops_candidates_of_inconsistent_features(tier: str) -> None:
    policy = from_template(tier, overrides={} if tier == "experimental" else {"checks": BY_ORIGIN})

    assert "feature_consistency" in [check.kind for check in policy.blocking]


@pytest.mark.parametrize("weakened", [{"fairness": None}, {"fairness": {"by": "origin", "blocking": False}}])
def test_high_stakes__dropped_or_report_only_check__is_refused(weakened: dict[str, Any]) -> None:
    policy = from_template("high-stakes", overrides={"checks": weakened})

    with pytest.raises(PolicyError, match="fairness"):
        require_tier(policy, tier="high-stakes")


def test_require_tier__template_of_lower_stakes__is_refused() -> None:
    with pytest.raises(PolicyError, match="lower stakes"):
        require_tier(from_template("experimental"), tier="standard")


def test_require_tier__own_document_at_high_stakes__needs_every_kind() -> None:
    only_auc = parse({"checks": [{"id": "auc", "kind": "metric", "metric": "roc_auc", "at_least": 0.9}]})

    with pytest.raises(PolicyError, match="ci_evidence"):
        require_tier(only_auc, tier="high-stakes")


def test_regression__bars_in_the_labels_unit__have_to_be_given() -> None:
    assert set(refusals("standard", {}, task="regression")) == {
        "checks.error-ceiling",
        "checks.error-vs-champion.not_worse_by",
    }
