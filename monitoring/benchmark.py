"""What the gates measured about a version: its own quality, and its gain over the champion on the same rows."""

from __future__ import annotations

from dataclasses import dataclass

from gates.models import CheckResult, GateRun, GateRunState
from monitoring.judge import Benchmark
from registry.models import ModelVersion
from stats.metrics import METRICS

AUC = "roc_auc"


@dataclass(frozen=True)
class Gain:
    """Candidate against champion in ``metric``, more is better. ``is_proven``: all of its interval is > 0."""

    metric: str
    value: float
    is_proven: bool


def of_version(version: ModelVersion) -> Benchmark | None:
    """The AUC that the version's newest passed gate run measured; None when its policy does not ask for one."""
    run = version.gate_runs.filter(state=GateRunState.PASSED).order_by("-id").first()
    if run is None:
        return None
    for result in _results(run, "metric", AUC):
        return Benchmark(result[0], f"{run} measured")
    return None


def gain(run: GateRun) -> Gain | None:
    """The gain that a run measured, AUC before other metrics; None when it compared nothing."""
    metrics = [AUC, *(name for name in METRICS if name != AUC)]
    for metric in metrics:
        for value, low in _results(run, "versus_champion", metric):
            return Gain(metric, value, low is not None and low > 0)
    return None


def failures(run: GateRun) -> list[str]:
    """The messages of the blocking checks that did not pass."""
    stopped = CheckResult.objects.filter(gate_run=run, blocking=True).exclude(verdict="passed")
    return [f"{each.check_id}: {each.message}" for each in stopped]


def _results(run: GateRun, kind: str, metric: str) -> list[tuple[float, float | None]]:
    """(value, low) of the run's measured checks of a kind and metric; the policy says which check is which."""
    asked = {
        check["id"]
        for check in run.policy.document.get("checks", ())
        if check.get("kind") == kind and check.get("metric") == metric
    }
    results = CheckResult.objects.filter(gate_run=run, kind=kind, check_id__in=asked, value__isnull=False)
    return [(each.value, each.low) for each in results.order_by("id") if each.value is not None]
