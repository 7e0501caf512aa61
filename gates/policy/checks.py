"""The kinds of checks that a policy is made of: what each compares with which bar, and what it needs to be judged.

A check compares a measured number with a bar. ``use`` says which number of its interval has to clear the bar:

* ``point``: the estimate itself, as if it were exact;
* the *bad* side of the interval (``lower_bound`` under ``at_least``, ``upper_bound`` under ``at_most``): the version
  has to prove that it clears the bar. Clearly short of it is failed, in between is inconclusive: more rows are needed;
* the *good* side: the benefit of the doubt. Failed only when clearly short of the bar.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from gates.policy.directions import (
    PerEntry,
    Rule,
    batch_size,
    confidence_of_bar,
    fewer,
    higher,
    lower,
    minimum_of_groups,
    more,
    neither,
    ranked,
    replaced,
    use_of_bar,
)
from stats.latency import calls_needed
from stats.metrics import METRICS

Use = Literal["point", "lower_bound", "upper_bound"]
CiKind = Literal["lint", "unit", "integration", "coverage"]
MetricName = Literal[
    "roc_auc",
    "average_precision",
    "brier",
    "log_loss",
    "ece",
    "calibration_gap",
    "accuracy",
    "balanced_accuracy",
    "precision",
    "recall",
    "specificity",
    "f1",
    "mae",
    "rmse",
    "r2",
    "absolute_bias",
]
QUANTILES: Mapping[str, float] = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
"""What share of the calls a limit in milliseconds is about."""
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Confidence = Annotated[float, Field(gt=0.5, lt=1.0)]
CheckId = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,59}$")]
Plain = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
Column = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
MeasurementName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:/ -]{1,100}$")]


class WrongSetting(ValueError):
    """Settings that do not fit each other; ``at`` leads to the one to look at first."""

    def __init__(self, message: str, *at: str | int) -> None:
        super().__init__(message)
        self.at = at


class Strict(BaseModel):
    """Unknown keys are errors: a misspelt threshold must never turn a gate into a pass."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Check(Strict):
    """What every check has. ``blocking``: only then does it stop a version; otherwise it is only reported.

    ``directions`` says of every setting which way is stricter (``gates.policy.directions``). ``collected_with``: of a
    kind that looks at the world once, the settings that decide what is looked at; the others only judge it.
    ``waits_for``: those that say what a run waits to be told.
    """

    directions: ClassVar[Mapping[str, Rule | PerEntry]] = {"blocking": higher}
    collected_with: ClassVar[frozenset[str]] = frozenset()
    waits_for: ClassVar[frozenset[str]] = frozenset()

    id: CheckId
    blocking: bool = True

    @property
    def takes_decisions(self) -> bool:
        """Whether the policy's threshold decides what is measured."""
        return False

    def rule(self) -> str:
        """The rule in words, for a person."""
        raise NotImplementedError


class Bar(Check):
    """A check with one bar, above or below which the measured number has to lie."""

    directions: ClassVar[Mapping[str, Rule | PerEntry]] = {
        **Check.directions,
        "at_least": higher,
        "at_most": lower,
        "use": use_of_bar,
        "confidence": confidence_of_bar,
    }

    at_least: float | None = None
    at_most: float | None = None
    use: Use = "point"
    confidence: Confidence = 0.95

    @model_validator(mode="after")
    def _one_bar(self) -> Self:
        if (self.at_least is None) == (self.at_most is None):
            raise WrongSetting("give exactly one of at_least and at_most", self._side())
        return self

    def _side(self) -> str:
        """The setting that has the bar, or would have it."""
        return "at_most" if self.at_most is not None else "at_least"

    def _bar(self) -> str:
        sign, bar = ("≥", self.at_least) if self.at_least is not None else ("≤", self.at_most)
        side = "" if self.use == "point" else f" ({self.use.replace('_', ' ')}, {self.confidence:.0%})"
        return f"{sign} {bar:g}{side}"


# ---------------------------------------------------------------------- quality on the holdout


