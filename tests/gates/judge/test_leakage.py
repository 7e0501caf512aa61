"""What the judgement makes of measured strengths and of values that came too late."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from gates.judge import Judgement, leakage
from gates.measure import leakage as measure
from gates.policy import LeakageCheck

RANDOM = np.random.default_rng(11)
N = 4000
Y = (RANDOM.random(N) < 0.25).astype(float)
HONEST = Y + RANDOM.normal(0, 2.0, N)
KNOWS = Y + RANDOM.normal(0, 0.3, N)


def feature(name: str, column: Any, y: Any = Y, *, is_binary: bool = True, **fields: Any) -> dict[str, Any]:
    values = column if isinstance(column, pa.Array) else pa.array(column)
    ways = measure.alone(y, pa.chunked_array([values]), is_binary=is_binary)
    return {"feature": name, "ways": ways, "on_holdout": {}, "importance": None, "champion_importance": None, **fields}


def in_time(**fields: Any) -> dict[str, Any]:
    """A stored feature of which 600 values were looked at."""
    known = {"feature": "weather__wind", "view": "weather@1", "limit": 0.0, "cells": 600, "late": 0}
    return {**known, "loaded_later": 0, "compared": 500, "different": 0, **fields}


def judged(*features: dict[str, Any], known: Any = (), why: str = "", rows: int = N, **settings: Any) -> Judgement:
    measured = {
        "measure": settings.pop("measure", "auc"),
        "rows": rows,
        "rarer_class": 1000,
        "features": list(features),
        "requested": ["distance"],
        "in_time": {"why": why, "instants": ["2013-02-01T10:00:00+00:00"], "features": list(known)},
    }
    return leakage.judge(LeakageCheck(id="leakage", **settings), measured)


def test_leakage__honest_features__pass_and_say_what_was_not_looked_at() -> None:
    judgement = judged(feature("wind", HONEST), known=[in_time()])

    assert judgement.verdict == "passed"
    assert "None of 1 features alone ranks above 0.95 (best: wind, AUC 0.6" in judgement.message
    assert "600 values of 1 stored features had arrived in time." in judgement.message
    assert "can not be checked: distance." in judgement.message
    assert not judgement.blocking


def test_leakage__feature_that_knows_the_answer__fails_and_is_explained() -> None:
    beside: dict[str, Any] = {"importance": 0.62, "on_holdout": {"order": {"estimate": 0.61, "error": 0.1, "n": 900}}}
    judgement = judged(feature("wind", HONEST), feature("arrival", KNOWS, **beside))

    assert judgement.verdict == "failed"
    assert "arrival: AUC 0.9" in judgement.message
    assert "(0.61 on the holdout, importance here 62%)" in judgement.message
    assert "wind" not in judgement.message
    assert "ask when each value is known" in judgement.message
    assert [each["is_suspect"] for each in judgement.detail["features"]] == [True, False]


def test_leakage__ignored_feature__is_not_suspect() -> None:
    assert judged(feature("wind", HONEST), feature("arrival", KNOWS), ignore=("arrival",)).verdict == "passed"


@pytest.mark.parametrize(
    "disguise",
    [
        Y * 3 - 7,
        -Y,
        pa.array(np.where(Y == 1, "late", "fine")),
        pa.array(Y == 1),
        pa.array(Y, mask=Y == 0),
    ],
    ids=["scaled", "turned", "text", "flag", "only known where late"],
)
def test_leakage__label_in_disguise__fails_even_where_everything_is_allowed(disguise: Any) -> None:
    judgement = judged(feature("status", disguise), alone_at_most=1.0)

    assert judgement.verdict == "failed"
    assert "status" in judgement.message


def test_leakage__answer_in_the_middle_of_the_range__fails_although_no_order_shows_it() -> None:
    middle = np.where(Y == 1, RANDOM.uniform(1, 2, N), RANDOM.choice([-1, 1], N) * RANDOM.uniform(5, 9, N))

    assert "by its levels" in judged(feature("status", middle)).message


def test_leakage__names_of_which_each_occurs_once__know_nothing() -> None:
    names = pa.array([f"N{place}" for place in range(N)])

    assert judged(feature("tail", names)).verdict == "passed"


def test_leakage__just_above_the_limit_by_luck__passes() -> None:
    told = {"order": {"estimate": 0.952, "error": 0.1, "n": N}}

    assert judged({**feature("wind", HONEST), "ways": told}).verdict == "passed"
    assert judged({**feature("wind", HONEST), "ways": told}, alone_at_most=0.9).verdict == "failed"


def test_leakage__regression__judges_the_squared_rank_correlation() -> None:
    delay = RANDOM.normal(0, 30, N)
    honest = feature("wind", delay + RANDOM.normal(0, 60, N), delay, is_binary=False)
    squashed = feature("arrival", np.tanh(delay / 30), delay, is_binary=False)
    noisy = feature("landing", delay + RANDOM.normal(0, 3, N), delay, is_binary=False)
    settings: dict[str, Any] = {"measure": "squared_rank_correlation"}

    assert judged(honest, **settings).verdict == "passed"
    assert "it orders the rows as the label itself does" in judged(honest, squashed, **settings).message
    assert "landing: squared rank correlation 0.98" in judged(honest, noisy, **settings).message


def test_leakage__too_few_rows__says_how_many_more() -> None:
    judgement = judged(feature("wind", HONEST[:100], Y[:100]), rows=100)

    assert judgement.verdict == "inconclusive"
    assert "400 more" in judgement.message


def test_leakage__hardly_any_positives__is_inconclusive_and_not_a_suspicion() -> None:
    few = np.zeros(N)
    few[:5] = 1

    assert judged(feature("row", np.arange(N), few)).verdict == "inconclusive"


def test_leakage__values_that_had_not_arrived__fail_and_name_their_view() -> None:
    judgement = judged(feature("wind", HONEST), known=[in_time(late=300)])

    assert judgement.verdict == "failed"
    assert "weather__wind 300 of 600 values were given for instants (2013-02-01 10:00)" in judgement.message
    assert "weather@1" in judgement.message


def test_leakage__late_share_that_the_view_tolerates__passes() -> None:
    assert judged(feature("wind", HONEST), known=[in_time(late=3, limit=0.01)]).verdict == "passed"


def test_leakage__training_values_of_another_time__fail() -> None:
    judgement = judged(feature("wind", HONEST), known=[in_time(different=20)])

    assert judgement.verdict == "failed"
    assert "weather__wind 20 of 500 training values differ" in judgement.message


def test_leakage__history_loaded_later__passes_with_these_words() -> None:
    judgement = judged(feature("wind", HONEST), known=[in_time(cells=0, loaded_later=3)])

    assert judgement.verdict == "passed"
    assert "loaded later, so when it was known is the views' word: weather@1" in judgement.message


def test_leakage__join_that_can_not_be_asked__is_inconclusive() -> None:
    assert judged(feature("wind", HONEST), why="The frame lacks origin.").verdict == "inconclusive"


def test_leakage__no_features_in_the_training_data__is_an_error() -> None:
    assert judged().verdict == "error"
