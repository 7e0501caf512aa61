"""Numbers from rows: what a look sees of versions that are equal, worse, failing, slow, or shine only in training."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from rollout.analysis import (
    BusinessValues,
    CanaryRows,
    CanaryState,
    Promise,
    ShadowRows,
    measure_canary,
    measure_shadow,
)
from rollout.analysis.words import by_chance
from rollout.judge import Measured
from rollout.plan import plan_for

PLAN = plan_for("standard")
NAN = float("nan")


def canary_rows(
    n: int = 6000, *, share: float = 0.5, worse: float = 0.0, failing: float = 0.0, slower: float = 1.0, seed: int = 1
) -> CanaryRows:
    """Traffic of 1,500 entities; the canary's scores are off by ``worse``, it fails in a share ``failing`` of rows."""
    random = np.random.default_rng(seed)
    number = random.integers(0, 1500, n)
    canary = (random.permutation(1500) < 1500 * share)[number]
    truth = random.beta(2, 6, n)
    label = (random.random(n) < truth).astype(float)
    score = np.clip(truth + np.where(canary, worse, 0.0), 0, 1)
    failed = canary & (random.random(n) < failing)
    latency = np.where(random.random(n) < 0.1, random.lognormal(0, 0.4, n) * np.where(canary, slower, 1.0), NAN)
    return CanaryRows(
        entity=[f"N{each}" for each in number],
        canary=canary,
        share=np.full(n, share),
        step=np.full(n, 4),
        failed=failed,
        score=score,
        label=label,
        latency=latency,
    )


def shadow_rows(
    n: int = 4000, *, noise: float = 0.0, failing: float = 0.0, slower: float = 1.0, seed: int = 1
) -> ShadowRows:
    """Requests scored twice; the candidate's scores carry ``noise`` on the logit scale."""
    random = np.random.default_rng(seed)
    truth = random.beta(2, 6, n)
    label = (random.random(n) < truth).astype(float)
    logit = np.log(truth / (1 - truth)) + random.normal(0, noise, n) if noise else np.log(truth / (1 - truth))
    failed = random.random(n) < failing
    timed = np.where(random.random(n) < 0.1, random.lognormal(0, 0.3, n), NAN)
    return ShadowRows(
        entity=[f"N{each}" for each in random.integers(0, 800, n)],
        candidate=np.where(failed, NAN, 1 / (1 + np.exp(-logit))),
        champion=truth,
        candidate_failed=failed,
        champion_failed=np.zeros(n, dtype=bool),
        label=label,
        candidate_latency=timed * slower * random.lognormal(0, 0.1, n),
        champion_latency=timed,
    )


def by_name(measured: list[Measured]) -> dict[str, Measured]:
    return {each.metric: each for each in measured}


def at_canary(rows: CanaryRows) -> dict[str, Measured]:
    return by_name(measure_canary(rows, PLAN.canary, timed=True))


def at_shadow(rows: ShadowRows, *, promise: Promise | None = None, look: int = 3) -> dict[str, Measured]:
    measured = measure_shadow(rows, PLAN.shadow, threshold=0.4, promise=promise, look=look, timed=True)
    return by_name(measured)


def at_plan(rows: CanaryRows, business: Sequence[BusinessValues] = (), **canary: Any) -> dict[str, Measured]:
    plan = plan_for("standard", {"canary": canary})
    return by_name(measure_canary(rows, plan.canary, timed=True, business=business))


def changed(rows: CanaryRows, **columns: Any) -> CanaryRows:
    return dataclasses.replace(rows, **columns)


def revenue(rows: CanaryRows, *, worse: float = 0.0, seed: int = 5, **metric: Any) -> BusinessValues:
    """10 an entity's first row, give or take; the candidate's lower by ``worse``."""
    random = np.random.default_rng(seed)
    first = np.unique(np.array(rows.entity), return_index=True)[1]
    value = random.normal(10, 3, len(first)) - worse * rows.canary[first]
    sizes = {"harm_from": 0.0, "tolerated": 1.0, "unit": "€", **metric}
    return BusinessValues("revenue", "Revenue", np.sort(first), value[np.argsort(first)], **sizes)


