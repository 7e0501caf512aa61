"""What a definition means: its content hash, the types of its features, the instants at which it is materialized.

Two definitions with one hash give the same values for ever; anything that can change a value changes the hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from engines.expressions import normalised
from engines.offline import ViewSpec
from engines.packing import ARROW

RULES = 1
"""Number of the rules in ``engines.offline``. A change of a rule changes values, so it changes every hash."""

TYPES = ARROW
"""The types of features; engines yield no others."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def type_name(type_: pa.DataType) -> str:
    """The name in ``TYPES`` of an Arrow type. Raises KeyError for a type that no feature may have."""
    return {arrow: name for name, arrow in TYPES.items()}[type_]


def view_hash(spec: ViewSpec, types: Sequence[str], places: Mapping[str, str]) -> str:
    """SHA-256 over everything that can change a value of the view. Layout and comments of its SQL can not.

    ``types`` are names of ``TYPES``, one per feature. ``places`` say where each source lies below the data root: the
    hash is the same on every machine, so the full locations in ``spec`` do not count.
    """
    content: dict[str, Any] = {
        "rules": RULES,
        "join_keys": spec.join_keys,
        "expression": normalised(spec.expression),
        "features": list(zip(spec.features, types, strict=True)),
        "event_timestamp": spec.event_timestamp,
        "known_at": spec.known_at,
        "ttl": _microseconds(spec.ttl),
        "cadence": _microseconds(spec.cadence),
        "lookback": _microseconds(spec.lookback),
        "sources": sorted(
            (source.name, places[source.name], source.event_timestamp, source.arrival) for source in spec.sources
        ),
    }
    if spec.aggregations:  # only then: a view without any has the hash that it had before there were any
        content["aggregations"] = [
            (each.name, each.function, each.column, _microseconds(each.over)) for each in spec.aggregations
        ]
    return _sha256(content)


def service_hash(
    features: Sequence[tuple[str, str, str]],
    request_features: Sequence[str],
    transforms: Sequence[tuple[str, str]] = (),
) -> str:
    """SHA-256 over a service's vector. ``features`` are (view, content hash of its version, feature), in order;
    ``transforms`` are (name, content hash), by name.
    """
    content: dict[str, Any] = {"rules": RULES, "features": features, "request_features": request_features}
    if transforms:
        content["transforms"] = transforms
    return _sha256(content)


def transform_hash(name: str, digest: str, features: Sequence[tuple[str, str]]) -> str:
    """SHA-256 over an on-demand transform: its columns' prefix, what its function does, and each feature's type."""
    return _sha256({"rules": RULES, "name": name, "function": digest, "features": features})


def dataset_digest(content: str, *, service: str, label: str, timestamp: str, purpose: str) -> str:
    """SHA-256 over a dataset: the digest of its content, its service's hash, and what its columns are for."""
    return _sha256({"content": content, "service": service, "label": label, "timestamp": timestamp, "purpose": purpose})


def slot(now: datetime, cadence: timedelta | None) -> datetime:
    """The instant whose values the online store should hold at ``now``.

    That is the last multiple of ``cadence`` since 1970 UTC, to which the training join floors as well; without a
    cadence, ``now`` itself.
    """
    if cadence is None:
        return now
    return _EPOCH + (now - _EPOCH) // cadence * cadence


def _sha256(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _microseconds(span: timedelta | None) -> int | None:
    return None if span is None else span // timedelta(microseconds=1)
