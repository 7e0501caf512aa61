"""What is said of a measured metric, and which verdict its evidence means: the same in shadow and canary.

A sentence has the numbers that a person would ask for, and ends in what they prove: "more than the champion's is proven
(1 in 20,000 by chance)". That chance is what an e-value of 20,000 says: had nothing been wrong, evidence this strong
would have come up at any look with probability 1 / 20,000 at most.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rollout.analysis.rows import BoolArray, BusinessValues, FloatArray
from rollout.judge import ERROR, FAILED, INCONCLUSIVE, PASSED, Measured, verdict_of
from stats.sequential import MeanDifference, bernoulli_below, rate_ratio
from stats.sequential.running import Distributions

BILLION = 1e9


def errors(
    *,
    by_candidate: BoolArray,
    share: FloatArray | float,
    entity: Sequence[str],
    candidate_rows: int,
    champion_rows: int,
    tolerated_ratio: float,
    tolerated_rate: float,
    alpha: float,
    harm_from: float | None = None,
) -> Measured:
    """Errors, one entry per error (see ``error_rate``)."""
    harm_from = tolerated_ratio if harm_from is None else harm_from
    ratio = rate_ratio(
        by_candidate, share, tolerated_ratio=tolerated_ratio, harm_from=harm_from, entity=entity, alpha=alpha
    )
    count = int(by_candidate.sum())
    return error_rate(
        (ratio.harm, ratio.no_harm),
        candidate=(count, candidate_rows),
        champion=(len(by_candidate) - count, champion_rows),
        harm_from=harm_from,
        tolerated_ratio=tolerated_ratio,
        tolerated_rate=tolerated_rate,
        alpha=alpha,
    )


def error_rate(
    evidence: tuple[float, float],
    *,
    candidate: tuple[int, int],
    champion: tuple[int, int],
    harm_from: float,
    tolerated_ratio: float,
    tolerated_rate: float,
    alpha: float,
) -> Measured:
    """Errors among rows, by candidate and champion; ``evidence``: for more than ``harm_from`` times the champion's, and
    for fewer than ``tolerated_ratio`` times.

    Harm: the former, while they are not proven to be rarer than ``tolerated_rate``. Excluded: that they are both
    ``tolerated_ratio`` times as many and not rarer than that.
    """
    needed = needed_for(alpha)
    count, rows = candidate
    rare = bernoulli_below(count, rows, tolerated_rate)
    # Under "too often, relatively and absolutely" both are e-values, and so is their mean.
    more, fewer = evidence
    no_harm = float(np.logaddexp(fewer, rare) - math.log(2))
    harm = more if rare < needed else min(more, 0.0)
    verdict = verdict_of(harm >= needed, no_harm >= needed)
    most = f"{times_as_many(tolerated_ratio)} and above {tolerated_rate:.1%}"
    return Measured(
        metric="errors",
        verdict=verdict,
        message=(
            f"Errors: {count:,} of {rows:,} rows of the candidate ({rate(count, rows)}) against {champion[0]:,} of "
            f"{champion[1]:,} of the champion ({rate(*champion)}): "
            f"{proven(verdict, harm=times_as_many(harm_from), most=most, evidence=harm)}."
        ),
        value=count / rows if rows else None,
        limit=tolerated_rate,
        n=rows,
        harm=harm,
        no_harm=no_harm,
        needed=needed,
        harm_from=None,
    )


def times_as_many(ratio: float) -> str:
    return "more than the champion's" if ratio == 1 else f"more than {ratio:g} times the champion's"


def latency_limit(champion: FloatArray, *, ratio: float, above: float) -> float:
    """The slow-down tolerated, as a ratio: ``ratio``, or what ``above`` milliseconds more are, if that is more."""
    if not len(champion):
        return ratio
    return slowest(float(np.exp(np.log(champion).mean())), ratio=ratio, above=above)


def slowest(typical: float, *, ratio: float, above: float) -> float:
    """``latency_limit`` when the champion typically takes ``typical`` milliseconds."""
    return max(ratio, 1 + above / typical)


def latency(
    found: MeanDifference,
    limit: float,
    *,
    alpha: float,
    timed: bool,
    harm_from: float | None = None,
    typical: float | None = None,
) -> Measured:
    """``found`` on the logarithms of milliseconds; ``typical`` is what the champion takes (geometric mean)."""
    value, low, high = (None if each is None else math.exp(min(each, 700.0)) for each in interval_of(found))
    verdict, needed = judged(found, alpha)
    from_ratio = limit if harm_from is None else harm_from
    said = proven(verdict, harm=_slower(from_ratio, typical), most=_slower(limit, typical), evidence=found.harm)
    if value is None:
        seen = "not measured yet"
    elif typical is None:
        seen = f"{number(value)} times the champion's {bounds(low, high)}"
    else:
        seen = (
            f"typically {milliseconds(value * typical)} against the champion's {milliseconds(typical)} "
            f"({number(value)} times {bounds(low, high)})"
        )
    return Measured(
        metric="latency",
        verdict=verdict,
        message=f"Latency: {seen}; {said}.",
        value=value,
        low=low,
        high=high,
        limit=limit,
        n=found.n_canary,
        harm=found.harm,
        no_harm=found.no_harm,
        needed=needed,
        guards=timed,
        harm_from=from_ratio,
    )


def _slower(ratio: float, typical: float | None) -> str:
    """A ratio of 53.6 says nothing to anybody: what it means in milliseconds does."""
    if ratio <= 1:
        return "slower than the champion"
    if typical is None:
        return f"more than {ratio:.3g} times as slow"
    return f"slower by more than {milliseconds((ratio - 1) * typical)}"


def milliseconds(value: float) -> str:
    return f"{value:.0f} ms" if value >= 100 else f"{value:.3g} ms"


def loss(found: MeanDifference, tolerated: float, *, alpha: float, harm_from: float | None = None) -> Measured:
    verdict, needed = judged(found, alpha)
    from_size = tolerated if harm_from is None else harm_from
    said = proven(
        verdict,
        harm=f"an increase of more than {from_size:g}" if from_size else "an increase",
        most=f"an increase of more than {tolerated:g}",
        evidence=found.harm,
    )
    return Measured(
        metric="loss",
        verdict=verdict,
        message=(
            f"Squared error on {found.n_canary:,} known outcomes: {difference(found)} against the champion; {said}."
        ),
        value=found.estimate,
        low=found.low,
        high=found.high,
        limit=tolerated,
        n=found.n_canary,
        harm=found.harm,
        no_harm=found.no_harm,
        needed=needed,
        harm_from=from_size,
    )


def predictions(
    up: MeanDifference, down: MeanDifference, tolerated: float, *, alpha: float, harm_from: float | None = None
) -> Measured:
    """A shift in either direction: ``down`` is measured with the sign turned."""
    needed = needed_for(alpha)
    harm = no_harm = None
    if up.harm is not None and down.harm is not None and up.no_harm is not None and down.no_harm is not None:
        harm = float(np.logaddexp(up.harm, down.harm) - math.log(2))
        no_harm = min(up.no_harm, down.no_harm)
    verdict = verdict_of(harm is not None and harm >= needed, no_harm is not None and no_harm >= needed)
    from_size = tolerated if harm_from is None else harm_from
    said = proven(
        verdict,
        harm=f"a shift of more than ±{from_size:g}" if from_size else "a shift",
        most=f"a shift of more than ±{tolerated:g}",
        evidence=harm,
    )
    return Measured(
        metric="predictions",
        verdict=verdict,
        message=f"Mean score on {up.n_canary:,} rows: {difference(up)} against the champion; {said}.",
        value=up.estimate,
        low=up.low,
        high=up.high,
        limit=tolerated,
        n=up.n_canary,
        harm=harm,
        no_harm=no_harm,
        needed=needed,
        harm_from=from_size,
    )


def distribution(found: Distributions, *, harm_from: float, tolerated: float, alpha: float, guards: bool) -> Measured:
    """Whether the scores are distributed as the champion's. Harm: that they are not is proven, and the two lie
    ``harm_from`` apart or more; a smaller difference never rolls back, however certain. Excluded: ``tolerated``."""
    needed, apart = needed_for(alpha), found.distance.value
    differ = found.shift.combined
    harm = differ if apart is not None and apart >= harm_from else min(differ, 0.0)
    no_harm = found.distance.no_more(tolerated)
    verdict = verdict_of(harm >= needed, no_harm is not None and no_harm >= needed)
    if apart is None:
        seen = "nothing to compare yet"
    else:
        seen = (
            f"{apart:.3f} apart on {found.n:,} entities of the candidate, at most {number(found.distance.high, '.3f')}"
        )
    if verdict == FAILED:
        said = f"that they differ is proven ({by_chance(differ)}), and from {harm_from:g} on it is too much"
    elif verdict == PASSED:
        said = f"{tolerated:g} apart or more is excluded"
    elif differ >= needed:
        said = (
            f"that they differ is proven, but less than {harm_from:g} never rolls back; {tolerated:g} is not excluded"
        )
    else:
        said = f"that they differ is not proven, {tolerated:g} apart or more not excluded yet"
    return Measured(
        metric="distribution",
        verdict=verdict,
        message=f"Distribution of the scores: {seen}; {said}.",
        value=apart,
        low=None if apart is None else 0.0,
        high=found.distance.high,
        limit=tolerated,
        n=found.n,
        harm=harm,
        no_harm=no_harm,
        needed=needed,
        guards=guards,
        harm_from=harm_from,
    )


def split(evidence: float, *, counts: tuple[int, int, float], candidate_rows: int, alpha: float) -> Measured:
    """Whether the candidate gets the share it was given; if not, nothing that was measured can be trusted. ``counts``:
    entities of the candidate, of both, and how many it should have."""
    needed = needed_for(alpha)
    broken = evidence >= needed
    n, entities, expected = counts
    said = "the split is broken, so that the arms can not be compared" if broken else "nothing speaks against the split"
    return Measured(
        metric="split",
        verdict=ERROR if broken else PASSED if entities else INCONCLUSIVE,
        message=(
            f"Split: {n:,} of {entities:,} entities came to the candidate where {expected:,.0f} were expected; {said}."
        ),
        value=n / entities if entities else None,
        n=candidate_rows,
        harm=evidence,
        needed=needed,
    )


def business(found: MeanDifference, metric: BusinessValues, *, alpha: float) -> Measured:
    """A business metric; ``found`` is on the scale that is compared, larger is worse."""
    verdict, needed = judged(found, alpha)
    value, low, high = interval_of(found)
    if metric.more_is_better:
        value, low, high = (None if each is None else -each for each in (value, high, low))
    if metric.heavy_tailed:
        value, low, high = (None if each is None else math.exp(min(each, 700.0)) for each in (value, low, high))
    unit = f" {metric.unit}" if metric.unit else ""
    if value is None:
        seen = "not comparable yet"
    elif metric.heavy_tailed:
        seen = f"typically {value:.3g} times the champion's {bounds(low, high)}"
    else:
        seen = f"{value:+.4g}{unit} {bounds(low, high, '+.4g')} against the champion's"
    what = f"worse by more than {{:g}}{unit}"
    said = proven(
        verdict,
        harm=what.format(metric.harm_from) if metric.harm_from else "worse",
        most=what.format(metric.tolerated),
        evidence=found.harm,
    )
    each = "entities" if metric.per == "entity" else "predictions"
    return Measured(
        metric=metric.name,
        verdict=verdict,
        message=f"{metric.title} on {found.n_canary:,} {each} of the candidate: {seen}; {said}.",
        value=value,
        low=low,
        high=high,
        limit=metric.tolerated,
        n=found.n_canary,
        harm=found.harm,
        no_harm=found.no_harm,
        needed=needed,
        guards=metric.guards,
        harm_from=metric.harm_from,
    )


def proven(verdict: str, *, harm: str, most: str, evidence: float | None) -> str:
    """What the evidence says of the two sizes, in words such as "an increase of more than 0.02"."""
    if verdict == FAILED:
        return f"{harm} is proven ({by_chance(evidence)})"
    if verdict == PASSED:
        return f"{most} is excluded"
    if harm == most:
        return f"{most} is neither proven nor excluded yet"
    return f"{harm} is not proven, {most} not excluded yet"


def by_chance(evidence: float | None) -> str:
    """How rarely evidence this strong comes up, at any look, where there is nothing to be found."""
    odds = math.exp(min(evidence or 0.0, 700.0))
    if odds >= BILLION:
        return "less than 1 in a billion by chance"
    digits = max(0, len(str(int(odds))) - 2)
    return f"1 in {int(odds) // 10**digits * 10**digits:,} by chance"


def needed_for(alpha: float) -> float:
    return math.log(1 / alpha)


def judged(found: MeanDifference, alpha: float) -> tuple[str, float]:
    needed = needed_for(alpha)
    harm = found.harm is not None and found.harm >= needed
    excluded = found.no_harm is not None and found.no_harm >= needed
    return verdict_of(harm, excluded), needed


def interval_of(found: MeanDifference) -> tuple[float | None, float | None, float | None]:
    return found.estimate, found.low, found.high


def difference(found: MeanDifference) -> str:
    if found.estimate is None:
        return "not comparable yet"
    return f"{found.estimate:+.4f} {bounds(found.low, found.high, '+.4f')}".strip()


def bounds(low: float | None, high: float | None, form: str = ".3g") -> str:
    if low is None and high is None:
        return "(no interval yet)"
    return f"[{number(low, form, '-∞')}, {number(high, form, '∞')}]"


def number(value: float | None, form: str = ".3g", otherwise: str = "–") -> str:
    return otherwise if value is None else f"{value:{form}}"


def rate(count: int, n: int) -> str:
    return f"{count / n:.2%}" if n else "no rows"
