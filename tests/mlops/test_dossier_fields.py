"""The parts of a report: what a field says of its source, and values that no name can break."""

from __future__ import annotations

from datetime import timedelta

import pytest
import rfc8785

from mlops.dossier.fields import (
    MISSING,
    NOT_STATED,
    PERSON,
    SYSTEM,
    UNVERIFIED,
    Section,
    completeness,
    duration,
    pairs,
    said,
    table,
    told,
    writable,
)


def test_field__by_its_source__says_what_is_missing() -> None:
    assert (told("a", "A", 0).source, said("a", "A", "x").source) == (SYSTEM, PERSON)
    assert (told("a", "A", None, ["event:1"]).value, said("a", "A", "").value) == (UNVERIFIED, NOT_STATED)
    assert told("a", "A", None, ["event:1"]).evidence == ()
    assert told("a", "A", "x", ["event:2", "event:1", "event:2"]).evidence == ("event:2", "event:1")


def test_completeness__counts_each_source_once() -> None:
    section = Section("s", "S", (), (told("a", "A", 1), told("b", "B", None), said("c", "C", "x"), told("d", "D", 2)))
    found = completeness([section])
    assert (found["fields"], found[SYSTEM], found[PERSON], found[MISSING], found["system_share"]) == (4, 2, 1, 1, 0.5)
    assert found["by_section"]["s"][SYSTEM] == 2
    assert completeness([])["system_share"] == 0.0


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3600, "1 h"), (90061, "1 d 1 h"), (-61, "-1 min 1 s")],
)
def test_duration__its_two_largest_units(seconds: int, shown: str) -> None:
    assert duration(timedelta(seconds=seconds)) == shown


def test_pairs__nested__dotted_names_in_order() -> None:
    found = pairs({"b": {"y": 1, "x": None}, "a": [1, "z"]}, none="none")
    assert found["rows"] == [["a", "1, z"], ["b.x", ""], ["b.y", 1]]
    assert pairs({}, none="none") == table(["A"], [], none="none") == "none"


def test_writable__what_json_can_not_say__becomes_text() -> None:
    value = {"a": ["\ud800", float("nan"), 2**60, True, 0.5], "b": None}
    assert writable(value) == {"a": ["\\ud800", "nan", str(2**60), True, 0.5], "b": None}
    rfc8785.dumps(writable(value))
