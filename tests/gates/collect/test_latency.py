"""The clock taken of real models in real processes. What is fast and what is slow differs by a factor of ten and
more, so that no mood of the machine turns a verdict; nothing here says how many milliseconds anything may take."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import skops.io
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from engines import scoring
from engines.scoring import Scorer
from gates.collect import latency as collecting
from gates.collect.latency import Arms, attempt, digest, pinned
from gates.frozen import Unmeasurable
from gates.judge import latency as judging
from gates.policy import LatencyCheck

COLUMNS = ("a", "b")
RNG = np.random.default_rng(0)
HOLDOUT = pa.table({"a": RNG.normal(size=300), "b": RNG.normal(size=300), "request_id": np.arange(300)})
WORKLOAD = {"rows": 60, "digest": "", "seed": 7, "columns": list(COLUMNS)}
Open = Callable[[str], Scorer]


@pytest.fixture(scope="module", autouse=True)
def _nursery() -> Iterator[None]:
    yield
    scoring.shut_down()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model that is fast, and one that asks three hundred trees."""
    folder = tmp_path_factory.mktemp("models")
    x = np.random.default_rng(1).normal(size=(500, 2))
    models = {
        "fast": LogisticRegression().fit(x, x[:, 0] > 0),
        "slow": RandomForestClassifier(300, max_depth=2, random_state=0).fit(x, x[:, 0] > 0),
    }
    for name, model in models.items():
        skops.io.dump(model, folder / f"{name}.skops")
    return {name: folder / f"{name}.skops" for name in models}


@pytest.fixture
def opened(files: dict[str, Path]) -> Iterator[Open]:
    with ExitStack() as closing:
        yield lambda name: closing.enter_context(Scorer(files[name], load_class="skops", columns=COLUMNS))


def arms(opened: Open, candidate: str, champion: str = "") -> Arms:
    return Arms(
        candidate=opened(candidate),
        champion=opened(champion) if champion else None,
        control=opened(champion or candidate),
        twin="champion" if champion else "candidate",
        name="late-arrival 3" if champion else "",
        missing="",
        another=lambda: opened(candidate),
    )


def check(**fields: Any) -> LatencyCheck:
    # an A/A control that even a machine with much else to do will pass
    values = {"id": "latency", "calls": 25, "batch_rows": 50, "budget_seconds": 20, "control_tolerance": 3.0, **fields}
    return LatencyCheck.model_validate(values)


def collected(asked: LatencyCheck, these: Arms) -> dict[str, Any]:
    return attempt(asked, these, pinned(HOLDOUT.select(COLUMNS), count=60, seed=7), WORKLOAD)


def test_latency__as_fast_as_its_champion__all_three_are_timed_and_it_passes(opened: Open) -> None:
    asked = check(ratio_to_champion=4.0)
    measured = collected(asked, arms(opened, "fast", "fast"))

    assert {name: len(times) for name, times in measured["single"].items()} == {
        "candidate": 25,
        "champion": 25,
        "control": 25,
    }
    assert judging.judge(asked, measured).verdict == "passed"


def test_latency__three_hundred_trees_against_a_line__fails(opened: Open) -> None:
    asked = check(ratio_to_champion=1.5)
    judgement = judging.judge(asked, collected(asked, arms(opened, "slow", "fast")))

    assert judgement.verdict == "failed"
    assert (judgement.value or 0) > 3


def test_latency__no_champion__a_second_copy_of_the_candidate_is_the_control(opened: Open) -> None:
    measured = collected(check(p50_ms=1000), arms(opened, "fast"))

    assert set(measured["single"]) == {"candidate", "control"}
    assert measured["control_of"] == "candidate"


def test_latency__champion_that_uses_up_the_time__is_left_out_and_the_candidate_is_judged(opened: Open) -> None:
    asked = check(p95_ms=1000, ratio_to_champion=1.0, calls=60, budget_seconds=0.5)
    measured = collected(asked, arms(opened, "fast", "slow"))

    assert set(measured["single"]) == {"candidate", "control"}
    assert len(measured["beside_champion"]["champion"]) < 52
    assert np.median(measured["beside_champion"]["champion"]) > np.median(measured["single"]["candidate"])
    assert len(measured["single"]["candidate"]) > len(measured["beside_champion"]["champion"])


def test_latency__unsteady_by_any_standard__is_tried_three_times_and_every_control_is_kept(opened: Open) -> None:
    asked = check(p50_ms=1000, control_tolerance=1e-9, calls=5, minimum_calls=5)
    measured = collected(asked, arms(opened, "fast"))
    judgement = judging.judge(asked, measured)

    assert [each["calls"] for each in measured["attempts"]] == [5, 5, 5]
    assert all(each["control_ratio"]["p50"] > 0 for each in measured["attempts"])
    assert judgement.verdict == "inconclusive"


def test_latency__champion_dies__is_left_out_and_the_message_is_kept(opened: Open) -> None:
    these = arms(opened, "fast", "fast")
    assert these.champion is not None
    these.champion.close()
    rows = pinned(HOLDOUT.select(COLUMNS), count=60, seed=7)
    measured = collecting._clocked(check(p50_ms=1000), these, rows, WORKLOAD)

    assert set(measured["single"]) == {"candidate", "control"}
    assert "ended" in measured["champion_missing"]


def test_latency__candidate_dies__can_not_be_measured(opened: Open) -> None:
    these = arms(opened, "fast")
    these.candidate.close()
    with pytest.raises(Unmeasurable, match="could not be timed"):
        collecting._clocked(check(p50_ms=1000), these, pinned(HOLDOUT, count=60, seed=7), WORKLOAD)


def test_latency__measured__is_plain_json(opened: Open) -> None:
    import json

    measured = collected(check(p50_ms=1000, calls=5, minimum_calls=5), arms(opened, "fast"))
    assert json.loads(json.dumps(measured, allow_nan=False)) == measured


# ---------------------------------------------------------------------- the pinned workload


def test_pinned__same_seed__is_the_same_rows_and_another_seed_is_not() -> None:
    first, again, other = (pinned(HOLDOUT, count=50, seed=seed) for seed in (1, 1, 2))
    assert digest(first) == digest(again) != digest(other)
    assert len(first) == 50


def test_pinned__fewer_rows_than_asked__is_all_of_them() -> None:
    assert len(pinned(HOLDOUT, count=1000, seed=1)) == 300


def test_digest__one_value_or_type_changed__is_another() -> None:
    table = pa.table({"a": [1.0, None], "b": ["x", "y"]})
    changed = [
        pa.table({"a": [1.0, 2.0], "b": ["x", "y"]}),
        pa.table({"a": pa.array([1.0, None], pa.float32()), "b": ["x", "y"]}),
        pa.table({"b": ["x", "y"], "c": [1.0, None]}),
    ]
    assert len({digest(each) for each in [table, *changed]}) == 4


def test_arms__alone__has_a_copy_of_the_candidate_and_keeps_the_champions_name(opened: Open) -> None:
    these = replace(arms(opened, "fast", "slow"), name="late-arrival 3").alone(missing="It died.")
    assert set(these.scorers) == {"candidate", "control"}
    assert (these.name, these.missing, these.twin) == ("late-arrival 3", "It died.", "candidate")
