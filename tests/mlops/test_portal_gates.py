"""The gate report: what decided, who does what next, what is drawn, what an older run lacks, and what it costs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from audit import clock
from gates import actions
from gates.models import CheckResult, GateRun
from registry.models import AUDITORS
from tests.builders import NOON, ROBOT, person, policy_in_force
from tests.gates import rows
from tests.mlops import world as building
from tests.mlops.gate_rows import begun, judged_run
from tests.mlops.world import World, a_gate_run, a_version

pytestmark = pytest.mark.django_db


@pytest.fixture
def world() -> Iterator[World]:
    with clock.at(NOON + timedelta(days=40)):
        yield building.build("delay")


def page(user: User, run: GateRun, **query: Any) -> str:
    client = Client()
    client.force_login(user)
    answer = client.get(reverse("portal:gate-run", args=[run.pk]), query)
    assert answer.status_code == 200
    return answer.content.decode()


def words(html: str) -> str:
    """The page's text without its tags."""
    return re.sub(r"\s+", " ", re.sub(r"<script.*?</script>|<[^>]+>", " ", html, flags=re.DOTALL))


def charts(html: str) -> dict[str, Any]:
    """The charts of a page by their id."""
    found = re.findall(r'<script id="([^"]+)" type="application/json">(.*?)</script>', html, flags=re.DOTALL)
    return {name: json.loads(text) for name, text in found}


# ---------------------------------------------------------------------- the verdict


def test_report__failed__says_first_what_decided_it(world: World) -> None:
    shown = words(page(world.scientist, judged_run(world)))
    assert "Failed: it is worse than v1 by 0.014 AUC; its AUC is clearly worse where carrier = HA" in shown
    assert "two of ten blocking checks." in shown


def test_report__passed__says_so_and_that_nothing_is_to_do(world: World) -> None:
    shown = words(page(world.owner, world["canary_run"]))
    assert "Passed: its one blocking check." in shown
    assert "the version goes on to shadow by itself" in shown


def test_report__passed_under_an_older_policy__says_that_it_opens_nothing(world: World) -> None:
    policy_in_force(world.registered_model, {"checks": [{**rows.AUC, "at_least": 0.7}]})
    shown = words(page(world.owner, world["canary_run"]))
    assert "The policy has changed since" in shown
    assert "goes on to shadow" not in shown


def test_report__given_up__tells_its_reason(world: World) -> None:
    run = actions.open_run(a_version(world, "Boosted."), actor=ROBOT, reason="It was registered.", now=NOON)
    actions.give_up(run, actor=ROBOT, reason="The worker was killed four times.", now=NOON)
    assert "The worker was killed four times." in words(page(world.scientist, run))


def test_report__worst_checks__come_first(world: World) -> None:
    html = page(world.scientist, judged_run(world))
    order = re.findall(r'<tbody class="(\w+)" id="check-([\w-]+)"', html)
    assert order[:3] == [("failed", "auc-vs-champion"), ("failed", "segments"), ("error", "data-quality")]
    assert [verdict for verdict, _ in order[-7:]] == ["passed"] * 7


# ---------------------------------------------------------------------- for whom


def test_report__each_check_that_did_not_pass__has_somebody_and_something_to_do(world: World) -> None:
    html = page(world.scientist, judged_run(world))
    steps = re.findall(r'<li><span class="gh-who">(.*?)</li>', html, flags=re.DOTALL)
    told = [words(each) for each in steps]
    assert len(told) == 7
    assert "delay-science (data science)" in told[0]
    assert "The champion stays" in told[0]
    assert any("delay-platform" in each and "It could not be measured" in each for each in told)
    assert any("needs about 14,300 rows" in each and "report only" in each for each in told)


def test_report__open_run__says_what_is_missing_until_when(world: World) -> None:
    policy_in_force(world.registered_model, {"checks": [rows.AUC, rows.CI]})
    run = actions.open_run(a_version(world, "Boosted."), actor=ROBOT, reason="It was registered.", now=NOON)
    html = page(world.scientist, run)
    assert "Waits for evidence until 2013-04-04 12:00: lint." in words(html)
    assert '<meta http-equiv="refresh" content="60">' in html


def test_report__running__shows_how_far_it_is_and_looks_again(world: World) -> None:
    run = actions.open_run(a_version(world, "Boosted."), actor=ROBOT, reason="It was registered.", now=NOON)
    html = page(world.scientist, run)
    assert "0 of 1 checks are done" in words(html)
    assert '<meta http-equiv="refresh" content="5">' in html


def test_report__ended__does_not_load_itself_again(world: World) -> None:
    assert "http-equiv" not in page(world.scientist, world["refused_run"])


# ---------------------------------------------------------------------- what is drawn


