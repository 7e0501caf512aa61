"""What a request gets: its arm's answer, or the next best; and what the log says of it before the answer is out."""

from __future__ import annotations

from datetime import timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from audit.errors import InvalidInput, NotFound
from features.models import Entity, FeatureService, FeatureView, FeatureViewVersion
from registry.artifacts import local_path
from registry.models import ModelVersion
from rollout import actions, gateway, prediction_log, routing, scorers
from rollout.assignment import bucket
from rollout.models import Endpoint, Fallback, Rollout, Route
from tests import builders
from tests.builders import NOON, ROBOT
from tests.rollout import life

pytestmark = pytest.mark.django_db


def serve(asked: pa.Table) -> pa.Table:
    return gateway.serve(life.ENDPOINT, asked, now=NOON, refresh=True).table


def logged() -> pa.Table:
    return prediction_log.read(life.ENDPOINT, since=NOON - timedelta(days=1), until=NOON + timedelta(days=2))


def at_canary(story: life.Life) -> Rollout:
    """A candidate that reads both numbers, at the last canary step (share one half)."""
    rollout = story.candidate()
    actions.advance(rollout, actor=ROBOT, reason="test", now=NOON)
    actions.advance(rollout, actor=ROBOT, reason="test", now=NOON)
    return rollout


def test_serve__a_champion__answers_in_order_and_logs_features() -> None:
    story = life.begin()
    asked = life.requests(50, at=NOON, seed=1)
    answers = serve(asked)
    assert answers["request_id"].to_pylist() == asked["request_id"].to_pylist()
    assert pc.unique(answers["version"]).to_pylist() == [story.champion.number]
    assert answers["decision"].to_pylist() == [score >= 0.5 for score in answers["score"].to_pylist()]
    log = logged().sort_by("at")
    assert log["score"].to_pylist() == answers["score"].to_pylist()
    assert log["x1"].to_pylist() == asked["x1"].to_pylist()
    assert log["at"].to_pylist() == asked["at"].to_pylist()
    assert log["latency_ms"].null_count == 50, "rows are timed in a canary only"


def test_serve__an_unknown_endpoint__is_not_found() -> None:
    with pytest.raises(NotFound):
        serve(life.requests(1, at=NOON, seed=1))


def test_serve__a_missing_request_feature__names_it() -> None:
    life.begin()
    with pytest.raises(InvalidInput, match="x1"):
        serve(life.requests(3, at=NOON, seed=1).drop_columns("x1"))
    assert len(logged()) == 0


def test_serve__no_champion_yet__gives_the_fallback() -> None:
    life.endpoint(builders.registered_model())
    answers = serve(life.requests(3, at=NOON, seed=1))
    assert answers["score"].to_pylist() == [0.2] * 3
    assert answers["arm"].to_pylist() == ["fallback"] * 3
    assert logged()["version_id"].null_count == 3


def test_serve__kill_switch__gives_the_fallback_until_released() -> None:
    story = life.begin()
    model, paula = story.registered_model, builders.paula()
    actions.decide(story.endpoint, kind="stop", registered_model=model, note="Wrong alarms.", actor=paula, now=NOON)
    stopped = serve(life.requests(3, at=NOON, seed=1))
    actions.decide(story.endpoint, kind="resume", registered_model=model, note="Mended.", actor=paula, now=NOON)
    resumed = serve(life.requests(3, at=NOON, seed=2))
    assert stopped["arm"].to_pylist() == ["fallback"] * 3
    assert resumed["arm"].to_pylist() == ["champion"] * 3


def test_serve__kill_switch_to_an_earlier_champion__is_answered_by_it() -> None:
    story = life.begin()
    named = Fallback.objects.create(
        endpoint=story.endpoint, name="first", version=story.champion, note="It worked.", created_at=NOON
    )
    served = serve(life.requests(3, at=NOON, seed=1))
    Endpoint.objects.filter(pk=story.endpoint.pk).update(enabled=False)
    Route.objects.filter(endpoint=story.endpoint).update(fallback=named, revision=50)
    stopped = serve(life.requests(3, at=NOON, seed=1))
    assert stopped["score"].to_pylist() == served["score"].to_pylist()
    assert stopped["arm"].to_pylist() == ["fallback"] * 3
    assert stopped["version"].to_pylist() == [story.champion.number] * 3


def test_serve__inputs_by_value__are_taken_as_they_are() -> None:
    life.begin()
    asked = pa.table({"request_id": ["a"], "x1": [0.5]})
    assert serve(asked)["status"].to_pylist() == ["ok"]


def test_serve__in_shadow__champion_answers_all_and_the_candidates_inputs_are_logged() -> None:
    story = life.begin()
    rollout = story.candidate()
    asked = life.requests(30, at=NOON, seed=1)
    answers = serve(asked)
    assert answers["arm"].to_pylist() == ["champion"] * 30
    log = logged().sort_by("at")
    assert log["x2"].to_pylist() == asked["x2"].to_pylist()
    assert pc.unique(log["salt"]).to_pylist() == [rollout.salt]


def test_serve__in_shadow_without_what_the_candidate_needs__champion_answers_unharmed() -> None:
    story = life.begin()
    story.candidate()
    answers = serve(life.requests(30, at=NOON, seed=1).drop_columns("x2"))
    assert answers["status"].to_pylist() == ["ok"] * 30


