"""Every operation of openapi.yaml, asked by a machine with what is right and what is wrong: it answers as it says.

The operations are those of the schema, so a new one is here by itself. Each is asked ``EXAMPLES`` times, about things
of one team's world and about things that nobody has; what an example writes is taken back. The same examples each time;
a nightly run asks more, and others: ``GATEHOUSE_FUZZ_EXAMPLES=200``.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, transaction
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from engines import scoring
from mlops import api
from mlops.wsgi import application
from rollout.intake_bodies import LINES
from tests.builders import person
from tests.mlops import world as building
from tests.mlops.calls import token
from tests.mlops.world import World

pytestmark = [
    pytest.mark.django_db,
    # werkzeug, which schemathesis asks through, leaves the temporary file of a large multipart body to the collector
    pytest.mark.filterwarnings("ignore:unclosed file <_io.BufferedRandom name=\\d+>:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Exception ignored in. <_io.FileIO:pytest.PytestUnraisableExceptionWarning"),
]

USUAL = 30
EXAMPLES = int(os.environ.get("GATEHOUSE_FUZZ_EXAMPLES", USUAL))
NOT_ASKED = [positive_data_acceptance, negative_data_rejection]
"""REST framework reads "1" as 1 and refuses what no schema can say: both are right, and neither fits these two."""


@schemathesis.serializer(LINES)
def _lines(context: Any, value: Any) -> bytes:
    """A list as the lines that it stands for in the schema; what is no list is one line."""
    rows = value if isinstance(value, list) else [value]
    return b"\n".join(json.dumps(row, default=repr).encode() for row in rows)


ROWS = {
    "training-runs": "training_run", "evidence": "evidence", "gate-runs": "gate_run", "rollouts": "rollout",
    "incidents": "incident", "events": "event", "endpoints": "endpoint", "services": "service",
    "models": "registered_model",
}  # fmt: skip
"""The part of an address before a name or an id, and what it is of in the world."""


def _operations() -> dict[str, Any]:
    """Every operation by its method and address."""
    made = SchemaGenerator().get_schema(public=True)  # type: ignore[no-untyped-call]
    schema = schemathesis.openapi.from_dict(made)
    schema.app = application
    found: list[Any] = [each.ok() for each in schema.get_all_operations()]  # type: ignore[union-attr]  # the schema is valid
    return {operation.label: operation for operation in found}


OPERATIONS = _operations()


@pytest.fixture
def world() -> World:
    return building.build()


@pytest.fixture
def headers(world: World) -> Iterator[dict[str, str]]:
    """A caller with every duty of the team, and every scope."""
    model = world.registered_model
    user = person("fay", *(group.name for group in (model.data_science, model.platform, model.product)))
    signals = (request_started, request_finished)
    for signal in signals:  # they would close the test's connection
        signal.disconnect(close_old_connections)
    yield {"Authorization": f"Bearer {token(user)}"}
    for signal in signals:
        signal.connect(close_old_connections)
    scoring.shut_down()


def known(path: str, world: World) -> dict[str, Any]:
    """The parameters of an address, of things that the world has; others are left to chance."""
    found: dict[str, Any] = {}
    parts = path.strip("/").split("/")
    for before, part in pairwise(parts):
        if part in ("{name}", "{pk}", "{id}") and before in ROWS:
            row = world[ROWS[before]]
            found[part[1:-1]] = row.name if part == "{name}" else row.pk
        elif part in ("{decision}", "{freeze}"):
            found[part[1:-1]] = world[part[1:-1]].pk
        elif part in ("{number}", "{before}"):
            found[part[1:-1]] = 1
        elif part == "{after}":
            found["after"] = 3
    return found


def known_query(path: str, world: World) -> dict[str, Any]:
    """Where the query says what it is about."""
    return {"endpoint": world["endpoint"].name} if path in ("/api/v1/predictions/", "/api/v1/outcomes/") else {}


def cases(operation: Any, real: dict[str, Any], query: dict[str, Any]) -> st.SearchStrategy[Any]:
    """What is right and what is wrong, about what there is and about what there is not."""
    return st.one_of(
        [
            operation.as_strategy(generation_mode=mode, path_parameters=parameters or None, query=asked or None)
            for parameters, asked in (((real, query), ({}, {})) if real or query else (({}, {}),))
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
        ]
    )


def test_operations__are_all_of_the_api() -> None:
    documented = {re.sub("{.*?}", "<>", operation.path.removeprefix("/api/v1/")) for operation in OPERATIONS.values()}
    addresses = {re.sub("<.*?>", "<>", str(pattern.pattern)) for pattern in api.v1}

    # an address that works with and without a slash at its end is one
    assert {each.rstrip("/") for each in documented} == {each.rstrip("/") for each in addresses}


@pytest.mark.parametrize("label", OPERATIONS)
def test_operation__asked_by_a_machine__answers_as_it_says(label: str, world: World, headers: dict[str, str]) -> None:
    operation = OPERATIONS[label]

    @settings(
        max_examples=EXAMPLES,
        derandomize=EXAMPLES == USUAL,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases(operation, known(operation.path, world), known_query(operation.path, world)))
    def ask(case: Any) -> None:
        with transaction.atomic():
            case.call_and_validate(headers=headers, excluded_checks=NOT_ASKED)
            transaction.set_rollback(True)

    ask()
