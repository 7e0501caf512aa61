"""Read features over HTTP: a plain view, because REST framework would take longer than the read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from audit import clock
from audit.errors import InvalidInput, NotFound
from audit.plain import Caller, Remembered, answering_posts
from audit.scopes import SERVE
from features import online, served_log
from features.models import FeatureService
from registry.sight import visible_services

_PLAIN = frozenset({str, int, float, bool, type(None)})
_FIELDS = ("number", "rows")
_services: Remembered[dict[int, FeatureService]] = Remembered()


@answering_posts(scope=SERVE)
def online_features(caller: Caller, body: Callable[[], Any], name: str) -> dict[str, Any]:
    """The newest known values of some entities, with the age and the status of each."""
    numbers = _services.get((caller.token, name), lambda: _visible(caller, name))
    number, rows = _asked(body())
    service = numbers.get(number) if number is not None else next(iter(numbers.values()))
    if service is None:
        newest = next(iter(numbers.values()))
        raise InvalidInput({"number": f"There is no {name}@{number}; the newest is {newest}."})
    now = clock.now()
    read = online.vectors(service, rows, now=now)
    served_log.note(service, rows, read.names, read.rows, now=now)
    return {
        "service": str(service),
        "at": now,
        "names": read.names,
        "rows": read.rows,
        "ages": read.ages,
        "statuses": read.statuses,
    }


def _visible(caller: Caller, name: str) -> dict[int, FeatureService]:
    """The service's numbers that the caller may see, newest first; at least one."""
    rows = visible_services(caller.user).filter(name=name)
    found = {service.number: service for service in rows.order_by("-number")}
    if not found:
        raise NotFound(f"There is no feature service {name!r}, or it is not yours to see.")
    return found


def _asked(body: Any) -> tuple[int | None, list[dict[str, Any]]]:
    """The number and the rows of a body. Raises InvalidInput naming what is wrong."""
    if not isinstance(body, dict):
        raise InvalidInput({"body": "A JSON object is needed."})
    wrong = {name: f"There is no such field. There are: {', '.join(_FIELDS)}." for name in body if name not in _FIELDS}
    number: Any = body.get("number")
    rows: Any = body.get("rows")
    if number is not None and (type(number) is not int or number < 1):
        wrong["number"] = "A number of the service from 1 is needed."
    if not isinstance(rows, list) or not 1 <= len(rows) <= online.MOST_ENTITIES:
        wrong["rows"] = f"A list of 1 to {online.MOST_ENTITIES} rows is needed, each an object with join keys."
    if wrong:
        raise InvalidInput(wrong)
    for place, row in enumerate(rows):
        if type(row) is not dict:
            raise InvalidInput({f"rows.{place}": "An object with join keys is needed."})
        for name, value in row.items():
            if type(value) not in _PLAIN:
                raise InvalidInput({f"rows.{place}.{name}": "A text, a number, true, false or null is needed."})
    return number, rows
