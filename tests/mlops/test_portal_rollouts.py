"""The pages of rollouts and endpoints: what they say, to whom they offer what, what lists cost, how they refuse."""

from __future__ import annotations

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
from audit.models import Event
from mlops import portal_endpoints, portal_rollouts, rollout_report
from mlops.rollout_charts import MOST_LOOKS
from registry.models import AUDITORS
from rollout import actions
from rollout.actions.fallbacks import add_fallback
from rollout.actions.freezes import freeze
from rollout.models import (
    AnalysisRun,
    Decision,
    Endpoint,
    FreezeWindow,
    GatewayProcess,
    Measurement,
    Outcome,
    Rollout,
)
from tests.builders import NOON, person
from tests.mlops import world as building
from tests.mlops.world import DAY, World

pytestmark = pytest.mark.django_db
NOW = NOON + timedelta(days=40)


@pytest.fixture
def world() -> Iterator[World]:
    with clock.at(NOW):
        yield building.build("delay")


def browser(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def text(user: User, url: str) -> str:
    answer = browser(user).get(url)
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


def rollout_url(rollout: Rollout) -> str:
    return reverse("portal:rollout", args=[rollout.pk])


def endpoint_url(world: World) -> str:
    return reverse("portal:endpoint", args=[world["endpoint"].name])


def verb(world: World, name: str) -> str:
    return reverse("portal:endpoint-verb", args=[world["endpoint"].name, name])


# ---------------------------------------------------------------------- a rollout


def test_rollout__running__says_where_it_stands_and_why(world: World) -> None:
    page = text(world.owner, rollout_url(world["rollout"]))
    assert f"v{world['rollout'].version.number} answers 1 % of delay-warning (step 1 of 4) since" in page
    assert "<strong>Why:</strong> Loss +0.004" in page
    assert "Loss on outcomes" in page
    assert 'aria-current="step"' in page


def test_rollout__rolled_back__says_which_metric_at_which_look_with_numbers(world: World) -> None:
    look = building.a_look(world["rolled_back"], "roll_back", 5.3)
    Measurement.objects.create(
        analysis=look,
        metric="errors",
        verdict="failed",
        message="Errors: 11 of 62 rows.",
        value=0.177,
        n=62,
        harm=13.3,
        needed=4.2,
    )
    page = text(world.owner, rollout_url(world["rolled_back"]))
    assert f"Look {look.number} proved harm in errors: evidence of 13.3 where 4.2 proves it." in page
    assert "More late flights were missed: proven." in page
    assert "was rolled back in canary step 1" in page
    assert "answers everybody again" in page


def test_rollout__metric_that_is_only_reported__is_never_called_proven(world: World) -> None:
    look = building.a_look(world["rollout"])
    Measurement.objects.create(
        analysis=look, metric="agreement", verdict="passed", message="Same decision in all.", guards=False, n=120
    )
    page = text(world.owner, rollout_url(world["rollout"]))
    assert '<tbody class="reported" id="metric-agreement">' in page
    assert '<span class="gh-badge">reported</span>' in page


def test_rollout__segments_with_examples__link_to_the_prediction(world: World) -> None:
    rollout: Rollout = world["rollout"]
    look = building.a_look(rollout)
    example = {"request_id": "a&b", "at": "2026-01-05T10:00:00+00:00", "champion": 0.1, "candidate": 0.9}
    AnalysisRun.objects.create(
        rollout=rollout,
        number=look.number + 1,
        stage="shadow",
        at=NOON + 8 * DAY,
        conclusion="advance",
        summary="No harm.",
        detail={
            "disagreement": [{"condition": "origin is <b>", "n": 80, "mean": 0.2, "differ": 7, "examples": [example]}],
            "decisions": {"n": 500, "both_act": 90, "neither": 390, "only_candidate": 15, "only_champion": 5},
            "coverage": [{"column": "carrier", "level": "= HA", "share": 0.02, "rows": 3, "wanted": 50}],
        },
    )
    page = text(world.owner, rollout_url(rollout))
    assert "?endpoint=delay-warning&amp;request_id=a%26b&amp;day=2026-01-05" in page
    assert "origin is &lt;b&gt;" in page
    assert "the candidate alone acts in <strong>15</strong>, the champion alone in <strong>5</strong>" in page
    assert "carrier = HA" in page


def test_rollout__of_a_look_with_nothing_but_garbage__is_shown_without(world: World) -> None:
    """Detail is whatever an older version wrote."""
    rollout: Rollout = world["rollout"]
    AnalysisRun.objects.create(
        rollout=rollout,
        number=99,
        stage="shadow",
        at=NOON + 9 * DAY,
        conclusion="wait",
        summary="-",
        detail={"disagreement": "?", "scores": 3, "times": [], "examples": [None], "decisions": []},
    )
    assert browser(world.owner).get(rollout_url(rollout)).status_code == 200


def test_rollout__business_metrics_in_shadow__are_said_to_be_unknowable(world: World) -> None:
    waiting = Rollout.objects.create(
        endpoint=world["endpoint"],
        registered_model=world.registered_model,
        version=world["refused"],
        gate_run=building.a_gate_run(world["refused"]),
        plan=world["rollout"].plan,
        salt="waiting",
        state="pending",
        state_reason="It passed its gates.",
        created_at=NOW,
    )
    page = text(world.owner, rollout_url(waiting))
    assert "They can not be known in shadow" in page
    assert "waits for its turn on delay-warning: one candidate is before it." in page
    assert "there is nothing to look at yet" in page


def test_rollout__while_frozen__says_what_it_waits_for(world: World) -> None:
    freeze(world["endpoint"], starts_at=NOW, ends_at=NOW + 3 * DAY, note="Christmas", actor=world.owner, now=NOW)
    page = text(world.owner, rollout_url(world["rollout"]))
    assert "the next step waits for the freeze of delay-warning to end" in page
    assert "a rollback waits for nothing" in page


def test_rollout__actions__are_offered_by_duty_and_the_others_told_whose_they_are(world: World) -> None:
    url = rollout_url(world["rollout"])
    assert f'formaction="{reverse("portal:rollout-verb", args=[world["rollout"].pk, "pause"])}"' in text(
        world.scientist, url
    )
    page = text(world.owner, url)
    assert "formaction" not in page
    assert "Pause: for <strong>delay-science</strong> or <strong>delay-platform</strong>" in page


def test_rollout__held__is_the_product_owners_to_let_go_on(world: World) -> None:
    rollout: Rollout = world["rollout"]
    building.a_look(rollout, "hold", 0.5)
    url, go_on = rollout_url(rollout), reverse("portal:rollout-verb", args=[rollout.pk, "go-on"])
    assert "It is held: the product owner decides." in text(world.owner, url)
    assert browser(world.scientist).post(go_on, {"reason": "I would."}).status_code == 403
    assert browser(world.owner).post(go_on, {"reason": "The season is quiet."}).status_code == 302
    rollout.refresh_from_db()
    assert (rollout.state, rollout.step) == ("canary", 2)


def test_rollout__not_held__can_not_be_pushed_on(world: World) -> None:
    go_on = reverse("portal:rollout-verb", args=[world["rollout"].pk, "go-on"])
    assert browser(world.owner).post(go_on, {"reason": "Faster."}).status_code == 409
    world["rollout"].refresh_from_db()
    assert world["rollout"].step == 1


def test_rollout__thousands_of_looks__have_their_measurements_read_for_those_that_are_drawn(world: World) -> None:
    rollout: Rollout = world["rolled_back"]
    fields = {"rollout": rollout, "stage": "canary", "at": NOON, "conclusion": "wait", "summary": "-"}
    AnalysisRun.objects.bulk_create(AnalysisRun(number=number, **fields) for number in range(100, 1400))
    looks = rollout_report.looks_of(rollout)
    drawn = rollout_report.drawn(looks)
    assert len(drawn) <= MOST_LOOKS
    assert drawn[-1] is looks[-1]
    with CaptureQueriesContext(connection) as queries:
        assert rollout_report.curves(drawn, [], stage="canary", titles={}) is not None
    assert len(queries) == 0


def test_rollout__hundred_looks__cost_as_many_queries_as_three(world: World) -> None:
    client, url = browser(world.owner), rollout_url(world["rollout"])
    client.get(url)
    with CaptureQueriesContext(
        connection,
    ) as few:
        client.get(url)
    for _ in range(30):
        building.a_look(world["rollout"])
    with CaptureQueriesContext(connection) as many:
        page = client.get(url)
    assert len(many) == len(few)
    assert len(few) <= 40
    assert "page 1 of 2" in page.content.decode()


# ---------------------------------------------------------------------- the list of endpoints


def test_endpoints__list__shows_who_answers_and_the_candidate(world: World) -> None:
    page = text(world.scientist, reverse("portal:endpoints"))
    assert "delay-warning" in page
    assert "serving" in page


def test_endpoints__ten_more__cost_no_more_queries(world: World) -> None:
    client, url = browser(world.owner), reverse("portal:endpoints")
    client.get(url)
    with CaptureQueriesContext(connection) as few:
        client.get(url)
    for number in range(10):
        actions.create_endpoint(
            name=f"more-{number}",
            title="More",
            registered_model=world.registered_model,
            entity_column="flight",
            outcome_window=timedelta(hours=1),
            actor=world.owner,
            now=NOON,
        )
    with CaptureQueriesContext(connection) as many:
        assert client.get(url).content.decode().count("more-") >= 10
    assert len(many) == len(few)


def test_endpoints__nothing_to_see__says_what_to_do(world: World) -> None:
    assert "There is no decision point yet that you may see." in text(
        person("charlie", "strangers"), reverse("portal:endpoints")
    )


# ---------------------------------------------------------------------- an endpoint


def test_endpoint__everybody_of_the_model__sees_it_and_only_product_gets_forms(world: World) -> None:
    for user in (world.scientist, world.operator, person("audrey", AUDITORS)):
        page = text(user, endpoint_url(world))
        assert "that is the product owner's" in page
        assert '<form method="post" class="gh-form' not in page
    page = text(world.owner, endpoint_url(world))
    for name in ("serve", "pause", "freeze", "stop", "add-fallback"):
        assert f'action="{verb(world, name)}"' in page


def test_endpoint__verbs_by_others__are_refused_and_change_nothing(world: World) -> None:
    before = Event.objects.count()
    for name in portal_endpoints.VERBS:
        for user in (world.scientist, world.operator, person("audrey", AUDITORS)):
            answer = browser(user).post(verb(world, name), {"note": "For a test."})
            assert answer.status_code == 403, (name, user)
            assert "Back to what needs you" in answer.content.decode()
        assert browser(person("charlie", "strangers")).post(verb(world, name), {"note": "x"}).status_code == 404
        assert browser(world.owner).get(verb(world, name)).status_code == 405
        assert browser(world.owner).post(verb(world, name), {"note": " "}).status_code == 422
    assert browser(world.owner).post(verb(world, "promote"), {"note": "x"}).status_code == 404
    assert Event.objects.count() == before


def test_endpoint__kill_switch_with_a_named_fallback__is_pulled_and_released(world: World) -> None:
    endpoint: Endpoint = world["endpoint"]
    fallback = add_fallback(endpoint, name="gentle", score=0.8, note="Warn.", actor=world.owner, now=NOW)
    client = browser(world.owner)
    assert client.post(verb(world, "stop"), {"note": "Data is broken.", "fallback": fallback.pk}).status_code == 302
    page = text(world.scientist, endpoint_url(world))
    assert "The kill switch is pulled: the fallback gentle (score 0.8) answers everybody." in page
    assert "Data is broken." in page
    assert "kill switch pulled" in text(world.scientist, reverse("portal:endpoints"))
    assert client.post(verb(world, "resume"), {"note": "Mended."}).status_code == 302
    endpoint.refresh_from_db()
    assert endpoint.enabled


def test_endpoint__decision_for_later__is_shown_and_can_be_withdrawn(world: World) -> None:
    client = browser(world.owner)
    at = f"{NOW + DAY:%Y-%m-%dT%H:%M}"
    said = {"note": "After the release.", "registered_model": world.registered_model.pk, "takes_effect_at": at}
    assert client.post(verb(world, "serve"), said).status_code == 302
    decision = Decision.objects.get(takes_effect_at__isnull=False)
    assert decision.takes_effect_at == (NOW + DAY).replace(second=0, microsecond=0)
    assert "After the release." in text(world.scientist, endpoint_url(world))
    assert f"{NOW + DAY:%Y-%m-%d %H:%M}" in text(world.owner, reverse("portal:endpoints"))
    assert client.post(verb(world, "withdraw"), {"note": "No.", "decision": decision.pk}).status_code == 302
    decision.refresh_from_db()
    assert decision.outcome.outcome == Outcome.WITHDRAWN
    assert "withdrawn" in text(world.owner, endpoint_url(world))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("serve", {"registered_model": "999999"}),
        ("serve", {"registered_model": "x"}),
        ("serve", {"registered_model": "9" * 40}),
        ("serve", {}),
        ("stop", {"fallback": "999999"}),
        ("stop", {"takes_effect_at": "tomorrow"}),
        ("freeze", {}),
        ("freeze", {"ends_at": "2001-01-01T00:00"}),
        ("withdraw", {"decision": "-1"}),
        ("unfreeze", {"freeze": "1e3"}),
        ("add-fallback", {"name": "x", "score": "much"}),
        ("add-fallback", {"name": "x"}),
        ("add-fallback", {"name": "x", "score": "0.2", "version": "999999"}),
        ("retire-fallback", {"fallback": ""}),
    ],
)
def test_endpoint__nonsense_in_a_form__is_refused_by_field(world: World, name: str, said: dict[str, Any]) -> None:
    before = Event.objects.count()
    assert browser(world.owner).post(verb(world, name), {"note": "For a test.", **said}).status_code == 422
    assert Event.objects.count() == before


