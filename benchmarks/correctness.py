"""Does the feature store tell the truth, and does Feast? The probes of ``benchmarks.probes``, put to both.

Ours run on SQLite, on a throwaway PostgreSQL, and online on Redis; every figure is the worst of them. Feast runs with
its default (dask) and its DuckDB offline store, the latter also with its flag against values written later, and with
SQLite, PostgreSQL and Redis online. ``--without-peer`` leaves Feast out; ``--reuse-peer`` takes what it showed in an
earlier run on this machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks import portal, probes
from benchmarks.feast_peer import comparison, servers
from benchmarks.feast_peer.kept import Kept
from benchmarks.feast_peer.subject import Feast
from benchmarks.figures import Figure, report
from benchmarks.probes import Finding

# store to finding, by the name of the probe
Findings = dict[str, dict[str, Finding]]
Probe = Callable[[probes.Subject], Finding]

COULD_NOT_MEASURE = 2

LABELS: Mapping[str, tuple[str, str]] = {
    "lost_rows": ("rows of the frame lost", "rows"),
    "wrong_corrections": ("corrections picked wrongly", "values"),
    "lost_duplicates": ("duplicate rows of the frame lost", "rows"),
    "leaked_values": ("values used that were written later", "values"),
    "expired_values": ("values served past their TTL", "values"),
    "clobbered_values": ("newer values lost to a backfill", "values"),
    "skewed_cells": ("cells served unlike offline", "cells"),
    "unstable_orders": ("processes with another feature order", "processes"),
    "lost_applies": ("concurrent applies lost", "applies"),
    "silent_changes": ("changes of a TTL without a new version", "changes"),
}
_BY_ONLINE_STORE: Sequence[Probe] = (probes.expired_values, probes.clobbered_values)
# What of Feast each probe is put to: its offline store decides the first probes, its online store the next.
PEERS: tuple[tuple[str, Feast, Sequence[Probe]], ...] = (
    ("dask", Feast(offline="dask"), probes.OFFLINE),
    ("duckdb", Feast(offline="duckdb"), probes.OFFLINE),
    ("duckdb with its flag", Feast(offline="duckdb", as_known=True), (probes.leaked_values,)),
    ("SQLite", Feast(online="sqlite"), probes.ONLINE),
    ("PostgreSQL", Feast(online="postgres"), _BY_ONLINE_STORE),
    ("Redis", Feast(online="redis"), _BY_ONLINE_STORE),
    ("file registry", Feast(), probes.DEFINITIONS),
)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.correctness", description=__doc__)
    parser.add_argument("--without-peer", action="store_true", help="leave Feast out")
    parser.add_argument(
        "--reuse-peer", action="store_true", help="what Feast showed earlier, since the machine started"
    )
    options = parser.parse_args(arguments)
    try:
        gatehouse = ours()
        feast: Findings = {} if options.without_peer else theirs(reuse=options.reuse_peer)
    except servers.NoServer as missing:
        print(missing, file=sys.stderr)
        return COULD_NOT_MEASURE
    print(table(feast, gatehouse))
    return report(
        *(
            Figure(probe, max(found.wrong for found in stores.values()), LABELS[probe][1], at_most=0)
            for probe, stores in gatehouse.items()
        )
    )


def ours() -> Findings:
    """Every probe on SQLite and on PostgreSQL, and those of online reads with Redis. Raises servers.NoServer."""
    findings: Findings = {}
    with portal.empty() as variables:
        _collect(findings, "SQLite", probes.ALL, variables)
    with servers.postgres() as cluster, portal.empty(cluster.url) as variables:
        _collect(findings, "PostgreSQL", probes.ALL, variables)
    with servers.redis() as port, portal.empty() as variables:
        place = {"GATEHOUSE_ONLINE_STORE": f"redis://127.0.0.1:{port}/0"}
        _collect(findings, "Redis", probes.ONLINE, variables | place)
    return findings


def theirs(*, reuse: bool) -> Findings:
    """The same of Feast. Raises servers.NoServer."""
    kept = Kept("correctness", Path(probes.__file__), Path(__file__))
    found = kept.read() if reuse else None
    if found is None:
        found = {}
        for store, feast, asked in PEERS:
            _say(f"Feast: {store}")
            with feast as subject:
                for probe in asked:
                    found.setdefault(probe.__name__, {})[store] = asdict(probe(subject))
        kept.write(found)
    return {probe: {store: Finding(**each) for store, each in stores.items()} for probe, stores in found.items()}


def table(feast: Findings, gatehouse: Findings) -> str:
    """A line per probe: what was counted, Feast's answers, ours."""
    lines = [("wrong answers", f"Feast {comparison.VERSION}" if feast else "", "Gatehouse")]
    for probe, (label, _) in LABELS.items():
        lines.append((label, _listed(feast.get(probe, {})), _listed(gatehouse[probe])))
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    padded = ("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)


def _listed(found: Mapping[str, Finding]) -> str:
    """The stores with their counts; one count where they agree."""
    if len(found) > 1 and len(set(found.values())) == 1:
        return f"{next(iter(found.values()))}"
    return ", ".join(f"{store} {finding}" for store, finding in found.items())


def _collect(findings: Findings, store: str, asked: Sequence[Probe], variables: Mapping[str, str]) -> None:
    _say(f"Gatehouse: {store}")
    names = [probe.__name__ for probe in asked]
    command = [sys.executable, "-m", "benchmarks.portal", "probes", str(comparison.data()), *names]
    answer = subprocess.run(command, env=variables, check=True, stdout=subprocess.PIPE, text=True).stdout
    for probe, found in json.loads(answer).items():
        findings.setdefault(probe, {})[store] = Finding(**found)


def _say(what: str) -> None:
    print(f"{what} …", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
