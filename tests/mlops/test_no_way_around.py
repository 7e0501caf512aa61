"""There is no way around the gates: random walks over rows, verbs, API and admin, watched by an independent oracle.

``GATEHOUSE_WALKS`` sets how many walks there are in all (10,000), ``GATEHOUSE_WALK_SEED`` which ones.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy

import pytest
from django.db import IntegrityError, connection, transaction

from audit import clock, guards
from tests.builders import NOON
from tests.mlops import gate_walk
from tests.mlops.gate_oracle import Oracle, read_memberships
from tests.mlops.gate_walk import ONLINE, ROWS, VERBS, Action, Step, World

pytestmark = pytest.mark.django_db

WALKS = int(os.environ.get("GATEHOUSE_WALKS", "10000"))
SEED = os.environ.get("GATEHOUSE_WALK_SEED", "gates")
Layers = Sequence[Mapping[str, Action]]

LAYERS: dict[str, tuple[Layers, float]] = {
    "rows": ([ROWS], 0.46),
    "more rows": ([ROWS], 0.46),
    "verbs": ([ROWS, VERBS], 0.06),
    "online": ([ROWS, VERBS, ONLINE], 0.02),
}
"""What walks are made of, and their share of all: a page costs as much as a hundred rows. Rows twice, so that two
processes share them."""

LOAD_BEARING = (
    "guard_gates_policy_update",
    "guard_gates_policy_proposed",
    "guard_gates_policydecision_update",
    "guard_gates_policydecision_delete",
    "guard_gates_policydecision_second_person",
    "guard_gates_gaterun_opened",
    "guard_gates_gaterun_passed",
    "guard_gates_gaterun_frozen",
    "guard_gates_gaterun_delete",
    "guard_gates_checkresult_asked_for",
    "guard_gates_checkresult_running",
    "guard_gates_checkresult_update",
    "guard_gates_checkresult_delete",
    "guard_rollout_rollout_gated",
    "guard_rollout_rollout_entered",
    "guard_rollout_rollout_onwards",
    "guard_rollout_rollout_frozen",
    "guard_rollout_rollout_paused",
    "guard_rollout_route_insert",
    "guard_rollout_route_update",
    "guard_rollout_route_falls_back",
    "guard_rollout_route_falls_back_insert",
    "guard_rollout_fallback_frozen",
    "guard_rollout_fallback_delete",
    "guard_rollout_decision_by_product",
    "guard_rollout_decision_update",
    "guard_rollout_decision_delete",
    "guard_registry_alias_insert",
    "guard_registry_alias_update",
    "guard_registry_modelversion_update",
)
"""Without any one of these there is a way around; the walks must find it."""
PATIENCE = 3000
"""Walks after which a way that is there counts as not found."""


@pytest.fixture(autouse=True)
def _noon() -> Iterator[None]:
    with clock.at(NOON):
        yield


@contextmanager
def undone() -> Iterator[None]:
    """What is done inside is put back."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def first_hole(world: World, start: Oracle, steps: Sequence[Step]) -> list[str]:
    """What the oracle finds on one walk, at the first step after which there is anything; the walk is undone."""
    oracle = Oracle(start.members, start.before)
    with undone():
        for step in steps:
            if gate_walk.take(world, step) and (holes := oracle.holes()):
                return holes
    return []


def shortest(world: World, start: Oracle, steps: list[Step]) -> list[Step]:
    """The steps without those that the hole does not need."""
    for position in reversed(range(len(steps))):
        fewer = [*steps[:position], *steps[position + 1 :]]
        if first_hole(world, start, fewer):
            steps = fewer
    return steps


def watching() -> Oracle:
    """An oracle that has seen the world as it starts, which has no hole."""
    start = Oracle(read_memberships())
    start.holes()  # whoever is let in already entered earlier
    assert start.holes() == []
    return start


@pytest.mark.slow
@pytest.mark.parametrize("layer", LAYERS)
def test_random_walks__over_everything_that_can_write__find_no_way_around(layer: str) -> None:
    layers, share = LAYERS[layer]
    world = gate_walk.build(online=layer == "online")
    start = watching()
    for number in range(round(WALKS * share)):
        steps = gate_walk.walk_of(layers, f"{SEED}:{layer}:{number}")
        if first_hole(world, start, steps):
            steps = shortest(world, start, steps)
            pytest.fail(f"walk {SEED}:{layer}:{number}: {steps} → {first_hole(world, start, steps)}")


@pytest.mark.slow
def test_random_walks__with_a_guard_gone__find_the_way_that_it_closed() -> None:
    world = gate_walk.build()
    start = watching()
    unfound = []
    for name in LOAD_BEARING:
        with undone():
            layers = [ROWS, gate_walk.touching(stand_aside(name))]
            walks = (gate_walk.walk_of(layers, f"{name}:{number}") for number in range(PATIENCE))
            if not any(first_hole(world, start, steps) for steps in walks):
                unfound.append(name)
    assert not unfound
    assert guards.missing() == [each.name for each in guards.declared() if isinstance(each, guards.Owing)]


@pytest.mark.parametrize("table", ["gates_policy", "gates_policydecision", "gates_checkresult", "gates_gaterun"])
def test_row__replaced_on_sqlite__is_refused_like_any_deletion(table: str) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("only SQLite knows INSERT OR REPLACE")
    gate_walk.build()
    with pytest.raises(IntegrityError, match=r"can not be deleted|starts open|while its gate run|second person"):
        gate_walk.execute(f'INSERT OR REPLACE INTO "{table}" SELECT * FROM "{table}"')


def test_oracle__remembers_what_it_saw__without_sharing_it() -> None:
    gate_walk.build()
    start = watching()
    before = deepcopy(start.before)
    Oracle(start.members, start.before).holes()

    assert start.before == before


def stand_aside(name: str) -> str:
    """Let one guard refuse nothing, until the transaction is rolled back; the table that it stood before."""
    guard = next(each for each in guards.declared() if each.name == name)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":  # a trigger can not be dropped under the rows that it still has to see
            row = "OLD" if name.endswith("_delete") else "NEW"
            cursor.execute(
                f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN {row}; END $$"
            )
        else:
            cursor.execute(f'DROP TRIGGER "{guard.name}"')
    return guard.table
