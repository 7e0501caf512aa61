"""Features by key from the online store, for live requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
from django.db import DatabaseError

from audit.errors import InvalidInput, Unavailable
from features import online
from features.models import FeatureService
from rollout.gateway.asked import Values
from rollout.gateway.core import FeaturesAway
from rollout.gateway.rules import MissingInputs
from rollout.gateway.table import TableVersion

FEW = 64
"""Rows up to which they are read one by one as Python values, which is faster for few."""


class OnlineFeatures:
    """``core.Features`` on the portal's online store. Services never change, so each is read from the database once."""

    def __init__(self) -> None:
        self._services: dict[int, FeatureService] = {}

    def prepare(self, versions: Sequence[TableVersion]) -> None:
        """Read the services of these versions now, so that no request does. Raises DatabaseError."""
        for version in versions:
            if version.service is not None and version.service not in self._services:
                service = FeatureService.objects.get(pk=version.service)
                online.plan_of(service)
                self._services[version.service] = service

    def read(
        self, version: TableVersion, columns: Mapping[str, Values], rows: int, *, now: datetime, at: Sequence[datetime]
    ) -> Mapping[str, Values]:
        """See ``core.Features``."""
        lacking = [name for name in version.keys if name not in columns]
        if lacking:
            missing = [name for name in version.names if name not in columns]
            said = f"{version} takes this column from the request, or {' and '.join(lacking)} to look it up."
            raise MissingInputs(dict.fromkeys(missing, said))
        try:
            self.prepare([version])
            return self._read(version, columns, rows, now, at)
        except InvalidInput as problem:
            raise MissingInputs({name: " ".join(said) for name, said in problem.errors.items()}) from problem
        except (Unavailable, DatabaseError) as problem:
            raise FeaturesAway(f"The online store did not answer: {problem}") from problem

    def _read(
        self, version: TableVersion, columns: Mapping[str, Values], rows: int, now: datetime, at: Sequence[datetime]
    ) -> Mapping[str, Values]:
        assert version.service is not None  # a version without one is never read for
        service = self._services[version.service]
        given = {name: _listed(columns[name]) for name in (*version.keys, *service.request_features) if name in columns}
        if rows <= FEW and all(each is now for each in at):
            entities = [{name: values[row] for name, values in given.items()} for row in range(rows)]
            vectors = online.vectors(service, entities, now=now)
            return {name: [row[place] for row in vectors.rows] for place, name in enumerate(vectors.names)}
        table = online.read(service, pa.table(given), now=now, at=at)
        return {name: table[name].to_pylist() for name in table.column_names}


def _listed(values: Values) -> list[Any]:
    return values.tolist() if isinstance(values, np.ndarray) else list(values)
