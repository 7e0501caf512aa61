"""What a model's versions must prove: the policy document and its checks, validated. Stored as JSON, never edited.

A check compares a measured number with a bar. ``use`` says which number of its interval has to clear the bar:

* ``point``: the estimate itself, as if it were exact;
* the *bad* side of the interval (``lower_bound`` under ``at_least``, ``upper_bound`` under ``at_most``): the version
  has to prove that it clears the bar. Clearly short of it is failed, in between is inconclusive: more rows are needed;
* the *good* side: the benefit of the doubt. Failed only when clearly short of the bar.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from stats.metrics import METRICS

Use = Literal["point", "lower_bound", "upper_bound"]
CiKind = Literal["lint", "unit", "integration"]
MetricName = Literal["roc_auc", "brier", "log_loss", "accuracy", "precision", "recall", "mae", "rmse"]
PairedMetricName = Literal["roc_auc", "brier", "log_loss", "accuracy", "mae"]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Confidence = Annotated[float, Field(gt=0.5, lt=1.0)]
CheckId = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,59}$")]


class PolicyError(ValueError):
    """A document that is no policy; ``errors`` maps the path of each wrong value to what is wrong with it."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        self.errors = dict(errors)
        super().__init__("; ".join(f"{path}: {text}" for path, text in self.errors.items()))


class Strict(BaseModel):
    """Unknown keys are errors: a misspelt threshold must never turn a gate into a pass."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Check(Strict):
    """What every check has. ``blocking``: only then does it stop a version; otherwise it is only reported."""

    id: CheckId
    blocking: bool = True

    def rule(self) -> str:
        """The rule in words, for a person."""
        raise NotImplementedError


class Bar(Check):
    """A check with one bar, above or below which the measured number has to lie."""

    at_least: float | None = None
    at_most: float | None = None
    use: Use = "point"
    confidence: Confidence = 0.95

    @model_validator(mode="after")
    def _one_bar(self) -> Self:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("give exactly one of at_least and at_most")
        return self

    def _bar(self) -> str:
        sign, bar = ("≥", self.at_least) if self.at_least is not None else ("≤", self.at_most)
        side = "" if self.use == "point" else f" ({self.use.replace('_', ' ')}, {self.confidence:.0%})"
        return f"{sign} {bar:g}{side}"


class MetricCheck(Bar):
    """A quality metric of the version alone, on the holdout."""

    kind: Literal["metric"] = "metric"
    metric: MetricName
    minimum_rows: int = Field(default=1000, ge=1)

    @model_validator(mode="after")
    def _right_direction(self) -> Self:
        better_when_greater = METRICS[self.metric].greater_is_better
        if better_when_greater and self.at_least is None:
            raise ValueError(f"{self.metric} is better when it is greater: use at_least")
        if not better_when_greater and self.at_most is None:
            raise ValueError(f"{self.metric} is better when it is smaller: use at_most")
        return self

    def rule(self) -> str:
        return f"{self.metric} {self._bar()}"


class VersusChampionCheck(Check):
    """The version against the champion on the same rows; it may be worse by no more than ``not_worse_by``."""

    kind: Literal["versus_champion"] = "versus_champion"
    metric: PairedMetricName
    not_worse_by: float = Field(ge=0.0, description="In the metric's own unit; 0.01 of AUC is one point.")
    confidence: Confidence = 0.95
    minimum_rows: int = Field(default=1000, ge=1)

    def rule(self) -> str:
        return f"{self.metric} not worse than the champion by {self.not_worse_by:g} ({self.confidence:.0%})"


FairnessMeasure = Literal[
    "equal_opportunity_difference",
    "demographic_parity_difference",
    "demographic_parity_ratio",
    "equalized_odds_difference",
]


class FairnessCheck(Bar):
    """The largest difference between groups, in decisions taken at the policy's threshold."""

    kind: Literal["fairness"] = "fairness"
    measure: FairnessMeasure = "equal_opportunity_difference"
    by: str = Field(min_length=1, description="Column of the requests that names the group.")
    minimum_group: int = Field(default=200, ge=1)
    minimum_positives: int = Field(default=30, ge=1)

    @model_validator(mode="after")
    def _right_direction(self) -> Self:
        if (self.measure == "demographic_parity_ratio") != (self.at_least is not None):
            raise ValueError("a ratio takes at_least (0.8 is the four-fifths rule), a difference takes at_most")
        return self

    def rule(self) -> str:
        return f"{self.measure} by {self.by} {self._bar()}"


class LatencyCheck(Check):
    """How long one single-row answer takes, measured in the sandbox. At least one limit, in milliseconds.

    ``calls`` are timed at most, and no longer than ``budget_seconds`` in all. ``drift_tolerance``: the medians of the
    first and the second half may differ by this share; beyond it the machine was too unsteady to judge.
    """

    kind: Literal["latency"] = "latency"
    p50_ms: float | None = Field(default=None, gt=0)
    p95_ms: float | None = Field(default=None, gt=0)
    confidence: Confidence = 0.9
    calls: int = Field(default=100, ge=1, le=5000)
    minimum_calls: int = Field(default=8, ge=1)
    budget_seconds: float = Field(default=2.5, gt=0, le=60)
    drift_tolerance: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _some_limit(self) -> Self:
        if self.p50_ms is None and self.p95_ms is None:
            raise ValueError("give at least one of p50_ms and p95_ms")
        return self

    def rule(self) -> str:
        limits = (("p50", self.p50_ms), ("p95", self.p95_ms))
        return "one row in " + ", ".join(f"{name} ≤ {limit:g} ms" for name, limit in limits if limit is not None)


