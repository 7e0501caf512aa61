"""How often the gates are wrong: verdicts on simulated holdouts whose truth is known, by the code that judges.

    make bench BENCH=gate_noise                 # some minutes; ARGS='--draws 1000' is quicker and noisier

The first table is that of a published comparison of gates: accuracy 0.85, 6 % of rows on which two versions differ, a
margin of one point; then the same errors for other metrics, fairness without a gap, slices that are alike, and how
often intervals hold the truth. Shares that must stay below a goal are judged by what is certain of them: with a few
hundred draws the share itself wobbles.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from statistics import NormalDist
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.figures import Figure, Rate, report
from gates.frozen import Frozen, Missing, Scores
from gates.judge import Judgement, VerdictName
from gates.judge import fairness as judge_fairness
from gates.judge import metric as judge_metric
from gates.judge import slices as judge_slices
from gates.judge import versus_champion as judge_versus
from gates.measure import fairness as measure_fairness
from gates.measure import metric as measure_metric
from gates.measure import slices as measure_slices
from gates.measure import versus_champion as measure_versus
from gates.policy import FairnessCheck, MetricCheck, SliceCheck, VersusChampionCheck, parse
from stats.fairness import gap, group_table
from stats.interval import FloatArray, wilson
from stats.metrics import METRICS

ACCURACY, DISCORDANT, MARGIN = 0.85, 0.06, 0.01
SIZES = (50, 100, 200, 500, 1000, 5000, 20_000, 50_000)
LARGE = 5000
TRUTHS = {"equal": 0.0, "0.5 pp worse": -0.005, "2 pp worse": -0.02}
OTHERS = ("roc_auc", "average_precision", "brier", "log_loss", "f1", "recall", "balanced_accuracy", "ece")
DOCUMENT = parse({"checks": [{"id": "ci", "kind": "ci_evidence", "require": ["unit"]}]})
Verdicts = Counter[VerdictName]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=3000, help="per cell of the first table; others take a tenth")
    draws = int(parser.parse_args(arguments).draws)
    figures = [
        *_against_the_champion(draws),
        *_rows_asked_for(draws // 10),
        *_other_metrics(draws // 10),
        *_rows_asked_for_by_others(draws // 20),
        *_rare_blunders(draws // 2),
        *_absolute(draws // 4),
        *_rows_asked_of_a_bar(draws // 5),
        *_unbalanced(draws // 3),
        *_fairness(draws // 10),
        *_alike_slices(draws // 20),
        *_coverage(draws // 3),
    ]
    return report(*figures)


def holdout(y: FloatArray, p: FloatArray, champion: FloatArray | None = None, **columns: Any) -> Frozen:
    """A run's inputs, made up."""
    return Frozen(
        document=DOCUMENT,
        task="binary_classification",
        seed=0,
        began=datetime(2026, 1, 1, tzinfo=UTC),
        table=pa.table({"late": y, **columns}),
        y=y,
        label="late",
        features=(),
        inputs=(),
        candidate=Scores(p, {}),
        champion=Missing("None.") if champion is None else Scores(champion, {}),
        champion_name="" if champion is None else "the champion",
        champion_is_unfair=False,
    )


def _certain(wrong: int, draws: int, *, cells: int) -> float:
    """The share in per cent that is certainly reached, in the worst of so many cells (Bonferroni, 5 % in all): the
    noise of the draws is no failure.
    """
    found = wilson(wrong, draws, confidence=1 - 0.1 / cells)
    return 100 * found.low if found else 100.0


def _row(*cells: str) -> None:
    print("  " + " ".join(f"{cell:<24}" for cell in cells))


# ---------------------------------------------------------------------- against the champion


