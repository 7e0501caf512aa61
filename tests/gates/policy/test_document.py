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
    said = "There is no such setting; did you mean at_least?"

    assert refusals({**FLOOR, "at_leest": 0.7}) == {"checks.auc-floor.at_leest": said}


def test_document__unknown_key_at_the_top__is_refused() -> None:
    assert refusals(FLOOR, treshold=0.25) == {"treshold": "There is no such setting; did you mean threshold?"}


@pytest.mark.parametrize("word", ["rule", "warn", "min_rows"])
def test_document__word_of_other_gates__is_refused_with_the_one_to_use(word: str) -> None:
    assert refusals({**FLOOR, word: 1})[f"checks.auc-floor.{word}"].startswith("There is no such setting: ")


def test_document__unknown_kind__is_refused_with_the_kinds_there_are() -> None:
    assert "'versus_champion'" in refusals({"id": "x", "kind": "vibes"})["checks.x.kind"]
    assert "'versus_champion'" in refusals({"id": "x", "kind": ["metric"]})["checks.x.kind"]
    assert "needs a kind" in refusals({"id": "x"})["checks.x"]


def test_document__no_blocking_check__is_refused() -> None:
    assert "stops nothing" in refusals({**FLOOR, "blocking": False})["checks"]


def test_document__two_checks_of_one_id__is_refused_at_the_second() -> None:
    other = {**FLOOR, "id": "another"}

    assert refusals(FLOOR, other, FLOOR) == {
        "checks.auc-floor.id": "check ids must be unique; auc-floor is there twice."
    }


def test_document__more_checks_than_anybody_needs__is_refused() -> None:
    assert "100" in refusals(*({**FLOOR, "id": f"auc-{number}"} for number in range(101)))["checks"]


@pytest.mark.parametrize("checks", [3, None, "auc", {"auc": {}}, [3], [None], [[]]])
def test_document__checks_of_another_shape__is_refused(checks: Any) -> None:
    with pytest.raises(PolicyError):
        parse({"checks": checks})


@pytest.mark.parametrize("column", ["", "a\0b", "a\nb", "x" * 201, None, 3])
def test_document__column_that_can_not_be_one__is_refused(column: Any) -> None:
    check = {"id": "f", "kind": "fairness", "by": column, "at_most": 0.1}

    assert set(refusals(check)) == {"checks.f.by"}


def test_metric__bar_on_the_wrong_side__is_refused() -> None:
    wrong = {"id": "auc", "kind": "metric", "metric": "roc_auc", "at_most": 0.65}

    assert refusals(wrong)["checks.auc.at_most"] == "roc_auc is better when it is greater: use at_least."


def test_metric__without_a_bar__is_refused() -> None:
    assert "exactly one" in refusals({"id": "auc", "kind": "metric", "metric": "roc_auc"})["checks.auc.at_least"]
    assert "exactly one" in refusals({"id": "mae", "kind": "metric", "metric": "mae"})["checks.mae.at_most"]


@pytest.mark.parametrize("bar", [float("nan"), float("inf"), "high"])
def test_metric__bar_that_is_no_number__is_refused(bar: Any) -> None:
    assert "checks.auc-floor.at_least" in refusals({**FLOOR, "at_least": bar})


def test_fairness__ratio_with_at_most__is_refused() -> None:
    check = {"id": "f", "kind": "fairness", "measure": "demographic_parity_ratio", "by": "origin", "at_most": 0.8}

    assert "at_least" in refusals(check)["checks.f.at_most"]


def test_slice__blocking_without_columns__is_refused() -> None:
    check = {"id": "s", "kind": "slice", "metric": "roc_auc", "not_worse_than_overall_by": 0.1}

    assert set(refusals(check)) == {"checks.s.by"}
    assert parse(document(FLOOR, {**check, "blocking": False})).checks[1].blocking is False


def test_ci__coverage_bar_without_coverage__is_refused() -> None:
    check = {"id": "ci", "kind": "ci_evidence", "require": ["unit"], "minimum_coverage": 0.8}

    assert "needs coverage" in refusals(check)["checks.ci.minimum_coverage"]


def test_columns__range_upside_down__is_refused_at_the_column() -> None:
    check = {"id": "dq", "kind": "data_quality", "columns": {"delay": {"minimum": 3, "maximum": 2}, "x": {}}}

    assert set(refusals(check)) == {"checks.dq.columns.delay.minimum", "checks.dq.columns.x"}


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


@pytest.mark.parametrize(
    ("asked", "needed"),
    [
        ({"p95_ms": 50, "calls": 51}, "52"),
        ({"p95_ms": 50, "calls": 72, "confidence": 0.95}, "73"),
        ({"batch_p95_ms": 50, "calls": 51}, "52"),
        ({"p99_ms": 50}, "268"),
        ({"p50_ms": 5, "p99_ms": 50, "calls": 380, "confidence": 0.95}, "381"),
    ],
)
def test_latency__calls_that_can_never_prove_a_limit__are_refused(asked: dict[str, Any], needed: str) -> None:
    latency = {"id": "speed", "kind": "latency", **asked}
    with pytest.raises(PolicyError) as refused:
        parse({"checks": [latency]})

    message = refused.value.errors["checks.speed.calls"]
    assert f"calls can never prove {list(asked)['p50_ms' in asked]} at a confidence of" in message
    assert message.endswith(f"it takes {needed}.")
    assert parse({"checks": [{**latency, "calls": int(needed)}]}).checks


def test_latency__fewer_calls_than_its_own_minimum__are_refused() -> None:
    latency = {"id": "speed", "kind": "latency", "p50_ms": 5, "calls": 10}
    with pytest.raises(PolicyError) as refused:
        parse({"checks": [latency]})

    assert refused.value.errors == {"checks.speed.calls": "10 calls can never reach minimum_calls (20)."}
    assert parse({"checks": [{**latency, "minimum_calls": 10}]}).checks
