"""What a Prometheus server may scrape of this worker process, in its text form."""

from __future__ import annotations

import os

from rollout.gateway.process import Process

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def exposition(process: Process) -> str:
    """Counters since the process began, labelled with its pid: a scrape meets one of several workers."""
    pid = os.getpid()
    gateway, spool = process.gateway, process.spool
    lines = ["# TYPE gatehouse_predictions_total counter"]
    for (endpoint, arm, status), count in sorted(gateway.counts.items()):
        labels = f'endpoint="{endpoint}",arm="{arm}",status="{status}",pid="{pid}"'
        lines.append(f"gatehouse_predictions_total{{{labels}}} {count}")
    lines.append("# TYPE gatehouse_breaker_open gauge")
    for (endpoint, version), breaker in sorted(gateway.breakers.items(), key=lambda each: each[0]):
        labels = f'endpoint="{endpoint}",version_id="{version}",pid="{pid}"'
        lines.append(f"gatehouse_breaker_open{{{labels}}} {int(breaker.is_open)}")
    for name, kind, value in (
        ("dropped_rows_total", "counter", gateway.dropped),
        ("spool_bytes", "gauge", spool.used_bytes),
        ("spool_pressure", "gauge", spool.pressure),
        ("database_away", "gauge", int(process.poller.away_since is not None)),
        ("ready", "gauge", int(process.routes.is_ready())),
    ):
        lines += [f"# TYPE gatehouse_{name} {kind}", f'gatehouse_{name}{{pid="{pid}"}} {value}']
    return "\n".join(lines) + "\n"
