"""How often canaries are judged wrongly, and how soon rightly: simulated traffic whose truth is known.

    make bench BENCH=canary_truth                        # some ten minutes on one core
    make bench BENCH=canary_truth ARGS='--sims 2000'     # the whole proof, some hours
    make bench BENCH=canary_truth ARGS='--only null days'

What judges is the product's own code: a look's running state (``rollout.analysis.CanaryState``), every metric, and
``conclude_canary``. A canary gets 10 % of some 100,000 requests, and is looked at 100 times, after every 100 that it
answered. *False*: rolled back although both versions are the same. *Detection*: requests that the candidate had
answered when it was rolled back; the 90th percentile counts those that never were. The plan is as watchful as a plan
can be: harm begins at any difference at all, and scores that are distributed differently roll back too.

A share that must stay below a goal is judged with its upper 95 % limit (Clopper and Pearson) where the goal says so.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.stats import beta

from benchmarks.figures import Figure, report
from rollout.analysis import BusinessValues, CanaryRows, CanaryState
from rollout.analysis.words import predictions
from rollout.judge import Kind, Progress, conclude_canary
from rollout.maturity import matured
from rollout.plan import RolloutPlan, plan_for
from stats.sequential import paired_mean

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

SHARE, CANARY, EVERY = 0.1, 10_000, 100
REQUESTS = 104_000
"""So many of both versions that the candidate answers 10,000 of them, whatever its luck."""
NEVER = 10**9
WATCHFUL: dict[str, Any] = {
    "steps": [{"share": SHARE, "min_hours": 0, "min_rows": NEVER}],
    "harm_from_error_ratio": 1.0,
    "tolerated_error_ratio": 2.0,
    "harm_from_latency_ratio": 1.0,
    "tolerated_latency_ratio": 1.1,
    "tolerated_latency_ms": 0.0,
    "harm_from_loss_increase": 0.0,
    "tolerated_loss_increase": 0.02,
    "harm_from_prediction_shift": 0.0,
    "tolerated_prediction_shift": 0.1,
    "distribution": "guard",
    "harm_from_distance": 0.03,
}
"""Never promoted (no step has so many rows): what is asked is whether it is rolled back."""
PLAN = plan_for("standard", {"canary": WATCHFUL})
START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Traffic:
    """Requests in the order of time, and what becomes known of them. A standard normal score, unless told otherwise."""

    canary: BoolArray
    share: FloatArray
    step: IntArray
    entity: IntArray
    failed: BoolArray
    score: FloatArray
    loss: FloatArray
    latency: FloatArray
    converted: FloatArray
    day: IntArray | None = None
    known: Callable[[int], BusinessValues] | None = None
    ends: IntArray = field(init=False)

    def __post_init__(self) -> None:
        self.ends = np.flatnonzero(self.canary)[EVERY - 1 : CANARY : EVERY] + 1

    def rows(self) -> CanaryRows:
        return CanaryRows(
            entity=self.entity.tolist(),
            canary=self.canary,
            share=self.share,
            step=self.step,
            failed=self.failed,
            score=self.score,
            label=self.score - np.sqrt(self.loss),
            latency=self.latency,
            day=self.day,
        )

    def business(self, end: int) -> BusinessValues:
        """Conversions, known at once, unless the case says when they are."""
        return self.known(end) if self.known else conversions(np.arange(end), self.converted[:end])


def conversions(row: IntArray, value: FloatArray, **more: Any) -> BusinessValues:
    return BusinessValues("conversion", "Conversion", row, value, harm_from=0.0, tolerated=0.02, **more)


def traffic(random: np.random.Generator, *, n: int = REQUESTS, **changes: Any) -> Traffic:
    """Independent requests of two equal versions; ``changes`` are columns, or functions of the arm that make them."""
    share = changes.pop("share", np.full(n, SHARE))
    canary = changes.pop("canary", random.random(n) < share)
    columns: dict[str, Any] = {
        "step": np.ones(n, dtype=np.int64),
        "entity": np.arange(n),
        "failed": lambda arm: random.random(n) < 0.01,
        "score": lambda arm: random.normal(size=n),
        "loss": lambda arm: random.gamma(0.5, 0.3, n),
        "latency": lambda arm: random.lognormal(3.0, 0.5, n),
        "converted": lambda arm: (random.random(n) < 0.1).astype(float),
        **changes,
    }
    made = {name: column(canary) if callable(column) else column for name, column in columns.items()}
    return Traffic(canary=canary, share=share, **made)


@dataclass(frozen=True)
class Watched:
    """How a canary ended, after how many requests of the candidate; None: it did not."""

    kind: Kind | None
    canary_rows: int
    failed: tuple[str, ...] = ()


def watch(seen: Traffic, plan: RolloutPlan = PLAN) -> Watched:
    """Look after every 100 requests of the candidate, until something follows."""
    state, rows, begin = CanaryState(plan.canary), seen.rows(), 0
    for end in seen.ends.tolist():
        state.see(rows[begin:end])
        state.know(rows.label[:end])
        measured = state.measure(timed=True, business=[seen.business(end)])
        progress = Progress(1.0, state.candidate_rows, 1.0, stage_rows=state.candidate_rows)
        concluded = conclude_canary(measured, progress, plan, step=1)
        if concluded.kind != Kind.WAIT:
            return Watched(
                concluded.kind,
                state.candidate_rows,
                tuple(each.metric for each in measured if each.verdict == "failed"),
            )
        begin = end
    return Watched(None, state.candidate_rows)


# ---------------------------------------------------------------------- nothing to be found


def sticky_users(random: np.random.Generator) -> Traffic:
    """20 requests each, of which 30 % of the variance is the user's; some users fail far more often than others."""
    n = REQUESTS
    users = n // 20
    user = random.permutation(np.repeat(np.arange(users), 20))
    mine = {name: random.normal(size=users)[user] for name in ("score", "loss", "latency")}

    def mixed(name: str) -> FloatArray:
        mixture: FloatArray = math.sqrt(0.3) * mine[name] + math.sqrt(0.7) * random.normal(size=n)
        return mixture

    return traffic(
        random,
        canary=(random.random(users) < SHARE)[user],
        entity=user,
        failed=random.random(n) < random.beta(0.1, 9.9, users)[user],
        score=mixed("score"),
        loss=np.square(0.5 + 0.3 * mixed("loss")),
        latency=np.exp(3 + 0.5 * mixed("latency")),
        converted=(random.random(n) < random.beta(0.5, 4.5, users)[user]).astype(float),
    )


