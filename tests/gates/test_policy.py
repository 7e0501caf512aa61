from typing import Any

import pytest

from gates.policy import PolicyError, parse

FLOOR = {"id": "auc-floor", "kind": "metric", "metric": "roc_auc", "at_least": 0.65}


def document(*checks: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"checks": list(checks), **fields}


def refusals(*checks: dict[str, Any], **fields: Any) -> dict[str, str]:
    with pytest.raises(PolicyError) as refused:
        parse(document(*checks, **fields))
    return refused.value.errors


def test_document__with_one_check__has_its_defaults() -> None:
    policy = parse(document(FLOOR))

    assert policy.threshold == 0.5
    assert policy.checks[0].blocking
    assert policy.checks[0].rule() == "roc_auc ≥ 0.65"


def test_document__unknown_setting__is_refused_by_path() -> None:
    assert refusals({**FLOOR, "at_leest": 0.7}) == {"checks.auc-floor.at_leest": "There is no such setting."}


def test_document__unknown_key_at_the_top__is_refused() -> None:
    assert refusals(FLOOR, treshold=0.25) == {"treshold": "There is no such setting."}


def test_document__unknown_kind__is_refused_with_the_kinds_there_are() -> None:
    assert "'versus_champion'" in refusals({"id": "x", "kind": "vibes"})["checks.x"]


def test_document__no_blocking_check__is_refused() -> None:
    assert "stops nothing" in refusals({**FLOOR, "blocking": False})["document"]


def test_document__two_checks_of_one_id__is_refused() -> None:
    assert "auc-floor" in refusals(FLOOR, FLOOR)["document"]


def test_metric__bar_on_the_wrong_side__is_refused() -> None:
    wrong = {"id": "auc", "kind": "metric", "metric": "roc_auc", "at_most": 0.65}

    assert refusals(wrong)["checks.auc"] == "roc_auc is better when it is greater: use at_least."


def test_metric__without_a_bar__is_refused() -> None:
    assert "exactly one" in refusals({"id": "auc", "kind": "metric", "metric": "roc_auc"})["checks.auc"]


@pytest.mark.parametrize("bar", [float("nan"), float("inf"), "high"])
def test_metric__bar_that_is_no_number__is_refused(bar: Any) -> None:
    assert "checks.auc-floor.at_least" in refusals({**FLOOR, "at_least": bar})


def test_fairness__ratio_with_at_most__is_refused() -> None:
    check = {"id": "f", "kind": "fairness", "measure": "demographic_parity_ratio", "by": "origin", "at_most": 0.8}

    assert "at_least" in refusals(check)["checks.f"]


def test_latency__without_a_limit__is_refused() -> None:
    assert "p95_ms" in refusals({"id": "l", "kind": "latency"})["checks.l"]


def test_required_evidence__of_two_ci_checks__names_each_kind_once() -> None:
    checks = [
        {"id": f"ci-{kind}", "kind": "ci_evidence", "require": ["lint", kind]} for kind in ("unit", "integration")
    ]

    assert parse(document(*checks)).required_evidence == ("lint", "unit", "integration")


def test_content_hash__other_order_of_keys__is_the_same() -> None:
    turned = dict(reversed(FLOOR.items()))

    assert parse(document(FLOOR)).content_hash() == parse(document(turned)).content_hash()
    assert parse(document(FLOOR)).content_hash() != parse(document({**FLOOR, "at_least": 0.66})).content_hash()


def test_document__through_json__is_the_same() -> None:
    policy = parse(document(FLOOR, {"id": "dq", "kind": "data_quality", "ignore": ["month"]}))

    assert parse(policy.model_dump(mode="json")) == policy
