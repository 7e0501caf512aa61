"""Every governed write leaves its event in the same transaction: by API, by admin, by bulk operations, by plain SQL.

The database insists on it (``audit.guards.owes_event``). Here every address of the API that changes something and every
decision of the admin is used once, and leaves exactly one event, or is refused and leaves nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.db.models import Model
from django.test import Client
from django.urls import reverse

from audit import clock, guards
from audit.desk import Desk
from audit.models import Debt, Event
from audit.trail import Service, record
from features import actions as features
from features.models import FeatureService, FeatureViewVersion
from gates import actions as gates
from gates.models import Policy
from mlops import api
from registry.models import RegisteredModel, TrainingRun
from rollout import actions as rollouts
from rollout.models import Decision, Endpoint, Rollout
from tests.builders import NOON, ROBOT, audrey, group, person, registered_model
from tests.features.test_push import event as reading
from tests.features.test_push import pushable
from tests.mlops import world as building
from tests.mlops.calls import Caller
from tests.mlops.reported import settle
from tests.mlops.world import CODE, World
from tests.registry import lineage_events
from tests.registry.world import model_bytes

LATER = NOON + timedelta(days=40)
SCIENTIST, OPERATOR, OWNER, AUDITOR = "scientist", "operator", "owner", "auditor"


@pytest.fixture
def world(governed_writes: None) -> Iterator[World]:
    with clock.at(LATER):
        yield building.build("delay")
        Debt.objects.all().delete()  # of the rows that were built


@dataclass(frozen=True)
class Effect:
    """What a request did: its status, the events it left, the tables it wrote after the last of them."""

    status: int
    events: int
    owed: tuple[str, ...]
    said: str


def effect_of(request: Callable[[], Any]) -> Effect:
    """Send the request, look at what it did, and undo it."""
    with transaction.atomic():
        Debt.objects.all().delete()
        before = Event.objects.count()
        response = request()
        events = Event.objects.count() - before
        owed = tuple(sorted(Debt.objects.values_list("table", flat=True)))
        transaction.set_rollback(True)
    return Effect(response.status_code, events, owed, response.getvalue().decode()[-600:])


# ---------------------------------------------------------------------- the API

REASON = {"reason": "For a test."}
ANSWERS = {"checks": {"fairness": {"by": "origin"}, "slices": {"by": ["origin"]}}}
GATE = {"entities": {"delay-gate": {"join_keys": ["gate"], "description": "A gate."}}}
Sent = Callable[[World, Caller], Any]


@dataclass(frozen=True)
class Call:
    """How an address is called so that it does something, by whom, and what is done before by others."""

    who: str
    send: Sent
    first: Callable[[World], object] = lambda world: None
    events: int = 1
    anybody: bool = False
    """Whoever has a token with the scope may do it."""


def post(path: str, body: Any, who: str = SCIENTIST, **more: Any) -> Call:
    return Call(who, lambda world, caller: caller.post(path.format(w=world), body), **more)


def _pushed(world: World, caller: Caller) -> Any:
    return caller.post("push/", {"source": "readings", "push_id": "a", "rows": [reading(1)]})


def _pushable(world: World) -> None:
    pushable()
    world.operator.groups.add(group("delay-platform"))


def _registered(world: World, caller: Caller) -> Any:
    file = SimpleUploadedFile("model.skops", model_bytes())
    return caller.form("models/delay-arrival/versions/", {"artifact": file, "lineage": json.dumps({"label": "late"})})


def _retitled(world: World, caller: Caller) -> Any:
    read = caller.get("models/delay-arrival/")
    state = read.headers.get("ETag", "*")
    return caller.patch("models/delay-arrival/", {**REASON, "title": "Another"}, if_match=state)


def _known_to_the_log(world: World) -> None:
    """The world builds its versions directly; a dossier tells what the log knows."""
    record("model_version.registered", world["champion"], actor=world.scientist)
    _settled(world)


def _settled(world: World) -> None:
    """What was built is linked, and what is owed for it forgotten."""
    Debt.objects.all().delete()
    settle()


def _unused(world: World) -> FeatureService:
    return features.define_service(
        name="unused",
        features=["delay_weather.temperature"],
        owner=world.registered_model.data_science,
        actor=world.scientist,
        now=LATER,
    )


def _applied(world: World, caller: Caller) -> Any:
    planned = caller.post("features/plan/", {"definitions": GATE})
    if planned.status_code != 200:
        return planned
    digest = planned.json()["digest"]
    return caller.post("features/apply/", {"definitions": GATE, "digest": digest})


def _hold(world: World) -> None:
    path = "models/delay-arrival/versions/1/hold/"
    assert Caller(world.owner).post(path, REASON).status_code in (200, 201)


def _proposed(world: World) -> Policy:
    document = {"checks": [{"id": "auc-floor", "kind": "metric", "metric": "roc_auc", "at_least": 0.6}]}
    model = world.registered_model
    return gates.propose_policy(model, document=document, note="For a test.", actor=world.scientist, now=LATER)


def _waiting(world: World) -> Decision:
    endpoint: Endpoint = world["endpoint"]
    later = LATER + timedelta(days=1)
    return rollouts.decide(
        endpoint,
        kind="stop",
        registered_model=world.registered_model,
        note="For a test.",
        actor=world.owner,
        now=LATER,
        takes_effect_at=later,
    )


def _ended(world: World) -> None:
    """Nothing is on its way: traffic moves to another backend between rollouts only."""
    Caller(world.operator).post(f"rollouts/{world['rollout'].pk}/abort/", REASON)


def _waiting_id() -> int:
    return Decision.objects.get(takes_effect_at__isnull=False).pk


ENDPOINT = "endpoints/<slug:name>/"
STOP = {"kind": "stop", "note": "For a test."}
FROZEN = {"starts_at": "2013-06-01T00:00Z", "ends_at": "2013-06-03T00:00Z", "note": "For a test."}
METRICS = "endpoints/<slug:name>/business-metrics/"
ON_KSERVE = {
    "traffic": {"backend": "kserve", "storage_uri": "s3://models/{model}/{number}"},
    "reason": "It is served there.",
}
SPENT = {
    "name": "spent", "title": "Money spent", "per": "entity", "better": "higher", "window_seconds": 3600,
    "missing": "zero", "tolerated_harm": 1.0,
}  # fmt: skip
HOLD = "models/<slug:name>/versions/<int:number>/hold/"
CALLS: dict[tuple[str, str], Call] = {
    ("post", "push/"): Call(OPERATOR, _pushed, _pushable),
    ("patch", "models/<slug:name>/"): Call(OWNER, _retitled),
    ("post", "models/<slug:name>/versions/"): Call(SCIENTIST, _registered),
    ("post", HOLD): post("models/delay-arrival/versions/1/hold/", REASON, OWNER),
    ("delete", HOLD): Call(
        AUDITOR,
        lambda world, caller: caller.client.delete("/api/v1/models/delay-arrival/versions/1/hold/?reason=Settled."),
        _hold,
    ),
    ("put", "models/<slug:name>/card/"): Call(
        OWNER,
        lambda world, caller: caller.client.put(
            "/api/v1/models/delay-arrival/card/",
            {**REASON, "content": {"intended_use": "Something else."}},
            content_type="application/json",
        ),
    ),
    ("post", "models/<slug:name>/training-runs/"): post(
        "models/delay-arrival/training-runs/", {**REASON, "pipeline": "trees", "window": {"name": "expanding"}}
    ),
    ("post", "models/<slug:name>/evidence/"): post(
        "models/delay-arrival/evidence/", {"kind": "lint", "code_digest": CODE, "report": []}
    ),
    # opened, and begun at once: its evidence is there
    ("post", "models/<slug:name>/gate-runs/"): post(
        "models/delay-arrival/gate-runs/", {**REASON, "version": 2}, events=2
    ),
    ("post", "models/<slug:name>/policies/"): post(
        "models/delay-arrival/policies/", {"template": "high-stakes", "overrides": ANSWERS, "note": "For a test."}
    ),
    ("post", "models/<slug:name>/policies/<int:number>/decision/"): post(
        "models/delay-arrival/policies/2/decision/", {**REASON, "outcome": "confirm"}, OWNER, first=_proposed
    ),
    ("post", "rollouts/<int:pk>/pause/"): post("rollouts/{w.rows[rollout].pk}/pause/", REASON),
    ("post", "rollouts/<int:pk>/resume/"): post(
        "rollouts/{w.rows[rollout].pk}/resume/",
        REASON,
        first=lambda world: Caller(world.operator).post(f"rollouts/{world['rollout'].pk}/pause/", REASON),
    ),
    ("post", "rollouts/<int:pk>/abort/"): post("rollouts/{w.rows[rollout].pk}/abort/", REASON),
    ("post", f"{ENDPOINT}decisions/"): post("endpoints/delay-warning/decisions/", STOP, OWNER),
    ("post", f"{ENDPOINT}decisions/<int:decision>/withdraw/"): Call(
        OWNER,
        lambda world, caller: caller.post(f"endpoints/delay-warning/decisions/{_waiting_id()}/withdraw/", REASON),
        lambda world: _waiting(world),
    ),
    ("post", f"{ENDPOINT}fallbacks/"): post(
        "endpoints/delay-warning/fallbacks/", {"name": "low", "score": 0.1, "note": "For a test."}, OWNER
    ),
    ("post", f"{ENDPOINT}fallbacks/<slug:fallback>/retire/"): post(
        "endpoints/delay-warning/fallbacks/careful/retire/", REASON, OWNER
    ),
    ("post", f"{ENDPOINT}freezes/"): post("endpoints/delay-warning/freezes/", FROZEN, OWNER),
    ("post", f"{ENDPOINT}freezes/<int:freeze>/lift/"): post(
        "endpoints/delay-warning/freezes/{w.rows[freeze].pk}/lift/", REASON, OWNER
    ),
    ("post", f"{ENDPOINT}traffic/"): post("endpoints/delay-warning/traffic/", ON_KSERVE, OPERATOR, first=_ended),
    ("post", METRICS): post("endpoints/delay-warning/business-metrics/", SPENT, OWNER),
    ("post", f"{METRICS}<slug:metric>/retire/"): post(
        "endpoints/delay-warning/business-metrics/complaints/retire/", REASON, OWNER
    ),
    ("post", "incidents/<int:pk>/acknowledge/"): post("incidents/{w.rows[incident].pk}/acknowledge/", REASON),
    ("post", "incidents/<int:pk>/resolve/"): post("incidents/{w.rows[incident].pk}/resolve/", REASON),
    ("post", "incidents/<int:pk>/reports/"): post("incidents/{w.rows[incident].pk}/reports/", {}, first=_settled),
    ("post", "models/<slug:name>/versions/<int:number>/dossiers/"): post(
        "models/delay-arrival/versions/1/dossiers/", {}, first=_known_to_the_log
    ),
    ("post", "features/apply/"): Call(SCIENTIST, _applied),
    ("post", "features/services/<slug:name>/<int:number>/retire/"): post(
        "features/services/unused/1/retire/", REASON, first=_unused
    ),
    ("post", "lineage"): post("lineage", lineage_events.run_event(), anybody=True),
    ("post", "lineage/"): post("lineage/", lineage_events.run_event(), anybody=True),
    ("post", "lineage/batch"): post("lineage/batch", [lineage_events.run_event()], anybody=True),
    ("post", "lineage/batch/"): post("lineage/batch/", [lineage_events.run_event()], anybody=True),
    # a question: what would happen
    ("post", "features/plan/"): post("features/plan/", {"definitions": GATE}, events=0),
}
READS = {
    "models/<slug:name>/policies/dry-run/",
    "features/services/<slug:name>/online/",
    "endpoints/<slug:name>/predict/",
    "endpoints/<slug:name>/outcomes/",
    "predictions/",
    "outcomes/",
    "endpoints/<slug:name>/predictions/<any_text:request_id>/replay/",
}
"""What is posted there is a question, or goes to the prediction log: no row of the database changes."""


def routes() -> set[tuple[str, str]]:
    """Method and pattern of every address of the API that may change something."""
    return {
        (method, str(pattern.pattern))
        for pattern in api.v1
        for method in ("post", "put", "patch", "delete")
        if hasattr(pattern.callback.cls, method)
    }


def test_api__every_mutating_address__is_called_below() -> None:
    """A new address belongs into CALLS, with what it takes to be carried out."""
    assert routes() == set(CALLS) | {("post", route) for route in READS}


@pytest.mark.django_db
@pytest.mark.parametrize("route", CALLS, ids=" ".join)
def test_api__carried_out__leaves_exactly_its_event(world: World, route: tuple[str, str]) -> None:
    call = CALLS[route]
    call.first(world)
    caller = Caller(audrey() if call.who == AUDITOR else getattr(world, call.who))

    effect = effect_of(lambda: call.send(world, caller))

    assert effect.status < 300, effect
    assert effect.owed == (), effect
    assert effect.events == call.events, effect


@pytest.mark.django_db
@pytest.mark.parametrize("route", [route for route, call in CALLS.items() if not call.anybody], ids=" ".join)
def test_api__refused__leaves_nothing(world: World, route: tuple[str, str]) -> None:
    """A stranger with every scope, who is told that nothing is there or that it is not theirs."""
    call = CALLS[route]
    call.first(world)
    caller = Caller(person("charlie", "strangers"))

    effect = effect_of(lambda: call.send(world, caller))

    assert effect.owed == (), effect
    assert (effect.status >= 400, effect.events) == (True, 0), effect


# ---------------------------------------------------------------------- the admin

VALUES = {
    "approach": "Another approach.", "reason": "For a test.", "window": "expanding", "title": "T", "description": "D",
    "tier": "standard", "name": "new-model", "task": "regression", "days": "30", "hours": "12", "percent": "1",
    "score": "0.5", "starts_at": "2013-06-01T00:00", "ends_at": "2013-06-03T00:00",
    "gigabytes": "1", "freshness": "6h", "scopes": ["read"], "intended_use": "Another use.",
}  # fmt: skip
COMPUTE = {("featureview", "define"), ("featureview", "revise"), ("featureviewversion", "revise")}
"""Verbs that read data files: tests/features drives them; here they are refused for want of data."""
FIRST = {
    ("rollout", "resume"): "pause",
    ("endpoint", "resume"): "stop",
    ("endpoint", "continue"): "pause",
    ("incident", "reopen"): "resolve",
    ("rethink", "close"): "approve",
    ("modelversion", "release"): "hold",
    ("featureviewversion", "retire"): "deprecate",
    ("externalnode", "link_source"): "unlink_source",
}
"""Decisions that are possible after another one."""
TWO_VERBS = {("gaterun", "rerun"), ("rollout", "promote"), ("endpoint", "pause"), ("endpoint", "continue")}
"""Opened and begun; promoted and crowned; decided, and the rollout that it stops or lets go on: decisions that are two
verbs, each with its event."""
Maker = Callable[[World], Model]


def _requested(world: World) -> Model:
    return TrainingRun.objects.create(
        registered_model=world.registered_model,
        pipeline=world["pipeline"],
        state="requested",
        trigger="person",
        requested_at=LATER,
    )


def _draft(world: World) -> FeatureViewVersion:
    published: FeatureViewVersion = world["view_version"]
    draft = FeatureViewVersion.objects.create(
        view=published.view,
        number=2,
        state="draft",
        expression="SELECT origin, temperature FROM flights",
        features=published.features,
        content_hash="2" * 64,
        created_at=LATER,
    )
    draft.sources.set(published.sources.all())
    return draft


def _unpinned(world: World) -> Model:
    draft = _draft(world)
    features.publish(draft, actor=world.scientist, reason="Reviewed.", now=LATER)
    return draft


def _held(world: World) -> Model:
    """A canary at its last step whose horizon has passed: a person decides."""
    rollout: Rollout = world["rollout"]
    Rollout.objects.filter(pk=rollout.pk).update(step=len(rollout.plan["canary"]["steps"]))
    building.a_look(Rollout.objects.get(pk=rollout.pk), "hold")
    return rollout


def _held_earlier(world: World) -> Model:
    building.a_look(world["rollout"], "hold")
    rollout: Rollout = world["rollout"]
    return rollout


SUBJECTS: dict[tuple[str, str], Maker] = {
    ("gaterun", "rerun"): lambda world: world["refused_run"],
    ("policy", "confirm"): _proposed,
    ("policy", "decline"): _proposed,
    ("policy", "withdraw"): _proposed,
    ("rollout", "advance"): _held_earlier,
    ("rollout", "promote"): _held,
    ("decision", "withdraw"): _waiting,
    ("trainingrun", "cancel"): _requested,
    ("featureviewversion", "publish"): _draft,
    ("featureviewversion", "deprecate"): _unpinned,
    ("featureviewversion", "retire"): _unpinned,
    ("featureservice", "retire"): _unused,
}
"""What is decided about, where the world's row is in another state."""


