"""What lies before our data sources: datasets and jobs of other tools, as they told us (OpenLineage)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from mlops.lineage.graph import Node, Sketch
from registry.models import ExternalEdge, ExternalKind, ExternalNode

MOST = 400
"""Nodes of a graph that come from other tools."""
ANY = "*"


def external_key(node: ExternalNode) -> str:
    return f"external:{node.kind}:{node.namespace}/{node.name}"


def external_node(node: ExternalNode) -> Node:
    """Other tools' word: shown as unverified."""
    schema = node.facts.get("schema", {}).get("fields", ())
    facts = (
        ("Namespace", node.namespace),
        ("Told first", f"{node.first_seen:%Y-%m-%d %H:%M}"),
        ("Told last", f"{node.last_seen:%Y-%m-%d %H:%M}"),
        ("Columns", ", ".join(str(each.get("name", "")) for each in schema) or "not told"),
    )
    return Node(f"external {node.kind}", external_key(node), node.name, facts=facts, is_verified=False)


def draw_before(sketch: Sketch, nodes: Iterable[ExternalNode]) -> None:
    """Draw everything from which data flowed to these nodes, nearest first. The nodes are drawn already."""
    _walk(sketch, nodes, "downstream", lambda edge: edge.upstream)


def _walk(
    sketch: Sketch, nodes: Iterable[ExternalNode], side: str, other: Callable[[ExternalEdge], ExternalNode]
) -> None:
    edges = ExternalEdge.objects.select_related("upstream", "downstream").order_by("pk")
    front = {node.pk for node in nodes}
    seen = set(front)
    while front and len(seen) < MOST:
        found = list(edges.filter(**{f"{side}__in": front})[:MOST])
        front = set()
        for edge in found:
            reached = other(edge)
            sketch.add(external_node(reached))
            sketch.link(external_key(edge.upstream), external_key(edge.downstream))
            if reached.pk not in seen:
                front.add(reached.pk)
                seen.add(reached.pk)


@dataclass(frozen=True)
class Reached:
    """One of our sources that external data flows into; ``column`` None: which column of it was not told."""

    source: str
    column: str | None
    steps: tuple[str, ...]


def sources_after(start: ExternalNode, column: str | None) -> list[Reached]:
    """The sources that a dataset of another tool (or one column of it) flows into.

    A column is followed where the tools told columns; where they did not, all that flows on may hold it.
    """
    onward = _flows()
    found: dict[tuple[str, str | None], Reached] = {}
    paths: dict[tuple[int, str | None], tuple[str, ...]] = {(start.pk, column): (_named(start, column),)}
    front = [(start, column)]
    while front and len(paths) < MOST:
        node, asked = front.pop(0)
        steps = paths[node.pk, asked]
        if node.source is not None:
            found.setdefault((node.source.name, asked), Reached(node.source.name, asked, steps))
        for reached, taken in _after(onward.get(node.pk, ()), asked):
            if (reached.pk, taken) not in paths:
                paths[reached.pk, taken] = (*steps, _named(reached, taken))
                front.append((reached, taken))
    return list(found.values())


def _flows() -> Mapping[int, list[tuple[ExternalNode, Mapping[str, list[str]]]]]:
    """From each dataset to the datasets after it, with columns where told; a job between two is stepped over."""
    edges = list(ExternalEdge.objects.select_related("upstream", "downstream__source").order_by("pk"))
    outputs: dict[int, list[ExternalNode]] = {}
    told: dict[tuple[int, int], tuple[ExternalNode, Mapping[str, list[str]]]] = {}
    for edge in edges:
        if edge.upstream.kind == ExternalKind.JOB:
            outputs.setdefault(edge.upstream_id, []).append(edge.downstream)
        elif edge.downstream.kind == ExternalKind.DATASET:
            told[edge.upstream_id, edge.downstream_id] = (edge.downstream, edge.columns)
    for edge in edges:
        for output in outputs.get(edge.downstream_id, ()) if edge.downstream.kind == ExternalKind.JOB else ():
            told.setdefault((edge.upstream_id, output.pk), (output, {}))
    flows: dict[int, list[tuple[ExternalNode, Mapping[str, list[str]]]]] = {}
    for (start, _), flow in told.items():
        flows.setdefault(start, []).append(flow)
    return flows


def _after(
    flows: Iterable[tuple[ExternalNode, Mapping[str, list[str]]]], column: str | None
) -> Iterable[tuple[ExternalNode, str | None]]:
    for reached, columns in flows:
        if column is None or not columns:
            yield reached, None
            continue
        for output, inputs in columns.items():
            if column.lower() in (each.lower() for each in inputs) or ANY in inputs:
                yield reached, None if output == ANY else output


def _named(node: ExternalNode, column: str | None) -> str:
    return f"{node.name}.{column}" if column else node.name
