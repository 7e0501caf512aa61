"""Take OpenLineage events in, fold them into the graph of other tools' datasets and jobs, join it to our sources.

An event that was taken in is never changed. The graph is derived from all of them and does not depend on the order in
which they came: of each facet the one with the newest event time counts (the larger digest where two are equally new).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction

from audit.errors import Conflict, InvalidInput, NotPermitted
from audit.trail import record
from features.models import DataSource
from jobs.run import enqueue
from registry import openlineage as spec
from registry.models import ExternalEdge, ExternalNode, LineageEvent

MOST_EVENTS = 1000
"""Of one request."""
TOLD_AT = "told_at"
"""In a node's facts: by facet, the event time and digest of the event that told it."""
_ATTEMPTS = 3


@dataclass(frozen=True)
class Received:
    """What became of a request's events. ``refused`` are those that are none, by position, with their errors."""

    stored: tuple[LineageEvent, ...]
    repeated: int
    refused: dict[int, dict[str, str]]


def receive(documents: Sequence[Any], *, actor: User, latest: datetime, now: datetime) -> Received:
    """Keep events as they were sent, each once, and ask for them to be folded. Anybody who may send, may say.

    ``latest`` is the wall clock: other tools do not live in a replay's year. Events that came before change nothing.
    """
    if len(documents) > MOST_EVENTS:
        raise InvalidInput({"body": f"At most {MOST_EVENTS} events in one request."})
    refused: dict[int, dict[str, str]] = {}
    accepted: dict[str, tuple[spec.Told, Any]] = {}
    count = 0
    for place, document in enumerate(documents):
        try:
            told = spec.read(document, not_after=max(now, latest))
        except spec.Malformed as problem:
            refused[place] = problem.errors
            continue
        accepted.setdefault(told.digest, (told, document))
        count += 1
    stored = _stored(accepted, actor, now, refused=len(refused), received=len(documents))
    return Received(tuple(stored), count - len(stored), refused)


def _stored(
    accepted: dict[str, tuple[spec.Told, Any]], actor: User, now: datetime, *, refused: int, received: int
) -> list[LineageEvent]:
    """Insert those that are new; once more when somebody sent one of them meanwhile."""
    for attempt in range(_ATTEMPTS):
        known = set(LineageEvent.objects.filter(digest__in=list(accepted)).values_list("digest", flat=True))
        fresh = [_row(told, body, actor, now) for told, body in accepted.values() if told.digest not in known]
        if not fresh:
            break
        try:
            with transaction.atomic():
                LineageEvent.objects.bulk_create(fresh)
                data = {
                    "received": received,
                    "stored": len(fresh),
                    "refused": refused,
                    "ids": [fresh[0].pk, fresh[-1].pk],
                    "digest": hashlib.sha256("".join(each.digest for each in fresh).encode()).hexdigest(),
                }
                record("lineage.received", fresh[0], actor=actor, data=data)
                enqueue("registry.fold_lineage", key=f"fold-lineage:{fresh[0].pk}")
        except IntegrityError:
            if attempt == _ATTEMPTS - 1:
                raise
            continue
        return fresh
    return []


def _row(told: spec.Told, body: Any, actor: User, now: datetime) -> LineageEvent:
    return LineageEvent(
        digest=told.digest,
        body=body,
        kind=told.kind,
        event_type=told.event_type,
        event_time=told.event_time,
        producer=told.producer,
        received_by=actor,
        received_at=now,
    )


# ---------------------------------------------------------------------- folding


def fold_waiting(*, now: datetime, chunk: int = 200) -> int:
    """Fold every event that waits, each in a transaction of its own; how many. Then join what became known since."""
    folded = 0
    while waiting := list(
        LineageEvent.objects.filter(folded_at=None).order_by("id").values_list("pk", flat=True)[:chunk]
    ):
        folded += sum(fold(each, now=now) for each in waiting)
    _join_late()
    return folded


def fold(event_id: int, *, now: datetime) -> bool:
    """Take an event into the graph; False when somebody else has. What could not be read is noted in its ``problem``.

    Folding is derived from the record, and may be done again: it leaves no event of its own.
    """
    with transaction.atomic():
        event = LineageEvent.objects.select_for_update().filter(pk=event_id, folded_at=None).first()
        if event is None:
            return False
        try:
            spec.read(event.body, not_after=event.event_time)  # it may have come to a release that was less strict
            said = spec.statements(event.body, event.kind)
        except spec.Malformed as problem:
            said = spec.Statements((), (), "", (str(problem),))
        _take_in(said, event)
        event.folded_at, event.problem = now, "\n".join(said.problems)
        event.save(update_fields=["folded_at", "problem"])
    return True


def _take_in(said: spec.Statements, event: LineageEvent) -> None:
    """In one order everywhere: two workers that fold at once wait for each other instead of for ever."""
    stamp = _stamp(event.event_time, event.digest)
    nodes = {each.key: _node(each, event.event_time, stamp) for each in sorted(said.nodes, key=lambda one: one.key)}
    for upstream, downstream in sorted(said.flows):
        _edge(nodes[upstream], nodes[downstream], said.run_id, event.event_time)
    for each in said.nodes:
        _columns(nodes[each.key])


