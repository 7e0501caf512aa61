"""Scoring from the log: every request paired, a batch that fails costs itself, times taken in turns."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from audit.models import Event
from engines.scoring import Scored
from rollout import actions, looks, prediction_log, shadow
from rollout.judge import Kind
from rollout.models import Rollout, RolloutState
from tests.builders import ROBOT
from tests.rollout import life

pytestmark = pytest.mark.django_db(transaction=True)


def plan(**shadow_plan: Any) -> dict[str, Any]:
    return {**life.PLAN, "shadow": {**life.PLAN["shadow"], **shadow_plan}}


def stored(story: life.Life, rollout: Rollout) -> pa.Table:
    """All shadow rows, in the order of the requests."""
    since = story.now - timedelta(days=30)
    found = prediction_log.read_shadow(story.endpoint.name, rollout.version_id, since=since, until=story.now)
    return found.sort_by("at")


def scored(story: life.Life, rollout: Rollout, **options: Any) -> pa.Table:
    rows = shadow.requests_of(rollout, until=story.now)
    return shadow.scores(rollout, rows, now=story.now, **{"timed_rows": 0, **options})


def reread(rollout: Rollout) -> Rollout:
    return Rollout.objects.select_related("endpoint", "version", "incumbent", "gate_run__policy").get(pk=rollout.pk)


def test_scores__every_request__is_paired_once_however_often_it_is_asked() -> None:
    story = life.begin(plan={**life.PLAN, "look_every_hours": 1000})
    rollout = reread(story.candidate())
    story.hour(n=120)
    story.hour(n=80)
    assert len(scored(story, rollout)) == 200
    before = stored(story, rollout)
    again = scored(story, rollout)
    assert again.num_rows == len(before) == 200
    assert set(again["request_id"].to_pylist()) == set(before["request_id"].to_pylist())
    assert again["score"].null_count == 0


def test_scores__drawn_rows__are_timed_in_pairs_and_no_others() -> None:
    story = life.begin(plan={**life.PLAN, "look_every_hours": 1000})
    rollout = reread(story.candidate())
    story.hour(n=120)
    found = scored(story, rollout, timed_rows=12, budget=timedelta(seconds=60))
    mine = found["latency_ms"].to_numpy(zero_copy_only=False)
    theirs = found["champion_latency_ms"].to_numpy(zero_copy_only=False)
    assert (np.isnan(mine) == np.isnan(theirs)).all()
    assert (~np.isnan(mine)).sum() == 12
    assert np.nanmin(mine) > 0


def test_scores__no_budget_for_timing__times_nothing_and_scores_all() -> None:
    story = life.begin(plan={**life.PLAN, "look_every_hours": 1000})
    rollout = reread(story.candidate())
    story.hour(n=30)
    found = scored(story, rollout, timed_rows=12, budget=timedelta(0))
    assert found["latency_ms"].null_count == 30
    assert found["score"].null_count == 0


def test_scores__a_candidate_that_asks_for_more_than_requests_bring__fails_on_every_row() -> None:
    """Scoring the nulls of the log would say what it makes of nothing."""
    story = life.begin(plan={**life.PLAN, "look_every_hours": 1000})
    version = life.a_version(story.registered_model, inputs=("x1", "x9"), artifact=life.trained(("x1", "x2")))
    rollout = life.proposed(version)
    actions.start(rollout, actor=ROBOT, reason="Its turn.", now=story.now)
    rollout = reread(rollout)
    story.hour(n=50)
    found = scored(story, rollout)
    assert set(found["status"].to_pylist()) == {"error"}
    assert set(found["error"].to_pylist()) == {shadow.NOT_GIVEN}


def test_look__a_candidate_that_can_not_be_loaded__is_rolled_back_for_its_errors() -> None:
    story = life.begin()
    rollout = life.proposed(life.a_version(story.registered_model, artifact=b"nothing that can be loaded"))
    actions.start(rollout, actor=ROBOT, reason="Its turn.", now=story.now)
    rollout = story.until_ended(rollout, hours=8, n=60)
    assert rollout.state == RolloutState.ROLLED_BACK
    assert "Errors" in rollout.state_reason


def test_look__enough_of_everything_but_one_segment__waits_then_holds_and_never_advances() -> None:
    """The candidate is good: without the segment it would be in its canary after six hours."""
    story = life.begin(plan=plan(min_segment_rows={"x1": 100_000}, max_hours=18))
    rollout = story.candidate()
    for _ in range(20):
        story.hour(n=120)
    rollout.refresh_from_db()
    assert rollout.state == RolloutState.SHADOW
    concluded = list(rollout.analyses.order_by("number").values_list("conclusion", "summary"))
    assert {kind for kind, _ in concluded} == {"wait", "hold"}
    assert concluded[-1][0] == "hold"
    assert "x1" in concluded[-1][1]
    assert "of 100000" in concluded[-1][1]
    covered = rollout.analyses.latest("number").detail["coverage"]
    assert len(covered) == 4
    assert sum(each["share"] for each in covered) == pytest.approx(1.0)


def test_look__coverage_that_is_reached__is_no_obstacle() -> None:
    story = life.begin(plan=plan(min_segment_rows={"x1": 20, "tailnum": 1}))
    rollout = reread(story.candidate())
    story.hour(n=120)
    taken = looks.take(rollout, now=story.now)
    assert {each["column"] for each in taken.detail["coverage"]} == {"x1"}
    assert taken.conclusion.kind == Kind.WAIT


def test_look__in_shadow__keeps_where_the_two_differ_with_requests_that_can_be_found() -> None:
    story = life.begin()
    rollout = reread(story.candidate())
    for _ in range(3):
        story.hour(n=120)
    detail = looks.take(rollout, now=story.now).detail
    assert detail["rows"] == 360
    assert detail["decisions"]["n"] == 360
    assert "x2" in detail["disagreement"][0]["condition"]
    example = detail["disagreement"][0]["examples"][0]
    assert prediction_log.find(story.endpoint.name, example["request_id"]) is not None
    assert sum(detail["scores"]["histogram"]["counts"]["candidate"]) == 360


def test_record__of_a_look__keeps_what_guards_and_both_sizes_of_harm() -> None:
    story = life.begin(plan=plan(harm_from_loss_increase=0.005, tolerated_loss_increase=0.02))
    rollout = story.candidate()
    for _ in range(6):
        story.hour(n=60)
    told = {each.metric: each for each in rollout.analyses.latest("number").measurements.all()}
    assert not told["agreement"].guards
    assert not told["distribution"].guards
    assert told["loss"].guards
    assert (told["loss"].harm_from, told["loss"].limit) == (0.005, 0.02)


def test_look__rolled_back__tells_its_event_of_segments_but_not_of_single_requests() -> None:
    story = life.begin()
    rollout = story.until_ended(story.candidate(wrong_way=True), hours=24, n=200)
    assert rollout.state == RolloutState.ROLLED_BACK
    segments = Event.objects.about(rollout).get(name="rollout.rolled_back").data["segments"]
    assert segments
    assert all("examples" not in each for each in segments)


def test_look__minutes_after_another__does_not_tell_the_differences_again() -> None:
    story = life.begin(plan={**life.PLAN, "look_every_hours": 0.5})
    rollout = reread(story.candidate())
    story.hour(n=120)
    first = rollout.analyses.latest("number")
    assert "disagreement" in first.detail
    soon = looks.take(reread(rollout), now=first.at + timedelta(minutes=31))
    later = looks.take(reread(rollout), now=first.at + timedelta(minutes=61))
    assert "disagreement" not in soon.detail
    assert "disagreement" in later.detail
    assert soon.detail["decisions"]["n"] == 120


def test_requests__that_no_candidate_shadowed_or_the_fallback_answered__are_left_out() -> None:
    story = life.begin(plan={**life.PLAN, "look_every_hours": 1000})
    rollout = reread(story.candidate())
    story.hour(n=40)
    rows = prediction_log.read(story.endpoint.name, since=story.now - timedelta(days=1), until=story.now)
    elsewhere = rows.set_column(
        rows.column_names.index("request_id"), "request_id", pa.array([f"else-{row}" for row in range(40)])
    )
    place = elsewhere.column_names.index("shadow")
    elsewhere = elsewhere.set_column(place, "shadow", pa.array([False] * 40))
    prediction_log.append(story.endpoint.name, elsewhere)
    stopped = elsewhere.set_column(
        elsewhere.column_names.index("request_id"), "request_id", pa.array([f"stop-{row}" for row in range(40)])
    )
    stopped = stopped.set_column(place, "shadow", pa.array([True] * 40))
    stopped = stopped.set_column(stopped.column_names.index("arm"), "arm", pa.array(["fallback"] * 40))
    prediction_log.append(story.endpoint.name, stopped)
    found = shadow.requests_of(rollout, until=story.now)
    assert len(found) == 40
    assert not any(each.startswith(("else", "stop")) for each in found["request_id"].to_pylist())


def answering(broken: set[int], *, calls: list[int]) -> Any:
    """A candidate whose process dies when it is asked a row of ``broken``."""

    def ask(rows: pa.Table) -> Scored | str:
        values = rows["x"].to_pylist()
        calls.append(len(values))
        if broken & set(values):
            return "It died."
        return Scored(np.array(values, dtype=float), {})

    return ask


@pytest.mark.django_db(False)
def test_in_pieces__a_poisonous_row__costs_only_its_piece() -> None:
    calls: list[int] = []
    found = shadow.in_pieces(answering({450}, calls=calls), pa.table({"x": range(1000)}))
    failed = np.flatnonzero(np.isnan(found.scores))
    assert (failed.min(), failed.max(), len(failed)) == (400, 499, 100)
    assert found.errors[450] == "It died."
    assert calls == [1000] + [100] * 10


@pytest.mark.django_db(False)
def test_in_pieces__everything_fails__is_not_asked_for_ever() -> None:
    calls: list[int] = []
    found = shadow.in_pieces(answering(set(range(2000)), calls=calls), pa.table({"x": range(2000)}))
    assert np.isnan(found.scores).all()
    assert len(found.errors) == 2000
    assert len(calls) == 1 + shadow.GIVE_UP


@pytest.mark.django_db(False)
def test_in_pieces__a_small_batch_that_fails__is_asked_once() -> None:
    calls: list[int] = []
    found = shadow.in_pieces(answering({3}, calls=calls), pa.table({"x": range(50)}))
    assert np.isnan(found.scores).all()
    assert calls == [50]
