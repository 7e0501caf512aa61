"""Do a gate run again from what was frozen with it, and say whether the same comes out, bit for bit.

Both versions are scored anew, by the very bytes that were measured, on the stored holdout. Checks that look at the
frozen inputs alone are measured and judged again; the others are judged again from the numbers that they collected, for
the clock of a sandbox or what a store served that day can not be had twice. Writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from audit import canonical
from audit.errors import Conflict, Unavailable
from engines.scoring import Unscorable
from gates import frozen_scores, judge
from gates.evaluation import judged, numbers
from gates.frozen import Frozen, Missing, Scores, Unmeasurable
from gates.frozen_scores import StoredScores
from gates.judge import Judgement
from gates.kinds import KINDS
from gates.models import CheckResult, GateRun, Preparation
from gates.policy import AnyCheck, parse
from gates.preparation import CAN_NOT_BE_HAD, forget, frozen_of, libraries, scored, table_of
from registry import conversion
from registry.conversion import Form


@dataclass(frozen=True)
class Reproduction:
    """What came out. ``scores_equal`` is None where nothing had been scored; ``checks`` has for each check its verdict
    then and now; ``differences`` says in words what is not the same."""

    scores_equal: bool | None
    checks: tuple[tuple[str, str, str], ...]
    differences: tuple[str, ...]

    @property
    def is_identical(self) -> bool:
        return not self.differences

    @property
    def message(self) -> str:
        if self.differences:
            return f"Not the same: {' '.join(self.differences)}"
        same = "the scores are the same bit for bit, and " if self.scores_equal else ""
        return f"Identical: {same}all {len(self.checks)} checks come to the same verdicts with the same numbers."


def reproduce(run: GateRun) -> Reproduction:
    """Do a run again. Raises Conflict for one that was never prepared, Unavailable when its holdout is gone."""
    preparation = Preparation.objects.filter(gate_run=run).first()
    if preparation is None:
        raise Conflict(f"{run} was never prepared: there is nothing to repeat.")
    forget()  # what this process remembers proves nothing about the files
    differences = []
    equal: bool | None = None
    if preparation.scores_digest:
        try:
            equal = _scored_again(run, preparation).digest() == preparation.scores_digest
            differences += [] if equal else [f"The scores differ{_because(preparation)}."]
        except (Unavailable, Unscorable, Unmeasurable) as problem:
            equal = False
            differences.append(f"It can not be scored again: {problem}")
    frozen = frozen_of(run)
    results = {result.check_id: result for result in run.results.all()}
    checks = []
    for check in parse(run.policy.document).checks:
        if check.id in results:
            then, now = _judgement_of(results[check.id]), _again(check, results[check.id], frozen, run)
            checks.append((check.id, str(then.verdict), str(now.verdict)))
            differences += _differences(then, now)
    return Reproduction(equal, tuple(checks), tuple(differences))


def _scored_again(run: GateRun, preparation: Preparation) -> StoredScores:
    inputs, kept = preparation.inputs, frozen_scores.load(preparation.scores_digest)
    candidate = _scores(inputs["candidate"], inputs["holdout"]) if kept.candidate else None
    champion = _scores(inputs["champion"], inputs["champion_holdout"]) if kept.champion else None
    y = frozen_of(run).y
    return StoredScores(None if isinstance(y, Missing) else y, candidate, champion)


def _scores(described: Mapping[str, Any], holdout: str) -> Scores:
    form = Form(
        described["form"]["load_class"], described["form"]["digest"], f"What was measured of {described['name']}"
    )
    with conversion.open_form(form, columns=described["columns"]) as scorer:
        return scored(scorer, table_of(holdout))


def _because(preparation: Preparation) -> str:
    """Other libraries than then are the likely reason."""
    then, now = preparation.inputs["libraries"], libraries()
    other = [f"{name} {then.get(name)} then, {now[name]} now" for name in now if then.get(name) != now[name]]
    return f" ({'; '.join(other)})" if other else ""


def _again(check: AnyCheck, result: CheckResult, frozen: Frozen, run: GateRun) -> Judgement:
    """The check judged again: measured anew where that is possible."""
    try:
        if KINDS[check.kind].measure is not None:
            return judged(check, numbers(check, run, frozen))
        if not result.measured:  # what it needed could not be had then
            return _judgement_of(result)
        return judged(check, result.measured)
    except CAN_NOT_BE_HAD as problem:
        return judge.could_not(check, str(problem))


def _judgement_of(result: CheckResult) -> Judgement:
    return Judgement(**{each.name: getattr(result, each.name) for each in fields(Judgement)})


def _differences(then: Judgement, now: Judgement) -> list[str]:
    before, after = asdict(then), asdict(now)
    parts = [name for name in before if _digest(before[name]) != _digest(after[name])]
    return [f"{then.check_id}: {name} was {_short(before[name])}, is {_short(after[name])}." for name in parts]


def _digest(value: Any) -> str:
    """The same for a value and for what either database made of it."""
    return canonical.digest([], canonical.as_text({"value": value}))


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