def decisions() -> list[tuple[str, str, bool]]:
    """Kind, name and whether it is a button of the list, of every decision of the admin."""
    return [
        (str(desk.model._meta.model_name), decision.name, decision.for_list)
        for desk in admin.site._registry.values()
        if isinstance(desk, Desk)
        for decision in desk.decisions
    ]


def url_of(kind: str, name: str, row: Model | None) -> str:
    (model,) = [each for each in admin.site._registry if each._meta.model_name == kind]
    return reverse(f"admin:{model._meta.app_label}_{kind}_{name}", args=[row.pk] if row else [])


def values(world: World, user: User) -> dict[str, Any]:
    of = world.registered_model
    return {
        **VALUES,
        "data_science": of.data_science_id,
        "platform": of.platform_id,
        "product": of.product_id,
        "registered_model": of.pk,
        "user": user.pk,
        "source": world["data_source"].pk,
        "sources": [world["data_source"].pk],
    }


def decide(world: World, kind: str, name: str, row: Model | None, *, apart_from: User | None = None) -> Any:
    """The answer to the first of the people whose duty it is."""
    answer = None
    for user in (*world.members, User.objects.get(username="root")):
        if user != apart_from:
            client = Client()
            client.force_login(user)
            answer = client.post(url_of(kind, name, row), values(world, user))
            if answer.status_code not in (403, 404):
                break
    return answer


