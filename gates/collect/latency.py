"""The clock of the latency check: candidate, champion and an A/A control timed in turn on a pinned workload."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np
import pyarrow as pa

from engines.scoring import Scorer, Stopped, Timed, Unscorable, timed
from features import offline
from features.models import Dataset
from gates import preparation
from gates.frozen import Frozen, Json, Unmeasurable, had
from gates.judge import latency as judging
from gates.models import GateRun
from gates.policy import LatencyCheck
from gates.policy.checks import QUANTILES
from registry.models import ModelVersion
from stats.interval import FloatArray
from stats.latency import calls_needed

ATTEMPTS = 3
"""How often the clock is taken when the control says that the machine was too unsteady: a busy moment must not stop a
model for which nobody is there to press a button."""
SLOW_CHAMPION = 1.5
"""From how many times the candidate's median on a champion that used up the time is left out and timed no more."""


@dataclass(frozen=True)
class Arms:
    """The warm scorers of one measurement: the candidate, the champion where there is one that can be timed, and a
    second copy of ``twin``, one of the two. ``name`` is the champion's, ``missing`` why it is not timed; ``another``
    opens a second copy of the candidate."""

    candidate: Scorer
    champion: Scorer | None
    control: Scorer
    twin: str
    name: str
    missing: str
    another: Callable[[], Scorer]

    def alone(self, *, missing: str) -> Arms:
        """The candidate and a copy of it, without the champion."""
        return replace(self, champion=None, control=self.another(), twin="candidate", missing=missing)

    @property
    def scorers(self) -> Mapping[str, Scorer]:
        both = {"candidate": self.candidate, "control": self.control}
        return both if self.champion is None else {**both, "champion": self.champion}


def collect(check: LatencyCheck, run: GateRun, frozen: Frozen) -> Json:
    """Time the forms that are served. The rows are the same for the same holdout and seed, also for another version."""
    table = _with_champion_columns(run, had(frozen.table))
    if not len(table):
        raise Unmeasurable("The holdout has no rows to time.")
    with ExitStack() as closing:
        arms = _open(run, table, closing)
        columns = sorted({name for scorer in arms.scorers.values() for name in scorer.columns})
        rows = pinned(table.select(columns), count=max(check.calls, check.batch_rows), seed=frozen.seed)
        workload = {"rows": len(rows), "digest": digest(rows), "seed": frozen.seed, "columns": columns}
        return _clocked(check, arms, rows, workload)


def attempt(check: LatencyCheck, arms: Arms, rows: pa.Table, workload: Json) -> Json:
    """Take the clock until the control is within its tolerance, at most ``ATTEMPTS`` times: the last time is judged,
    and of all that were given up the control is kept."""
    attempts: list[Json] = []
    while True:
        measured = {**_measured(check, arms, rows), "workload": workload}
        detail = judging.judge(check, measured).detail
        attempts.append({"calls": len(measured["single"]["candidate"]), "control_ratio": detail["control_ratio"]})
        if not detail["unsteady"] or len(attempts) == ATTEMPTS:
            return {**measured, "attempts": attempts}


def pinned(table: pa.Table, *, count: int, seed: int) -> pa.Table:
    """``count`` rows of the table (all, where it has fewer), drawn by the seed, in the order drawn."""
    places = np.random.default_rng(seed).permutation(len(table))[:count]
    return table.take(places).combine_chunks()


def digest(table: pa.Table) -> str:
    """SHA-256 of columns, types and values; the same whatever version of Arrow holds them."""
    content = {
        name: [str(table.schema.field(name).type), table.column(name).to_pylist()] for name in table.column_names
    }
    return hashlib.sha256(json.dumps(content, default=str, sort_keys=True).encode()).hexdigest()


# ---------------------------------------------------------------------- who is timed


def _open(run: GateRun, table: pa.Table, closing: ExitStack) -> Arms:
    candidate = _opened(run.version, closing)
    lacks = _lacking(candidate, table)
    if lacks:
        raise Unmeasurable(f"The holdout lacks columns that it takes: {lacks}.")
    champion, missing = _champion(run, table, closing)
    twin = run.version if champion is None or run.champion is None else run.champion
    return Arms(
        candidate=candidate,
        champion=champion,
        control=_opened(twin, closing),
        twin="candidate" if champion is None else "champion",
        name="" if run.champion is None else str(run.champion),
        missing=missing,
        another=lambda: _opened(run.version, closing),
    )


