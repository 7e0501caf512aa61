"""Drift between training and traffic, from arrays."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from gates.judge import Judgement, live_drift
from gates.judge.live_drift import lower_bound
from gates.measure.live_drift import moved
from gates.policy import LiveDriftCheck
from stats.drift import Effect

RANDOM = np.random.default_rng(17)
TRAINED = RANDOM.normal(0, 1, 20_000)


def column(values: Any) -> pa.ChunkedArray:
    return pa.chunked_array([values if isinstance(values, pa.Array) else pa.array(values)])


def feature(name: str, trained: Any, current: Any, importance: float | None = None) -> dict[str, Any]:
    return {"feature": name, "importance": importance, **moved(column(trained), column(current))}


def judged(*features: dict[str, Any], requests: int = 5000, days: int = 7, **settings: Any) -> Judgement:
    measured = {"days": days, "until": "2013-04-01T00:00:00+00:00", "requests": requests, "features": list(features)}
    return live_drift.judge(LiveDriftCheck(id="live-drift", **settings), measured)


def test_live_drift__same_world__passes() -> None:
    judgement = judged(feature("wind", TRAINED, RANDOM.normal(0, 1, 5000)))

    assert (judgement.verdict, judgement.n) == ("passed", 5000)
    assert judgement.value == 0.0


def test_live_drift__moved_feature__fails_with_its_importance() -> None:
    still = feature("temp", TRAINED, RANDOM.normal(0, 1, 5000))
    judgement = judged(still, feature("wind", TRAINED, RANDOM.normal(1, 1, 5000), importance=0.3))

    assert judgement.verdict == "failed"
    assert "1 of 2 features moved since training, by 5,000 requests in 7 days: wind effect" in judgement.message
    assert "importance 30%" in judgement.message
    assert judgement.detail["features"][0]["feature"] == "wind"
    assert not judgement.blocking


def test_live_drift__moved_by_less_than_tolerated__passes() -> None:
    assert judged(feature("wind", TRAINED, RANDOM.normal(0.2, 1, 5000))).verdict == "passed"


def test_live_drift__texts__move_by_their_levels() -> None:
    trained = RANDOM.choice(["UA", "B6", "DL"], 20_000, p=[0.5, 0.3, 0.2]).tolist()
    current = RANDOM.choice(["UA", "B6", "ZZ"], 5000, p=[0.2, 0.3, 0.5]).tolist()
    judgement = judged(feature("carrier", trained, current))

    assert judgement.verdict == "failed"
    assert judgement.detail["features"][0]["unseen_share"] == pytest.approx(0.5, abs=0.03)


def test_live_drift__ignored_feature__is_not_judged() -> None:
    month = feature("month", TRAINED, TRAINED + 9)

    assert judged(month).verdict == "failed"
    assert judged(month, ignore=("month",)).verdict == "passed"


def test_live_drift__no_traffic__does_not_stop_a_version() -> None:
    judgement = judged(requests=0)

    assert (judgement.verdict, judgement.n) == ("passed", 0)
    assert "without traffic has nothing to compare and is not stopped" in judgement.message


def test_live_drift__too_little_traffic__says_how_much_more() -> None:
    judgement = judged(requests=120)

    assert judgement.verdict == "inconclusive"
    assert "380 more" in judgement.message


def test_live_drift__feature_that_vanished__fails_by_its_nulls() -> None:
    still = feature("temp", TRAINED, RANDOM.normal(0, 1, 5000))
    gone = feature("wind", TRAINED, pa.nulls(5000, pa.float64()), importance=0.3)
    judgement = judged(still, gone)

    assert (gone["effect"], gone["null_share"]) == (None, 1.0)
    assert judgement.verdict == "failed"
    assert "wind 100% null (trained 0%), importance 30%" in judgement.message
    assert [each["feature"] for each in judgement.detail["features"] if each["moved"]] == ["wind"]


@pytest.mark.parametrize("missing", [float("nan"), float("inf"), -float("inf"), None])
@pytest.mark.parametrize(("share", "verdict"), [(0.05, "passed"), (0.1, "passed"), (0.2, "failed")])
def test_live_drift__nulls_that_surely_grew_beyond_the_tolerance__fail(
    missing: float | None, share: float, verdict: str
) -> None:
    present = 5000 - round(5000 * share)
    values = [*RANDOM.normal(0, 1, present).tolist(), *[missing] * (5000 - present)]
    judgement = judged(feature("wind", TRAINED, values))

    assert judgement.verdict == verdict
    assert judgement.detail["features"][0]["nulls_low"] < share


def test_live_drift__few_requests__nulls_get_the_benefit_of_the_doubt() -> None:
    few = [*RANDOM.normal(0, 1, 85).tolist(), *[None] * 15]

    assert judged(feature("wind", TRAINED, few), requests=500).verdict == "passed"


def test_live_drift__sparse_feature_without_a_value_today__is_inconclusive() -> None:
    sparse = [1.0, *[None] * 19] * 1000
    judgement = judged(feature("wind", sparse, pa.nulls(5000, pa.float64())))

    assert judgement.verdict == "inconclusive"
    assert "1 of 1 features can not be compared, by 5,000 requests in 7 days: wind 100% null (trained 95%)" in (
        judgement.message
    )


def test_live_drift__feature_of_another_type__is_inconclusive() -> None:
    judgement = judged(feature("wind", TRAINED, ["a"] * 5000))

    assert judgement.verdict == "inconclusive"
    assert "wind is of another type than in training" in judgement.message


def test_live_drift__feature_that_training_had_not__does_not_stop() -> None:
    new = feature("gust", pa.nulls(5000, pa.float64()), TRAINED)

    assert (new["effect"], new["trained_null_share"]) == (None, 1.0)
    assert judged(new).verdict == "passed"


def test_live_drift__times__are_compared_by_their_nulls_alone() -> None:
    times, gone = pa.array([1, 2] * 500, pa.timestamp("us", "UTC")), pa.nulls(1000, pa.timestamp("us", "UTC"))
    judgement = judged(feature("seen_at", times, times))

    assert judgement.verdict == "passed"
    assert "Only nulls were compared of seen_at." in judgement.message
    assert judged(feature("seen_at", times, gone)).verdict == "failed"


def test_live_drift__other_days_than_were_looked_at__can_not_be_told() -> None:
    assert judged(days=3).verdict == "error"


def test_lower_bound__is_where_the_effect_stops_being_sure() -> None:
    effect = Effect(0.3, 0.29, 10, 20_000, 5000)
    low = lower_bound(effect, 0.01)

    assert 0.25 < low < 0.3
    assert effect.p_value(low) == pytest.approx(0.01, abs=1e-4)
    assert lower_bound(Effect(0.001, 0.0, 10, 200, 200), 0.01) == 0.0
