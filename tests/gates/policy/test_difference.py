"""Which way a change goes, for every setting of every kind."""

from __future__ import annotations

from typing import Any

import pytest

from gates.policy import ColumnRule, PolicyDocument, parse
from gates.policy.checks import KIND_CLASSES
from gates.policy.difference import Change, compare, loosened
from gates.policy.directions import PerEntry

FLOOR: dict[str, Any] = {"id": "auc", "kind": "metric", "metric": "roc_auc", "at_least": 0.65}
OTHER: dict[str, Any] = {**FLOOR, "id": "other"}
MAE: dict[str, Any] = {"id": "mae", "kind": "metric", "metric": "mae", "at_most": 3.0}
RIVAL: dict[str, Any] = {"id": "rival", "kind": "versus_champion", "metric": "roc_auc", "not_worse_by": 0.01}
SLICES: dict[str, Any] = {
    "id": "slices", "kind": "slice", "metric": "roc_auc", "by": ["a", "b"], "not_worse_than_overall_by": 0.1,
}  # fmt: skip
FAIR: dict[str, Any] = {"id": "fair", "kind": "fairness", "by": "sex", "at_most": 0.1, "use": "lower_bound"}
LATENCY: dict[str, Any] = {"id": "speed", "kind": "latency", "p95_ms": 100}
ROBUST: dict[str, Any] = {"id": "robust", "kind": "robustness"}
QUALITY: dict[str, Any] = {"id": "dq", "kind": "data_quality", "ignore": ["month"], "stale": 0.1, "served_nulls": 0.1}
TRAINED: dict[str, Any] = {"id": "trained", "kind": "training_data", "maximum_age_days": 90}
LEAK: dict[str, Any] = {"id": "leak", "kind": "leakage", "blocking": True, "ignore": ["a"]}
DRIFT: dict[str, Any] = {"id": "drift", "kind": "live_drift", "blocking": True}
CI: dict[str, Any] = {"id": "ci", "kind": "ci_evidence", "require": ["lint", "unit"]}
OURS: dict[str, Any] = {"id": "ours", "kind": "custom", "measurement": "revenue", "at_least": 1.0, "use": "lower_bound"}
AUDIT: dict[str, Any] = {"id": "audit", "kind": "feature_consistency"}


def document(*checks: dict[str, Any], **fields: Any) -> PolicyDocument:
    return parse({"checks": [OTHER, *checks], **fields})


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[Change]:
    return list(compare(document(before), document(after)))


# ---------------------------------------------------------------------- nothing is forgotten


@pytest.mark.parametrize("kind", KIND_CLASSES.values(), ids=KIND_CLASSES)
def test_every_setting_of_every_kind__has_a_direction(kind: Any) -> None:
    """A new setting belongs into its kind's ``directions``: else loosening it would go unmarked."""
    assert set(kind.directions) == set(kind.model_fields) - {"id", "kind"}
    assert kind.collected_with | kind.waits_for <= set(kind.directions)


def test_every_setting_of_a_column_and_of_the_document__has_a_direction() -> None:
    assert set(ColumnRule.directions) == set(ColumnRule.model_fields)
    assert set(PolicyDocument.directions) == set(PolicyDocument.model_fields) - {"checks"}
    nested = [rule for kind in KIND_CLASSES.values() for rule in kind.directions.values() if isinstance(rule, PerEntry)]
    assert len(nested) == 1


