"""What a champion's inputs and answers are compared with.

Inputs: the version's training dataset (profiled once, kept in a file named by the dataset's digest). A version that
was registered without one is compared with the first window it served. Answers: always the first window it served as
champion with enough rows, because scores on training rows are too good. What was used is written into each drift run.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path

from django.conf import settings as django_settings

from features import offline
from features.models import Dataset
from monitoring import profiles
from monitoring.config import MonitorSettings
from monitoring.profiles import FeatureReference
from registry.models import ModelVersion

FORMAT = 1
"""Grows when the content of the files changes its meaning: old ones are then computed again."""


@dataclass(frozen=True)
class InputReference:
    """Profiles by column, and what they were made of, for a person."""

    features: Mapping[str, FeatureReference]
    source: str


def columns_of(version: ModelVersion) -> list[str]:
    """The columns the version consumes, as they are called in datasets and in the prediction log."""
    return list(version.service.vector) if version.service else []


def of_training(version: ModelVersion, settings: MonitorSettings) -> InputReference | None:
    """The reference made of the training dataset; None when the version has none."""
    dataset = version.dataset
    if dataset is None:
        return None
    columns = tuple(columns_of(version))
    name = f"{dataset.digest}-{settings.window_days}d-{settings.range_margin:g}-v{FORMAT}.json"
    path = Path(django_settings.DATA_ROOT) / "monitoring" / "references" / name
    if not path.exists():
        _write(path, _build(dataset, columns, settings))
    return InputReference(_read(path), f"training dataset {dataset.digest[:12]} ({dataset.rows:,} rows)")


def _build(dataset: Dataset, columns: tuple[str, ...], settings: MonitorSettings) -> dict[str, FeatureReference]:
    return profiles.build(
        offline.load(dataset),
        columns,
        timestamp=dataset.timestamp,
        window=timedelta(days=settings.window_days),
        minimum_rows=settings.minimum_rows,
        range_margin=settings.range_margin,
    )


def _write(path: Path, features: Mapping[str, FeatureReference]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    unfinished.write_text(json.dumps({name: feature.as_dict() for name, feature in features.items()}))
    os.replace(unfinished, path)


@lru_cache(maxsize=16)
def _read(path: Path) -> dict[str, FeatureReference]:
    """A file never changes under its name, so a process reads it once."""
    stored = json.loads(path.read_text())
    return {name: FeatureReference.from_dict(each) for name, each in stored.items()}