class MetricCheck(Bar):
    """A quality metric of the version alone, on the holdout."""

    kind: Literal["metric"] = "metric"
    metric: MetricName
    minimum_rows: int = Field(default=1000, ge=1)

    directions: ClassVar[Mapping[str, Rule | PerEntry]] = {
        **Bar.directions,
        "metric": replaced,
        "minimum_rows": higher,
    }

    @model_validator(mode="after")
    def _right_direction(self) -> Self:
        better_when_greater = METRICS[self.metric].greater_is_better
        if better_when_greater and self.at_least is None:
            raise WrongSetting(f"{self.metric} is better when it is greater: use at_least", "at_most")
        if not better_when_greater and self.at_most is None:
            raise WrongSetting(f"{self.metric} is better when it is smaller: use at_most", "at_least")
        return self

    def _side(self) -> str:
        return "at_least" if METRICS[self.metric].greater_is_better else "at_most"

    @property
    def takes_decisions(self) -> bool:
        return METRICS[self.metric].is_of_decisions

    def rule(self) -> str:
        return f"{self.metric} {self._bar()}"


class VersusChampionCheck(Check):
    """The version against the champion on the same rows; it may be worse by no more than ``not_worse_by``."""

    kind: Literal["versus_champion"] = "versus_champion"
    metric: MetricName
    not_worse_by: float = Field(ge=0.0, description="In the metric's own unit; 0.01 of AUC is one point.")
    confidence: Confidence = 0.95
    minimum_rows: int = Field(default=1000, ge=1)

    directions: ClassVar[Mapping[str, Rule | PerEntry]] = {
        **Check.directions,
        "metric": replaced,
        "not_worse_by": lower,
        "confidence": higher,  # of the proof that it is not worse by more
        "minimum_rows": higher,
    }

    @property
    def takes_decisions(self) -> bool:
        return METRICS[self.metric].is_of_decisions

    def rule(self) -> str:
        return f"{self.metric} not worse than the champion by {self.not_worse_by:g} ({self.confidence:.0%})"


class SliceCheck(Check):
    """The metric in each segment against all rows; a segment fails only when it is clearly worse.

    ``by``: columns of the holdout; numbers are cut at their quartiles. All segments are judged together (Holm 1979).
    ``find``: how many of the worst segments are looked for besides (a shallow tree over the rows' losses); those are
    reported and never judged, because they were chosen for being bad.
    """

    kind: Literal["slice"] = "slice"
    metric: MetricName
    by: tuple[Column, ...] = ()
    not_worse_than_overall_by: float = Field(ge=0.0, description="In the metric's own unit.")
    confidence: Confidence = 0.95
    minimum_rows: int = Field(default=200, ge=2, description="Smaller segments are shown, not judged.")
    find: int = Field(default=5, ge=0, le=20)

    directions: ClassVar[Mapping[str, Rule | PerEntry]] = {
        **Check.directions,
        "metric": replaced,
        "by": more,
        "not_worse_than_overall_by": lower,
        "confidence": lower,  # a segment fails only when it is surely worse
        "minimum_rows": lower,
        "find": neither,  # what is found is reported and never judged
    }

    @model_validator(mode="after")
    def _something_to_judge(self) -> Self:
        if not self.by and self.blocking:
            raise WrongSetting("name the columns to slice by; without any it can only report (blocking: false)", "by")
        if len(set(self.by)) < len(self.by):
            raise WrongSetting("by names a column twice", "by")
        return self

    @property
    def takes_decisions(self) -> bool:
        return METRICS[self.metric].is_of_decisions

    def rule(self) -> str:
        over = ", ".join(self.by) or "found segments"
        return f"{self.metric} by {over} not clearly worse than overall by {self.not_worse_than_overall_by:g}"


FairnessMeasure = Literal[
    "equal_opportunity_difference",
    "demographic_parity_difference",
    "demographic_parity_ratio",
    "equalized_odds_difference",
]


