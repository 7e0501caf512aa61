"""Reading ten features of two views: ours, the bare key lookup, and Feast on the same kind of store, in one run.

In process: blocks of reads, taken in turn, each side in a process of its own; the median of all reads of a side. The
bare lookup is one call of the store's driver for the same records and ``struct`` on each: ten numbers in no order, no
TTL, no nulls, no checks. Ours applies all of that; ages and statuses are laid out when asked for.
Over HTTP: one kept connection, one worker; CPU seconds of the server's process per request.

    make bench BENCH=online_read ARGS="--stores redis --no-feast"
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from statistics import median

from benchmarks import workloads
from benchmarks.feast_peer import comparison
from benchmarks.feast_peer.comparison import Repository
from benchmarks.figures import Figure, report
from benchmarks.online_side import STORES, OnlineSide, Store

ENTITIES = workloads.WORKLOADS["M"].entities
BLOCKS, READS = 12, 40
REQUESTS, HTTP_BLOCKS = 300, 4
OVER_FEAST = {1: 1 / 3, 10: None, 100: 1 / 12}
OVER_BARE = 2.0
OVER_FEAST_HTTP = {1: 0.6, 100: 0.25}

Keys = list[list[int]]
Reader = Callable[[Keys], Sequence[float]]


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stores", nargs="*", choices=STORES, default=STORES)
    parser.add_argument("--http", nargs="*", choices=STORES, default=("postgres", "redis"))
    parser.add_argument("--no-feast", action="store_true", help="ours and the bare lookup alone")
    chosen = parser.parse_args(arguments)
    figures: list[Figure] = []
    for store in STORES:
        if store in chosen.stores or store in chosen.http:
            figures += _of_store(
                store, reads=store in chosen.stores, http=store in chosen.http, feast=not chosen.no_feast
            )
    if chosen.no_feast:
        print("Feast was not asked: no figures against it.")
    return report(*figures)


def _of_store(store: Store, *, reads: bool, http: bool, feast: bool) -> Iterator[Figure]:
    dice = random.Random(7)
    with ExitStack() as stack:
        ours = stack.enter_context(OnlineSide(store, comparison.data()))
        ours.fill()
        peer: Repository | None = None
        if feast:
            peer = stack.enter_context(Repository(online=store))
            peer.materialize()
        if reads:
            for count in OVER_FEAST:
                yield from _in_process(store, count, ours, peer, dice)
        if http:
            yield from _over_http(store, ours, peer, dice)


def _in_process(
    store: Store, count: int, ours: OnlineSide, peer: Repository | None, dice: random.Random
) -> Iterator[Figure]:
    readers: dict[str, Reader] = {"ours": ours.read, "bare": ours.bare}
    if peer is not None:
        asked = peer
        readers["feast"] = lambda keys: asked.read(keys).walls
    for reader in readers.values():
        reader(_keys(dice, count, READS))  # what is prepared or loaded on first use
    walls: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(BLOCKS):
        keys = _keys(dice, count, READS)
        for name, reader in readers.items():
            walls[name] += reader(keys)
    medians = {name: median(each) for name, each in walls.items()}
    said = ", ".join(f"{name} {each * 1e3:.3f} ms" for name, each in medians.items())
    print(f"{store}, {count} entities: {said}", flush=True)
    yield Figure(f"online_read_{store}_{count}_over_bare", medians["ours"] / medians["bare"], "x", OVER_BARE)
    goal = OVER_FEAST[count]
    if "feast" in medians and goal is not None:
        yield Figure(f"online_read_{store}_{count}_over_feast", medians["ours"] / medians["feast"], "x", goal)


def _over_http(store: Store, ours: OnlineSide, peer: Repository | None, dice: random.Random) -> Iterator[Figure]:
    for count, goal in OVER_FEAST_HTTP.items():
        blocks = [_keys(dice, count, REQUESTS) for _ in range(HTTP_BLOCKS)]
        with ours.serving() as serve:
            loads = [serve(keys) for keys in blocks]
        cpu = median(each.server_cpu for each in loads)
        said = f"{store} over HTTP, {count} entities: ours {cpu * 1e3:.3f} ms of server CPU"
        wall = median([wall for each in loads for wall in each.walls])
        if peer is None:
            print(f"{said}, {wall * 1e3:.3f} ms to answer", flush=True)
            continue
        theirs = [peer.serve(keys) for keys in blocks[: HTTP_BLOCKS // 2]]
        feast = median(each.server_cpu for each in theirs)
        their_wall = median([wall for each in theirs for wall in each.walls])
        print(
            f"{said}, feast {feast * 1e3:.3f} ms; {wall * 1e3:.3f} and {their_wall * 1e3:.3f} ms to answer", flush=True
        )
        yield Figure(f"online_http_{store}_{count}_over_feast", cpu / feast, "x", goal)


def _keys(dice: random.Random, count: int, reads: int) -> Keys:
    return [[dice.randrange(ENTITIES) for _ in range(count)] for _ in range(reads)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
