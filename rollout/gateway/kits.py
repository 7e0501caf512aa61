"""Make warm-up kits: recorded rows of a version's gates, with the scores it got there, for gateways to replay."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
from django.conf import settings

from audit.errors import Unavailable
from gates import frozen_scores
from gates.models import Preparation
from gates.preparation import table_of
from registry.conversion import served_form, spread
from registry.models import ModelVersion
from rollout.gateway import kit_files
from rollout.models import Route
from rollout.routing import input_columns

log = logging.getLogger(__name__)


def folder() -> Path:
    """Where kits lie; read at call time, so that each test has its own."""
    return Path(settings.DATA_ROOT) / "kits"


def make(version: ModelVersion) -> Path:
    """The kit of the form in which the version is served; made when it is not there yet.

    Without recorded scores of that form the kit has no rows and says why. Raises Unavailable when what was recorded can
    not be read.
    """
    digest = served_form(version).digest
    path = kit_files.place(folder(), digest)
    if not path.exists():
        table, why = _recorded(version, digest)
        kit_files.write(path, table, why=why)
    return path


def make_missing() -> list[str]:
    """Make the kits of all versions on routes that have none; the versions. What can not be read is left for later."""
    places = ("champion", "candidate", "fallback__version")
    related = [f"{place}__{each}" for place in places for each in ("registered_model", "service", "conversion")]
    made = []
    for route in Route.objects.select_related(*related):
        stopped = route.fallback.version if route.fallback else None
        for version in (route.champion, route.candidate, stopped):
            if version is None or kit_files.place(folder(), served_form(version).digest).exists():
                continue
            try:
                make(version)
                made.append(str(version))
            except Unavailable as problem:
                log.error("The warm-up kit of %s can not be made: %s", version, problem)
    return made


def _recorded(version: ModelVersion, digest: str) -> tuple[pa.Table, str]:
    """Up to ``MOST_ROWS`` rows with their scores, from all over the holdout; or why there are none."""
    of_this_form = Preparation.objects.filter(gate_run__version=version, served_digest=digest).exclude(scores_digest="")
    preparation = of_this_form.order_by("-gate_run__number").first()
    if preparation is None:
        return pa.table({}), "No gate run kept scores of this form."
    stored = frozen_scores.load(preparation.scores_digest).candidate
    holdout = preparation.inputs.get("holdout", "")
    if stored is None or not holdout:
        return pa.table({}), f"{preparation.gate_run} did not score it."
    table, columns = table_of(holdout), input_columns(version)
    lacking = [name for name in columns if name not in table.column_names]
    if lacking or len(table) != len(stored.p):
        return pa.table({}), f"The holdout of {preparation.gate_run} lacks {', '.join(lacking) or 'rows'}."
    scored = np.flatnonzero(np.isfinite(stored.p))
    rows = table.select(list(columns)).take(pa.array(scored))
    places = spread(rows, kit_files.MOST_ROWS)[: kit_files.MOST_ROWS] if len(rows) else np.empty(0, int)
    kit = rows.take(pa.array(places))
    why = "" if len(kit) else f"{preparation.gate_run} scored none of its rows."
    return kit.append_column(kit_files.SCORE, pa.array(stored.p[scored][places])), why
