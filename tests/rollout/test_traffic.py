"""An endpoint whose traffic nginx splits: told what the route says, told again, and read back into the log."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from audit import clock
from audit.errors import Conflict, InvalidInput, NotPermitted
from audit.models import Event
from engines.traffic.port import Split
from jobs.drain import drain
from monitoring.models import Incident
from rollout import actions, looks, prediction_log, traffic
from rollout.models import DecisionKind, GatewayProcess, Rollout, RolloutState, Route, TrafficPlan
from tests import builders
from tests.builders import NOON, ROBOT
from tests.nginx_server import MISSING, RunningNginx, is_required, nginx_program, running_nginx, wait_for_lines
from tests.rollout import life

pytestmark = pytest.mark.django_db

CHAMPION, CANDIDATE = "late-arrival-v1", "late-arrival-v2"


@pytest.fixture
def nginx(tmp_path: Path, settings: Any) -> Iterator[RunningNginx]:
    program = nginx_program()
    if program is None:
        if is_required():
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    with running_nginx(program, tmp_path / "nginx", (CHAMPION, CANDIDATE)) as running:
        settings.GATEHOUSE_NGINX_FOLDER = str(running.folder)
        settings.GATEHOUSE_NGINX_LOGS = str(running.logs)
        settings.GATEHOUSE_NGINX_COMMAND = " ".join(running.command)
        yield running


@dataclass
class Behind:
    """A story whose endpoint nginx serves."""

    story: life.Life
    nginx: RunningNginx
    asked: int = 0

    def work(self) -> None:
        """What the queue does by itself, at the story's time."""
        with clock.at(self.story.now):
            drain()

    def minute(self) -> TrafficPlan | None:
        self.story.now += timedelta(minutes=1)
        with clock.at(self.story.now):
            return traffic.reconcile(self.story.endpoint, now=self.story.now)

    def canary(self) -> Rollout:
        """A candidate in its first canary step, applied."""
        rollout = self.story.candidate()
        actions.advance(rollout, actor=ROBOT, reason="Its turn.", now=self.story.now)
        self.work()
        return rollout

    def ask(self, count: int, *, path: str = "/", prefix: str = "N") -> list[str]:
        host, port = self.nginx.front.rsplit(":", 1)
        answers = []
        for number in range(count):
            client = http.client.HTTPConnection(host, int(port), timeout=30)
            client.request("POST", path, body=b"{}", headers={"X-Entity": f"{prefix}{number:03d}"})
            answers.append(client.getresponse().read().decode())
            client.close()
        self.asked += count
        wait_for_lines(self.nginx.logs / f"{life.ENDPOINT}.log", self.asked)
        return answers

    def document(self) -> dict[str, Any]:
        return {"backend": "nginx", "listen": self.nginx.front, "upstreams": self.nginx.versions}


@pytest.fixture
def behind(nginx: RunningNginx) -> Behind:
    story = life.begin()
    found = Behind(story, nginx)
    actions.set_traffic(story.endpoint, traffic=found.document(), reason="It runs there.", actor=ROBOT, now=NOON)
    found.work()
    return found


def follows(found: Behind) -> bool | None:
    return traffic.standing(found.story.endpoint).follows


def test_set_traffic__nginx__is_told_at_once(behind: Behind) -> None:
    assert set(behind.ask(5)) == {CHAMPION}
    plan = TrafficPlan.objects.get()
    assert plan.applied_at == behind.story.now
    assert f"{CHAMPION}: 0 → 1 of the entities." in plan.difference


def test_set_traffic__while_a_rollout_is_active__is_refused(behind: Behind) -> None:
    behind.canary()
    with pytest.raises(Conflict, match="evidence"):
        actions.set_traffic(behind.story.endpoint, traffic={}, reason="Back.", actor=ROBOT, now=NOON)


def test_set_traffic__not_of_the_platform_group__is_refused() -> None:
    story = life.begin()
    stranger = builders.person("charlie")
    with pytest.raises(NotPermitted):
        actions.set_traffic(story.endpoint, traffic={}, reason="Mine.", actor=stranger, now=NOON)