def ramp_with_drift(random: np.random.Generator) -> Traffic:
    """5, 10, 25, 50 % while errors rise from .5 to 3 %, replies get slower and scores move by a standard deviation."""
    share = np.repeat([0.05, 0.1, 0.25, 0.5], 11_300)
    n = len(share)
    late = np.linspace(0, 1, n)
    return traffic(
        random,
        n=n,
        share=share,
        step=np.repeat(np.arange(1, 5), 11_300),
        failed=random.random(n) < 0.005 + 0.025 * late,
        score=random.normal(size=n) + late,
        loss=random.gamma(0.5, 0.3, n) * (1 + late),
        latency=random.lognormal(3.0, 0.5, n) * (1 + late),
        converted=(random.random(n) < 0.05 + 0.1 * late).astype(float),
    )


def delayed_conversions(random: np.random.Generator) -> Traffic:
    """A ramp in which conversions arrive after 3 days on average and the window is 7 days; read by the product's rule
    (``rollout.maturity``), which waits until the window has closed."""
    share = np.repeat([0.05, 0.1, 0.25, 0.5], 11_300)
    n = len(share)
    seconds = np.linspace(0, 30 * 86_400, n).astype(np.int64)
    converts = random.random(n) < 0.1
    delay = (random.exponential(3 * 86_400, n)).astype(np.int64)
    made = traffic(random, n=n, share=share, step=np.repeat(np.arange(1, 5), 11_300))
    time = pa.timestamp("us", tz="UTC")
    began = int(START.timestamp() * 1e6)
    names = pa.array(np.arange(n)).cast(pa.string())
    asked = pa.table(
        {"request_id": names, "entity": names, "at": pa.array(began + seconds * 10**6, pa.int64()).cast(time)}
    )
    happened = pa.array(began + (seconds + delay)[converts] * 10**6, pa.int64()).cast(time)
    reports = pa.table(
        {
            "report": names.filter(pa.array(converts)),
            "request_id": pa.nulls(int(converts.sum()), pa.string()),
            "entity": names.filter(pa.array(converts)),
            "value": np.ones(int(converts.sum())),
            "at": happened,
            "arrived_at": happened,
        }
    )

    def known(end: int) -> BusinessValues:
        now = START + timedelta(seconds=int(seconds[end - 1]))
        found = matured(
            asked.slice(0, end),
            reports,
            per_entity=True,
            window=timedelta(days=7),
            missing_is_zero=True,
            now=now,
        )
        return conversions(found.row_index, found.value)

    made.known = known
    return made