@cache
def _paired(n: int, better: int, worse: int, confidence: float) -> Judgement:
    """Accuracy on n rows: so many that only the candidate gets right, so many that only the champion does."""
    y, p, champion = np.ones(n), np.full(n, 0.9), np.full(n, 0.9)
    champion[:better], p[better : better + worse] = 0.1, 0.1
    check = VersusChampionCheck(
        id="versus", metric="accuracy", not_worse_by=MARGIN, confidence=confidence, minimum_rows=1
    )
    return judge_versus.judge(check, measure_versus.measure(check, holdout(y, p, champion)))


def _discordant(n: int, difference: float, draws: int, seed: int) -> NDArray[np.int64]:
    """Counts of rows that only the candidate, only the champion gets right, shape (draws, 2)."""
    shares = [(DISCORDANT + difference) / 2, (DISCORDANT - difference) / 2, 1 - DISCORDANT]
    return np.random.default_rng(seed).multinomial(n, shares, size=draws)[:, :2]


def _verdicts(n: int, difference: float, draws: int, confidence: float) -> tuple[Verdicts, float]:
    """Verdicts, and how often the candidate simply had at least the champion's accuracy."""
    pairs = _discordant(n, difference, draws, seed=n)
    found = Counter(_paired(n, int(b), int(c), confidence).verdict for b, c in pairs)
    return found, float((pairs[:, 0] >= pairs[:, 1]).mean())


