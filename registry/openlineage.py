"""What an OpenLineage event says (spec 2-0-2), read strictly where we rely on it and kept whole where we do not.

An event is one of three: of a run (``run`` and ``job``), of a job (``job`` alone) or of a dataset. ``read`` says which
it is and refuses what can not be kept; ``statements`` says which nodes and flows it tells of.

Nothing here believes an event: who sent it is recorded, and what it says is shown as somebody's word.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import rfc8785

DATASET, JOB, RUN = "dataset", "job", "run"
EVENT_TYPES = ("START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER")
OURS = "gatehouse"
"""Namespace of our own data sources and models: there a dataset of that name is the data source of that name."""

LONGEST_NAMESPACE, LONGEST_NAME, LONGEST_PRODUCER = 300, 500, 300
MOST_DATASETS = 1000
DEEPEST = 40
FUTURE = timedelta(days=1)
"""A clock may be wrong by so much: a fact from the year 9999 would be the newest for ever."""

KEPT = {
    DATASET: (
        "schema", "ownership", "columnLineage", "documentation", "datasetType", "version", "dataSource", "storage",
        "tags", "lifecycleStateChange",
    ),
    JOB: ("sourceCodeLocation", "ownership", "documentation", "jobType", "sql", "tags"),
}  # fmt: skip
"""Facets of which the newest is kept with the node; all others stay in the event as it was sent."""

WHOLE = "*"
"""Output column of what the whole dataset was made with (a join key, a filter)."""

Key = tuple[str, str, str]
"""Kind, namespace and name of a node."""


class Malformed(ValueError):
    """It is no OpenLineage event that can be kept; ``errors`` maps the path of a field to what is wrong with it."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        self.errors = dict(errors)
        super().__init__("; ".join(f"{path}: {text}" for path, text in self.errors.items()))


@dataclass(frozen=True)
class Told:
    """What is filed of an event beside its body. ``digest`` is the SHA-256 of its canonical JSON."""

    kind: str
    event_type: str
    event_time: datetime
    producer: str
    digest: str


@dataclass(frozen=True)
class Said:
    """A node that an event names, with the facets that it tells of (None: the facet was deleted)."""

    key: Key
    facets: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Statements:
    """What an event says: nodes, and flows from one to another. ``problems`` are facets that could not be read."""

    nodes: tuple[Said, ...]
    flows: tuple[tuple[Key, Key], ...]
    run_id: str
    problems: tuple[str, ...]


# ---------------------------------------------------------------------- reading an event


def read(document: Any, *, not_after: datetime) -> Told:
    """Check an event's shape. Raises Malformed. ``not_after`` is the present moment; it may lie ``FUTURE`` later."""
    if not isinstance(document, dict):
        raise Malformed({"body": "An event is a JSON object."})
    if problem := unkeepable(document):
        raise Malformed({"body": problem})
    errors: dict[str, str] = {}
    kind = _kind(document, errors)
    moment = _moment(document.get("eventTime"), not_after, errors)
    _check_text(document, "producer", LONGEST_PRODUCER, errors)
    if kind == RUN:
        _check_run(document, errors)
    if kind in (RUN, JOB):
        _check_node(document["job"], "job", errors)
        for side in ("inputs", "outputs"):
            _check_datasets(document.get(side), side, errors)
    if kind == DATASET:
        _check_node(document["dataset"], "dataset", errors)
    if errors or moment is None:
        raise Malformed(errors)
    event_type = str(document.get("eventType") or "") if kind == RUN else ""
    return Told(kind, event_type, moment, document["producer"], digest(document))


def digest(document: Any) -> str:
    """SHA-256 of the canonical JSON (RFC 8785), in hexadecimal."""
    return hashlib.sha256(rfc8785.dumps(_as_doubles(document))).hexdigest()