STRICTER: list[tuple[dict[str, Any], str, Any, Any]] = [
    (FLOOR, "at_least", 0.6, 0.7),
    (FLOOR, "use", "upper_bound", "point"),
    (FLOOR, "use", "point", "lower_bound"),
    ({**FLOOR, "use": "lower_bound"}, "confidence", 0.9, 0.95),
    ({**FLOOR, "use": "upper_bound"}, "confidence", 0.95, 0.9),
    (FLOOR, "minimum_rows", 500, 1000),
    (MAE, "at_most", 3.0, 2.0),
    (MAE, "use", "lower_bound", "point"),
    (MAE, "use", "point", "upper_bound"),
    ({**MAE, "use": "upper_bound"}, "confidence", 0.9, 0.95),
    (RIVAL, "not_worse_by", 0.01, 0.005),
    (RIVAL, "confidence", 0.9, 0.95),
    (RIVAL, "minimum_rows", 1, 2),
    (SLICES, "by", ["a"], ["a", "b"]),
    (SLICES, "not_worse_than_overall_by", 0.1, 0.05),
    (SLICES, "confidence", 0.95, 0.9),
    (SLICES, "minimum_rows", 200, 100),
    (FAIR, "at_most", 0.1, 0.05),
    (FAIR, "use", "lower_bound", "upper_bound"),
    (FAIR, "confidence", 0.95, 0.9),
    (FAIR, "minimum_group", 200, 100),
    ({**FAIR, "small_groups": "inconclusive"}, "minimum_group", 100, 200),
    ({**FAIR, "small_groups": "inconclusive"}, "minimum_positives", 10, 20),
    (FAIR, "small_groups", "shown", "inconclusive"),
    (LATENCY, "p50_ms", None, 20.0),
    (LATENCY, "p95_ms", 100.0, 50.0),
    ({**LATENCY, "calls": 400}, "p99_ms", 100.0, 50.0),
    (LATENCY, "batch_p95_ms", None, 50.0),
    (LATENCY, "ratio_to_champion", 1.2, 1.1),
    (LATENCY, "confidence", 0.9, 0.95),
    (LATENCY, "minimum_calls", 20, 40),
    ({**LATENCY, "batch_p95_ms": 50}, "batch_rows", 100, 200),
    (LATENCY, "control_tolerance", 0.25, 0.1),
    (ROBUST, "parity_tolerance", 1e-5, 1e-6),
    (ROBUST, "missing_values", 0.5, 1.0),
    (ROBUST, "deterministic", False, True),
    (ROBUST, "rows", 100, 200),
    (QUALITY, "null_increase", 0.2, 0.1),
    (QUALITY, "out_of_range", 0.2, 0.1),
    (QUALITY, "range_margin", 0.5, 0.1),
    (QUALITY, "unseen", 0.2, 0.1),
    (QUALITY, "duplicates", 0.2, 0.1),
    (QUALITY, "ignore", ["month", "year"], ["month"]),
    (QUALITY, "stale", None, 0.1),
    (QUALITY, "served_nulls", 0.2, 0.1),
    (QUALITY, "served_entities", 100, 200),
    (QUALITY, "minimum_rows", 100, 200),
    (TRAINED, "minimum_rows", 100, 200),
    (TRAINED, "minimum_days", None, 28.0),
    (TRAINED, "minimum_positives", 10, 20),
    (TRAINED, "maximum_age_days", None, 90),
    (LEAK, "alone_at_most", 0.95, 0.9),
    (LEAK, "confidence", 0.95, 0.9),
    (LEAK, "ignore", ["a"], []),
    (LEAK, "minimum_rows", 100, 200),
    (DRIFT, "effect_at_most", 0.1, 0.05),
    (DRIFT, "ignore", ["a"], []),
    (DRIFT, "minimum_rows", 100, 200),
    (CI, "require", ["lint"], ["lint", "unit"]),
    (CI, "minimum_tests", 1, 10),
    ({**CI, "require": ["coverage"]}, "minimum_coverage", None, 0.8),
    (CI, "maximum_age_days", None, 14),
    (CI, "commit", "any", "exact"),
    (OURS, "at_least", 1.0, 2.0),
    (OURS, "minimum_n", 1, 100),
    (OURS, "maximum_age_days", 14, 7),
    (AUDIT, "maximum_age_days", 14, 7),
]


