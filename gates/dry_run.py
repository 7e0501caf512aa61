"""What another policy would have made of past gate runs, before it is put in force. Writes nothing.

Each of the last versions is judged again as it was judged last, check by check: what the policy asks as before keeps
its verdict; what looks at frozen inputs is measured anew; what looked at the world is judged again from the numbers
that were collected then. What was not collected then can not be told, and is said to be so.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

from audit.errors import Unavailable
from gates import judge
from gates.evaluation import judged, numbers
from gates.frozen import Frozen
from gates.judge import Judgement
from gates.kinds import KINDS
from gates.models import ENDED, CheckResult, GateRun, Preparation
from gates.policy import AnyCheck, PolicyDocument, PolicyError, parse
from gates.preparation import CAN_NOT_BE_HAD, frozen_of
from registry.models import RegisteredModel

LAST = 20
MOST = 100
REPORT_ONLY = "report only"


@dataclass(frozen=True)
class Row:
    """One version's last judged run. ``ended``: what its results come to by its own policy; ``would_end`` by the other
    one, None where that can not be told.

    ``changed``: checks with their verdict then and under the other policy, where those differ or count differently;
    empty for a check that one of the two does not have. ``untold``: checks of which nothing is known.
    """

    run: GateRun
    ended: str
    would_end: str | None
    changed: tuple[tuple[str, str, str], ...]
    untold: tuple[str, ...]

    @property
    def differs(self) -> bool:
        return self.would_end is not None and self.would_end != self.ended

    def as_dict(self) -> dict[str, Any]:
        return {
            "gate_run": self.run.pk,
            "version": self.run.version.number,
            "policy": self.run.policy.number,
            "ended": self.ended,
            "would_end": self.would_end,
            "changed": [{"check": check, "was": was, "would": would} for check, was, would in self.changed],
            "untold": list(self.untold),
        }


@dataclass(frozen=True)
class DryRun:
    """``rows``: newest version first."""

    rows: tuple[Row, ...] = field(default_factory=tuple)

    @property
    def differing(self) -> int:
        return sum(row.differs for row in self.rows)

    @property
    def untold(self) -> int:
        return sum(row.would_end is None for row in self.rows)

    @property
    def sentence(self) -> str:
        """Under this rule, 3 of the last 20 versions would have ended otherwise; 2 can not be told."""
        count = len(self.rows)
        if not count:
            return "No version has been judged yet: nothing to try this rule on."
        of = "the one version judged so far" if count == 1 else f"the last {count} versions"
        if self.untold == count:
            return f"What this rule would have made of {of} can not be told."
        if count == 1:
            return f"Under this rule, {of} would have ended {'otherwise' if self.differing else 'the same'}."
        told = f"Under this rule, {self.differing or 'none'} of {of} would have ended otherwise"
        return f"{told}; {self.untold} can not be told." if self.untold else f"{told}."

    def as_dict(self) -> dict[str, Any]:
        return {
            "sentence": self.sentence,
            "differing": self.differing,
            "untold": self.untold,
            "rows": [row.as_dict() for row in self.rows],
        }


def dry_run(model: RegisteredModel, document: PolicyDocument, *, last: int = LAST) -> DryRun:
    """Judge the last versions of a model (their newest judged runs) under ``document``."""
    return DryRun(tuple(_tried(run, document) for run in _last_runs(model, min(last, MOST))))


def _last_runs(model: RegisteredModel, last: int) -> list[GateRun]:
    """The newest judged run of each of the last versions that have one."""
    ended = GateRun.objects.filter(registered_model=model, state__in=ENDED, results__isnull=False)
    newest: dict[int, int] = {}
    for version, run in ended.order_by("-pk").values_list("version", "pk"):
        newest.setdefault(version, run)
        if len(newest) > last:
            break
    related = ("version__registered_model", "policy__registered_model", "registered_model", "preparation")
    runs = GateRun.objects.filter(pk__in=list(newest.values())[:last])
    return list(runs.select_related(*related).prefetch_related("results").order_by("-pk"))


# ---------------------------------------------------------------------- one run


def _tried(run: GateRun, document: PolicyDocument) -> Row:
    past = _Past(run, document)
    judgements = [past.judgement(check) for check in document.checks]
    untold = tuple(check.id for check, found in zip(document.checks, judgements, strict=True) if found is None)
    found = [judgement for judgement in judgements if judgement is not None]
    blocking = {check.id for check in document.blocking}
    end = None
    if not blocking & set(untold):
        end = str(judge.conclude(found, required=len(blocking)).verdict)
    was = judge.conclude([*past.results.values()], required=run.required_checks)
    return Row(run, str(was.verdict), end, _changed(past.results, found, document), untold)


def _changed(
    past: Mapping[str, Judgement], found: Sequence[Judgement], document: PolicyDocument
) -> tuple[tuple[str, str, str], ...]:
    """Where a verdict differs, or counts where it did not, or the other way round."""
    changes = []
    for now in found:
        then = past.get(now.check_id)
        if then is None:
            changes += [(now.check_id, "", _said(now))] if now.verdict != "passed" else []
        elif (then.verdict, then.blocking) != (now.verdict, now.blocking) and {then.verdict, now.verdict} != {"passed"}:
            changes.append((now.check_id, _said(then), _said(now)))
    asked = {check.id for check in document.checks}
    gone = [then for check, then in past.items() if check not in asked and then.verdict != "passed"]
    return (*changes, *((then.check_id, _said(then), "") for then in gone))


def _said(judgement: Judgement) -> str:
    return judgement.verdict if judgement.blocking else f"{judgement.verdict}, {REPORT_ONLY}"


class _Past:
    """A run that was judged, and what another policy can know of it."""

    def __init__(self, run: GateRun, document: PolicyDocument) -> None:
        self.run, self.document = run, document
        self.stored: dict[str, CheckResult] = {result.check_id: result for result in run.results.all()}
        names = [each.name for each in fields(Judgement)]
        self.results = {
            check: Judgement(**{name: getattr(result, name) for name in names}) for check, result in self.stored.items()
        }

    @cached_property
    def policy(self) -> PolicyDocument | None:
        """The policy it was judged under; None where its form is no longer read."""
        try:
            return parse(self.run.policy.document)
        except PolicyError:
            return None

    @cached_property
    def frozen(self) -> Frozen | None:
        """What it was measured on; None where that was not kept, or can not be read."""
        try:
            return frozen_of(self.run, self.document)
        except (Preparation.DoesNotExist, Unavailable, *CAN_NOT_BE_HAD):
            return None

    def judgement(self, check: AnyCheck) -> Judgement | None:
        """What a check of the other policy comes to; None where that can not be told."""
        before = self._before(check)
        if before is not None and self._is_same(before, check):
            return replace(self.results[before.id], check_id=check.id, blocking=check.blocking)
        if KINDS[check.kind].measure is not None:
            return self._measured_anew(check)
        if before is None or not self.stored[before.id].measured or _differ(before, check, check.collected_with):
            return None
        try:
            found = judged(check, self.stored[before.id].measured)
        except CAN_NOT_BE_HAD as problem:
            return judge.could_not(check, str(problem))
        # what this rule asks to be told, nobody was asked for then: that it had not come says nothing
        unasked = _differ(before, check, check.waits_for)
        return None if unasked and found.verdict == "inconclusive" else found

    def _before(self, check: AnyCheck) -> AnyCheck | None:
        """The check of the old policy whose numbers serve: of the same id and kind, else of the same kind."""
        if self.policy is None:
            return None
        alike = [each for each in self.policy.checks if each.kind == check.kind and each.id in self.stored]
        alike.sort(
            key=lambda each: (
                each.id != check.id,
                not self._is_same(each, check),
                _differ(each, check, check.collected_with),
            )
        )
        return alike[0] if alike else None

    def _is_same(self, before: AnyCheck, after: AnyCheck) -> bool:
        """Whether a check asks the same of a run as one that it was judged by, whatever it is called."""
        same = _asked(before) == _asked(after)
        measured = KINDS[after.kind].measure is not None
        threshold = self.policy is not None and self.policy.threshold == self.document.threshold
        return same and (threshold or not measured)

    def _measured_anew(self, check: AnyCheck) -> Judgement | None:
        if self.frozen is None:
            return None
        try:
            return judged(check, numbers(check, self.run, self.frozen))
        except CAN_NOT_BE_HAD as problem:
            return judge.could_not(check, str(problem))


def _asked(check: AnyCheck) -> dict[str, Any]:
    return check.model_dump(exclude={"id", "blocking"})


def _differ(before: AnyCheck, after: AnyCheck, settings: Collection[str]) -> bool:
    """Whether two checks of a kind have any of these settings otherwise."""
    return any(getattr(before, setting) != getattr(after, setting) for setting in settings)