def _stamp(moment: datetime, digest: str) -> list[str]:
    """What orders facts: the event time in one length (so that texts sort as times do), then the digest."""
    return [moment.astimezone(UTC).isoformat(timespec="microseconds"), digest]


def _node(said: spec.Said, moment: datetime, stamp: list[str]) -> ExternalNode:
    kind, namespace, name = said.key
    node, _ = ExternalNode.objects.select_for_update().get_or_create(
        kind=kind, namespace=namespace, name=name, defaults={"first_seen": moment, "last_seen": moment}
    )
    told_at: dict[str, list[str]] = dict(node.facts.get(TOLD_AT, {}))
    facts = {facet: content for facet, content in node.facts.items() if facet != TOLD_AT}
    for facet, content in said.facets.items():
        if stamp > told_at.get(facet, []):
            told_at[facet] = stamp
            facts.pop(facet, None)
            if content is not None:
                facts[facet] = content
    node.facts = {**facts, TOLD_AT: told_at} if told_at else facts
    node.first_seen, node.last_seen = min(node.first_seen, moment), max(node.last_seen, moment)
    if namespace == spec.OURS:
        node.source = _our_source(node)
    node.save(update_fields=["facts", "first_seen", "last_seen", "source"])
    return node


def _edge(upstream: ExternalNode, downstream: ExternalNode, run_id: str, moment: datetime) -> None:
    """That data flowed; ``run_id`` stays the one of the newest event (empty when that was of no run)."""
    edge, created = ExternalEdge.objects.get_or_create(
        upstream=upstream,
        downstream=downstream,
        defaults={"run_id": run_id, "first_seen": moment, "last_seen": moment},
    )
    if created:
        return
    if (moment, run_id) > (edge.last_seen, edge.run_id):
        edge.run_id = run_id
    edge.first_seen, edge.last_seen = min(edge.first_seen, moment), max(edge.last_seen, moment)
    edge.save(update_fields=["run_id", "first_seen", "last_seen"])


def _columns(node: ExternalNode) -> None:
    """Write what the dataset's newest ``columnLineage`` says on the edges that lead to it."""
    if "columnLineage" not in node.facts.get(TOLD_AT, {}):
        return
    made = spec.columns(node.facts.get("columnLineage", {}))
    for edge in node.in_edges.filter(upstream__kind=spec.DATASET).select_related("upstream"):
        told = made.get((spec.DATASET, edge.upstream.namespace, edge.upstream.name), {})
        if edge.columns != told:
            edge.columns = told
            edge.save(update_fields=["columns"])


# ---------------------------------------------------------------------- where the graphs join


def link_source(node: ExternalNode, source: DataSource, *, actor: User, reason: str, now: datetime) -> None:
    """Say that a dataset of another tool is one of our data sources. For the source's owner."""
    if node.kind != spec.DATASET:
        raise InvalidInput({"node": f"{node} is a job; a data source is a dataset."})
    with transaction.atomic():
        locked = _linkable(node, reason)
        _require_owner(actor, source)
        if locked.source_id is not None:
            raise Conflict(f"{node} is {locked.source} already; end that first.")
        _set_source(locked, source)
        record("external_node.linked", locked, actor=actor, reason=reason, data={"source": source.name})
    node.refresh_from_db()


def unlink_source(node: ExternalNode, *, actor: User, reason: str, now: datetime) -> None:
    """Take back that a dataset of another tool is our data source. For the source's owner."""
    with transaction.atomic():
        locked = _linkable(node, reason)
        source = locked.source
        if source is None:
            raise Conflict(f"{node} is none of our data sources.")
        _require_owner(actor, source)
        _set_source(locked, None)
        record("external_node.unlinked", locked, actor=actor, reason=reason, data={"source": source.name})
    node.refresh_from_db()


def _linkable(node: ExternalNode, reason: str) -> ExternalNode:
    if not reason.strip():
        raise InvalidInput({"reason": "Say why: this is the record of the decision."})
    if node.namespace == spec.OURS:
        raise Conflict(f"{node} is of our own namespace: there the name alone says which data source it is.")
    return ExternalNode.objects.select_for_update(of=("self",)).select_related("source").get(pk=node.pk)


def _require_owner(actor: User, source: DataSource) -> None:
    if not actor.groups.filter(pk=source.owner_id).exists():
        raise NotPermitted(f"What {source} is, is said by {source.owner}.")


def _set_source(node: ExternalNode, source: DataSource | None) -> None:
    node.source = source
    node.save(update_fields=["source"])


def _our_source(node: ExternalNode) -> DataSource | None:
    """The data source that a dataset of our own namespace is; a model of the same name is none."""
    kind = node.facts.get("datasetType")
    is_model = isinstance(kind, dict) and kind.get("datasetType") == "MODEL"
    if node.kind != spec.DATASET or is_model:
        return None
    return DataSource.objects.filter(name=node.name).first()


def _join_late() -> None:
    """A data source that was defined after a dataset of its name was told of."""
    lonely = ExternalNode.objects.filter(kind=spec.DATASET, namespace=spec.OURS, source=None)
    for node in lonely.filter(name__in=DataSource.objects.values("name")):
        if (source := _our_source(node)) is not None:
            _set_source(node, source)
