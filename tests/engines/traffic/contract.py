"""What every traffic backend does: one suite, imported by a test module for each, which brings a ``served`` fixture.

A module says ``from tests.engines.traffic.contract import *`` and defines ``served``, an endpoint whose champion
answers and whose candidate may.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from math import sqrt
from typing import Any, Protocol

import pytest

from engines.traffic.port import OlderFence, Split, TrafficBackend, UnknownVersion

__all__ = [
    "test_abort__candidate_answers__nobody_gets_it_any_more",
    "test_abort__older_than_what_is_in_force__is_refused",
    "test_abort__twice__is_once",
    "test_abort__while_an_apply_is_under_way__wins",
    "test_apply__another_rollout__picks_other_entities",
    "test_apply__older_fence__is_refused_and_changes_nothing",
    "test_apply__plan__is_what_is_observed",
    "test_apply__ramp__keeps_every_entity",
    "test_apply__share__is_within_binomial_bounds",
    "test_apply__twice__is_once",
    "test_plan__share__says_the_difference_in_words",
    "test_plan__unknown_version__is_refused",
    "test_read__requests__come_once_with_what_was_in_force",
]

LONG_ENOUGH = 60.0


class Served(Protocol):
    """An endpoint behind a backend."""

    backend: TrafficBackend
    endpoint: str
    champion: str
    candidate: str

    def wants(self, share: float) -> tuple[Split, int]:
        """The next step of the rollout, and its fence. The first call starts it."""

    def another_rollout(self, share: float) -> tuple[Split, int]:
        """As ``wants``, in a rollout of its own."""

    def ask(self, entities: Sequence[str]) -> Mapping[str, str]:
        """Send a request of each entity; the version that answered it."""

    def rows(self, since: str) -> tuple[Sequence[Mapping[str, Any]], str]:
        """What the backend read since a place, once all that was asked had to be there."""


def applied(served: Served, share: float) -> int:
    """One step further, applied; its fence."""
    want, fence = served.wants(share)
    served.backend.apply(served.backend.plan(served.endpoint, want, None), fence)
    return fence


def eventually(holds: Callable[[], bool]) -> bool:
    """Whether it comes true (the time it takes is a benchmark's matter)."""
    until = time.monotonic() + LONG_ENOUGH
    while time.monotonic() < until:
        if holds():
            return True
        time.sleep(0.05)
    return False


def at_candidate(served: Served, entities: Sequence[str]) -> set[str]:
    return {entity for entity, version in served.ask(entities).items() if version == served.candidate}


def people(count: int, *, prefix: str = "P") -> list[str]:
    return [f"{prefix}{number:05d}" for number in range(count)]


def test_apply__plan__is_what_is_observed(served: Served) -> None:
    want, fence = served.wants(0.25)
    plan = served.backend.plan(served.endpoint, want, None)
    receipt = served.backend.apply(plan, fence)
    seen = served.backend.observed(served.endpoint)
    assert (seen.split, seen.fence) == (plan.want, fence)
    assert receipt.split == plan.want


def test_apply__twice__is_once(served: Served) -> None:
    want, fence = served.wants(0.25)
    plan = served.backend.plan(served.endpoint, want, None)
    served.backend.apply(plan, fence)
    once = served.backend.observed(served.endpoint)
    assert not served.backend.apply(plan, fence).changed
    assert served.backend.observed(served.endpoint) == once


def test_apply__older_fence__is_refused_and_changes_nothing(served: Served) -> None:
    first, older = served.wants(0.5)
    plan = served.backend.plan(served.endpoint, first, None)
    served.backend.apply(plan, older)
    newer = applied(served, 0.75)
    with pytest.raises(OlderFence):
        served.backend.apply(plan, older)
    seen = served.backend.observed(served.endpoint)
    assert seen.fence == newer
    assert seen.split is not None
    assert seen.split.share == 0.75


def test_apply__ramp__keeps_every_entity(served: Served) -> None:
    asked = people(600)
    before: set[str] = set()
    for share in (0.1, 0.25, 0.5):
        applied(served, share)
        now = at_candidate(served, asked)
        assert before < now
        before = now


def test_apply__share__is_within_binomial_bounds(served: Served) -> None:
    applied(served, 0.1)
    asked = people(1500, prefix="Q")
    found = len(at_candidate(served, asked))
    expected, deviation = 0.1 * len(asked), sqrt(len(asked) * 0.1 * 0.9)
    assert abs(found - expected) < 4.5 * deviation


def test_apply__another_rollout__picks_other_entities(served: Served) -> None:
    asked = people(1000)
    applied(served, 0.5)
    first = at_candidate(served, asked)
    want, fence = served.another_rollout(0.5)
    served.backend.apply(served.backend.plan(served.endpoint, want, None), fence)
    again = {entity for entity, version in served.ask(asked).items() if version == want.candidate}
    deviation = sqrt(len(asked) * 0.25 * 0.75)
    assert abs(len(first & again) - 0.25 * len(asked)) < 4.5 * deviation + 0.05 * len(asked)


def test_abort__candidate_answers__nobody_gets_it_any_more(served: Served) -> None:
    asked = people(100)
    fence = applied(served, 0.5)
    assert at_candidate(served, asked)
    served.backend.abort(served.endpoint, fence)
    assert eventually(lambda: not at_candidate(served, asked))
    seen = served.backend.observed(served.endpoint)
    assert seen.split is not None
    assert seen.split.weights == {served.champion: 1.0}


def test_abort__while_an_apply_is_under_way__wins(served: Served) -> None:
    applied(served, 0.1)
    want, fence = served.wants(0.5)
    plan = served.backend.plan(served.endpoint, want, None)
    refused: list[Exception] = []

    def apply() -> None:
        try:
            served.backend.apply(plan, fence)
        except OlderFence as refusal:
            refused.append(refusal)

    applying = threading.Thread(target=apply)
    applying.start()
    served.backend.abort(served.endpoint, fence)
    applying.join()
    asked = people(100)
    assert eventually(lambda: not at_candidate(served, asked))
    with pytest.raises(OlderFence):
        served.backend.apply(plan, fence)
    assert not at_candidate(served, asked)


def test_abort__twice__is_once(served: Served) -> None:
    fence = applied(served, 0.5)
    assert served.backend.abort(served.endpoint, fence).changed
    assert not served.backend.abort(served.endpoint, fence).changed


def test_abort__older_than_what_is_in_force__is_refused(served: Served) -> None:
    older = applied(served, 0.25)
    applied(served, 0.5)
    with pytest.raises(OlderFence):
        served.backend.abort(served.endpoint, older)
    assert at_candidate(served, people(100))


def test_plan__unknown_version__is_refused(served: Served) -> None:
    want, _ = served.wants(0.5)
    strange = Split(**{**want.as_dict(), "candidate": "nobody-knows-v9"})
    with pytest.raises(UnknownVersion):
        served.backend.plan(served.endpoint, strange, None)


def test_plan__share__says_the_difference_in_words(served: Served) -> None:
    was, _ = served.wants(0.25)
    want, _ = served.wants(0.5)
    plan = served.backend.plan(served.endpoint, want, was)
    assert f"{served.candidate}: 0.25 → 0.5 of the entities." in plan.difference


def test_read__requests__come_once_with_what_was_in_force(served: Served) -> None:
    applied(served, 0.5)
    _, place = served.rows("")
    first = served.ask(people(40, prefix="R"))
    found, place = served.rows(place)
    versions = {row["entity"]: f"{row['model']}-v{row['version']}" for row in found}
    assert versions == first
    assert {(row["share"], row["arm"] == "canary") for row in found} == {(0.5, False), (0.5, True)}
    served.ask(people(10, prefix="S"))
    more, place = served.rows(place)
    assert {row["entity"] for row in more} == set(people(10, prefix="S"))
    assert not served.rows(place)[0]
