"""What real models do with holes, strange values and the same question twice."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import skops.io
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

from engines import scoring
from engines.scoring import Scorer
from gates.collect.robustness import NEVER_SEEN, _strange, behaviour, compared
from gates.frozen import Unmeasurable
from gates.judge import Judgement, robustness
from gates.policy import RobustnessCheck

COLUMNS = ("size", "shop")
CHECK = RobustnessCheck(id="robustness")
DIGEST = "d1" * 32
Behave = Callable[..., dict[str, Any]]


def rows(count: int = 200) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    return pd.DataFrame({"size": rng.normal(size=count), "shop": rng.choice(["a", "b"], count).astype(object)})


def table(frame: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(frame, preserve_index=False)


@pytest.fixture(scope="module", autouse=True)
def _nursery() -> Iterator[None]:
    yield
    scoring.shut_down()


@pytest.fixture
def behave(tmp_path: Path) -> Behave:
    def ask(model: Any, asked: pa.Table | None = None) -> dict[str, Any]:
        path = tmp_path / "model.skops"
        skops.io.dump(model, path)
        open_scorer = lambda: Scorer(path, load_class="skops", columns=COLUMNS)  # noqa: E731  # a place to open it from
        return behaviour(table(rows()) if asked is None else asked, open_scorer)[1]

    return ask


def linear(handle_unknown: str = "ignore") -> Any:
    encode = make_column_transformer(
        (OneHotEncoder(handle_unknown=handle_unknown), ["shop"]), ("passthrough", ["size"])
    )
    return make_pipeline(encode, LogisticRegression()).fit(rows(), rows()["size"] > 0)


def boosted() -> Any:
    unknown = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan)
    encode = make_column_transformer((unknown, ["shop"]), ("passthrough", ["size"]))
    return make_pipeline(encode, HistGradientBoostingClassifier(max_iter=20)).fit(rows(), rows()["size"] > 0)


def judged(found: dict[str, Any], check: RobustnessCheck = CHECK) -> Judgement:
    form = {"load_class": "skops", "digest": DIGEST}
    parity = {"by": "identity", "rows": found["rows"], "max_difference": 0.0, "only_one": 0}
    return robustness.judge(check, {"served": form, "registered": form, "parity": parity, **found})


def by_column(found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {each["column"]: each for each in found}


def test_robustness__model_that_takes_nulls__passes(behave: Behave) -> None:
    found = behave(boosted())

    assert [each["answered"] for each in found["missing"]] == [100, 100]
    assert judged(found).verdict == "passed"


def test_robustness__model_that_raises_on_nulls__fails_and_names_the_column_and_what_it_said(behave: Behave) -> None:
    found = behave(linear())
    judgement = judged(found)

    assert by_column(found["missing"])["size"]["answered"] == 0
    assert "NaN" in by_column(found["missing"])["size"]["said"]
    assert judgement.verdict == "failed"
    assert "Without size it answers 0 of 100 rows, 100% are asked for" in judgement.message
    assert judgement.value == 0.0


def test_robustness__nulls_need_not_be_answered__passes_with_the_same_numbers(behave: Behave) -> None:
    assert judged(behave(linear()), RobustnessCheck(id="robustness", missing_values=0.0)).verdict == "passed"


def test_robustness__columns__are_told_how_far_their_absence_moves_a_score(behave: Behave) -> None:
    missing = by_column(behave(boosted())["missing"])
    assert missing["size"]["largest_change"] > 0.3
    assert missing["shop"]["largest_change"] < 0.3


def test_robustness__same_model_asked_again__is_equal_to_the_bit(behave: Behave) -> None:
    determinism = behave(boosted())["determinism"]
    assert determinism["again"]["differing"] == 0
    assert determinism["alone"]["rows"] == 32


def test_robustness__text_that_it_refuses__is_an_answer_and_no_crash(behave: Behave) -> None:
    found = behave(linear("error"))
    strange = by_column(found["strange"])

    assert (strange["shop"]["answered"], strange["shop"]["died"]) == (0, False)
    assert "unknown categories" in strange["shop"]["said"]
    assert strange["size"]["answered"] == 100
    assert judged(found, RobustnessCheck(id="robustness", missing_values=0.0)).verdict == "passed"


def test_robustness__rows_that_it_can_not_answer_as_they_are__are_not_spoilt_further(behave: Behave) -> None:
    asked = rows(60)
    asked.loc[:19, "shop"] = "new"
    found = behave(linear("error"), table(asked))

    assert found["answered"] == 40
    assert [each["rows"] for each in found["missing"]] == [40, 40]


def test_robustness__no_row_answered__can_not_be_measured(behave: Behave) -> None:
    with pytest.raises(Unmeasurable, match="none of 200 rows"):
        behave(linear("error"), table(rows().assign(shop="new")))


# ---------------------------------------------------------------------- pieces


def test_compared__different_by_a_bit__is_seen() -> None:
    found = compared(np.array([0.5, 0.25]), np.array([0.5, np.nextafter(0.25, 1)]))
    assert (found["differing"], found["only_one"]) == (1, 0)
    assert 0 < found["max_difference"] < 1e-15


def test_compared__large_scores__are_compared_by_their_size() -> None:
    found = compared(np.array([1e6]), np.array([1e6 + 1]))
    assert (found["max_difference"], found["relative"]) == (1.0, pytest.approx(1e-6))


def test_compared__answered_once_only__counts_and_failed_twice_does_not() -> None:
    found = compared(np.array([np.nan, np.nan, 1.0]), np.array([np.nan, 2.0, 1.0]))
    assert (found["differing"], found["only_one"], found["max_difference"]) == (1, 1, 0.0)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([1.0, 3.0, None]), [23.0, -19.0, 23.0]),
        (pa.array([1, 3], pa.int8()), [23, -19]),
        (pa.array(["a", "b"]), [NEVER_SEEN] * 2),
        (pa.array(["a", "b"]).dictionary_encode(), [NEVER_SEEN] * 2),
    ],
)
def test_strange__numbers_and_texts__lie_where_no_row_was(column: pa.Array, expected: list[Any]) -> None:
    made = _strange(pa.chunked_array([column]))
    assert made is not None
    assert made.to_pylist() == expected


def test_strange__no_value_or_another_kind__is_left_alone() -> None:
    assert _strange(pa.chunked_array([pa.nulls(2, pa.float64())])) is None
    assert _strange(pa.chunked_array([pa.array([True, False])])) is None
