"""The parts of a rollout's page, from stored rows alone: steps, a row a metric, curves, where the two versions differ.

What an older look did not keep is left out, never guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import F, prefetch_related_objects
from django.urls import reverse

from audit.models import Event
from mlops import rollout_charts, rollout_words
from mlops.gate_details import Plot
from mlops.gate_findings import number_of, part_of, rows_of
from mlops.rollout_charts import Mark, Point, thinned
from rollout.models import AnalysisRun, Measurement, Rollout, RolloutState

ENDED_BADLY = (RolloutState.ROLLED_BACK, RolloutState.ABORTED)
MOST_SEGMENTS = 5


# ---------------------------------------------------------------------- the way so far


@dataclass(frozen=True)
class Step:
    """A step of the way: ``state`` is done, here, ended (where it was stopped) or empty (not reached)."""

    name: str
    state: str
    since: datetime | None = None
    rows: int | None = None
    wanted_rows: int | None = None
    wanted_hours: float | None = None


def steps(rollout: Rollout, events: Sequence[Event], looks: Sequence[AnalysisRun]) -> list[Step]:
    """Shadow, the canary's steps and the championship, with when each began and the rows it had.

    ``events`` are the rollout's, oldest first; ``looks`` carry ``rows_at_step`` (``looks_of``).
    """
    plan = rollout.plan.get("canary", {}).get("steps", [])
    shadow = rollout.plan.get("shadow", {})
    began = {int(event.data["step"]): event.at for event in reversed(events) if _is_step(event)}
    first = Step(
        "shadow",
        _state(rollout, 0, reached=rollout.shadow_since is not None),
        rollout.shadow_since,
        max((look.candidate_rows for look in looks if look.stage == RolloutState.SHADOW), default=None),
        shadow.get("min_rows"),
        shadow.get("min_hours"),
    )
    way = [first] if rollout.shadow_since is not None or rollout.state != RolloutState.PROMOTED else []
    for number, step in enumerate(plan, start=1):
        seen = [rows for look in looks if look.step == number and isinstance(rows := _rows(look), int)]
        state = _state(rollout, number, reached=rollout.step >= number)
        name = rollout_words.percent(step["share"])
        way.append(
            Step(
                name,
                state,
                began.get(number) if state else None,
                max(seen, default=None),
                step.get("min_rows"),
                step.get("min_hours"),
            )
        )
    is_champion = rollout.state == RolloutState.PROMOTED
    return [*way, Step("champion", "done" if is_champion else "", rollout.ended_at if is_champion else None)]


def _rows(look: AnalysisRun) -> Any:
    return getattr(look, "rows_at_step", None)


def _is_step(event: Event) -> bool:
    return event.name == "rollout.canary" and isinstance(event.data.get("step"), int)


def _state(rollout: Rollout, number: int, *, reached: bool) -> str:
    if rollout.state == RolloutState.PROMOTED:
        return "done" if reached else ""
    if not reached:
        return ""
    if rollout.step != number:
        return "done"
    return "ended" if rollout.state in ENDED_BADLY else "here"


# ---------------------------------------------------------------------- looks and their metrics


def looks_of(rollout: Rollout) -> list[AnalysisRun]:
    """All looks, oldest first, without their detail, which can be long, and without their measurements (``drawn``)."""
    rows = rollout.analyses.defer("detail").annotate(rows_at_step=F("detail__rows_at_step"))
    return list(rows.order_by("number"))


def drawn(looks: Sequence[AnalysisRun]) -> list[AnalysisRun]:
    """The looks whose curves are drawn, with their measurements: of thousands every so many, the last of each stage
    always."""
    stages = dict.fromkeys(look.stage for look in looks)
    found = [look for stage in stages for look in thinned([each for each in looks if each.stage == stage])]
    prefetch_related_objects(found, "measurements")
    return found


@dataclass(frozen=True)
class Bar:
    """Two halves of a bar: evidence of harm to the left, of no harm to the right, in parts of a half (1: proven)."""

    harm: float
    no_harm: float

    HALF = 60.0

    @property
    def harm_width(self) -> float:
        return round(self.harm * self.HALF, 1)

    @property
    def harm_x(self) -> float:
        return round(self.HALF - self.harm * self.HALF, 1)

    @property
    def no_harm_width(self) -> float:
        return round(self.no_harm * self.HALF, 1)

    @property
    def words(self) -> str:
        return f"harm {_part(self.harm)}, no harm {_part(self.no_harm)}"


def _part(share: float) -> str:
    return "proven" if share >= 1 else f"{share:.0%} of what proves it".replace("%", " %")


@dataclass(frozen=True)
class Row:
    """A metric of the latest look as the page shows it."""

    measured: Measurement
    bar: Bar | None
    title: str
    sizes: tuple[str, str]

    @property
    def guards(self) -> bool:
        return _guards(self.measured)

    @property
    def judged(self) -> str:
        return rollout_words.judged(self.measured.metric, self.measured.verdict)

    @property
    def meaning(self) -> str:
        return rollout_words.meaning(self.measured.metric)

    @property
    def value(self) -> str:
        return rollout_words.number(self.measured.metric, self.measured.value)

    @property
    def interval(self) -> str:
        return rollout_words.interval(self.measured.metric, self.measured.low, self.measured.high)


def _guards(measured: Measurement) -> bool:
    """Looks of before it was stored say that everything guards; agreement never did."""
    return measured.guards and measured.metric != "agreement"


def rows(look: AnalysisRun | None, rollout: Rollout, titles: Mapping[str, str]) -> list[Row]:
    """A row a metric of a look: what stops first, then what judges, then what is only reported.

    ``titles`` are those of business metrics by name.
    """
    if look is None:
        return []
    order = {"failed": 0, "error": 1}
    measured = sorted(
        look.measurements.all(), key=lambda each: (not _guards(each), order.get(each.verdict, 2), each.pk)
    )
    return [Row(each, bar(each), _title(each.metric, titles), _sizes(each, rollout, look.stage)) for each in measured]


def _title(metric: str, titles: Mapping[str, str]) -> str:
    return titles.get(metric) or rollout_words.title(metric)


def _sizes(measured: Measurement, rollout: Rollout, stage: str) -> tuple[str, str]:
    """What rolls back once it is proven, and what is tolerated: a look of before there were two has one for both."""
    if measured.metric == "errors":
        plan = rollout.plan.get(stage, {})
        tolerated = plan.get("tolerated_error_ratio")
        found = plan.get("harm_from_error_ratio", tolerated), tolerated
        if all(isinstance(each, int | float) for each in found):
            return f"{found[0]:g} × as often", f"{found[1]:g} × as often"
    if measured.metric == "kept_promise" and measured.limit is not None:
        return f"below {measured.limit:.3g}", f"from {measured.limit:.3g} on"
    harm_from = measured.limit if measured.harm_from is None else measured.harm_from
    return rollout_words.size(measured.metric, harm_from), rollout_words.size(measured.metric, measured.limit)


def bar(measured: Measurement) -> Bar | None:
    """The picture of the evidence; None for a metric that has none."""
    if not measured.needed or (measured.harm is None and measured.no_harm is None):
        return None
    halves = [min(max((each or 0.0) / measured.needed, 0.0), 1.0) for each in (measured.harm, measured.no_harm)]
    return Bar(*halves)


@dataclass(frozen=True)
class Curves:
    """A metric over the looks of a stage: its evidence, and its values against the two sizes of harm."""

    metric: str
    title: str
    verdict: str
    evidence: Plot
    values: Plot | None


def curves(
    looks: Sequence[AnalysisRun], events: Sequence[Event], *, stage: str, titles: Mapping[str, str]
) -> list[Curves]:
    """A curve a metric that has evidence, in the order of the latest look of this stage."""
    inside = [look for look in looks if look.stage == stage]
    points: dict[str, list[Point]] = {}
    latest: dict[str, Measurement] = {}
    for look in inside:
        for each in look.measurements.all():
            points.setdefault(each.metric, []).append(_point(look, each))
            latest[each.metric] = each
    marks = _marks(events) if stage == RolloutState.CANARY else []
    drawn = sorted(latest.values(), key=lambda each: (not each.guards, each.verdict != "failed"))
    found = (_curves(stage, each, _title(each.metric, titles), points[each.metric], marks) for each in drawn)
    return [each for each in found if each is not None]


def _point(look: AnalysisRun, each: Measurement) -> Point:
    return Point(look.at, look.number, each.harm, each.no_harm, each.needed, each.value, each.low, each.high)


def _curves(
    stage: str, measured: Measurement, title: str, points: Sequence[Point], marks: Sequence[Mark]
) -> Curves | None:
    chart = rollout_charts.evidence(points, marks)
    if chart is None:
        return None
    metric = measured.metric
    name = f"{stage}-{metric}".replace(":", "-")
    harm_from = measured.limit if measured.harm_from is None else measured.harm_from
    # errors are judged by the ratio to the champion's, whose sizes are on another scale than the rate that is drawn
    sizes = (None, None) if metric in ("errors", "split") else (harm_from, measured.limit)
    drawn = rollout_charts.values(points, harm_from=sizes[0], tolerated=sizes[1], both_ways=metric == "predictions")
    values = Plot(f"values-{name}", drawn, f"{title}: value with interval") if drawn is not None else None
    evidence = Plot(f"evidence-{name}", chart, f"{title}: evidence over the looks")
    return Curves(metric, title, measured.verdict, evidence, values)


def _marks(events: Iterable[Event]) -> list[Mark]:
    return [
        Mark(event.at, rollout_words.percent(event.data["share"]))
        for event in events
        if _is_step(event) and isinstance(event.data.get("share"), int | float)
    ]


# ---------------------------------------------------------------------- the spread of answers and times


@dataclass(frozen=True)
class Spread:
    """A distribution of both arms, drawn, with quantiles below."""

    plot: Plot
    note: str
    quantiles: tuple[tuple[str, str, str, str], ...]


def spreads(detail: Mapping[str, Any], *, stage: str) -> list[Spread]:
    """How scores and times are spread in the latest look of a stage; empty for looks that kept no histogram."""
    found = []
    scores, times = part_of(detail, "scores"), part_of(detail, "times")
    chart = rollout_charts.histogram(part_of(scores, "histogram"), title="score")
    if chart is not None:
        apart = rollout_charts.distance(scores)
        note = f"Largest distance of the two: {apart:.3f} (Kolmogorov-Smirnov)." if apart is not None else ""
        found.append(Spread(Plot(f"scores-{stage}", chart, f"Scores in {stage}"), note, _quantiles(scores)))
    chart = rollout_charts.histogram(part_of(times, "histogram"), title="milliseconds of one answer", is_time=True)
    if chart is not None:
        note = (
            "A sample, each request asked alone, candidate and champion in turns."
            if stage == RolloutState.SHADOW
            else "Single answers that were timed."
        )
        found.append(Spread(Plot(f"times-{stage}", chart, f"Time of one answer in {stage}"), note, _quantiles(times)))
    return found


def _quantiles(found: Mapping[str, Any]) -> tuple[tuple[str, str, str, str], ...]:
    rows = rollout_charts.quantiles(found)
    return tuple((name, f"{mine:.3g}", f"{theirs:.3g}", f"{apart:+.3g}") for name, mine, theirs, apart in rows)


# ---------------------------------------------------------------------- where the two versions differ


@dataclass(frozen=True)
class Example:
    """A request that both versions answered, with the page where it can be looked at."""

    request_id: str
    url: str
    champion: float | None
    candidate: float | None
    outcome: float | None


@dataclass(frozen=True)
class Segment:
    condition: str
    n: int
    mean: float | None
    differ: int | None
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class Differences:
    """Of the last look at the shadow: ``decisions`` by kind, segments by distance and by loss, single requests."""

    look: AnalysisRun
    decisions: Mapping[str, Any]
    by_distance: tuple[Segment, ...]
    by_loss: tuple[Segment, ...]
    examples: tuple[Example, ...]
    coverage: tuple[Mapping[str, Any], ...]

    @property
    def different(self) -> int:
        return int(self.decisions.get("only_candidate", 0)) + int(self.decisions.get("only_champion", 0))

    @property
    def with_outcome(self) -> int:
        return int(self.decisions.get("candidate_right", 0)) + int(self.decisions.get("champion_right", 0))


def differences(rollout: Rollout) -> Differences | None:
    """What the last look at the shadow that kept it says; None when none did."""
    seen = rollout.analyses.filter(stage=RolloutState.SHADOW, detail__has_key="disagreement").order_by("-number")
    look = seen.first()
    if look is None:
        return None
    detail, endpoint = look.detail, rollout.endpoint.name
    return Differences(
        look,
        part_of(detail, "decisions"),
        tuple(_segment(each, endpoint) for each in rows_of(detail, "disagreement")[:MOST_SEGMENTS]),
        tuple(_segment(each, endpoint) for each in rows_of(detail, "loss")[:MOST_SEGMENTS] if _loses(each)),
        tuple(_example(each, endpoint) for each in rows_of(detail, "examples")),
        tuple(rows_of(detail, "coverage")),
    )


def _loses(segment: Mapping[str, Any]) -> bool:
    return (number_of(segment, "mean") or 0.0) > 0


def _segment(found: Mapping[str, Any], endpoint: str) -> Segment:
    differ = number_of(found, "differ")
    return Segment(
        str(found.get("condition", "")),
        int(number_of(found, "n") or 0),
        number_of(found, "mean"),
        None if differ is None else int(differ),
        tuple(_example(each, endpoint) for each in rows_of(found, "examples")),
    )


def _example(found: Mapping[str, Any], endpoint: str) -> Example:
    request_id = str(found.get("request_id", ""))
    query = {"endpoint": endpoint, "request_id": request_id, "day": str(found.get("at", ""))[:10]}
    return Example(
        request_id,
        reverse("portal:prediction", query={name: value for name, value in query.items() if value}),
        number_of(found, "champion"),
        number_of(found, "candidate"),
        number_of(found, "outcome"),
    )
