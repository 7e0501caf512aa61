"""On-demand features: the same function over the columns of a training set and over those of one request.

``apply`` is the one code path of both sides: ``features.offline.training_frame`` calls it after the point-in-time join,
the online store after its read. A function sees a row's own columns only (``engines.on_demand``), so a million rows at
once and one at a time give the same cells.
"""

from __future__ import annotations

import pyarrow as pa

from audit.errors import InvalidInput, Unavailable
from engines.on_demand import OnDemandError, transform
from features import cells
from features.models import FeatureService, OnDemandTransform


def apply(service: FeatureService, table: pa.Table) -> pa.Table:
    """``table`` with the columns of the service's transforms after its own, in the order of ``service.vector``.

    The table holds the service's request features and store columns, one row per request. Raises InvalidInput where a
    column is missing or holds what a function can not take.
    """
    for each in service.pinned_transforms():
        for column, values in computed(each, table).items():
            table = table.append_column(column, values)
    return table


def computed(on_demand: OnDemandTransform, table: pa.Table) -> dict[str, pa.ChunkedArray]:
    """The columns of one transform over the rows of ``table``, in their declared types.

    Raises InvalidInput by the column at fault, Unavailable where a result is not what was declared.
    """
    try:
        function = transform(on_demand.code)
    except OnDemandError as error:
        raise Unavailable(f"{on_demand} can not be read any more: {error}") from error
    missing = {name: f"{on_demand} needs it." for name in function.inputs if name not in table.column_names}
    if missing:
        raise InvalidInput(missing)
    try:
        results = function.apply({name: table.column(name) for name in function.inputs})
    except OnDemandError as error:
        raise InvalidInput({"request_features": str(error)}) from error
    try:
        return {
            column: cells.conform(pa.chunked_array([results[each["name"]]]), each["dtype"])
            for column, each in zip(on_demand.columns, on_demand.features, strict=True)
        }
    except pa.ArrowInvalid as error:
        raise Unavailable(f"{on_demand} gives something else than it declares: {error}") from error
