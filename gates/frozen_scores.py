"""The labels and scores that a gate run is judged on, kept for ever below the data root under their own digest."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from audit.errors import Unavailable
from features import files
from gates.frozen import Scores
from stats.interval import FloatArray

_ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}\b")
LONGEST_ERROR = 300


@dataclass(frozen=True)
class StoredScores:
    """Labels and scores of the same rows, in the holdout's order; None where there are none."""

    y: FloatArray | None
    candidate: Scores | None
    champion: Scores | None

    @property
    def _parts(self) -> Mapping[str, FloatArray]:
        every = {
            "y": self.y,
            "candidate": self.candidate.p if self.candidate else None,
            "champion": self.champion.p if self.champion else None,
        }
        return {name: values for name, values in every.items() if values is not None}

    @property
    def _errors(self) -> Mapping[str, Mapping[int, str]]:
        every = {"candidate": self.candidate, "champion": self.champion}
        return {name: scores.errors for name, scores in every.items() if scores is not None}

    def digest(self) -> str:
        """SHA-256 over every value's 64 bits (one NaN, whatever its payload) and over what was said of failed rows;
        empty where nothing was scored."""
        if self.candidate is None and self.champion is None:
            return ""
        told = {name: [[row, errors[row]] for row in sorted(errors)] for name, errors in self._errors.items()}
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
        for name, values in sorted(self._parts.items()):
            plain = np.array(values, dtype=np.float64)
            plain[np.isnan(plain)] = np.nan
            digest.update(f"{name}:{len(plain)}:".encode())
            digest.update(plain.astype("<f8").tobytes())
        return digest.hexdigest()

    def as_table(self) -> pa.Table:
        columns: dict[str, pa.Array] = {name: pa.array(values) for name, values in self._parts.items()}
        rows = len(next(iter(self._parts.values())))
        for name, errors in self._errors.items():
            columns[f"{name}_error"] = pa.array([errors.get(row) for row in range(rows)], pa.string())
        return pa.table(columns)


def scores(p: FloatArray, errors: Mapping[int, str]) -> Scores:
    """What a scorer answered, as it is kept: texts are cut short and name no address in memory, so that the same
    failure has the same words in every process."""
    said = {int(row): _ADDRESS.sub("0x…", text.replace("\0", ""))[:LONGEST_ERROR] for row, text in errors.items()}
    return Scores(np.asarray(p, dtype=np.float64), said)


def store(stored: StoredScores) -> str:
    """Keep them; their digest, which is empty (and nothing is kept) where nothing was scored."""
    digest = stored.digest()
    if digest:
        files.write_once(_place(digest), stored.as_table())
    return digest


def load(digest: str) -> StoredScores:
    """What was kept under a digest. Raises Unavailable when the file is gone or holds something else."""
    try:
        table = files.read(_place(digest))
    except (OSError, pa.ArrowInvalid) as error:
        raise Unavailable(f"The scores {digest[:12]} of a gate run can not be read: {error}") from error
    y = table.column("y").to_numpy() if "y" in table.column_names else None
    found = StoredScores(y, _scores_in(table, "candidate"), _scores_in(table, "champion"))
    if found.digest() != digest:
        raise Unavailable(f"The scores {digest[:12]} of a gate run are not what was stored: their digest differs.")
    return found


def _scores_in(table: pa.Table, name: str) -> Scores | None:
    if name not in table.column_names or f"{name}_error" not in table.column_names:
        return None
    said = enumerate(table.column(f"{name}_error").to_pylist())
    return Scores(table.column(name).to_numpy(), {row: text for row, text in said if text is not None})


def _place(digest: str) -> str:
    return f"gate-scores/{digest[:2]}/{digest}.parquet"
