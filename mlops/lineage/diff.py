"""Two versions side by side: data, features, parameters, code, environment, metrics, gates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from features import reading
from features.models import FeatureServiceFeature, FeatureViewVersion
from gates.models import CheckResult, GateRun
from mlops.lineage.comparing import Change, MetricChange, changes, metrics, packages
from registry.models import ModelVersion


@dataclass(frozen=True)
class FeatureChange:
    """A feature that the two take otherwise: ``kind`` is added, removed or changed (another version of its view or
    transform gives it). ``before`` and ``after`` are what gives it."""

    kind: str
    feature: str
    before: str
    after: str


@dataclass(frozen=True)
class TextChange:
    """A view or transform of which both take another version, and what its text says otherwise."""

    name: str
    before: str
    after: str
    lines: tuple[reading.Line, ...]


@dataclass(frozen=True)
class CheckChange:
    """A check of the last gate run on both sides; None where a side was not asked it."""

    check_id: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


@dataclass(frozen=True)
class VersionDiff:
    """``before`` and ``after`` are the versions' names. In each section every line says whether it is the same."""

    before: str
    after: str
    data: tuple[Change, ...]
    features: tuple[FeatureChange, ...]
    texts: tuple[TextChange, ...]
    parameters: tuple[Change, ...]
    code: tuple[Change, ...]
    environment: tuple[Change, ...]
    metrics: tuple[MetricChange, ...]
    artifact: tuple[Change, ...]
    gates: tuple[CheckChange, ...]

    @property
    def is_same(self) -> bool:
        """Whether nothing that made the one differs from what made the other."""
        sections = (self.data, self.parameters, self.code, self.environment, self.artifact)
        return not self.features and all(each.is_same for section in sections for each in section)

    def as_dict(self) -> dict[str, Any]:
        """Of all but the metrics and the gates only what differs."""
        found: dict[str, Any] = {"before": self.before, "after": self.after, "is_same": self.is_same}
        for name in ("data", "parameters", "code", "environment", "artifact"):
            section: tuple[Change, ...] = getattr(self, name)
            found[name] = [{**asdict(each), "kind": each.kind} for each in section if not each.is_same]
        found["features"] = [asdict(each) for each in self.features]
        found["texts"] = [asdict(each) for each in self.texts]
        found["metrics"] = [
            {**asdict(each), "difference": each.difference, "lie_apart": each.lie_apart} for each in self.metrics
        ]
        found["gates"] = [asdict(each) for each in self.gates]
        return found


def diff(a: ModelVersion, b: ModelVersion) -> VersionDiff:
    """What ``b`` has otherwise than ``a``."""
    before, after = _Taken(a), _Taken(b)
    return VersionDiff(
        before=str(a),
        after=str(b),
        data=changes(_data(a), _data(b)),
        features=_features(before, after),
        texts=_texts(before, after),
        parameters=changes(a.parameters, b.parameters),
        code=changes(_code(a), _code(b)),
        environment=changes(_environment(a), _environment(b)),
        metrics=metrics(a.metrics, b.metrics),
        artifact=changes(_artifact(a), _artifact(b)),
        gates=_gates(a, b),
    )


class _Taken:
    """The features that a version takes, each with what gives it: a version of a view or transform, or the request."""

    def __init__(self, version: ModelVersion) -> None:
        self.views: dict[str, FeatureViewVersion] = {}
        self.transforms: dict[str, Any] = {}
        self.features: dict[str, str] = {}
        service = version.service
        if service is None:
            return
        self.features = dict.fromkeys(service.request_features, "the request")
        pins = FeatureServiceFeature.objects.filter(service=service).select_related("view_version__view")
        for pin in pins.prefetch_related("view_version__sources").order_by("position"):
            self.views[pin.view_version.view.name] = pin.view_version
            self.features[pin.column] = str(pin.view_version)
        for transform in service.pinned_transforms():
            self.transforms[transform.name] = transform
            self.features |= dict.fromkeys(transform.columns, str(transform))


def _features(before: _Taken, after: _Taken) -> tuple[FeatureChange, ...]:
    lines = changes(before.features, after.features)
    return tuple(
        FeatureChange(each.kind, each.name, each.before or "", each.after or "") for each in lines if not each.is_same
    )


def _texts(before: _Taken, after: _Taken) -> tuple[TextChange, ...]:
    found = []
    for name in sorted(before.views.keys() & after.views.keys()):
        old, new = before.views[name], after.views[name]
        if old != new:
            lines = tuple(reading.changes(_definition(old), _definition(new)))
            found.append(TextChange(name, str(old), str(new), lines))
    for name in sorted(before.transforms.keys() & after.transforms.keys()):
        old, new = before.transforms[name], after.transforms[name]
        if old != new:
            said = [reading.Definition(each.code, (), ()) for each in (old, new)]
            found.append(TextChange(name, str(old), str(new), tuple(reading.changes(*said))))
    return tuple(found)


def _definition(version: FeatureViewVersion) -> reading.Definition:
    return reading.definition(version, [source.name for source in version.sources.all()])


def _data(version: ModelVersion) -> dict[str, Any]:
    dataset = version.dataset
    said: dict[str, Any] = {"label": version.label or "unverified", "service": str(version.service or "unverified")}
    if dataset is None:
        return {**said, "digest": "unverified"}
    period = f"{dataset.time_from:%Y-%m-%d} to {dataset.time_to:%Y-%m-%d}" if dataset.time_from else "unknown"
    return {
        **said,
        "digest": dataset.digest,
        "rows": dataset.rows,
        "period": period,
        "as known at": f"{dataset.as_of:%Y-%m-%d %H:%M}",
        "purpose": dataset.purpose,
        "engine": dataset.engine,
    }


def _code(version: ModelVersion) -> dict[str, Any]:
    return {
        "commit": version.commit or "unverified",
        "uncommitted changes": "yes" if version.dirty else "no",
        "digest": version.code_digest or "unverified",
        "seed": "unverified" if version.seed is None else version.seed,
    }


def _environment(version: ModelVersion) -> dict[str, Any]:
    return {**version.environment, **packages(version.environment_lock)}


def _artifact(version: ModelVersion) -> dict[str, Any]:
    return {
        "load class": version.load_class,
        "digest": version.artifact_digest,
        "bytes": version.artifact_bytes,
        "inputs": ", ".join(version.input_columns) or "unverified",
    }


def _gates(a: ModelVersion, b: ModelVersion) -> tuple[CheckChange, ...]:
    """The checks of each version's last gate run, side by side."""
    before, after = _results(a), _results(b)
    return tuple(CheckChange(name, before.get(name), after.get(name)) for name in {**before, **after})


def _results(version: ModelVersion) -> dict[str, Mapping[str, Any]]:
    last = GateRun.objects.filter(version=version).order_by("-number").first()
    if last is None:
        return {}
    rows = CheckResult.objects.filter(gate_run=last).order_by("-blocking", "id")
    wanted = ("verdict", "message", "value", "low", "high", "n", "threshold", "blocking")
    return {row["check_id"]: {name: row[name] for name in wanted} for row in rows.values("check_id", *wanted)}
