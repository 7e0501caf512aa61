"""Give feature views their meaning, version by version, and move a version through its life."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from django.contrib.auth.models import Group
from django.db import models, transaction

from audit.errors import Conflict, InvalidInput, TransitionError
from audit.trail import Actor, record
from engines.expressions import ExpressionError, check_expression
from engines.offline import OfflineError, SourceError, ViewSpec
from features import meaning, offline
from features.actions.rules import require_member, validate
from features.description import described_features, description_errors
from features.models import DataSource, Entity, FeatureService, FeatureView, FeatureViewVersion, ViewState

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


def apply_view(
    *,
    name: str,
    entity: Entity,
    expression: str,
    sources: Sequence[DataSource],
    features: Sequence[str | Mapping[str, str]],
    event_timestamp: str = "event_timestamp",
    known_at: str = "known_at",
    ttl: timedelta | None = None,
    cadence: timedelta | None = None,
    lookback: timedelta | None = None,
    owner: Group,
    description: str = "",
    actor: Actor,
    now: datetime,
) -> FeatureViewVersion:
    """The view's version with this meaning: the one that exists, else a new draft.

    ``features`` are names or mappings with ``name`` and optionally ``description`` and ``dtype``. The expression is
    computed once over no rows, so a definition that can not be computed is refused here, by the field at fault.
    """
    require_member(actor, owner)
    described = described_features(features)
    spec = ViewSpec(
        name=name,
        version=0,
        join_keys=tuple(entity.join_keys),
        features=tuple(each["name"] for each in described),
        expression=expression,
        event_timestamp=event_timestamp,
        known_at=known_at,
        ttl=ttl,
        cadence=cadence,
        sources=tuple(offline.source_table(source) for source in sources),
        lookback=lookback,
    )
    validate(FeatureView(name=name, entity=entity, owner=owner), also=description_errors(spec))
    types = _types_of(spec)
    _refuse_other_types(described, types)
    placed = {source.name: source.uri for source in sources}
    content_hash = meaning.view_hash(spec, types, placed)
    with transaction.atomic():
        view = _view_for(name, entity=entity, owner=owner, description=description, actor=actor)
        existing = view.versions.filter(content_hash=content_hash).first()
        if existing is not None:
            return existing
        newest = view.versions.aggregate(newest=models.Max("number"))["newest"] or 0
        version = FeatureViewVersion.objects.create(
            view=view,
            number=newest + 1,
            expression=expression,
            features=[{**each, "dtype": dtype} for each, dtype in zip(described, types, strict=True)],
            event_timestamp=event_timestamp,
            known_at=known_at,
            ttl=ttl,
            cadence=cadence,
            lookback=lookback,
            content_hash=content_hash,
            created_at=now,
            state=ViewState.DRAFT,
            state_since=now,
        )
        version.sources.set(sources)
        record("feature_view_version.drafted", version, actor=actor, data={"content_hash": content_hash})
    return version


def publish(version: FeatureViewVersion, *, actor: Actor, reason: str, now: datetime) -> FeatureViewVersion:
    """Let services pin this version and the online store hold it. Versions published before stay so."""
    return _moved(version, ViewState.PUBLISHED, actor=actor, reason=reason)


def deprecate(version: FeatureViewVersion, *, actor: Actor, reason: str, now: datetime) -> FeatureViewVersion:
    """No new service pins this version any more; those that do are served as before."""
    return _moved(version, ViewState.DEPRECATED, actor=actor, reason=reason)


def retire(version: FeatureViewVersion, *, actor: Actor, reason: str, now: datetime) -> FeatureViewVersion:
    """End a version that no service pins."""
    require_member(actor, version.view.owner)
    with transaction.atomic():
        FeatureViewVersion.objects.select_for_update().get(pk=version.pk)
        pinning = FeatureService.objects.filter(features__view_version=version).distinct()[:5]
        if pinning:
            raise TransitionError(f"{version} is pinned by {', '.join(map(str, pinning))} and can not be retired.")
        return _moved(version, ViewState.RETIRED, actor=actor, reason=reason)


def _types_of(spec: ViewSpec) -> list[str]:
    """The type names of the view's features, found by computing it over no rows."""
    try:
        columns = check_expression(spec.expression, [source.name for source in spec.sources])
    except ExpressionError as error:
        raise InvalidInput({"expression": str(error)}) from error
    yields = f"The expression yields {', '.join(columns)}."
    lacking = {
        "features": [name for name in spec.features if name not in columns],
        "event_timestamp": [name for name in (spec.event_timestamp,) if name not in columns],
        "known_at": [name for name in (spec.known_at,) if name not in columns],
        "expression": [name for name in spec.join_keys if name not in columns],
    }
    errors = {field: f"No output column {', '.join(names)}. {yields}" for field, names in lacking.items() if names}
    if errors:
        raise InvalidInput(errors)
    try:
        empty = offline.engine().values(spec, as_of=_LONG_AGO)
    except SourceError as error:
        raise InvalidInput({"sources": str(error)}) from error
    except OfflineError as error:
        raise InvalidInput({"expression": str(error)}) from error
    return [meaning.type_name(empty.schema.field(name).type) for name in spec.features]


def _refuse_other_types(described: Iterable[Mapping[str, str]], types: Sequence[str]) -> None:
    wrong = [
        f"{each['name']} is {dtype}, not {each['dtype']}."
        for each, dtype in zip(described, types, strict=True)
        if each.get("dtype") not in (None, dtype)
    ]
    if wrong:
        raise InvalidInput({"features": wrong})


def _view_for(name: str, *, entity: Entity, owner: Group, description: str, actor: Actor) -> FeatureView:
    """The view, made if need be, locked so that its versions get their numbers one at a time."""
    FeatureView.objects.get_or_create(
        name=name, defaults={"entity": entity, "owner": owner, "description": description}
    )
    view = FeatureView.objects.select_for_update().get(name=name)
    require_member(actor, view.owner)
    if view.entity_id != entity.pk:
        raise Conflict(f"Feature view {name} describes {view.entity}, not {entity}; choose another name.")
    wanted = {"owner": owner, "description": description or view.description}
    changed = [field for field, value in wanted.items() if getattr(view, field) != value]
    if changed:
        for field in changed:
            setattr(view, field, wanted[field])
        view.save(update_fields=changed)
        record("feature_view.changed", view, actor=actor, data={"changed": changed})
    return view


def _moved(version: FeatureViewVersion, to: str, *, actor: Actor, reason: str) -> FeatureViewVersion:
    require_member(actor, version.view.owner)
    if not reason.strip():
        raise InvalidInput({"reason": "Say why; whoever uses the view will read it."})
    version.move(to, actor=actor, reason=reason)
    return version
