"""The feature catalogue: every feature and view with what somebody needs who asks whether to reuse it.

Read in a fixed number of queries however many there are; searched, filtered and sorted in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db.models import OuterRef, Prefetch, QuerySet, Subquery

from features import reviewed
from features.look_alikes import LookAlike
from features.models import (
    ConsistencyCheck,
    FeatureServiceFeature,
    FeatureStatistics,
    FeatureView,
    FeatureViewVersion,
    Materialization,
    ViewState,
)
from mlops.usage import Use, Uses, distinct_models

PREFERRED = (ViewState.PUBLISHED, ViewState.DEPRECATED, ViewState.DRAFT, ViewState.RETIRED)
"""Which version of a view the catalogue shows: the newest in the first of these states that there is."""

FRESH, STALE, UNPROMISED, EMPTY = "fresh", "stale", "no promise", "no data"


@dataclass(frozen=True)
class Freshness:
    """A promise against what is: the age of the newest value. None where there is no promise, or no value.

    ``waiting`` is how long there has been no value although there should be.
    """

    promise: timedelta | None
    age: timedelta | None
    waiting: timedelta | None = None

    @property
    def state(self) -> str:
        if self.age is None:
            is_late = self.promise is not None and self.waiting is not None and self.waiting > self.promise
            return STALE if is_late else EMPTY
        if self.promise is None:
            return UNPROMISED
        return STALE if self.age > self.promise else FRESH

    @property
    def tone(self) -> str:
        return {FRESH: "good", STALE: "bad", EMPTY: "warn", UNPROMISED: ""}[self.state]


@dataclass(frozen=True)
class ViewLine:
    """A view by the version that the catalogue shows. ``last_run`` is the instant its values were brought up to."""

    view: FeatureView
    version: FeatureViewVersion
    freshness: Freshness
    last_run: datetime | None
    lag: timedelta | None
    statistics: FeatureStatistics | None
    check: ConsistencyCheck | None
    uses: tuple[Use, ...]
    services: int

    @property
    def coverage(self) -> float | None:
        """Share of the entities in the store whose value is alive."""
        return coverage(self.statistics)

    @property
    def models(self) -> int:
        return distinct_models(self.uses)

    @property
    def look_alikes(self) -> int:
        return len(look_alikes(self.version))


@dataclass(frozen=True)
class FeatureLine:
    """One feature of a view. ``uses`` are those of the feature itself, in whatever version of the view."""

    line: ViewLine
    name: str
    dtype: str
    description: str
    uses: tuple[Use, ...] = field(repr=False)
    services: int
    look_alikes: int

    @property
    def view(self) -> FeatureView:
        return self.line.view

    @property
    def nulls(self) -> float | None:
        """Share of nulls among the values that are alive."""
        return nulls(self.line.statistics, self.name)

    @property
    def models(self) -> int:
        return distinct_models(self.uses)


@dataclass(frozen=True)
class Wish:
    """What somebody wants to see of the catalogue. ``sort`` is a key of ``SORTS``, after '-' the other way round."""

    words: str = ""
    owner: str = ""
    entity: str = ""
    state: str = ""
    only: str = ""
    sort: str = ""


def coverage(statistics: FeatureStatistics | None) -> float | None:
    """Share of the entities in the store whose value is alive; None where nothing is known or stored."""
    return statistics.alive / statistics.entities if statistics is not None and statistics.entities else None


def nulls(statistics: FeatureStatistics | None, feature: str) -> float | None:
    """Share of nulls of a feature among the values that are alive; None where nothing is known."""
    described: Mapping[str, Any] = statistics.features.get(feature, {}) if statistics is not None else {}
    share = described.get("nulls")
    return None if share is None else float(share)


def look_alikes(version: FeatureViewVersion, feature: str | None = None) -> list[LookAlike]:
    """What the plan found to be like the version's features (or one of them) when it was applied."""
    return [each for each in reviewed.look_alikes(version.review) if feature in (None, each.feature)]


def last_statistics(versions: Iterable[FeatureViewVersion]) -> dict[int, FeatureStatistics]:
    """The newest statistics of each version, by its key."""
    newest = FeatureStatistics.objects.filter(view_version=OuterRef("view_version")).order_by("-at").values("at")[:1]
    rows = FeatureStatistics.objects.filter(view_version__in=[each.pk for each in versions], at=Subquery(newest))
    return {each.view_version_id: each for each in rows}


