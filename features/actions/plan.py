"""What applying a set of definitions would do, found out without doing it.

A plan compares each definition with what is stored, and each new meaning of a view with the one in force: which fields
changed, what that does to values on a sample, who pins the old one, and who has such a feature already. Its digest is
over the definitions and over everything stored that they were compared with: ``apply_plan.apply`` carries out the plan
that was shown, or refuses.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from django.contrib.auth.models import Group

from audit.errors import Conflict, InvalidInput, NotPermitted
from audit.trail import Actor
from engines.offline import Aggregation
from features import meaning
from features.actions.differences import FieldChange, changed_meaning, changed_vector, said, sql_diff, text_diff
from features.actions.feature_views import Prepared, changed_words, prepare_view
from features.actions.rules import require_member, validate
from features.actions.sources import changed_in_source, checked_entity, checked_source, require_founder
from features.actions.transforms import PreparedTransform, prepare_transform
from features.actions.vectors import check_columns, check_vector, unless_retired
from features.definitions import (
    Definitions,
    EntityDefinition,
    ServiceDefinition,
    SourceDefinition,
    TransformDefinition,
    ViewDefinition,
)
from features.description import aggregations_of
from features.models import (
    DataSource,
    Entity,
    FeatureService,
    FeatureView,
    FeatureViewVersion,
    OnDemandTransform,
    ViewState,
)

CREATE, NEW_VERSION, CHANGE, PUBLISH, WAIT, UNCHANGED = (
    "create",
    "new version",
    "change",
    "publish",
    "wait",
    "unchanged",
)
ACTIONS = (CREATE, NEW_VERSION, CHANGE, PUBLISH, WAIT, UNCHANGED)
"""``change``: words and promises only. ``wait``: a service of a view that is not published yet."""


@dataclass(frozen=True)
class Change:
    """What happens to one object. ``label`` is its name afterwards (weather@2), ``content_hash`` what it means.

    ``publishes``: the version is published in the same apply. ``pinned_by`` are the services of the version that is in
    force, ``review`` what measuring found (``features.actions.review``).
    """

    kind: str
    name: str
    action: str
    label: str
    content_hash: str = ""
    publishes: bool = False
    fields: tuple[FieldChange, ...] = ()
    diff: str = ""
    notes: tuple[str, ...] = ()
    pinned_by: tuple[FeatureService, ...] = ()
    review: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_one(self) -> bool:
        """Whether applying does something."""
        return self.action not in (UNCHANGED, WAIT)


@dataclass(frozen=True)
class ViewStep:
    """A view's change with what it is measured by. ``before`` is the version in force, if there is one."""

    definition: ViewDefinition
    prepared: Prepared
    before: FeatureViewVersion | None
    change: Change


@dataclass(frozen=True)
class Plan:
    """``states`` is what was stored when it was made; ``digest`` is over that, the definitions and ``publish``."""

    definitions: Definitions
    publish: bool
    changes: tuple[Change, ...]
    views: tuple[ViewStep, ...]
    states: Mapping[str, Any]

    @property
    def digest(self) -> str:
        content = {"definitions": self.definitions.digest, "publish": self.publish, "states": self.states}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def to_do(self) -> tuple[Change, ...]:
        """The changes that applying makes, in the order in which it makes them."""
        return tuple(change for change in self.changes if change.is_one)

    def reviewed(self, reviews: Mapping[str, Mapping[str, Any]]) -> Plan:
        """The plan with what measuring found, by view."""

        def told(change: Change) -> Change:
            return replace(change, review=reviews[change.name]) if _is_reviewed(change, reviews) else change

        return replace(
            self,
            changes=tuple(told(change) for change in self.changes),
            views=tuple(replace(step, change=told(step.change)) for step in self.views),
        )


def _is_reviewed(change: Change, reviews: Mapping[str, Any]) -> bool:
    return change.kind == "view" and change.name in reviews


def plan(definitions: Definitions, *, publish: bool, actor: Actor) -> Plan:
    """Compare definitions with what is stored. Nothing is written, no value is read.

    Raises InvalidInput with every fault by ``kind.name.field``, NotPermitted where the actor is not of the owners.
    """
    states = states_of(definitions)
    planner = _Planner(definitions, publish=publish, actor=actor)
    changes = tuple(planner.changes())
    if planner.faults:
        raise InvalidInput(planner.faults)
    return Plan(definitions, publish, changes, tuple(planner.steps.values()), states)


