"""Push rows over HTTP: a plain view, as events come often and a body may hold thousands of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from audit.errors import InvalidInput
from audit.plain import Caller, answering_posts
from audit.scopes import FEATURES
from features import actions, pushed_rows
from features.models import DataSource

MOST_ROWS = 10_000
_FIELDS = ("source", "push_id", "rows", "columns")


@answering_posts(scope=FEATURES)
def push(caller: Caller, body: Callable[[], Any]) -> dict[str, Any]:
    """Store rows and serve what they change; the same ``push_id`` again answers as the first time."""
    source, push_id, sent = _asked(body())
    required = source.event_timestamp
    if "rows" in sent:
        table = pushed_rows.from_rows(sent["rows"], source.push_schema, required=required)
    else:
        table = pushed_rows.from_columns(sent["columns"], source.push_schema, required=required)
    if len(table) > MOST_ROWS:
        raise InvalidInput({"columns": f"At most {MOST_ROWS:,} rows at once."})
    receipt = actions.push(source, table, push_id=push_id, actor=caller.user)
    return {
        "source": source.name,
        "push_id": receipt.push_id,
        "rows": receipt.rows,
        "arrived_at": receipt.arrived_at,
        "written": receipt.written,
    }


def _asked(body: Any) -> tuple[DataSource, str, dict[str, Any]]:
    """The source, the push's name, and the rows in one of their two forms. Raises InvalidInput by field."""
    if not isinstance(body, dict):
        raise InvalidInput({"body": "A JSON object is needed."})
    wrong = {name: f"There is no such field. There are: {', '.join(_FIELDS)}." for name in body if name not in _FIELDS}
    for name in ("source", "push_id"):
        if type(body.get(name)) is not str:
            wrong[name] = "A text is needed."
    sent = {name: body[name] for name in ("rows", "columns") if name in body}
    if len(sent) != 1:
        wrong["rows"] = "Give rows (a list of objects) or columns (an object of lists), one of the two."
    elif "columns" in sent and not isinstance(sent["columns"], dict):
        wrong["columns"] = "An object is needed: a list of values for each column."
    elif "rows" in sent:
        wrong |= _wrong_rows(sent["rows"])
    if wrong:
        raise InvalidInput(wrong)
    source = DataSource.objects.filter(name=body["source"]).select_related("owner").first()
    if source is None:
        raise InvalidInput({"source": f"There is no data source {body['source']!r}."})
    if not source.push_schema:
        raise InvalidInput({"source": f"{source} takes no pushes: it has no push_schema."})
    return source, body["push_id"], sent


def _wrong_rows(rows: Any) -> dict[str, str]:
    if not isinstance(rows, list) or not 1 <= len(rows) <= MOST_ROWS:
        return {"rows": f"A list of 1 to {MOST_ROWS:,} objects is needed."}
    strange = next((number for number, row in enumerate(rows) if type(row) is not dict), None)
    return {} if strange is None else {f"rows.{strange}": "An object is needed: a value for each column."}
