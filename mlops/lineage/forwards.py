"""From a column, a feature, a source or a dataset forwards to the versions that use it, and whom to ask.

A reader who may not see a model learns that somebody uses it and which group to ask, not which model it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.db.models import QuerySet

from audit.errors import InvalidInput, NotFound
from features.models import (
    Dataset,
    DataSource,
    FeatureService,
    FeatureServiceFeature,
    FeatureViewVersion,
    OnDemandTransform,
)
from mlops.lineage.addresses import PINNED
from mlops.lineage.backwards import found_external
from mlops.lineage.columns import Definition, Reads, Table, reads
from mlops.lineage.upstream import sources_after
from mlops.usage import Use, live_versions
from registry.models import ModelVersion, RegisteredModel
from registry.sight import visible_services

MOST_PATHS = 10
"""Paths that are told of one version; how many more there are is counted."""
RECORDED = "recorded"
"""The role of a version that serves nothing now."""


@dataclass(frozen=True)
class Path:
    """How what was asked about reaches a feature of a service, step by step. ``is_certain`` False: the view's
    expression, or another tool, does not tell columns apart here, so it may be so."""

    steps: tuple[str, ...]
    is_certain: bool


@dataclass(frozen=True)
class Affected:
    """A version that uses it. ``roles`` are champion, serving, shadow, canary, paused or recorded. Of a model that the
    reader may not see there is only a label, the role and the ``owner`` to ask."""

    label: str
    owner: str
    is_visible: bool
    roles: tuple[str, ...]
    model: str = ""
    number: int | None = None
    service: str = ""
    endpoints: tuple[str, ...] = ()
    paths: tuple[Path, ...] = ()
    more_paths: int = 0

    @property
    def is_certain(self) -> bool:
        return not self.paths or any(path.is_certain for path in self.paths)


@dataclass(frozen=True)
class Impact:
    """The answer: ``asked`` in words, the views and features it goes through, and the versions that use it."""

    asked: str
    features: tuple[str, ...]
    affected: tuple[Affected, ...]
    notes: tuple[str, ...] = ()

    @property
    def owners(self) -> tuple[str, ...]:
        """The groups to ask."""
        return tuple(sorted({each.owner for each in self.affected}))

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "owners": list(self.owners)}


_Feature = tuple[int, str]
"""Primary key of a view version, and the feature's name."""


@dataclass
class _Spread:
    """What is touched, feature by feature, before anybody asks who takes it.

    ``computed``: by on-demand transform the paths to its features, each with the stored feature that it takes (None
    where the transform itself was asked about).
    """

    asked: str
    features: dict[_Feature, Path] = field(default_factory=dict)
    computed: dict[int, list[tuple[_Feature | None, Path]]] = field(default_factory=dict)
    datasets: dict[int, Path] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def named(self) -> tuple[str, ...]:
        paths = [*self.features.values(), *(path for each in self.computed.values() for _, path in each)]
        return tuple(dict.fromkeys(path.steps[-1] for path in paths))


def forwards(
    *,
    column: str | None = None,
    source: str | None = None,
    dataset: str | None = None,
    feature: str | None = None,
    reader: AbstractBaseUser,
    every_version: bool = False,
) -> Impact:
    """Who uses a column (``flights.dep_delay``, or ``dep_delay`` beside ``source``), a source, a feature
    (``weather.temp``, ``weather@2.temp``) or a dataset (its digest).

    A source may be another tool's: ``external:dataset:namespace/name``, its column after a ``#``. Live versions
    (champions, what still serves, candidates in a rollout); all with ``every_version``. Raises InvalidInput, NotFound.
    """
    spread = _asked(column=column, source=source, dataset=dataset, feature=feature, reader=reader)
    _compute(spread)
    return Impact(spread.asked, spread.named(), tuple(_affected(spread, reader, every_version)), tuple(spread.notes))


