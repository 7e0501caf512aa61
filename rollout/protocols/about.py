"""What a request says of its rows beside their inputs: request ids, entities, times. Pure.

Every protocol may say it twice: in its parameters (one value for all rows, or a list with one for each), or in columns
``request_id`` and ``at``. An endpoint whose model takes an input of that name has no such column. Entities in columns
are the core's business: their column's name is the endpoint's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from rollout.gateway.asked import Asked, BadRequest, Described, Values
from rollout.protocols.calls import MAX_NAME

REQUEST_ID, ENTITY, AT = "request_id", "entity", "at"


def asked(
    columns: dict[str, Values], rows: int, parameters: Mapping[str, Any], outputs: tuple[str, ...], described: Described
) -> Asked:
    """The request with ids and times taken out of its columns and parameters. Raises BadRequest.

    A request id for several rows names them ``<id>:0``, ``<id>:1``, …: an outcome belongs to one prediction.
    """
    request_id = _said(REQUEST_ID, columns, rows, parameters, described)
    if request_id is not None:
        request_id = [_name(each, REQUEST_ID) for each in request_id]
        if rows > 1 and not isinstance(parameters.get(REQUEST_ID, []), list):
            request_id = [f"{each}:{row}" for row, each in enumerate(request_id)]
        if len(set(request_id)) < rows:
            raise BadRequest("Two rows have the same request id: an outcome could not be told to one.", REQUEST_ID)
    entity = parameters.get(ENTITY)
    if entity is not None:
        entity = [None if each is None else _name(each, ENTITY) for each in _each(entity, rows, ENTITY)]
    at = _said(AT, columns, rows, parameters, described)
    if at is not None:
        at = [None if each is None else _time(each) for each in at]
    return Asked(columns, rows, request_id, entity, at, outputs, parameters)


def _said(
    what: str, columns: dict[str, Values], rows: int, parameters: Mapping[str, Any], described: Described
) -> list[Any] | None:
    """One value per row out of the parameters or the column of that name (which leaves the columns)."""
    by_parameter = parameters.get(what)
    if what in columns and all(each.name != what for each in described.inputs):
        column = columns.pop(what)
        if by_parameter is not None:
            raise BadRequest(f"{what} is said twice: as a column and as a parameter.", what)
        return column.tolist() if isinstance(column, np.ndarray) else list(column)
    return None if by_parameter is None else _each(by_parameter, rows, f"parameters.{what}")


def _each(said: Any, rows: int, place: str) -> list[Any]:
    if type(said) is not list:
        return [said] * rows
    if len(said) != rows:
        raise BadRequest(f"{len(said)} values for {rows} rows.", place)
    return said


def _name(said: Any, place: str) -> str:
    """A request id or an entity as text: keys are often numbers."""
    text = said if type(said) is str else str(said) if type(said) is int else ""
    if not 0 < len(text) <= MAX_NAME or not text.isprintable():
        raise BadRequest(f"It must be text of 1 to {MAX_NAME} printable characters, or a whole number.", place)
    return text


def _time(said: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(said) if type(said) is str else None
        if moment is not None and moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise BadRequest("It must be a time with its zone, such as 2026-03-01T12:00:00Z.", AT)


def unanimous(values: Sequence[Any]) -> Any:
    """The value of all rows; ``mixed`` when they have several."""
    first = values[0]
    return first if len(values) == 1 or all(each == first for each in values) else "mixed"
