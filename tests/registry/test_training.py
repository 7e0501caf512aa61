"""What an untrusted entry point leaves behind, read without believing it."""

from datetime import timedelta

import pyarrow as pa
import pytest

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
    ],
)
def test_delivered__anything_else__is_refused_with_its_log(leave: str, reason: str) -> None:
    with pytest.raises(TrainingFailed, match=reason) as failure, delivered(order(leave)):
        pass
    assert leave in failure.value.log


def test_shares__both_forms__give_share_per_feature() -> None:
    listed = {"features": [{"name": "a", "share": 0.75, "auc_lost": 0.1}, {"name": "b", "share": 0.25}, {"name": "c"}]}
    assert shares(listed) == shares({"a": 0.75, "b": 0.25, "method": "shuffled"}) == {"a": 0.75, "b": 0.25}
