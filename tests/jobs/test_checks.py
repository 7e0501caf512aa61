"""The queue must be the portal's own database."""

from math import ceil
from typing import Any

import pytest
from django.conf import settings as project
from django.core.checks import run_checks

ORM = {"name": "gatehouse", "orm": "default", "broker_class": "jobs.broker.Bells"}


def complaints() -> list[str]:
    return [str(message.id) for message in run_checks() if str(message.id).startswith("jobs.")]


def test_check__of_the_shipped_settings__is_content() -> None:
    assert complaints() == []


@pytest.mark.parametrize(
    "queue",
    [
        {"name": "gatehouse", "redis": {"host": "localhost"}},
        {**ORM, "redis": {"host": "localhost"}},
        {**ORM, "orm": "other"},
        {**ORM, "sqs": {"aws_region": "x"}},
        {**ORM, "broker_class": "somewhere.Else"},
        {"name": "gatehouse", "orm": "default"},
    ],
    ids=lambda queue: "+".join(f"{key}={value}" for key, value in queue.items() if key != "name"),
)
def test_check__of_any_other_broker__refuses(settings: Any, queue: dict[str, Any]) -> None:
    settings.Q_CLUSTER = queue

    assert complaints() == ["jobs.E001"]


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_retry__of_the_shipped_settings__is_longer_than_any_fetched_bell_may_wait(workers: int) -> None:
    queue = project.Q_CLUSTER
    rounds = 1 + ceil((queue["queue_limit"] + queue["bulk"]) / workers)

    assert queue["retry"] > (queue["timeout"] + 3) * rounds
