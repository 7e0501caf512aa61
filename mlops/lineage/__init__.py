"""One graph over all apps, derived from the rows that exist: what a thing was made from, what hangs on it, what served.

``backwards`` and ``forwards`` follow the rows, ``as_of`` reads the event log alone, ``diff`` compares two versions.
"""

from mlops.lineage.as_of import Served, as_of
from mlops.lineage.backwards import backwards
from mlops.lineage.diff import VersionDiff, diff
from mlops.lineage.forwards import Impact, forwards
from mlops.lineage.graph import Edge, Graph, Node
from mlops.lineage.onwards import onwards

__all__ = [
    "Edge",
    "Graph",
    "Impact",
    "Node",
    "Served",
    "VersionDiff",
    "as_of",
    "backwards",
    "diff",
    "forwards",
    "onwards",
]