def freshness_of(
    view: FeatureView, version: FeatureViewVersion, newest: datetime | None, *, now: datetime
) -> Freshness:
    """The view's promise against its ``newest`` value, as ``features.freshness.stale_views`` judges it."""
    since = version.state_since or version.created_at
    waiting = now - since if newest is None and version.is_served else None
    return Freshness(view.freshness, None if newest is None else now - newest, waiting)


def view_lines(uses: Uses, *, now: datetime, views: QuerySet[FeatureView] | None = None) -> list[ViewLine]:
    """Every view (or these) by its preferred version, by name. A view without any version is left out."""
    rows = FeatureView.objects.all() if views is None else views
    versions = Prefetch("versions", _with_last_run(FeatureViewVersion.objects.defer("expression")))
    shown = [
        (view, version)
        for view in rows.select_related("entity", "owner").prefetch_related(versions).order_by("name")
        if (version := preferred(view.versions.all())) is not None
    ]
    chosen = [version for _, version in shown]
    statistics, checks = last_statistics(chosen), _last_checks(chosen)
    pinned = _pins([view for view, _ in shown])
    return [
        _view_line(
            view, version, statistics.get(version.pk), checks.get(version.pk), pinned.get(view.pk, {}), uses, now
        )
        for view, version in shown
    ]


def feature_lines(uses: Uses, *, now: datetime) -> list[FeatureLine]:
    """Every feature of the preferred version of every view, by name."""
    lines = view_lines(uses, now=now)
    pinned = _pins([line.view for line in lines])
    return [
        _feature_line(line, each, pinned.get(line.view.pk, {}).get(each["name"], set()), uses)
        for line in lines
        for each in line.version.features
    ]


def preferred(versions: Iterable[FeatureViewVersion]) -> FeatureViewVersion | None:
    """The version that stands for a view."""
    newest_first = sorted(versions, key=lambda version: -version.number)
    return next((each for state in PREFERRED for each in newest_first if each.state == state), None)


def _with_last_run(versions: QuerySet[FeatureViewVersion]) -> QuerySet[Any]:
    runs = Materialization.objects.filter(view_version=OuterRef("pk")).order_by("-up_to")
    return versions.annotate(last_run=Subquery(runs.values("up_to")[:1]), newest=Subquery(runs.values("newest")[:1]))


def _last_checks(versions: Sequence[FeatureViewVersion]) -> dict[int, ConsistencyCheck]:
    newest = ConsistencyCheck.objects.filter(view_version=OuterRef("view_version")).order_by("-at").values("at")[:1]
    rows = ConsistencyCheck.objects.filter(view_version__in=[each.pk for each in versions], at=Subquery(newest))
    related = rows.select_related("view_version__view").defer("examples", "view_version__expression")
    return {each.view_version_id: each for each in related.order_by("pk")}


def _pins(views: Sequence[FeatureView]) -> dict[int, dict[str, set[int]]]:
    """View to feature to the services (not retired) that take it in whatever version."""
    rows = FeatureServiceFeature.objects.filter(view_version__view__in=[view.pk for view in views])
    found: dict[int, dict[str, set[int]]] = {}
    fields = ("view_version__view", "feature", "service")
    for view, feature, service in rows.filter(service__retired_at=None).values_list(*fields):
        found.setdefault(view, {}).setdefault(feature, set()).add(service)
    return found


def _view_line(
    view: FeatureView,
    version: FeatureViewVersion,
    statistics: FeatureStatistics | None,
    check: ConsistencyCheck | None,
    pinned: Mapping[str, set[int]],
    uses: Uses,
    now: datetime,
) -> ViewLine:
    newest: datetime | None = version.newest  # type: ignore[attr-defined]  # annotated by _with_last_run
    last_run: datetime | None = version.last_run  # type: ignore[attr-defined]  # annotated by _with_last_run
    services = set().union(*pinned.values()) if pinned else set()
    return ViewLine(
        view=view,
        version=version,
        freshness=freshness_of(view, version, newest, now=now),
        last_run=last_run,
        lag=None if last_run is None else now - last_run,
        statistics=statistics,
        check=check,
        uses=_of(services, uses),
        services=len(services),
    )


def _feature_line(line: ViewLine, described: Mapping[str, str], services: set[int], uses: Uses) -> FeatureLine:
    name = described["name"]
    return FeatureLine(
        line=line,
        name=name,
        dtype=described.get("dtype", ""),
        description=described.get("description", ""),
        uses=_of(services, uses),
        services=len(services),
        look_alikes=len(look_alikes(line.version, name)),
    )


