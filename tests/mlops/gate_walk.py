"""Random walks that try to get a version past the gates: a world, and what people and programs may try in it.

Three layers, each with the ones below it: rows written through the ORM and by raw SQL (whoever has the database), the
verbs (whoever writes code here), the API and the admin (whoever has an account). A step is a name and a seed, so that
a walk can be walked again with steps left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Any

from django.contrib.auth.models import User
from django.db import DatabaseError, connection, transaction
from django.db.models import Model
from django.test import Client
from django.urls import reverse

from audit.errors import GatehouseError
from gates import actions as gates
from gates.judge import Judgement
from gates.models import CheckResult, Evidence, GateRun, Policy, PolicyDecision
from registry.actions import change_model
from registry.actions import crown as crown_version
from registry.models import Alias, ModelVersion, RegisteredModel
from rollout import actions as rollouts
from rollout.models import Decision, Endpoint, Fallback, Rollout, Route
from tests.builders import NOON, ROBOT, alice, charlie, paula, person, pete, policy_in_force, registered_model
from tests.gates import rows
from tests.mlops.calls import Caller

STRICT: dict[str, Any] = {
    "checks": [
        {"id": "auc-floor", "kind": "metric", "metric": "roc_auc", "at_least": 0.7, "blocking": True},
        {"id": "ci", "kind": "ci_evidence", "require": ["unit"], "blocking": True},
        {"id": "brier", "kind": "metric", "metric": "brier", "at_most": 0.2, "blocking": False},
    ]
}
LAX: dict[str, Any] = {"checks": [{**STRICT["checks"][0], "at_least": 0.5}]}
DOCUMENTS: tuple[Any, ...] = (
    STRICT,
    LAX,
    {"checks": []},
    {"checks": [{**each, "blocking": False} for each in STRICT["checks"]]},
    {"checks": [{**each, "blocking": "false"} for each in STRICT["checks"]]},
    {"checks": [{"id": "brier", "kind": "metric", "metric": "brier", "at_most": 1.0}]},
    [],
)
VERDICTS = ("passed", "passed", "passed", "failed", "inconclusive", "error")
RUN_STATES = ("open", "running", "passed", "passed", "failed")
ROLLOUT_STATES = ("pending", "shadow", "canary", "paused", "promoted", "rolled_back", "aborted")
REFUSALS = (GatehouseError, DatabaseError)


@dataclass
class World:
    """Models of the same owners, one with nothing yet, versions in every state, and people of every sort."""

    models: list[RegisteredModel]
    people: list[User]
    callers: list[Caller] = field(default_factory=list)
    browsers: list[Client] = field(default_factory=list)


def build(*, online: bool = False) -> World:
    """``online``: with tokens and sessions, which take their time."""
    strict, lax = registered_model("late-arrival"), registered_model("cheap")
    people = [alice(), paula(), pete(), charlie(), person("dana", "delay-science", is_staff=True)]
    people.append(person("root", is_staff=True, is_superuser=True))
    for name in ("gate-1", "gate-2", "gate-3"):
        _endpoint(strict, name)
    _endpoint(lax, "cheap-1")
    policy_in_force(strict, LAX)
    _passed(strict, "auc-floor")  # void from the next policy on
    policy_in_force(strict, STRICT)
    policy_in_force(lax, LAX)
    champion, canary, waiting = (_passed(strict, "auc-floor", "ci") for _ in range(3))
    cheap, _ = (_passed(lax, "auc-floor") for _ in range(2))
    for run in (champion, cheap):
        for rollout in rollouts.propose(run.version, gate_run=run, actor=ROBOT, reason="World.", now=NOON):
            rollouts.start(rollout, actor=ROBOT, reason="World.", now=NOON)
    first = rollouts.propose(canary.version, gate_run=canary, actor=ROBOT, reason="World.", now=NOON)[0]
    rollouts.start(first, actor=ROBOT, reason="World.", now=NOON)
    rollouts.propose(waiting.version, gate_run=waiting, actor=ROBOT, reason="World.", now=NOON)
    _decided(champion.version, cheap.version, paula())
    gates.give_up(_running(strict), actor=ROBOT, reason="World.", now=NOON)
    _running(strict)
    rows.running(rows.version(strict, code_digest="beef" * 16))
    rows.version(strict)
    gates.propose_policy(strict, document=LAX, note="Waits.", actor=people[0], now=NOON)
    declined = gates.propose_policy(lax, document=DOCUMENTS[5], note="No.", actor=people[0], now=NOON)
    gates.decline_policy(declined, reason="No.", actor=people[1], now=NOON)
    fresh = registered_model("fresh", product=strict.data_science)  # as an older Gatehouse let be founded
    rows.version(fresh)
    world = World([strict, lax, fresh], people)
    if online:
        world.callers = [Caller(each) for each in people]
        world.browsers = [Client() for _ in people]
        for browser, each in zip(world.browsers, people, strict=True):
            browser.force_login(each)
    return world


def _endpoint(of: RegisteredModel, name: str) -> Endpoint:
    return rollouts.create_endpoint(
        name=name,
        title=name,
        registered_model=of,
        entity_column="flight",
        outcome_window=timedelta(hours=12),
        actor=ROBOT,
        now=NOON,
    )


def _decided(champion: ModelVersion, cheap: ModelVersion, owner: User) -> None:
    """Fallbacks of both sorts, an endpoint that is stopped, one whose rollouts are paused, and a decision to come."""
    points = {each.name: each for each in Endpoint.objects.select_related("registered_model")}
    said: dict[str, Any] = {"note": "World.", "actor": owner, "now": NOON}
    for name, version in (("gate-1", champion), ("gate-2", champion), ("gate-3", champion), ("cheap-1", cheap)):
        rollouts.add_fallback(points[name], name="before", version=version, **said)
    retired = rollouts.add_fallback(points["gate-2"], name="old", score=0.5, **said)
    rollouts.retire_fallback(retired, reason="World.", actor=owner, now=NOON)
    kinds = {"gate-2": ("stop", None), "gate-3": ("pause", None), "cheap-1": ("stop", NOON + timedelta(hours=1))}
    for name, (kind, due) in kinds.items():
        model = points[name].registered_model
        rollouts.decide(points[name], kind=kind, registered_model=model, takes_effect_at=due, **said)


def _running(of: RegisteredModel) -> GateRun:
    rows.evidence("unit", registered_model=of)
    return rows.running(rows.version(of))


def _passed(of: RegisteredModel, *checks: str) -> GateRun:
    run = _running(of)
    gates.conclude(run, [_judged(each) for each in checks], actor=ROBOT, now=NOON)
    return run


def _judged(check_id: str, verdict: Any = "passed", *, blocking: bool = True) -> Judgement:
    kind = "ci_evidence" if check_id == "ci" else "metric"
    return Judgement(check_id, kind, blocking, verdict, f"It {verdict}.")


# ---------------------------------------------------------------------- walking

Step = tuple[str, int]
Action = Callable[[World, Random], None]


def walk_of(layers: Sequence[Mapping[str, Action]], seed: str) -> list[Step]:
    """The steps of one walk: of each the topmost layer more than its share."""
    random = Random(seed)
    steps = []
    for _ in range(random.randint(2, 8)):
        layer = random.choice([*layers, layers[-1]])
        steps.append((random.choice(list(layer)), random.getrandbits(32)))
    return steps


def take(world: World, step: Step) -> bool:
    """Do one step; whether it went through. Only refusals are expected, everything else is a defect."""
    name, seed = step
    try:
        with transaction.atomic():
            ACTIONS[name](world, Random(seed))
    except REFUSALS:
        return False
    return True


# ---------------------------------------------------------------------- the ORM and raw SQL


def write_new(random: Random, row: Model) -> None:
    """Insert a row in one of the ways there are, on SQLite also in the place of another."""
    ways = ["save", "bulk_create", "sql", *(["replace"] if connection.vendor == "sqlite" else [])]
    way = random.choice(ways)
    if way == "save":
        row.save(force_insert=True)
    elif way == "bulk_create":
        type(row)._default_manager.bulk_create([row])
    else:
        if way == "replace":
            row.pk = _any(random, type(row))
        named = [each for each in row._meta.local_concrete_fields if not each.primary_key or row.pk is not None]
        names = ", ".join(f'"{each.column}"' for each in named)
        values = [each.get_db_prep_save(each.pre_save(row, True), connection) for each in named]
        holes = ", ".join(["%s"] * len(named))
        verb = "INSERT OR REPLACE" if way == "replace" else "INSERT"
        execute(f'{verb} INTO "{row._meta.db_table}" ({names}) VALUES ({holes})', values)


def write_over(random: Random, kind: type[Model], changed: Mapping[str, Any], *, pk: Any = None) -> None:
    """Change a row of ``kind`` in one of the ways there are; columns by attribute name."""
    pk = _any(random, kind) if pk is None else pk
    way = random.choice(["update", "save", "bulk_update", "sql", "all"])
    if way == "update":
        kind._default_manager.filter(pk=pk).update(**changed)
        return
    if way in ("sql", "all"):
        fields = {each.attname: each for each in kind._meta.local_concrete_fields}
        pairs = ", ".join(f'"{fields[name].column}" = %s' for name in changed)
        values = [fields[name].get_db_prep_save(value, connection) for name, value in changed.items()]
        verb = "UPDATE OR REPLACE" if connection.vendor == "sqlite" and random.random() < 0.3 else "UPDATE"
        where, key = ("", []) if way == "all" else (" WHERE id = %s", [pk])
        execute(f'{verb} "{kind._meta.db_table}" SET {pairs}{where}', [*values, *key])
        return
    row = kind._default_manager.get(pk=pk)
    for name, value in changed.items():
        setattr(row, name, value)
    if way == "save":
        row.save(update_fields=list(changed))
    else:
        kind._default_manager.bulk_update([row], list(changed))


def execute(sql: str, values: Sequence[Any] = ()) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, list(values))


def _any(random: Random, kind: type[Model]) -> Any:
    """The id of a row, of the newest more often; 0 where there is none."""
    with connection.cursor() as cursor:
        cursor.execute(f'SELECT id FROM "{kind._meta.db_table}" ORDER BY id DESC LIMIT 12')
        keys = [row[0] for row in cursor.fetchall()]
    return random.choice([*keys, *keys[:2], *keys[:1]]) if keys else 0


def _one(random: Random, kind: type[Any]) -> Any:
    return kind._default_manager.get(pk=_any(random, kind))


DELETED: tuple[type[Model], ...] = (
    Policy, PolicyDecision, GateRun, CheckResult, Rollout, Alias, Evidence, Decision, Fallback,
)  # fmt: skip


def delete_row(world: World, random: Random) -> None:
    kind: type[Model] = random.choice(DELETED)
    pk = _any(random, kind)
    if random.random() < 0.5:
        kind._default_manager.filter(pk=pk)._raw_delete("default")
    else:
        execute(f'DELETE FROM "{kind._meta.db_table}" WHERE id = %s', [pk])


def insert_policy(world: World, random: Random) -> None:
    model = random.choice(world.models)
    number = random.choice([Policy.objects.filter(registered_model=model).count() + 1, random.randint(1, 9)])
    proposer = random.choice([world.people[0], *world.people, None])
    row = Policy(registered_model=model, number=number, document=random.choice(DOCUMENTS), content_hash="0" * 64)
    row.created_by, row.created_at = proposer, NOON
    write_new(random, row)


def update_policy(world: World, random: Random) -> None:
    changes: list[dict[str, Any]] = [{"document": random.choice(DOCUMENTS)}, {"number": random.randint(1, 99)}]
    changes.append({"registered_model_id": random.choice(world.models).pk})
    changes.append({"created_by_id": random.choice(world.people).pk})
    write_over(random, Policy, random.choice(changes))


def insert_decision(world: World, random: Random) -> None:
    """As often as not what the right person may do: what is in force has to change for others to be too late."""
    row = PolicyDecision(policy_id=_any(random, Policy), reason="Why not.", decided_at=NOON)
    if random.random() < 0.5:
        row.outcome, row.duty, row.decided_by = "confirmed", "product", world.people[1]
    else:
        row.outcome = random.choice(["confirmed", "confirmed", "declined", "withdrawn"])
        row.duty = random.choice(["product", "platform", "data_science"])
        row.decided_by = random.choice(world.people)
    write_new(random, row)


def update_decision(world: World, random: Random) -> None:
    changes: list[dict[str, Any]] = [{"outcome": "confirmed"}, {"policy_id": _any(random, Policy)}]
    changes.append({"decided_by_id": random.choice(world.people).pk})
    write_over(random, PolicyDecision, random.choice(changes))


def insert_run(world: World, random: Random) -> None:
    version = _one(random, ModelVersion)
    model = version.registered_model if random.random() < 0.8 else random.choice(world.models)
    policy = (gates.in_force(model) if random.random() < 0.7 else None) or _one(random, Policy)
    checks = policy.document["checks"] if isinstance(policy.document, dict) else ()
    honest = sum(check.get("blocking") is not False for check in checks)
    row = GateRun(
        registered_model=model,
        version=version,
        policy=policy,
        number=random.randint(10, 10**6),
        state=random.choice(["open", *RUN_STATES]),
        required_checks=random.choice([honest, honest, 1, 0]),
        opened_at=NOON,
        deadline=NOON,
    )
    write_new(random, row)


def update_run(world: World, random: Random) -> None:
    state = {"state": random.choice(RUN_STATES)}
    changes: list[dict[str, Any]] = [state, state, state, {"required_checks": random.choice([0, 1, 2])}]
    changes.append({"policy_id": _any(random, Policy)})
    changes.append({"version_id": _any(random, ModelVersion)})
    changes.append({"registered_model_id": random.choice(world.models).pk})
    write_over(random, GateRun, random.choice(changes))


def insert_result(world: World, random: Random) -> None:
    run = GateRun.objects.select_related("policy").get(pk=_any(random, GateRun))
    checks = run.policy.document["checks"] if isinstance(run.policy.document, dict) else ()
    check = random.choice([*checks, {"id": "made-up", "kind": "metric"}])
    blocking = check.get("blocking") is not False
    row = CheckResult(
        gate_run=run,
        check_id=check["id"],
        kind=random.choice([check["kind"]] * 4 + ["custom"]),
        blocking=blocking if random.random() < 0.8 else not blocking,
        verdict=random.choice(VERDICTS),
        message="Forged.",
    )
    write_new(random, row)


def update_result(world: World, random: Random) -> None:
    changes: list[dict[str, Any]] = [{"verdict": "passed"}, {"blocking": random.random() < 0.5}]
    changes.append({"gate_run_id": _any(random, GateRun)})
    changes.append({"check_id": "ci"})
    write_over(random, CheckResult, random.choice(changes))


def insert_rollout(world: World, random: Random) -> None:
    run = _one(random, GateRun)
    version = run.version if random.random() < 0.85 else _one(random, ModelVersion)
    model = version.registered_model if random.random() < 0.9 else random.choice(world.models)
    row = Rollout(
        endpoint=_one(random, Endpoint),
        registered_model=model,
        version=version,
        gate_run=run,
        plan={},
        salt="forged",
        state=random.choice(ROLLOUT_STATES),
        created_at=NOON,
    )
    write_new(random, row)


def update_rollout(world: World, random: Random) -> None:
    state = {"state": random.choice(ROLLOUT_STATES)}
    changes: list[dict[str, Any]] = [state, state, state, {"gate_run_id": _any(random, GateRun)}]
    changes.append({"version_id": _any(random, ModelVersion)})
    waits = Rollout.objects.filter(state="pending").values_list("pk", flat=True).first()
    write_over(random, Rollout, random.choice(changes), pk=random.choice([waits, None]))


def update_route(world: World, random: Random) -> None:
    rollout = _one(random, Rollout)
    candidate = rollout.version_id if random.random() < 0.7 else _any(random, ModelVersion)
    changed: dict[str, Any] = random.choice(
        [
            {"candidate_id": candidate, "rollout_id": rollout.pk},
            {"champion_id": _any(random, ModelVersion)},
            {"fallback_id": _any(random, Fallback)},
        ]
    )
    if random.random() < 0.7:
        write_over(random, Route, changed)
        return
    endpoint = Endpoint(
        name=f"forged-{random.getrandbits(40)}",
        title="Forged",
        registered_model=random.choice(world.models),
        entity_column="flight",
        outcome_window=timedelta(hours=1),
        enabled=random.random() < 0.5,
        created_at=NOON,
    )
    endpoint.save()
    write_new(random, Route(endpoint=endpoint, changed_at=NOON, **changed))


def update_endpoint(world: World, random: Random) -> None:
    """The switches only: which model it is given to no guard watches, and no gate depends on it."""
    write_over(random, Endpoint, {random.choice(["enabled", "rollouts_paused"]): random.random() < 0.5})


def insert_fallback(world: World, random: Random) -> None:
    version = _one(random, ModelVersion) if random.random() < 0.8 else None
    row = Fallback(endpoint=_one(random, Endpoint), name=f"forged-{random.getrandbits(40)}", note="Forged.")
    row.version, row.score, row.created_at = version, None if version else 0.5, NOON
    write_new(random, row)


def update_fallback(world: World, random: Random) -> None:
    changes: list[dict[str, Any]] = [{"version_id": _any(random, ModelVersion)}, {"retired_at": None}]
    changes += [{"endpoint_id": _any(random, Endpoint)}, {"retired_at": NOON}]
    write_over(random, Fallback, random.choice(changes))


def insert_product_decision(world: World, random: Random) -> None:
    endpoint = _one(random, Endpoint)
    model = endpoint.registered_model if random.random() < 0.7 else random.choice(world.models)
    row = Decision(endpoint=endpoint, registered_model=model, note="Forged.", decided_at=NOON)
    row.kind, row.decided_by = random.choice(["serve", "stop", "pause", "continue"]), random.choice(world.people)
    row.fallback_id = _any(random, Fallback) if random.random() < 0.3 else None
    row.takes_effect_at = random.choice([None, NOON])
    write_new(random, row)


def update_product_decision(world: World, random: Random) -> None:
    changes: list[dict[str, Any]] = [{"decided_by_id": random.choice(world.people).pk}, {"kind": "serve"}]
    changes.append({"registered_model_id": random.choice(world.models).pk})
    write_over(random, Decision, random.choice(changes))


def write_alias(world: World, random: Random) -> None:
    version = _one(random, ModelVersion)
    if random.random() < 0.5:
        write_over(random, Alias, {"version_id": version.pk})
        return
    name = random.choice(["champion", "challenger"])
    model = random.choice([version.registered_model, *world.models])
    write_new(random, Alias(registered_model=model, name=name, version=version, since=NOON))


def rename_alias(world: World, random: Random) -> None:
    changes: list[dict[str, Any]] = [{"name": "champion"}, {"registered_model_id": random.choice(world.models).pk}]
    write_over(random, Alias, random.choice(changes))


def update_version(world: World, random: Random) -> None:
    write_over(random, ModelVersion, {"registered_model_id": random.choice(world.models).pk})


def insert_evidence(world: World, random: Random) -> None:
    row = Evidence(
        registered_model=random.choice(world.models),
        code_digest=rows.CODE,
        kind="unit",
        verdict=random.choice(VERDICTS),
        summary="Forged.",
        submitted_at=NOON,
    )
    write_new(random, row)


ROWS: dict[str, Action] = {
    each.__name__: each
    for each in (
        delete_row,
        insert_policy,
        update_policy,
        insert_decision,
        update_decision,
        insert_run,
        update_run,
        insert_result,
        update_result,
        insert_rollout,
        update_rollout,
        update_route,
        update_endpoint,
        insert_fallback,
        update_fallback,
        insert_product_decision,
        update_product_decision,
        write_alias,
        rename_alias,
        update_version,
        insert_evidence,
    )
}


def touching(table: str) -> dict[str, Action]:
    """Of ``ROWS`` those that write a table: where one guard is gone they are tried more often."""
    short = {"gates_policydecision": "decision", "gates_gaterun": "run", "gates_checkresult": "result"}
    short["rollout_decision"] = "product_decision"
    noun = short.get(table, table.rpartition("_")[2].removeprefix("model"))
    return {name: action for name, action in ROWS.items() if name.endswith(f"_{noun}")} or ROWS


# ---------------------------------------------------------------------- the verbs


def _actor(world: World, random: Random) -> Any:
    return random.choice([ROBOT, *world.people])


def propose_policy(world: World, random: Random) -> None:
    model, document = random.choice(world.models), random.choice(DOCUMENTS)
    gates.propose_policy(model, document=document, note="Try.", actor=_actor(world, random), now=NOON)


def decide_policy(world: World, random: Random) -> None:
    decide = random.choice([gates.confirm_policy, gates.confirm_policy, gates.decline_policy, gates.withdraw_policy])
    decide(_one(random, Policy), reason="Try.", actor=random.choice(world.people), now=NOON)


def open_run(world: World, random: Random) -> None:
    open_ = random.choice([gates.open_run, gates.rerun])
    open_(_one(random, ModelVersion), actor=_actor(world, random), reason="Try.", now=NOON)


def begin_run(world: World, random: Random) -> None:
    gates.begin(_one(random, GateRun), actor=_actor(world, random), reason="Try.", now=NOON)


def record_result(world: World, random: Random) -> None:
    blocking = random.random() < 0.8
    judged = _judged(random.choice(["auc-floor", "ci", "brier", "made-up"]), random.choice(VERDICTS), blocking=blocking)
    gates.record_result(_one(random, GateRun), judged, measured={}, wall_seconds=0.1)


def conclude(world: World, random: Random) -> None:
    chosen = random.sample(["auc-floor", "ci", "brier"], random.randint(0, 3))
    judged = [_judged(each, random.choice(VERDICTS), blocking=each != "brier") for each in chosen]
    gates.conclude(_one(random, GateRun), judged, actor=ROBOT, now=NOON)


def conclude_without_evidence(world: World, random: Random) -> None:
    gates.conclude_without_evidence(_one(random, GateRun), actor=ROBOT, now=NOON + timedelta(days=9))


def give_up(world: World, random: Random) -> None:
    gates.give_up(_one(random, GateRun), actor=ROBOT, reason="Try.", now=NOON)


def submit_evidence(world: World, random: Random) -> None:
    payload = random.choice([rows.JUNIT, rows.RED, "<testsuite/>", "all green, I promise"])
    model, actor = random.choice(world.models), _actor(world, random)
    rows.evidence("unit", payload, registered_model=model, actor=actor)


def propose_rollout(world: World, random: Random) -> None:
    run = _one(random, GateRun)
    version = run.version if random.random() < 0.8 else _one(random, ModelVersion)
    rollouts.propose(version, gate_run=run, actor=_actor(world, random), reason="Try.", now=NOON)


def step_rollout(world: World, random: Random) -> None:
    verbs = [rollouts.start, rollouts.start, rollouts.advance, rollouts.promote, rollouts.pause, rollouts.resume]
    verb: Any = random.choice([*verbs, rollouts.abort, rollouts.roll_back])
    verb(_one(random, Rollout), actor=_actor(world, random), reason="Try.", now=NOON)


def serve_model(world: World, random: Random) -> None:
    """At once or later; of a kill switch with any fallback there is, or none."""
    kind = random.choice(["serve", "stop", "resume", "pause", "continue"])
    endpoint = _one(random, Endpoint)
    model = random.choice(world.models) if random.random() < 0.4 else endpoint.registered_model
    later = random.choice([None, None, NOON + timedelta(hours=1)])
    fallback = _one(random, Fallback) if kind == "stop" and random.random() < 0.7 else None
    said: dict[str, Any] = {"note": "Try.", "actor": random.choice(world.people), "now": NOON}
    rollouts.decide(endpoint, kind=kind, registered_model=model, takes_effect_at=later, fallback=fallback, **said)


def carry_out_due(world: World, random: Random) -> None:
    rollouts.carry_out_due(now=NOON + timedelta(hours=random.choice([0, 2])))


def withdraw_decision(world: World, random: Random) -> None:
    rollouts.withdraw(_one(random, Decision), reason="Try.", actor=_actor(world, random), now=NOON)


def name_fallback(world: World, random: Random) -> None:
    said: dict[str, Any] = {"name": f"try-{random.getrandbits(40)}", "note": "Try.", "now": NOON}
    version = _one(random, ModelVersion)
    rollouts.add_fallback(_one(random, Endpoint), version=version, actor=_actor(world, random), **said)


def end_fallback(world: World, random: Random) -> None:
    rollouts.retire_fallback(_one(random, Fallback), reason="Try.", actor=_actor(world, random), now=NOON)


def freeze_endpoint(world: World, random: Random) -> None:
    window = {"starts_at": NOON, "ends_at": NOON + timedelta(hours=3)}
    rollouts.freeze(_one(random, Endpoint), **window, note="Try.", actor=_actor(world, random), now=NOON)


def crown(world: World, random: Random) -> None:
    crown_version(_one(random, ModelVersion), actor=ROBOT, reason="Try.", now=NOON)


def change_tier(world: World, random: Random) -> None:
    model = RegisteredModel.objects.get(pk=random.choice(world.models).pk)
    owners: dict[str, Any] = {"data_science": model.data_science, "platform": model.platform, "product": model.product}
    tier = random.choice(["experimental", "standard", "high-stakes"])
    said: dict[str, Any] = {"title": model.title, "description": "", "reason": "Try.", "actor": _actor(world, random)}
    change_model(model, tier=tier, now=NOON, **said, **owners)


VERBS: dict[str, Action] = {
    each.__name__: each
    for each in (
        propose_policy,
        decide_policy,
        open_run,
        begin_run,
        record_result,
        conclude,
        conclude_without_evidence,
        give_up,
        submit_evidence,
        propose_rollout,
        step_rollout,
        serve_model,
        carry_out_due,
        withdraw_decision,
        name_fallback,
        end_fallback,
        freeze_endpoint,
        crown,
        change_tier,
    )
}

# ---------------------------------------------------------------------- the API and the admin


def _post(world: World, random: Random, path: str, body: Any) -> None:
    answer = random.choice(world.callers).post(path, body)
    assert answer.status_code < 500, (path, body, answer.content)


def post_policy(world: World, random: Random) -> None:
    name = random.choice(world.models).name
    _post(world, random, f"models/{name}/policies/", {"document": random.choice(DOCUMENTS), "note": "Try."})


def post_decision(world: World, random: Random) -> None:
    policy = Policy.objects.select_related("registered_model").get(pk=_any(random, Policy))
    outcome = random.choice(["confirm", "confirm", "decline", "withdraw"])
    path = f"models/{policy.registered_model.name}/policies/{policy.number}/decision/"
    _post(world, random, path, {"outcome": outcome, "reason": "Try."})


def post_evidence(world: World, random: Random) -> None:
    report = random.choice([rows.JUNIT, rows.RED, "<testsuite/>"])
    forged: dict[str, Any] = random.choice([{}, {"verdict": "passed"}, {"submitted_at": "2030-01-01"}])
    body = {"kind": "unit", "code_digest": random.choice([rows.CODE, "beef" * 16]), "report": report, **forged}
    _post(world, random, f"models/{random.choice(world.models).name}/evidence/", body)


def post_run(world: World, random: Random) -> None:
    version = ModelVersion.objects.select_related("registered_model").get(pk=_any(random, ModelVersion))
    forged: dict[str, Any] = random.choice([{}, {"state": "passed"}, {"required_checks": 0}])
    body = {"version": version.number, "reason": "Try.", **forged}
    _post(world, random, f"models/{version.registered_model.name}/gate-runs/", body)


def post_rollout(world: World, random: Random) -> None:
    verb = random.choice(["pause", "resume", "abort"])
    _post(world, random, f"rollouts/{_any(random, Rollout)}/{verb}/", {"reason": "Try."})


def post_endpoint(world: World, random: Random) -> None:
    """Decisions and fallbacks with everything that their bodies might take."""
    name = _one(random, Endpoint).name
    later: dict[str, Any] = random.choice([{}, {"takes_effect_at": (NOON + timedelta(hours=1)).isoformat()}])
    named: dict[str, Any] = random.choice([{}, {"fallback": "before"}, {"fallback": _one(random, Fallback).name}])
    kind = random.choice(["serve", "stop", "resume", "pause", "continue"])
    model: dict[str, Any] = random.choice([{}, {"model": random.choice(world.models).name}])
    path, body = random.choice(
        [
            ("decisions/", {"kind": kind, **model, **later, **named}),
            ("fallbacks/", {"name": f"post-{random.getrandbits(40)}", "version": random.randint(1, 9)}),
            (f"fallbacks/{_one(random, Fallback).name}/retire/", {"reason": "Try."}),
            (f"decisions/{_any(random, Decision)}/withdraw/", {"reason": "Try."}),
        ]
    )
    _post(world, random, f"endpoints/{name}/{path}", body if "reason" in body else {**body, "note": "Try."})


def post_admin(world: World, random: Random) -> None:
    """A decision's page with everything that its form might take, or the form that a record does not have."""
    kind, decisions = random.choice(
        [
            (Policy, ("confirm", "decline", "withdraw")),
            (GateRun, ("rerun",)),
            (Rollout, ("pause", "resume", "abort", "advance", "promote")),
            (Endpoint, ("serve", "stop", "resume", "pause", "continue", "add_fallback")),
            (Fallback, ("retire",)),
            (Decision, ("withdraw",)),
        ]
    )
    row = _one(random, kind)
    page = f"admin:{row._meta.app_label}_{row._meta.model_name}"
    name = random.choice([*decisions, *decisions, "change", "delete"])
    forged = {"state": random.choice(RUN_STATES), "document": json.dumps(LAX), "required_checks": "0", "post": "yes"}
    forged |= {"fallback": str(_any(random, Fallback)), "version": str(_any(random, ModelVersion)), "name": "posted"}
    values = {"reason": "Try.", "note": "Try.", "registered_model": row.registered_model.pk, **forged}
    answer = random.choice(world.browsers).post(reverse(f"{page}_{name}", args=[row.pk]), values)
    assert answer.status_code < 500, (page, name, answer.content)


ONLINE: dict[str, Action] = {
    each.__name__: each
    for each in (post_policy, post_decision, post_evidence, post_run, post_rollout, post_endpoint, post_admin)
}
ACTIONS: dict[str, Action] = {**ROWS, **VERBS, **ONLINE}
