"""From a prediction, a version, an incident or anything else back to everything it was made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.contrib.auth.models import User
from django.db.models import QuerySet

from audit.errors import InvalidInput, NotFound
from features.models import Dataset, DataSource, FeatureService, FeatureViewVersion, OnDemandTransform
from gates.models import GateRun
from mlops.lineage import nodes
from mlops.lineage.addresses import identity, parted, pinned
from mlops.lineage.graph import Graph, Node, Sketch
from mlops.lineage.upstream import draw_before, external_node
from mlops.predictions import answered_by, rollout_of
from monitoring.models import Candidate, Incident, Rethink, Retraining
from monitoring.sight import visible_incidents
from registry import lineage as described
from registry.models import ExternalNode, ModelVersion, RegisteredModel, TrainingRun
from registry.sight import visible_services
from rollout import prediction_log
from rollout.models import Endpoint, Rollout

VERSION_PARTS = (
    "registered_model", "service", "dataset__service", "training_run__pipeline__service", "training_run__dataset",
    "registered_by",
)  # fmt: skip


def backwards(key: str, *, reader: User) -> Graph:
    """Everything that the thing of this key was made from, up to the sources and what other tools told of them.

    Raises InvalidInput for a key that is none, NotFound for a thing that is not there or not the reader's to see.
    """
    kind, name = parted(key)
    past = _Past(reader)
    _START[kind](past, name)
    return past.sketch.graph()


def past_of(version: ModelVersion, *, reader: User) -> Graph:
    """``backwards`` of a version that the caller has found already."""
    past = _Past(reader)
    past.version(version)
    return past.sketch.graph()


class _Past:
    """Draws things with what was before them; each is followed once."""

    def __init__(self, reader: User) -> None:
        self.reader = reader
        self.sketch = Sketch()
        self.models: QuerySet[RegisteredModel] = RegisteredModel.objects.visible_to(reader)

    # ------------------------------------------------------------------ where somebody may start

    def from_version(self, name: str) -> None:
        model, number = pinned("version", name)
        rows = self._versions().filter(registered_model__name=model, number=number)
        self.version(_there(rows, f"version {name}"))

    def from_prediction(self, name: str) -> None:
        endpoint_name, _, request_id = name.partition("/")
        if not request_id:
            raise InvalidInput({"of": "A prediction is named like prediction:delay-warning/<request id>."})
        endpoints = Endpoint.objects.filter(registered_model__in=self.models)
        endpoint = _there(endpoints.filter(name=endpoint_name), f"endpoint {endpoint_name}")
        row = prediction_log.find(endpoint.name, request_id)
        if row is None:
            raise NotFound(f"{endpoint_name} logged no prediction {request_id}.")
        self.prediction(endpoint, row)

    def from_incident(self, name: str) -> None:
        rows = visible_incidents(self.reader).filter(pk=identity("incident", name))
        self.incident(_there(rows.select_related("registered_model", "owner"), f"incident {name}"))

    def from_run(self, name: str) -> None:
        rows = TrainingRun.objects.filter(registered_model__in=self.models, pk=identity("run", name))
        self.run(_there(rows.select_related("pipeline__service", "dataset__service"), f"training run {name}"))

    def from_dataset(self, name: str) -> None:
        mine = Dataset.objects.filter(service__in=visible_services(self.reader))
        rows = mine.filter(digest=name) if len(name) == 64 else mine.none()
        self.dataset(_there(rows.select_related("service"), f"dataset {name}"))

    def from_service(self, name: str) -> None:
        service, number = pinned("service", name)
        self.service(_there(FeatureService.objects.filter(name=service, number=number), f"service {name}"))

    def from_view(self, name: str) -> None:
        view, number = pinned("view", name)
        rows = FeatureViewVersion.objects.filter(view__name=view, number=number).select_related("view")
        version = _there(rows.prefetch_related("sources__owner"), f"feature view {name}")
        self.tree(described.view_node(version, version.feature_names))

    def from_transform(self, name: str) -> None:
        transform, number = pinned("transform", name)
        rows = OnDemandTransform.objects.filter(name=transform, number=number)
        self.tree(described.transform_node(_there(rows, f"on-demand transform {name}")))

    def from_source(self, name: str) -> None:
        rows = DataSource.objects.filter(name=name).select_related("owner")
        self.tree(described.source_node(_there(rows, f"source {name}")))

    def from_external(self, name: str) -> None:
        external = found_external(f"external:{name}")
        self.sketch.add(external_node(external))
        draw_before(self.sketch, [external])

    def from_gate_run(self, name: str) -> None:
        rows = GateRun.objects.filter(registered_model__in=self.models, pk=identity("gate_run", name))
        self.gate_run(_there(rows.select_related("policy", "version__registered_model"), f"gate run {name}"))

    def from_rollout(self, name: str) -> None:
        rows = Rollout.objects.filter(registered_model__in=self.models, pk=identity("rollout", name))
        self.rollout(_there(rows.select_related(*nodes.ROLLOUT_PARTS), f"rollout {name}"))

    def from_retraining(self, name: str) -> None:
        rows = Retraining.objects.filter(registered_model__in=self.models, pk=identity("retraining", name))
        self.retraining(_there(rows.select_related("incident", "champion_before"), f"retraining {name}"))

    def from_rethink(self, name: str) -> None:
        rows = Rethink.objects.filter(registered_model__in=self.models, pk=identity("rethink", name))
        rethink = _there(rows.select_related("registered_model"), f"rethink {name}")
        key = self._add(nodes.rethink_node(rethink))
        for retraining in nodes.retrainings_before(rethink):
            self.retraining(retraining, to=key)

    # ------------------------------------------------------------------ what was before what

    def prediction(self, endpoint: Endpoint, row: Mapping[str, Any]) -> None:
        """The version that answered it, and the rollout through which that came to the endpoint."""
        key = self._add(nodes.prediction_node(endpoint, row))
        answered = answered_by(row, rollout_of(endpoint, row["salt"]))
        version = None
        if answered is not None:
            version = self._versions().filter(pk=answered).first()
        if version is None:
            self._add(nodes.nobody(key, "model version", nodes.why_unanswered(answered)), to=key)
            return
        came = nodes.rollout_before(endpoint, version, row["at"])
        if came is None:
            self.version(version, to=key)
        else:
            self.rollout(came, to=key)

    def version(self, version: ModelVersion, *, to: str = "") -> None:
        node = described.trace(version)
        is_new = self.sketch.add(_plain(node), to=to)
        if not is_new:
            return
        parts = {part.kind: part for part in node.parts}
        run, dataset, service = version.training_run, version.dataset, version.service
        for kind in ("artifact", "code"):
            self.tree(parts[kind], to=node.key)
        run_key = self.tree(parts["training run" if run else "training"], to=node.key)
        # an edge runs from what was made first: service, dataset, run, version
        dataset_key = self.tree(parts["dataset"], to=run_key if run is not None and run.dataset_id else node.key)
        self.tree(parts["feature service"], to=dataset_key if dataset and service else node.key)
        if run is not None:
            self._asked_for(run, run_key)

    def run(self, run: TrainingRun, *, to: str = "") -> None:
        key = self._add(_plain(described.run_node(run)), to=to)
        if run.dataset is not None:
            self.dataset(run.dataset, to=key)
        else:
            self.service(run.pipeline.service, to=key)
        self._asked_for(run, key)

    def dataset(self, dataset: Dataset, *, to: str = "") -> None:
        self.service(dataset.service, to=self._add(_plain(described.dataset_node(dataset)), to=to))

    def service(self, service: FeatureService, *, to: str = "") -> None:
        self.tree(described.service_node(service), to=to)

    def gate_run(self, gate_run: GateRun, *, to: str = "") -> None:
        key = self._add(nodes.gate_run_node(gate_run), to=to)
        self._add(nodes.policy_node(gate_run.policy), to=key)
        for evidence in nodes.evidence_of(gate_run):
            self._add(nodes.evidence_node(evidence), to=key)
        self.version(self._versions().get(pk=gate_run.version_id), to=key)

    def rollout(self, rollout: Rollout, *, to: str = "") -> None:
        key = self._add(nodes.rollout_node(rollout), to=to)
        self.gate_run(rollout.gate_run, to=key)

    def incident(self, incident: Incident, *, to: str = "") -> None:
        """What it is about: the rollout that caused it, or its version, or the source or view that is named."""
        key = self._add(nodes.incident_node(incident), to=to)
        rollout = nodes.rollout_of(incident)
        if rollout is not None:
            self.rollout(rollout, to=key)
        elif incident.version_id is not None:
            self.version(self._versions().get(pk=incident.version_id), to=key)
        for tree in nodes.named_by(incident):
            self.tree(tree, to=key)

    def retraining(self, retraining: Retraining, *, to: str = "") -> None:
        key = self._add(nodes.retraining_node(retraining), to=to)
        if retraining.incident is not None:
            self.incident(retraining.incident, to=key)
        elif retraining.champion_before_id is not None:
            self.version(self._versions().get(pk=retraining.champion_before_id), to=key)

    def tree(self, node: described.Node, *, to: str = "") -> str:
        """A described thing with its parts; of a data source also what other tools told. Its key."""
        key = node.key or nodes.nobody(to, node.kind, node.label).key
        is_new = self.sketch.add(_plain(node, key=key), to=to)
        if is_new:
            for part in node.parts:
                self.tree(part, to=key)
            if node.kind == "feature service":
                self._link_transforms(node)
            if node.kind == "data source":
                self._before_source(node.label, key)
        return key

    def _link_transforms(self, service: described.Node) -> None:
        """A transform is computed of the views whose features it takes."""
        views = {part.label.partition("@")[0]: part.key for part in service.parts if part.kind == "feature view"}
        for part in service.parts:
            if part.kind == "on-demand transform":
                for column in dict(part.facts)["Computed of"].split(", "):
                    self.sketch.link(views.get(column.partition("__")[0], ""), part.key)

    def _before_source(self, source: str, key: str) -> None:
        externals = list(ExternalNode.objects.filter(source__name=source))
        for external in externals:
            self._add(external_node(external), to=key)
        draw_before(self.sketch, externals)

    def _asked_for(self, run: TrainingRun, key: str) -> None:
        """Why it was trained. The incident's own past is another version's: its key leads there."""
        candidate = Candidate.objects.filter(training_run=run).select_related("retraining__incident").first()
        if candidate is None:
            return
        retraining = self._add(nodes.retraining_node(candidate.retraining), to=key)
        if candidate.retraining.incident is not None:
            self._add(nodes.incident_node(candidate.retraining.incident), to=retraining)

    def _add(self, node: Node, *, to: str = "") -> str:
        self.sketch.add(node, to=to)
        return node.key

    def _versions(self) -> QuerySet[ModelVersion]:
        return ModelVersion.objects.filter(registered_model__in=self.models).select_related(*VERSION_PARTS)


_START: Mapping[str, Callable[[_Past, str], None]] = {
    "version": _Past.from_version,
    "prediction": _Past.from_prediction,
    "incident": _Past.from_incident,
    "run": _Past.from_run,
    "dataset": _Past.from_dataset,
    "service": _Past.from_service,
    "view": _Past.from_view,
    "transform": _Past.from_transform,
    "source": _Past.from_source,
    "external": _Past.from_external,
    "gate_run": _Past.from_gate_run,
    "rollout": _Past.from_rollout,
    "retraining": _Past.from_retraining,
    "rethink": _Past.from_rethink,
}


def found_external(key: str) -> ExternalNode:
    """The node of ``external:dataset:namespace/name``; a namespace may hold slashes. Raises NotFound."""
    _, _, rest = key.partition(":")
    kind, _, place = rest.partition(":")
    rows = ExternalNode.objects.filter(kind=kind).select_related("source")
    slashes = [at for at, letter in enumerate(place) if letter == "/"]
    for at in reversed(slashes):
        found = rows.filter(namespace=place[:at], name=place[at + 1 :]).first()
        if found is not None:
            return found
    raise NotFound(f"No tool has told of {key}.")


def _there(rows: QuerySet[Any], what: str) -> Any:
    row = rows.first()
    if row is None:
        raise NotFound(f"There is no {what}, or it is not yours to see.")
    return row


def _plain(node: described.Node, *, key: str = "") -> Node:
    return nodes.from_tree(node, key=key)
