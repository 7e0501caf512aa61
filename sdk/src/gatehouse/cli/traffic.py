"""``predictions push``, ``outcomes push``, ``business-metric``: what is served elsewhere, and what it is for."""

from __future__ import annotations

import argparse
from datetime import timedelta
from pathlib import Path
from typing import Any

from gatehouse import bodies
from gatehouse.cli.codes import PASSED, print_json
from gatehouse.client import Client


def add_to(commands: Any) -> None:
    _add_push(commands, "predictions", "log predictions that were served elsewhere", _push_predictions)
    outcomes = _add_push(commands, "outcomes", "say what really happened: labels, business values", _push_outcomes)
    outcomes.add_argument("--metric", help="of rows that have no metric of their own (JSON lines and Parquet)")
    _add_metrics(commands)


def _add_push(commands: Any, name: str, about: str, command: Any) -> argparse.ArgumentParser:
    verbs = commands.add_parser(name, help=about).add_subparsers(required=True, metavar="VERB")
    push: argparse.ArgumentParser = verbs.add_parser("push", help=f"{about}; sent again it counts once")
    push.add_argument("file", type=Path, help="JSON lines (.jsonl, .ndjson) or Parquet (.parquet)")
    push.add_argument("--endpoint", required=True)
    push.set_defaults(command=command)
    return push


def _add_metrics(commands: Any) -> None:
    metrics = commands.add_parser("business-metric", help="what an endpoint's canaries are judged by, for the product")
    verbs = metrics.add_subparsers(required=True, metavar="VERB")

    listed = verbs.add_parser("list", help="those in force")
    listed.add_argument("endpoint")
    listed.set_defaults(command=_list)

    define = verbs.add_parser("define", help="for canaries that begin from now on; replaces one of this name")
    define.add_argument("endpoint")
    define.add_argument("name")
    define.add_argument("--title", required=True)
    define.add_argument("--unit", default="")
    define.add_argument("--per", choices=("prediction", "entity"), required=True)
    define.add_argument("--better", choices=("higher", "lower"), required=True)
    define.add_argument("--missing", choices=("zero", "unknown"), required=True, help="what no report means")
    define.add_argument("--window-hours", type=float, required=True, help="read only when this has passed")
    define.add_argument("--tolerated-harm", type=float, required=True, help="worse by this must be excluded to go on")
    define.add_argument("--harm-from", type=float, default=0.0, help="worse by more, proven, rolls back (default: 0)")
    define.add_argument("--heavy-tailed", action="store_true", help="compare log(1 + value)")
    define.add_argument("--report-only", action="store_true", help="measure it, but let it decide nothing")
    define.add_argument("--reason", default="")
    define.set_defaults(command=_define)

    retire = verbs.add_parser("retire", help="not for canaries that begin from now on")
    retire.add_argument("endpoint")
    retire.add_argument("name")
    retire.add_argument("--reason", required=True, help="why; kept for ever")
    retire.set_defaults(command=_retire)


def _push_predictions(portal: Client, options: argparse.Namespace) -> int:
    kept = portal.push_predictions(options.endpoint, bodies.of_file(options.file))
    if options.json:
        print_json(kept)
    else:
        print(f"{kept.endpoint}: {kept.stored} predictions stored, {kept.repeated} known before")
    return PASSED


def _push_outcomes(portal: Client, options: argparse.Namespace) -> int:
    learned = portal.push_outcomes(options.endpoint, bodies.of_file(options.file, **_same(options)))
    if options.json:
        print_json(learned)
    else:
        unmatched = f", {learned.unmatched} of entities without a prediction" if learned.unmatched else ""
        print(f"{learned.endpoint}: {learned.labels} labels, {learned.values} values{unmatched}")
    return PASSED


def _same(options: argparse.Namespace) -> dict[str, str]:
    return {"metric": options.metric} if options.metric else {}


def _list(portal: Client, options: argparse.Namespace) -> int:
    found = portal.business_metrics(options.endpoint, retired=False)
    if options.json:
        print_json(found)
    else:
        print("\n".join(str(each) for each in found) or "None is in force.")
    return PASSED


def _define(portal: Client, options: argparse.Namespace) -> int:
    metric = portal.define_business_metric(
        options.endpoint,
        options.name,
        title=options.title,
        unit=options.unit,
        per=options.per,
        better=options.better,
        window=timedelta(hours=options.window_hours),
        missing=options.missing,
        tolerated_harm=options.tolerated_harm,
        harm_from=options.harm_from,
        is_heavy_tailed=options.heavy_tailed,
        guards=not options.report_only,
        reason=options.reason,
    )
    print_json(metric) if options.json else print(metric)
    return PASSED


def _retire(portal: Client, options: argparse.Namespace) -> int:
    metric = portal.retire_business_metric(options.endpoint, options.name, reason=options.reason)
    print_json(metric) if options.json else print(metric)
    return PASSED
