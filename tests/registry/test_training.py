"""What an untrusted entry point leaves behind, read without believing it."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from importlib import metadata
from pathlib import Path

import pyarrow as pa
import pytest

from registry import training
from registry.training import Order, TrainingFailed, delivered, shares


def order(leave: str) -> Order:
    return Order(
        entry_point="tests.registry.plain_entry",
        table=pa.table({"a": [1]}),
        params={"leave": leave},
        time_limit=timedelta(minutes=1),
        memory_limit=2**31,
    )


def test_delivered__model_and_signature__are_enough() -> None:
    with delivered(order("enough")) as delivery:
        assert delivery.model.read() == b"model"
        assert (delivery.signature, delivery.metrics, delivery.importance) == ({"inputs": []}, {}, {})
        assert "left \N{REPLACEMENT CHARACTER} enough" in delivery.log
        assert delivery.seconds > 0


def test_delivered__environment__is_the_lock_that_was_left_or_our_own() -> None:
    with delivered(order("lock")) as delivery:
        assert delivery.environment_lock == "other==1.0\n"
    with delivered(order("enough")) as delivery:
        lines = delivery.environment_lock.splitlines()
    assert lines[0].startswith("# Python 3.")
    assert f"django=={metadata.version('django')}" in lines
    assert lines[1:] == sorted(lines[1:])


@pytest.mark.parametrize(
    ("leave", "reason"),
    [
        ("link", "model.skops can not be opened"),
        ("linked folder", "output folder can not be opened"),
        ("pipe", "no regular file"),
        ("no model", "left no model.skops"),
        ("no signature", "left no signature.json"),
        ("not a number", "metrics.json can not be read as JSON: NaN"),
        ("nul", "NUL"),
        ("list", "must hold a JSON object"),
        ("much", "larger than"),
        ("binary lock", "environment.lock is no plain text"),
    ],
)
def test_delivered__anything_else__is_refused_with_its_log(leave: str, reason: str) -> None:
    with pytest.raises(TrainingFailed, match=reason) as failure, delivered(order(leave)):
        pass
    assert leave in failure.value.log


# ---------------------------------------------------------------------- a child that waits


@pytest.fixture
def _one_waits() -> Iterator[None]:
    training.keep_one_waiting()
    yield
    training.send_home()


def trained(wanted: Order) -> tuple[int | None, bytes]:
    """The number of the process that waited for the order, and the model."""
    waiting = training._waiting
    with delivered(wanted) as delivery:
        return waiting.child.pid if waiting and waiting.child else None, delivery.model.read()


@pytest.mark.usefixtures("_one_waits")
def test_delivered__by_a_child_that_waited__is_the_same_and_the_next_waits_in_a_folder_of_its_own() -> None:
    first, second, third = (trained(order("enough")) for _ in range(3))
    assert [model for _, model in (first, second, third)] == [b"model"] * 3
    assert first[0] is None
    assert None not in {second[0], third[0]}
    assert second[0] != third[0]


@pytest.mark.usefixtures("_one_waits")
def test_delivered__other_limits_than_the_waiting_childs__are_those_of_the_order() -> None:
    trained(order("enough"))
    waiting = training._waiting
    assert waiting is not None
    trained(replace(order("enough"), memory_limit=2**30))
    assert waiting.child is not None
    assert waiting.child.poll() is not None
    assert not Path(waiting.folder.name).exists()


@pytest.mark.usefixtures("_one_waits")
def test_delivered__the_waiting_child_died__says_so_instead_of_hanging() -> None:
    trained(order("enough"))
    waiting = training._waiting
    assert waiting is not None
    assert waiting.child is not None
    waiting.child.kill()
    with pytest.raises(TrainingFailed, match="signal 9"):
        trained(order("enough"))


def test_send_home__ends_the_child_and_its_folder() -> None:
    training.keep_one_waiting()
    trained(order("enough"))
    waiting = training._waiting
    training.send_home()
    assert waiting is not None
    assert waiting.child is not None
    assert (waiting.child.poll() is not None, Path(waiting.folder.name).exists()) == (True, False)
    trained(order("enough"))
    assert training._waiting is None


def test_shares__both_forms__give_share_per_feature() -> None:
    listed = {"features": [{"name": "a", "share": 0.75, "auc_lost": 0.1}, {"name": "b", "share": 0.25}, {"name": "c"}]}
    assert shares(listed) == shares({"a": 0.75, "b": 0.25, "method": "shuffled"}) == {"a": 0.75, "b": 0.25}
