"""What a version was trained on, as it lies in the store."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from features import offline
from features.models import Dataset
from gates.frozen import Unmeasurable
from registry.models import ModelVersion


def dataset_of(version: ModelVersion) -> Dataset:
    """The training dataset on record. Raises Unmeasurable."""
    if version.dataset is None:
        raise Unmeasurable("The version names no training dataset: what it was trained on is unknown.")
    return version.dataset


def table_of(version: ModelVersion) -> pa.Table:
    """Its rows, checked against their digest. Raises Unmeasurable, Unavailable."""
    return offline.load(dataset_of(version))


def spread(table: pa.Table, rows: int) -> pa.Table:
    """At most so many rows, evenly over all: the same ones each time, and from the whole period."""
    if table.num_rows <= rows:
        return table
    return table.take(np.linspace(0, table.num_rows - 1, rows).astype(np.int64))
