import pytest

from registry.lineage import Node, trace
from tests.registry import world

pytestmark = pytest.mark.django_db


def part(node: Node, kind: str) -> Node:
    return next(each for each in node.parts if each.kind == kind)


def test_trace__nothing_but_an_artifact__says_what_nobody_verified() -> None:
    tree = trace(world.version())
    unverified = {each.kind for each in tree.parts if not each.is_verified}
    assert unverified == {"code", "training", "dataset", "feature service", "environment", "metrics"}
    assert part(tree, "artifact").is_verified


def test_trace__claimed_code__is_shown_and_not_verified() -> None:
    code = part(trace(world.version(commit="c" * 40, code_digest="d" * 64)), "code")
    assert code.label == "c" * 12
    assert not code.is_verified


def test_trace__feature_service__leads_to_its_sources() -> None:
    service = part(trace(world.version(service=world.service())), "feature service")
    assert [(view.label, [source.label for source in view.parts]) for view in service.parts] == [
        ("shop_facts@1", ["shops"])
    ]


def test_as_dict__tree__is_plain_data() -> None:
    assert trace(world.version()).as_dict()["parts"][0]["kind"] == "artifact"
