"""Scores that are kept for ever: found by their content, and nothing else is taken for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from audit.errors import Unavailable
from gates import frozen_scores
from gates.frozen import Scores
from gates.frozen_scores import StoredScores

Y = np.array([0.0, 1.0, 1.0])


def stored(p: Any = (0.1, 0.9, np.nan), errors: Any = None, **fields: Any) -> StoredScores:
    candidate = Scores(np.array(p), {2: "no distance"} if errors is None else errors)
    return StoredScores(**{"y": Y, "candidate": candidate, "champion": None, **fields})


def file_of(root: Path, digest: str) -> Path:
    return root / "gate-scores" / digest[:2] / f"{digest}.parquet"


def test_scores__stored__come_back_bit_for_bit(data_root: Path) -> None:
    exact = np.array([np.nextafter(0.1, 1), -0.0, np.nan])
    digest = frozen_scores.store(stored(exact, champion=Scores(np.array([0.3, 0.2, 0.1]), {})))
    found = frozen_scores.load(digest)

    assert found.y is not None
    assert found.candidate is not None
    assert found.champion is not None
    assert found.y.tobytes() == Y.tobytes()
    assert found.candidate.p[:2].tobytes() == exact[:2].tobytes()
    assert np.isnan(found.candidate.p[2])
    assert found.candidate.errors == {2: "no distance"}
    assert found.champion.errors == {}


@pytest.mark.parametrize(
    "other",
    [
        stored((0.1, np.nextafter(0.9, 1), np.nan)),
        stored(errors={1: "no distance"}),
        stored(errors={}),
        stored(y=None),
        stored(champion=Scores(Y, {})),
        stored(candidate=None, champion=Scores(np.array([0.1, 0.9, np.nan]), {2: "no distance"})),
    ],
)
def test_digest__of_anything_else__differs(other: StoredScores) -> None:
    assert other.digest() != stored().digest()


def test_digest__of_any_nan__is_the_same() -> None:
    odd = np.array([0.1, 0.9, 0.0])
    odd.view(np.uint64)[2] = 0x7FF8_0000_0000_0007

    assert np.isnan(odd[2])
    assert stored(odd).digest() == stored().digest()


def test_store__nothing_scored__keeps_nothing(data_root: Path) -> None:
    assert frozen_scores.store(stored(candidate=None)) == ""
    assert not (data_root / "gate-scores").exists()


def test_store__again__leaves_the_file_alone(data_root: Path) -> None:
    before = file_of(data_root, frozen_scores.store(stored())).stat()
    after = file_of(data_root, frozen_scores.store(stored())).stat()

    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_load__file_gone__says_so(data_root: Path) -> None:
    digest = frozen_scores.store(stored())
    file_of(data_root, digest).unlink()

    with pytest.raises(Unavailable, match="can not be read"):
        frozen_scores.load(digest)


@pytest.mark.parametrize("content", [b"not parquet", None])
def test_load__file_changed__is_refused(data_root: Path, content: bytes | None) -> None:
    digest = frozen_scores.store(stored())
    file = file_of(data_root, digest)
    if content is not None:
        file.write_bytes(content)
    else:
        changed = pq.read_table(file)
        better = pa.array([0.0, 1.0, 1.0])
        pq.write_table(changed.set_column(changed.column_names.index("candidate"), "candidate", better), file)

    with pytest.raises(Unavailable):
        frozen_scores.load(digest)


def test_scores__said_with_an_address__have_the_same_words_in_every_process() -> None:
    said = [f"<Tree object at 0x{address:012x}> is not fitted" for address in (0x7F3A10, 0x7F3B20)]
    first, second = (frozen_scores.scores(Y, {0: text}).errors[0] for text in said)

    assert first == second == "<Tree object at 0x…> is not fitted"
