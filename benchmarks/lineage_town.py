"""A company of 60 models with 50 versions each, for ``benchmarks.lineage_queries``: made in the portal of this process.

The last 500 versions take a feature service of 200 features each, of 20 views over 5 sources. One cycle (gates, shadow,
canary, promotion) of each model is lived through the verbs; the 48 before it are told by events of the same shape, so
that the log is as long as it would be: about 26,000 events.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

MODELS, VERSIONS, WITH_FEATURES = 60, 50, 500
SOURCES, VIEWS, PER_VIEW, COLUMNS = 5, 20, 10, 40
READ = VIEWS - SOURCES + 2 * PER_VIEW
"""Columns of source s that are read: c<s> and the next ones, so many."""
NOW = datetime(2026, 11, 1, tzinfo=UTC)
CYCLE = timedelta(days=7)
START = NOW - VERSIONS * CYCLE


def build() -> Any:
    """Everything, in one transaction. Somebody who may see all models."""
    from django.contrib.auth.models import User
    from django.db import transaction

    from audit import clock
    from audit.trail import Service, record
    from features.models import FeatureView

    with transaction.atomic():
        services = _features()
        models = [_model(number) for number in range(MODELS)]
        for number, model in enumerate(models):
            _history(model, services[number::MODELS])
        reader = User.objects.create_user("reader")
        reader.groups.set([_group("science")])
        with clock.at(NOW):  # the last event pays for all rows that were written without one
            record("benchmark.built", FeatureView.objects.all()[0], actor=Service("benchmark"))
        return reader


def _features() -> list[Any]:
    """Sources, views and services of 200 features each."""
    from features.models import (
        DataSource,
        Entity,
        FeatureService,
        FeatureServiceFeature,
        FeatureView,
        FeatureViewVersion,
    )

    owner, entity = _group("features"), Entity.objects.create(name="customer", join_keys=["customer_id"])
    sources = [
        DataSource.objects.create(
            name=f"source{number}", uri=f"sources/{number}.parquet", event_timestamp="happened", owner=owner
        )
        for number in range(SOURCES)
    ]
    versions = []
    for number in range(VIEWS):
        source = sources[number % SOURCES]
        names = [f"f{number}_{each}" for each in range(PER_VIEW)]
        version = FeatureViewVersion.objects.create(
            view=FeatureView.objects.create(name=f"view{number}", entity=entity, owner=owner),
            number=1,
            state="published",
            expression=_expression(source.name, number, names),
            features=[{"name": name, "dtype": "float64", "description": ""} for name in names],
            content_hash=f"{number:064x}",
            created_at=START,
        )
        version.sources.add(source)
        versions.append(version)
    services = FeatureService.objects.bulk_create(
        FeatureService(name=f"service{number}", number=1, owner=owner, content_hash=f"{number:064x}", created_at=START)
        for number in range(WITH_FEATURES)
    )
    pins = [(version, name) for version in versions for name in version.feature_names]
    FeatureServiceFeature.objects.bulk_create(
        (
            FeatureServiceFeature(service=service, view_version=version, feature=name, position=position)
            for service in services
            for position, (version, name) in enumerate(pins)
        ),
        batch_size=5_000,
    )
    return services


def _expression(source: str, number: int, names: list[str]) -> str:
    """Each feature of two columns of its own, over a WITH, as people write them."""
    told = [
        f"CASE WHEN d.c{first % COLUMNS} > 0 THEN ln(d.c{(first + 1) % COLUMNS}) END AS {name}"
        for first, name in zip(range(number, number + 2 * PER_VIEW, 2), names, strict=True)
    ]
    columns = ", ".join(f"c{each}" for each in range(COLUMNS))
    return (
        f"WITH d AS (SELECT customer_id, happened, {columns} FROM {source} WHERE is_valid) "
        f"SELECT d.customer_id, d.happened AS event_timestamp, d.happened AS known_at, {', '.join(told)} FROM d"
    )


def _model(number: int) -> Any:
    from registry.models import RegisteredModel, Tier

    return RegisteredModel.objects.create(
        name=f"model{number}",
        title=f"Model {number}",
        tier=Tier.EXPERIMENTAL,
        data_science=_group("science"),
        platform=_group("platform"),
        product=_group("product"),
        created_at=START,
    )


def _group(name: str) -> Any:
    from django.contrib.auth.models import Group

    return Group.objects.get_or_create(name=name)[0]


def _member(of: Any) -> Any:
    from django.contrib.auth.models import User

    user, is_new = User.objects.get_or_create(username=f"some-{of.name}")
    if is_new:
        user.groups.add(of)
    return user


def _history(model: Any, services: list[Any]) -> None:
    """The model's versions; the first is promoted at once, the last lives a cycle, those between are told."""
    from audit import clock
    from gates import actions as gates
    from registry.models import ModelVersion
    from rollout import actions as rollouts

    robot = _robot()
    document = {"checks": [{"id": f"check{each}", **_CHECK} for each in range(6)]}
    with clock.at(START):
        scientist, owner = _member(model.data_science), _member(model.product)
        policy = gates.propose_policy(model, document=document, note="A floor.", actor=scientist, now=START)
        gates.confirm_policy(policy, reason="Agreed.", actor=owner, now=START)
        rollouts.create_endpoint(
            name=f"{model.name}-point",
            title=f"Point of {model.title}",
            registered_model=model,
            entity_column="customer_id",
            outcome_window=timedelta(hours=1),
            actor=robot,
            now=START,
        )
    versions = ModelVersion.objects.bulk_create(_version(model, each, services) for each in range(1, VERSIONS + 1))
    _cycle(versions[0], START)
    before = _newest_event()
    _cycle(versions[-1], START + (VERSIONS - 1) * CYCLE)
    _tell(model, versions, since=before)
    _judged(versions[1:-1])


