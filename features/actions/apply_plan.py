"""Carry out a plan: everything in it or nothing, and nothing that was not shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import Q

from audit.errors import Conflict, InvalidInput
from audit.trail import Actor
from features.actions.descriptions import describe_entity
from features.actions.feature_views import apply_view, publish
from features.actions.plan import CHANGE, Change, Plan, kept, plan, states_of
from features.actions.review import review
from features.actions.sources import define_entity, define_source
from features.actions.transforms import define_transform
from features.actions.vectors import define_service
from features.definitions import Definitions
from features.description import aggregations_of
from features.models import DataSource, Entity, FeatureService, FeatureView, OnDemandTransform

_CHANGED = "What is stored changed since the plan was made. Plan again, and look at it again."


def apply(definitions: Definitions, *, digest: str, publish: bool, reason: str, actor: Actor, now: datetime) -> Plan:
    """Do what the plan with this ``digest`` says, in one transaction; the plan that was carried out, reviewed.

    With ``publish`` new versions and drafts are published, for the ``reason``. When nothing is left to do, nothing is
    done, whatever the digest: an apply may be repeated after a lost answer. Raises Conflict when what is stored has
    changed since the plan, and all that ``plan`` and ``review`` raise.
    """
    wanted = plan(definitions, publish=publish, actor=actor)
    if not wanted.to_do:
        return wanted
    if wanted.digest != digest:
        raise Conflict(_CHANGED)
    if not reason.strip() and any(change.publishes for change in wanted.to_do):
        raise InvalidInput({"reason": "Say why it is published; whoever uses the view will read it."})
    # Measured before anything is locked: it takes seconds, and the stored state is compared again below.
    reviewed = review(wanted, now=now)
    with transaction.atomic():
        _lock_owners(definitions)
        if states_of(definitions) != wanted.states:
            raise Conflict(_CHANGED)
        _Apply(reviewed, reason=reason, actor=actor, now=now).run()
    return reviewed


def _lock_owners(definitions: Definitions) -> None:
    """Whoever applies for one of these groups next waits here. In one order, so that no two wait for each other."""
    owned: tuple[Any, ...] = (*definitions.sources, *definitions.views, *definitions.transforms, *definitions.services)
    said = {each.owner for each in owned}
    names: Mapping[Any, set[str]] = {
        DataSource: {each.name for each in definitions.sources},
        FeatureView: {each.name for each in definitions.views},
        OnDemandTransform: {each.name for each in definitions.transforms},
        FeatureService: {each.name for each in definitions.services},
    }
    stored = {
        owner
        for model, named in names.items()
        for owner in model.objects.filter(name__in=named).values_list("owner_id", flat=True)
    }
    owners = Group.objects.select_for_update(no_key=True).filter(Q(name__in=said) | Q(pk__in=stored))
    list(owners.order_by("pk"))


class _Apply:
    """The verbs of a plan, one per change, in its order. What comes out must be what the plan said."""

    def __init__(self, plan: Plan, *, reason: str, actor: Actor, now: datetime) -> None:
        self._plan, self._reason = plan, reason
        self._who: dict[str, Any] = {"actor": actor, "now": now}
        self._steps = {step.definition.name: step for step in plan.views}

    def run(self) -> None:
        verbs: Mapping[str, Callable[[Change], Any]] = {
            "entity": self._entity,
            "source": self._source,
            "view": self._view,
            "transform": self._transform,
            "service": self._service,
        }
        for change in self._plan.to_do:
            made = verbs[change.kind](change)
            if str(made) != change.label or getattr(made, "content_hash", "") != change.content_hash:
                raise Conflict(_CHANGED)

    def _entity(self, change: Change) -> Entity:
        wanted = _named(self._plan.definitions.entities, change)
        if change.action == CHANGE:
            entity = Entity.objects.get(name=change.name)
            reason = self._reason or "Applied from definitions."
            describe_entity(entity, description=wanted.description, reason=reason, **self._who)
            return entity
        return define_entity(name=wanted.name, join_keys=wanted.join_keys, description=wanted.description, **self._who)

    def _source(self, change: Change) -> DataSource:
        stored = DataSource.objects.filter(name=change.name).first()
        wanted = kept(_named(self._plan.definitions.sources, change), stored)
        return define_source(
            name=wanted.name,
            uri=wanted.uri,
            event_timestamp=wanted.event_timestamp,
            created_timestamp=wanted.created_timestamp,
            freshness=wanted.freshness,
            push_schema=wanted.push_schema,
            owner=_group(wanted.owner),
            description=wanted.description,
            **self._who,
        )

    def _view(self, change: Change) -> Any:
        wanted, prepared = self._steps[change.name].definition, self._steps[change.name].prepared
        sources = {each.name: each for each in DataSource.objects.filter(name__in=wanted.sources)}
        version = apply_view(
            name=wanted.name,
            entity=Entity.objects.get(name=wanted.entity),
            expression=wanted.expression,
            sources=[sources[name] for name in wanted.sources],
            features=prepared.features,
            aggregations=aggregations_of(wanted.aggregations),
            language=wanted.language,
            event_timestamp=wanted.event_timestamp,
            known_at=wanted.known_at,
            ttl=wanted.ttl,
            cadence=wanted.cadence,
            lookback=wanted.lookback,
            freshness=wanted.freshness,
            consistency_limit=wanted.consistency_limit,
            owner=_group(wanted.owner),
            description=wanted.description,
            review=change.review,
            **self._who,
        )
        return publish(version, reason=self._reason, **self._who) if change.publishes else version

    def _transform(self, change: Change) -> OnDemandTransform:
        wanted = _named(self._plan.definitions.transforms, change)
        return define_transform(
            name=wanted.name,
            code=wanted.code,
            features=wanted.features,
            owner=_group(wanted.owner),
            description=wanted.description,
            **self._who,
        )

    def _service(self, change: Change) -> FeatureService:
        wanted = _named(self._plan.definitions.services, change)
        return define_service(
            name=wanted.name,
            features=wanted.features,
            request_features=wanted.request_features,
            transforms=wanted.transforms,
            owner=_group(wanted.owner),
            description=wanted.description,
            **self._who,
        )


def _named(definitions: Any, change: Change) -> Any:
    return next(each for each in definitions if each.name == change.name)


def _group(name: str) -> Group:
    return Group.objects.get(name=name)
