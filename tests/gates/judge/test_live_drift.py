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
    found = moved(column(trained), column(current))
    assert found is not None
    return {"feature": name, "importance": importance, **found}


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


def test_live_drift__values_that_nothing_is_known_of__are_told_and_not_judged() -> None:
    gone = feature("wind", TRAINED, pa.nulls(5000, pa.float64()))
    new = feature("gust", pa.nulls(5000, pa.float64()), TRAINED)

    assert (gone["effect"], gone["null_share"]) == (None, 1.0)
    assert (new["effect"], new["trained_null_share"]) == (None, 1.0)
    assert judged(gone, new).verdict == "passed"


def test_live_drift__times_and_changed_types__are_not_compared() -> None:
    times = column(pa.array([1, 2], pa.timestamp("us", "UTC")))

    assert moved(times, times) is None
    assert moved(column([1.0]), column(["a"])) is None


def test_live_drift__other_days_than_were_looked_at__can_not_be_told() -> None:
    assert judged(days=3).verdict == "error"


def test_lower_bound__is_where_the_effect_stops_being_sure() -> None:
    effect = Effect(0.3, 0.29, 10, 20_000, 5000)
    low = lower_bound(effect, 0.01)

    assert 0.25 < low < 0.3
    assert effect.p_value(low) == pytest.approx(0.01, abs=1e-4)
    assert lower_bound(Effect(0.001, 0.0, 10, 200, 200), 0.01) == 0.0