@pytest.mark.parametrize(("check", "setting", "lax", "strict"), STRICTER)
def test_setting__one_way_is_stricter__and_the_other_looser(
    check: dict[str, Any], setting: str, lax: Any, strict: Any
) -> None:
    one, other = {**check, setting: lax}, {**check, setting: strict}

    assert changes(one, other) == [Change(check["id"], setting, lax, strict, "stricter")]
    assert changes(other, one) == [Change(check["id"], setting, strict, lax, "looser")]
    assert changes(one, one) == []


@pytest.mark.parametrize(
    ("check", "setting", "before", "after"),
    [
        (FLOOR, "metric", "roc_auc", "average_precision"),
        (RIVAL, "metric", "roc_auc", "brier"),
        (FAIR, "by", "sex", "age"),
        (FAIR, "measure", "equal_opportunity_difference", "demographic_parity_difference"),
        (OURS, "measurement", "revenue", "clicks"),
        (QUALITY, "key", "request_id", "id"),
        (SLICES, "by", ["a", "b"], ["a", "c"]),
        (CI, "require", ["lint", "unit"], ["lint", "integration"]),
        (LEAK, "ignore", ["a"], ["b"]),
        (DRIFT, "days", 7, 14),
        (DRIFT, "days", 14, 7),
    ],
)
def test_setting__what_is_asked_about__is_looser_whatever_came_instead(
    check: dict[str, Any], setting: str, before: Any, after: Any
) -> None:
    one, other = {**check, setting: before}, {**check, setting: after}

    assert changes(one, other) == [Change(check["id"], setting, before, after, "looser")]


@pytest.mark.parametrize(
    ("check", "setting", "before", "after"),
    [
        (FLOOR, "confidence", 0.9, 0.95),
        (SLICES, "find", 5, 0),
        (LATENCY, "calls", 100, 200),
        (LATENCY, "batch_rows", 100, 200),
        (LATENCY, "budget_seconds", 1.0, 2.0),
    ],
)
def test_setting__that_moves_no_bar__goes_neither_way(
    check: dict[str, Any], setting: str, before: Any, after: Any
) -> None:
    for one, other in ((before, after), (after, before)):
        assert [each.direction for each in changes({**check, setting: one}, {**check, setting: other})] == ["neither"]


# ---------------------------------------------------------------------- whole checks


def test_check__that_is_dropped__is_looser_and_said_last() -> None:
    found = compare(document(FLOOR, RIVAL), document({**FLOOR, "at_least": 0.7}))

    assert [(each.check, each.setting, each.direction) for each in found] == [
        ("auc", "at_least", "stricter"),
        ("rival", "check", "looser"),
    ]
    assert str(found[1]) == (
        "rival: dropped (versus champion: roc_auc not worse than the champion by 0.01 (95%)), looser"
    )


def test_check__that_is_new__is_stricter() -> None:
    (found,) = compare(document(), document(FLOOR))

    assert (found.check, found.before, found.after, found.direction) == (
        "auc",
        None,
        "metric: roc_auc ≥ 0.65",
        "stricter",
    )


def test_check__turned_to_report_only__is_looser_whatever_its_bar_became() -> None:
    found = changes(FLOOR, {**FLOOR, "at_least": 0.9, "blocking": False})

    assert [(each.setting, each.direction) for each in found] == [("blocking", "looser"), ("at_least", "neither")]


def test_check__turned_to_blocking__is_stricter_whatever_its_bar_became() -> None:
    found = changes({**FLOOR, "blocking": False}, {**FLOOR, "at_least": 0.5})

    assert [(each.setting, each.direction) for each in found] == [("blocking", "stricter"), ("at_least", "neither")]


def test_check__that_only_reports__goes_neither_way_when_it_is_changed_or_goes() -> None:
    quiet = {**FLOOR, "blocking": False}

    assert [each.direction for each in changes(quiet, {**quiet, "at_least": 0.1})] == ["neither"]
    assert [each.direction for each in compare(document(quiet), document())] == ["neither"]
    assert [each.direction for each in compare(document(), document(quiet))] == ["neither"]