class DataQualityCheck(Check):
    """The holdout's features against the training dataset's: shares of rows, the worst column counts.

    It is there for broken data. That the world moves on (a warmer month, a new year) is drift, the monitors' business:
    hence the margin, and ``ignore`` for columns that only ever grow.
    A value is out of range when it lies beyond the training range by more than ``range_margin`` of the range's width.
    """

    kind: Literal["data_quality"] = "data_quality"
    null_increase: Share = 0.2
    out_of_range: Share = 0.05
    range_margin: float = Field(default=0.5, ge=0.0)
    unseen: Share = 0.02
    duplicates: Share = 0.0
    key: str = Field(default="request_id", min_length=1)
    ignore: tuple[str, ...] = ()
    minimum_rows: int = Field(default=200, ge=1)

    def rule(self) -> str:
        return (
            f"nulls +{self.null_increase:.1%}, out of range {self.out_of_range:.1%}, unseen {self.unseen:.1%}, "
            f"duplicates {self.duplicates:.1%} at most"
        )


class TrainingDataCheck(Check):
    """The training dataset ends before the holdout starts, is large enough and not too old."""

    kind: Literal["training_data"] = "training_data"
    minimum_rows: int = Field(default=1000, ge=1)
    maximum_age_days: int | None = Field(default=None, ge=1)

    def rule(self) -> str:
        age = f", at most {self.maximum_age_days} days old" if self.maximum_age_days else ""
        return f"trained before the holdout, on ≥ {self.minimum_rows:,} rows{age}"


class CiEvidenceCheck(Check):
    """Reports of the pipeline's CI about exactly the code that made the version."""

    kind: Literal["ci_evidence"] = "ci_evidence"
    require: tuple[CiKind, ...] = Field(min_length=1)
    minimum_tests: int = Field(default=1, ge=1)
    maximum_age_days: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if len(set(self.require)) < len(self.require):
            raise ValueError("require names a kind twice")
        return self

    def rule(self) -> str:
        return f"{', '.join(self.require)} passed for this exact code"


class FeatureConsistencyCheck(Check):
    """What was served of the features that the version takes agrees with what training sees of them.

    The newest consistency audit of each feature view counts, not older than ``maximum_age_days``; how large a share may
    differ is each view's own limit. Features that were not served in that time have nothing to compare and do not stop
    a version: they are audited as soon as it is in shadow.
    """

    kind: Literal["feature_consistency"] = "feature_consistency"
    maximum_age_days: int = Field(default=7, ge=1)

    def rule(self) -> str:
        return f"served features equal training's, by audits of the last {self.maximum_age_days} days"


AnyCheck = Annotated[
    MetricCheck
    | VersusChampionCheck
    | FairnessCheck
    | LatencyCheck
    | DataQualityCheck
    | TrainingDataCheck
    | CiEvidenceCheck
    | FeatureConsistencyCheck,
    Field(discriminator="kind"),
]


class PolicyDocument(Strict):
    """All that a version must prove. ``template``: where it came from; ``threshold`` turns scores into decisions."""

    template: str = ""
    threshold: Share = 0.5
    evidence_wait_hours: int = Field(default=72, ge=1, description="Evidence that has not come by then never will.")
    checks: tuple[AnyCheck, ...]

    @model_validator(mode="after")
    def _distinct_and_blocking(self) -> Self:
        ids = [check.id for check in self.checks]
        twice = sorted({each for each in ids if ids.count(each) > 1})
        if twice:
            raise ValueError(f"check ids must be unique; twice: {', '.join(twice)}")
        if not any(check.blocking for check in self.checks):
            raise ValueError("at least one check must be blocking: a gate that stops nothing is no gate")
        return self

    @property
    def blocking(self) -> tuple[AnyCheck, ...]:
        return tuple(check for check in self.checks if check.blocking)

    @property
    def required_evidence(self) -> tuple[CiKind, ...]:
        """Kinds of evidence that a run waits for."""
        kinds = (kind for check in self.checks if isinstance(check, CiEvidenceCheck) for kind in check.require)
        return tuple(dict.fromkeys(kinds))

    def content_hash(self) -> str:
        """SHA-256 of the canonical JSON: equal documents have equal hashes."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def parse(document: Mapping[str, Any]) -> PolicyDocument:
    """The validated document; raises PolicyError, whose paths name checks by id (``checks.auc-floor.at_least``)."""
    try:
        return PolicyDocument.model_validate(document)
    except ValidationError as error:
        raise PolicyError(_by_path(error, document)) from error


def _by_path(error: ValidationError, document: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        found.setdefault(_path(problem["loc"], document), []).append(_words(problem["type"], problem["msg"]))
    return {path: " ".join(texts) for path, texts in found.items()}


def _path(location: tuple[int | str, ...], document: Mapping[str, Any]) -> str:
    """``("checks", 2, "metric", "at_leest")`` as ``checks.auc-floor.at_leest``."""
    parts = list(location)
    if len(parts) > 1 and parts[0] == "checks" and isinstance(parts[1], int):
        check = document["checks"][parts[1]]
        name = check.get("id", parts[1]) if isinstance(check, Mapping) else parts[1]
        kind = check.get("kind") if isinstance(check, Mapping) else None
        parts = ["checks", name, *parts[3 if len(parts) > 2 and parts[2] == kind else 2 :]]
    return ".".join(map(str, parts)) or "document"


def _words(type_: str, message: str) -> str:
    if type_ == "extra_forbidden":
        return "There is no such setting."
    if type_ == "missing":
        return "This has to be given."
    return message.removeprefix("Value error, ") + "."
