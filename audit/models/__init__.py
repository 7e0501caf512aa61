"""The trail and what it rests on: events, states, the chain over them, and what the edges keep."""

from audit.models.chain import Checkpoint, Debt, Link, Turn
from audit.models.edges import ApiToken, IdempotentAnswer, Report
from audit.models.events import Event, EventQuerySet
from audit.models.states import Stateful

__all__ = [
    "ApiToken",
    "Checkpoint",
    "Debt",
    "Event",
    "EventQuerySet",
    "IdempotentAnswer",
    "Link",
    "Report",
    "Stateful",
    "Turn",
]
