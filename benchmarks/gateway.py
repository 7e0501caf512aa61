"""What a request costs the inference gateway, beside other servers of the same model: ``make bench BENCH=gateway``.

A pipeline of a scaler and a logistic regression over fifteen numbers is asked for single rows over one kept connection,
one after another. Every server has one worker and runs all the time; they are asked in turn, a block of requests each,
round after round, and what is compared is the median over rounds of the CPU seconds a request costs the server's whole
process tree. Ours is ``manage.py gateway`` with tokens checked and every prediction logged; taking the log in is the
worker's task, so ``--no-ingest``. The reference is FastAPI on uvicorn with scikit-learn, given the numbers without
their names, which is the cheapest it can do; a model fitted on a data frame costs it more (printed, not judged).

Then the cost of logging: the same process with and without its log, block by block, median of the ratios of
neighbouring blocks. At last a canary with half of the traffic is rolled back while clients hammer: from the moment of
the decision to the last answer of the canary.

``--peers fastapi`` leaves the slow others out; environments are made by the first run (some minutes, network).
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.figures import Figure, report
from benchmarks.gateway_peers import servers
from benchmarks.gateway_peers.servers import Server
from benchmarks.gateway_side import COLUMNS, ONNX, SKLEARN, WATCHED, GatewaySide, infer_body
from benchmarks.processes import Load, load, p50

ROUNDS = 15
BLOCK = 400
LOG_ROUNDS = 40
ROLL_BACKS = 5
HAMMERS = 2
REFERENCE = "FastAPI"
OTHERS = ("MLServer", "mlflow models serve", "BentoML")
_SAME = 1e-6


@dataclass(frozen=True)
class Asked:
    """A server and one way of asking it; ``blocks`` fills up."""

    server: Server
    way: str
    bodies: Sequence[bytes]
    blocks: list[Load] = field(default_factory=list)

    def block(self, number: int) -> None:
        post = self.server.ways[self.way]
        self.blocks.append(load(self.server.pid, self.server.port, post.path, self.bodies[:number], post.headers))

    @property
    def cpu(self) -> float:
        """Median CPU seconds a request."""
        return median(each.server_cpu for each in self.blocks)

    @property
    def wall(self) -> float:
        """Median seconds that a client waits."""
        return median(p50(each.walls) for each in self.blocks)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default=",".join(servers.PEERS), help="which others (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    rows = np.random.default_rng(1).normal(size=(BLOCK, len(COLUMNS))).round(6).tolist()
    with GatewaySide() as side:
        costs = _costs(side, rows, options.peers.split(","), options.rounds)
        _print(costs)
        logging = _cost_of_logging(side, rows)
        latest = _last_canary_answers(side)
    print(f"decision to last canary answer: {', '.join(f'{each:.2f} s' for each in latest)}")
    return report(
        *_figures(costs),
        Figure("gateway_cost_of_logging", (logging - 1) * 100, "%", at_most=5),
        Figure("gateway_decision_to_last_canary_answer", max(latest), "s", at_most=1),
    )


def _print(costs: Mapping[str, Asked]) -> None:
    for way, asked in sorted(costs.items(), key=lambda each: each[1].cpu):
        cost = f"{asked.cpu * 1e6:.0f} µs CPU a request, {asked.cpu / costs[REFERENCE].cpu:.2f} of {REFERENCE}"
        print(f"{way}: {cost}; p50 {asked.wall * 1e3:.2f} ms", flush=True)


def _figures(costs: Mapping[str, Asked]) -> list[Figure]:
    reference = costs[REFERENCE].cpu
    figures = [
        Figure("gateway_onnx_cpu_to_fastapi", costs[ONNX].cpu / reference, "x", at_most=0.5),
        Figure("gateway_sklearn_cpu_to_fastapi", costs[SKLEARN].cpu / reference, "x", at_most=1.0),
    ]
    for way in OTHERS:
        if way in costs:  # ahead with the same library, not only with ONNX
            name = f"gateway_sklearn_cpu_to_{way.split()[0].lower()}"
            figures.append(Figure(name, costs[SKLEARN].cpu / costs[way].cpu, "x", at_most=1.0))
    return figures


# ---------------------------------------------------------------------- CPU per request


def _costs(side: GatewaySide, rows: Sequence[Sequence[float]], peers: Sequence[str], rounds: int) -> dict[str, Asked]:
    """All servers, asked in turn."""
    with ExitStack() as stack:
        ours = stack.enter_context(side.gateway())
        asked = [_asked(ours, way, rows) for way in (ONNX, SKLEARN)]
        for peer in peers:
            folder = Path(stack.enter_context(TemporaryDirectory()))
            server = stack.enter_context(servers.running(peer, side.artifacts, folder))
            asked += [_asked(server, way, rows) for way in server.ways]
        for each in asked:
            _check(side, each, rows[0])
            each.block(BLOCK)  # not counted
            each.blocks.clear()
        for _ in range(rounds):
            for each in asked:
                each.block(BLOCK)
    return {each.way: each for each in asked}


def _asked(server: Server, way: str, rows: Sequence[Sequence[float]]) -> Asked:
    return Asked(server, way, [server.ways[way].body(row) for row in rows])


def _check(side: GatewaySide, asked: Asked, row: Sequence[float]) -> None:
    """Raises RuntimeError unless this server gives scikit-learn's score: else its cost says nothing."""
    score, expected = asked.server.score(asked.way, row), side.score(row)
    if not abs(score - expected) <= _SAME:
        raise RuntimeError(f"{asked.way} answers {score}, scikit-learn {expected}.")