def test_endpoint__freeze__is_set_and_lifted(world: World) -> None:
    client = browser(world.owner)
    said = {"note": "Fair week.", "ends_at": f"{NOW + 5 * DAY:%Y-%m-%dT%H:%M}"}
    assert client.post(verb(world, "freeze"), said).status_code == 302
    window = FreezeWindow.objects.get(note="Fair week.")
    assert window.starts_at == NOW
    assert "Fair week." in text(world.scientist, endpoint_url(world))
    assert "frozen" in text(world.scientist, reverse("portal:endpoints"))
    assert client.post(verb(world, "unfreeze"), {"note": "Over early.", "freeze": window.pk}).status_code == 302
    window.refresh_from_db()
    assert window.lifted_at == NOW


def test_endpoint__rollouts_paused__is_said_and_let_go_on(world: World) -> None:
    client = browser(world.owner)
    assert client.post(verb(world, "pause"), {"note": "Board meeting."}).status_code == 302
    assert "rollouts paused" in text(world.scientist, endpoint_url(world))
    assert client.post(verb(world, "continue"), {"note": "Over."}).status_code == 302
    assert "rollouts paused" not in text(world.scientist, endpoint_url(world))


def test_endpoint__fallback__is_named_and_retired(world: World) -> None:
    client = browser(world.owner)
    assert (
        client.post(verb(world, "add-fallback"), {"note": "Safe.", "name": "last-good", "score": "0.3"}).status_code
        == 302
    )
    fallback = world["endpoint"].fallbacks.get(name="last-good")
    assert "last-good" in text(world.scientist, endpoint_url(world))
    assert client.post(verb(world, "retire-fallback"), {"note": "Old.", "fallback": fallback.pk}).status_code == 302
    fallback.refresh_from_db()
    assert fallback.retired_at == NOW