def test_canary__equal_versions__are_proven_harmless_on_every_metric() -> None:
    found = at_plan(canary_rows(), tolerated_distance=0.3)
    assert {name: each.verdict for name, each in found.items()} == dict.fromkeys(found, "passed")
    assert set(found) == {"errors", "latency", "loss", "predictions", "distribution", "split"}
    assert {name for name, each in found.items() if not each.guards} == {"distribution"}


def test_canary__each_metric__has_its_two_sizes_and_evidence_in_both_directions() -> None:
    for each in at_canary(canary_rows()).values():
        assert each.harm is not None
        assert each.needed is not None
        if each.metric not in ("split", "errors"):
            assert each.harm_from is not None
            assert each.limit is not None
            assert each.harm_from <= each.limit
            assert each.no_harm is not None


def test_canary__scores_far_off__are_harm_in_loss_and_predictions() -> None:
    found = at_canary(canary_rows(worse=0.35))
    assert found["loss"].verdict == "failed"
    assert found["predictions"].verdict == "failed"
    assert found["errors"].verdict == "passed"
    assert found["loss"].value is not None
    assert found["loss"].value > 0.02
    assert "an increase is proven (" in found["loss"].message


def test_canary__a_little_worse__is_harm_from_one_size_and_tolerated_below_another() -> None:
    rows = canary_rows(20_000, worse=0.1)
    assert at_plan(rows, harm_from_loss_increase=0.0, tolerated_loss_increase=0.05)["loss"].verdict == "failed"
    assert at_plan(rows, harm_from_loss_increase=0.05, tolerated_loss_increase=0.05)["loss"].verdict == "passed"


def test_canary__scores_lower_by_as_much__are_harm_too() -> None:
    rows = canary_rows()
    lower = changed(rows, score=np.clip(rows.score - np.where(rows.canary, 0.35, 0.0), 0, 1))
    assert at_canary(lower)["predictions"].verdict == "failed"


def test_canary__fails_in_a_third_of_its_rows__is_proven_from_few_rows() -> None:
    found = at_canary(canary_rows(800, share=0.05, failing=0.3))
    assert found["errors"].verdict == "failed"
    assert found["errors"].n < 80


def test_canary__errors__are_told_with_both_counts_and_how_rarely_chance_does_that() -> None:
    random = np.random.default_rng(3)
    canary = random.random(10_000) < 0.1
    rows = changed(
        canary_rows(10_000),
        entity=[str(each) for each in range(10_000)],
        canary=canary,
        share=np.full(10_000, 0.1),
        failed=random.random(10_000) < np.where(canary, 0.04, 0.01),
    )
    said = at_canary(rows)["errors"].message
    pattern = (
        r"Errors: \d+ of [\d,]+ rows of the candidate \([\d.]+%\) against \d+ of [\d,]+ of the champion "
        r"\([\d.]+%\): more than the champion's is proven \(1 in [\d,]+ by chance\)\."
    )
    assert re.fullmatch(pattern, said), said


def test_canary__one_entity_that_fails_again_and_again__is_one_error() -> None:
    rows = canary_rows()
    victim = rows.entity[int(np.flatnonzero(rows.canary)[0])]
    failing = changed(rows, failed=np.array([each == victim for each in rows.entity]))
    assert at_plan(failing, tolerated_error_rate=0.0001)["errors"].verdict == "inconclusive"


def test_canary__rare_errors_in_many_rows__are_below_what_matters() -> None:
    found = at_canary(canary_rows(20_000, failing=0.0004))
    assert found["errors"].verdict == "passed"


def test_canary__slower_beyond_ratio_and_milliseconds__is_harm_told_in_milliseconds() -> None:
    found = at_canary(canary_rows(slower=60.0))["latency"]
    assert found.verdict == "failed"
    assert found.limit is not None
    assert 15 < found.limit < 25
    assert "slower by more than 20 ms is proven" in found.message
    assert re.search(r"typically [\d.]+ ms against the champion's [\d.]+ ms", found.message), found.message