TAILS: tuple[Callable[[np.random.Generator, int], FloatArray], ...] = (
    lambda random, n: random.lognormal(3.0, 1.5, n),
    lambda random, n: 20 * (1 + random.pareto(2.1, n)),
    lambda random, n: random.lognormal(3.0, 0.5, n) * np.where(random.random(n) < 0.002, 100.0, 1.0),
)


def heavy_tails(random: np.random.Generator) -> Traffic:
    """Latency and revenue: lognormal with sigma 1.5, Pareto 2.1, or .2 % of the requests a hundred times as large."""
    n = REQUESTS
    tail = TAILS[random.integers(len(TAILS))]
    made = traffic(random, latency=tail(random, n))
    revenue = tail(random, n) * (random.random(n) < 0.3)
    made.known = lambda end: conversions(np.arange(end), revenue[:end], heavy_tailed=True)
    return made


MISUSE = {
    "sticky users": sticky_users,
    "ramp with drifting base rate": ramp_with_drift,
    "delayed conversions": delayed_conversions,
    "heavy tails": heavy_tails,
}

# ---------------------------------------------------------------------- something to be found

HARMS: dict[str, tuple[Callable[[np.random.Generator, BoolArray], dict[str, Any]], float, float]] = {
    "errors 1 to 2 %": (
        lambda random, arm: {"failed": random.random(len(arm)) < np.where(arm, 0.02, 0.01)},
        1300,
        3000,
    ),
    "latency +10 %": (
        lambda random, arm: {"latency": random.lognormal(3.0, 0.5, len(arm)) * np.where(arm, 1.1, 1.0)},
        500,
        1000,
    ),
    "prediction +.1 sd": (
        lambda random, arm: {"score": random.normal(size=len(arm)) + 0.1 * arm},
        1500,
        3000,
    ),
    "spread x1.25": (
        lambda random, arm: {"score": random.normal(size=len(arm)) * np.where(arm, 1.25, 1.0)},
        600,
        math.inf,
    ),
}
"""What the candidate does, and after how many of its requests it must be found: median, 90th percentile."""


def harmful(random: np.random.Generator, change: Callable[[np.random.Generator, BoolArray], dict[str, Any]]) -> Traffic:
    arm = random.random(REQUESTS) < SHARE
    return traffic(random, canary=arm, **change(random, arm))


