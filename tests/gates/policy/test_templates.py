from typing import Any

import pytest

from gates.policy import CiEvidenceCheck, FairnessCheck, LatencyCheck, MetricCheck, PolicyDocument, PolicyError, parse
from gates.policy.checks import KIND_CLASSES
from gates.policy.templates import as_yaml, from_template, open_settings, require_tier, template
from gates.policy.text import PolicyTextError, load

BY_ORIGIN = {"fairness": {"by": "origin"}}
ANSWERED: dict[str, dict[str, Any]] = {
    "experimental": BY_ORIGIN,
    "standard": BY_ORIGIN,
    "high-stakes": {**BY_ORIGIN, "slices": {"by": ["carrier", "origin"]}},
}
TIERS = list(ANSWERED)


def answered(tier: str, **checks: Any) -> PolicyDocument:
    return from_template(tier, overrides={"checks": {**ANSWERED[tier], **checks}})


def refusals(tier: str, overrides: dict[str, Any], **fields: Any) -> dict[str, str]:
    with pytest.raises(PolicyError) as refused:
        from_template(tier, overrides=overrides, **fields)
    return refused.value.errors


@pytest.mark.parametrize("tier", TIERS)
def test_template__with_its_open_values_given__is_a_policy(tier: str) -> None:
    policy = answered(tier)

    assert policy.template == f"{tier}@3"
    require_tier(policy, tier=tier)


def test_template__open_value_not_given__is_refused_by_path() -> None:
    assert refusals("standard", {}) == {"checks.fairness.by": "This has to be given."}
    assert set(refusals("high-stakes", {})) == {"checks.fairness.by", "checks.slices.by"}


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("task", ["binary_classification", "regression"])
def test_open_settings__of_each_template__are_what_is_refused_without_them(tier: str, task: str) -> None:
    asked = {f"checks.{check}.{setting}" for check, setting in open_settings(tier, task=task)}

    refused = set(refusals(tier, {}, task=task))
    # whether a check's settings fit each other is looked at when all are there
    assert refused == asked or (refused < asked and asked - refused == {"checks.slices.by"})


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("task", ["binary_classification", "regression"])
def test_as_yaml__unanswered__is_refused_where_it_is_empty(tier: str, task: str) -> None:
    text = as_yaml(tier, task=task)

    with pytest.raises(PolicyTextError) as refused:
        load(text)
    lines = text.splitlines()
    empty = [number for number, line in enumerate(lines, start=1) if ":  # " in line]
    assert [problem.line for problem in refused.value.problems] == empty
    assert len(empty) == len(open_settings(tier, task=task))


def test_as_yaml__answered__is_the_template() -> None:
    text = as_yaml("high-stakes").replace("by:  # the columns", "by: [carrier, origin]  # the columns")

    assert load(text.replace("by:  #", "by: origin  #")) == answered("high-stakes")


def test_experimental__blocks_on_little() -> None:
    blocking = [check.id for check in answered("experimental").blocking]

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


def test_overrides__of_the_slices_at_standard_stakes__let_them_block() -> None:
    policy = answered("standard", slices={"by": ["carrier"], "blocking": True})

    assert "slice" in {check.kind for check in policy.blocking}


@pytest.mark.parametrize("tier", TIERS)
def test_template__of_every_tier__looks_for_leaks_and_only_reports_them(tier: str) -> None:
    leakage = next(check for check in answered(tier).checks if check.kind == "leakage")

    assert not leakage.blocking


def test_high_stakes__asks_for_everything_that_can_be_asked_without_the_owners() -> None:
    policy = answered("high-stakes")
    kinds = {check.kind for check in policy.checks}

    assert kinds == set(KIND_CLASSES) - {"custom"}
    assert {check.kind for check in policy.checks if not check.blocking} == {"metric", "leakage", "live_drift"}
    ci = next(check for check in policy.checks if isinstance(check, CiEvidenceCheck))
    assert (ci.require, ci.commit) == (("lint", "unit", "integration"), "exact")
    latency = next(check for check in policy.checks if isinstance(check, LatencyCheck))
    assert (set(latency.limits), latency.ratio_to_champion) == ({"p50", "p95", "p99"}, 1.1)


@pytest.mark.parametrize("tier", TIERS)
def test_template__of_every_tier__stops_candidates_of_inconsistent_features(tier: str) -> None:
    policy = answered(tier)

    assert "feature_consistency" in [check.kind for check in policy.blocking]


@pytest.mark.parametrize("kind", sorted({check["kind"] for check in template("high-stakes")["checks"]}))
def test_high_stakes__any_kind_dropped__is_refused(kind: str) -> None:
    ids = [check["id"] for check in template("high-stakes")["checks"] if check["kind"] == kind]
    policy = answered("high-stakes", **dict.fromkeys(ids))

    with pytest.raises(PolicyError, match=kind):
        require_tier(policy, tier="high-stakes")


@pytest.mark.parametrize("kind", sorted(set(KIND_CLASSES) - {"custom", "leakage", "live_drift"}))
def test_high_stakes__any_blocking_kind_only_reported__is_refused(kind: str) -> None:
    ids = [check["id"] for check in template("high-stakes")["checks"] if check["kind"] == kind]
    weakened = {check: {**ANSWERED["high-stakes"].get(check, {}), "blocking": False} for check in ids}

    with pytest.raises(PolicyError, match=kind):
        require_tier(answered("high-stakes", **weakened), tier="high-stakes")


def test_require_tier__template_of_lower_stakes__is_refused() -> None:
    with pytest.raises(PolicyError, match="lower stakes"):
        require_tier(answered("experimental"), tier="standard")


def test_require_tier__own_document_at_high_stakes__needs_every_kind() -> None:
    only_auc = parse({"checks": [{"id": "auc", "kind": "metric", "metric": "roc_auc", "at_least": 0.9}]})

    with pytest.raises(PolicyError, match="ci_evidence"):
        require_tier(only_auc, tier="high-stakes")


def test_regression__bars_in_the_labels_unit__have_to_be_given() -> None:
    assert set(refusals("standard", {}, task="regression")) == {
        "checks.error-ceiling.at_most",
        "checks.error-vs-champion.not_worse_by",
    }
