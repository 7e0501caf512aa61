"""Lists of a view's definition as a person types them into a form, one line each; back and forth. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from engines.offline import Aggregation
from features.reading import span
from features.spans import parse_span

_AGGREGATION = re.compile(r"(\w+)\s*=\s*(\w+)\s*\(\s*(\*|\w*)\s*\)\s+over\s+(.+)", re.ASCII)
FEATURES_HELP = "One a line: name, or name: description. Types are found by computing the expression."
AGGREGATIONS_HELP = (
    "Features over trailing windows, one a line: flights_6h = count(*) over 6h. "
    "Functions: count, sum, mean, share, min, max, last, distinct. Empty: the columns themselves are the features."
)


def read_features(text: str) -> list[dict[str, str]]:
    """Features with ``name`` and ``description``, in the order of the lines."""
    pairs = (line.partition(":") for line in _lines(text))
    return [{"name": name.strip(), "description": said.strip()} for name, _, said in pairs]


def write_features(features: Iterable[Mapping[str, str]]) -> str:
    """What ``read_features`` reads."""
    lines = (f"{each['name']}: {each.get('description', '')}".rstrip(": ") for each in features)
    return "\n".join(lines)


def read_aggregations(text: str) -> list[dict[str, Any]]:
    """Aggregations as a version keeps them (``over`` in seconds), in the order of the lines.

    Raises ValueError with the line and what would be accepted.
    """
    return [_aggregation(line) for line in _lines(text)]


def write_aggregations(aggregations: Iterable[Mapping[str, Any]]) -> str:
    """What ``read_aggregations`` reads, of aggregations as a version keeps them."""
    return "\n".join(
        f"{each['name']} = {each['function']}({each.get('column') or '*'}) over {span(timedelta(seconds=each['over']))}"
        for each in aggregations
    )


def _aggregation(line: str) -> dict[str, Any]:
    found = _AGGREGATION.fullmatch(line)
    if found is None:
        raise ValueError(f"{line!r} can not be read. {AGGREGATIONS_HELP}")
    name, function, column, length = found.groups()
    over = parse_span(length)
    if over is None or over % timedelta(seconds=1):
        raise ValueError(f"{line!r}: say over how long, in whole seconds.")
    checked = Aggregation(name, function.lower(), None if column in ("", "*") else column, over)
    seconds = int(over.total_seconds())
    return {"name": checked.name, "function": checked.function, "column": checked.column, "over": seconds}


def _lines(text: str) -> list[str]:
    return [stripped for line in text.splitlines() if (stripped := line.strip())]
