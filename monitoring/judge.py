"""What a window's numbers mean: moved or not, broken or not, decayed or not. Values in, judgements out.

The rules are those of the monitoring research, section 4: an effect must exceed its tolerance beyond doubt, more than
once, in a feature that matters; broken data is something else than drift; performance counts when outcomes are in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from monitoring.config import MonitorSettings
from stats.drift import Effect
from stats.interval import Interval

PASSED = "passed"
FAILED = "failed"
INCONCLUSIVE = "inconclusive"

SCORE = "prediction score"
"""The version's own answers, watched like a feature of importance 1."""

CALIBRATION_FACTOR = 1.25
"""Head-room over the largest effect among the training data's own windows (research 4.2)."""


@dataclass(frozen=True)
class FeatureMeasured:
    """One feature in one window against its reference. Shares are of all ``n`` rows, in [0, 1].

    ``normal_nulls``: the largest share of nulls that a window of the reference had. ``calibrated``: the largest
    debiased effect among the reference's own windows, None where it has no windows.
    """

    name: str
    n: int
    effect: Effect | None
    psi: float | None
    null_share: float
    normal_nulls: float
    unseen_share: float
    out_of_range_share: float
    calibrated: float | None = None


@dataclass(frozen=True)
class FeatureJudged:
    """``flagged``: moved beyond doubt. ``matters``: important enough to act on. ``problems``: broken data, in words."""

    measured: FeatureMeasured
    tolerance: float
    p_value: float | None
    importance: float
    flagged: bool
    matters: bool
    problems: tuple[str, ...]


@dataclass(frozen=True)
class DriftJudgement:
    """``is_broken``: a data incident. ``moved``: names of the flagged features that matter; ``noted``: the others."""

    verdict: str
    summary: str
    features: tuple[FeatureJudged, ...] = ()
    is_broken: bool = False
    alpha: float | None = None

    @property
    def moved(self) -> frozenset[str]:
        return frozenset(each.measured.name for each in self.features if each.flagged and each.matters)

    @property
    def noted(self) -> frozenset[str]:
        return frozenset(each.measured.name for each in self.features if each.flagged and not each.matters)

    @property
    def problems(self) -> tuple[str, ...]:
        return tuple(problem for each in self.features for problem in each.problems)


@dataclass(frozen=True)
class PerformanceMeasured:
    """Matured predictions of a window and what became of them. ``calibration_gap``: outcome minus score, mean."""

    matured: int
    labelled: int
    auc: Interval | None = None
    brier: Interval | None = None
    calibration_gap: Interval | None = None

    @property
    def coverage(self) -> float | None:
        return self.labelled / self.matured if self.matured else None


@dataclass(frozen=True)
class Benchmark:
    """What the gates measured before the version was let through; ``source`` says where, for a person."""

    value: float
    source: str


@dataclass(frozen=True)
class PerformanceJudgement:
    """``loss``: benchmark minus AUC, where both are known."""

    verdict: str
    summary: str
    is_gross: bool = False
    loss: float | None = None


def judge_drift(
    features: Sequence[FeatureMeasured], *, rows: int, importance: Mapping[str, float], settings: MonitorSettings
) -> DriftJudgement:
    """Judge a window's features. An empty ``importance`` means unknown: then every feature matters."""
    if rows < settings.minimum_rows:
        return DriftJudgement(INCONCLUSIVE, f"{rows} predictions in the window; {settings.minimum_rows} are needed.")
    comparable = sum(1 for each in features if each.effect is not None)
    alpha = settings.significance / max(1, comparable)
    judged = tuple(_judge_feature(each, importance, alpha, settings) for each in features)
    affected = sum(each.importance for each in judged if each.problems)
    is_broken = any(each.problems for each in judged) and affected >= settings.minimum_importance
    if not comparable and not is_broken:
        return DriftJudgement(INCONCLUSIVE, "No feature could be compared with a reference.", judged)
    draft = DriftJudgement(PASSED, "", judged, is_broken, alpha)
    verdict = FAILED if is_broken or draft.moved else PASSED
    return DriftJudgement(verdict, _drift_summary(draft, comparable, rows), judged, is_broken, alpha)


def _judge_feature(
    measured: FeatureMeasured, importance: Mapping[str, float], alpha: float, settings: MonitorSettings
) -> FeatureJudged:
    share = 1.0 if not importance or measured.name == SCORE else importance.get(measured.name, 0.0)
    tolerance = tolerance_of(measured, settings)
    p_value = None if measured.effect is None else measured.effect.p_value(tolerance)
    return FeatureJudged(
        measured=measured,
        tolerance=tolerance,
        p_value=p_value,
        importance=share,
        flagged=p_value is not None and p_value < alpha,
        matters=share >= settings.minimum_importance,
        problems=_problems(measured, settings),
    )


def tolerance_of(measured: FeatureMeasured, settings: MonitorSettings) -> float:
    """The effect a feature may show: the owner's own number, else the default widened by calibration up to the cap."""
    if measured.name in settings.tolerances:
        return settings.tolerances[measured.name]
    if not settings.calibrate or measured.calibrated is None:
        return settings.tolerance
    return max(settings.tolerance, min(settings.tolerance_cap, CALIBRATION_FACTOR * measured.calibrated))


