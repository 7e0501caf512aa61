"""Real artifacts in real scorer processes."""

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import skops.io
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder
from sklearn.tree import DecisionTreeRegressor

from engines import sandbox, scoring
from engines.scoring import Scorer, Stopped, Unscorable, timed

COLUMNS = ("size", "shop")


@pytest.fixture(scope="module", autouse=True)
def _nursery() -> Iterator[None]:
    yield
    scoring.shut_down()


def rows(count: int = 40) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    return pd.DataFrame({"size": rng.normal(size=count), "shop": rng.choice(["a", "b"], count)})


def table(frame: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(frame, preserve_index=False)


def picky(estimator: Any = None) -> Pipeline:
    """A model that raises at a shop it has not seen, and at a missing size."""
    encode = make_column_transformer((OneHotEncoder(handle_unknown="error"), ["shop"]), ("passthrough", ["size"]))
    learned = rows()
    return make_pipeline(encode, estimator or LogisticRegression()).fit(learned, learned["size"] > 0)


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[Any], Path]:
    def save(content: Any) -> Path:
        path = tmp_path / "model.skops"
        skops.io.dump(content, path)
        return path

    return save


def scorer(path: Path, **changes: Any) -> Scorer:
    return Scorer(path, **{"load_class": "skops", "columns": COLUMNS, **changes})


Save = Callable[[Any], Path]


def test_predict__whole_batch__is_what_the_model_says(saved: Save) -> None:
    model, asked = picky(), rows(200)
    with scorer(saved(model)) as warm:
        scored = warm.predict(table(asked))
    assert scored.errors == {}
    np.testing.assert_array_equal(scored.scores, model.predict_proba(asked)[:, 1])


def test_predict__columns_in_another_order_and_more__takes_its_own(saved: Save) -> None:
    asked = rows(5)
    with scorer(saved(picky())) as warm:
        expected = warm.predict(table(asked)).scores
        assert (warm.predict(table(asked.assign(more=1)[["more", "shop", "size"]])).scores == expected).all()


def test_predict__rows_that_raise__cost_only_themselves(saved: Save) -> None:
    model, asked = picky(), rows(200)
    asked.loc[[0, 77, 199], "shop"] = "new"
    with scorer(saved(model)) as warm:
        scored = warm.predict(table(asked))
    assert set(scored.errors) == {0, 77, 199}
    assert "unknown categories" in scored.errors[77]
    good = np.setdiff1d(np.arange(200), [0, 77, 199])
    np.testing.assert_array_equal(scored.scores[good], model.predict_proba(asked.iloc[good])[:, 1])
    assert np.isnan(scored.scores[[0, 77, 199]]).all()


def test_predict__most_rows_raise__the_others_are_still_scored(saved: Save) -> None:
    asked = rows(300).assign(shop="new")
    asked.loc[150:160, "shop"] = "a"
    with scorer(saved(picky())) as warm:
        scored = warm.predict(table(asked))
    assert len(scored.errors) == 289
    assert np.isfinite(scored.scores[150:161]).all()


def test_predict__every_row_raises__each_is_an_error_and_it_is_quick(saved: Save) -> None:
    asked = rows(20_000).assign(shop="new")
    with scorer(saved(picky())) as warm:
        began = time.monotonic()
        scored = warm.predict(table(asked))
    assert len(scored.errors) == 20_000
    assert np.isnan(scored.scores).all()
    assert time.monotonic() - began < 10


def test_predict__answer_that_is_no_number__is_an_error_of_its_row(saved: Save) -> None:
    model = DecisionTreeRegressor(max_depth=1).fit([[0.0], [1.0]], [0.0, 1.0])
    model.tree_.value[model.tree_.apply(np.array([[1.0]], dtype=np.float32))] = np.inf
    with scorer(saved(model), columns=["size"]) as warm:
        scored = warm.predict(pa.table({"size": [0.0, 1.0]}))
    assert scored.scores[0] == 0.0
    assert "finite" in scored.errors[1]


def test_predict__regressor__answers_its_prediction(saved: Save) -> None:
    with scorer(saved(DecisionTreeRegressor().fit([[0.0], [1.0]], [5.0, 9.0])), columns=["size"]) as warm:
        assert warm.predict(pa.table({"size": [1, 0]})).scores.tolist() == [9.0, 5.0]


def test_predict__nulls_and_types__arrive_as_in_training(saved: Save) -> None:
    encode = make_column_transformer(
        (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2), ["shop"]),
        ("passthrough", ["size"]),
    )
    learned = rows()
    model = make_pipeline(encode, KNeighborsClassifier(1)).fit(learned, learned["size"] > 0)
    asked = pa.table({"size": pa.array([1, 0], pa.int8()), "shop": pa.array(["a", None]).dictionary_encode()})
    with scorer(saved(model)) as warm:
        assert warm.predict(asked).errors == {}


