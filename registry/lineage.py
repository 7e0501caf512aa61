"""What a version was made from, as a tree for pages and the API. What nobody verified says so.

The whole graph (``mlops.lineage``) is drawn from the same nodes: what is said of a dataset or a view is said here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from features.models import Dataset, DataSource, FeatureService, FeatureViewVersion, OnDemandTransform
from registry import measured
from registry.models import ModelVersion, TrainingRun


@dataclass(frozen=True)
class Node:
    """One thing in the lineage. ``facts`` are name and value for a person; ``is_verified`` is False where we only have
    somebody's word, or nothing. ``key`` names it in the graph; '' where there is nothing to name."""

    kind: str
    label: str
    facts: tuple[tuple[str, str], ...] = ()
    is_verified: bool = True
    parts: tuple[Node, ...] = field(default=())
    key: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "label": self.label,
            "key": self.key,
            "facts": dict(self.facts),
            "is_verified": self.is_verified,
            "parts": [part.as_dict() for part in self.parts],
        }


def trace(version: ModelVersion) -> Node:
    """The version with its artifact, code, training run, dataset, features and their sources."""
    parts = (
        _artifact(version),
        _code(version),
        _training(version.training_run, version),
        dataset_node(version.dataset),
        service_node(version.service),
        _lock(version),
        _measured(version),
        _registrant(version),
    )
    return replace(version_node(version), parts=parts)


def version_node(version: ModelVersion) -> Node:
    """The version alone, without what it was made from."""
    by = version.registered_by.get_username() if version.registered_by else version.registered_with or "the system"
    facts = (
        ("Registered", f"{version.registered_at:%Y-%m-%d %H:%M} by {by}"),
        ("Content", version.content_digest),
        ("Manifest", version.manifest_digest or "unverified"),
        ("Label", version.label or "unverified"),
        ("Environment", _environment(version)),
    )
    return Node("model version", str(version), facts, key=f"version:{version.registered_model.name}/{version.number}")


def _lock(version: ModelVersion) -> Node:
    if not version.environment_lock:
        return _missing("environment", "Nobody said in which environment it was made.")
    packages = [line for line in version.environment_lock.splitlines() if "==" in line]
    digest = hashlib.sha256(version.environment_lock.encode()).hexdigest()
    facts = (("SHA-256 of the lock", digest), ("Packages", str(len(packages))))
    # of our own runs we know the interpreter; what a pipeline sends is its word
    return Node("environment", f"{len(packages)} packages", facts, is_verified=version.training_run is not None)


def _measured(version: ModelVersion) -> Node:
    stated = measured.measures(version.metrics)
    if not stated:
        return _missing("metrics", "Nobody said how good it was.")
    facts = tuple(
        (each.name, str(each) if each.is_verifiable else f"{each} (unverified: {each.missing})") for each in stated
    )
    verifiable = sum(each.is_verifiable for each in stated)
    label = f"{len(stated)} numbers, {verifiable} with an interval and a dataset"
    return Node("metrics", label, facts, is_verified=verifiable == len(stated))


def _registrant(version: ModelVersion) -> Node:
    """Who registered it is our own knowledge; what they said of themselves is shown as their word."""
    claims = tuple((f"{name} (claimed)", str(said)) for name, said in sorted(version.claims.items()))
    who = version.registered_by.get_username() if version.registered_by else "Gatehouse itself"
    facts = (("Credential", version.registered_with or "not recorded"), *claims)
    return Node("registrant", who, facts)


def _environment(version: ModelVersion) -> str:
    if version.environment_lock:
        return f"lock of {len(version.environment_lock.splitlines())} lines"
    return f"{len(version.environment)} facts, no lock" if version.environment else "unverified"


def _missing(kind: str, why: str) -> Node:
    return Node(kind, why, is_verified=False)


def _artifact(version: ModelVersion) -> Node:
    facts = (
        ("SHA-256", version.artifact_digest),
        ("Size", f"{version.artifact_bytes} bytes"),
        ("Loaded as", version.get_load_class_display()),
    )
    return Node("artifact", version.artifact_name, facts, key=f"artifact:{version.artifact_digest}")