def test_canary__four_times_slower_but_micro_differences__is_no_harm() -> None:
    assert at_canary(canary_rows(slower=4.0))["latency"].verdict == "passed"


def test_canary__slow_while_it_was_not_warm_yet__is_not_held_against_it() -> None:
    rows = canary_rows(slower=60.0)
    assert at_canary(changed(rows, warm=~rows.canary))["latency"].verdict == "inconclusive"


def test_canary__requests_that_name_nobody__are_left_out_of_what_is_compared_by_entity() -> None:
    rows = canary_rows(worse=0.35, failing=0.2)
    nobody = changed(rows, sticky=np.zeros(len(rows), dtype=bool), entity=[str(each) for each in range(len(rows))])
    found = at_plan(nobody, [revenue(rows, worse=5.0)])
    left_out = {name for name, each in found.items() if each.n == 0}
    assert left_out == {"loss", "predictions", "distribution", "revenue"}
    assert found["errors"].verdict == "failed"


def test_canary__wider_scores__are_another_distribution_that_the_mean_does_not_see() -> None:
    rows = canary_rows(20_000)
    wide = changed(rows, entity=[str(each) for each in range(20_000)], canary=np.arange(20_000) % 2 == 0)
    middle = wide.score.mean()
    wide = changed(wide, score=np.where(wide.canary, middle + 1.8 * (wide.score - middle), wide.score))
    found = at_plan(wide, distribution="guard", harm_from_distance=0.1, tolerated_distance=0.2)
    assert found["distribution"].guards
    assert found["distribution"].verdict == "failed"
    assert found["predictions"].verdict == "passed"
    assert at_plan(wide)["distribution"].guards is False


def test_canary__a_difference_smaller_than_the_effect_asked_for__never_rolls_back() -> None:
    random = np.random.default_rng(6)
    rows = changed(
        canary_rows(60_000),
        entity=[str(each) for each in range(60_000)],
        canary=random.random(60_000) < 0.5,
        score=random.normal(size=60_000),
    )
    rows = changed(rows, score=rows.score + 0.1 * rows.canary)
    found = at_plan(rows, distribution="guard", harm_from_distance=0.1, tolerated_distance=0.2)["distribution"]
    assert found.verdict == "passed"
    assert at_plan(rows, distribution="guard", harm_from_distance=0.02)["distribution"].verdict == "failed"


def test_canary__business_metric__is_judged_by_its_own_sizes_and_direction() -> None:
    rows = canary_rows()
    assert at_plan(rows, [revenue(rows)])["revenue"].verdict == "passed"
    lower = at_plan(rows, [revenue(rows, worse=2.0)])["revenue"]
    assert lower.verdict == "failed"
    assert lower.value == pytest.approx(-2.0, abs=0.5)
    assert "Revenue on " in lower.message
    assert "worse is proven" in lower.message
    cost = at_plan(rows, [revenue(rows, worse=2.0, more_is_better=False)])["revenue"]
    assert cost.verdict == "passed"
    report = at_plan(rows, [revenue(rows, worse=2.0, guards=False)])["revenue"]
    assert (report.verdict, report.guards) == ("failed", False)


def test_canary__business_metric_with_heavy_tails__is_compared_on_logarithms_in_its_own_unit() -> None:
    rows = canary_rows(20_000, share=0.5)
    random = np.random.default_rng(7)
    row = np.arange(20_000)
    value = random.lognormal(3, 1.0, 20_000)
    sizes: dict[str, Any] = {"harm_from": 0.0, "tolerated": 3.0, "heavy_tailed": True}
    same = at_plan(rows, [BusinessValues("revenue", "Revenue", row, value, **sizes)])["revenue"]
    assert same.verdict == "passed"
    assert same.value == pytest.approx(1.0, abs=0.05)
    fifth_less = BusinessValues("revenue", "Revenue", row, value * np.where(rows.canary, 0.8, 1.0), **sizes)
    assert at_plan(rows, [fifth_less])["revenue"].verdict == "failed"