def test_set_traffic__document_that_can_not_be__names_the_field() -> None:
    story = life.begin()
    with pytest.raises(InvalidInput, match="listen"):
        actions.set_traffic(story.endpoint, traffic={"backend": "nginx"}, reason="x", actor=ROBOT, now=NOON)


def test_set_traffic__port_of_another_endpoint__is_refused(behind: Behind) -> None:
    """nginx would send the one's requests to the other's versions."""
    with pytest.raises(InvalidInput, match="already"):
        actions.create_endpoint(
            name="second",
            title="Second",
            registered_model=behind.story.registered_model,
            entity_column="tailnum",
            outcome_window=life.WINDOW,
            traffic=behind.document(),
            actor=ROBOT,
            now=NOON,
        )


def test_create_endpoint__elsewhere_by_who_is_not_of_the_platform_group__is_refused() -> None:
    registered_model = builders.registered_model()
    with pytest.raises(NotPermitted):
        actions.create_endpoint(
            name="second",
            title="Second",
            registered_model=registered_model,
            entity_column="tailnum",
            outcome_window=life.WINDOW,
            traffic={"backend": "kserve", "storage_uri": "s3://models/{number}"},
            actor=builders.member(registered_model.product),
            now=NOON,
        )


def test_canary__begins__gets_its_share_at_nginx(behind: Behind) -> None:
    rollout = behind.canary()
    plan = TrafficPlan.objects.order_by("-fence").first()
    assert plan is not None
    assert plan.wanted["split"]["share"] == 0.1
    assert plan.fence == Route.objects.get(endpoint=rollout.endpoint).revision
    assert set(behind.ask(100)) == {CHAMPION, CANDIDATE}
    assert follows(behind)


def test_rolled_back__by_the_rules__is_off_the_traffic_before_the_next_tick(behind: Behind) -> None:
    rollout = behind.canary()
    actions.roll_back(rollout, actor=ROBOT, reason="Worse.", now=behind.story.now)
    behind.work()
    assert set(behind.ask(100)) == {CHAMPION}
    assert follows(behind)


def test_promoted__candidate_answers_everybody__and_was_never_taken_off(behind: Behind) -> None:
    rollout = behind.canary()
    actions.advance(rollout, actor=ROBOT, reason="Its turn.", now=behind.story.now)
    actions.promote(rollout, actor=ROBOT, reason="Better.", now=behind.story.now)
    behind.work()
    assert set(behind.ask(50)) == {CANDIDATE}
    assert not (behind.nginx.folder / f"{life.ENDPOINT}.abort").exists()


def test_paused__by_a_person__is_off_and_comes_back_for_the_same_entities(behind: Behind) -> None:
    rollout = behind.canary()
    before = behind.ask(100)
    actions.pause(rollout, actor=ROBOT, reason="Wait.", now=behind.story.now)
    behind.work()
    assert set(behind.ask(100)) == {CHAMPION}
    actions.resume(rollout, actor=ROBOT, reason="On.", now=behind.story.now)
    behind.work()
    assert behind.ask(100) == before


def test_kill_switch__pulled__nobody_answers_there(behind: Behind) -> None:
    owner = builders.member(behind.story.registered_model.product)
    actions.decide(
        behind.story.endpoint,
        kind=DecisionKind.STOP,
        registered_model=behind.story.registered_model,
        note="It misfires.",
        actor=owner,
        now=behind.story.now,
    )
    behind.work()
    assert "stopped by its product owner" in behind.ask(1)[0]


def test_reconcile__plan__stands_there_before_it_is_applied(behind: Behind) -> None:
    """nginx refuses, and the plan says what was to be done and why it is not."""
    (behind.nginx.folder / "somebody-else.conf").write_text("nonsense;")
    behind.canary()
    plan = TrafficPlan.objects.order_by("-fence").first()
    assert plan is not None
    assert plan.applied_at is None
    assert "nonsense" in plan.problem
    assert f"{CANDIDATE}: 0 → 0.1 of the entities." in plan.difference
    assert follows(behind) is False