def test_report__every_kind__is_drawn_or_told(world: World) -> None:
    html = page(world.scientist, judged_run(world))
    drawn = charts(html)
    assert {
        "segments-segments", "groups-fairness", "latencies-latency", "alone-leakage", "drift-live-drift"
    } <= set(drawn)  # fmt: skip
    for name in drawn:
        assert f'data-chart="{name}"' in html, name
    text = words(html)
    for said in ("too small to judge", "31 %", "distance &gt; 2,400", "two copies of the champion", "Asked twice"):
        assert said in text, said


def test_report__segments__mark_the_one_that_failed(world: World) -> None:
    chart = charts(page(world.scientist, judged_run(world)))["segments-segments"]
    worse = next(trace for trace in chart["data"] if trace["name"] == "clearly worse")
    assert worse["y"] == ["carrier = HA (212 rows)"]
    assert worse["marker"]["color"] == "bad"
    assert chart["layout"]["shapes"][0]["x0"] == 0.742


def test_report__of_an_older_run_without_details__is_shown_all_the_same(world: World) -> None:
    run = judged_run(world)
    older = begun(actions.open_run(a_version(world, "Older."), actor=ROBOT, reason="It was registered.", now=NOON))
    kept = run.results.all()
    CheckResult.objects.bulk_create(
        CheckResult(gate_run=older, check_id=each.check_id, kind=each.kind, blocking=each.blocking,
                    verdict=each.verdict, message=each.message, detail={"groups": None, "segments": 3, "features": {}})
        for each in kept
    )  # fmt: skip
    assert charts(page(world.scientist, older)) == {}


# ---------------------------------------------------------------------- again


def test_rerun__by_data_science__opens_a_run_and_keeps_the_earlier(world: World) -> None:
    run, client = judged_run(world), Client()
    client.force_login(world.scientist)
    assert "Run the gates again" in page(world.scientist, run)
    url = reverse("portal:gate-run-verb", args=[run.pk, "rerun"])
    answer = client.post(url, {"reason": "The holdout has grown."}, follow=True)
    again = run.version.gate_runs.get(number=2)
    assert answer.redirect_chain[-1][0] == reverse("portal:gate-run", args=[again.pk])
    assert "Other runs of this version" in answer.content.decode()
    assert GateRun.objects.get(pk=run.pk).state == "failed"


def test_rerun__by_others__is_neither_offered_nor_done(world: World) -> None:
    run = judged_run(world)
    for user in (world.owner, world.operator, person("audrey", AUDITORS)):
        assert "Run the gates again" not in page(user, run)
        client = Client()
        client.force_login(user)
        answer = client.post(reverse("portal:gate-run-verb", args=[run.pk, "rerun"]), {"reason": "Mine."})
        assert answer.status_code == 403, user
    assert run.version.gate_runs.count() == 1


def test_rerun__of_a_version_that_passed__is_not_offered(world: World) -> None:
    assert "Run the gates again" not in page(world.scientist, world["canary_run"])


def test_report__beside_another_run__shows_what_ended_otherwise(world: World) -> None:
    first = world["refused_run"]
    second = a_gate_run(first.version)
    html = page(world.scientist, second, against=first.pk)
    text = words(html)
    assert "This run beside run #1" in text
    assert "AUC 0.612" in text
    assert "differs" in text


@pytest.mark.parametrize("against", ["0", "x", "99999999999999999999"])
def test_report__beside_a_run_of_another_version__is_not_found(world: World, against: str) -> None:
    client = Client()
    client.force_login(world.scientist)
    url = reverse("portal:gate-run", args=[world["refused_run"].pk])
    assert client.get(url, {"against": against}).status_code == 404
    assert client.get(url, {"against": str(world["canary_run"].pk)}).status_code == 404


def test_report__frozen_inputs__are_told_with_their_digests(world: World) -> None:
    run = judged_run(world)
    text = words(page(world.scientist, run))
    for digest in (run.policy.content_hash, run.version.artifact_digest, world["dataset"].digest, str(run.seed)):
        assert digest in text
    assert run.preparation.inputs_hash in text


def test_report__of_a_version_with_many_runs__costs_no_more_queries(world: World) -> None:
    run, client, counts = judged_run(world), Client(), []
    client.force_login(world.scientist)
    for _ in range(3):
        with CaptureQueriesContext(connection) as seen:
            client.get(reverse("portal:gate-run", args=[run.pk]))
        counts.append(len(seen))
        again = begun(actions.rerun(run.version, actor=world.scientist, reason="Again.", now=NOON))
        actions.conclude(again, [rows.judged("auc-floor", "failed")], actor=ROBOT, now=NOON)
    assert counts[0] == counts[2] < 20
