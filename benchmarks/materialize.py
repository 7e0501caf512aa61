"""Bringing 50k entities × 10 features (two views of 2M rows of history) to an empty online store: ours, and Feast.

Wall time of what a worker's materialization job does, from Parquet to the committed values, median of five in one
process (a worker lives long; its first, with nothing loaded, is printed beside); Feast's
``materialize`` over the same files with its DuckDB offline store (its faster one) on the same kind of online store,
in the same run. The two take turns.

    make bench BENCH=materialize ARGS="--stores sqlite --no-feast"
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from statistics import median

from benchmarks.feast_peer import comparison
from benchmarks.figures import Figure, report
from benchmarks.online_side import STORES, OnlineSide, Store

REPEATS, FEAST_REPEATS = 5, 2
AT_MOST = 1 / 8


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stores", nargs="*", choices=STORES, default=STORES)
    parser.add_argument("--no-feast", action="store_true", help="ours alone")
    chosen = parser.parse_args(arguments)
    figures = [figure for store in chosen.stores for figure in _of_store(store, feast=not chosen.no_feast)]
    if chosen.no_feast:
        print("Feast was not asked: no figures against it.")
    return report(*figures)


def _of_store(store: Store, *, feast: bool) -> Iterator[Figure]:
    with OnlineSide(store, comparison.data()) as side:
        ours, theirs = [], []
        for number in range(REPEATS):
            ours.append(side.materialize())
            if feast and number < FEAST_REPEATS:
                theirs.append(comparison.materialize(store))
    wall, cpu = (median(each[what] for each in ours) for what in ("wall", "cpu"))
    said = f"{store}: ours {wall:.2f} s ({cpu:.2f} s of CPU in our process; the first {ours[0]['wall']:.2f} s)"
    if not theirs:
        print(said, flush=True)
        return
    their_wall, their_cpu = median(each.wall for each in theirs), median(each.cpu for each in theirs)
    print(f"{said}, feast {their_wall:.2f} s ({their_cpu:.2f} s)", flush=True)
    yield Figure(f"materialize_{store}_over_feast", wall / their_wall, "x", AT_MOST)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