def test_predict__no_rows__is_no_scores(saved: Save) -> None:
    with scorer(saved(picky())) as warm:
        assert len(warm.predict(table(rows(0)).cast(table(rows(1)).schema)).scores) == 0


def test_predict__missing_column__is_refused_by_name(saved: Save) -> None:
    with scorer(saved(picky())) as warm, pytest.raises(ValueError, match="shop"):
        warm.predict(pa.table({"size": [1.0]}))


def test_predict__many_threads__each_gets_its_own_rows(saved: Save) -> None:
    with scorer(saved(DecisionTreeRegressor().fit([[0.0], [1.0]], [0.0, 1.0])), columns=["size"]) as warm:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda i: warm.predict(pa.table({"size": [i % 2] * (i + 1)})).scores, range(40)))
        assert all(len(scores) == i + 1 and set(scores) == {i % 2} for i, scores in enumerate(answers))


def test_scorer__started_by_a_thread_that_ended__lives_on(saved: Save) -> None:
    path = saved(picky())
    with ThreadPoolExecutor(1) as pool:
        warm = pool.submit(scorer, path).result()
    with warm:
        assert not warm.predict(table(rows())).errors


def test_time_rows__enough_time__gives_a_time_per_row(saved: Save) -> None:
    with scorer(saved(picky())) as warm:
        times = warm.time_rows(table(rows(20)), budget=timedelta(seconds=20))
    assert len(times) == 20
    assert (times > 0).all()


def test_time_rows__little_time__gives_fewer(saved: Save) -> None:
    with scorer(saved(picky())) as warm:
        assert 0 < len(warm.time_rows(table(rows(5000)), budget=timedelta(milliseconds=50))) < 5000


def test_time_rows__rows_that_raise__are_left_out(saved: Save) -> None:
    with scorer(saved(picky())) as warm:
        assert len(warm.time_rows(table(rows(5).assign(shop="new")), budget=timedelta(seconds=5))) == 0


def test_clock__rows_asked_at_once__is_a_time_and_a_row_that_raises_is_none(saved: Save) -> None:
    with scorer(saved(picky())) as warm:
        assert (warm.clock(table(rows(50))) or 0) > 0
        assert warm.clock(table(rows(5).assign(shop="new"))) is None


def test_timed__two_copies__have_a_time_for_every_call(saved: Save) -> None:
    path = saved(picky())
    with scorer(path) as one, scorer(path) as other:
        times = timed({"one": one, "other": other}, table(rows()), calls=30, batch_rows=20, budget=timedelta(minutes=1))
    assert [len(each.single_ms) for each in times.values()] == [30, 30]
    assert all((each.batch_ms > 0).all() for each in times.values())


def test_timed__more_trees__take_longer_in_every_pair(saved: Save, tmp_path: Path) -> None:
    learned = table(rows()).select(["size"])
    forest = RandomForestClassifier(200, max_depth=2).fit(learned.to_pandas(), rows()["size"] > 0)
    skops.io.dump(forest, tmp_path / "forest.skops")
    line = saved(LogisticRegression().fit(learned.to_pandas(), rows()["size"] > 0))
    with scorer(line, columns=["size"]) as fast, scorer(tmp_path / "forest.skops", columns=["size"]) as slow:
        times = timed({"fast": fast, "slow": slow}, learned, calls=15, batch_rows=10, budget=timedelta(minutes=1))
    assert np.median(times["slow"].single_ms / times["fast"].single_ms) > 2


def test_timed__ended_scorer__is_named(saved: Save) -> None:
    path = saved(picky())
    with scorer(path) as one, scorer(path) as other:
        other.close()
        with pytest.raises(Stopped, match="ended") as stopped:
            timed({"one": one, "other": other}, table(rows()), calls=5, batch_rows=2, budget=timedelta(minutes=1))
    assert stopped.value.name == "other"


# ---------------------------------------------------------------------- what is refused


class Trap:
    def __init__(self, trace: str) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.mkdir, (self.trace,)


def test_scorer__pickle_renamed_to_skops__is_refused_and_does_not_run(tmp_path: Path) -> None:
    (tmp_path / "model.skops").write_bytes(pickle.dumps(Trap(str(tmp_path / "trace"))))
    with pytest.raises(Unscorable, match="not a skops file"):
        scorer(tmp_path / "model.skops")
    assert not (tmp_path / "trace").exists()


def test_scorer__type_outside_our_list__is_refused_by_name(saved: Save) -> None:
    with pytest.raises(Unscorable, match=r"pathlib\.PosixPath"):
        scorer(saved({"a": Path("x")}))