def _of(services: Iterable[int], uses: Uses) -> tuple[Use, ...]:
    return tuple(use for service in sorted(services) for use in uses.get(service, ()))


# ---------------------------------------------------------------------- search, filter, sort

ONLY: Mapping[str, tuple[str, Callable[[ViewLine, int, int], bool]]] = {
    "stale": ("stale", lambda line, models, alike: line.freshness.state == STALE),
    "unpromised": ("without a promise", lambda line, models, alike: line.view.freshness is None),
    "unused": ("used by no live model", lambda line, models, alike: models == 0),
    "used": ("used by a live model", lambda line, models, alike: models > 0),
    "alike": ("with a look-alike", lambda line, models, alike: alike > 0),
    "differing": ("served otherwise than trained", lambda line, models, alike: _differs(line.check)),
}
"""The filters beside owner, entity and state: what they are called, and the rule over line, models and look-alikes."""


def _differs(check: ConsistencyCheck | None) -> bool:
    return check is not None and check.differing > 0


def wanted_features(lines: Iterable[FeatureLine], wish: Wish) -> list[FeatureLine]:
    """Those that match, in the wished order."""
    kept = [each for each in lines if _matches(each.line, _text_of(each), each.models, each.look_alikes, wish)]
    return _sorted(kept, wish.sort, FEATURE_SORTS, lambda each: (each.view.name, each.name))


def wanted_views(lines: Iterable[ViewLine], wish: Wish) -> list[ViewLine]:
    """Those that match, in the wished order."""
    kept = [
        each
        for each in lines
        if _matches(
            each, " ".join([_text_of_view(each), *each.version.feature_names]), each.models, each.look_alikes, wish
        )
    ]
    return _sorted(kept, wish.sort, VIEW_SORTS, lambda each: each.view.name)


def _matches(line: ViewLine, text: str, models: int, alike: int, wish: Wish) -> bool:
    return (
        all(word in text.lower() for word in wish.words.lower().split())
        and wish.owner in ("", line.view.owner.name)
        and wish.entity in ("", line.view.entity.name)
        and wish.state in ("", line.version.state)
        and (wish.only not in ONLY or ONLY[wish.only][1](line, models, alike))
    )


def _text_of_view(line: ViewLine) -> str:
    view = line.view
    return f"{view.name} {view.description} {view.entity.name} {view.owner.name}"


def _text_of(each: FeatureLine) -> str:
    return f"{each.view.name}.{each.name} {each.view.name}__{each.name} {each.description} {_text_of_view(each.line)}"


VIEW_SORTS: Mapping[str, Callable[[ViewLine], Any]] = {
    "name": lambda each: each.view.name,
    "owner": lambda each: each.view.owner.name,
    "entity": lambda each: each.view.entity.name,
    "state": lambda each: PREFERRED.index(ViewState(each.version.state)),
    "age": lambda each: each.freshness.age,
    "coverage": lambda each: each.coverage,
    "lag": lambda each: each.lag,
    "models": lambda each: each.models,
    "features": lambda each: len(each.version.features),
    "alike": lambda each: each.look_alikes,
}
FEATURE_SORTS: Mapping[str, Callable[[FeatureLine], Any]] = {
    "name": lambda each: (each.view.name, each.name),
    "dtype": lambda each: each.dtype,
    "nulls": lambda each: each.nulls,
    "models": lambda each: each.models,
    "alike": lambda each: each.look_alikes,
    **{
        name: lambda each, key=VIEW_SORTS[name]: key(each.line)  # type: ignore[misc]  # the default binds the key early
        for name in ("owner", "entity", "state", "age", "coverage", "lag")
    },
}


def _sorted(
    lines: list[Any], sort: str, sorts: Mapping[str, Callable[[Any], Any]], name: Callable[[Any], Any]
) -> list[Any]:
    """By ``sort``, among equals by name; what has no value stands last either way."""
    key = sorts.get(sort.removeprefix("-"))
    by_name = sorted(lines, key=name)
    if key is None:
        return by_name
    known = [each for each in by_name if key(each) is not None]
    unknown = [each for each in by_name if key(each) is None]
    return sorted(known, key=key, reverse=sort.startswith("-")) + unknown