def test_business_values__size_on_the_logarithmic_scale__is_what_it_is_from_the_typical_value_on() -> None:
    metric = BusinessValues("r", "R", np.arange(1), np.ones(1), harm_from=0.0, tolerated=5.0, heavy_tailed=True)
    champion = float(metric.harmful(np.array([20.0]))[0])
    assert metric.on_scale(5.0, champion=champion) == pytest.approx(math.log(21 / 16))
    fewer = dataclasses.replace(metric, more_is_better=False)
    champion = float(fewer.harmful(np.array([20.0]))[0])
    assert fewer.on_scale(5.0, champion=champion) == pytest.approx(math.log(26 / 21))


def test_canary__no_rows__proves_nothing() -> None:
    found = at_canary(canary_rows(0))
    assert {each.verdict for each in found.values()} == {"inconclusive"}
    assert {each.n for each in found.values()} == {0}


def test_canary__without_outcomes__loss_is_inconclusive() -> None:
    rows = canary_rows()
    blind = changed(rows, label=np.full(len(rows.label), NAN))
    assert at_canary(blind)["loss"].verdict == "inconclusive"
    assert at_canary(blind)["loss"].n == 0


def test_canary__gets_twice_its_share__is_an_error_of_the_split() -> None:
    rows = canary_rows(share=0.5)
    found = at_canary(changed(rows, share=np.full(len(rows.share), 0.25)))["split"]
    assert found.verdict == "error"
    assert "can not be compared" in found.message