def unkeepable(value: Any, depth: int = 0) -> str:
    """Why a database can not keep a JSON value; empty when it can."""
    if depth > DEEPEST:
        return f"Nested more than {DEEPEST} deep."
    if isinstance(value, str):
        return "A text holds the character NUL or half a character." if not _is_text(value) else ""
    if isinstance(value, float):
        return "" if math.isfinite(value) else "A number is not finite."
    inside: Sequence[Any] = value if isinstance(value, list) else []
    if isinstance(value, dict):
        inside = [*value, *value.values()]
    return next((problem for each in inside if (problem := unkeepable(each, depth + 1))), "")


def _is_text(value: str) -> bool:
    return "\0" not in value and not any("\ud800" <= each <= "\udfff" for each in value)


def _as_doubles(value: Any) -> Any:
    """Numbers as RFC 8785 sees them: it knows doubles only, and would refuse an integer that none holds exactly."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**53:
        return float(value)
    if isinstance(value, dict):
        return {name: _as_doubles(each) for name, each in value.items()}
    return [_as_doubles(each) for each in value] if isinstance(value, list) else value


def _kind(document: Mapping[str, Any], errors: dict[str, str]) -> str:
    if "run" in document or ("eventType" in document and "job" in document):
        return _required(document, RUN, ("run", "job"), errors)
    if "dataset" in document:
        return _required(document, DATASET, ("dataset",), errors)
    return _required(document, JOB, ("job",), errors)


def _required(document: Mapping[str, Any], kind: str, parts: Sequence[str], errors: dict[str, str]) -> str:
    """The kind, when its parts are objects; else no kind, and what is missing."""
    missing = [part for part in parts if not isinstance(document.get(part), dict)]
    for part in missing:
        errors[part] = f"A {kind} event has an object here; an event is one of a run, a job or a dataset."
    return "" if missing else kind


def _moment(value: Any, not_after: datetime, errors: dict[str, str]) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) and "T" in value.upper() else None
        if moment is not None and moment.tzinfo is not None:
            moment = moment.astimezone(UTC)
            if moment <= not_after + FUTURE:
                return moment
            errors["eventTime"] = f"It lies more than a day in the future of {not_after:%Y-%m-%d %H:%M} UTC."
            return None
    except (ValueError, OverflowError):
        pass
    errors["eventTime"] = "A date and time with its zone is needed, such as 2026-03-01T12:00:00Z."
    return None


def _check_run(document: Mapping[str, Any], errors: dict[str, str]) -> None:
    run_id = document["run"].get("runId")
    try:
        UUID(run_id)
    except (ValueError, TypeError, AttributeError):
        errors["run.runId"] = "A UUID is needed."
    if document.get("eventType") not in (None, *EVENT_TYPES):
        errors["eventType"] = f"One of {', '.join(EVENT_TYPES)}."
    _check_facets(document["run"], "run", errors)


def _check_datasets(value: Any, path: str, errors: dict[str, str]) -> None:
    if value is None:
        return
    if not isinstance(value, list) or len(value) > MOST_DATASETS:
        errors[path] = f"A list of at most {MOST_DATASETS} datasets."
        return
    for place, each in enumerate(value):
        if isinstance(each, dict):
            _check_node(each, f"{path}.{place}", errors)
        else:
            errors[f"{path}.{place}"] = "A dataset is an object with namespace and name."


def _check_node(value: Mapping[str, Any], path: str, errors: dict[str, str]) -> None:
    for name, longest in (("namespace", LONGEST_NAMESPACE), ("name", LONGEST_NAME)):
        _check_text(value, name, longest, errors, path=f"{path}.{name}")
    _check_facets(value, path, errors)


def _check_facets(value: Mapping[str, Any], path: str, errors: dict[str, str]) -> None:
    facets = value.get("facets")
    if facets is not None and not isinstance(facets, dict):
        errors[f"{path}.facets"] = "An object of facets by name."


def _check_text(
    value: Mapping[str, Any], name: str, longest: int, errors: dict[str, str], *, path: str | None = None
) -> None:
    text = value.get(name)
    if not isinstance(text, str) or not text.strip() or len(text) > longest:
        errors[path or name] = f"A text of 1 to {longest} characters is needed."


# ---------------------------------------------------------------------- what it says


def statements(document: Mapping[str, Any], kind: str) -> Statements:
    """The nodes and flows that an event of this kind tells of, which ``read`` has accepted.

    A run or a job takes its inputs and makes its outputs. Where a dataset says which columns it was made from, data
    flowed from those datasets to it, whatever job carried it. A facet that can not be read costs only itself.
    """
    found: dict[Key, dict[str, Any]] = {}
    flows: list[tuple[Key, Key]] = []
    problems: list[str] = []
    job_key = _named(found, JOB, document["job"], "job", problems) if kind != DATASET else None
    for path, each in _datasets(document, kind):
        key = _named(found, DATASET, each, path, problems)
        if job_key is not None:
            flows.append((key, job_key) if path.startswith("inputs") else (job_key, key))
        facet = found[key].get("columnLineage")
        for other in columns(facet) if facet else ():
            found.setdefault(other, {})
            if other != key:
                flows.append((other, key))
    nodes = tuple(Said(key, facets) for key, facets in found.items())
    run_id = str(UUID(document["run"]["runId"])) if kind == RUN else ""
    return Statements(nodes, tuple(dict.fromkeys(flows)), run_id, tuple(problems))


def columns(facet: Mapping[str, Any]) -> dict[Key, dict[str, list[str]]]:
    """By upstream dataset: output column to the input columns that it was made from (``columnLineage``).

    Raises Malformed when the facet is not what the spec says. ``WHOLE`` stands for the dataset as such.
    """
    fields = facet.get("fields", {})
    if not isinstance(fields, dict):
        raise Malformed({"fields": "An object by output column."})
    made: dict[str, Any] = {}
    for name, described in fields.items():
        if not isinstance(described, dict):
            raise Malformed({f"fields.{name}": "An object with inputFields."})
        made[name] = described.get("inputFields")
    if facet.get("dataset"):
        made[WHOLE] = facet["dataset"]
    found: dict[Key, dict[str, list[str]]] = {}
    for name, inputs in made.items():
        for key, column in _input_fields(inputs, name):
            taken = found.setdefault(key, {}).setdefault(name, [])
            if column not in taken:
                taken.append(column)
    return found


def _datasets(document: Mapping[str, Any], kind: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if kind == DATASET:
        yield "dataset", document["dataset"]
        return
    for side in ("inputs", "outputs"):
        for place, each in enumerate(document.get(side) or ()):
            yield f"{side}.{place}", each


def _named(
    found: dict[Key, dict[str, Any]], kind: str, value: Mapping[str, Any], path: str, problems: list[str]
) -> Key:
    """Take in a node; facets that one event tells twice of it count as first told."""
    key = (kind, value["namespace"], value["name"])
    known = found.setdefault(key, {})
    for name, facet in (value.get("facets") or {}).items():
        if name not in KEPT[kind] or name in known:
            continue
        if problem := _unreadable(name, facet):
            problems.append(f"{path}.facets.{name}: {problem}")
            continue
        known[name] = None if facet.get("_deleted") is True else _content(facet)
    return key


def _unreadable(name: str, facet: Any) -> str:
    if not isinstance(facet, dict):
        return "It is no object."
    if name == "columnLineage" and facet.get("_deleted") is not True:
        try:
            columns(facet)
        except Malformed as problem:
            return str(problem)
    return ""


def _content(facet: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facet.items() if not name.startswith("_")}


def _input_fields(inputs: Any, name: str) -> Iterator[tuple[Key, str]]:
    if not isinstance(inputs, list):
        raise Malformed({f"fields.{name}.inputFields": "A list is needed."})
    for place, each in enumerate(inputs):
        errors: dict[str, str] = {}
        path = f"fields.{name}.inputFields.{place}"
        if not isinstance(each, dict):
            raise Malformed({path: "An object with namespace, name and field."})
        _check_node(each, path, errors)
        _check_text(each, "field", LONGEST_NAME, errors, path=f"{path}.field")
        if errors:
            raise Malformed(errors)
        yield (DATASET, each["namespace"], each["name"]), each["field"]