def test_scorer__file_cut_short__is_refused(saved: Save) -> None:
    path = saved(picky())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(Unscorable, match="not a skops file"):
        scorer(path)


def test_scorer__listed_types_that_do_not_fit_together__is_refused(saved: Save) -> None:
    with pytest.raises(Unscorable, match="does not predict"):
        scorer(saved({"a": 1}))


def test_scorer__classifier_without_probability_or_with_three_classes__is_refused(saved: Save) -> None:
    with pytest.raises(Unscorable, match="predict_proba"):
        scorer(saved(RidgeClassifier().fit([[0], [1]], [0, 1])))
    with pytest.raises(Unscorable, match="3 classes"):
        scorer(saved(GaussianNB().fit([[0], [1], [2]], [0, 1, 2])))


def test_scorer__another_load_class__is_refused(saved: Save) -> None:
    with pytest.raises(Unscorable, match="quarantined"):
        scorer(saved(picky()), load_class="quarantined")


def test_scorer__more_memory_than_its_limit__is_refused_and_the_next_one_works(saved: Save) -> None:
    big = KNeighborsClassifier(algorithm="brute").fit(np.zeros((2_000_000, 4)), np.arange(2_000_000) % 2)
    path = saved(big)
    with pytest.raises(Unscorable, match=r"MemoryError|memory"):
        scorer(path, memory_limit=32 * 2**20)
    with scorer(saved(picky())) as warm:
        assert not warm.predict(table(rows())).errors


def test_scorer__start_takes_too_long__is_refused(saved: Save) -> None:
    many = np.random.default_rng(0).normal(size=(500_000, 4))  # some hundred milliseconds to read
    large = KNeighborsClassifier(algorithm="brute").fit(many, many[:, 0] > 0)
    with pytest.raises(Unscorable, match="start time limit"):
        scorer(saved(large), start_timeout=timedelta(microseconds=10))


def test_predict__takes_too_long__is_ended_and_stays_so(saved: Save) -> None:
    learned = np.random.default_rng(0).normal(size=(20_000, 1))
    slow = KNeighborsClassifier(algorithm="brute").fit(learned, learned[:, 0] > 0)
    warm = scorer(saved(slow), columns=["size"], call_timeout=timedelta(milliseconds=50))
    asked = pa.table({"size": np.zeros(20_000)})
    with pytest.raises(Unscorable, match="not answered after"):
        warm.predict(asked)
    assert not warm.is_alive
    with pytest.raises(Unscorable, match="ended"):
        warm.predict(asked)


def test_scorer__nursery_has_ended__says_so_and_a_new_one_starts_another(saved: Save) -> None:
    path = saved(picky())
    orphan = scorer(path)
    scoring.shut_down()
    with pytest.raises(Unscorable, match="ended"):
        orphan.predict(table(rows()))
    with scorer(path) as warm:
        assert not warm.predict(table(rows())).errors


def test_scorer__no_such_file__is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        scorer(tmp_path / "absent.skops")


# ---------------------------------------------------------------------- processes


def children(pid: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout.split()
    return [int(each) for each in found]


def descendants(pid: int) -> list[int]:
    return [each for child in children(pid) for each in (child, *descendants(child))]


def test_scorer__owner_killed__leaves_no_process_behind(saved: Save) -> None:
    code = f"""
import sys, time
from pathlib import Path
from engines.scoring import Scorer
scorer = Scorer(Path({str(saved(picky()))!r}), load_class="skops", columns={COLUMNS!r})
print("ready", flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=sandbox.ROOT, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"ready\n"
        family = descendants(owner.pid)
        owner.kill()
    assert len(family) >= 2
    ends = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in family) and time.monotonic() < ends:
        time.sleep(0.05)
    assert not [pid for pid in family if Path(f"/proc/{pid}").exists()]


def test_scorer__in_a_forked_process__uses_a_nursery_of_its_own(saved: Save) -> None:
    code = f"""
import multiprocessing, pyarrow as pa
from pathlib import Path
from engines.scoring import Scorer
def score():
    with Scorer(Path({str(saved(picky()))!r}), load_class="skops", columns={COLUMNS!r}) as scorer:
        print(len(scorer.predict(pa.table({{"size": [1.0], "shop": ["a"]}})).scores), flush=True)
score()
child = multiprocessing.get_context("fork").Process(target=score)
child.start()
child.join()
score()
"""
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=sandbox.ROOT, capture_output=True, text=True, check=False
    )
    assert finished.stdout == "1\n1\n1\n", finished.stderr


def test_importing_scoring__loads_neither_skops_nor_sklearn() -> None:
    code = "import sys, engines.scoring; print({'skops', 'sklearn', 'pandas'} & set(sys.modules))"
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=sandbox.ROOT, capture_output=True, text=True, check=True
    )
    assert finished.stdout == "set()\n"