def test_reconcile__refused_for_long__is_an_incident_until_it_follows(behind: Behind) -> None:
    broken = behind.nginx.folder / "somebody-else.conf"
    broken.write_text("nonsense;")
    behind.canary()
    for _ in range(5):
        behind.minute()
    behind.work()
    incident = Incident.objects.get()
    assert incident.duty == "platform"
    assert incident.occurrences == 1
    broken.unlink()
    behind.minute()
    behind.work()
    incident.refresh_from_db()
    assert incident.state == "resolved"
    assert set(behind.ask(100)) == {CHAMPION, CANDIDATE}


def test_reconcile__refused_for_a_moment__is_no_incident(behind: Behind) -> None:
    broken = behind.nginx.folder / "somebody-else.conf"
    broken.write_text("nonsense;")
    behind.canary()
    broken.unlink()
    behind.minute()
    behind.work()
    assert not Event.objects.filter(name__startswith="endpoint.traffic_adrift").exists()
    assert follows(behind)


def test_reconcile__somebody_changed_the_file__is_put_right(behind: Behind) -> None:
    behind.canary()
    (behind.nginx.folder / f"{life.ENDPOINT}.conf").unlink()
    behind.minute()
    assert set(behind.ask(100)) == {CHAMPION, CANDIDATE}


def test_reconcile__nobody_said_where_the_version_is__says_so(behind: Behind) -> None:
    story = behind.story
    document = {**behind.document(), "upstreams": {CHAMPION: behind.nginx.versions[CHAMPION]}}
    actions.set_traffic(story.endpoint, traffic=document, reason="Forgot one.", actor=ROBOT, now=NOON)
    behind.canary()
    plan = TrafficPlan.objects.order_by("-fence").first()
    assert plan is not None
    assert f"Nobody said where {CANDIDATE} answers" in plan.problem


def test_take_in__served_by_nginx__is_in_the_log_once(behind: Behind) -> None:
    rollout = behind.canary()
    answers = behind.ask(60)
    today = clock.now()
    for _ in range(2):
        traffic.take_in(behind.story.endpoint, now=today)
    rows = prediction_log.read(
        life.ENDPOINT, since=today - timedelta(hours=1), until=today + timedelta(hours=1)
    ).to_pylist()
    assert len(rows) == 60
    by_arm = {"champion": CHAMPION, "canary": CANDIDATE}
    assert {(row["entity"], by_arm[row["arm"]]) for row in rows} == {
        (f"N{number:03d}", answer) for number, answer in enumerate(answers)
    }
    assert {(row["salt"], row["share"], row["step"], row["source"]) for row in rows} == {
        (rollout.salt, 0.1, 1, "intake")
    }
    assert {row["candidate_id"] for row in rows} == {rollout.version_id}


def test_take_in__candidate_fails__counts_as_its_error(behind: Behind) -> None:
    behind.canary()
    behind.ask(100, path=f"/fails/{CANDIDATE}")
    now = clock.now()
    taken = traffic.take_in(behind.story.endpoint, now=now)
    assert (taken.rows, taken.unreadable) == (100, 0)
    rows = prediction_log.read(life.ENDPOINT, since=now - timedelta(hours=1), until=now + timedelta(hours=1))
    found = {(row["arm"], row["status"], row["answered_by"]) for row in rows.to_pylist()}
    assert found == {("champion", "ok", "champion"), ("canary", "error", "champion")}


def test_take_in__line_of_a_version_that_nobody_knows__is_counted_and_left_out(behind: Behind) -> None:
    behind.ask(2)
    log = behind.nginx.logs / f"{life.ENDPOINT}.log"
    log.write_text(log.read_text().replace(CHAMPION, "stranger-v7", 1))
    taken = traffic.take_in(behind.story.endpoint, now=clock.now())
    assert (taken.rows, taken.unreadable) == (1, 1)