def _problems(measured: FeatureMeasured, settings: MonitorSettings) -> tuple[str, ...]:
    """Jumps that no drift explains. Values that merely left the reference's range are drift, not breakage."""
    jumps = (
        ("null", measured.null_share, measured.normal_nulls),
        ("unseen", measured.unseen_share, 0.0),
        ("impossible", measured.out_of_range_share, 0.0),
    )
    return tuple(
        f"{measured.name}: {share:.1%} {what}, {before:.1%} at most before"
        for what, share, before in jumps
        if share - before > settings.data_jump
    )


def _drift_summary(judgement: DriftJudgement, comparable: int, rows: int) -> str:
    parts = [f"{rows:,} predictions, {comparable} features compared"]
    if judgement.is_broken:
        parts.append("broken data: " + "; ".join(judgement.problems[:5]))
    moved = [each for each in judgement.features if each.flagged and each.matters]
    if moved:
        parts.append("moved: " + ", ".join(_effect_text(each) for each in _largest(moved)))
    if judgement.noted:
        parts.append(f"{len(judgement.noted)} unimportant ones moved as well")
    if not moved and not judgement.is_broken:
        parts.append("none that matters moved beyond its tolerance")
    return "; ".join(parts) + "."


def _largest(features: Sequence[FeatureJudged], count: int = 5) -> list[FeatureJudged]:
    return sorted(features, key=lambda each: -each.measured.effect.debiased if each.measured.effect else 0.0)[:count]


def _effect_text(each: FeatureJudged) -> str:
    size = each.measured.effect.debiased if each.measured.effect else 0.0
    return f"{each.measured.name} (effect {size:.3f}, tolerance {each.tolerance:.3f}, importance {each.importance:.0%})"


def persistent(newest: frozenset[str], earlier: Sequence[frozenset[str]], settings: MonitorSettings) -> frozenset[str]:
    """What moved now and in enough of the windows just before. ``earlier``: newest first."""
    before = earlier[: settings.persistence_of - 1]
    return frozenset(name for name in newest if 1 + sum(name in window for window in before) >= settings.persistence)


def judge_performance(
    measured: PerformanceMeasured, benchmark: Benchmark | None, settings: MonitorSettings
) -> PerformanceJudgement:
    """Decayed (``failed``) when the whole interval of the AUC lies below the benchmark minus the tolerance."""
    why_not = _why_inconclusive(measured, benchmark, settings)
    if why_not or measured.auc is None or benchmark is None:
        return PerformanceJudgement(INCONCLUSIVE, why_not)
    auc = measured.auc
    limit = benchmark.value - settings.auc_tolerance
    loss = benchmark.value - auc.estimate
    against = f"AUC {_interval(auc)} on {auc.n:,} outcomes; {benchmark.source} {benchmark.value:.3f}, limit {limit:.3f}"
    gap = f"; outcomes are {measured.calibration_gap.estimate:+.3f} from the scores" if measured.calibration_gap else ""
    if auc.high >= limit:
        return PerformanceJudgement(PASSED, f"No proven decay: {against}{gap}.", loss=loss)
    is_gross = auc.high < benchmark.value - settings.gross_auc_tolerance
    return PerformanceJudgement(FAILED, f"Below the limit: {against}{gap}.", is_gross=is_gross, loss=loss)


def _why_inconclusive(measured: PerformanceMeasured, benchmark: Benchmark | None, settings: MonitorSettings) -> str:
    """Why nothing can be said, or an empty text."""
    if not measured.matured:
        return "No prediction of this version has matured in the window."
    if measured.coverage is None or measured.coverage < settings.minimum_coverage:
        share = measured.coverage or 0.0
        return f"Outcomes are known for {share:.0%} of the predictions; {settings.minimum_coverage:.0%} are needed."
    if measured.auc is None:
        return f"AUC has no answer on these {measured.labelled} outcomes: it needs at least two of each kind, 0 and 1."
    if measured.auc.high - measured.auc.low > settings.widest_auc_interval:
        return f"AUC {_interval(measured.auc)} on {measured.auc.n} outcomes is too uncertain to judge."
    if benchmark is None:
        return f"AUC {_interval(measured.auc)}, but the gates never measured an AUC to compare it with."
    return ""


def _interval(interval: Interval) -> str:
    return f"{interval.estimate:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def decay_confirmed(newest: PerformanceJudgement, earlier: Sequence[str], settings: MonitorSettings) -> bool:
    """Decay now and in enough windows just before (their verdicts, newest first), or at once when it is gross."""
    if newest.verdict != FAILED:
        return False
    before = earlier[: settings.persistence_of - 1]
    return newest.is_gross or 1 + sum(verdict == FAILED for verdict in before) >= settings.persistence


def is_quiet(verdicts: Sequence[str], settings: MonitorSettings) -> bool:
    """Whether the newest windows (first is newest) were all quiet. Windows that said nothing are not quiet."""
    newest = verdicts[: settings.quiet_windows]
    return len(newest) == settings.quiet_windows and all(verdict == PASSED for verdict in newest)