class FairnessCheck(Bar):
    """The largest difference between groups, in decisions taken at the policy's threshold.

    ``small_groups``: a group under the minimum is shown as not enough evidence; ``inconclusive`` makes the whole check
    wait for more rows of it.
    """

    kind: Literal["fairness"] = "fairness"
    measure: FairnessMeasure = "equal_opportunity_difference"
    by: Column = Field(description="Column of the requests that names the group.")
    minimum_group: int = Field(default=200, ge=1)
    minimum_positives: int = Field(default=30, ge=1)
    small_groups: Literal["shown", "inconclusive"] = "shown"

    directions: ClassVar[Mapping[str, Rule | PerEntry]] = {
        **Bar.directions,
        "measure": replaced,
        "by": replaced,
        "minimum_group": minimum_of_groups,
        "minimum_positives": minimum_of_groups,
        "small_groups": ranked("shown", "inconclusive"),
    }

    @model_validator(mode="after")
    def _right_direction(self) -> Self:
        if (self.measure == "demographic_parity_ratio") != (self.at_least is not None):
            said = "a ratio takes at_least (0.8 is the four-fifths rule), a difference takes at_most"
            raise WrongSetting(said, "at_most" if self.at_least is None else "at_least")
        return self

    def _side(self) -> str:
        return "at_least" if self.measure == "demographic_parity_ratio" else "at_most"

    @property
    def takes_decisions(self) -> bool:
        return True

    def rule(self) -> str:
        return f"{self.measure} by {self.by} {self._bar()}"


# ---------------------------------------------------------------------- the artifact


class LatencyCheck(Check):
    """How long one answer takes, measured in the sandbox on a pinned workload. At least one limit.

    Candidate, champion and a second copy of the reference (the A/A control) are asked in turn, call by call, so that a
    busy machine slows all of them. When the control differs from its twin by more than ``control_tolerance`` the
    machine was too unsteady: the check is inconclusive, never failed. A call that the model failed counts as slower
    than any limit.
    ``calls`` are timed at most per model, and no longer than ``budget_seconds`` in all. ``batch_rows``: how many rows
    one batch call holds.
    """

    kind: Literal["latency"] = "latency"
    p50_ms: float | None = Field(default=None, gt=0)
    p95_ms: float | None = Field(default=None, gt=0)
    p99_ms: float | None = Field(default=None, gt=0)
    batch_p95_ms: float | None = Field(default=None, gt=0, description="Of one call with batch_rows rows.")
    ratio_to_champion: float | None = Field(default=None, gt=0, description="Of the medians; 1.2 is a fifth slower.")
    confidence: Confidence = 0.9
    calls: int = Field(default=200, ge=1, le=10000)
    batch_rows: int = Field(default=100, ge=2, le=10000)
    minimum_calls: int = Field(default=20, ge=1)
    budget_seconds: float = Field(default=10.0, gt=0, le=60)
    control_tolerance: float = Field(default=0.25, gt=0)

    collected_with: ClassVar[frozenset[str]] = frozenset({"calls", "batch_rows", "budget_seconds"})
    directions: ClassVar[Mapping[str, Rule | PerEntry]] = {
        **Check.directions,
        "p50_ms": lower,
        "p95_ms": lower,
        "p99_ms": lower,
        "batch_p95_ms": lower,
        "ratio_to_champion": lower,
        "confidence": higher,  # of the proof that few enough calls are slower
        # how long is looked: the proof that is asked for stays the same, and so does the least number of calls
        "calls": neither,
        "budget_seconds": neither,
        "batch_rows": batch_size,
        "minimum_calls": higher,
        "control_tolerance": lower,  # a less steady machine may pass a version
    }

    @model_validator(mode="after")
    def _some_limit(self) -> Self:
        if not self.limits and self.ratio_to_champion is None:
            raise ValueError("give at least one of p50_ms, p95_ms, p99_ms, batch_p95_ms and ratio_to_champion")
        return self

    @model_validator(mode="after")
    def _enough_calls(self) -> Self:
        if self.limits and self.calls < self.minimum_calls:
            raise WrongSetting(f"{self.calls:,} calls can never reach minimum_calls ({self.minimum_calls:,})", "calls")
        for name in self.limits:
            allowed = 1 - QUANTILES[name.removeprefix("batch_")]
            needed = calls_needed(0, 0, allowed=allowed, confidence=self.confidence)
            if needed is None or self.calls < needed:
                most = f"it takes {needed:,}" if needed is not None else "no number of them can"
                said = f"{self.calls:,} calls can never prove {name}_ms at a confidence of {self.confidence:g}; {most}"
                raise WrongSetting(said, "calls")
        return self

    @property
    def limits(self) -> dict[str, float]:
        """The limits that were given, in milliseconds, by name."""
        every = {"p50": self.p50_ms, "p95": self.p95_ms, "p99": self.p99_ms, "batch_p95": self.batch_p95_ms}
        return {name: limit for name, limit in every.items() if limit is not None}

    def rule(self) -> str:
        told = [f"{name.replace('_', ' ')} ≤ {limit:g} ms" for name, limit in self.limits.items()]
        if self.ratio_to_champion is not None:
            told.append(f"≤ {self.ratio_to_champion:g} × champion")
        return ", ".join(told)


