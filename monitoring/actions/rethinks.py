"""Rethinks: the system asks, a person answers. The evidence is frozen when it asks.

While a rethink is proposed, nothing retrains for its model. Approved: somebody works on another approach, and
automation stays off until the rethink is closed. Declined: the approach stands, automation goes on at once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.db import IntegrityError, transaction

from audit.errors import AlreadyExists, InvalidInput, NotPermitted
from audit.trail import Actor, Service, record
from monitoring.models import Rethink, RethinkState
from registry import duties
from registry.models import Duty, RegisteredModel

DECIDERS = (Duty.PRODUCT, Duty.DATA_SCIENCE)
UNSETTLED = (RethinkState.PROPOSED, RethinkState.APPROVED)


def propose_rethink(
    *,
    registered_model: RegisteredModel,
    question: str,
    evidence: Mapping[str, Any],
    due_in: timedelta,
    actor: Actor,
    now: datetime,
) -> Rethink:
    """Ask for a new decision on the approach. Raises AlreadyExists while another is proposed for the model."""
    try:
        with transaction.atomic():
            rethink = Rethink.objects.create(
                registered_model=registered_model,
                state=RethinkState.PROPOSED,
                state_reason=question,
                state_since=now,
                question=question,
                evidence=dict(evidence),
                evidence_digest=digest(evidence),
                proposed_at=now,
                due_at=now + due_in,
            )
            record(
                "rethink.proposed",
                rethink,
                actor=actor,
                reason=question,
                data={"evidence_digest": rethink.evidence_digest},
            )
            return rethink
    except IntegrityError as problem:
        raise AlreadyExists(f"A rethink of {registered_model} is proposed already.") from problem


def digest(evidence: Mapping[str, Any]) -> str:
    """SHA-256 over the evidence as canonical JSON: what the decider saw can be proven later."""
    return hashlib.sha256(json.dumps(dict(evidence), sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def approve(rethink: Rethink, *, approach: str, actor: Actor, now: datetime) -> None:
    """Take another approach, described in ``approach``. Automation stays off until the rethink is closed."""
    _decide(rethink, RethinkState.APPROVED, text=approach, field="approach", actor=actor, now=now, approach=approach)


def decline(rethink: Rethink, *, reason: str, actor: Actor, now: datetime) -> None:
    """Keep the approach, for ``reason``. Automation goes on, and counts refusals from here anew."""
    _decide(rethink, RethinkState.DECLINED, text=reason, field="reason", actor=actor, now=now)


def close(rethink: Rethink, *, reason: str, actor: Actor, now: datetime) -> None:
    """What was decided is done; automation goes on. Only by a person who could have decided."""
    decider = require_decider(rethink, actor)
    if not reason.strip():
        raise InvalidInput({"reason": "Say what was done."})
    rethink.move(RethinkState.CLOSED, actor=decider, reason=reason)


def _decide(rethink: Rethink, to: str, *, text: str, field: str, actor: Actor, now: datetime, **fields: Any) -> None:
    decider = require_decider(rethink, actor)
    if not text.strip():
        raise InvalidInput({field: "Say why, for those who read this in a year."})
    rethink.move(
        to,
        actor=decider,
        reason=text,
        data={"evidence_digest": rethink.evidence_digest},
        decided_at=now,
        decided_by=decider,
        **fields,
    )


def require_decider(rethink: Rethink, actor: Actor) -> AbstractBaseUser:
    """The person who may decide. Raises NotPermitted for services and for people without a deciding duty."""
    if isinstance(actor, Service):
        raise NotPermitted("A rethink is decided by a person.")
    duties.require(actor, rethink.registered_model, *DECIDERS)
    return actor