def states_of(definitions: Definitions) -> dict[str, Any]:
    """Everything stored that the definitions are compared with, as JSON."""
    sources = {each.name for each in definitions.sources} | {
        name for view in definitions.views for name in view.sources
    }
    entities = {each.name for each in definitions.entities} | {view.entity for view in definitions.views}
    used = {reference.partition(".")[0] for service in definitions.services for reference in service.features}
    views = {each.name for each in definitions.views} | used
    on_demand = {each.name for each in definitions.transforms}
    on_demand |= {name for service in definitions.services for name in service.transforms}
    services = {each.name for each in definitions.services}
    versions = FeatureViewVersion.objects.filter(view__name__in=views).order_by("view__name", "number")
    return json.loads(  # type: ignore[no-any-return]  # a mapping, with tuples as the lists that JSON has
        json.dumps(
            {
                "entities": list(_rows(Entity, entities, "join_keys", "description")),
                "sources": list(
                    _rows(
                        DataSource,
                        sources,
                        "uri",
                        "event_timestamp",
                        "created_timestamp",
                        "freshness",
                        "push_schema",
                        "owner__name",
                        "description",
                    )
                ),
                "views": list(
                    _rows(
                        FeatureView,
                        views,
                        "entity__name",
                        "owner__name",
                        "description",
                        "freshness",
                        "consistency_limit",
                    )
                ),
                "versions": list(versions.values_list("view__name", "number", "content_hash", "state")),
                "transforms": list(_rows(OnDemandTransform, on_demand, "number", "content_hash", "owner__name")),
                "services": list(
                    _rows(FeatureService, services, "number", "content_hash", "owner__name", "retired_at")
                ),
            },
            default=str,
        )
    )


def _rows(model: Any, names: Iterable[str], *fields: str) -> Any:
    rows = model.objects.filter(name__in=names)
    return rows.order_by("name", "pk").values_list("name", *fields)


# ---------------------------------------------------------------------- one object at a time


@dataclass(frozen=True)
class _Pin:
    """What a service takes of a view: the version that is published now, or that the same apply publishes."""

    label: str
    content_hash: str
    features: tuple[str, ...]


@dataclass(frozen=True)
class _Computed:
    """What a service takes of a transform: the newest number, or the one that the same apply defines."""

    label: str
    content_hash: str
    inputs: Sequence[str]
    columns: Sequence[str]


