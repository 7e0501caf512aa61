"""In which form a version is scored: as it was registered, or as the ONNX that was made of it and found to be the same.

A skops version is converted once (``settle``), right after its registration and at the latest before its gates measure
it, so that the gates judge what the gateway serves. The ONNX form is used only where it answered the rows that the
version was trained on, and rows with missing and never-seen values, within ``GATEHOUSE_ONNX_TOLERANCE`` of the
original; then a single answer takes a tenth of the time. Otherwise the version is served as it was registered, and the
``Conversion`` says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
from django.conf import settings

from audit.errors import Unavailable
from audit.trail import Service
from engines import conversion as converting
from engines.scoring import Scorer, Unscorable
from features import offline
from registry import artifacts
from registry.actions.conversion import FormPinned, Tried, record_conversion
from registry.models import Conversion, ConversionOutcome, LoadClass, ModelVersion

REGISTRY = Service("registry")
MOST_ROWS = 5000
"""Real rows that both forms are asked."""


@dataclass(frozen=True)
class Form:
    """What is loaded to score a version. ``digest`` is the SHA-256 of its bytes, ``what`` names it in messages."""

    load_class: str
    digest: str
    what: str

    @property
    def path(self) -> Path:
        """A local file with these bytes, checked against the digest. Raises Unavailable."""
        return artifacts.path_of(self.digest, what=self.what)


def served_form(version: ModelVersion) -> Form:
    """The form in which the version is scored, in the gates as in the gateway."""
    conversion = _of(version)
    if conversion is not None and conversion.outcome == ConversionOutcome.USED:
        assert conversion.blob_id is not None  # conversion_used_only_when_measured
        return Form(LoadClass.ONNX, conversion.blob_id, f"The ONNX form of {version}")
    return registered_form(version)


def registered_form(version: ModelVersion) -> Form:
    """The version as it was registered, whatever is served of it."""
    return Form(version.load_class, version.artifact_digest, f"The artifact of {version}")


def open_scorer(version: ModelVersion, *, columns: Sequence[str]) -> Scorer:
    """A warm scorer of the version's served form. Raises Unscorable and Unavailable."""
    return open_form(served_form(version), columns=columns)


def open_form(form: Form, *, columns: Sequence[str]) -> Scorer:
    """A warm scorer of one form. Raises Unscorable and Unavailable."""
    hosts = settings.GATEHOUSE_EXTERNAL_HOSTS
    return Scorer(form.path, load_class=form.load_class, columns=columns, hosts=hosts)


def settle(version: ModelVersion, *, now: datetime) -> Conversion | None:
    """The version's conversion, made when there is none. None when it is not converted at all: another load class
    than skops, conversion is switched off (``GATEHOUSE_ONNX``), or it has passed its gates as it was registered."""
    conversion = _of(version)
    if conversion is not None or not _is_wanted(version):
        return conversion
    try:
        made = record_conversion(version, attempt(version), actor=REGISTRY, now=now)
    except FormPinned:
        return None
    version._state.fields_cache["conversion"] = made  # what this object knew of it is out of date
    return made


def attempt(version: ModelVersion) -> Tried:
    """Try to convert a skops version; nothing is written. What goes wrong is an outcome, not an error: a version is
    served as it was registered then."""
    try:
        return _converted(version, settings.GATEHOUSE_ONNX_TOLERANCE)
    except converting.NotConvertible as refusal:
        return _not_used(ConversionOutcome.UNSUPPORTED, f"It can not be converted: {refusal}")
    except (Unscorable, Unavailable, OSError) as problem:
        return _not_used(ConversionOutcome.FAILED, f"The conversion failed: {problem}")


def _of(version: ModelVersion) -> Conversion | None:
    found: Conversion | None = getattr(version, "conversion", None)
    return found


def _is_wanted(version: ModelVersion) -> bool:
    return version.load_class == LoadClass.SKOPS and settings.GATEHOUSE_ONNX == "on"


def _converted(version: ModelVersion, tolerance: float) -> Tried:
    dataset = version.dataset
    columns = version.input_columns or (version.service.vector if version.service else ())
    if dataset is None:
        raise converting.NotConvertible("it names no dataset, so there are no real rows to compare both forms on.")
    table = offline.load(dataset)
    missing = [name for name in columns if name not in table.column_names]
    if missing or not columns or not len(table):
        lacks = ", ".join(missing[:5]) or "rows, or the version its input columns"
        raise converting.NotConvertible(f"its dataset lacks {lacks}, so both forms can not be compared.")
    places = spread(table.select(columns), MOST_ROWS)
    path = artifacts.local_path(version)
    made = converting.convert(path, columns=columns, rows=table.take(places), tolerance=tolerance)
    used = made.is_within(tolerance)
    return Tried(
        outcome=ConversionOutcome.USED if used else ConversionOutcome.DIFFERS,
        reason=_said(made, tolerance, used=used),
        tolerance=tolerance,
        content=made.content if used else b"",
        rows=made.rows,
        max_difference=made.max_difference,
        detail={
            "errors": made.errors,
            "variations": made.variations,
            "probes": made.probes,
            "disagreements": made.disagreements,
            "worst": [{**each, "row": int(places[each["row"]])} for each in made.worst],
            "libraries": dict(made.libraries),
        },
    )


def spread(table: pa.Table, most: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Up to ``most`` rows from all over the table, in order, and one with a null of every column that has any."""
    places = np.linspace(0, len(table) - 1, min(most, len(table))).astype(np.int64)
    nulls = [np.flatnonzero(each.is_null().to_numpy())[:1] for each in table.columns if each.null_count]
    return np.unique(np.concatenate([places, *nulls])).astype(np.int64)


def _not_used(outcome: ConversionOutcome, reason: str) -> Tried:
    return Tried(outcome, reason, settings.GATEHOUSE_ONNX_TOLERANCE)


def _said(made: converting.Converted, tolerance: float, *, used: bool) -> str:
    asked = f"{made.rows:,} real rows, {made.variations} variations and {made.probes:,} rows on and beside thresholds"
    apart = f"at most {made.max_difference:.2g} apart on {asked}"
    if used:
        return f"Served as ONNX: the scores are {apart}, within {tolerance:g}."
    if made.disagreements:
        return f"Not used: of {asked}, {made.disagreements} were answered by one form only."
    if made.rows == made.errors:
        return f"Not used: neither form could score any of the {made.rows:,} real rows."
    return f"Not used: the scores are {apart}, beyond {tolerance:g}."