class RobustnessCheck(Check):
    """What is served is what was trained, it answers the same twice, and it answers rows with missing values.

    ``parity_tolerance``: the largest difference of two scores between the registered artifact and the form that is
    served (ONNX where it is used). ``missing_values``: the share of rows that must still get a finite answer when any
    one input is missing.
    """

    kind: Literal["robustness"] = "robustness"
    parity_tolerance: float = Field(default=1e-5, ge=0.0)
    missing_values: Share = 1.0
    deterministic: bool = True
    rows: int = Field(default=500, ge=10, le=5000)

    collected_with: ClassVar[frozenset[str]] = frozenset({"rows"})
    directions: ClassVar[Mapping[str, Rule | PerEntry]] = {
        **Check.directions,
        "parity_tolerance": lower,
        "missing_values": higher,
        "deterministic": higher,
        "rows": higher,
    }

    def rule(self) -> str:
        told = [f"served = trained within {self.parity_tolerance:g}"]
        told += ["same answer twice"] if self.deterministic else []
        told += [f"{self.missing_values:.0%} answered with a missing input"] if self.missing_values else []
        return ", ".join(told)


# ---------------------------------------------------------------------- the data


class ColumnRule(Strict):
    """What the owners promise of one column, tighter than what was derived from its feature view."""

    minimum: float | None = None
    maximum: float | None = None
    allowed: tuple[Plain | int | float | bool, ...] | None = None
    null_share: Share | None = None

    directions: ClassVar[Mapping[str, Rule]] = {
        "minimum": higher,
        "maximum": lower,
        "allowed": fewer,
        "null_share": lower,
    }

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.minimum is None and self.maximum is None and self.allowed is None and self.null_share is None:
            raise ValueError("give at least one of minimum, maximum, allowed and null_share")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise WrongSetting("minimum is above maximum", "minimum")
        return self