@pytest.mark.django_db
@pytest.mark.parametrize(("kind", "name", "for_list"), decisions())
def test_admin__every_decision__leaves_exactly_its_event(world: World, kind: str, name: str, for_list: bool) -> None:
    rows = {str(row._meta.model_name): row for row in world.rows.values()}
    rows["rollout"] = world["rollout"]
    person("root", is_staff=True, is_superuser=True)
    maker = SUBJECTS.get((kind, name))
    row = None if for_list else maker(world) if maker else rows[kind]
    who = None
    if before := FIRST.get((kind, name)):
        assert decide(world, kind, before, row).status_code == 302
        who = Event.objects.latest("id").actor if name == "release" else None

    effect = effect_of(lambda: decide(world, kind, name, row, apart_from=who))

    assert effect.owed == (), effect
    if (kind, name) in COMPUTE:
        assert (effect.status, effect.events) == (422, 0), effect
    else:
        assert effect.status in (200, 302), effect
        assert effect.events == (2 if (kind, name) in TWO_VERBS else 1), effect


def account(user: User | None = None, **changes: Any) -> dict[str, Any]:
    dates = {"last_login_0": "", "last_login_1": "", "date_joined_0": "2013-04-01", "date_joined_1": "12:00"}
    return {"username": user.username if user else "new", "is_active": "on", "is_staff": "on", **dates, **changes}


