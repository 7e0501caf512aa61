"""Every kind of check: a case that must pass, one that must fail, one without enough evidence, one that is an error."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from gates import judge
from gates.judge import CiReport, ColumnQuality, FeatureAudit, Judgement
from gates.policy import (
    CiEvidenceCheck,
    DataQualityCheck,
    FairnessCheck,
    FeatureConsistencyCheck,
    LatencyCheck,
    MetricCheck,
    TrainingDataCheck,
    VersusChampionCheck,
)
from stats.fairness import gaps, group_table
from stats.interval import Interval

NOW = datetime(2013, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)
FLOOR = MetricCheck(id="auc-floor", metric="roc_auc", at_least=0.65, use="lower_bound")
VERSUS = VersusChampionCheck(id="versus", metric="roc_auc", not_worse_by=0.01)


def around(estimate: float, half: float, n: int = 13_000) -> Interval:
    return Interval(estimate, estimate - half, estimate + half, n, 0.95)


# ---------------------------------------------------------------------- bars


@pytest.mark.parametrize(
    ("use", "estimate", "verdict"),
    [
        ("point", 0.66, "passed"),
        ("point", 0.64, "failed"),
        ("lower_bound", 0.68, "passed"),
        ("lower_bound", 0.66, "inconclusive"),
        ("lower_bound", 0.62, "failed"),
        ("upper_bound", 0.64, "passed"),
        ("upper_bound", 0.62, "failed"),
    ],
)
def test_clears__at_least__by_the_side_that_is_used(use: Any, estimate: float, verdict: str) -> None:
    assert judge.clears(around(estimate, 0.02), use=use, at_least=0.65) == verdict


@pytest.mark.parametrize(
    ("use", "estimate", "verdict"),
    [
        ("point", 0.10, "passed"),
        ("point", 0.11, "failed"),
        ("upper_bound", 0.07, "passed"),
        ("upper_bound", 0.11, "inconclusive"),
        ("upper_bound", 0.13, "failed"),
        ("lower_bound", 0.11, "passed"),
        ("lower_bound", 0.13, "failed"),
    ],
)
def test_clears__at_most__by_the_side_that_is_used(use: Any, estimate: float, verdict: str) -> None:
    assert judge.clears(around(estimate, 0.02), use=use, at_most=0.10) == verdict


# ---------------------------------------------------------------------- metric


def test_metric__clearly_above__passes_with_its_numbers() -> None:
    judgement = judge.metric(FLOOR, around(0.74, 0.01), rows=13_000)

    assert judgement.verdict == "passed"
    assert judgement.message == "roc_auc 0.74 [0.73, 0.75] on 13,000 rows clears at least 0.65."
    assert (judgement.value, judgement.low, judgement.high, judgement.n) == (0.74, 0.73, 0.75, 13_000)
    assert judgement.threshold == "roc_auc ≥ 0.65 (lower bound, 95%)"


def test_metric__clearly_below__fails() -> None:
    judgement = judge.metric(FLOOR, around(0.612, 0.014), rows=13_000)

    assert judgement.verdict == "failed"
    assert "0.612 [0.598, 0.626] on 13,000 rows is below 0.65" in judgement.message


def test_metric__too_few_rows__is_inconclusive() -> None:
    judgement = judge.metric(FLOOR, None, rows=120)

    assert judgement.verdict == "inconclusive"
    assert judgement.message == "120 labelled rows, 1,000 are needed to judge."


def test_metric__one_class_only__is_inconclusive() -> None:
    assert judge.metric(FLOOR, None, rows=5000).verdict == "inconclusive"


# ---------------------------------------------------------------------- versus champion


def versus(gain: Interval | None, rows: int = 13_000) -> Judgement:
    return judge.versus_champion(VERSUS, gain, rows=rows, champion="late-arrival v1", values={"champion_value": 0.74})


def test_versus_champion__better__passes() -> None:
    judgement = versus(around(0.02, 0.005))

    assert judgement.verdict == "passed"
    assert "late-arrival v1 by 0.02 [0.015, 0.025]" in judgement.message
    assert judgement.value == 0.02
    assert judgement.detail["champion_value"] == 0.74


def test_versus_champion__equal_and_precise__passes() -> None:
    assert versus(around(0.0, 0.006)).verdict == "passed"


def test_versus_champion__clearly_worse__fails() -> None:
    judgement = versus(around(-0.03, 0.005))

    assert judgement.verdict == "failed"
    assert "worse by more than 0.01" in judgement.message


def test_versus_champion__equal_but_imprecise__is_inconclusive_and_says_how_many_rows() -> None:
    judgement = versus(around(0.0, 0.02, n=2000), rows=2000)

    assert judgement.verdict == "inconclusive"
    assert "about 8,000 rows" in judgement.message


def test_versus_champion__too_few_rows__is_inconclusive() -> None:
    assert versus(around(0.5, 0.0), rows=10).verdict == "inconclusive"


def test_versus_champion__none_yet__passes_and_says_so() -> None:
    judgement = judge.no_champion(VERSUS)

    assert judgement.verdict == "passed"
    assert "no champion" in judgement.message
    assert judgement.value is None


# ---------------------------------------------------------------------- fairness


def fairness(check: FairnessCheck, **groups: tuple[int, float, float]) -> Judgement:
    """Groups by name: size, share of positives, share of positives that is found. Nobody else is selected."""
    names: list[str] = []
    y: list[int] = []
    selected: list[int] = []
    for name, (n, base, found) in groups.items():
        positives = round(n * base)
        hits = round(positives * found)
        names += [name] * n
        y += [1] * positives + [0] * (n - positives)
        selected += [1] * hits + [0] * (n - hits)
    table = group_table(names, y, selected)
    measured = gaps(
        table,
        minimum_group=check.minimum_group,
        minimum_positives=check.minimum_positives,
        confidence=check.confidence,
        draws=500,
    )
    return judge.fairness(check, measured, table)


LENIENT = FairnessCheck(id="fairness", by="origin", at_most=0.1, use="lower_bound")
STRICT = FairnessCheck(id="fairness", by="origin", at_most=0.1, use="upper_bound")


def test_fairness__small_gap__passes_with_base_rates() -> None:
    judgement = fairness(STRICT, EWR=(9000, 0.29, 0.6), JFK=(9000, 0.27, 0.57))

    assert judgement.verdict == "passed"
    assert "JFK found 57.0% (base rate 27.0%)" in judgement.message
    assert [group["base_rate"] for group in judgement.detail["groups"]] == [0.29, 0.27]


def test_fairness__wide_gap__fails() -> None:
    judgement = fairness(LENIENT, EWR=(9000, 0.29, 0.7), JFK=(9000, 0.27, 0.4))

    assert judgement.verdict == "failed"
    assert "equal_opportunity_difference" in judgement.message
    assert judgement.low is not None
    assert judgement.low > 0.1


def test_fairness__gap_around_the_bar__is_inconclusive_only_when_it_has_to_be_proven() -> None:
    groups = {"EWR": (900, 0.29, 0.6), "JFK": (900, 0.27, 0.49)}

    assert fairness(STRICT, **groups).verdict == "inconclusive"
    assert fairness(LENIENT, **groups).verdict == "passed"


def test_fairness__small_group__is_listed_and_not_judged() -> None:
    judgement = fairness(LENIENT, EWR=(9000, 0.3, 0.6), JFK=(9000, 0.3, 0.6), OO=(32, 0.3, 0.0), HA=(12, 0.3, 0.0))
    rows = {group["group"]: group for group in judgement.detail["groups"]}

    assert judgement.verdict == "passed"
    assert "Not enough evidence for HA, OO" in judgement.message
    assert rows["OO"]["judged"] is False
    assert rows["HA"] == {"group": "HA", "n": 12, "judged": False}


def test_fairness__one_large_group_only__is_inconclusive() -> None:
    judgement = fairness(LENIENT, EWR=(9000, 0.3, 0.6), OO=(32, 0.3, 0.0))

    assert judgement.verdict == "inconclusive"
    assert "1 of 2 groups" in judgement.message


def test_fairness__groups_without_positives__is_inconclusive() -> None:
    assert fairness(LENIENT, EWR=(9000, 0.0, 0.0), JFK=(9000, 0.0, 0.0)).verdict == "inconclusive"


def test_fairness__four_fifths_rule__is_a_ratio_at_least() -> None:
    ratio = FairnessCheck(
        id="ratio", by="origin", measure="demographic_parity_ratio", at_least=0.8, use="upper_bound", confidence=0.9
    )

    assert fairness(ratio, EWR=(9000, 0.5, 0.7), LGA=(9000, 0.5, 0.35)).verdict == "failed"
    assert fairness(ratio, EWR=(9000, 0.5, 0.7), LGA=(9000, 0.5, 0.68)).verdict == "passed"


# ---------------------------------------------------------------------- latency


FAST = LatencyCheck(id="latency", p95_ms=50)


def test_latency__within_the_limit__passes_with_its_ratio() -> None:
    times = np.random.default_rng(1).gamma(20, 0.5, 120)
    judgement = judge.latency(FAST, times, champion=times[:40] / 2)

    assert judgement.verdict == "passed"
    assert "p95" in judgement.message
    assert judgement.detail["ratio_to_champion"] == pytest.approx(2, rel=0.2)
    assert judgement.n == 120


def test_latency__slow_model_that_gave_few_calls__fails() -> None:
    judgement = judge.latency(FAST, np.full(15, 200.0))

    assert judgement.verdict == "failed"
    assert "p95 200.0 ms is above 50 ms, of 15 single-row calls" in judgement.message


def test_latency__a_tenth_of_the_calls_slow__fails() -> None:
    times = np.full(400, 10.0)
    times[::8] = 80.0

    assert judge.latency(FAST, times).verdict == "failed"


def test_latency__too_few_calls__is_inconclusive() -> None:
    assert judge.latency(FAST, np.full(5, 1.0)).verdict == "inconclusive"
    assert judge.latency(FAST, np.array([])).verdict == "inconclusive"


def test_latency__so_slow_that_three_calls_used_up_the_time__fails() -> None:
    judgement = judge.latency(FAST, np.full(3, 900.0))
    assert judgement.verdict == "failed"
    assert "3 of them took longer than the 50 ms allowed for p95" in judgement.message


def test_latency__fast_but_too_few_calls_to_know_the_tail__is_inconclusive() -> None:
    assert judge.latency(FAST, np.full(20, 1.0)).verdict == "inconclusive"


def test_latency__two_limits__the_worse_counts() -> None:
    both = LatencyCheck(id="latency", p50_ms=5, p95_ms=50)

    assert judge.latency(both, np.full(120, 10.0)).verdict == "failed"


def test_latency__unsteady_machine__is_inconclusive_where_the_control_is_asked() -> None:
    times = np.concatenate([np.full(60, 10.0), np.full(60, 80.0)])
    controlled = LatencyCheck(id="latency", p95_ms=50, drift_tolerance=0.25)

    assert judge.latency(controlled, times).verdict == "inconclusive"
    assert judge.latency(FAST, times).verdict == "failed"


# ---------------------------------------------------------------------- data quality


QUALITY = DataQualityCheck(id="data-quality")
CLEAN = ColumnQuality("temp", null_share=0.02, trained_null_share=0.02, out_of_range=0.0)


def quality(*columns: ColumnQuality, duplicates: float = 0.0, rows: int = 13_000, **changes: Any) -> Judgement:
    return judge.data_quality(QUALITY.model_copy(update=changes), columns, duplicates=duplicates, rows=rows)


def test_data_quality__like_the_training_data__passes() -> None:
    assert quality(CLEAN).verdict == "passed"


@pytest.mark.parametrize(
    ("column", "named"),
    [
        (ColumnQuality("temp", 0.4, 0.02), "temp null 40.0% (trained 2.0%)"),
        (ColumnQuality("wind", 0.0, 0.0, out_of_range=0.3), "wind 30.0% out of range"),
        (ColumnQuality("carrier", 0.0, 0.0, unseen=0.1), "carrier 10.0% unseen levels"),
    ],
)
def test_data_quality__defect_beyond_its_limit__fails_and_names_it(column: ColumnQuality, named: str) -> None:
    judgement = quality(CLEAN, column)

    assert judgement.verdict == "failed"
    assert named in judgement.message


def test_data_quality__duplicated_requests__fail() -> None:
    assert "1.00% duplicated request_id" in quality(CLEAN, duplicates=0.01).message


def test_data_quality__nulls_as_in_training__pass() -> None:
    assert quality(ColumnQuality("gust", 0.8, 0.79)).verdict == "passed"


def test_data_quality__ignored_column__is_not_judged() -> None:
    assert quality(ColumnQuality("month", 0.0, 0.0, out_of_range=1.0), ignore=("month",)).verdict == "passed"


def test_data_quality__too_few_rows__is_inconclusive() -> None:
    assert quality(CLEAN, rows=3).verdict == "inconclusive"


# ---------------------------------------------------------------------- training data


def trained(to: datetime | None, *, rows: int = 50_000, holdout: datetime | None = NOW, **changes: Any) -> Judgement:
    check = TrainingDataCheck(id="training-data", **changes)
    return judge.training_data(check, rows=rows, trained_to=to, holdout_from=holdout, now=NOW + 14 * DAY)


def test_training_data__ends_before_the_holdout__passes() -> None:
    assert trained(NOW - DAY).verdict == "passed"


@pytest.mark.parametrize("to", [NOW, NOW + DAY])
def test_training_data__reaches_into_the_holdout__is_an_error(to: datetime) -> None:
    judgement = trained(to)

    assert judgement.verdict == "error"
    assert "judged on rows it was trained on" in judgement.message


def test_training_data__too_few_rows__fails() -> None:
    assert trained(NOW - DAY, rows=10).verdict == "failed"


def test_training_data__too_old__fails() -> None:
    assert trained(NOW - 80 * DAY, maximum_age_days=90).verdict == "failed"
    assert trained(NOW - 70 * DAY, maximum_age_days=90).verdict == "passed"


def test_training_data__empty_holdout__is_inconclusive() -> None:
    assert trained(NOW - DAY, holdout=None).verdict == "inconclusive"


def test_training_data__unknown_end__is_an_error() -> None:
    assert trained(None).verdict == "error"


# ---------------------------------------------------------------------- CI evidence


CI = CiEvidenceCheck(id="ci", require=("lint", "unit"), maximum_age_days=14)
CODE = "c0de" * 16


def report(kind: str, verdict: Any = "passed", *, days: int = 1, tests: int | None = 12) -> CiReport:
    return CiReport(kind, verdict, f"{tests} tests", NOW - days * DAY, tests=tests, evidence=7)


def ci(*reports: CiReport, code: str = CODE, check: CiEvidenceCheck = CI) -> Judgement:
    by_kind = {report.kind: report for report in reports}
    return judge.ci_evidence(check, by_kind, code_digest=code, deadline=NOW, now=NOW)


def test_ci__everything_required_passed__passes() -> None:
    judgement = ci(report("lint", tests=None), report("unit"))

    assert judgement.verdict == "passed"
    assert judgement.detail["evidence"] == {"lint": 7, "unit": 7}


def test_ci__failed_report__fails_even_when_another_is_missing() -> None:
    assert ci(report("unit", "failed")).verdict == "failed"


def test_ci__missing_report__is_inconclusive_and_named() -> None:
    judgement = ci(report("lint", tests=None))

    assert judgement.verdict == "inconclusive"
    assert "no unit report about code c0dec0dec0de came by 2013-06-01" in judgement.message


def test_ci__no_test_ran__is_an_error() -> None:
    assert ci(report("lint", tests=None), report("unit", "error", tests=0)).verdict == "error"


def test_ci__fewer_tests_than_required__is_an_error() -> None:
    many = CiEvidenceCheck(id="ci", require=("unit",), minimum_tests=100)

    assert ci(report("unit"), check=many).verdict == "error"


def test_ci__stale_report__is_an_error() -> None:
    assert ci(report("lint", tests=None), report("unit", days=15)).verdict == "error"


def test_ci__version_without_code__is_an_error() -> None:
    assert ci(report("lint", tests=None), report("unit"), code="").verdict == "error"


# ---------------------------------------------------------------------- served against recomputed

CONSISTENT = FeatureConsistencyCheck(id="feature-consistency")


def audit(feature: str = "weather@1 temp", **fields: Any) -> FeatureAudit:
    """A feature whose newest 250 served values agreed."""
    values: dict[str, Any] = {"cells": 250, "differing": 0, "limit": 0.0, "clean": 250, **fields}
    return FeatureAudit(feature, NOW, **values)


def test_feature_consistency__all_agree__passes_with_the_count() -> None:
    judgement = judge.feature_consistency(CONSISTENT, [audit(), audit("weather@1 tag")], unserved=[])

    assert (judgement.verdict, judgement.n) == ("passed", 500)
    assert judgement.message == "500 served values of 2 features agree with what training sees."


def test_feature_consistency__one_above_its_limit__fails_and_names_it_with_numbers() -> None:
    broken = audit("wind@2 gust", differing=20, clean=0, needed=38)
    judgement = judge.feature_consistency(CONSISTENT, [audit(), broken], unserved=["tide@1"])

    assert (judgement.verdict, judgement.value) == ("failed", 0.08)
    assert "wind@2 gust 20 of 250 differ (8.00%, 0.00% allowed, audit of 2013-06-01 00:00)" in judgement.message
    assert "weather@1 temp" not in judgement.message
    assert "Not served in the last 7 days: tide@1." in judgement.message


def test_feature_consistency__some_clean_since_but_too_few__still_fails() -> None:
    judgement = judge.feature_consistency(CONSISTENT, [audit(differing=20, clean=10, needed=38)], unserved=[])

    assert judgement.verdict == "failed"
    assert "10 of 38 needed agreed since" in judgement.message


def test_feature_consistency__enough_clean_since__passes() -> None:
    found = audit(differing=20, clean=38, needed=38)

    assert judge.feature_consistency(CONSISTENT, [found], unserved=[]).verdict == "passed"


def test_feature_consistency__never_served__does_not_stop_and_says_so() -> None:
    judgement = judge.feature_consistency(CONSISTENT, [], unserved=["weather@1", "wind@2"])

    assert judgement.verdict == "passed"
    assert judgement.message == (
        "Nothing of weather@1, wind@2 was served in the last 7 days: there is nothing to compare yet."
    )


def test_feature_consistency__no_stored_features__passes() -> None:
    judgement = judge.feature_consistency(CONSISTENT, [], unserved=[])

    assert (judgement.verdict, judgement.n) == ("passed", 0)
    assert "takes no stored features" in judgement.message


# ---------------------------------------------------------------------- conclusion


def judged(check_id: str, verdict: Any, *, blocking: bool = True) -> Judgement:
    return Judgement(check_id, "metric", blocking, verdict, f"{check_id} says {verdict}.")


def test_conclusion__all_blocking_passed__passes_and_names_what_was_only_reported() -> None:
    conclusion = judge.conclude([judged("a", "passed"), judged("b", "failed", blocking=False)], required=1)

    assert conclusion.verdict == "passed"
    assert conclusion.message == "All 1 blocking checks passed. Reported only, not passed: b."


@pytest.mark.parametrize(
    ("verdicts", "outcome"),
    [
        (("passed", "failed", "error", "inconclusive"), "failed"),
        (("passed", "error", "inconclusive"), "error"),
        (("passed", "inconclusive"), "inconclusive"),
        (("passed",), "passed"),
    ],
)
def test_conclusion__failed_before_error_before_inconclusive(verdicts: tuple[str, ...], outcome: str) -> None:
    judgements = [judged(f"check-{position}", verdict) for position, verdict in enumerate(verdicts)]

    assert judge.conclude(judgements, required=len(verdicts)).verdict == outcome


def test_conclusion__names_the_checks_that_stopped_it() -> None:
    conclusion = judge.conclude([judged("auc-floor", "failed"), judged("ci", "passed")], required=2)

    assert conclusion.message == "1 of 2 blocking checks failed. auc-floor: auc-floor says failed."


def test_conclusion__blocking_check_not_judged__is_an_error() -> None:
    assert judge.conclude([judged("a", "passed")], required=2).verdict == "error"


def test_conclusion__nothing_judged__never_passes() -> None:
    assert judge.conclude([], required=1).verdict == "error"
