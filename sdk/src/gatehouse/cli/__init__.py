"""The command ``gatehouse``, for CI jobs and people. GATEHOUSE_URL and GATEHOUSE_TOKEN say which portal, and as whom.

Exit codes: 0 passed, 1 failed (or inconclusive, or an error), 2 wrong usage or refused, 3 waits for a person (status
and gate show: it has not ended), 4 time ran out, 5 the portal did not answer. Of plan and apply: 0 nothing to do,
planned or applied, 1 refused, with --detailed-exitcode 2 when there are changes. Of replay: 0 reproduced, 1 it
differs, 3 it can not be told.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import httpx

from gatehouse.cli import ci, definitions, dossiers, endpoints, gate, gates, lineage, new, policies, traffic
from gatehouse.cli.codes import SERVER, TIMED_OUT, USAGE
from gatehouse.client import Client
from gatehouse.errors import GatehouseError, ServerError, TimedOut

__all__ = ["main"]


def main(argv: Sequence[str] | None = None, *, transport: httpx.BaseTransport | None = None) -> int:
    """Carry out one command; the exit code."""
    options = _parser().parse_args(argv)
    token = os.environ.get("GATEHOUSE_TOKEN", "")
    offline = options.is_offline(options)
    if not (offline or (options.url and token)):
        print("Set GATEHOUSE_URL (or --url) and GATEHOUSE_TOKEN.", file=sys.stderr)
        return USAGE
    try:
        if offline:
            return int(options.command(None, options))
        with Client(options.url, token, transport=transport) as portal:
            return int(options.command(portal, options))
    except TimedOut as late:
        print(late, file=sys.stderr)
        return TIMED_OUT
    except GatehouseError as problem:
        print(problem, file=sys.stderr)
        return SERVER if isinstance(problem, ServerError) else USAGE
    except (OSError, ValueError) as problem:
        print(problem, file=sys.stderr)
        return USAGE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gatehouse", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--url", default=os.environ.get("GATEHOUSE_URL", ""), help="default: $GATEHOUSE_URL")
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    # a command that can do without a portal says so by its own default, and then gets None for it
    parser.set_defaults(is_offline=lambda options: False)
    for group in (gates, gate, ci, new, policies, definitions, lineage, endpoints, dossiers, traffic):
        group.add_to(commands)
    return parser
