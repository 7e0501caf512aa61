"""``gate wait``, ``gate show``, ``gate rerun``: a version's gates, for CI jobs and people."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from gatehouse.answers import GateRun, Standing
from gatehouse.calls.gates import GateLook
from gatehouse.cli.codes import FAILED, PASSED, TIMED_OUT, WAITS, print_json
from gatehouse.client import Client
from gatehouse.gate_reports import junit, markdown
from gatehouse.summaries import add_summary_option, write_summary

OPEN, VOID = "open", "void"


def add_to(commands: Any) -> None:
    gate = commands.add_parser("gate", help="wait for a version's gates, show them, have them run again")
    verbs = gate.add_subparsers(required=True, metavar="VERB")
    add_wait(verbs)
    add_wait(commands)

    show = verbs.add_parser("show", help="every check of the newest gate run; exits as wait would, without waiting")
    _names_version(show)
    _names_reports(show)
    show.set_defaults(command=_show)

    rerun = verbs.add_parser("rerun", help="have a version judged once more")
    _names_version(rerun)
    rerun.add_argument("--reason", required=True, help="why; kept for ever")
    rerun.set_defaults(command=_rerun)


def add_wait(commands: Any) -> None:
    wait = commands.add_parser("wait", help="wait until a version's gates ended")
    _names_version(wait)
    wait.add_argument("--timeout", type=float, default=900.0, help="seconds (default: 900)")
    _names_reports(wait)
    wait.set_defaults(command=_wait)


def _names_version(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model")
    parser.add_argument("version", type=int)


def _names_reports(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write JUnit XML, a test case per check")
    add_summary_option(parser)


# ---------------------------------------------------------------------- exit codes


def exit_code(standing: Standing) -> int:
    """Of a version's gates as they stand, when nobody waits any longer than now.

    A pass that is void takes somebody who has the version judged again.
    """
    if standing.passed:
        return PASSED
    if standing.gates.state == VOID or not standing.gates_ended:
        return WAITS
    return FAILED


def _code_after_waiting(look: GateLook) -> int:
    """When the time is over: 3 where a person or another pipeline has to bring something, else 4."""
    standing = look.standing
    if standing.gates_ended or look.needs_person:
        return exit_code(standing)
    return WAITS if standing.gates.state == OPEN and standing.gates.missing_evidence else TIMED_OUT


# ---------------------------------------------------------------------- verbs


def _wait(portal: Client, options: argparse.Namespace) -> int:
    progress = _Progress()
    for look in portal.follow_gates(options.model, options.version, timeout=options.timeout):
        progress.tell(look)
    tell(look.standing, look.gate_run, options)
    code = _code_after_waiting(look)
    if code == TIMED_OUT:
        print(f"After {options.timeout:g} s: {look.standing.gates.message}", file=sys.stderr)
    elif code == WAITS:
        print(f"Somebody has to act: {look.needs_person or look.standing.gates.message}", file=sys.stderr)
    return code


def _show(portal: Client, options: argparse.Namespace) -> int:
    standing = portal.standing(options.model, options.version)
    number = standing.gates.gate_run
    tell(standing, portal.gate_run(options.model, number) if number is not None else None, options)
    return exit_code(standing)


def _rerun(portal: Client, options: argparse.Namespace) -> int:
    run = portal.rerun_gates(options.model, options.version, reason=options.reason)
    print_json(run) if options.json else print(f"gate run {run.id} of {run.model} v{run.version}: {run.state}")
    return PASSED


class _Progress:
    """Lines while somebody waits: each is told once, to stderr."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def tell(self, look: GateLook) -> None:
        if look.standing.gates_ended:
            return
        self._say(look.standing.gates.message)
        if look.gate_run is None:
            return
        for check in look.gate_run.checks:
            self._say(f"  {check.verdict:<12} {check.check_id}")
        if said := look.gate_run.progress:
            running = f"; running: {', '.join(said.running)}" if said.running else ""
            self._say(f"  {said.done} of {said.all} checks done{running}")

    def _say(self, line: str) -> None:
        if line not in self._told:
            self._told.add(line)
            print(line, file=sys.stderr, flush=True)


def tell(standing: Standing, run: GateRun | None, options: argparse.Namespace) -> None:
    """The end to stdout, and to the reports that were asked for."""
    if options.json:
        print_json(standing)
    else:
        print(f"{standing.model} v{standing.version}: {standing.stage}\n  {standing.why}")
        for check in run.checks if run else ():
            aside = "" if check.blocking else " (report only)"
            print(f"  {check.verdict:<12} {check.check_id}{aside}: {check.message}")
    if options.junit:
        options.junit.write_text(junit(standing, run), encoding="utf-8")
    write_summary(markdown(standing, run), options)
