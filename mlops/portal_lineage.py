"""The portal's pages of lineage: what a thing was made from, who uses a column, what served on a day, two versions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any, TypeVar

from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import path

from audit import clock
from audit.errors import InvalidInput, NotFound
from features.models import DataSource
from mlops.lineage import Graph, Impact, as_of, backwards, diff, forwards, onwards
from mlops.lineage.addresses import KINDS
from mlops.lineage.backwards import VERSION_PARTS, past_of
from mlops.lineage.graph import Node
from mlops.lineage.picture import COLUMNS, picture
from registry.models import ModelVersion, RegisteredModel

T = TypeVar("T")
ASKABLE = ("column", "source", "feature", "dataset")


def _user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # login_required stands before every view
    return request.user


def _versions(request: HttpRequest) -> QuerySet[ModelVersion]:
    models = RegisteredModel.objects.visible_to(_user(request))
    return ModelVersion.objects.filter(registered_model__in=models).select_related(*VERSION_PARTS)


# ---------------------------------------------------------------------- what a thing was made from


@dataclass(frozen=True)
class Row:
    """A node as a line of the table; ``asks`` where its own past can be asked for."""

    node: Node
    asks: bool


@login_required
def version_lineage(request: HttpRequest, name: str, number: int) -> HttpResponse:
    """From what was this made, and what hangs on it?"""
    version = get_object_or_404(_versions(request), registered_model__name=name, number=number)
    key = f"version:{name}/{number}"
    past = past_of(version, reader=_user(request))
    future = onwards(version, now=clock.now())
    context = {
        "title": f"Lineage of {version}",
        "version": version,
        "model": version.registered_model,
        "past": past,
        "past_drawing": picture(past, here=key),
        "past_rows": _rows(past),
        "future": future if len(future.nodes) > 1 else None,
        "future_drawing": picture(future, here=key),
        "future_rows": _rows(future, without=key),
        "unverified": [node for node in past.nodes if not node.is_verified and not node.kind.startswith("external")],
        "now": clock.now(),
    }
    return render(request, "portal/lineage_version.html", context)


@login_required
def trace_page(request: HttpRequest) -> HttpResponse:
    """The same backwards from anything that has a key: a prediction, an incident, a dataset."""
    key = request.GET.get("of", "").strip()
    context: dict[str, Any] = {"title": "Trace", "tab": "trace", "of": key, "kinds": KINDS, "now": clock.now()}
    if key:
        graph, context["problem"] = _tried(lambda: backwards(key, reader=_user(request)))
        if graph is not None:
            context |= {"graph": graph, "drawing": picture(graph, here=key), "rows": _rows(graph)}
    return render(request, "portal/lineage_trace.html", context)


def _rows(graph: Graph, *, without: str = "") -> list[Row]:
    """The nodes in the order of the drawing's columns."""
    order = {kind: place for place, (_, kinds) in enumerate(COLUMNS) for kind in kinds}
    shown = sorted((node for node in graph.nodes if node.key != without), key=lambda node: order[node.kind])
    return [Row(node, node.key.partition(":")[0] in KINDS) for node in shown]


def _tried(ask: Callable[[], T]) -> tuple[T | None, str]:
    """The answer, or why there is none: a person typed the question."""
    try:
        return ask(), ""
    except (InvalidInput, NotFound) as problem:
        return None, str(problem) if isinstance(problem, NotFound) else " ".join(_texts(problem))


def _texts(problem: InvalidInput) -> Sequence[str]:
    return [text for texts in problem.errors.values() for text in texts]


# ---------------------------------------------------------------------- who uses it