def _asked(
    *, column: str | None, source: str | None, dataset: str | None, feature: str | None, reader: AbstractBaseUser
) -> _Spread:
    given = [name for name, value in (("source", source), ("dataset", dataset), ("feature", feature)) if value]
    if column and not (given and given != ["source"]):
        return _from_column(*_split(column, source))
    if column or len(given) != 1:
        names = "column (with or without source), source, dataset, feature"
        raise InvalidInput({"column": f"Ask about exactly one of: {names}."})
    if source:
        return _from_column(source, None)
    return _from_feature(feature) if feature else _from_dataset(str(dataset), reader)


def _split(column: str, source: str | None) -> tuple[str, str]:
    if source:
        return source, column
    external = column.startswith("external:")
    name, _, asked = column.rpartition("#") if external else column.partition(".")
    if not name or not asked:
        example = "external:dataset:warehouse/raw.flights#dep_delay" if external else "flights.dep_delay"
        raise InvalidInput({"column": f"A column is named with its source, such as {example}."})
    return name, asked


# ---------------------------------------------------------------------- from what was asked to features


def _from_column(source: str, column: str | None) -> _Spread:
    """``column`` None: the whole source."""
    if source.startswith("external:"):
        return _from_external(source, column)
    found = DataSource.objects.filter(name=source).first()
    if found is None:
        raise NotFound(f"There is no source {source}.")
    said = f"{source}.{column}" if column else source
    spread = _Spread(said)
    _read_source(spread, found.name, column, ())
    return spread


def _from_external(key: str, column: str | None) -> _Spread:
    start = found_external(key)
    said = f"{start.name}.{column}" if column else start.name
    spread = _Spread(said)
    reached = sources_after(start, column)
    for each in reached:
        is_told = column is None or each.column is not None
        _read_source(spread, each.source, each.column, each.steps[:-1], is_certain=is_told)
    if not reached:
        spread.notes.append("No tool has told that it flows into one of our sources.")
    elif column is not None and any(each.column is None for each in reached):
        spread.notes.append("Not every tool on the way told columns: behind it the whole source counts.")
    return spread


def _read_source(
    spread: _Spread, source: str, column: str | None, before: tuple[str, ...], *, is_certain: bool = True
) -> None:
    """All features that read the source, or this column of it."""
    start = (*before, f"{source}.{column}" if column else source)
    readers = FeatureViewVersion.objects.filter(sources__name=source).distinct()
    whole = []
    for version, by_feature in _reads(readers):
        for name, read in by_feature.items():
            if column is not None and not read.uses(source, column):
                continue
            path = Path((*start, str(version), f"{version.view.name}.{name}"), is_certain and not read.is_whole)
            spread.features.setdefault((version.pk, name), path)
            if read.is_whole:
                whole.append(str(version))
    if column is not None and whole:
        told = ", ".join(dict.fromkeys(whole))
        spread.notes.append(f"Of {told} the columns can not be told per feature: all that is read counts for each.")


def _reads(versions: QuerySet[FeatureViewVersion]) -> Iterable[tuple[FeatureViewVersion, Mapping[str, Reads]]]:
    related = versions.select_related("view__entity").prefetch_related("sources")
    for version in related.order_by("view__name", "-number"):
        yield version, reads_of(version)


def reads_of(version: FeatureViewVersion) -> Mapping[str, Reads]:
    """The columns that each feature of a version reads; its sources and view are read before."""
    tables = tuple(_table(source) for source in version.sources.all())
    keys = (*version.view.entity.join_keys, version.event_timestamp, version.known_at)
    windows = tuple((each["name"], each.get("column") or "") for each in version.aggregations)
    return reads(version.content_hash, Definition(version.expression, tables, version.feature_names, keys, windows))


def _table(source: DataSource) -> Table:
    times = tuple(time for time in (source.event_timestamp, source.created_timestamp) if time)
    known = frozenset(name.lower() for name in source.push_schema) if source.push_schema else None
    return Table(source.name, known, times)