class DataQualityCheck(Check):
    """The features of the training dataset, of the holdout, and of what the online store serves now.

    It is there for broken data. That the world moves on (a warmer month, a new year) is drift, the monitors' business:
    hence the margin, and ``ignore`` for columns that only ever grow.
    The schema (column, type) comes from the feature views; a value is out of range when it lies beyond the training
    range by more than ``range_margin`` of the range's width, or outside what ``columns`` promises.
    ``stale``: the share of values older than their view's freshness promise, as served now and when they were joined
    for training; ``served_nulls``: of entities whose newest values are missing, beyond the share that training had. Of
    what is served at most ``served_entities`` entities that asked last are looked at: it fails when clearly over.
    """

    kind: Literal["data_quality"] = "data_quality"
    null_increase: Share = 0.2
    out_of_range: Share = 0.05
    range_margin: float = Field(default=0.5, ge=0.0)
    unseen: Share = 0.02
    duplicates: Share = 0.0
    key: Column = "request_id"
    ignore: tuple[Column, ...] = ()
    columns: dict[Column, ColumnRule] = Field(default_factory=dict)
    stale: Share | None = None
    served_nulls: Share | None = None
    served_entities: int = Field(default=500, ge=1, le=5000)
    minimum_rows: int = Field(default=200, ge=1)

    collected_with: ClassVar[frozenset[str]] = frozenset({"key", "served_entities"})
    directions: ClassVar[Mapping[str, Rule | PerEntry]] = {
        **Check.directions,
        "null_increase": lower,
        "out_of_range": lower,
        "range_margin": lower,
        "unseen": lower,
        "duplicates": lower,
        "key": replaced,
        "ignore": fewer,
        "columns": PerEntry(ColumnRule.directions),
        "stale": lower,
        "served_nulls": lower,
        "served_entities": higher,
        "minimum_rows": higher,
    }

    def rule(self) -> str:
        told = (
            f"nulls +{self.null_increase:.1%}, out of range {self.out_of_range:.1%}, unseen {self.unseen:.1%}, "
            f"duplicates {self.duplicates:.1%} at most"
        )
        return told if self.stale is None else f"{told}, stale {self.stale:.1%}"


class TrainingDataCheck(Check):
    """The training dataset ends before the holdout starts, is large enough, reaches far enough and is not too old."""

    kind: Literal["training_data"] = "training_data"
    minimum_rows: int = Field(default=1000, ge=1)
    minimum_days: float | None = Field(default=None, gt=0, description="Between its first and its last row.")
    minimum_positives: int | None = Field(default=None, ge=1, description="Of a binary label.")
    maximum_age_days: int | None = Field(default=None, ge=1)

    directions: ClassVar[Mapping[str, Rule | PerEntry]] = {
        **Check.directions,
        "minimum_rows": higher,
        "minimum_days": higher,
        "minimum_positives": higher,
        "maximum_age_days": lower,
    }

    def rule(self) -> str:
        days = f" over ≥ {self.minimum_days:g} days" if self.minimum_days else ""
        age = f", at most {self.maximum_age_days} days old" if self.maximum_age_days else ""
        return f"trained before the holdout, on ≥ {self.minimum_rows:,} rows{days}{age}"


class LeakageCheck(Check):
    """Features that know the answer: one that alone ranks far better than honest ones do, or that is newer than the
    label. A suspicion, not a proof: report only unless a policy says otherwise.

    ``alone_at_most``: the AUC of a single feature (regression: its squared rank correlation) above which it is suspect.
    """

    kind: Literal["leakage"] = "leakage"
    blocking: bool = False
    alone_at_most: float = Field(default=0.95, gt=0.5, le=1.0)
    confidence: Confidence = 0.95
    ignore: tuple[Column, ...] = ()
    minimum_rows: int = Field(default=500, ge=10)

    directions: ClassVar[Mapping[str, Rule | PerEntry]] = {
        **Check.directions,
        "alone_at_most": lower,
        "confidence": lower,  # a feature is suspect only when it surely ranks too well
        "ignore": fewer,
        "minimum_rows": higher,
    }

    def rule(self) -> str:
        return f"no feature alone ranks above {self.alone_at_most:g}, none is newer than the label"


class LiveDriftCheck(Check):
    """The training data against what the endpoints of the model see now; needs traffic of the last ``days``.

    ``effect_at_most``: the distance of the two distributions per feature (``stats.drift.effect``), judged by its lower
    bound. A model without traffic has nothing to compare and is not stopped.
    """

    kind: Literal["live_drift"] = "live_drift"
    blocking: bool = False
    effect_at_most: float = Field(default=0.1, gt=0, le=1.0)
    days: int = Field(default=7, ge=1)
    minimum_rows: int = Field(default=500, ge=1)
    ignore: tuple[Column, ...] = ()

    collected_with: ClassVar[frozenset[str]] = frozenset({"days", "minimum_rows"})
    directions: ClassVar[Mapping[str, Rule | PerEntry]] = {
        **Check.directions,
        "effect_at_most": lower,
        "days": replaced,  # fewer may hold too few requests, more of them drown what moved lately
        "minimum_rows": higher,
        "ignore": fewer,
    }

    def rule(self) -> str:
        return f"no feature drifted from training by more than {self.effect_at_most:g} in {self.days} days' traffic"