def shadow_until_found(random: np.random.Generator) -> float:
    """Pairs until a shift of .1 sd is proven, the two scores being correlated by .9: as the shadow's look does it."""
    pairs = 3000
    difference = 0.1 + math.sqrt(2 * (1 - 0.9)) * random.normal(size=pairs)
    alpha = PLAN.shadow.alpha.predictions
    for n in range(EVERY // 2, pairs + 1, EVERY // 2):
        up, down = (
            paired_mean(sign * difference[:n], entity=np.arange(n), tolerance=0.1, harm_from=0.0, alpha=alpha)
            for sign in (1.0, -1.0)
        )
        if predictions(up, down, 0.1, alpha=alpha, harm_from=0.0).verdict == "failed":
            return n
    return math.inf


# ---------------------------------------------------------------------- promoted although it should not be

LENIENT = plan_for(
    "standard",
    {
        "canary": {
            **WATCHFUL,
            "steps": [{"share": SHARE, "min_hours": 0, "min_rows": 0}],
            "harm_from_error_ratio": 2.0,
            "harm_from_latency_ratio": 1.1,
            "harm_from_loss_increase": 0.02,
            "harm_from_prediction_shift": 0.1,
            "distribution": "report",
        }
    },
)
"""Harm is only what is not tolerated, so nothing but the proof of no harm keeps a candidate from being promoted."""

AT_THE_LIMIT: dict[str, Callable[[np.random.Generator, BoolArray], dict[str, Any]]] = {
    "errors": HARMS["errors 1 to 2 %"][0],
    "latency": HARMS["latency +10 %"][0],
    "predictions": HARMS["prediction +.1 sd"][0],
    "loss": lambda random, arm: {"loss": random.gamma(0.5, 0.3, len(arm)) + 0.02 * arm},
    "conversion": lambda random, arm: {"converted": (random.random(len(arm)) < np.where(arm, 0.08, 0.1)).astype(float)},
}
"""The candidate is exactly as much worse as is still tolerated, in one metric."""

# ---------------------------------------------------------------------- days


def days(random: np.random.Generator, *, spread: float, by_arm: float, count: int = 28) -> Traffic:
    """Entities with five requests each, all over the days; a day moves each loss by a normal number with standard
    deviation ``spread``, and the candidate's by another one with ``by_arm``: weather that suits one version today and
    the other tomorrow. Over many days both are the same."""
    n = CANARY * 2
    entities = n // 5
    day = np.sort(random.integers(0, count, n))
    entity = random.integers(0, entities, n)
    canary = (random.random(entities) < 0.5)[entity]
    weather, favour = random.normal(size=count) * spread, random.normal(size=count) * by_arm
    own = 0.1 * random.normal(size=entities)[entity]
    loss = 3 + weather[day] + favour[day] * canary + own + 0.3 * random.normal(size=n)
    return traffic(
        random, n=n, share=np.full(n, 0.5), canary=canary, entity=entity, day=day, loss=np.maximum(loss, 0.0)
    )


DAYS = {
    "weather moves both arms alike, by entity": (0.3, 0.0, "entity"),
    "weather moves both arms alike, by day": (0.3, 0.0, "day"),
    "weather suits one arm each day, by day": (0.3, 0.1, "day"),
    "weather suits one arm each day, by entity (why there is by day)": (0.3, 0.1, "entity"),
}

# ---------------------------------------------------------------------- the figures


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sims", type=int, default=400, help="of the first figure; the others take a part of them")
    parser.add_argument("--only", nargs="*", default=(), help="null, misuse, detect, shadow, promote, days")
    asked = parser.parse_args(arguments)
    parts: dict[str, tuple[Callable[[int], Iterator[Figure]], int]] = {
        "null": (_false_rollbacks, asked.sims),
        "misuse": (_misused, max(20, asked.sims // 5)),
        "detect": (_detected, max(20, asked.sims // 2)),
        "shadow": (_paired, max(20, asked.sims // 2)),
        "promote": (_false_promotions, max(20, asked.sims // 5)),
        "days": (_by_day, max(20, asked.sims // 2)),
    }
    figures: list[Figure] = []
    for name, (measure, sims) in parts.items():
        if asked.only and name not in asked.only:
            continue
        began = perf_counter()
        figures += measure(sims)
        print(f"  ({name}: {sims} simulations each, {perf_counter() - began:.0f} s)", flush=True)
    return report(*figures)


def _each(sims: int, seed: int) -> Iterator[np.random.Generator]:
    return (np.random.default_rng([seed, number]) for number in range(sims))


def upper(wrong: int, sims: int) -> float:
    """Clopper and Pearson's upper 95 % limit (one-sided), in per cent."""
    return 100.0 if wrong >= sims else 100 * float(beta.ppf(0.95, wrong + 1, sims - wrong))


def lower(wrong: int, sims: int) -> float:
    """Their lower limit: a share that is certain to be above its goal."""
    return 100 * float(beta.ppf(0.05, wrong, sims - wrong + 1)) if wrong else 0.0


def _false_rollbacks(sims: int) -> Iterator[Figure]:
    ended = [watch(traffic(random)) for random in _each(sims, 1)]
    wrong = [each for each in ended if each.kind == Kind.ROLL_BACK]
    by_metric = {name: sum(name in each.failed for each in wrong) for each in wrong for name in each.failed}
    limit = upper(len(wrong), sims)
    print(f"Both versions the same, all metrics, 100 looks: {len(wrong)} of {sims} rolled back {by_metric or ''}")
    yield Figure(f"false rollback, {sims} simulations", 100 * len(wrong) / sims, "%", at_most=5.0)
    if sims >= 1000:
        yield Figure("false rollback, upper 95 % limit", limit, "%", at_most=6.0)
    else:
        print(f"  (upper 95 % limit {limit:.1f} %: 2,000 simulations are needed to judge it)")


def _misused(sims: int) -> Iterator[Figure]:
    for number, (name, case) in enumerate(MISUSE.items()):
        ended = [watch(case(random)) for random in _each(sims, 10 + number)]
        wrong = [each for each in ended if each.kind == Kind.ROLL_BACK]
        by_metric = {metric: sum(metric in each.failed for each in wrong) for each in wrong for metric in each.failed}
        print(f"No difference, {name}: {len(wrong)} of {sims} rolled back {by_metric or ''}", flush=True)
        value = 100 * len(wrong) / sims if sims >= 1000 else lower(len(wrong), sims)
        yield Figure(f"false rollback, {name}", value, "%" if sims >= 1000 else "% for certain", at_most=5.0)


def _detected(sims: int) -> Iterator[Figure]:
    for number, (name, (change, median, most)) in enumerate(HARMS.items()):
        ended = [watch(harmful(random, change)) for random in _each(sims, 20 + number)]
        needed = np.array([each.canary_rows if each.kind == Kind.ROLL_BACK else math.inf for each in ended])
        yield from _quantiles(name, needed, median, most)


def _paired(sims: int) -> Iterator[Figure]:
    needed = np.array([shadow_until_found(random) for random in _each(sims, 30)])
    yield from _quantiles("paired shadow +.1 sd", needed, 300, 500)


def _quantiles(name: str, needed: FloatArray, median: float, most: float) -> Iterator[Figure]:
    middle, high = (float(np.quantile(needed, q, method="higher")) for q in (0.5, 0.9))
    print(
        f"Found, {name}: median {middle:.0f}, 90 % within {high:.0f}, never {np.isinf(needed).mean():.1%}", flush=True
    )
    yield Figure(f"requests until found, {name}, median", middle, "requests", at_most=median)
    if math.isfinite(most):
        yield Figure(f"requests until found, {name}, 90 %", high, "requests", at_most=most)


def _false_promotions(sims: int) -> Iterator[Figure]:
    for number, (name, change) in enumerate(AT_THE_LIMIT.items()):
        ended = [watch(harmful(random, change), LENIENT) for random in _each(sims, 40 + number)]
        wrong = sum(each.kind == Kind.PROMOTE for each in ended)
        print(f"As much worse as tolerated, {name}: {wrong} of {sims} promoted", flush=True)
        yield Figure(f"false promotion, {name}", 100 * wrong / sims, "%", at_most=5.0)
    ended = [watch(traffic(random), LENIENT) for random in _each(sims, 49)]
    rows = np.array([each.canary_rows if each.kind == Kind.PROMOTE else math.inf for each in ended])
    print(
        f"Both the same: {np.isfinite(rows).mean():.1%} promoted, median after {np.median(rows):.0f} requests",
        flush=True,
    )


def _by_day(sims: int) -> Iterator[Figure]:
    for number, (name, (spread, by_arm, cluster)) in enumerate(DAYS.items()):
        plan = plan_for("standard", {"canary": {**WATCHFUL, "loss_cluster": cluster}})
        ended = [watch(days(random, spread=spread, by_arm=by_arm), plan) for random in _each(sims, 50 + number)]
        wrong = sum("loss" in each.failed for each in ended)
        print(f"Days differ: {name}: {wrong} of {sims} rolled back for their loss", flush=True)
        if "why" not in name:
            yield Figure(f"false rollback, {name}", 100 * wrong / sims, "%", at_most=5.0)


if __name__ == "__main__":
    sys.exit(main())
