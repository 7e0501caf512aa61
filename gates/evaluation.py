"""One check of a prepared run: its numbers, and what they come to."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from audit import canonical
from gates import judge
from gates.frozen import Frozen, Json, Unmeasurable
from gates.judge import Judgement
from gates.kinds import KINDS
from gates.models import GateRun
from gates.policy import AnyCheck
from gates.preparation import CAN_NOT_BE_HAD


@dataclass(frozen=True)
class Evaluated:
    """A check's verdict and the numbers it was made of (none where they could not be had)."""

    judgement: Judgement
    measured: Json
    wall_seconds: float


def evaluate(check: AnyCheck, run: GateRun, frozen: Frozen) -> Evaluated:
    """Measure or collect one check of a run, and judge it. Raises Unavailable when an engine does not answer."""
    started = time.monotonic()
    measured: Json = {}
    try:
        measured = numbers(check, run, frozen)
        judgement = judged(check, measured)
    except CAN_NOT_BE_HAD as problem:
        judgement = judge.could_not(check, str(problem))
    return Evaluated(judgement, measured, time.monotonic() - started)


def numbers(check: AnyCheck, run: GateRun, frozen: Frozen) -> Json:
    """What a check looks at, as it will come back from the database. Raises Unmeasurable and the like, Unavailable."""
    kind = KINDS[check.kind]
    if kind.measure is not None:
        found = kind.measure(check, frozen)
    elif kind.collect is not None:
        found = kind.collect(check, run, frozen)
    else:
        raise Unmeasurable(f"Nothing measures checks of the kind {check.kind}.")
    plain: Json = json.loads(canonical.as_text(found))
    return plain


def judged(check: AnyCheck, measured: Mapping[str, Any]) -> Judgement:
    """The verdict on numbers: the same however often it is asked for. Raises Unmeasurable."""
    return KINDS[check.kind].judge(check, measured)