def _against_the_champion(draws: int) -> Iterator[Figure | Rate]:
    print(f"accuracy {ACCURACY}, {DISCORDANT:.0%} of rows differ, may be worse by {MARGIN:.0%}: passed / failed / open")
    worst_fail = worst_pass = 0.0
    for confidence in (0.9, 0.95):
        _row(f"confidence {confidence:.0%}", *TRUTHS, "candidate ≥ champion passes (equal)")
        for n in SIZES:
            used = draws if n < LARGE else max(draws // 8, 1)
            cells = {truth: _verdicts(n, each, used, confidence) for truth, each in TRUTHS.items()}
            told = [_shares(verdicts) for verdicts, _ in cells.values()]
            _row(f"n = {n:,}", *told, f"{cells['equal'][1]:.0%}")
            worst_fail = max(worst_fail, 100 * cells["equal"][0]["failed"] / used)
            worst_pass = max(worst_pass, 100 * cells["2 pp worse"][0]["passed"] / used)
    yield Figure("equal_model_failed_worst_n", worst_fail, "%", at_most=1.0)
    yield Figure("2pp_worse_passed_worst_n", worst_pass, "%", at_most=1.0)


def _shares(verdicts: Verdicts) -> str:
    total = verdicts.total()
    return " / ".join(f"{100 * verdicts[each] / total:.1f}" for each in ("passed", "failed", "inconclusive")) + " %"


def _rows_asked_for(draws: int) -> Iterator[Figure | Rate]:
    """An undecided run of 1,000 rows says how many more would decide: so many are taken, of a version that is equal."""
    for confidence in (0.9, 0.95):
        passed = 0
        asked: list[int] = []
        for better, worse in _discordant(1000, 0.0, 3 * draws, seed=1):
            message = _paired(1000, int(better), int(worse), confidence).message
            more = re.search(r"about ([\d,]+) more rows would decide about a version as good", message)
            if more is None:
                continue
            n = 1000 + int(more[1].replace(",", ""))
            b, c = _discordant(n, 0.0, 1, seed=len(asked))[0]
            passed += _paired(n, int(b), int(c), confidence).verdict == "passed"
            asked.append(n)
        print(f"confidence {confidence:.0%}: {np.median(asked):,.0f} rows are asked for (median)")
        share = 100 * passed / len(asked)
        yield Rate(f"equal_passes_at_rows_asked_for_{confidence:.0%}", share, "%", at_least=85)


# ---------------------------------------------------------------------- other metrics


def _scene(n: int, random: np.random.Generator, worse: bool) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Outcomes, a candidate's and a champion's scores; the candidate is as good, or has more noise and is shifted."""
    logit = random.normal(-1, 1.2, n)
    y = (random.random(n) < 1 / (1 + np.exp(-logit))).astype(np.float64)
    noise, shift = (0.8, -0.25) if worse else (0.3, 0.0)
    candidate, champion = logit + shift + random.normal(0, noise, n), logit + random.normal(0, 0.3, n)
    return y, 1 / (1 + np.exp(-candidate)), 1 / (1 + np.exp(-champion))


def _other_metrics(draws: int) -> Iterator[Figure | Rate]:
    """The margin is half of what the worse candidate truly loses: it is as far beyond as 2 pp are beyond 1 pp."""
    print("other metrics, worst n of 50 … 5,000: an equal version failed, one worse by two margins passed")
    unsure: list[float] = []
    for metric in OTHERS:
        y, p, q = _scene(400_000, np.random.default_rng(0), worse=True)
        mine, theirs = (METRICS[metric].value(y, each, threshold=0.4, confidence=0.95) for each in (p, q))
        assert mine is not None
        assert theirs is not None
        margin = abs(mine.estimate - theirs.estimate) / 2
        check = VersusChampionCheck(id="versus", metric=metric, not_worse_by=margin, minimum_rows=1)
        failed, passed = (
            max(
                _share_of(check, n, draws if n < LARGE else draws // 4, worse=worse, verdict=verdict)
                for n in (50, 200, 1000, LARGE)
            )
            for worse, verdict in ((False, "failed"), (True, "passed"))
        )
        _row(metric, f"margin {margin:.4f}", f"{failed[1]:.2f} %", f"{passed[1]:.2f} %")
        unsure += [failed[0], passed[0]]
    yield Figure("other_metrics_wrong_certainly", max(unsure), "%", at_most=1.0)


def _share_of(check: VersusChampionCheck, n: int, draws: int, *, worse: bool, verdict: str) -> tuple[float, float]:
    """How often a verdict comes in per cent: certainly, and as counted."""
    random = np.random.default_rng(n)
    document = DOCUMENT.model_copy(update={"threshold": 0.4})
    count = 0
    for _ in range(draws):
        frozen = holdout(*_scene(n, random, worse))
        measured = measure_versus.measure(check, replace(frozen, document=document))
        count += judge_versus.judge(check, measured).verdict == verdict
    return _certain(count, draws, cells=8 * len(OTHERS)), 100 * count / draws


def _rows_asked_for_by_others(draws: int) -> Iterator[Figure | Rate]:
    """As for accuracy, by metrics of influences: an undecided run of an equal one, then as many rows as it asks for."""
    print("an equal version on the rows that an undecided run of 1,000 asks for (median): passed")
    worst = 100.0
    for metric, margin in (("roc_auc", 0.01), ("average_precision", 0.03), ("brier", 0.003), ("log_loss", 0.02)):
        check = VersusChampionCheck(id="versus", metric=metric, not_worse_by=margin, minimum_rows=1)
        random = np.random.default_rng(11)
        passed, asked = 0, []
        for _ in range(draws):
            first = judge_versus.judge(
                check, measure_versus.measure(check, holdout(*_scene(1000, random, worse=False)))
            )
            more = re.search(r"about ([\d,]+) more rows would decide about a version as good", first.message)
            if more is None:
                continue
            asked.append(1000 + int(more[1].replace(",", "")))
            passed += _verdict_of(check, *_scene(asked[-1], random, worse=False)) == "passed"
        _row(metric, f"{np.median(asked):,.0f} rows", f"{100 * passed / len(asked):.1f} %")
        worst = min(worst, 100 * passed / len(asked))
    yield Rate("equal_passes_at_rows_asked_for_other_metrics", worst, "%", at_least=85)


# ---------------------------------------------------------------------- rare and grave

BLUNDERS = (
    ("brier", 50, 0.02), ("brier", 100, 0.01), ("brier", 200, 0.01), ("brier", 500, 0.01), ("brier", 1000, 0.005),
    ("log_loss", 100, 0.05), ("log_loss", 1000, 0.02), ("mae", 100, 0.01), ("mae", 500, 0.01),
    ("calibration_gap", 200, 0.01), ("roc_auc", 500, 0.01), ("roc_auc", 2000, 0.01), ("average_precision", 1000, 0.01),
)  # fmt: skip
"""Metric, rows, margin. Every tenth row is positive where it is a ranking, every second one elsewhere."""


def _rare_blunders(draws: int) -> Iterator[Figure | Rate]:
    """The candidate is surely wrong on so few rows that often none of them is seen, and the champion's equal on all
    others but for a tiny noise: it loses two margins. And rankings of a handful of positives.
    """
    print("worse by two margins through a few grave errors: passed")
    unsure: list[float] = []
    cells = len(BLUNDERS) + 4
    for metric, n, margin in BLUNDERS:
        random = np.random.default_rng(n)
        share = _share_of_blunders(metric, margin)
        check = VersusChampionCheck(id="versus", metric=metric, not_worse_by=margin, minimum_rows=1)
        passed = sum(_verdict_of(check, *_blunders(metric, n, share, random)) == "passed" for _ in range(draws))
        _row(metric, f"n = {n:,}", f"margin {margin:g}", f"{100 * passed / draws:.2f} %")
        unsure.append(_certain(passed, draws, cells=cells))
    for positives in (3, 5, 10, 50):
        random = np.random.default_rng(positives)
        check = VersusChampionCheck(id="versus", metric="roc_auc", not_worse_by=0.01, minimum_rows=1)
        passed = sum(_verdict_of(check, *_ranked(2000, positives, random)) == "passed" for _ in range(draws))
        _row("roc_auc", "n = 2,000", f"{positives} positives", f"{100 * passed / draws:.2f} %")
        unsure.append(_certain(passed, draws, cells=cells))
    yield Figure("rare_blunders_passed_certainly", max(unsure), "%", at_most=1.0)


def _verdict_of(check: VersusChampionCheck, y: FloatArray, p: FloatArray, champion: FloatArray) -> VerdictName:
    return judge_versus.judge(check, measure_versus.measure(check, holdout(y, p, champion))).verdict


def _blunders(
    metric: str, n: int, share: float, random: np.random.Generator
) -> tuple[FloatArray, FloatArray, FloatArray]:
    y = (random.random(n) < _positives_of(metric)).astype(np.float64)
    champion, p = (np.clip(np.where(y == 1, 0.99, 0.01) + random.normal(0, 0.001, n), 0, 1) for _ in range(2))
    # all of one class, or the errors would hide each other in the mean
    wrong = (y == 1) & (random.random(n) < share / _positives_of(metric))
    p[wrong] = 1 - p[wrong]
    return y, p, champion


def _positives_of(metric: str) -> float:
    return 0.1 if metric in ("roc_auc", "average_precision") else 0.5


@cache
def _share_of_blunders(metric: str, margin: float) -> float:
    """Of all rows, so that the metric is truly worse by two margins: found by halving on many rows."""
    low, high = 0.0, 0.5 * _positives_of(metric)
    for _ in range(14):
        share = (low + high) / 2
        y, p, champion = _blunders(metric, 200_000, share, np.random.default_rng(0))
        mine, theirs = (METRICS[metric].to_first_order(y, each, threshold=0.5) for each in (p, champion))
        assert mine is not None
        assert theirs is not None
        low, high = (low, share) if abs(mine.estimate - theirs.estimate) > 2 * margin else (share, high)
    return high


def _ranked(n: int, positives: int, random: np.random.Generator) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Normal scores of AUC 0.83 and 0.85 that are nearly the same noise (correlation 0.9)."""
    y = (np.arange(n) < positives).astype(np.float64)
    noise = random.normal(size=n)
    other = 0.9 * noise + math.sqrt(1 - 0.9**2) * random.normal(size=n)
    candidate, champion = (_expit(_apart(auc) * y + each) for auc, each in ((0.83, other), (0.85, noise)))
    return y, candidate, champion


def _apart(auc: float) -> float:
    """How far two normal distributions lie apart that are told apart with this AUC."""
    return NormalDist().inv_cdf(auc) * math.sqrt(2)


def _expit(logit: FloatArray) -> FloatArray:
    chance: FloatArray = 1 / (1 + np.exp(-logit))
    return chance


# ---------------------------------------------------------------------- an absolute bar


def _absolute(draws: int) -> Iterator[Figure | Rate]:
    print("accuracy at least 0.84, truly 0.83: how often it passes by its point value, and by its lower bound (90 %)")
    worst = 0
    for n in (1000, 2000, 5000):
        right = np.random.default_rng(n).binomial(n, ACCURACY - 0.02, draws)
        counts = Counter(int(each) for each in right)
        passed = {
            use: sum(times for each, times in counts.items() if _floor(n, each, use) == "passed")
            for use in ("point", "lower_bound")
        }
        _row(f"n = {n:,}", *(f"{use} {100 * each / draws:.1f} %" for use, each in passed.items()))
        worst = max(worst, passed["lower_bound"])
    yield Figure("2pp_worse_passes_absolute_lower_bound", 100 * worst / draws, "%", at_most=5.0)


@cache
def _floor(n: int, right: int, use: Any) -> VerdictName:
    check = MetricCheck(id="floor", metric="accuracy", at_least=0.84, use=use, confidence=0.9)
    frozen = holdout(np.ones(n), np.where(np.arange(n) < right, 0.9, 0.1))
    return judge_metric.judge(check, measure_metric.measure(check, frozen)).verdict


def _rows_asked_of_a_bar(draws: int) -> Iterator[Figure | Rate]:
    """4,000 rows, 5 % positive, and a bar four points below: so many rows are taken as the sentence asks for."""
    print("a share that is undecided on 4,000 rows, on as many as it asks for: passed")
    shares: list[float] = []
    for metric in ("recall", "precision", "f1", "specificity"):
        scene = METRICS[metric].value(*_acted_on(400_000, np.random.default_rng(0)), threshold=0.5, confidence=0.95)
        assert scene is not None
        bar = scene.estimate - (0.004 if metric == "specificity" else 0.04)
        check = MetricCheck(id="bar", metric=metric, at_least=round(bar, 4), use="lower_bound")
        exact = _acted_on(4000, None)
        message = judge_metric.judge(check, measure_metric.measure(check, holdout(*exact))).message
        more = re.search(r"about ([\d,]+) more rows", message)
        assert more is not None, message
        n = 4000 + int(more[1].replace(",", ""))
        random = np.random.default_rng(1)
        passed = sum(
            judge_metric.judge(check, measure_metric.measure(check, holdout(*_acted_on(n, random)))).verdict == "passed"
            for _ in range(draws)
        )
        _row(metric, f"{n:,} rows", f"{100 * passed / draws:.1f} %")
        shares.append(100 * passed / draws)
    yield Rate("share_passes_at_rows_asked_for_worst", min(shares), "%", at_least=85)


def _acted_on(n: int, random: np.random.Generator | None) -> tuple[FloatArray, FloatArray]:
    """5 % positive, 74 % of them found, 2 % of the others falsely alarmed: drawn, or as nearly so as n rows allow."""
    if random is None:
        positives, found, alarmed = round(0.05 * n), round(0.05 * 0.74 * n), round(0.95 * 0.02 * n)
        y = (np.arange(n) < positives).astype(np.float64)
        acted = (np.arange(n) < found) | (np.arange(n) >= n - alarmed)
    else:
        y = (random.random(n) < 0.05).astype(np.float64)
        acted = random.random(n) < np.where(y == 1, 0.74, 0.02)
    return y, np.where(acted, 0.9, 0.1)


def _unbalanced(draws: int) -> Iterator[Figure | Rate]:
    """Rankings exactly at the bar with a few positives among 1,000 rows; models that always deny what comes once in a
    thousand or three hundred rows, whose bar is half of what they truly lose.
    """
    print("short of an absolute bar in unbalanced holdouts, by the bound of 95 %: passed")
    unsure: list[float] = []
    counts, rates, losses = (2, 5, 10, 30, 100), (0.001, 0.003), ("brier", "log_loss", "ece", "calibration_gap")
    cells = 2 * len(counts) + len(rates) * len(losses)
    for auc in (0.8, 0.9):
        for positives in counts:
            random = np.random.default_rng(positives)
            check = MetricCheck(id="bar", metric="roc_auc", at_least=auc, use="lower_bound", minimum_rows=1)
            y = (np.arange(1000) < positives).astype(np.float64)
            passed = sum(
                _bar_of(check, y, _expit(_apart(auc) * y + random.normal(size=1000))) == "passed" for _ in range(draws)
            )
            _row(f"roc_auc {auc}", f"{positives} of 1,000", f"{100 * passed / draws:.2f} %")
            unsure.append(_certain(passed, draws, cells=cells))
    for rate in rates:
        for metric in losses:
            random = np.random.default_rng(7)
            bar = 0.5 * rate * (-math.log(1e-6) if metric == "log_loss" else 1.0)
            loss = MetricCheck(id="bar", metric=metric, at_most=bar, use="upper_bound", minimum_rows=1)
            passed = sum(
                _bar_of(loss, (random.random(2000) < rate).astype(np.float64), np.full(2000, 1e-6)) == "passed"
                for _ in range(draws)
            )
            _row(metric, f"{rate:.1%} of 2,000", f"{100 * passed / draws:.2f} %")
            unsure.append(_certain(passed, draws, cells=cells))
    yield Figure("unbalanced_passed_certainly", max(unsure), "%", at_most=2.5)


def _bar_of(check: MetricCheck, y: FloatArray, p: FloatArray) -> VerdictName:
    return judge_metric.judge(check, measure_metric.measure(check, holdout(y, p))).verdict


# ---------------------------------------------------------------------- fairness


def _groups(sizes: Sequence[int], rate: float, random: np.random.Generator, gap_of: float = 0.0) -> Frozen:
    """Positives only, found at one rate in every group, but for a true gap in the first."""
    names = np.repeat([f"group {each}" for each in range(len(sizes))], sizes)
    found = random.random(len(names)) < np.where(names == "group 0", rate - gap_of, rate)
    return holdout(np.ones(len(names)), found.astype(np.float64), group=names)


def _fairness_verdicts(draw: Callable[[], Frozen], draws: int, bar: float, use: Any) -> Verdicts:
    check = FairnessCheck(id="fair", by="group", at_most=bar, use=use, minimum_group=1, minimum_positives=1)
    measured = (measure_fairness.measure(check, draw()) for _ in range(draws))
    return Counter(judge_fairness.judge(check, each).verdict for each in measured)


def _fairness(draws: int) -> Iterator[Figure | Rate]:
    print("fairness without a true gap, two groups, |gap| ≤ 0.05: failed by the point value, by the lower bound")
    random = np.random.default_rng(3)
    for smallest in (20, 100, 200, 500):
        found = [
            _fairness_verdicts(lambda: _groups((smallest, 5000), 0.3, random), draws, 0.05, use)["failed"]  # noqa: B023
            for use in ("point", "lower_bound")
        ]
        _row(f"smallest group {smallest}", *(f"{100 * each / draws:.1f} %" for each in found))
    print("fairness without a true gap, lower bound: failed, worst of rates .05, .3, .8, by number and size of groups")
    worst: list[float] = []
    for groups in (2, 3, 5, 8):
        for sizes in ([5] * groups, [20] * groups, [200] * groups, [20] + [2000] * (groups - 1)):
            cells = []
            for bar in (0.05, 0.1):
                wrong = sum(
                    _fairness_verdicts(lambda: _groups(sizes, rate, random), draws // 4, bar, "lower_bound")["failed"]  # noqa: B023
                    for rate in (0.05, 0.3, 0.8)
                )
                cells.append(100 * wrong / (3 * (draws // 4)))
            told = f"{sizes[0]} among {sizes[-1]}" if sizes[0] != sizes[-1] else f"{sizes[0]} each"
            _row(f"{groups} groups, {told}", *(f"{each:.2f} %" for each in cells))
            worst += cells
    yield Figure("fairness_failed_without_a_gap_worst", max(worst), "%", at_most=2.5)
    seen = _fairness_verdicts(lambda: _groups([500] * 4, 0.6, random, gap_of=0.2), draws // 2, 0.1, "lower_bound")
    yield Rate("fairness_gap_of_20pp_failed_500_a_group", 100 * seen["failed"] / (draws // 2), "%", at_least=85)
    yield Figure("fairness_5000_draws_100k_rows", _seconds_of_100k(), "s", at_most=0.1)


def _seconds_of_100k() -> float:
    random = np.random.default_rng(0)
    names, y = random.choice(list("abcdef"), 100_000), random.random(100_000) < 0.3
    selected = random.random(100_000) < 0.2 + 0.2 * y
    times = []
    for _ in range(5):
        started = perf_counter()
        table = group_table(names, y, selected)
        gap(table, "equalized_odds_difference", minimum_group=200, minimum_positives=30, confidence=0.95, draws=5000)
        times.append(perf_counter() - started)
    return min(times)


# ---------------------------------------------------------------------- slices


def _alike_slices(draws: int) -> Iterator[Figure | Rate]:
    """Thirty segments of uneven size that have nothing to do with the scores: does any look clearly worse?"""
    print("30 segments that are alike, margin 0: how often a version fails")
    worst: list[float] = []
    for metric in ("recall", "roc_auc", "brier", "f1", "precision", "average_precision"):
        check = SliceCheck(
            id="slices",
            metric=metric,
            by=("segment",),
            not_worse_than_overall_by=0.0,
            minimum_rows=50,
            find=0,
        )
        failed = 0
        random = np.random.default_rng(5)
        for _ in range(draws):
            y, p, _ = _scene(8000, random, worse=False)
            names = random.choice([f"s{each:02}" for each in range(30)], 8000, p=_uneven(30))
            measured = measure_slices.measure(check, holdout(y, p, segment=names))
            failed += judge_slices.judge(check, measured).verdict == "failed"
        _row(metric, f"{100 * failed / draws:.1f} %")
        worst.append(_certain(failed, draws, cells=6))
    yield Figure("slices_alike_failed_certainly", max(worst), "%", at_most=5.0)


def _uneven(parts: int) -> FloatArray:
    weights = np.linspace(0.2, 3, parts)
    shares: FloatArray = weights / weights.sum()
    return shares


# ---------------------------------------------------------------------- coverage


def _coverage(draws: int) -> Iterator[Figure | Rate]:
    print("how often a 95 % interval holds the truth, n = 300 and 3,000")
    short: list[float] = []
    for metric in [name for name in METRICS if name not in ("ece", "absolute_bias")]:
        y, p, _ = _scene(1_000_000, np.random.default_rng(0), worse=True)
        truth = METRICS[metric].value(y, p, threshold=0.4, confidence=0.95)
        assert truth is not None
        covered = []
        for n in (300, 3000):
            random = np.random.default_rng(n)
            held = 0
            for _ in range(draws):
                y, p, _ = _scene(n, random, worse=True)
                found = METRICS[metric].value(y, p, threshold=0.4, confidence=0.95)
                held += found is not None and found.low <= truth.estimate <= found.high
            covered.append(100 * held / draws)
            short.append(_certain(draws - held, draws, cells=2 * len(METRICS)))
        _row(metric, *(f"{each:.1f} %" for each in covered))
    yield Figure("intervals_missing_the_truth_certainly", max(short), "%", at_most=5.0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
