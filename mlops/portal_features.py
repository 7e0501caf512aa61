"""The feature catalogue's pages: can I reuse this, is it fresh, who owns it, what hangs on it?

Open to everybody who is signed in: features belong to all. Models of other teams are counted, not named
(``mlops.usage``). Nothing is edited here; owners do that in the admin.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import Group, User
from django.core.paginator import Paginator
from django.db.models import Prefetch, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import path

from audit import clock
from audit.models import Event
from audit.pages import admin_url
from engines.offline import OfflineError
from features import offline, reading
from features.models import (
    ConsistencyCheck,
    DataSource,
    Entity,
    FeatureService,
    FeatureServiceFeature,
    FeatureStatistics,
    FeatureView,
    FeatureViewVersion,
    OnDemandTransform,
    ViewState,
)
from features.reviewed import review_of, said_of
from mlops import catalogue, feature_charts
from mlops.catalogue import Freshness, Wish
from mlops.feature_lineage import lineage
from mlops.usage import Use, Uses, distinct_models, movers, uses_now

PER_PAGE = 100
RUNS, CHECKS, DAYS, EVENTS, PUSHES = 12, 60, 90, 15, 8

FEATURE_COLUMNS = (
    ("name", "Feature"), ("dtype", "Type"), ("entity", "Entity"), ("owner", "Owner"), ("age", "Freshness"),
    ("nulls", "Null"), ("coverage", "Coverage"), ("lag", "Lag"), ("models", "Live models"), ("alike", "Look-alikes"),
)  # fmt: skip
VIEW_COLUMNS = (
    ("name", "View"), ("entity", "Entity"), ("owner", "Owner"), ("state", "State"), ("features", "Features"),
    ("age", "Freshness"), ("coverage", "Coverage"), ("lag", "Lag"), ("models", "Live models"), ("alike", "Look-alikes"),
)  # fmt: skip
NUMERIC = {"nulls", "coverage", "lag", "models", "alike", "features"}


@dataclass(frozen=True)
class Heading:
    """A column's title, and where a click on it leads: the same list sorted by it."""

    label: str
    url: str
    direction: str
    is_numeric: bool


def _user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # login_required stands before every view
    return request.user


# ---------------------------------------------------------------------- lists


@login_required
def features_page(request: HttpRequest) -> HttpResponse:
    """Can I reuse this, is it fresh, who owns it? One line a feature."""
    wish, uses, now = _wish(request), uses_now(_user(request)), clock.now()
    every = catalogue.feature_lines(uses, now=now)
    found = catalogue.wanted_features(every, wish)
    page = Paginator(found, PER_PAGE).get_page(request.GET.get("page"))
    context = _list_context(request, "features", wish, page, FEATURE_COLUMNS)
    return render(request, "portal/features.html", {**context, "total": len(every), "found": len(found), "now": now})


@login_required
def feature_views_page(request: HttpRequest) -> HttpResponse:
    """The same, one line a view, and who has to move off what is deprecated."""
    wish, uses, now = _wish(request), uses_now(_user(request)), clock.now()
    every = catalogue.view_lines(uses, now=now)
    found = catalogue.wanted_views(every, wish)
    page = Paginator(found, PER_PAGE).get_page(request.GET.get("page"))
    context = _list_context(request, "views", wish, page, VIEW_COLUMNS)
    context |= {"total": len(every), "found": len(found), "movers": movers(uses), "now": now}
    return render(request, "portal/feature_views.html", context)


@login_required
def feature_services_page(request: HttpRequest) -> HttpResponse:
    """Which vectors there are, and who takes them."""
    uses = uses_now(_user(request))
    related = FeatureServiceFeature.objects.select_related("view_version")
    parts = (Prefetch("features", related), "transforms")
    services = FeatureService.objects.select_related("owner").prefetch_related(*parts)
    page = Paginator(services.order_by("name", "-number"), PER_PAGE).get_page(request.GET.get("page"))
    lines = [
        {
            "service": service,
            "uses": uses.get(service.pk, []),
            "size": len(service.features.all()) + len(service.request_features) + len(service.computed),
            "deprecated": any(pin.view_version.state == ViewState.DEPRECATED for pin in service.features.all()),
        }
        for service in page
    ]
    context = {"title": "Feature services", "tab": "services", "page": page, "lines": lines, "now": clock.now()}
    return render(request, "portal/feature_services.html", context)