class _Planner:
    """Goes through the definitions in the order in which they need each other, and collects faults."""

    def __init__(self, definitions: Definitions, *, publish: bool, actor: Actor) -> None:
        self._definitions, self._publish, self._actor = definitions, publish, actor
        self.faults: dict[str, Sequence[str]] = {}
        self.steps: dict[str, ViewStep] = {}
        self._groups: dict[str, Group] = {group.name: group for group in Group.objects.all()}
        self._entities = {each.name: each for each in Entity.objects.all()}
        self._sources = {each.name: each for each in DataSource.objects.select_related("owner")}
        self._on_demand: dict[str, tuple[PreparedTransform, Change]] = {}

    def changes(self) -> Iterator[Change]:
        kinds: list[tuple[str, Sequence[Any], Any]] = [
            ("entities", self._definitions.entities, self._entity),
            ("sources", self._definitions.sources, self._source),
            ("views", self._definitions.views, self._view),
            ("transforms", self._definitions.transforms, self._transform),
            ("services", self._definitions.services, self._service),
        ]
        for kind, definitions, compare in kinds:
            for definition in definitions:
                with self._faults_of(f"{kind}.{definition.name}"):
                    yield compare(definition)

    @contextmanager
    def _faults_of(self, path: str) -> Iterator[None]:
        """Name what is refused by the object's path."""
        try:
            yield
        except InvalidInput as error:
            self.faults.update({f"{path}.{name}": texts for name, texts in error.errors.items()})
        except Conflict as error:
            self.faults[path] = [str(error)]
        except NotPermitted as error:
            raise NotPermitted(f"{path}: {error}") from error

    def _owner(self, name: str) -> Group:
        if name not in self._groups:
            raise InvalidInput({"owner": f"There is no group {name!r}."})
        require_member(self._actor, self._groups[name])
        return self._groups[name]

    # ------------------------------------------------------------------ entities and sources

    def _entity(self, definition: EntityDefinition) -> Change:
        wanted = checked_entity(
            name=definition.name, join_keys=definition.join_keys, description=definition.description
        )
        stored = self._entities.get(definition.name)
        if stored is None:
            require_founder(self._actor)
            self._entities[definition.name] = wanted
            return Change("entity", wanted.name, CREATE, wanted.name)
        if stored.join_keys != wanted.join_keys:
            raise InvalidInput({"join_keys": f"They are {', '.join(stored.join_keys)} for ever; choose another name."})
        changed = bool(wanted.description) and stored.description != wanted.description
        fields = (FieldChange("description", stored.description, wanted.description),) if changed else ()
        return Change("entity", stored.name, CHANGE if changed else UNCHANGED, stored.name, fields=fields)

    def _source(self, definition: SourceDefinition) -> Change:
        stored = self._sources.get(definition.name)
        definition = kept(definition, stored)
        wanted = self._wanted_source(definition)
        self._sources[definition.name] = wanted
        if stored is None:
            return Change("source", wanted.name, CREATE, wanted.name)
        require_member(self._actor, stored.owner)
        changed = changed_in_source(stored, wanted)
        fields = tuple(FieldChange(each, said(getattr(stored, each)), said(getattr(wanted, each))) for each in changed)
        return Change("source", wanted.name, CHANGE if changed else UNCHANGED, wanted.name, fields=fields)

    def _wanted_source(self, definition: SourceDefinition) -> DataSource:
        return checked_source(
            name=definition.name,
            uri=definition.uri,
            event_timestamp=definition.event_timestamp,
            created_timestamp=definition.created_timestamp,
            freshness=definition.freshness,
            push_schema=definition.push_schema,
            owner=self._owner(definition.owner),
            description=definition.description,
        )

    # ------------------------------------------------------------------ views

    def _view(self, definition: ViewDefinition) -> Change:
        prepared = self._prepared(definition)
        view = FeatureView.objects.filter(name=definition.name).select_related("owner", "entity").first()
        if view is None:
            change = Change(
                "view", definition.name, CREATE, f"{definition.name}@1", prepared.content_hash, publishes=self._publish
            )
            self.steps[definition.name] = ViewStep(definition, prepared, None, change)
            return change
        require_member(self._actor, view.owner)
        if view.entity.name != definition.entity:
            raise InvalidInput({"entity": f"It describes {view.entity} for ever; choose another name."})
        versions = list(view.versions.prefetch_related("sources").order_by("number"))
        before = _in_force(versions)
        change = self._view_change(view, versions, before, definition, prepared)
        self.steps[definition.name] = ViewStep(definition, prepared, before, change)
        return change

    def _prepared(self, definition: ViewDefinition) -> Prepared:
        owner = self._owner(definition.owner)
        if definition.entity not in self._entities:
            raise InvalidInput({"entity": f"There is no entity {definition.entity!r}."})
        missing = [name for name in definition.sources if name not in self._sources]
        if missing:
            raise InvalidInput({"sources": f"There is no data source {', '.join(missing)}."})
        described = {each["name"]: each for each in definition.aggregations}
        return prepare_view(
            name=definition.name,
            entity=self._entities[definition.entity],
            expression=definition.expression,
            sources=[self._sources[name] for name in definition.sources],
            features=definition.features
            or [{"name": name, "description": each.get("description", "")} for name, each in described.items()],
            aggregations=_aggregations(definition),
            language=definition.language,
            event_timestamp=definition.event_timestamp,
            known_at=definition.known_at,
            ttl=definition.ttl,
            cadence=definition.cadence,
            lookback=definition.lookback,
            freshness=definition.freshness,
            consistency_limit=definition.consistency_limit,
            owner=owner,
        )

    def _view_change(
        self,
        view: FeatureView,
        versions: Sequence[FeatureViewVersion],
        before: FeatureViewVersion | None,
        definition: ViewDefinition,
        prepared: Prepared,
    ) -> Change:
        words = {
            "owner": self._groups[definition.owner],
            "description": definition.description or None,
            "freshness": definition.freshness,
            "consistency_limit": definition.consistency_limit,
        }
        spoken = tuple(
            FieldChange(each, said(getattr(view, each)), said(words[each])) for each in changed_words(view, words)
        )
        same = next((each for each in versions if each.content_hash == prepared.content_hash), None)
        if same is None:
            label = f"{view.name}@{max((each.number for each in versions), default=0) + 1}"
            meant = changed_meaning(before, prepared) if before is not None else ()
            return Change(
                "view",
                view.name,
                NEW_VERSION,
                label,
                prepared.content_hash,
                publishes=self._publish,
                fields=(*meant, *spoken),
                diff=sql_diff(before, prepared) if before is not None else "",
                pinned_by=_pinning(before) if before is not None else (),
            )
        if same.state == ViewState.RETIRED:
            raise Conflict(f"This is the meaning of {same}, which is retired; choose another name for the view.")
        publishes = self._publish and same.state == ViewState.DRAFT
        action = PUBLISH if publishes else CHANGE if spoken else UNCHANGED
        return Change(
            "view",
            view.name,
            action,
            str(same),
            same.content_hash,
            publishes=publishes,
            fields=spoken,
            notes=_notes_on(same, before, publish=self._publish),
        )

    # ------------------------------------------------------------------ transforms and services

    def _transform(self, definition: TransformDefinition) -> Change:
        owner = self._owner(definition.owner)
        prepared = prepare_transform(
            name=definition.name, code=definition.code, features=definition.features, owner=owner
        )
        numbers = list(
            OnDemandTransform.objects.filter(name=definition.name).select_related("owner").order_by("-number")
        )
        if numbers:
            require_member(self._actor, numbers[0].owner)
        same = next((each for each in numbers if each.content_hash == prepared.content_hash), None)
        if same is not None:
            notes = (f"{numbers[0]} is newer, and services take the newest.",) if same != numbers[0] else ()
            change = Change("transform", same.name, UNCHANGED, str(same), same.content_hash, notes=notes)
        else:
            label = f"{definition.name}@{numbers[0].number + 1 if numbers else 1}"
            diff = text_diff(numbers[0].code, definition.code, str(numbers[0]), label) if numbers else ""
            action = NEW_VERSION if numbers else CREATE
            change = Change("transform", definition.name, action, label, prepared.content_hash, diff=diff)
        self._on_demand[definition.name] = (prepared, change)
        return change

    def _service(self, definition: ServiceDefinition) -> Change:
        owner = self._owner(definition.owner)
        check_vector(
            features=definition.features,
            request_features=definition.request_features,
            transforms=definition.transforms,
        )
        validate(FeatureService(name=definition.name, owner=owner), also={})
        pins, waiting = self._pins(definition)
        taken = [f"views.{view}" for view, _, _ in map(_partition, definition.features)]
        if any(map(self._is_faulty, [*taken, *(f"transforms.{name}" for name in definition.transforms)])):
            return Change("service", definition.name, WAIT, definition.name)
        numbers = list(FeatureService.objects.filter(name=definition.name).select_related("owner").order_by("-number"))
        if numbers:
            require_member(self._actor, numbers[0].owner)
        if waiting:
            label = str(numbers[0]) if numbers else f"{definition.name}@1"
            note = f"It takes {', '.join(waiting)}, which is not published yet. Publish it, then apply again."
            return Change("service", definition.name, WAIT, label, notes=(note,))
        on_demand = self._pinned_transforms(definition)
        check_columns(
            [reference.replace(".", "__", 1) for reference in definition.features],
            request_features=definition.request_features,
            transforms={name: (each.inputs, each.columns) for name, each in on_demand.items()},
        )
        content_hash = meaning.service_hash(
            [(view, pins[view].content_hash, name) for view, _, name in map(_partition, definition.features)],
            definition.request_features,
            [(name, on_demand[name].content_hash) for name in sorted(on_demand)],
        )
        same = next((each for each in numbers if each.content_hash == content_hash), None)
        if same is not None:
            unless_retired(same)
            notes = (f"{numbers[0]} is newer.",) if same != numbers[0] else ()
            return Change("service", same.name, UNCHANGED, str(same), content_hash, notes=notes)
        label = f"{definition.name}@{numbers[0].number + 1 if numbers else 1}"
        vector = [f"{pins[view].label}.{feature}" for view, _, feature in map(_partition, definition.features)]
        computed = [on_demand[name].label for name in sorted(on_demand)]
        requested = definition.request_features
        fields = changed_vector(numbers[0], vector, requested, computed) if numbers else ()
        action = NEW_VERSION if numbers else CREATE
        return Change("service", definition.name, action, label, content_hash, fields=fields)

    def _pins(self, definition: ServiceDefinition) -> tuple[dict[str, _Pin], list[str]]:
        """What each view of the service is pinned to, and the views it has to wait for."""
        names = {view for view, _, _ in map(_partition, definition.features)}
        stored = FeatureViewVersion.objects.filter(view__name__in=names, state=ViewState.PUBLISHED)
        pins = {
            each.view.name: _Pin(str(each), each.content_hash, each.feature_names)
            for each in stored.select_related("view").order_by("number")  # ascending: the newest stays
        }
        for name in names & set(self.steps):
            change, prepared = self.steps[name].change, self.steps[name].prepared
            if change.publishes and _number(change.label) > _number(pins[name].label if name in pins else "@0"):
                pins[name] = _Pin(change.label, change.content_hash, tuple(prepared.types))
        waiting, faults = set(), []
        for view, _, feature in map(_partition, definition.features):
            present = pins[view].features if view in pins else ()
            if feature in present or self._is_faulty(f"views.{view}"):
                continue
            if view in self.steps and feature in self.steps[view].prepared.types:
                waiting.add(view)
            elif view in pins:
                faults.append(f"{view}.{feature}: {pins[view].label} has {', '.join(present)}.")
            else:
                faults.append(f"{view}.{feature}: no feature view {view!r} is published.")
        if faults:
            raise InvalidInput({"features": faults})
        return pins, sorted(waiting)

    def _is_faulty(self, path: str) -> bool:
        """An object of this apply that was refused: what takes it can not be judged."""
        return any(each == path or each.startswith(f"{path}.") for each in self.faults)

    def _pinned_transforms(self, definition: ServiceDefinition) -> dict[str, _Computed]:
        """The newest of each of the service's transforms, by name."""
        stored = OnDemandTransform.objects.filter(name__in=definition.transforms).order_by("number")
        found = {each.name: _Computed(str(each), each.content_hash, each.inputs, each.columns) for each in stored}
        for name, (prepared, change) in self._on_demand.items():
            if name in definition.transforms and change.is_one:
                columns = [f"{name}__{each['name']}" for each in prepared.features]
                found[name] = _Computed(change.label, change.content_hash, prepared.function.inputs, columns)
        missing = [name for name in definition.transforms if name not in found]
        if missing:
            raise InvalidInput({"transforms": f"There is no transform {', '.join(missing)}."})
        return found


