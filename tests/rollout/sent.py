"""Rows on their way to the intake: as JSON lines, as Parquet, and posted as somebody."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rollout.intake_bodies import LINES, PARQUET
from tests.mlops.calls import Caller


def lines(rows: Sequence[Mapping[str, Any]]) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


def tabled(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: [row.get(name) for row in rows] for name in names})


def parquet(table: pa.Table | Sequence[Mapping[str, Any]], **options: Any) -> bytes:
    whole = table if isinstance(table, pa.Table) else tabled(table)
    pq.write_table(whole, file := io.BytesIO(), **options)
    return file.getvalue()


def post(
    caller: Caller, what: str, body: Any, *, endpoint: str = "delay-warning", media_type: str = "", **headers: str
) -> Any:
    """``what``: predictions or outcomes; ``body`` a list of rows, or bytes."""
    content = body if isinstance(body, bytes) else lines(body)
    kind = media_type or (PARQUET if content[:4] == b"PAR1" else LINES)
    query = f"?endpoint={endpoint}" if endpoint else ""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return caller.client.generic("POST", f"/api/v1/{what}/{query}", content, kind, headers=named)
