"""The training dataset itself: where it ends, how much there is of it, how far it reaches, how old it is."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from gates.judge.verdicts import Judgement, could_not, judged
from gates.policy.checks import TrainingDataCheck

DAY = timedelta(days=1)


def judge(check: TrainingDataCheck, measured: Mapping[str, Any]) -> Judgement:
    """The newest training row must lie before the oldest row of the holdout; then the limits, all that are broken."""
    rows, began = measured["rows"], datetime.fromisoformat(measured["began"])
    trained_from, trained_to = _moment(measured["trained_from"]), _moment(measured["trained_to"])
    holdout_from = _moment(measured["holdout_from"])
    detail = {name: measured[name] for name in ("trained_from", "trained_to", "holdout_from", "positives")}
    if trained_from is None or trained_to is None:
        return could_not(check, "The training dataset does not say how far it reaches.", **detail)
    if holdout_from is None:
        return judged(check, "inconclusive", "There is no holdout to lie before.", n=rows, detail=detail)
    if trained_to >= holdout_from:
        message = (
            f"It would be judged on rows it was trained on: training data reach {trained_to:%Y-%m-%d %H:%M}, "
            f"the holdout starts {holdout_from:%Y-%m-%d %H:%M}."
        )
        return could_not(check, message, **detail)
    if check.minimum_positives is not None and measured["positives"] is None:
        return could_not(check, "minimum_positives asks for positives, and its label is not binary.", **detail)
    days, age = (trained_to - trained_from) / DAY, (began - trained_to) / DAY
    facts = f"{rows:,} rows over {days:,.1f} days up to {trained_to:%Y-%m-%d}, {age:.0f} days old"
    if short := _short(check, rows=rows, days=days, positives=measured["positives"], age=age):
        return judged(check, "failed", f"{facts}: {', '.join(short)}.", value=age, n=rows, detail=detail)
    return judged(check, "passed", f"{facts}, before the holdout starts.", value=age, n=rows, detail=detail)


def _short(check: TrainingDataCheck, *, rows: int, days: float, positives: int | None, age: float) -> list[str]:
    """What falls short of the policy, and by how much."""
    found = []
    if rows < check.minimum_rows:
        found.append(f"{check.minimum_rows:,} rows are asked, {check.minimum_rows - rows:,} more are needed")
    if check.minimum_days is not None and days < check.minimum_days:
        found.append(f"it has to reach over {check.minimum_days:g} days")
    if check.minimum_positives is not None and positives is not None and positives < check.minimum_positives:
        found.append(f"{positives:,} positives, {check.minimum_positives:,} are asked")
    if check.maximum_age_days is not None and age > check.maximum_age_days:
        found.append(f"older than {check.maximum_age_days} days")
    return found


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
