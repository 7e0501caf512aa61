"""What a view makes of rows that have just been pushed, by the same engine and expression as everywhere else.

A view whose rows depend only on source rows that arrived at the same moment (``lookback`` zero) gives for a push what
it gives for that push alone: so the engine is asked about a source that holds nothing else, whatever the real one has
grown to.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq

from engines.duckdb_engine import DuckDBEngine
from engines.offline import OfflineEngine, ViewSpec
from features.offline import answering


@dataclass
class _Desk:
    """An engine of its own and a place for one push at a time."""

    engine: OfflineEngine
    folder: TemporaryDirectory[str]
    lock: threading.Lock = field(default_factory=threading.Lock)
    pushes: int = 0

    @contextmanager
    def holding(self, rows: pa.Table) -> Iterator[str]:
        """The file with the rows, while no other push is there."""
        with self.lock:
            path = Path(self.folder.name, "pushed.parquet")
            pq.write_table(rows, path, compression="none")
            # the engine knows a file by time and size, and two pushes may be quicker than the file system's clock
            self.pushes += 1
            os.utime(path, ns=(self.pushes, self.pushes))
            yield str(path)


def newest_values(specs: Sequence[ViewSpec], rows: pa.Table, *, as_of: datetime) -> list[pa.Table]:
    """For each view of one source, the newest value per key among ``rows`` of that source. Raises Unavailable."""
    with _desk_of(os.getpid()).holding(rows) as uri, answering():
        return [_desk_of(os.getpid()).engine.values(_of(spec, uri), as_of=as_of) for spec in specs]


def _of(spec: ViewSpec, uri: str) -> ViewSpec:
    (source,) = spec.sources
    return replace(spec, sources=(replace(source, uri=uri),))


@lru_cache(maxsize=1)
def _desk_of(process: int) -> _Desk:
    # by process, because a forked worker must not share an embedded database with its parent
    return _Desk(DuckDBEngine(threads=1, memory_limit="512MB"), TemporaryDirectory(prefix="gatehouse-push-"))