def test_endpoint__gateways__are_told_by_health_and_route(world: World) -> None:
    name = world["endpoint"].name
    revision = world["endpoint"].route.revision
    breakers = {"delay-arrival v3": "open, 5 failures in a row"}
    alive = {"revision": revision, "ready": ["delay-arrival v1"], "breakers": breakers}
    problems = [
        {"kind": "breaker_open", "endpoint": name, "message": "It failed 5 requests in a row."},
        {"kind": "refused", "endpoint": "another", "message": "Not of this one."},
        {"kind": "spool_crowded", "message": "The spool is 85% full."},
    ]
    GatewayProcess.objects.create(name="a:1:x", started_at=NOW, seen_at=NOW, routes={name: alive}, problems=problems)
    late = NOW - timedelta(minutes=2)
    GatewayProcess.objects.create(
        name="b:2:y", started_at=late, seen_at=late, routes={name: {"revision": -1}}, dropped_rows=7
    )
    GatewayProcess.objects.create(name="c:3:z", started_at=NOW, seen_at=NOW, routes={"another": {"revision": 1}})
    page = text(world.operator, endpoint_url(world))
    assert "a:1:x" in page
    assert "with problems" in page
    assert "delay-arrival v3: open, 5 failures in a row" in page
    assert "It failed 5 requests in a row." in page
    assert "The spool is 85% full." in page
    assert "Not of this one." not in page
    assert "silent" in page
    assert "behind" in page
    assert "c:3:z" not in page


def test_endpoint__many_rows__cost_as_many_queries_as_few(world: World) -> None:
    client, url = browser(world.owner), endpoint_url(world)
    client.get(url)
    with CaptureQueriesContext(connection) as few:
        client.get(url)
    for number in range(4):
        add_fallback(world["endpoint"], name=f"f{number}", score=0.1, note="x", actor=world.owner, now=NOW)
        GatewayProcess.objects.create(
            name=f"g{number}", started_at=NOW, seen_at=NOW, routes={world["endpoint"].name: {"revision": 1}}
        )
        at = f"{NOW + (number + 1) * DAY:%Y-%m-%dT%H:%M}"
        client.post(verb(world, "pause"), {"note": "x", "takes_effect_at": at})
    with CaptureQueriesContext(connection) as many:
        client.get(url)
    assert len(many) <= len(few) + 2


def test_urls__rollouts_and_endpoints__are_in_the_portal() -> None:
    names = {each.name for each in (*portal_rollouts.urlpatterns, *portal_endpoints.urlpatterns)}
    assert names == {"rollout", "rollout-verb", "endpoints", "endpoint", "endpoint-verb"}