@login_required
def impact_page(request: HttpRequest) -> HttpResponse:
    """Who uses this column, source, feature or dataset, and whom do I ask?"""
    asked = {name: request.GET.get(name, "").strip() for name in ASKABLE}
    kind, what = request.GET.get("kind", ""), request.GET.get("what", "").strip()
    if kind in ASKABLE and what:
        asked = {**dict.fromkeys(ASKABLE, ""), kind: what}
    every_version = request.GET.get("versions") == "all"
    chosen = next((name for name in ASKABLE if asked[name]), "column")
    context: dict[str, Any] = {
        "title": "Who uses this?",
        "tab": "impact",
        "kinds": ASKABLE,
        "kind": chosen,
        "what": _whole(asked, chosen),
        "every_version": every_version,
        "sources": DataSource.objects.order_by("name").values_list("name", flat=True)[:60],
        "now": clock.now(),
    }
    if any(asked.values()):
        given = {name: value for name, value in asked.items() if value}
        impact, context["problem"] = _tried(
            lambda: forwards(**given, reader=_user(request), every_version=every_version)
        )
        context |= {"impact": impact, "is_live": _is_live(impact)}
    return render(request, "portal/lineage_impact.html", context)


def _whole(asked: dict[str, str], chosen: str) -> str:
    """The question as the form has it: a column with its source."""
    if chosen == "column" and asked["source"]:
        return f"{asked['source']}.{asked['column']}"
    return asked[chosen]


def _is_live(impact: Impact | None) -> bool:
    return impact is not None and any(each.roles != ("recorded",) for each in impact.affected)


# ---------------------------------------------------------------------- what served on a day


@login_required
def as_of_page(request: HttpRequest) -> HttpResponse:
    """What served on that day, who let it through, on which evidence? From the event log alone."""
    asked, now = request.GET.get("at", "").strip(), clock.now()
    moment, problem = _moment(asked, now)
    served = as_of(moment, reader=_user(request)) if not problem else []
    context = {
        "title": "What served on",
        "tab": "as-of",
        "at": moment,
        "problem": problem,
        "served": served,
        "is_now": not asked,
        "now": now,
    }
    return render(request, "portal/as_of.html", context)


def _moment(asked: str, now: datetime) -> tuple[datetime, str]:
    """A day (its end) or a moment, in UTC; now without either. With it, why it can not be read."""
    if not asked:
        return now, ""
    try:
        if len(asked) == len("2013-04-01"):
            return datetime.combine(date.fromisoformat(asked), time.max, UTC), ""
        read = datetime.fromisoformat(asked)
        return (read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)), ""
    except (ValueError, OverflowError):
        return now, f"“{asked[:40]}” is no day and no moment; write 2013-04-01 or 2013-04-01T12:30."


# ---------------------------------------------------------------------- two versions


@login_required
def compare_page(request: HttpRequest, name: str) -> HttpResponse:
    """Better, and for whom? What differs between two versions."""
    models = RegisteredModel.objects.visible_to(_user(request))
    registered_model = get_object_or_404(models, name=name)
    rows = _versions(request).filter(registered_model=registered_model)
    numbers = list(rows.order_by("-number").values_list("number", flat=True))
    after = _chosen(request, "after", numbers) or (numbers[0] if numbers else None)
    earlier = [each for each in numbers if after is not None and each < after]
    before = _chosen(request, "before", numbers) or _champion(registered_model, after) or next(iter(earlier), None)
    context: dict[str, Any] = {
        "title": f"Compare versions of {registered_model.title}",
        "model": registered_model,
        "numbers": numbers,
        "before": before,
        "after": after,
        "now": clock.now(),
    }
    if before is not None and after is not None and before != after:
        found = {version.number: version for version in rows.filter(number__in=(before, after))}
        context |= {"diff": diff(found[before], found[after]), "one": found[before], "other": found[after]}
    return render(request, "portal/compare.html", context)


def _chosen(request: HttpRequest, side: str, numbers: Sequence[int]) -> int | None:
    text = request.GET.get(side, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 and int(text) in numbers else None


def _champion(registered_model: RegisteredModel, after: int | None) -> int | None:
    """What serves is what a new version is compared with, unless it is that itself."""
    champion = registered_model.champion()
    return champion.number if champion is not None and champion.number != after else None


urlpatterns = [
    path("models/<slug:name>/versions/<int:number>/lineage/", version_lineage, name="version-lineage"),
    path("models/<slug:name>/compare/", compare_page, name="compare"),
    path("lineage/", trace_page, name="trace"),
    path("lineage/impact/", impact_page, name="impact"),
    path("lineage/as-of/", as_of_page, name="as-of"),
]