def _cost_of_logging(side: GatewaySide, rows: Sequence[Sequence[float]]) -> float:
    """CPU of a logged request in units of one that is not: median over pairs of blocks, in the cheaper form.

    The same process, switched: two processes differ by more than this, by where the kernel puts their threads.
    """
    with side.gateway(application="benchmarks.gateway_switched:application") as server:
        both = {each: _asked(server, ONNX, rows) for each in ("on", "off")}
        for number in range(LOG_ROUNDS + 1):
            for each in ("on", "off") if number % 2 else ("off", "on"):
                load(server.pid, server.port, f"/switch/{each}", [b""], {})
                both[each].block(BLOCK)
    blocks = [(on.server_cpu, off.server_cpu) for on, off in zip(both["on"].blocks, both["off"].blocks, strict=True)]
    counted = blocks[1:]
    on, off = (median(each) * 1e6 for each in zip(*counted, strict=True))
    print(f"logged {on:.0f} µs, not logged {off:.0f} µs CPU a request", flush=True)
    return median(on / off for on, off in counted)


# ---------------------------------------------------------------------- the end of a canary


class _Hammer(threading.Thread):
    """Asks for ever new customers until it is told to stop; keeps when it got a canary's answer."""

    def __init__(self, server: Server, token: str, number: int) -> None:
        super().__init__(daemon=True)
        self._server, self._token, self._number = server, token, number
        self.answers, self.canary = 0, [0.0]
        self.over = threading.Event()

    def run(self) -> None:
        connection = HTTPConnection("127.0.0.1", self._server.port, timeout=60)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._token}"}
        path, row = self._server.ways[WATCHED].path, [0.1] * len(COLUMNS)
        while not self.over.is_set():
            customer = f"{self._number}-{self.answers}"
            connection.request("POST", path, infer_body(row, entity=customer), headers)
            told = json.loads(connection.getresponse().read())["parameters"]
            self.answers += 1
            if told["arm"] == "canary":
                self.canary.append(time.monotonic())
        connection.close()


def _last_canary_answers(side: GatewaySide) -> list[float]:
    with side.gateway() as server:
        return [_last_canary_answer(side, server) for _ in range(ROLL_BACKS)]


def _last_canary_answer(side: GatewaySide, server: Server) -> float:
    """Seconds from the decision to roll back to the last answer that the canary's arm gave, however late."""
    side.start_canary()
    hammers = [_Hammer(server, side.token, number) for number in range(HAMMERS)]
    for each in hammers:
        each.start()
    try:
        deadline = time.monotonic() + 60
        while min(len(each.canary) for each in hammers) < 100:  # it is loaded, replayed, and has half of the traffic
            if time.monotonic() > deadline:
                raise TimeoutError("the canary gets no traffic")
            time.sleep(0.05)
        decided = side.roll_back()
        time.sleep(3)
    finally:
        for each in hammers:
            each.over.set()
            each.join()
    return max(0.0, max(each.canary[-1] for each in hammers) - decided)


if __name__ == "__main__":
    sys.exit(main())
