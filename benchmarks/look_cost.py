"""What a look at a canary costs once 1,000 new requests are there: every metric, and the conclusion.

    make bench BENCH=look_cost

A canary at 10 % has seen 100,000 requests of 20,000 entities, with errors, latencies, outcomes that come late and a
business metric. Each look adds 1,000 requests (and as many outcomes) to the running state, measures everything and
concludes; what counts is the processor's time, which a busy machine hardly changes. Beside it, what counting everything
again would cost, as a worker does that has just been started.
"""

from __future__ import annotations

import sys
from statistics import median
from time import perf_counter, process_time

import numpy as np

from benchmarks.canary_truth import PLAN, conversions
from benchmarks.figures import Figure, report
from rollout.analysis import CanaryRows, CanaryState, measure_canary
from rollout.judge import Progress, conclude_canary

BEFORE, NEW, LOOKS = 100_000, 1000, 50
ENTITIES = 20_000
LATE = 5000
"""An outcome is known so many requests later."""


def requests() -> CanaryRows:
    random = np.random.default_rng(1)
    n = BEFORE + NEW * LOOKS
    number = random.integers(0, ENTITIES, n)
    return CanaryRows(
        entity=[f"N{each}" for each in number],
        canary=(random.random(ENTITIES) < 0.1)[number],
        share=np.full(n, 0.1),
        step=np.ones(n, dtype=np.int64),
        failed=random.random(n) < 0.01,
        score=random.beta(2, 6, n),
        label=(random.random(n) < 0.25).astype(float),
        latency=random.lognormal(3, 0.5, n),
        sticky=random.random(n) < 0.95,
        warm=np.ones(n, dtype=np.bool_),
        day=np.arange(n) // 10_000,
    )


def main() -> int:
    rows = requests()
    random = np.random.default_rng(2)
    first = np.sort(np.unique(np.array(rows.entity), return_index=True)[1])
    converted = (random.random(len(first)) < 0.1).astype(float)
    label = np.array(rows.label)
    state, begin = CanaryState(PLAN.canary), 0
    seconds: list[float] = []
    waited: list[float] = []
    for end in range(BEFORE, len(rows) + 1, NEW):
        new = rows[begin:end]
        known = np.where(np.arange(end) < end - LATE, label[:end], np.nan)
        closed = first < end - LATE
        business = [conversions(first[closed], converted[closed])]
        began, cpu = perf_counter(), process_time()
        state.see(new)
        state.know(known)
        measured = state.measure(timed=True, business=business)
        conclude_canary(measured, Progress(1.0, state.candidate_rows, 1.0), PLAN, step=1)
        seconds.append(process_time() - cpu)
        waited.append(perf_counter() - began)
        begin = end
    began = perf_counter()
    measure_canary(rows, PLAN.canary, timed=True, business=business)
    print(f"Counting all {len(rows):,} requests again: {1000 * (perf_counter() - began):.0f} ms")
    looks = seconds[1:]
    print(
        f"{len(looks)} looks over {NEW} new requests: slowest {1000 * max(looks):.1f} ms of the processor, "
        f"{1000 * median(waited[1:]):.1f} ms by the clock (median)"
    )
    return report(Figure("a look over 1,000 new requests, median", 1000 * median(looks), "ms", at_most=5.0))


if __name__ == "__main__":
    sys.exit(main())
