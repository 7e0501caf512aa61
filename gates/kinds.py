"""The kinds of checks: how each is measured and how it is judged.

Two sorts. A *measured* kind looks at the frozen inputs alone (``measure``): its numbers can be had again at any time,
also under another rule. A *collected* kind looks at the world once (``collect``: the clock of a sandbox, the online
store, evidence): its numbers are kept with the result. Either way ``judge`` turns numbers and rule into the verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gates import collect, judge, measure
from gates.frozen import Frozen, Json
from gates.judge import Judgement
from gates.models import GateRun


@dataclass(frozen=True)
class Kind:
    """How a kind of check comes to its verdict; ``is_alone``: nothing else of the run may run beside it."""

    judge: Callable[[Any, Mapping[str, Any]], Judgement]
    measure: Callable[[Any, Frozen], Json] | None = None
    collect: Callable[[Any, GateRun, Frozen], Json] | None = None
    is_alone: bool = False


KINDS: Mapping[str, Kind] = {
    "metric": Kind(judge.metric.judge, measure=measure.metric.measure),
    "versus_champion": Kind(judge.versus_champion.judge, measure=measure.versus_champion.measure),
    "slice": Kind(judge.slices.judge, measure=measure.slices.measure),
    "fairness": Kind(judge.fairness.judge, measure=measure.fairness.measure),
    "latency": Kind(judge.latency.judge, collect=collect.latency.collect, is_alone=True),
    "robustness": Kind(judge.robustness.judge, collect=collect.robustness.collect),
    "data_quality": Kind(judge.data_quality.judge, collect=collect.data_quality.collect),
    "training_data": Kind(judge.training_data.judge, collect=collect.training_data.collect),
    "leakage": Kind(judge.leakage.judge, collect=collect.leakage.collect),
    "live_drift": Kind(judge.live_drift.judge, collect=collect.live_drift.collect),
    "ci_evidence": Kind(judge.ci_evidence.judge, collect=collect.ci_evidence.collect),
    "custom": Kind(judge.custom.judge, collect=collect.custom.collect),
    "feature_consistency": Kind(judge.feature_consistency.judge, collect=collect.feature_consistency.collect),
}