_CHECK = {"kind": "metric", "metric": "roc_auc", "at_least": 0.55}


def _version(model: Any, number: int, services: list[Any]) -> Any:
    from registry.models import ModelVersion

    digest = f"{model.pk:08x}{number:056x}"
    place = VERSIONS - number
    return ModelVersion(
        registered_model=model,
        number=number,
        artifact_digest=digest,
        artifact_name="model.skops",
        artifact_bytes=120_000,
        manifest_digest=digest,
        load_class="skops",
        service=services[place] if place < len(services) else None,
        parameters={f"parameter{each}": each for each in range(20)},
        metrics={"validation": {f"metric{each}": {"estimate": 0.7, "low": 0.6, "high": 0.8} for each in range(8)}},
        environment_lock="\n".join(f"package{each}==1.{each}" for each in range(60)),
        note="What is new, in a sentence or two, as a person would write it.",
        registered_at=START + number * CYCLE,
        content_digest=digest,
    )


def _cycle(version: Any, begun: datetime) -> None:
    """Gates, proposal, and the way to the champion, through the verbs."""
    from audit import clock
    from gates import actions as gates
    from gates.judge import Judgement
    from rollout import actions as rollouts

    robot, moment = _robot(), begun
    with clock.at(moment):
        run = gates.open_run(version, actor=robot, reason="It was registered.", now=moment)
        judged = [
            Judgement(f"check{each}", "metric", True, "passed", "AUC 0.76 reaches 0.55", value=0.76, n=900)
            for each in range(6)
        ]
        gates.conclude(run, judged, actor=robot, now=moment)
        rollout = rollouts.propose(version, gate_run=run, actor=robot, reason="It passed.", now=moment)[0]
        rollouts.start(rollout, actor=robot, reason="Its turn.", now=moment)
    while rollout.state != "promoted":
        moment += timedelta(hours=8)
        with clock.at(moment):
            steps = len(rollout.plan["canary"]["steps"])
            verb = rollouts.promote if rollout.step == steps else rollouts.advance
            verb(rollout, actor=robot, reason="No harm: loss +0.004 [-0.010, +0.018], limit 0.02.", now=moment)


def _tell(model: Any, versions: list[Any], *, since: int) -> None:
    """The events of the last cycle once more for each version between, a cycle earlier each."""
    from audit.models import Event

    lived = list(Event.objects.filter(registered_model=model.name, pk__gt=since).order_by("pk"))
    last, first = versions[-1], versions[0]
    told = []
    for place, version in enumerate(versions[1:-1], start=1):
        champion = versions[place - 1]
        names = {last.artifact_digest: version.artifact_digest, first.artifact_digest: champion.artifact_digest}
        for event in lived:
            data = _renamed(event.data, {last.pk: version, first.pk: champion}, names)
            told.append(
                Event(
                    name=event.name,
                    subject_type=event.subject_type,
                    subject_id=str(version.pk)
                    if event.subject_type == "registry.modelversion"
                    else f"9{event.subject_id}",
                    subject_label=event.subject_label.replace(f"v{last.number}", f"v{version.number}"),
                    registered_model=model.name,
                    service=event.service,
                    reason=event.reason,
                    data=data,
                    at=event.at - (VERSIONS - 1 - place) * CYCLE,
                    digest="0" * 64,
                )
            )
    Event.objects.bulk_create(told, batch_size=1_000)


def _renamed(data: Any, versions: dict[int, Any], digests: dict[str, str]) -> Any:
    """The event's data with other versions in the places of these."""
    text = json.dumps(data)
    for before, after in digests.items():
        text = text.replace(before, f"<{after}>")
    found: Any = json.loads(text.replace("<", "").replace(">", ""))
    _number(found, versions)
    return found


def _number(value: Any, versions: dict[int, Any]) -> None:
    if isinstance(value, dict):
        version = versions.get(value.get("id", 0))
        if version is not None:
            value |= {"id": version.pk, "version": version.number}
        for each in value.values():
            _number(each, versions)


def _judged(versions: list[Any]) -> None:
    """A gate run of each version between that failed: the list shows them."""
    from gates.models import GateRun, Policy
    from gates.policy import parse

    policy = Policy.objects.get(registered_model=versions[0].registered_model)
    required = len(parse(policy.document).blocking)
    runs = GateRun.objects.bulk_create(
        GateRun(
            registered_model=version.registered_model,
            version=version,
            policy=policy,
            number=1,
            state="open",
            required_checks=required,
            opened_at=START,
            deadline=NOW,
        )
        for version in versions
    )
    GateRun.objects.filter(pk__in=[run.pk for run in runs]).update(state="failed", state_reason="AUC is below 0.55.")


def _newest_event() -> int:
    from audit.models import Event

    newest: int = Event.objects.order_by("-pk").values_list("pk", flat=True)[0]
    return newest


def _robot() -> Any:
    from audit.trail import Service

    return Service("benchmark")