def _from_feature(feature: str) -> _Spread:
    """``view.feature``, ``view@2.feature``, ``view__feature``; of on-demand transforms alike."""
    group, _, name = feature.partition(".") if "." in feature else feature.partition("__")
    numbered = PINNED.fullmatch(group)
    base, number = (numbered["name"], int(numbered["number"])) if numbered else (group, None)
    spread = _Spread(feature)
    views = FeatureViewVersion.objects.filter(view__name=base).select_related("view").defer("expression", "review")
    transforms = OnDemandTransform.objects.filter(name=base).defer("code")
    for version in views.filter(number=number) if number else views:
        if name in version.feature_names:
            spread.features[version.pk, name] = Path((str(version), f"{base}.{name}"), is_certain=True)
    for transform in transforms.filter(number=number) if number else transforms:
        if any(each["name"] == name for each in transform.features):
            path = Path((str(transform), f"{base}.{name}"), is_certain=True)
            spread.computed.setdefault(transform.pk, []).append((None, path))
    if not spread.features and not spread.computed:
        raise NotFound(f"There is no feature {feature}; a feature is named like weather.temp or weather@2.temp.")
    return spread


def _from_dataset(digest: str, reader: AbstractBaseUser) -> _Spread:
    """By digest, or its beginning of at least eight characters."""
    if len(digest) < 8 or set(digest) - set("0123456789abcdefghijklmnopqrstuvwxyz-"):
        raise InvalidInput({"dataset": "The SHA-256 of a dataset is needed, or its first eight characters or more."})
    mine = Dataset.objects.filter(service__in=visible_services(reader))  # type: ignore[arg-type]  # a User
    rows = list(mine.filter(digest__startswith=digest).select_related("service").order_by("pk")[:2])
    if not rows:
        raise NotFound(f"There is no dataset {digest}, or it is not yours to see.")
    if len(rows) > 1:
        raise InvalidInput({"dataset": f"Several datasets begin with {digest}: write more of it."})
    spread = _Spread(str(rows[0]))
    spread.datasets[rows[0].pk] = Path((f"dataset {rows[0].digest[:12]}",), is_certain=True)
    return spread


def _compute(spread: _Spread) -> None:
    """On-demand features that take a touched feature; a transform's features are not told apart."""
    if not spread.features:
        return
    columns: dict[str, list[_Feature]] = {}
    for key, path in spread.features.items():
        columns.setdefault(path.steps[-1].replace(".", "__", 1), []).append(key)
    for transform in OnDemandTransform.objects.defer("code").order_by("name", "-number"):
        taken = [key for name in transform.inputs for key in columns.get(name, ())]
        for key in taken:
            before = spread.features[key]
            for each in transform.features:
                steps = (*before.steps, str(transform), f"{transform.name}.{each['name']}")
                spread.computed.setdefault(transform.pk, []).append((key, Path(steps, before.is_certain)))


# ---------------------------------------------------------------------- from features to versions


def _affected(spread: _Spread, reader: AbstractBaseUser, every_version: bool) -> list[Affected]:
    uses: dict[int, list[Use]] = {}
    for use in live_versions(reader):
        uses.setdefault(use.version.pk, []).append(use)
    live = [mine[0].version for mine in uses.values()]
    if spread.datasets:
        taken, paths = _trained_on(spread, live, every_version), {}
    else:
        services = None if every_version else {version.service_id for version in live}
        paths = _paths(spread, services)
        taken = _taking(paths, live, every_version)
    visible = (
        _visible(reader)
        if every_version
        else {use.version.registered_model_id for each in uses.values() for use in each if use.is_visible}
    )
    names = _service_names(taken)
    found = [_told(version, uses.get(version.pk, ()), visible, paths, names, spread) for version in taken]
    return _strangers_once(sorted(found, key=_live_first))


def _visible(reader: AbstractBaseUser) -> set[int]:
    return set(RegisteredModel.objects.visible_to(reader).values_list("pk", flat=True))


def _trained_on(spread: _Spread, live: Sequence[ModelVersion], every_version: bool) -> list[ModelVersion]:
    if not every_version:
        return [version for version in live if version.dataset_id in spread.datasets]
    return list(_lean(ModelVersion.objects.filter(dataset__in=spread.datasets)))


def _taking(paths: Mapping[int, Any], live: Sequence[ModelVersion], every_version: bool) -> list[ModelVersion]:
    if not every_version:
        return [version for version in live if version.service_id in paths]
    return list(_lean(ModelVersion.objects.filter(service__in=paths)))


