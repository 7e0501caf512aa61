"""Numbers from rows: what a look sees of versions that are equal, worse, failing, slow, or shine only in training."""

from __future__ import annotations

import numpy as np

from rollout.analysis import CanaryRows, Promise, ShadowRows, measure_canary, measure_shadow
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


def test_canary__equal_versions__are_proven_harmless_on_every_metric() -> None:
    found = at_canary(canary_rows())
    assert {name: each.verdict for name, each in found.items()} == dict.fromkeys(found, "passed")
    assert set(found) == {"errors", "latency", "loss", "predictions", "split"}


def test_canary__scores_far_off__are_harm_in_loss_and_predictions() -> None:
    found = at_canary(canary_rows(worse=0.35))
    assert found["loss"].verdict == "failed"
    assert found["predictions"].verdict == "failed"
    assert found["errors"].verdict == "passed"
    assert found["loss"].value is not None
    assert found["loss"].value > 0.02
    assert "is proven" in found["loss"].message


def test_canary__fails_in_a_third_of_its_rows__is_proven_from_few_rows() -> None:
    found = at_canary(canary_rows(800, share=0.05, failing=0.3))
    assert found["errors"].verdict == "failed"
    assert found["errors"].n < 80


def test_canary__rare_errors_in_many_rows__are_below_what_matters() -> None:
    found = at_canary(canary_rows(20_000, failing=0.0004))
    assert found["errors"].verdict == "passed"


def test_canary__slower_beyond_ratio_and_milliseconds__is_harm() -> None:
    found = at_canary(canary_rows(slower=60.0))
    assert found["latency"].verdict == "failed"
    assert found["latency"].limit is not None
    assert 15 < found["latency"].limit < 25


def test_canary__four_times_slower_but_micro_differences__is_no_harm() -> None:
    assert at_canary(canary_rows(slower=4.0))["latency"].verdict == "passed"


def test_canary__no_rows__proves_nothing() -> None:
    found = at_canary(canary_rows(0))
    assert {each.verdict for each in found.values()} == {"inconclusive"}
    assert {each.n for each in found.values()} == {0}


def test_canary__without_outcomes__loss_is_inconclusive() -> None:
    rows = canary_rows()
    blind = CanaryRows(**{**rows.__dict__, "label": np.full(len(rows.label), NAN)})
    assert at_canary(blind)["loss"].verdict == "inconclusive"
    assert at_canary(blind)["loss"].n == 0


def test_canary__gets_twice_its_share__is_an_error_of_the_split() -> None:
    rows = canary_rows(share=0.5)
    lied_to = CanaryRows(**{**rows.__dict__, "share": np.full(len(rows.share), 0.25)})
    found = at_canary(lied_to)["split"]
    assert found.verdict == "error"
    assert "can not be compared" in found.message


def test_canary__same_rows_twice__say_the_same() -> None:
    assert at_canary(canary_rows()) == at_canary(canary_rows())


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