PASSWORDS = {"password1": "correct-horse-battery", "password2": "correct-horse-battery"}
FORMS: dict[str, Callable[[World], tuple[str, dict[str, Any]]]] = {
    "user changed": lambda world: (
        reverse("admin:auth_user_change", args=[world.scientist.pk]),
        account(world.scientist, groups=[]),
    ),
    "user closed": lambda world: (
        reverse("admin:auth_user_change", args=[world.scientist.pk]),
        account(world.scientist, is_active=""),
    ),
    "user created": lambda world: (
        reverse("admin:auth_user_add"),
        {"username": "nina", "usable_password": "true", **PASSWORDS},
    ),
    "password": lambda world: (
        reverse("admin:auth_user_password_change", args=[world.scientist.pk]),
        {"usable_password": "true", **PASSWORDS},
    ),
    "group created": lambda world: (reverse("admin:auth_group_add"), {"name": "new-group"}),
    "group renamed": lambda world: (
        reverse("admin:auth_group_change", args=[world.registered_model.product.pk]),
        {"name": "renamed"},
    ),
}


@pytest.mark.django_db
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_admin__forms_of_users_and_groups__leave_exactly_their_event(
    world: World, form: Callable[[World], tuple[str, dict[str, Any]]]
) -> None:
    client = Client()
    client.force_login(person("root", is_staff=True, is_superuser=True))
    url, told = form(world)

    effect = effect_of(lambda: client.post(url, told))

    assert (effect.status, effect.events, effect.owed) == (302, 1, ()), effect