def test_look__at_traffic_that_nginx_split__judges_errors_and_the_split(behind: Behind) -> None:
    """The whole way: split there, read here, and rolled back for its errors."""
    story = behind.story
    story.now = clock.now() - timedelta(hours=8)
    rollout = behind.canary()
    behind.ask(400, path=f"/fails/{CANDIDATE}")
    story.now = clock.now() + timedelta(minutes=1)
    traffic.take_in(story.endpoint, now=story.now)
    story.background()
    rollout.refresh_from_db()
    assert rollout.state == RolloutState.ROLLED_BACK
    assert "rror" in rollout.state_reason
    assert set(behind.ask(50)) == {CHAMPION}


def test_look__at_traffic_without_scores__waits_instead_of_passing(behind: Behind) -> None:
    story = behind.story
    story.now = clock.now() - timedelta(hours=8)
    rollout = behind.canary()
    behind.ask(200)
    log = behind.nginx.logs / f"{life.ENDPOINT}.log"
    log.write_text(log.read_text().replace('"score":"0.25"', '"score":""'))
    story.now = clock.now() + timedelta(minutes=1)
    traffic.take_in(story.endpoint, now=story.now)
    look = looks.take(rollout, now=story.now)
    found = {each.metric: each.verdict for each in look.measured if each.guards}
    assert look.conclusion.kind == "wait"
    assert found["predictions"] == found["loss"] == "inconclusive"
    assert found["split"] == "passed"


# ---------------------------------------------------------------------- without nginx


def test_split_of__shadow__is_no_part_of_the_traffic() -> None:
    story = life.begin()
    story.candidate()
    assert traffic.split_of(traffic.route_of(story.endpoint)) == Split(CHAMPION)


def test_gateway__process_that_stays_behind__is_an_incident() -> None:
    story = life.begin()
    story.now += timedelta(hours=1)
    problems = []
    for _ in range(6):
        story.now += timedelta(minutes=1)
        GatewayProcess.objects.update_or_create(
            name="host:1:1",
            defaults={"started_at": NOON, "seen_at": story.now, "routes": {life.ENDPOINT: {"revision": 0}}},
        )
        with clock.at(story.now):
            plan = traffic.reconcile(story.endpoint, now=story.now)
        problems.append(plan.problem if plan else "")
    assert set(problems) == {"A gateway process still serves revision 0."}
    assert Event.objects.filter(name="endpoint.traffic_adrift").count() == 1


def test_gateway__no_process_runs__follows() -> None:
    story = life.begin()
    assert traffic.reconcile(story.endpoint, now=NOON) is None
    assert traffic.standing(story.endpoint).follows


def test_kserve__route_changes__is_planned_with_its_manifest_and_applied_by_nobody() -> None:
    story = life.begin()
    document = {"backend": "kserve", "storage_uri": "s3://models/{model}/{number}"}
    actions.set_traffic(story.endpoint, traffic=document, reason="Cluster.", actor=ROBOT, now=NOON)
    rollout = story.candidate()
    actions.advance(rollout, actor=ROBOT, reason="Its turn.", now=NOON)
    plan = traffic.reconcile(story.endpoint, now=NOON)
    assert plan is not None
    assert plan.applied_at is None
    assert "trafficPercent: 10" in plan.wanted["text"]
    found = traffic.standing(story.endpoint)
    assert found.follows is None
    assert found.warnings[0].startswith("Unverified on a cluster")


def test_endpoint_page__traffic_elsewhere__says_what_can_not_be_judged(client: Client) -> None:
    story = life.begin()
    document = {"backend": "kserve", "storage_uri": "s3://models/{model}/{number}"}
    actions.set_traffic(story.endpoint, traffic=document, reason="Cluster.", actor=ROBOT, now=NOON)
    traffic.reconcile(story.endpoint, now=NOON)
    client.force_login(builders.member(story.registered_model.product))
    with clock.at(NOON):
        page = client.get(f"/endpoints/{life.ENDPOINT}/").content.decode()
    assert "What another backend was told" in page
    assert "Unverified on a cluster" in page
    assert "nothing that is judged per entity can be" in page
