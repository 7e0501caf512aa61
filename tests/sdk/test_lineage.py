"""The lineage through the SDK and its command, on the real portal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User

import gatehouse
from gatehouse import cli, showing
from gatehouse.graphs import Graph, Node, Replay, ReplayedInput
from tests.builders import NOON, alice, registered_model
from tests.mlops import world as building
from tests.mlops.calls import token
from tests.sdk import portal
from tests.sdk.portal import client

pytestmark = pytest.mark.django_db
VERSION = "version:delay-arrival/1"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command as somebody; the exit code and what was printed."""

    def command(user: User, *words: str) -> tuple[int, str]:
        monkeypatch.setenv("GATEHOUSE_URL", portal.URL)
        monkeypatch.setenv("GATEHOUSE_TOKEN", token(user))
        code = cli.main(words, transport=portal.transport())
        told = capsys.readouterr()
        return code, told.out + told.err

    return command


def test_backwards__from_a_version__reaches_its_source(run: Any) -> None:
    world = building.build()
    graph = client(world.scientist).backwards(VERSION)

    assert graph.node(VERSION) is not None
    assert graph.made_of(VERSION)
    assert any(node.kind.startswith("data") or "source" in node.key for node in graph.nodes)
    code, told = run(world.scientist, "trace", VERSION)
    assert (code, told) == (0, f"{graph}\n")
    assert len(told.splitlines()) >= 4


def test_forwards__from_a_source__names_versions_and_whom_to_ask(run: Any) -> None:
    world = building.build()
    impact = client(world.scientist).forwards(source="delay-flights")

    assert {each.model for each in impact.affected} == {"delay-arrival"}
    assert "delay-science" in impact.owners
    code, told = run(world.scientist, "impact", "--source", "delay-flights")
    assert code == 0
    assert "delay-arrival v1" in told
    assert run(world.scientist, "impact", "--source", "nothing")[0] == 2
    every = client(world.scientist).forwards(source="delay-flights", every_version=True)
    assert len(every.affected) > len(impact.affected)


def test_as_of__after_the_first_rollout__names_who_let_it_in(run: Any) -> None:
    world = building.build()
    code, told = run(world.owner, "as-of", "2100-01-01")

    assert code == 0
    assert "delay-warning" in told
    code, told = run(world.owner, "--json", "as-of", "2000-01-01T00:00:00Z")
    assert (code, json.loads(told)) == (0, [])
    assert run(world.owner, "as-of", "yesterday")[0] == 2
    assert client(world.owner).as_of(NOON) == client(world.owner).as_of(NOON.isoformat())


def test_diff__of_two_versions__says_what_differs(run: Any) -> None:
    world = building.build()
    found = client(world.scientist).diff("delay-arrival", 1, 3)

    assert not found.is_same
    assert run(world.scientist, "diff", "delay-arrival", "1", "3") == (0, f"{found}\n")
    assert "artifact" in str(found)
    assert run(world.scientist, "diff", "delay-arrival", "1", "99")[0] == 2


def test_replay__of_what_was_never_asked__is_refused(run: Any) -> None:
    world = building.build()

    assert run(world.scientist, "replay", "delay-warning", "a/b")[0] == 2
    with pytest.raises(gatehouse.NotFound):
        client(world.scientist).prediction("delay-warning", "a/b")


def test_dossier__from_the_command__is_saved_and_verified(run: Any, tmp_path: Path) -> None:
    registered_model()
    (artifact := tmp_path / "model.bin").write_bytes(b"weights")
    client(alice()).register_version("late-arrival", artifact)
    page = tmp_path / "dossier.html"
    words = ("dossier", "late-arrival", "1")
    code, told = run(alice(), *words, "--form", "html", "-o", str(page), "--verify")

    assert code == 0, told
    assert page.read_text().startswith("<!")
    assert told.startswith("late-arrival v1 at ")
    assert run(alice(), *words, "--position", "99")[0] == 0  # nothing was asked of it
    assert run(alice(), *words, "--position", "99", "--verify")[0] == 2


# ---------------------------------------------------------------------- how it looks


def a_graph() -> Graph:
    nodes = [
        Node("version", "version:m/1", "m v1", "", {"seed": "3"}, True),
        Node("dataset", "dataset:1", "d", "", {}, False),
        Node("service", "service:s@1", "s@1", "", {}, True),
    ]
    edges = [("dataset:1", "version:m/1"), ("service:s@1", "dataset:1"), ("service:s@1", "version:m/1")]
    return Graph("version:m/1", tuple(nodes), tuple(edges))


def test_graph__in_a_terminal__is_a_tree_that_says_each_thing_once() -> None:
    assert str(a_graph()).splitlines() == [
        "version m v1",
        "    seed: 3",
        "  dataset d  (unverified)",
        "    service s@1",
        "  service s@1  (above)",
    ]


def test_replay__in_a_terminal__says_which_feature_and_by_how_much() -> None:
    skew = ReplayedInput("delay", "weather@1", 3.0, 4.0, -1.0, True, True)
    replay = Replay(
        "e", "r", "m v1", NOON, "feature_skew", ("feature_skew",), "delay was 3, right is 4.", 0.2, 0.2, 0.3, (skew,)
    )

    assert "delay (weather@1): served 3, right 4" in str(replay)


def test_notebook__shows_tables_and_escapes_every_text() -> None:
    evil = "<script>alert(1)</script>"
    node = Node("version", evil, evil, evil, {evil: evil}, True)
    graph = Graph(evil, (node,), ())
    rows = showing.Rows([node, node])

    for shown in (node, graph, rows):
        html = shown._repr_html_()
        assert "<script" not in html
        assert html.count("<table>") == html.count("</table>") == 1


def test_notebook__shows_every_answer() -> None:
    world = building.build()
    shown = client(world.scientist)
    answers: list[Any] = [
        shown.models(),
        shown.model("delay-arrival"),
        shown.versions("delay-arrival"),
        shown.standing("delay-arrival", 1),
        shown.rollouts("delay-arrival"),
        shown.backwards(VERSION),
        shown.forwards(source="delay-flights"),
        shown.as_of(),
        shown.diff("delay-arrival", 1, 3),
        shown.events(),
    ]

    assert all("<table>" in each._repr_html_() for each in answers)
