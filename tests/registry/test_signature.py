from typing import Any

import pytest

from registry.signature import SignatureError, check


def test_check__named_inputs_in_order__passes() -> None:
    check({"inputs": [{"name": "a", "type": "double"}, {"name": "b"}], "more": 1}, columns=["a", "b"])


def test_check__empty__passes_where_no_columns_are_asked() -> None:
    check({})


@pytest.mark.parametrize("inputs", ["a", ["a"], [{"type": "double"}], [{"name": "a"}, {"name": "a"}], [{"name": 1}]])
def test_check__inputs_without_distinct_names__is_refused(inputs: Any) -> None:
    with pytest.raises(SignatureError):
        check({"inputs": inputs})


def test_check__another_order__is_refused_naming_both() -> None:
    with pytest.raises(SignatureError, match="takes b, a; its feature service gives a, b"):
        check({"inputs": [{"name": "b"}, {"name": "a"}]}, columns=["a", "b"])