def _lean(versions: QuerySet[ModelVersion]) -> QuerySet[ModelVersion]:
    """Without the wide columns: there may be hundreds."""
    wanted = (
        "number", "service", "dataset", "registered_model__name", "registered_model__data_science__name",
    )  # fmt: skip
    return versions.select_related("registered_model__data_science").only(*wanted)


def _paths(spread: _Spread, services: set[int | None] | None) -> dict[int, list[Path]]:
    """Paths by service that pins a touched feature or computes one."""
    pins = FeatureServiceFeature.objects.filter(view_version__in={pk for pk, _ in spread.features})
    names = {name for _, name in spread.features}
    if len(names) <= MOST_PATHS:
        pins = pins.filter(feature__in=names)
    if services is not None:
        pins = pins.filter(service__in=services)
    found: dict[int, list[Path]] = {}
    pinned: dict[int, set[_Feature]] = {}
    for service, version, feature in pins.order_by("pk").values_list("service", "view_version", "feature"):
        path = spread.features.get((version, feature))
        if path is not None:
            found.setdefault(service, []).append(path)
            pinned.setdefault(service, set()).add((version, feature))
    for service, path in _computing(spread, services, pinned):
        found.setdefault(service, []).append(path)
    return found


def _computing(
    spread: _Spread, services: set[int | None] | None, pinned: Mapping[int, set[_Feature]]
) -> Iterable[tuple[int, Path]]:
    """A transform brings its features to a service that has it and pins what it takes: in another service the column
    of that name may come from another version of the view."""
    rows = FeatureService.transforms.through.objects.filter(ondemandtransform__in=spread.computed)
    if services is not None:
        rows = rows.filter(featureservice__in=services)
    for service, transform in rows.values_list("featureservice", "ondemandtransform"):
        for taken, path in spread.computed[transform]:
            if taken is None or taken in pinned.get(service, ()):
                yield service, path


def _service_names(versions: Iterable[ModelVersion]) -> dict[int, str]:
    wanted = {version.service_id for version in versions if version.service_id is not None}
    rows = FeatureService.objects.filter(pk__in=wanted).values_list("pk", "name", "number")
    return {pk: f"{name}@{number}" for pk, name, number in rows}


def _told(
    version: ModelVersion,
    uses: Sequence[Use],
    visible: set[int],
    paths: Mapping[int, Sequence[Path]],
    services: Mapping[int, str],
    spread: _Spread,
) -> Affected:
    owner = str(version.registered_model.data_science)
    roles = tuple(dict.fromkeys(str(use.role) for use in uses)) or (RECORDED,)
    if version.registered_model_id not in visible:
        return Affected(f"a model of {owner}", owner, False, roles)
    if spread.datasets:
        before: Sequence[Path] = [spread.datasets[version.dataset_id or 0]]
    else:
        before = paths[version.service_id or 0]
    service = services.get(version.service_id or 0, "")
    endpoints = tuple(dict.fromkeys(endpoint.name for use in uses for endpoint in use.endpoints))
    onward = (*([service] if service and not spread.datasets else []), str(version), *endpoints)
    told = tuple(Path((*path.steps, *onward), path.is_certain) for path in before[:MOST_PATHS])
    return Affected(
        label=str(version),
        owner=owner,
        is_visible=True,
        roles=roles,
        model=version.registered_model.name,
        number=version.number,
        service=service,
        endpoints=endpoints,
        paths=told,
        more_paths=max(len(before) - MOST_PATHS, 0),
    )


def _live_first(each: Affected) -> tuple[bool, bool, str, int]:
    return each.roles == (RECORDED,), not each.is_visible, each.model or each.owner, -(each.number or 0)


def _strangers_once(affected: Iterable[Affected]) -> list[Affected]:
    """Of models that the reader may not see one line a group: how many there are is not theirs to count."""
    found: dict[object, Affected] = {}
    for place, each in enumerate(affected):
        key: object = place if each.is_visible else each.owner
        found.setdefault(key, each)
    return list(found.values())