@pytest.mark.django_db(transaction=True)
def test_createsuperuser__leaves_its_event(governed_writes: None) -> None:
    call_command("createsuperuser", interactive=False, username="root", email="")

    event = Event.objects.get(name="user.created")
    assert (event.subject_label, event.service) == ("root", "command line")
    assert event.data["after"]["is_superuser"] is True


# ---------------------------------------------------------------------- past all verbs


def sql(statement: str, *values: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


def changed(of: RegisteredModel, **values: Any) -> RegisteredModel:
    for name, value in values.items():
        setattr(of, name, value)
    return of


def _copy(of: RegisteredModel, name: str) -> RegisteredModel:
    return changed(RegisteredModel.objects.get(pk=of.pk), pk=None, name=name)


SILENT: dict[str, Callable[[RegisteredModel], object]] = {
    "save": lambda of: changed(of, tier="experimental").save(),
    "create": lambda of: _copy(of, "another").save(force_insert=True),
    "queryset update": lambda of: RegisteredModel.objects.update(tier="experimental"),
    "bulk create": lambda of: RegisteredModel.objects.bulk_create([_copy(of, "one"), _copy(of, "two")]),
    "bulk update": lambda of: RegisteredModel.objects.bulk_update([changed(of, tier="experimental")], ["tier"]),
    "update or create": lambda of: RegisteredModel.objects.update_or_create(
        pk=of.pk, defaults={"tier": "experimental"}
    ),
    "delete": lambda of: Group.objects.filter(name="idle").delete(),
    "instance delete": lambda of: Group.objects.get(name="idle").delete(),
    "many to many": lambda of: User.objects.get(username="alice").groups.set([of.product]),
    "rights": lambda of: User.objects.filter(username="alice").update(is_superuser=True),
    "raw update": lambda of: sql("UPDATE registry_registeredmodel SET tier = 'experimental'"),
    "raw insert": lambda of: sql("INSERT INTO auth_group (name) VALUES ('silent')"),
    "raw delete": lambda of: sql("DELETE FROM auth_group WHERE name = 'idle'"),
}


@pytest.fixture
def there(governed_writes: None) -> RegisteredModel:
    """A model, a person and a group, with an event that tells of them."""
    with transaction.atomic():
        of = registered_model()
        person("alice", "delay-science")
        group("idle")
        record("registered_model.created", of, actor=ROBOT)
    return of


def state() -> list[Any]:
    members = User.groups.through.objects.values_list("user_id", "group_id")
    models = RegisteredModel.objects.values_list("name", "tier")
    return [*models, *Group.objects.values_list("name"), *members, *User.objects.values_list("is_superuser")]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("write", SILENT.values(), ids=SILENT)
def test_silent_write__is_refused_at_commit_and_nothing_changed(
    there: RegisteredModel, write: Callable[[RegisteredModel], object]
) -> None:
    before = state()

    with pytest.raises(IntegrityError, match=r"no event tells of the change|FOREIGN KEY"), transaction.atomic():
        write(there)

    assert state() == before
    assert not Debt.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("write", SILENT.values(), ids=SILENT)
def test_write__with_its_event_after_it__is_kept(
    there: RegisteredModel, write: Callable[[RegisteredModel], object]
) -> None:
    before = state()

    with transaction.atomic():
        write(there)
        record("registered_model.changed", there, actor=Service("migration"))

    assert state() != before
    assert not Debt.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_write__after_its_event__is_refused(there: RegisteredModel) -> None:
    def too_early() -> None:
        record("registered_model.changed", there, actor=ROBOT)
        RegisteredModel.objects.update(tier="experimental")

    with pytest.raises(IntegrityError, match=r"no event tells of the change|FOREIGN KEY"):
        transaction.atomic(too_early)()


@pytest.mark.django_db(transaction=True)
def test_write__that_changes_nothing_or_nothing_governed__needs_no_event(there: RegisteredModel) -> None:
    RegisteredModel.objects.update(tier=there.tier)
    User.objects.update(last_login=NOON)

    assert not Debt.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_write__that_was_rolled_back_to_a_savepoint__needs_no_event(there: RegisteredModel) -> None:
    with transaction.atomic():
        saved = transaction.savepoint()
        RegisteredModel.objects.update(tier="experimental")
        transaction.savepoint_rollback(saved)

    assert RegisteredModel.objects.get().tier == there.tier


# ---------------------------------------------------------------------- which tables

NOT_GOVERNED = {
    # the log itself, and what it is sealed with
    "audit_event", "audit_link", "audit_turn", "audit_checkpoint", "audit_debt", "audit_report",
    # what the edges keep for a while
    "audit_idempotentanswer", "django_session", "django_admin_log",
    # measured, or a copy of something governed
    "features_consistencycheck", "features_featurestatistics", "features_materialization", "features_onlinevalue",
    "features_pushreceipt", "gates_checkresult", "monitoring_candidate", "monitoring_driftrun", "registry_blob",
    "registry_externaledge", "registry_externalnode", "rollout_analysisrun",
    "rollout_measurement",
    # what runs, as it tells of itself: gateways, their spools, what other traffic backends were told
    "rollout_gatewayprocess", "rollout_spoolsegment", "rollout_trafficplan",
    # work and its queue
    "jobs_due", "jobs_heartbeat", "jobs_job", "django_q_ormq", "django_q_schedule", "django_q_task",
    # Django's own lists
    "auth_permission", "django_content_type",
}  # fmt: skip


def test_tables__each_is_governed_or_named_here() -> None:
    """A new table: declare ``owes_event`` in its app's guards, or say above why nobody decides what stands in it."""
    tables = {
        model._meta.db_table
        for model in apps.get_models(include_auto_created=True)
        if model._meta.managed and not model._meta.proxy and not model._meta.swapped
    }
    governed = {each.table for each in guards.declared() if isinstance(each, guards.Owing)}
    assert tables == governed | NOT_GOVERNED
    assert governed & NOT_GOVERNED == set()


def test_columns__that_need_no_event__are_there() -> None:
    columns = {
        model._meta.db_table: {field.column for field in model._meta.concrete_fields}
        for model in apps.get_models(include_auto_created=True)
    }
    for each in guards.declared():
        if isinstance(each, guards.Owing):
            assert {*each.apart_from, *(each.columns or ())} <= columns[each.table], each
