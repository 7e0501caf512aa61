import pytest

from audit.errors import InvalidInput
from monitoring.config import MonitorSettings, parse


def test_settings__nothing_given__are_the_defaults() -> None:
    assert parse({}) == MonitorSettings()


def test_settings__unknown_field__is_refused_by_name() -> None:
    with pytest.raises(InvalidInput) as refused:
        parse({"window_dayz": 3})
    assert "window_dayz" in refused.value.errors


def test_settings__zero_days__is_refused_by_name() -> None:
    with pytest.raises(InvalidInput) as refused:
        parse({"window_days": 0})
    assert "window_days" in refused.value.errors


def test_settings__persistence_beyond_its_windows__is_refused() -> None:
    with pytest.raises(InvalidInput) as refused:
        parse({"persistence": 4, "persistence_of": 3})
    assert "persistence" in refused.value.errors


def test_settings__stored_and_read_back__are_equal() -> None:
    settings = MonitorSettings(window_days=14, tolerances={"plane__seats": 0.3}, retrain_on=("decay",))
    assert parse(settings.model_dump(mode="json")) == settings