# ---------------------------------------------------------------------- evidence from outside


class CiEvidenceCheck(Check):
    """Reports of the pipeline's CI about exactly the code that made the version.

    ``commit``: ``exact`` also asks that the report and the version name the same commit.
    """

    kind: Literal["ci_evidence"] = "ci_evidence"
    require: tuple[CiKind, ...] = Field(min_length=1)
    minimum_tests: int = Field(default=1, ge=1)
    minimum_coverage: Share | None = None
    maximum_age_days: int | None = Field(default=None, ge=1)
    commit: Literal["any", "exact"] = "any"

    waits_for: ClassVar[frozenset[str]] = frozenset({"require", "commit"})
    directions: ClassVar[Mapping[str, Rule | PerEntry]] = {
        **Check.directions,
        "require": more,
        "minimum_tests": higher,
        "minimum_coverage": higher,
        "maximum_age_days": lower,
        "commit": ranked("any", "exact"),
    }

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if len(set(self.require)) < len(self.require):
            raise WrongSetting("require names a kind twice", "require")
        if self.minimum_coverage is not None and "coverage" not in self.require:
            raise WrongSetting("minimum_coverage needs coverage among require", "minimum_coverage")
        return self

    def rule(self) -> str:
        covered = f", {self.minimum_coverage:.0%} covered" if self.minimum_coverage else ""
        return f"{', '.join(self.require)} passed for this exact code{covered}"


class CustomCheck(Bar):
    """A named measurement that a pipeline posted about exactly this version, judged here.

    With an interval (low, high) ``use`` may name a side of it; without one only ``point`` is possible.
    """

    kind: Literal["custom"] = "custom"
    measurement: MeasurementName
    minimum_n: int = Field(default=1, ge=0)
    maximum_age_days: int | None = Field(default=None, ge=1)

    waits_for: ClassVar[frozenset[str]] = frozenset({"measurement"})
    directions: ClassVar[Mapping[str, Rule | PerEntry]] = {
        **Bar.directions,
        "measurement": replaced,
        "minimum_n": higher,
        "maximum_age_days": lower,
    }

    def rule(self) -> str:
        return f"{self.measurement} {self._bar()}"


class FeatureConsistencyCheck(Check):
    """What was served of the features that the version takes agrees with what training sees of them.

    The newest consistency audit of each feature view counts, not older than ``maximum_age_days``; how large a share may
    differ is each view's own limit. Features that were not served in that time have nothing to compare and do not stop
    a version: they are audited as soon as it is in shadow.
    """

    kind: Literal["feature_consistency"] = "feature_consistency"
    maximum_age_days: int = Field(default=7, ge=1)

    collected_with: ClassVar[frozenset[str]] = frozenset({"maximum_age_days"})
    directions: ClassVar[Mapping[str, Rule | PerEntry]] = {**Check.directions, "maximum_age_days": lower}

    def rule(self) -> str:
        return f"served features equal training's, by audits of the last {self.maximum_age_days} days"


AnyCheck = Annotated[
    MetricCheck
    | VersusChampionCheck
    | SliceCheck
    | FairnessCheck
    | LatencyCheck
    | RobustnessCheck
    | DataQualityCheck
    | TrainingDataCheck
    | LeakageCheck
    | LiveDriftCheck
    | CiEvidenceCheck
    | CustomCheck
    | FeatureConsistencyCheck,
    Field(discriminator="kind"),
]
KIND_CLASSES: Mapping[str, type[Check]] = {
    each.model_fields["kind"].default: each for each in get_args(get_args(AnyCheck)[0])
}
"""Every kind of check with the class that has its settings."""
