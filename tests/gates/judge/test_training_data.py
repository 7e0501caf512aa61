"""The training dataset as facts."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gates.judge import Judgement, training_data
from gates.policy import TrainingDataCheck

NOW = datetime(2013, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def trained(
    to: datetime | None, *, rows: int = 50_000, days: float = 90, holdout: datetime | None = NOW, **changes: Any
) -> Judgement:
    """Of a dataset that reaches over ``days`` up to ``to``, two weeks after the holdout started."""
    positives = changes.pop("positives", 5_000)
    measured = {
        "rows": rows,
        "trained_from": (to - days * DAY).isoformat() if to else None,
        "trained_to": to.isoformat() if to else None,
        "positives": positives,
        "holdout_from": holdout.isoformat() if holdout else None,
        "began": (NOW + 14 * DAY).isoformat(),
    }
    return training_data.judge(TrainingDataCheck(id="training-data", **changes), measured)


def test_training_data__ends_before_the_holdout__passes() -> None:
    judgement = trained(NOW - DAY)

    assert judgement.verdict == "passed"
    assert judgement.message == "50,000 rows over 90.0 days up to 2013-05-31, 15 days old, before the holdout starts."


@pytest.mark.parametrize("to", [NOW, NOW + DAY])
def test_training_data__reaches_into_the_holdout__is_an_error(to: datetime) -> None:
    judgement = trained(to)

    assert judgement.verdict == "error"
    assert "judged on rows it was trained on" in judgement.message


def test_training_data__too_few_rows__fails_and_says_how_many_are_missing() -> None:
    judgement = trained(NOW - DAY, rows=10)

    assert judgement.verdict == "failed"
    assert "990 more are needed" in judgement.message


def test_training_data__too_old__fails() -> None:
    assert trained(NOW - 80 * DAY, maximum_age_days=90).verdict == "failed"
    assert trained(NOW - 70 * DAY, maximum_age_days=90).verdict == "passed"


def test_training_data__too_short_a_time__fails() -> None:
    assert trained(NOW - DAY, days=27, minimum_days=28).verdict == "failed"
    assert trained(NOW - DAY, days=28, minimum_days=28).verdict == "passed"


def test_training_data__too_few_positives__fails_and_tells_everything_that_is_short() -> None:
    judgement = trained(NOW - DAY, rows=900, positives=40, minimum_positives=100)

    assert judgement.verdict == "failed"
    assert "1,000 rows are asked, 100 more are needed, 40 positives, 100 are asked" in judgement.message


def test_training_data__positives_of_a_label_that_has_none__is_an_error() -> None:
    assert trained(NOW - DAY, positives=None, minimum_positives=100).verdict == "error"


def test_training_data__empty_holdout__is_inconclusive() -> None:
    assert trained(NOW - DAY, holdout=None).verdict == "inconclusive"


def test_training_data__unknown_end__is_an_error() -> None:
    assert trained(None).verdict == "error"
