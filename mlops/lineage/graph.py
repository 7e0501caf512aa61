"""The lineage as a graph: nodes with digests and links, edges in the direction in which data and decisions flow. Pure.

Keys name a node for ever and are what a person may ask for: ``version:late-arrival/7``, ``run:12``,
``dataset:<digest>``, ``service:name@3``, ``view:name@2``, ``transform:name@1``, ``source:flights``,
``external:dataset:namespace/name``, ``gate_run:5``, ``rollout:8``, ``incident:3``, ``retraining:2``, ``rethink:1``,
``prediction:endpoint/request_id``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Facts = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Node:
    """One thing. ``url`` is its page ('' where it has none); ``is_verified`` is False where we only have a word for it,
    or nothing."""

    kind: str
    key: str
    label: str
    url: str = ""
    facts: Facts = ()
    is_verified: bool = True

    def as_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "key": self.key,
            "label": self.label,
            "url": self.url,
            "facts": dict(self.facts),
            "is_verified": self.is_verified,
        }


@dataclass(frozen=True)
class Edge:
    """``to_key`` was made of ``from_key``, or followed from it."""

    from_key: str
    to_key: str


@dataclass(frozen=True)
class Graph:
    """Nodes (each key once) and edges between them."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    def of_kind(self, kind: str) -> list[Node]:
        return [node for node in self.nodes if node.kind == kind]

    def __contains__(self, key: object) -> bool:
        return any(node.key == key for node in self.nodes)

    def as_dict(self) -> dict[str, Any]:
        return {
            "nodes": [node.as_dict() for node in self.nodes],
            "edges": [{"from": edge.from_key, "to": edge.to_key} for edge in self.edges],
        }


@dataclass
class Sketch:
    """A graph under construction. What is added again counts once."""

    nodes: dict[str, Node] = field(default_factory=dict)
    edges: dict[Edge, None] = field(default_factory=dict)

    def add(self, node: Node, *, to: str = "") -> bool:
        """Put a node in, with an edge to ``to`` where named. Whether it was new: its own past is drawn once."""
        is_new = node.key not in self.nodes
        self.nodes.setdefault(node.key, node)
        self.link(node.key, to)
        return is_new

    def link(self, from_key: str, to_key: str) -> None:
        if from_key and to_key and from_key != to_key:
            self.edges.setdefault(Edge(from_key, to_key))

    def graph(self) -> Graph:
        """What was drawn; an edge to what is not there is left out."""
        there = [edge for edge in self.edges if edge.from_key in self.nodes and edge.to_key in self.nodes]
        return Graph(tuple(self.nodes.values()), tuple(there))


def joined(graphs: Iterable[Graph]) -> Graph:
    """Several graphs as one."""
    sketch = Sketch()
    for graph in graphs:
        for node in graph.nodes:
            sketch.add(node)
        for edge in graph.edges:
            sketch.edges.setdefault(edge)
    return sketch.graph()
