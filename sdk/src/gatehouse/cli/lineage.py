"""``trace``, ``impact``, ``as-of``, ``diff``, ``replay``: questions about the lineage."""

from __future__ import annotations

import argparse
from typing import Any

from gatehouse.cli.codes import FAILED, PASSED, WAITS, print_json
from gatehouse.client import Client

VERDICTS = {"reproduced": PASSED, "not_reproducible": WAITS}


def add_to(commands: Any) -> None:
    trace = commands.add_parser("trace", help="what a prediction, a version or an incident was made from")
    trace.add_argument("key", help="version:late-arrival/7, prediction:endpoint/request_id, incident:3, run:12 …")
    trace.set_defaults(command=_trace)

    impact = commands.add_parser("impact", help="which live versions use something, and whom to ask")
    what = impact.add_mutually_exclusive_group(required=True)
    what.add_argument("--column", help="source.column")
    what.add_argument("--source", help="a data source, or external:dataset:namespace/name")
    what.add_argument("--feature", help="view.feature, or view@2.feature")
    what.add_argument("--dataset", help="digest of a dataset, or its first eight characters or more")
    impact.add_argument("--all", action="store_true", help="also versions that serve nothing")
    impact.set_defaults(command=_impact)

    as_of = commands.add_parser("as-of", help="what served at a moment, who let it through, on which evidence")
    as_of.add_argument("date", help="ISO 8601, such as 2013-06-30 or 2013-06-30T12:00:00Z (event time)")
    as_of.set_defaults(command=_as_of)

    diff = commands.add_parser("diff", help="what one version has otherwise than another")
    diff.add_argument("model")
    diff.add_argument("before", type=int)
    diff.add_argument("after", type=int)
    diff.set_defaults(command=_diff)

    replay = commands.add_parser("replay", help="was it the code, the data, or both? Recompute one prediction")
    replay.add_argument("endpoint")
    replay.add_argument("request_id")
    replay.set_defaults(command=_replay)


def _tell(answer: Any, options: argparse.Namespace) -> None:
    print_json(answer) if options.json else print(answer)


def _trace(portal: Client, options: argparse.Namespace) -> int:
    _tell(portal.backwards(options.key), options)
    return PASSED


def _impact(portal: Client, options: argparse.Namespace) -> int:
    asked = {name: getattr(options, name) for name in ("column", "source", "feature", "dataset")}
    _tell(portal.forwards(**asked, every_version=options.all), options)
    return PASSED


def _as_of(portal: Client, options: argparse.Namespace) -> int:
    moment = options.date if "T" in options.date else f"{options.date}T00:00:00Z"
    served = portal.as_of(moment)
    if options.json:
        print_json(served)
    else:
        print("\n".join(str(each) for each in served) or "Nothing that you may see served then.")
    return PASSED


def _diff(portal: Client, options: argparse.Namespace) -> int:
    _tell(portal.diff(options.model, options.before, options.after), options)
    return PASSED


def _replay(portal: Client, options: argparse.Namespace) -> int:
    replay = portal.replay(options.endpoint, options.request_id)
    _tell(replay, options)
    return VERDICTS.get(replay.cause, FAILED)
