"""Seventeen kinds of scikit-learn models, scored from bytes without a pickle; which of them ONNX answers alike."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io

from engines import conversion, scoring
from engines.scoring import Scorer
from tests.engines.corpus import KINDS, rows, table

FURTHER_APART = {
    "isolation forest": "the converter knows it in single precision only, which tells rows beside thresholds wrongly",
}
"""Kinds whose ONNX form is not used, and why: the parity report finds them, so they are served as skops."""


@pytest.fixture(scope="module", autouse=True)
def _nursery() -> Iterator[None]:
    yield
    scoring.shut_down()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Path]]:
    folder = tmp_path_factory.mktemp("corpus")
    fitted = {name: kind.fitted() for name, kind in KINDS.items()}
    for name, estimator in fitted.items():
        skops.io.dump(estimator, folder / f"{name}.skops")
    return {name: (estimator, folder / f"{name}.skops") for name, estimator in fitted.items()}


def test_corpus__is_of_seventeen_kinds() -> None:
    assert len(KINDS) == 17


@pytest.mark.parametrize("name", KINDS)
def test_scorer__each_kind__answers_what_the_estimator_says(name: str, saved: dict[str, tuple[Any, Path]]) -> None:
    estimator, path = saved[name]
    columns = KINDS[name].columns
    asked = rows(400, seed=9)[list(columns)]
    with Scorer(path, load_class="skops", columns=columns) as scorer:
        scored = scorer.predict(table(asked))
    is_classifier = hasattr(estimator, "classes_")
    expected = estimator.predict_proba(asked)[:, 1] if is_classifier else estimator.predict(asked)
    assert scored.errors == {}
    np.testing.assert_allclose(scored.scores, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", KINDS)
def test_convert__each_kind__answers_alike_or_is_found_out(name: str, saved: dict[str, tuple[Any, Path]]) -> None:
    columns = KINDS[name].columns
    asked = table(rows(1000, seed=9)).select(columns)
    made = conversion.convert(saved[name][1], columns=columns, rows=asked, tolerance=1e-5)
    assert made.rows == 1000
    assert made.is_within(1e-5) is (name not in FURTHER_APART), f"{made.max_difference:.2g} apart"


def test_convert__kinds_that_answer_alike__are_sixteen() -> None:
    assert len(KINDS) - len(FURTHER_APART) >= 16
