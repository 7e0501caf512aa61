import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from gates import measure
from gates.judge import ColumnQuality
from gates.policy import FairnessCheck

RANDOM = np.random.default_rng(7)
Y = (RANDOM.random(3000) < 0.3).astype(float)
GOOD = np.clip(0.3 + 0.3 * (Y - 0.3) + RANDOM.normal(0, 0.15, 3000), 0, 1)
POOR = np.clip(0.3 + RANDOM.normal(0, 0.15, 3000), 0, 1)


@pytest.mark.parametrize("metric", ["roc_auc", "brier", "log_loss", "accuracy", "mae"])
def test_gain__of_the_better_scores__is_positive_for_every_metric(metric: str) -> None:
    gain = measure.gain(metric, Y, GOOD, POOR, threshold=0.4, confidence=0.95)
    loss = measure.gain(metric, Y, POOR, GOOD, threshold=0.4, confidence=0.95)

    assert gain is not None
    assert loss is not None
    assert gain.low > 0
    assert loss.estimate == pytest.approx(-gain.estimate)


def test_gain__equals_the_difference_that_scikit_learn_finds() -> None:
    auc = measure.gain("roc_auc", Y, GOOD, POOR, threshold=0.5, confidence=0.95)
    brier = measure.gain("brier", Y, GOOD, POOR, threshold=0.5, confidence=0.95)

    assert auc is not None
    assert auc.estimate == pytest.approx(roc_auc_score(Y, GOOD) - roc_auc_score(Y, POOR))
    assert brier is not None
    assert brier.estimate == pytest.approx(brier_score_loss(Y, POOR) - brier_score_loss(Y, GOOD))


def test_value__of_decisions__is_taken_at_the_threshold() -> None:
    everybody = measure.value("recall", Y, GOOD, threshold=0.0, confidence=0.95)
    nobody = measure.value("recall", Y, GOOD, threshold=1.1, confidence=0.95)

    assert everybody is not None
    assert everybody.estimate == 1
    assert nobody is not None
    assert nobody.estimate == 0


def test_group_gaps__null__is_a_group_of_its_own() -> None:
    check = FairnessCheck(id="fairness", by="origin", at_most=0.1, minimum_group=1, minimum_positives=1)
    groups = pa.chunked_array([pa.array(["EWR", None, "EWR", None])])
    _, table = measure.group_gaps(
        check, groups, np.array([1.0, 1.0, 0.0, 0.0]), np.array([0.9, 0.1, 0.1, 0.1]), threshold=0.5, seed=0
    )

    assert [(row.group, row.n, row.tpr) for row in table] == [("(unknown)", 2, 0.0), ("EWR", 2, 1.0)]


def quality_of(column: pa.Array, **trained: float) -> ColumnQuality:
    levels = {"x": {"UA", "B6"}}
    table = pa.table({"x": column})
    (found,) = measure.quality(table, ["x"], trained={"x": trained}, trained_rows=10, levels=levels, range_margin=0.5)
    return found


def test_quality__numbers__counts_nulls_nans_and_values_beyond_the_margin() -> None:
    found = quality_of(pa.array([None, float("nan"), 0.0, 14.9, 15.1, -5.1, 1048.0, 5.0]), min=0.0, max=10.0, nulls=2)

    assert found.null_share == 2 / 8
    assert found.trained_null_share == 0.2
    assert found.out_of_range == 3 / 8
    assert found.unseen is None


def test_quality__text__counts_levels_that_training_had_not() -> None:
    found = quality_of(pa.array(["UA", "B6", "ZZ", None]), nulls=0)

    assert found.unseen == 1 / 4
    assert found.null_share == 1 / 4
    assert found.out_of_range is None


def test_quality__column_that_was_all_null_in_training__has_no_range() -> None:
    assert quality_of(pa.array([1.0, 2.0]), nulls=10).out_of_range is None


def test_quality__no_rows__has_no_defects() -> None:
    found = quality_of(pa.array([], pa.float64()), min=0.0, max=1.0, nulls=0)

    assert (found.null_share, found.out_of_range) == (0.0, 0.0)


def test_duplicates__share_of_rows_seen_before() -> None:
    assert measure.duplicates(pa.chunked_array([["a", "b", "a", "a"]])) == 0.5
    assert measure.duplicates(pa.chunked_array([], pa.string())) == 0.0