def test_serve__in_canary__each_entity_sticks_to_the_arm_of_its_bucket() -> None:
    story = life.begin()
    rollout = at_canary(story)
    asked = life.requests(400, at=NOON, seed=1)
    answers = serve(asked)
    expected = [
        "canary" if bucket(each, salt=rollout.salt) < 0.5 else "champion" for each in asked["tailnum"].to_pylist()
    ]
    assert answers["arm"].to_pylist() == expected
    assert {*zip(answers["arm"].to_pylist(), answers["version"].to_pylist(), strict=True)} == {
        ("canary", rollout.version.number),
        ("champion", story.champion.number),
    }
    timed = logged().filter(pc.is_valid(logged()["latency_ms"]))
    assert sorted(timed["arm"].to_pylist()) == ["canary"] * 2 + ["champion"] * 2


def test_serve__when_the_canary_fails__the_champion_answers_and_the_error_is_the_canarys() -> None:
    story = life.begin()
    rollout = at_canary(story)
    asked = life.requests(400, at=NOON, seed=1, broken=0.5)
    answers = serve(asked)
    assert answers["score"].null_count == 0
    failed = logged().filter(pc.equal(logged()["status"], "error"))
    assert len(failed) > 50
    assert pc.unique(failed["arm"]).to_pylist() == ["canary"]
    assert pc.unique(failed["version_id"]).to_pylist() == [rollout.version_id]
    assert pc.unique(failed["answered_by"]).to_pylist() == ["champion"]
    assert pc.all(pc.match_substring(failed["error"], "NaN")).as_py()


def test_serve__when_the_canary_can_not_be_fed__its_rows_are_its_errors() -> None:
    story = life.begin()
    at_canary(story)
    answers = serve(life.requests(100, at=NOON, seed=1).drop_columns("x2"))
    assert pc.unique(answers["answered_by"]).to_pylist() == ["champion"]
    assert set(answers["status"].filter(pc.equal(answers["arm"], "canary")).to_pylist()) == {"error"}


def test_serve__when_the_champion_fails__the_fallback_answers() -> None:
    life.begin()
    asked = life.requests(20, at=NOON, seed=1)
    holes = asked.set_column(asked.column_names.index("x1"), "x1", pa.nulls(20, pa.float64()))
    answers = serve(holes)
    assert answers["score"].to_pylist() == [0.2] * 20
    assert answers["status"].to_pylist() == ["error"] * 20


def test_serve__when_the_artifact_is_damaged__the_fallback_answers_and_the_log_says_why() -> None:
    story = life.begin()
    scorers.close_all()
    path = local_path(story.champion)
    path.chmod(0o600)
    path.write_bytes(b"something else")
    answers = serve(life.requests(5, at=NOON, seed=1))
    assert answers["answered_by"].to_pylist() == ["fallback"] * 5
    assert "damaged" in logged()["error"][0].as_py()


def test_serve__a_request_that_names_nobody__sticks_to_nothing() -> None:
    life.begin()
    serve(life.requests(5, at=NOON, seed=1).drop_columns("tailnum"))
    assert logged()["entity"].to_pylist() == logged()["request_id"].to_pylist()
    assert pc.unique(logged()["sticky"]).to_pylist() == [False]


def test_serve__no_requests__gives_no_answers() -> None:
    life.begin()
    assert len(serve(life.requests(5, at=NOON, seed=1).slice(0, 0))) == 0


def test_serve__what_the_service_asks_and_the_model_does_not_take__is_logged_for_the_audit() -> None:
    life.service("x1", ["x1", "x2"], builders.registered_model())  # the champion's, which takes one of both
    life.begin()
    asked = life.requests(5, at=NOON, seed=1)
    serve(asked)
    log = logged().sort_by("at")
    assert log["request:x2"].to_pylist() == asked["x2"].to_pylist()
    assert "request:x1" not in log.column_names


def test_serve__in_a_rollout__the_log_says_which_rows_the_candidate_was_given() -> None:
    story = life.begin()
    serve(life.requests(3, at=NOON, seed=1))
    story.candidate()
    serve(life.requests(4, at=NOON, seed=2))
    serve(life.requests(5, at=NOON, seed=3).drop_columns(["x2"]))
    given = logged().sort_by("request_id")[prediction_log.CANDIDATE_GIVEN].to_pylist()
    assert given == [None] * 3 + [True] * 4 + [None] * 5


def test_line__within_half_a_second__is_not_read_again() -> None:
    story = life.begin()
    first = routing.line(life.ENDPOINT)
    Route.objects.filter(endpoint=story.endpoint).update(revision=99)
    assert routing.line(life.ENDPOINT) is first
    assert routing.line(life.ENDPOINT, refresh=True).revision == 99


def pinned(number: int, view_version: FeatureViewVersion) -> FeatureService:
    service = FeatureService.objects.create(
        name="inputs",
        number=number,
        request_features=["score"],
        owner=builders.group("delay-science"),
        content_hash=str(number),
        created_at=NOON,
    )
    service.features.create(view_version=view_version, feature="mean", position=0)
    return service


def test_serving__another_meaning_under_the_same_name__is_logged_under_a_name_of_its_own() -> None:
    owner = builders.group("delay-science")
    entity = Entity.objects.create(name="carrier", join_keys=["carrier"])
    view = FeatureView.objects.create(name="delays", entity=entity, owner=owner)
    old, new = (
        FeatureViewVersion.objects.create(
            view=view,
            number=number,
            state="published",
            expression="SELECT 1",
            features=[],
            content_hash=str(number),
            created_at=NOON,
        )
        for number in (1, 2)
    )
    champion = routing.serving(ModelVersion(service=pinned(1, old)))
    assert champion.logged == {"score": "feature:score", "delays__mean": "delays__mean"}
    same = routing.serving(ModelVersion(service=pinned(2, old)), beside=champion)
    assert same.logged == champion.logged
    changed = routing.serving(ModelVersion(service=pinned(3, new)), beside=champion)
    assert changed.logged == {"score": "feature:score", "delays__mean": "candidate:delays__mean"}
