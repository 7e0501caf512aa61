"""The lineage drawing: boxes in columns that do not overlap, arrows between them, and a bound on how many."""

from __future__ import annotations

from mlops.drawing import HEIGHT, MOST, NARROW, WIDE, Box, draw


def column(prefix: str, count: int) -> tuple[str, list[Box]]:
    return prefix, [Box(f"{prefix}{each}", f"{prefix} {each}") for each in range(count)]


def test_draw__columns__stand_beside_each_other_and_boxes_below() -> None:
    drawing = draw([column("a", 2), column("b", 1)], [("a0", "b0"), ("a1", "b0")])
    places = {each.box.key: (each.x, each.y) for each in drawing.boxes}
    assert places["a1"][1] >= places["a0"][1] + HEIGHT
    assert places["b0"][0] >= places["a0"][0] + WIDE.width
    assert places["a0"][1] < places["b0"][1] < places["a1"][1]
    assert len(drawing.arrows) == 2
    assert all(
        0 <= each.x <= drawing.width - WIDE.width and each.y <= drawing.height - HEIGHT for each in drawing.boxes
    )


def test_draw__arrow_to_nowhere_or_twice__is_left_out() -> None:
    assert len(draw([column("a", 1), column("b", 1)], [("a0", "b0"), ("a0", "b0"), ("a0", "gone")]).arrows) == 1


def test_draw__more_than_a_column_holds__counts_the_rest_and_keeps_their_arrows() -> None:
    drawing = draw([column("a", 1), column("b", MOST + 30)], [("a0", f"b{MOST + 5}"), ("a0", "b0")])
    assert [each.box.label for each in drawing.boxes][-1] == "and 31 more"
    assert len(drawing.boxes) == 1 + MOST
    assert len(drawing.arrows) == 2


def test_draw__nothing__is_a_drawing() -> None:
    assert draw([column("a", 0), column("b", 0)], []).boxes == ()


def test_draw__a_long_name__is_shortened_to_the_box() -> None:
    (placed,) = draw([("a", [Box("a", "x" * 100, note="y" * 100)])], []).boxes
    assert len(placed.label) == WIDE.letters
    assert placed.label.endswith("…")


def test_draw__arrow_inside_a_column__goes_around_the_outside() -> None:
    (path,) = draw([column("a", 2)], [("a0", "a1")]).arrows
    assert path.startswith(f"M{WIDE.width + 1} ")
    assert path.endswith(f" {WIDE.width + 1} {draw([column('a', 2)], []).boxes[1].y + HEIGHT // 2}")


def test_draw__narrow__is_as_wide_as_its_boxes() -> None:
    drawing = draw([column("a", 1), column("b", 1)], [], size=NARROW)
    assert drawing.width == 2 * NARROW.width + NARROW.across + NARROW.across // 2 + 2
    assert drawing.box_width == NARROW.width
