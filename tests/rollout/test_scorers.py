"""Which scorer a version gets: one per served form, kept warm."""

from typing import Any

import pytest

from registry.conversion import settle
from rollout import scorers
from tests.builders import NOON
from tests.registry.forms import version as registered

pytestmark = pytest.mark.django_db


def test_scorer__same_form__is_the_same_process() -> None:
    version = registered()
    assert scorers.scorer(version) is scorers.scorer(version)


def test_scorer__of_the_onnx_form__is_another_than_of_the_artifact(settings: Any) -> None:
    version = registered()
    as_registered = scorers.scorer(version)
    settle(version, now=NOON)
    assert scorers.scorer(version) is not as_registered


def test_scorer__that_has_ended__is_started_again() -> None:
    version = registered()
    first = scorers.scorer(version)
    first.close()
    again = scorers.scorer(version)
    assert again is not first
    assert again.is_alive
