"""What a version was made from, as a tree for pages and the API. What nobody verified says so."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from features.models import Dataset, FeatureService, OnDemandTransform
from registry.models import ModelVersion, TrainingRun


@dataclass(frozen=True)
class Node:
    """One thing in the lineage. ``facts`` are name and value for a person; ``is_verified`` is False where we only have
    somebody's word, or nothing."""

    kind: str
    label: str
    facts: tuple[tuple[str, str], ...] = ()
    is_verified: bool = True
    parts: tuple[Node, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "label": self.label,
            "facts": dict(self.facts),
            "is_verified": self.is_verified,
            "parts": [part.as_dict() for part in self.parts],
        }


def trace(version: ModelVersion) -> Node:
    """The version with its artifact, code, training run, dataset, features and their sources."""
    facts = (("Registered", f"{version.registered_at:%Y-%m-%d %H:%M}"), ("Content", version.content_digest))
    parts = (
        _artifact(version),
        _code(version),
        _training(version.training_run, version),
        _dataset(version.dataset),
        _service(version.service),
    )
    return Node("model version", str(version), facts, parts=parts)


def _missing(kind: str, why: str) -> Node:
    return Node(kind, why, is_verified=False)


def _artifact(version: ModelVersion) -> Node:
    facts = (
        ("SHA-256", version.artifact_digest),
        ("Size", f"{version.artifact_bytes} bytes"),
        ("Loaded as", version.get_load_class_display()),
    )
    return Node("artifact", version.artifact_name, facts)


def _code(version: ModelVersion) -> Node:
    if not version.code_digest and not version.commit:
        return _missing("code", "Nobody said which code made it.")
    facts = (
        ("Commit", version.commit or "unknown"),
        ("Uncommitted changes", "yes" if version.dirty else "no"),
        ("SHA-256 of the files", version.code_digest or "unknown"),
    )
    # The digest of a training run is our own; what a pipeline sends with a version is its word.
    return Node("code", version.commit[:12] or version.code_digest[:12], facts, is_verified=_is_ours(version))


def _is_ours(version: ModelVersion) -> bool:
    return version.training_run is not None and bool(version.code_digest)


def _training(run: TrainingRun | None, version: ModelVersion) -> Node:
    parameters = tuple((name, str(value)) for name, value in sorted(version.parameters.items()))
    seed = (("seed", str(version.seed)),) if version.seed is not None else ()
    if run is None:
        return Node("training", "Trained outside Gatehouse.", parameters + seed, is_verified=False)
    facts = (
        ("Trigger", run.trigger),
        ("Window", str(run.window.get("name", ""))),
        ("Requested", f"{run.requested_at:%Y-%m-%d %H:%M}"),
        ("Duration", f"{run.wall_seconds:.1f} s" if run.wall_seconds is not None else "unknown"),
    )
    return Node("training run", str(run), facts + parameters + seed, parts=(_pipeline(run),))


def _pipeline(run: TrainingRun) -> Node:
    pipeline = run.pipeline
    return Node("pipeline", str(pipeline), (("Entry point", pipeline.entry_point), ("Code", pipeline.code_path)))


def _dataset(dataset: Dataset | None) -> Node:
    if dataset is None:
        return _missing("dataset", "Nobody said which data it learned from.")
    period = f"{dataset.time_from:%Y-%m-%d} to {dataset.time_to:%Y-%m-%d}" if dataset.time_from else "unknown"
    facts = (
        ("SHA-256", dataset.digest),
        ("Rows", str(dataset.rows)),
        ("Period", period),
        ("As known at", f"{dataset.as_of:%Y-%m-%d %H:%M}"),
        ("Made by", dataset.engine),
    )
    return Node("dataset", str(dataset), facts)


def _service(service: FeatureService | None) -> Node:
    if service is None:
        return _missing("feature service", "Nobody said which features it takes.")
    pinned = service.features.select_related("view_version__view").prefetch_related("view_version__sources")
    names: dict[Any, list[str]] = {}
    for each in pinned:
        names.setdefault(each.view_version, []).append(each.feature)
    request = (("With the request", ", ".join(service.request_features) or "nothing"),)
    views = tuple(_view(view_version, features) for view_version, features in names.items())
    computed = tuple(_transform(each) for each in service.pinned_transforms())
    return Node("feature service", str(service), request, parts=(*views, *computed))


def _transform(on_demand: OnDemandTransform) -> Node:
    facts = (
        ("Features", ", ".join(each["name"] for each in on_demand.features)),
        ("Computed of", ", ".join(on_demand.inputs)),
        ("Meaning", on_demand.content_hash),
    )
    return Node("on-demand transform", str(on_demand), facts)


def _view(view_version: Any, features: list[str]) -> Node:
    facts = (("Features", ", ".join(features)), ("Meaning", view_version.content_hash))
    sources = tuple(Node("data source", source.name, (("Place", source.uri),)) for source in view_version.sources.all())
    return Node("feature view", str(view_version), facts, parts=sources)