def test_canary__loss_by_day__waits_for_days_and_never_is_surer_than_by_entity() -> None:
    rows = canary_rows()
    one_day = at_plan(changed(rows, day=np.zeros(len(rows), dtype=np.int64)), loss_cluster="day")["loss"]
    assert one_day.verdict == "inconclusive"
    days = at_plan(changed(rows, day=np.arange(len(rows)) // 300), loss_cluster="day")["loss"]
    alone = at_plan(rows)["loss"]
    assert days.no_harm is not None
    assert alone.no_harm is not None
    assert days.no_harm <= alone.no_harm
    assert days.low is not None
    assert alone.low is not None
    assert days.low <= alone.low


def test_canary__same_rows_twice__say_the_same() -> None:
    assert at_canary(canary_rows()) == at_canary(canary_rows())


@pytest.mark.parametrize("pieces", [2, 7, 60])
def test_state__rows_in_pieces_and_outcomes_that_come_late__says_what_all_at_once_says(pieces: int) -> None:
    rows = changed(
        canary_rows(worse=0.1, failing=0.02),
        sticky=np.random.default_rng(8).random(6000) < 0.9,
        step=np.repeat([1, 2], 3000),
        day=np.arange(6000) // 500,
    )
    plan = plan_for("standard", {"canary": {"loss_cluster": "day"}}).canary
    state, values = CanaryState(plan), revenue(rows, worse=0.5)
    ends = np.linspace(0, 6000, pieces + 1).astype(int)
    for begin, end in itertools.pairwise(ends.tolist()):
        state.see(rows[begin:end])
        state.know(np.where(np.arange(end) < end - 700, rows.label[:end], NAN))
        there = values.row < end - 300
        state.measure(
            timed=True, business=[dataclasses.replace(values, row=values.row[there], value=values.value[there])]
        )
    state.know(rows.label)
    assert_same(state.measure(timed=True, business=[values]), measure_canary(rows, plan, timed=True, business=[values]))


def test_state__an_outcome_that_is_corrected__counts_as_corrected() -> None:
    rows = canary_rows()
    state = CanaryState(PLAN.canary)
    state.see(rows)
    state.know(1 - rows.label)
    state.know(rows.label)
    assert_same(state.measure(timed=True), measure_canary(rows, PLAN.canary, timed=True))


def assert_same(found: list[Measured], expected: list[Measured]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert (one.metric, one.verdict, one.n) == (other.metric, other.verdict, other.n)
        for name in ("value", "low", "high", "limit", "harm", "no_harm"):
            mine, theirs = getattr(one, name), getattr(other, name)
            same = mine == theirs if theirs is None else mine == pytest.approx(theirs, rel=1e-9, abs=1e-9)
            assert same, (one.metric, name, mine, theirs)


@pytest.mark.parametrize(
    ("evidence", "said"),
    [
        (math.log(66.9), "1 in 66 by chance"),
        (math.log(20_600), "1 in 20,000 by chance"),
        (math.log(5e9), "less than 1 in a billion by chance"),
        (None, "1 in 1 by chance"),
    ],
)
def test_by_chance__evidence__is_told_as_odds_never_larger_than_they_are(evidence: float | None, said: str) -> None:
    assert by_chance(evidence) == said


def test_shadow__the_same_model__is_proven_harmless() -> None:
    found = at_shadow(shadow_rows(noise=0.05), promise=Promise(0.70, 0.67, 0.73))
    assert {name: each.verdict for name, each in found.items()} == dict.fromkeys(found, "passed")
    assert not found["agreement"].guards


def test_shadow__noisy_scores__are_harm_against_the_champion() -> None:
    found = at_shadow(shadow_rows(noise=2.5))
    assert found["loss"].verdict == "failed"
    assert found["loss"].value is not None
    assert found["loss"].value > 0.01


def test_shadow__promised_more_than_it_shows__breaks_its_promise() -> None:
    found = at_shadow(shadow_rows(), promise=Promise(0.90, 0.88, 0.92))["kept_promise"]
    assert found.verdict == "failed"
    assert "Promised AUC 0.900 [0.880, 0.920], shows 0.7" in found.message


def test_shadow__promised_a_gain_over_the_champion_that_is_not_there__breaks_its_promise() -> None:
    found = at_shadow(shadow_rows(noise=0.05), promise=Promise(0.10, 0.08, 0.12, over_champion=True))["kept_promise"]
    assert found.verdict == "failed"
    assert "Promised AUC over the champion +0.100 [+0.080, +0.120], shows" in found.message


def test_shadow__a_hard_week_for_both_versions__breaks_no_promised_gain() -> None:
    rows = shadow_rows(noise=0.05)
    coin = np.random.default_rng(5).integers(0, 2, len(rows.label)).astype(float)
    hard = ShadowRows(**{**rows.__dict__, "label": coin})  # nobody can tell anything this week
    alone = at_shadow(hard, promise=Promise(0.80, 0.78, 0.82))["kept_promise"]
    gain = at_shadow(hard, promise=Promise(0.01, 0.0, 0.02, over_champion=True))["kept_promise"]
    assert (alone.verdict, gain.verdict) == ("failed", "passed")


def test_shadow__a_little_below_its_promise_on_few_rows__is_not_clear_yet() -> None:
    found = at_shadow(shadow_rows(300), promise=Promise(0.80, 0.78, 0.82))["kept_promise"]
    assert found.verdict == "inconclusive"


def test_shadow__no_outcomes_of_both_kinds__promises_nothing() -> None:
    rows = shadow_rows(200)
    all_late = ShadowRows(**{**rows.__dict__, "label": np.ones(200)})
    found = at_shadow(all_late, promise=Promise(0.80, 0.78, 0.82))["kept_promise"]
    assert found.verdict == "inconclusive"
    assert found.n == 0


def test_shadow__later_looks__ask_for_more_evidence() -> None:
    rows, promise = shadow_rows(1500), Promise(0.75, 0.73, 0.77)
    first = at_shadow(rows, promise=promise, look=1)["kept_promise"]
    tenth = at_shadow(rows, promise=promise, look=10)["kept_promise"]
    assert first.high is not None
    assert tenth.high is not None
    assert first.high < tenth.high


def test_shadow__fails_in_a_share_of_rows__is_harm() -> None:
    found = at_shadow(shadow_rows(1500, failing=0.05))
    assert found["errors"].verdict == "failed"


def test_shadow__much_slower__is_harm() -> None:
    assert at_shadow(shadow_rows(slower=80.0))["latency"].verdict == "failed"


def test_shadow__no_rows__proves_nothing() -> None:
    found = at_shadow(shadow_rows(0), promise=Promise(0.8, 0.78, 0.82))
    assert {each.verdict for each in found.values()} == {"inconclusive"}