# ---------------------------------------------------------------------- comparing


def _aggregations(definition: ViewDefinition) -> tuple[Aggregation, ...]:
    try:
        return aggregations_of(definition.aggregations)
    except ValueError as problem:
        raise InvalidInput({"aggregations": str(problem)}) from problem


def kept(definition: SourceDefinition, stored: DataSource | None) -> SourceDefinition:
    """The definition with the words, promise and schema that it leaves out as they are stored."""
    if stored is None:
        return definition
    return replace(
        definition,
        description=definition.description or stored.description,
        freshness=stored.freshness if definition.freshness is None else definition.freshness,
        push_schema=stored.push_schema if definition.push_schema is None else definition.push_schema,
    )


def _in_force(versions: Sequence[FeatureViewVersion]) -> FeatureViewVersion | None:
    """The newest published version; before there is one, the newest draft."""
    for states in ((ViewState.PUBLISHED,), (ViewState.DRAFT, ViewState.DEPRECATED)):
        found = [each for each in versions if each.state in states]
        if found:
            return found[-1]
    return None


def _pinning(version: FeatureViewVersion) -> tuple[FeatureService, ...]:
    services = FeatureService.objects.filter(features__view_version=version, retired_at=None).distinct()
    return tuple(services.order_by("name", "number"))


def _notes_on(same: FeatureViewVersion, before: FeatureViewVersion | None, *, publish: bool) -> tuple[str, ...]:
    if same.state == ViewState.DEPRECATED:
        return (f"{same} is deprecated: no new service takes it.",)
    if before is not None and before.number > same.number:
        return (f"{before} is newer, and services take the newest. Deprecate it to return to {same}.",)
    if same.state == ViewState.DRAFT and not publish:
        return (f"{same} is a draft: publish it, and services can take it.",)
    return ()


def _partition(reference: str) -> tuple[str, str, str]:
    return reference.partition(".")


def _number(label: str) -> int:
    return int(label.rpartition("@")[2])
