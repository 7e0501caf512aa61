"""What followed from a version: its gate runs, rollouts, predictions, and the incidents and loops they led to."""

from __future__ import annotations

from datetime import datetime

from django.db.models import Q

from mlops.lineage import nodes
from mlops.lineage.as_of import periods
from mlops.lineage.graph import Graph, Node, Sketch
from monitoring.models import Incident, Rethink, Retraining
from registry import lineage as described
from registry.models import ModelVersion, TrainingRun


def onwards(version: ModelVersion, *, now: datetime) -> Graph:
    """The graph after a version. Whoever may see the version may see all of it: it is of one model."""
    sketch = Sketch()
    start = nodes.from_tree(described.version_node(version))
    sketch.add(start)
    carriers = _rollouts(sketch, version, start)
    served = _predictions(sketch, version, carriers, start, now)
    _incidents(sketch, version, served or start.key)
    return sketch.graph()


def _rollouts(sketch: Sketch, version: ModelVersion, start: Node) -> dict[str, str]:
    """Gate runs and rollouts. The key of the last rollout of each endpoint."""
    for gate_run in version.gate_runs.select_related("policy", "version__registered_model").order_by("pk"):
        node = nodes.gate_run_node(gate_run)
        sketch.add(node)
        sketch.link(start.key, node.key)
        sketch.add(nodes.policy_node(gate_run.policy), to=node.key)
        for evidence in nodes.evidence_of(gate_run):
            sketch.add(nodes.evidence_node(evidence), to=node.key)
    carriers = {}
    for rollout in version.rollouts.select_related(*nodes.ROLLOUT_PARTS).order_by("pk"):
        node = nodes.rollout_node(rollout)
        sketch.add(node)
        sketch.link(f"gate_run:{rollout.gate_run_id}", node.key)
        carriers[rollout.endpoint.name] = node.key
    return carriers


def _predictions(sketch: Sketch, version: ModelVersion, carriers: dict[str, str], start: Node, now: datetime) -> str:
    """One node for each endpoint and period. The key of the last."""
    last = ""
    for period in periods(version.registered_model.name, version.number, until=now):
        node = nodes.predictions_node(period)
        sketch.add(node)
        sketch.link(carriers.get(period.endpoint, start.key), node.key)
        last = node.key
    return last


def _incidents(sketch: Sketch, version: ModelVersion, before: str) -> None:
    """Incidents of the version, the retrainings that they or the version led to, what those made, and rethinks."""
    rollouts = {f"{kind}:{pk}" for pk in version.rollouts.values_list("pk", flat=True) for kind in nodes.ROLLOUT_CAUSES}
    about = Incident.objects.filter(Q(version=version) | Q(cause_key__in=rollouts)).select_related("owner")
    incidents = list(about.order_by("pk"))
    for incident in incidents:
        node = nodes.incident_node(incident)
        sketch.add(node)
        rollout = nodes.rollout_of(incident)
        sketch.link(f"rollout:{rollout.pk}" if rollout else before, node.key)
    led = Retraining.objects.filter(Q(incident__in=incidents) | Q(champion_before=version))
    retrainings = list(led.select_related("incident").order_by("pk"))
    for retraining in retrainings:
        node = nodes.retraining_node(retraining)
        sketch.add(node)
        sketch.link(f"incident:{retraining.incident_id}" if retraining.incident in incidents else before, node.key)
        _made_by(sketch, retraining)
    _rethinks(sketch, version, retrainings)


def _made_by(sketch: Sketch, retraining: Retraining) -> None:
    """The training runs of a retraining, and their versions."""
    runs = TrainingRun.objects.filter(candidate__retraining=retraining).select_related("pipeline").order_by("pk")
    for run in runs:
        node = nodes.from_tree(described.run_node(run))
        sketch.add(node)
        sketch.link(f"retraining:{retraining.pk}", node.key)
        made = ModelVersion.objects.filter(training_run=run).select_related("registered_model", "registered_by").first()
        if made is not None:
            following = nodes.from_tree(described.version_node(made))
            sketch.add(following)
            sketch.link(node.key, following.key)


def _rethinks(sketch: Sketch, version: ModelVersion, retrainings: list[Retraining]) -> None:
    """Rethinks that look back on these retrainings."""
    ours = {each.pk for each in retrainings}
    rows = Rethink.objects.filter(registered_model=version.registered_model).select_related("decided_by")
    for rethink in rows.order_by("pk"):
        for retraining in nodes.retrainings_before(rethink):
            if retraining.pk in ours:
                node = nodes.rethink_node(rethink)
                sketch.add(node)
                sketch.link(f"retraining:{retraining.pk}", node.key)
