"""Many applies at once lose none: numbers have no gaps, and who planned on an older state is told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from audit.errors import Conflict
from audit.models import Event
from features import definitions
from features.actions import apply_plan
from features.actions import plan as planning
from features.models import FeatureService, FeatureView, FeatureViewVersion
from tests.builders import NOON, ROBOT, group
from tests.features import store
from tests.features.races import run_together
from tests.features.test_plan import SCIENCE, VIEW

pytestmark = [pytest.mark.postgres, pytest.mark.django_db(transaction=True)]

THREADS, EACH = 8, 12


def told(name: str, ttl: timedelta) -> dict[str, Any]:
    """A file set of one team: a view and a service of it."""
    return {
        "views": {name: {**VIEW, "ttl": f"{ttl.total_seconds():g}s"}},
        "services": {f"{name}-service": {"features": [f"{name}.temp"], "owner": SCIENCE}},
    }


def apply(name: str, ttl: timedelta) -> None:
    wanted = definitions.read(told(name, ttl))
    digest = planning.plan(wanted, publish=True, actor=ROBOT).digest
    apply_plan.apply(wanted, digest=digest, publish=True, reason="Go.", actor=ROBOT, now=NOON)


def until_applied(name: str, ttl: timedelta) -> None:
    """Plan and apply, and plan again when somebody was faster, as a pipeline does."""
    while True:
        try:
            return apply(name, ttl)
        except Conflict:
            continue


def each_in_turn(works: list[Callable[[], None]]) -> None:
    for work in works:
        work()


@pytest.fixture(autouse=True)
def _there() -> None:
    group(SCIENCE)
    store.entity()
    store.source([store.reading(hour) for hour in range(3)])


def test_apply__of_a_hundred_different_views_at_once__loses_none() -> None:
    names = [f"view{number}" for number in range(THREADS * EACH)]
    works = [[partial(apply, name, timedelta(hours=1)) for name in names[thread::THREADS]] for thread in range(THREADS)]
    run_together([partial(each_in_turn, mine) for mine in works])  # type: ignore[arg-type]  # partials are callables

    assert set(FeatureView.objects.values_list("name", flat=True)) == set(names)
    assert FeatureService.objects.count() == len(names)
    assert Event.objects.filter(name="feature_view_version.published").count() == len(names)


def test_apply__of_one_view_by_many__makes_every_version_once_in_one_row_of_numbers() -> None:
    spans = [timedelta(minutes=minute) for minute in range(1, THREADS * EACH // 4 + 1)]
    works = [[partial(until_applied, "weather", span) for span in spans[thread::THREADS]] for thread in range(THREADS)]
    run_together([partial(each_in_turn, mine) for mine in works])  # type: ignore[arg-type]  # partials are callables

    stored = FeatureViewVersion.objects.order_by("number").values_list("number", "ttl")
    assert [number for number, _ in stored] == list(range(1, len(spans) + 1))
    assert {ttl for _, ttl in stored} == set(spans)
    pins = FeatureService.objects.order_by("number").values_list("number", "features__view_version__number")
    assert [number for number, _ in pins] == [pinned for _, pinned in pins]