def test_check__of_another_kind_under_the_same_id__asks_less_of_what_it_asked() -> None:
    found = changes(FLOOR, {**RIVAL, "id": "auc"})

    assert [(each.setting, each.direction) for each in found] == [("check", "looser"), ("check", "stricter")]
    assert len(loosened(tuple(found))) == 1


def test_check__bar_that_changed_sides__tells_both_sides() -> None:
    before = {**FLOOR, "metric": "roc_auc"}
    after = {**MAE, "id": "auc"}
    directions = {each.setting: each.direction for each in changes(before, after)}

    assert directions == {"metric": "looser", "at_least": "looser", "at_most": "stricter"}


# ---------------------------------------------------------------------- columns, head, words


def test_columns__each_is_compared_by_its_settings() -> None:
    def quality(**columns: dict[str, Any]) -> dict[str, Any]:
        return {**QUALITY, "columns": columns}

    found = changes(
        quality(delay={"minimum": 0, "maximum": 10}, origin={"allowed": ["EWR", "JFK"]}, gone={"null_share": 0.1}),
        quality(delay={"minimum": -5, "maximum": 8}, origin={"allowed": ["EWR"]}, new={"null_share": 0.2}),
    )

    assert {each.setting: each.direction for each in found} == {
        "columns.delay.minimum": "looser",
        "columns.delay.maximum": "stricter",
        "columns.origin.allowed": "stricter",
        "columns.new.null_share": "stricter",
        "columns.gone.null_share": "looser",
    }


def test_document__other_threshold_and_waiting__are_told_and_go_neither_way() -> None:
    found = compare(document(), document(threshold=0.25, evidence_wait_hours=24, template="standard@3"))

    assert [(each.check, each.setting, each.direction) for each in found] == [
        ("", "template", "neither"),
        ("", "threshold", "neither"),
        ("", "evidence_wait_hours", "neither"),
    ]


@pytest.mark.parametrize(
    "check",
    [
        FAIR,
        {**FAIR, "measure": "demographic_parity_ratio", "at_most": None, "at_least": 0.8, "use": "upper_bound"},
        *({**FLOOR, "metric": name} for name in ("accuracy", "precision", "recall", "specificity", "f1")),
        {**RIVAL, "metric": "balanced_accuracy"},
        {**SLICES, "metric": "f1"},
    ],
)
def test_document__other_threshold_of_decisions_that_are_judged__is_looser_either_way(check: dict[str, Any]) -> None:
    for one, other in ((0.5, 0.25), (0.25, 0.5)):
        (found,) = compare(document(check, threshold=one), document(check, threshold=other))
        assert (found.setting, found.direction) == ("threshold", "looser")
    quiet = {**check, "blocking": False}
    assert [each.direction for each in compare(document(quiet), document(quiet, threshold=0.1))] == ["neither"]


def test_latency__batches_without_a_limit__may_have_any_size() -> None:
    grown = changes(LATENCY, {**LATENCY, "batch_rows": 10})
    limited = changes({**LATENCY, "batch_rows": 10}, {**LATENCY, "batch_rows": 5, "batch_p95_ms": 50})

    assert [each.direction for each in grown] == ["neither"]
    assert {each.setting: each.direction for each in limited} == {"batch_p95_ms": "stricter", "batch_rows": "neither"}


def test_document__without_one_before__is_new_throughout() -> None:
    found = compare(None, document(FLOOR, {**RIVAL, "blocking": False}))

    assert [each.direction for each in found] == ["stricter", "stricter", "neither"]
    assert loosened(found) == ()


def test_change__in_words_and_as_json() -> None:
    (found,) = changes({**LATENCY, "calls": 400, "p99_ms": 20}, {**LATENCY, "calls": 400})

    assert str(found) == "speed: p99_ms 20 → not asked, looser"
    assert found.as_dict() == {
        "check": "speed", "setting": "p99_ms", "before": 20.0, "after": None, "direction": "looser",
    }  # fmt: skip
    assert Change(**found.as_dict()) == found
    assert str(changes(QUALITY, {**QUALITY, "ignore": []})[0]) == "dq: ignore month → none, stricter"