@login_required
def data_sources_page(request: HttpRequest) -> HttpResponse:
    """Where values come from, and which promises there are."""
    readers = FeatureViewVersion.objects.exclude(state=ViewState.RETIRED).select_related("view").defer("expression")
    sources = DataSource.objects.select_related("owner").prefetch_related(Prefetch("view_versions", readers))
    page = Paginator(sources.order_by("name"), PER_PAGE).get_page(request.GET.get("page"))
    lines = [
        {"source": source, "views": sorted({version.view.name for version in source.view_versions.all()})}
        for source in page
    ]
    context = {"title": "Data sources", "tab": "sources", "page": page, "lines": lines, "now": clock.now()}
    return render(request, "portal/data_sources.html", context)


def _wish(request: HttpRequest) -> Wish:
    asked = {name: request.GET.get(name, "").strip() for name in ("owner", "entity", "state", "only", "sort")}
    return Wish(words=request.GET.get("q", "").strip(), **asked)


def _list_context(
    request: HttpRequest, tab: str, wish: Wish, page: Any, columns: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    kept = {key: str(value) for key, value in request.GET.items() if key != "page" and value}
    return {
        "title": "Feature catalogue",
        "tab": tab,
        "wish": wish,
        "page": page,
        "headings": [_heading(key, label, wish, kept) for key, label in columns],
        "owners": Group.objects.filter(pk__in=FeatureView.objects.values("owner")).order_by("name"),
        "entities": Entity.objects.order_by("name"),
        "states": list(ViewState),
        "filters": [(key, label) for key, (label, _) in catalogue.ONLY.items()],
        "query": urlencode(kept),
        "is_filtered": any((wish.words, wish.owner, wish.entity, wish.state, wish.only)),
    }


def _heading(key: str, label: str, wish: Wish, kept: Mapping[str, str]) -> Heading:
    ascending = wish.sort == key or (key == "name" and not wish.sort)
    direction = "ascending" if ascending else "descending" if wish.sort == f"-{key}" else ""
    target = urlencode({**kept, "sort": f"-{key}" if ascending else key})
    return Heading(label, f"?{target}", direction, key in NUMERIC)


# ---------------------------------------------------------------------- a view


@dataclass(frozen=True)
class FeatureCard:
    """One feature of the shown version: its description, measures and chart."""

    name: str
    dtype: str
    description: str
    window: str
    measured: Mapping[str, Any]
    quantiles: Sequence[tuple[str, Any]]
    chart: Mapping[str, Any] | None
    differing: Mapping[str, Any] | None

    @property
    def chart_id(self) -> str:
        return f"spread-{self.name}"


@dataclass(frozen=True)
class Pinning:
    """A service that pins a version of the view, and who uses it now."""

    service: FeatureService
    version: FeatureViewVersion
    features: tuple[str, ...]
    uses: tuple[Use, ...]


@login_required
def feature_view_page(request: HttpRequest, name: str, number: int | None = None) -> HttpResponse:
    """What does this view mean, is it kept as promised, and what hangs on it?"""
    view = get_object_or_404(FeatureView.objects.select_related("entity", "owner"), name=name)
    versions = list(view.versions.select_related("view", "replaced_by__view").prefetch_related("sources"))
    version = _chosen(versions, number)
    if version is None:
        context = {"title": view.name, "view": view, "versions": versions, "now": clock.now(), "tab": "views"}
        return render(request, "portal/feature_view_empty.html", context)
    user, now = _user(request), clock.now()
    uses = uses_now(user)
    pinnings = _pinnings(versions, uses)
    shown = [each for each in versions if each == version or any(pin.version == each for pin in pinnings)]
    services = list({pin.service.pk: pin.service for pin in pinnings if not pin.service.retired_at}.values())
    context = {
        "title": str(version),
        "tab": "views",
        "view": view,
        "version": version,
        "versions": [(each, sum(pin.version == each for pin in pinnings)) for each in versions],
        "pinnings": pinnings,
        "hurt": _hurt(version, pinnings),
        "models": distinct_models({use.version.pk: use for pin in pinnings for use in pin.uses}.values()),
        "movers": movers(uses, versions=[each for each in versions if each.state == ViewState.DEPRECATED]),
        "drawing": lineage(shown, services, uses, here=version),
        "may_edit": user.is_staff and user.groups.filter(pk=view.owner_id).exists(),
        "view_admin": admin_url(view) if user.is_staff else None,
        "version_admin": admin_url(version) if user.is_staff else None,
        "events": _events([view, *versions]),
        "now": now,
        **_meaning(version, versions),
        **_kept(view, version, now),
    }
    return render(request, "portal/feature_view.html", context)


def _chosen(versions: Sequence[FeatureViewVersion], number: int | None) -> FeatureViewVersion | None:
    """The version of this number (404 where there is none); without one, the one that stands for the view."""
    if number is None:
        return catalogue.preferred(versions)
    return get_object_or_404(FeatureViewVersion, pk=next((each.pk for each in versions if each.number == number), None))


def _meaning(version: FeatureViewVersion, versions: Sequence[FeatureViewVersion]) -> dict[str, Any]:
    """How the version is defined, and what it changes against the one before."""
    definition = _definition(version)
    before = next((each for each in versions if each.number < version.number), None)
    review = review_of(version)
    return {
        "definition": definition,
        "before": before,
        "changes": reading.changes(_definition(before), definition) if before else [],
        "review": review,
        "look_alikes": [(each.feature, said_of(each)) for each in review.look_alikes] if review else [],
    }


def _definition(version: FeatureViewVersion) -> reading.Definition:
    return reading.definition(version, [source.name for source in version.sources.all()])


def _kept(view: FeatureView, version: FeatureViewVersion, now: datetime) -> dict[str, Any]:
    """How well the version is kept: runs, freshness, coverage, consistency, distributions."""
    runs = list(version.materializations.order_by("-up_to")[:RUNS])
    described = list(FeatureStatistics.objects.filter(view_version=version).order_by("-at")[:DAYS])
    checks = list(ConsistencyCheck.objects.filter(view_version=version).order_by("-at")[:CHECKS])
    newest = runs[0].newest if runs else None
    last = described[0] if described else None
    return {
        "freshness": catalogue.freshness_of(view, version, newest, now=now),
        "lag": now - runs[0].up_to if runs else None,
        "runs": [(run, run.up_to - run.newest if run.newest else None) for run in runs],
        "statistics": last,
        "coverage": catalogue.coverage(last),
        "cards": [_card(version, each, last, checks) for each in version.features],
        "history_chart": feature_charts.history(described[::-1]),
        "check": checks[0] if checks else None,
        "consistency_chart": feature_charts.consistency(checks[::-1], limit=view.consistency_limit),
        "examples": _examples(checks),
    }


def _card(
    version: FeatureViewVersion,
    described: Mapping[str, Any],
    last: FeatureStatistics | None,
    checks: Sequence[ConsistencyCheck],
) -> FeatureCard:
    name = described["name"]
    measured: Mapping[str, Any] = (last.features.get(name) if last is not None else None) or {}
    windows = {each["name"]: reading.aggregation(each) for each in version.aggregations}
    found = (checks[0].features or {}).get(name) if checks else None
    return FeatureCard(
        name=name,
        dtype=described.get("dtype", ""),
        description=described.get("description", ""),
        window=windows.get(name, ""),
        measured=measured,
        quantiles=[(f"{percent} %", value) for percent, value in measured.get("quantiles", {}).items()],
        chart=feature_charts.spread(measured),
        differing=found,
    )


def _examples(checks: Sequence[ConsistencyCheck]) -> tuple[ConsistencyCheck, list[Mapping[str, Any]]] | None:
    """The newest check that found cells which differ, with its examples."""
    found = next((check for check in checks if check.examples), None)
    return (found, list(found.examples)) if found is not None else None


def _pinnings(versions: Sequence[FeatureViewVersion], uses: Uses) -> list[Pinning]:
    pins = FeatureServiceFeature.objects.filter(view_version__in=[version.pk for version in versions])
    by_version = {version.pk: version for version in versions}
    grouped: dict[tuple[int, int], list[FeatureServiceFeature]] = {}
    for pin in pins.select_related("service__owner").order_by("service__name", "-service__number", "position"):
        grouped.setdefault((pin.service_id, pin.view_version_id), []).append(pin)
    found = [
        Pinning(
            service=same[0].service,
            version=by_version[version],
            features=tuple(pin.feature for pin in same),
            uses=tuple(uses.get(service, ())),
        )
        for (service, version), same in grouped.items()
    ]
    return sorted(found, key=lambda each: (each.service.retired_at is not None, not each.uses))


def _hurt(version: FeatureViewVersion, pinnings: Sequence[Pinning]) -> int:
    """How many live models take the version that the review compared this one with."""
    before = version.review.get("before")
    return distinct_models(
        {use.version.pk: use for pin in pinnings if str(pin.version) == before for use in pin.uses}.values()
    )


def _events(subjects: Iterable[Any]) -> QuerySet[Any]:
    """What happened to these rows of the feature store, newest first; they belong to everybody."""
    about = Q(pk=None)
    for subject in subjects:
        about |= Q(subject_type=subject._meta.label_lower, subject_id=str(subject.pk))
    return Event.objects.filter(about).select_related("actor").order_by("-id")[:EVENTS]


# ---------------------------------------------------------------------- a source, a service


@login_required
def data_source_page(request: HttpRequest, name: str) -> HttpResponse:
    """Where does this come from, is it fresh as promised, what reads it?"""
    source = get_object_or_404(DataSource.objects.select_related("owner"), name=name)
    user, now = _user(request), clock.now()
    uses = uses_now(user)
    readers = source.view_versions.exclude(state=ViewState.RETIRED).select_related("view__owner", "view__entity")
    versions = list(readers.prefetch_related("sources").order_by("view__name", "-number"))
    services = _services_of(versions)
    newest, problem = _newest(source, now)
    context = {
        "title": source.name,
        "tab": "sources",
        "source": source,
        "freshness": Freshness(source.freshness, now - newest if newest else None),
        "newest": newest,
        "problem": problem,
        "versions": versions,
        "services": [(service, uses.get(service.pk, [])) for service in services],
        "drawing": lineage(versions, services, uses, here=source) if versions else None,
        "pushes": source.pushes.select_related("pushed_by")[:PUSHES],
        "source_admin": admin_url(source) if user.is_staff else None,
        "events": _events([source]),
        "now": now,
    }
    return render(request, "portal/data_source.html", context)


def _newest(source: DataSource, now: datetime) -> tuple[datetime | None, str]:
    """When the newest row that has arrived happened, or why that can not be told."""
    try:
        newest = offline.engine().freshness(offline.source_table(source), as_of=now)
    except OfflineError as error:
        return None, str(error)
    return newest, "" if newest is not None else "Nothing has arrived yet."


def _services_of(versions: Sequence[FeatureViewVersion]) -> list[FeatureService]:
    pinned = FeatureService.objects.filter(features__view_version__in=[each.pk for each in versions], retired_at=None)
    return list(pinned.select_related("owner").distinct().order_by("name", "-number"))


@login_required
def feature_service_page(request: HttpRequest, name: str, number: int) -> HttpResponse:
    """What does a model of this service get, in which order, from where, and which models take it?"""
    on_demand = Prefetch("transforms", OnDemandTransform.objects.select_related("owner"))
    services = FeatureService.objects.select_related("owner").prefetch_related(on_demand)
    service = get_object_or_404(services, name=name, number=number)
    user, now = _user(request), clock.now()
    uses = uses_now(user)
    related = ("view_version__view__entity", "view_version__view__owner", "view_version__replaced_by__view")
    pins = list(service.features.select_related(*related).prefetch_related("view_version__sources"))
    versions = list({pin.view_version_id: pin.view_version for pin in pins}.values())
    statistics = catalogue.last_statistics(versions)
    context = {
        "title": str(service),
        "tab": "services",
        "service": service,
        "numbers": FeatureService.objects.filter(name=name).order_by("-number"),
        "pins": [(pin, *_measured(pin, statistics)) for pin in pins],
        "stored_from": len(service.request_features) + 1,
        "computed": [(column, each) for each in service.pinned_transforms() for column in each.columns],
        "computed_from": len(service.request_features) + len(pins) + 1,
        "transforms": service.pinned_transforms(),
        "uses": uses.get(service.pk, []),
        "movers": [mover for mover in movers(uses, versions=versions) if mover.service == service],
        "drawing": lineage(versions, [service], uses, here=service),
        "datasets": service.datasets.order_by("-created_at")[:8],
        "service_admin": admin_url(service) if user.is_staff else None,
        "events": _events([service]),
        "now": now,
    }
    return render(request, "portal/feature_service.html", context)


def _measured(
    pin: FeatureServiceFeature, statistics: Mapping[int, FeatureStatistics]
) -> tuple[str, float | None, float | None]:
    """Type, null share and coverage of a pinned feature."""
    last = statistics.get(pin.view_version_id)
    return pin.view_version.types.get(pin.feature, ""), catalogue.nulls(last, pin.feature), catalogue.coverage(last)


urlpatterns = [
    path("features/", features_page, name="features"),
    path("features/views/", feature_views_page, name="feature-views"),
    path("features/views/<slug:name>/", feature_view_page, name="feature-view"),
    path("features/views/<slug:name>/<int:number>/", feature_view_page, name="feature-view-version"),
    path("features/services/", feature_services_page, name="feature-services"),
    path("features/services/<slug:name>/<int:number>/", feature_service_page, name="feature-service"),
    path("features/sources/", data_sources_page, name="data-sources"),
    path("features/sources/<slug:name>/", data_source_page, name="data-source"),
]
