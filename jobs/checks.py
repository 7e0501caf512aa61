"""System check: the queue must live in the portal's own database."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

BROKER = "jobs.broker.Bells"


@register("queue")  # not Tags.database: those checks run only when a database is named, and this one asks none
def queue_is_transactional(**kwargs: Any) -> list[CheckMessage]:
    """A bell must commit or roll back with the state change that caused it: only the ORM broker does that."""
    orm = settings.Q_CLUSTER.get("orm")
    others = [name for name in ("redis", "sqs", "iron_mq", "mongo") if settings.Q_CLUSTER.get(name)]
    if settings.Q_CLUSTER.get("broker_class") != BROKER:
        others.append("broker_class")
    if orm == "default" and not others:
        return []
    return [
        Error(
            "The task queue does not use the ORM broker on the portal's database.",
            hint=f"Set Q_CLUSTER['orm'] = 'default' and 'broker_class' to {BROKER!r}, and name no other broker.",
            id="jobs.E001",
        )
    ]
