"""A lineage graph as a drawing: a column for each kind of thing, in the order in which things come to be. Pure."""

from __future__ import annotations

from mlops.drawing import NARROW, WIDE, Box, Drawing, draw
from mlops.lineage.graph import Graph, Node

COLUMNS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Other tools", ("external dataset", "external job")),
    ("Sources", ("data source",)),
    ("Feature views", ("feature view", "on-demand transform")),
    ("Feature services", ("feature service",)),
    ("Data and code", ("dataset", "code", "pipeline")),
    ("Training", ("training run", "training")),
    ("Versions", ("model version", "artifact")),
    ("Gates", ("gate run", "policy", "evidence")),
    ("Rollouts", ("rollout",)),
    ("Predictions", ("predictions", "prediction")),
    ("Incidents", ("incident",)),
    ("Loops", ("retraining", "rethink")),
)
FEW = 5
"""Columns that fit on a page with wide boxes."""
ASKED = 4
"""Column of the incident and the retraining that asked for a training run: they came before it."""
_PLACE = {kind: place for place, (_, kinds) in enumerate(COLUMNS) for kind in kinds}
_LATER = ("incident", "retraining")
_NOTED = {
    "model version": "Registered", "dataset": "Period", "gate run": "State", "rollout": "State", "incident": "State",
    "retraining": "State", "rethink": "State", "evidence": "Said", "data source": "Place", "predictions": "From",
    "prediction": "Asked", "policy": "Adopted", "training run": "Trigger", "artifact": "Loaded as",
    "pipeline": "Entry point",
}  # fmt: skip
"""Which fact stands on a box as its second line; else what kind of thing it is."""


def picture(graph: Graph, *, here: str) -> Drawing:
    """``here`` is the key of the thing that was asked about."""
    before_training = _leading_to(graph, "training run")
    columns: list[list[Node]] = [[] for _ in COLUMNS]
    for node in graph.nodes:
        is_asking = node.kind in _LATER and node.key in before_training
        columns[ASKED if is_asking else _PLACE[node.kind]].append(node)
    shown = [(title, [_box(node, here) for node in nodes]) for (title, _), nodes in zip(COLUMNS, columns, strict=True)]
    arrows = [(edge.from_key, edge.to_key) for edge in graph.edges]
    filled = [(title, boxes) for title, boxes in shown if boxes]
    return draw(filled, arrows, size=NARROW if len(filled) > FEW else WIDE)


def _leading_to(graph: Graph, kind: str) -> set[str]:
    """Keys from which an arrow leads, over others, to a thing of this kind."""
    before: dict[str, list[str]] = {}
    for edge in graph.edges:
        before.setdefault(edge.to_key, []).append(edge.from_key)
    front = [node.key for node in graph.of_kind(kind)]
    found: set[str] = set()
    while front:
        for key in before.get(front.pop(), ()):
            if key not in found:
                found.add(key)
                front.append(key)
    return found


def _box(node: Node, here: str) -> Box:
    note = node.kind if node.is_verified else f"{node.kind}, unverified"
    told = dict(node.facts).get(_NOTED.get(node.kind, ""), "")
    return Box(node.key, node.label, node.url, told if told and node.is_verified else note, is_here=node.key == here)