def _code(version: ModelVersion) -> Node:
    if not version.code_digest and not version.commit:
        return _missing("code", "Nobody said which code made it.")
    facts = (
        ("Commit", version.commit or "unknown"),
        ("Uncommitted changes", "yes" if version.dirty else "no"),
        ("SHA-256 of the files", version.code_digest or "unknown"),
    )
    # The digest of a training run is our own; what a pipeline sends with a version is its word.
    label, key = version.commit[:12] or version.code_digest[:12], f"code:{version.code_digest or version.commit}"
    return Node("code", label, facts, is_verified=_is_ours(version), key=key)


def _is_ours(version: ModelVersion) -> bool:
    return version.training_run is not None and bool(version.code_digest)


def _training(run: TrainingRun | None, version: ModelVersion) -> Node:
    parameters = tuple((name, str(value)) for name, value in sorted(version.parameters.items()))
    seed = (("seed", str(version.seed)),) if version.seed is not None else ()
    if run is None:
        return Node("training", "Trained outside Gatehouse.", parameters + seed, is_verified=False)
    node = run_node(run)
    return replace(node, facts=node.facts + parameters + seed, parts=(_pipeline(run),))


def run_node(run: TrainingRun) -> Node:
    """A training run alone."""
    facts = (
        ("Trigger", run.trigger),
        ("Window", str(run.window.get("name", ""))),
        ("Requested", f"{run.requested_at:%Y-%m-%d %H:%M}"),
        ("Duration", f"{run.wall_seconds:.1f} s" if run.wall_seconds is not None else "unknown"),
    )
    return Node("training run", str(run), facts, key=f"run:{run.pk}")


def _pipeline(run: TrainingRun) -> Node:
    pipeline = run.pipeline
    facts = (("Entry point", pipeline.entry_point), ("Code", pipeline.code_path))
    return Node("pipeline", str(pipeline), facts, key=f"pipeline:{pipeline}")


def dataset_node(dataset: Dataset | None) -> Node:
    """A dataset alone."""
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
    return Node("dataset", str(dataset), facts, key=f"dataset:{dataset.digest}")


def service_node(service: FeatureService | None) -> Node:
    """A feature service with its views, their sources, and its transforms."""
    if service is None:
        return _missing("feature service", "Nobody said which features it takes.")
    pinned = service.features.select_related("view_version__view").prefetch_related("view_version__sources__owner")
    names: dict[Any, list[str]] = {}
    for each in pinned:
        names.setdefault(each.view_version, []).append(each.feature)
    request = (("With the request", ", ".join(service.request_features) or "nothing"),)
    views = tuple(view_node(view_version, features) for view_version, features in names.items())
    computed = tuple(transform_node(each) for each in service.pinned_transforms())
    return Node("feature service", str(service), request, parts=(*views, *computed), key=f"service:{service}")


def transform_node(on_demand: OnDemandTransform) -> Node:
    """An on-demand transform alone."""
    facts = (
        ("Features", ", ".join(each["name"] for each in on_demand.features)),
        ("Computed of", ", ".join(on_demand.inputs)),
        ("Meaning", on_demand.content_hash),
    )
    return Node("on-demand transform", str(on_demand), facts, key=f"transform:{on_demand}")


def view_node(view_version: FeatureViewVersion, features: Sequence[str]) -> Node:
    """A version of a feature view with its sources; ``features`` are those that matter here."""
    facts = (("Features", ", ".join(features)), ("Meaning", view_version.content_hash))
    sources = tuple(source_node(source) for source in view_version.sources.all())
    return Node("feature view", str(view_version), facts, parts=sources, key=f"view:{view_version}")


def source_node(source: DataSource) -> Node:
    """A data source alone."""
    facts = (("Place", source.uri), ("Owner", str(source.owner)))
    return Node("data source", source.name, facts, key=f"source:{source.name}")
