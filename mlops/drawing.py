"""A small drawing of what depends on what, as boxes in columns with arrows between them; the template makes it SVG.

Pure: labels and links in, coordinates out. No script and no style: the page's policy allows neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

HEIGHT, DOWN = 40, 14
TOP = 26
MOST = 12
"""Boxes in a column; what is beyond becomes one box that counts the rest."""


@dataclass(frozen=True)
class Size:
    """How wide a box is, how far apart columns are, and how many letters a box's two lines hold."""

    width: int
    across: int
    letters: int
    note_letters: int


WIDE, NARROW = Size(200, 48, 25, 31), Size(148, 28, 18, 20)
"""Of few columns, and of many: seven narrow ones are as wide as a page."""


@dataclass(frozen=True)
class Box:
    """One thing: ``key`` is unique in the drawing, ``note`` a second line, ``tone`` one of the badges'."""

    key: str
    label: str
    url: str = ""
    note: str = ""
    tone: str = ""
    is_here: bool = False


@dataclass(frozen=True)
class Placed:
    """A box at its place, in the units of the drawing."""

    box: Box
    x: int
    y: int
    size: Size = WIDE

    @property
    def label(self) -> str:
        return _shortened(self.box.label, self.size.letters)

    @property
    def note(self) -> str:
        return _shortened(self.box.note, self.size.note_letters)

    @property
    def text_x(self) -> int:
        return self.x + 10

    @property
    def label_y(self) -> int:
        return self.y + (17 if self.box.note else 25)

    @property
    def note_y(self) -> int:
        return self.y + 32


@dataclass(frozen=True)
class Drawing:
    """``titles`` are (x, text) above the columns; ``arrows`` are SVG paths."""

    width: int
    height: int
    titles: tuple[tuple[int, str], ...]
    boxes: tuple[Placed, ...]
    arrows: tuple[str, ...]
    box_width: int = WIDE.width
    box_height: int = HEIGHT


def draw(
    columns: Sequence[tuple[str, Sequence[Box]]], arrows: Iterable[tuple[str, str]], *, size: Size = WIDE
) -> Drawing:
    """Place the columns (title and boxes) from left to right, each in the middle of the height.

    ``arrows`` are pairs of keys; one from or to a box that is not there is left out.
    """
    shown = [(title, *_bounded(place, boxes)) for place, (title, boxes) in enumerate(columns)]
    step = size.width + size.across
    tallest = max((len(boxes) for _, boxes, _ in shown), default=1)
    height = TOP + max(tallest, 1) * (HEIGHT + DOWN)
    placed: dict[str, Placed] = {}
    standing_for: dict[str, str] = {}
    for place, (_, boxes, hidden) in enumerate(shown):
        start = TOP + (height - TOP - len(boxes) * (HEIGHT + DOWN)) // 2
        for row, box in enumerate(boxes):
            placed[box.key] = Placed(box, place * step + 1, start + row * (HEIGHT + DOWN), size)
        if hidden:
            standing_for |= dict.fromkeys(hidden, boxes[-1].key)
    pairs = dict.fromkeys((standing_for.get(start, start), standing_for.get(end, end)) for start, end in arrows)
    return Drawing(
        width=len(columns) * step - size.across + size.across // 2 + 2,  # room for an arrow around the last column
        height=height,
        titles=tuple((place * step + 2, title) for place, (title, _, _) in enumerate(shown)),
        boxes=tuple(placed.values()),
        arrows=tuple(_path(placed[start], placed[end]) for start, end in pairs if start in placed and end in placed),
        box_width=size.width,
    )


def _bounded(place: int, boxes: Sequence[Box]) -> tuple[list[Box], list[str]]:
    """The boxes to show, and the keys of those that one of them stands for."""
    if len(boxes) <= MOST:
        return list(boxes), []
    rest = boxes[MOST - 1 :]
    return [*boxes[: MOST - 1], Box(f"more:{place}", f"and {len(rest)} more")], [box.key for box in rest]


def _path(start: Placed, end: Placed) -> str:
    x1, y1 = start.x + start.size.width, start.y + HEIGHT // 2
    x2, y2 = end.x, end.y + HEIGHT // 2
    if start.x == end.x:  # in one column: around the outside
        out = x1 + start.size.across // 2
        return f"M{x1} {y1}C{out} {y1} {out} {y2} {x1} {y2}"
    middle = (x1 + x2) // 2
    return f"M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}"


def _shortened(text: str, letters: int) -> str:
    return text if len(text) <= letters else text[: letters - 1] + "…"
