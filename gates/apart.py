"""Several runs in one transaction, so that what one of them is refused holds up no other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from django.db import IntegrityError, transaction

from audit.errors import GatehouseError
from audit.trail import Service
from gates.actions import give_up
from gates.models import GateRun
from gates.policy import PolicyError

log = logging.getLogger(__name__)

GATES = Service("gates")
REFUSALS = (GatehouseError, PolicyError, IntegrityError)
"""What is no defect of ours: the state has moved on, somebody was faster, a document can not be read."""


@contextmanager
def apart(subject: object) -> Iterator[None]:
    """A savepoint: what is refused inside is undone and logged, and the caller goes on with the next."""
    try:
        with transaction.atomic():
            yield
    except REFUSALS as refusal:
        log.warning("%s is left as it is: %s", subject, refusal)


def see_to(run: GateRun, step: Callable[[], object], *, now: datetime) -> None:
    """Take one step of a run, apart from others. A run whose policy can not be read any more ends as an error."""
    with apart(run):
        try:
            with transaction.atomic():
                step()
        except PolicyError as problem:
            log.warning("%s ends: %s can not be read any more: %s", run, run.policy, problem)
            run.refresh_from_db(fields=["state", "state_reason", "state_since"])  # the step was undone
            give_up(run, actor=GATES, reason=f"{run.policy} can not be read any more: {problem}", now=now)
