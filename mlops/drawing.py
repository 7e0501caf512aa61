"""A small drawing of what depends on what, as boxes in columns with arrows between them; the template makes it SVG.

Pure: labels and links in, coordinates out. No script and no style: the page's policy allows neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT, ACROSS, DOWN = 200, 40, 48, 14
TOP = 26
MOST = 12
"""Boxes in a column; what is beyond becomes one box that counts the rest."""
LETTERS, NOTE_LETTERS = 25, 31


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

    @property
    def label(self) -> str:
        return _shortened(self.box.label, LETTERS)

    @property
    def note(self) -> str:
        return _shortened(self.box.note, NOTE_LETTERS)

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
    box_width: int = WIDTH
    box_height: int = HEIGHT


def draw(columns: Sequence[tuple[str, Sequence[Box]]], arrows: Iterable[tuple[str, str]]) -> Drawing:
    """Place the columns (title and boxes) from left to right, each in the middle of the height.

    ``arrows`` are pairs of keys; one from or to a box that is not there is left out.
    """
    shown = [(title, *_bounded(place, boxes)) for place, (title, boxes) in enumerate(columns)]
    tallest = max((len(boxes) for _, boxes, _ in shown), default=1)
    height = TOP + max(tallest, 1) * (HEIGHT + DOWN)
    placed: dict[str, Placed] = {}
    standing_for: dict[str, str] = {}
    for place, (_, boxes, hidden) in enumerate(shown):
        start = TOP + (height - TOP - len(boxes) * (HEIGHT + DOWN)) // 2
        for row, box in enumerate(boxes):
            placed[box.key] = Placed(box, place * (WIDTH + ACROSS) + 1, start + row * (HEIGHT + DOWN))
        if hidden:
            standing_for |= dict.fromkeys(hidden, boxes[-1].key)
    pairs = dict.fromkeys((standing_for.get(start, start), standing_for.get(end, end)) for start, end in arrows)
    return Drawing(
        width=len(columns) * (WIDTH + ACROSS) - ACROSS + 2,
        height=height,
        titles=tuple((place * (WIDTH + ACROSS) + 2, title) for place, (title, _, _) in enumerate(shown)),
        boxes=tuple(placed.values()),
        arrows=tuple(_path(placed[start], placed[end]) for start, end in pairs if start in placed and end in placed),
    )


def _bounded(place: int, boxes: Sequence[Box]) -> tuple[list[Box], list[str]]:
    """The boxes to show, and the keys of those that one of them stands for."""
    if len(boxes) <= MOST:
        return list(boxes), []
    rest = boxes[MOST - 1 :]
    return [*boxes[: MOST - 1], Box(f"more:{place}", f"and {len(rest)} more")], [box.key for box in rest]


def _path(start: Placed, end: Placed) -> str:
    x1, y1 = start.x + WIDTH, start.y + HEIGHT // 2
    x2, y2 = end.x, end.y + HEIGHT // 2
    middle = (x1 + x2) // 2
    return f"M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}"


def _shortened(text: str, letters: int) -> str:
    return text if len(text) <= letters else text[: letters - 1] + "…"
