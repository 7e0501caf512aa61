"""Latency judged from numbers: every limit, the champion, and what an unsteady machine does to each."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from gates.judge import Judgement, latency
from gates.policy import LatencyCheck

FAST = LatencyCheck(id="latency", p95_ms=50)
MEDIAN = LatencyCheck(id="latency", p50_ms=50)
RATIO = LatencyCheck(id="latency", ratio_to_champion=1.2)


Calls = list[float] | list[None] | list[float | None]


def around(milliseconds: float, n: int = 200, *, seed: int = 1, spread: float = 0.1) -> list[float]:
    """Calls of about so many milliseconds."""
    return [*(milliseconds * np.random.default_rng(seed).lognormal(0, spread, n))]


def measured(
    candidate: Calls,
    champion: Calls | None = None,
    control: Calls | None = None,
    /,
    **changes: Any,
) -> dict[str, Any]:
    """What was collected; without a champion the control is a copy of the candidate. Unless given it is steady."""
    twin = candidate if champion is None else champion
    single = {"candidate": candidate, "control": twin if control is None else control}
    if champion is not None:
        single["champion"] = champion
    batch = {name: around(10, 60) for name in single}
    return {
        "single": single,
        "batch": batch,
        "batch_rows": 100,
        "beside_champion": None,
        "control_of": "candidate" if champion is None else "champion",
        "champion": "" if champion is None else "late-arrival 3",
        "champion_missing": "",
        "workload": {"rows": 200, "digest": "ab" * 32, "seed": 7, "columns": ["x"]},
        "budget_seconds": 4.0,
        **changes,
    }


def judge(check: LatencyCheck, *args: Any, **changes: Any) -> Judgement:
    return latency.judge(check, measured(*args, **changes))


# ---------------------------------------------------------------------- limits in milliseconds


def test_latency__within_the_limit__passes_with_its_numbers() -> None:
    judgement = judge(FAST, around(10), around(5))

    assert judgement.verdict == "passed"
    assert "p95" in judgement.message
    assert "is within 50 ms" in judgement.message
    assert judgement.value == pytest.approx(np.quantile(around(10), 0.95))
    assert (judgement.low or 0) < (judgement.value or 0) < (judgement.high or 0)
    assert judgement.n == 200


def test_latency__above_the_limit__fails() -> None:
    judgement = judge(FAST, around(100), around(5))

    assert judgement.verdict == "failed"
    assert "is above 50 ms" in judgement.message


def test_latency__an_eighth_of_the_calls_slow__fails() -> None:
    times = np.full(400, 10.0)
    times[::8] = 80.0

    assert judge(FAST, times.tolist()).verdict == "failed"


def test_latency__near_the_limit__is_inconclusive_and_says_how_many_calls_would_tell() -> None:
    times = np.full(100, 10.0)
    times[::33] = 80.0  # 4 of 100 slow, 5 allowed
    judgement = judge(FAST, times.tolist())

    assert judgement.verdict == "inconclusive"
    assert "about 1,177 more calls than 100 would tell" in judgement.message


@pytest.mark.parametrize("limit", ["p50_ms", "p95_ms", "p99_ms", "batch_p95_ms"])
def test_latency__every_limit__can_fail(limit: str) -> None:
    strict = LatencyCheck(id="latency", calls=400, **{limit: 1.0})
    generous = LatencyCheck(id="latency", calls=400, **{limit: 1000.0})

    assert judge(strict, around(10, 400)).verdict == "failed"
    assert judge(generous, around(10, 400)).verdict == "passed"


def test_latency__batches_slow_and_single_rows_fast__fails_on_the_batches() -> None:
    both = LatencyCheck(id="latency", p95_ms=50, batch_p95_ms=50)
    slow = {name: around(400, 60) for name in ("candidate", "control")}
    judgement = judge(both, around(10), batch=slow)

    assert judgement.verdict == "failed"
    assert "batch p95" in judgement.message
    assert judgement.detail["binding"] == "batch_p95"
    assert (judgement.value or 0) > 300


def test_latency__two_limits__the_worse_counts_and_is_the_one_that_is_shown() -> None:
    both = LatencyCheck(id="latency", p50_ms=5, p95_ms=50)
    judgement = judge(both, around(10))

    assert judgement.verdict == "failed"
    assert judgement.detail["binding"] == "p50"
    assert judgement.value == pytest.approx(10, rel=0.05)


def test_latency__both_limits_kept__the_nearer_one_is_shown() -> None:
    assert judge(LatencyCheck(id="latency", p50_ms=1000, p95_ms=20), around(10)).detail["binding"] == "p95"


# ---------------------------------------------------------------------- few calls


def test_latency__too_few_calls__is_inconclusive() -> None:
    judgement = judge(FAST, around(1, 5))

    assert judgement.verdict == "inconclusive"
    assert "about 47 more calls than 5 would tell (raise calls and budget_seconds)" in judgement.message


def test_latency__none_answered__fails() -> None:
    judgement = judge(FAST, [None, None, None], around(5, 3))

    assert judgement.verdict == "failed"
    assert "it failed 3 of 3 calls, at most 1% may" in judgement.message
    assert (judgement.value, judgement.low, judgement.high) == (None, None, None)


def test_latency__so_slow_that_three_calls_used_up_the_time__fails() -> None:
    judgement = judge(FAST, [900.0] * 3)

    assert judgement.verdict == "failed"
    assert "only 3 calls fitted, 3 of them slower" in judgement.message


def test_latency__fast_but_too_few_calls_to_know_the_tail__is_inconclusive() -> None:
    assert judge(FAST, [1.0] * 20).verdict == "inconclusive"


def failing(every: int, n: int = 1000) -> Calls:
    """Fast calls, of which the model failed one in ``every``."""
    return [None if i % every == 0 else 10.0 for i in range(n)]


@pytest.mark.parametrize(
    "check", [FAST, MEDIAN, RATIO, LatencyCheck(id="latency", p99_ms=50, calls=300)], ids=lambda each: each.rule()
)
def test_latency__failed_calls__more_than_one_in_a_hundred_fail_any_check(check: LatencyCheck) -> None:
    judgement = judge(check, failing(50), around(10, 1000))

    assert judgement.verdict == "failed"
    assert "it failed 20 of 1,000 calls, at most 1% may" in judgement.message
    assert judgement.detail["failed"]["single"] == 20
    json.dumps(dataclasses.asdict(judgement), allow_nan=False)


def test_latency__four_of_five_calls_failed__fails_whatever_the_control_says() -> None:
    times = [10.0 if i % 5 == 0 else None for i in range(200)]
    judgement = judge(FAST, times, None, [None] * 200)

    assert judgement.verdict == "failed"
    assert "it failed 160 of 200 calls" in judgement.message
    assert judgement.detail["quantiles"]["candidate"]["p50"] == {"estimate": None, "low": None, "high": None}


def test_latency__few_failed_calls__count_as_slower_than_any_limit() -> None:
    tail = LatencyCheck(id="latency", p99_ms=50, calls=300)

    assert judge(tail, [10.0] * 1000).verdict == "passed"
    one_in_a_hundred = judge(tail, failing(100))
    assert (one_in_a_hundred.verdict, one_in_a_hundred.n) == ("inconclusive", 1000)
    assert "of which it failed 10 (counted as slower than any)" in one_in_a_hundred.message
    assert judge(FAST, failing(100)).verdict == "passed"


def test_latency__batch_calls_failed__fail_a_limit_on_batches_only() -> None:
    batch = {name: [None if i % 10 == 0 else 10.0 for i in range(60)] for name in ("candidate", "control")}
    limited = LatencyCheck(id="latency", batch_p95_ms=50)
    judgement = judge(limited, around(10), batch=batch)

    assert judgement.verdict == "failed"
    assert "it failed 6 of 60 batch calls" in judgement.message
    assert judge(FAST, around(10), batch=batch).verdict == "passed"


# ---------------------------------------------------------------------- the champion


def test_latency__as_fast_as_the_champion__passes_with_the_ratio_and_its_interval() -> None:
    judgement = judge(RATIO, around(10), around(10, seed=2))

    assert judgement.verdict == "passed"
    assert "× the champion's is within 1.2" in judgement.message
    assert judgement.detail["ratio_to_champion"]["low"] < 1 < judgement.detail["ratio_to_champion"]["high"]


def test_latency__twice_as_slow_as_the_champion__fails() -> None:
    judgement = judge(RATIO, around(20), around(10, seed=2))

    assert judgement.verdict == "failed"
    assert judgement.value == pytest.approx(2, rel=0.1)


def test_latency__ratio_around_its_limit__is_inconclusive() -> None:
    assert judge(RATIO, around(12, spread=0.5), around(10, seed=2, spread=0.5)).verdict == "inconclusive"


def test_latency__no_champion_yet__has_nothing_to_compare_with_and_passes() -> None:
    judgement = judge(RATIO, around(10))

    assert judgement.verdict == "passed"
    assert "there is no champion" in judgement.message


def test_latency__champion_that_can_not_be_timed__is_an_error_of_the_ratio_only() -> None:
    gone = {"champion": "late-arrival 3", "champion_missing": "Its file is gone."}

    assert judge(RATIO, around(10), **gone).verdict == "error"
    assert judge(FAST, around(10), **gone).verdict == "passed"
    assert judge(LatencyCheck(id="latency", p50_ms=1, ratio_to_champion=2), around(10), **gone).verdict == "failed"


def test_latency__champion_too_slow_to_be_timed_often__few_rounds_beside_it_show_which_is_faster() -> None:
    beside = {"candidate": around(5, 8), "champion": around(900, 8)}
    judgement = judge(RATIO, around(5), beside_champion=beside, champion="late-arrival 3")

    assert judgement.verdict == "passed"
    assert "too slow to be timed as often" in judgement.message


def test_latency__three_rounds_beside_the_champion__do_not_decide() -> None:
    beside = {"candidate": around(5, 3), "champion": around(900, 3)}
    assert judge(RATIO, around(5), beside_champion=beside, champion="late-arrival 3").verdict == "inconclusive"


# ---------------------------------------------------------------------- the A/A control


@pytest.mark.parametrize("candidate", [10.0, 100.0])
@pytest.mark.parametrize("check", [FAST, MEDIAN, RATIO])
def test_latency__copies_differ_at_the_median__is_inconclusive_whatever_was_measured(
    check: LatencyCheck, candidate: float
) -> None:
    judgement = judge(check, around(candidate), around(10, seed=2), around(14, seed=3))

    assert judgement.verdict == "inconclusive"
    assert "differed by a factor of 1.4" in judgement.message
    assert "up to 1.25 is accepted" in judgement.message
    assert "run the gates again when it is quieter" in judgement.message


def test_latency__control_that_is_faster_than_its_twin__is_as_unsteady() -> None:
    assert judge(FAST, around(10), around(14, seed=2), around(10, seed=3)).verdict == "inconclusive"


def test_latency__even_its_fastest_call_too_slow__is_inconclusive_on_an_unsteady_machine_and_says_so() -> None:
    judgement = judge(FAST, around(500), around(10, seed=2), around(14, seed=3))

    assert judgement.verdict == "inconclusive"
    assert "even its fastest call took" in judgement.message


def tailed(slow: float, n: int = 200, every: int = 8) -> list[float]:
    """A steady median and a tail."""
    times = np.asarray(around(10, n))
    times[::every] = slow
    return [*times]


def test_latency__tails_differ_far_from_the_limit__still_passes() -> None:
    judgement = judge(FAST, around(10), tailed(20), tailed(40))

    assert judgement.detail["control_ratio"]["p95"] == pytest.approx(2.0)
    assert judgement.verdict == "passed"


def test_latency__tails_differ_near_the_limit__is_inconclusive() -> None:
    judgement = judge(FAST, around(30), tailed(20), tailed(40))

    assert judgement.verdict == "inconclusive"
    assert "at p95" in judgement.message


def test_latency__tails_differ_and_a_tail_is_too_slow__is_inconclusive_not_failed() -> None:
    assert judge(FAST, tailed(80), tailed(20), tailed(40)).verdict == "inconclusive"
    assert judge(FAST, tailed(80), tailed(40), tailed(40)).verdict == "failed"


def test_latency__tails_differ_and_most_calls_are_too_slow__fails_on_the_median() -> None:
    assert judge(FAST, around(100), tailed(20), tailed(40)).verdict == "failed"


def test_latency__tails_differ__does_not_matter_for_medians() -> None:
    assert judge(MEDIAN, around(10), tailed(20), tailed(40)).verdict == "passed"
    assert judge(RATIO, around(10), tailed(20), tailed(40)).verdict == "passed"


def test_latency__batches_of_the_copies_differ__only_batches_are_in_doubt() -> None:
    unsteady = {"candidate": around(10, 60), "control": around(16, 60, seed=2)}
    batches = LatencyCheck(id="latency", batch_p95_ms=50)

    assert judge(batches, around(10), batch=unsteady).verdict == "inconclusive"
    assert judge(FAST, around(10), batch=unsteady).verdict == "passed"


def test_latency__wider_tolerance__accepts_the_control() -> None:
    wide = LatencyCheck(id="latency", p95_ms=50, control_tolerance=0.6)
    assert judge(wide, around(10), around(10, seed=2), around(14, seed=3)).verdict == "passed"


def test_latency__several_attempts__are_told() -> None:
    attempts = [{"calls": 200, "control_ratio": {}}] * 3
    judgement = judge(FAST, around(10), around(10, seed=2), around(14, seed=3), attempts=attempts)

    assert "in each of 3 attempts" in judgement.message
    assert judgement.detail["attempts"] == 3


def test_latency__no_call_of_the_control__is_inconclusive_and_does_not_blame_the_machine() -> None:
    judgement = judge(FAST, around(10), around(10, seed=2), [None] * 200)

    assert judgement.verdict == "inconclusive"
    assert "there is no control" in judgement.message
    assert "quieter" not in judgement.message


# ---------------------------------------------------------------------- what is shown


def test_latency__detail__has_quantiles_and_a_common_histogram_of_all_models() -> None:
    detail = judge(FAST, around(10), around(5)).detail

    assert set(detail["quantiles"]) == {"candidate", "champion", "control"}
    assert set(detail["quantiles"]["candidate"]["p95"]) == {"estimate", "low", "high"}
    assert sum(detail["histogram"]["counts"]["champion"]) == 200
    assert len(detail["histogram"]["edges"]) == len(detail["histogram"]["counts"]["champion"]) + 1
    assert detail["workload"]["digest"] == "ab" * 32


def test_latency__judged_again__is_the_same() -> None:
    numbers = measured(around(10), around(9, seed=2))
    assert latency.judge(RATIO, numbers) == latency.judge(RATIO, numbers)