def _with_champion_columns(run: GateRun, table: pa.Table) -> pa.Table:
    """The holdout with the columns that only the champion takes, from the same rows as it was scored on."""
    inputs = run.preparation.inputs
    theirs = inputs["champion_holdout"]
    if not theirs or theirs == inputs["holdout"]:
        return table
    other = offline.load(Dataset.objects.select_related("service").get(digest=theirs))
    if len(other) == len(table):
        for name in other.column_names:
            table = table if name in table.column_names else table.append_column(name, other.column(name))
    return table


def _opened(version: ModelVersion, closing: ExitStack) -> Scorer:
    try:
        return closing.enter_context(preparation.open_scorer(version))
    except Unscorable as problem:
        raise Unmeasurable(f"{version} can not be scored: {problem}") from problem


def _champion(run: GateRun, table: pa.Table, closing: ExitStack) -> tuple[Scorer | None, str]:
    """The champion's scorer, or why it is not timed."""
    if run.champion is None:
        return None, ""
    try:
        scorer = _opened(run.champion, closing)
    except Unmeasurable as problem:
        return None, str(problem)
    lacks = _lacking(scorer, table)
    if lacks:
        return None, f"The holdout lacks columns that it takes: {lacks}."
    return scorer, ""


def _lacking(scorer: Scorer, table: pa.Table) -> str:
    return ", ".join([name for name in scorer.columns if name not in table.column_names][:5])


# ---------------------------------------------------------------------- the clock


def _clocked(check: LatencyCheck, arms: Arms, rows: pa.Table, workload: Json) -> Json:
    """A champion that dies at its work is left out; a candidate that does can not be measured."""
    try:
        return attempt(check, arms, rows, workload)
    except Stopped as problem:
        if problem.name == "candidate" or arms.champion is None:
            raise Unmeasurable(f"It could not be timed: {problem}") from problem
        return _clocked(check, arms.alone(missing=str(problem)), rows, workload)


def _measured(check: LatencyCheck, arms: Arms, rows: pa.Table) -> Json:
    first = _timed(check, arms, rows)
    beside: Json | None = None
    if _is_starved(check, first):
        # A champion that uses up the time must not keep a faster version from showing how fast it is: what was timed
        # beside it says how much faster, and the rest of the calls go to the candidate and a copy of it.
        beside = {name: _listed(first[name].single_ms) for name in ("candidate", "champion")}
        arms = arms.alone(missing="")
        first = _timed(check, arms, rows)
    return {
        "single": {name: _listed(each.single_ms) for name, each in first.items()},
        "batch": {name: _listed(each.batch_ms) for name, each in first.items()},
        "batch_rows": check.batch_rows,
        "beside_champion": beside,
        "control_of": arms.twin,
        "champion": arms.name,
        "champion_missing": arms.missing,
        "budget_seconds": check.budget_seconds,
    }


def _timed(check: LatencyCheck, arms: Arms, rows: pa.Table) -> dict[str, Timed]:
    budget = timedelta(seconds=check.budget_seconds)
    return timed(arms.scorers, rows, calls=check.calls, batch_rows=check.batch_rows, budget=budget)


def _is_starved(check: LatencyCheck, times: Mapping[str, Timed]) -> bool:
    """Whether there were too few calls to show anything because the champion took so long."""
    if "champion" not in times or len(times["candidate"].single_ms) >= _wanted(check):
        return False
    mine, theirs = (times[name].single_ms for name in ("candidate", "champion"))
    both = np.isfinite(mine) & np.isfinite(theirs)
    return bool(both.any() and np.median(theirs[both]) > SLOW_CHAMPION * np.median(mine[both]))


def _wanted(check: LatencyCheck) -> int:
    """How many calls it takes at least to show that a version keeps the limits on single rows, when none is slow."""
    quantiles = [QUANTILES[name] for name in check.limits if name in QUANTILES]
    needed = [calls_needed(0, 0, allowed=1 - q, confidence=check.confidence) or 0 for q in quantiles]
    return min(check.calls, max([check.minimum_calls, *needed]))


def _listed(times: FloatArray) -> list[float | None]:
    """As JSON: a tenth of a microsecond is more than enough."""
    return [round(each, 4) if np.isfinite(each) else None for each in times.tolist()]
