"""The command ``gatehouse``, for CI jobs. GATEHOUSE_URL and GATEHOUSE_TOKEN say which portal, and as whom.

Exit codes: 0 passed, 1 failed (or inconclusive, or an error), 2 wrong usage or refused, 3 still waits,
4 time ran out, 5 the portal did not answer. Of plan and apply: 0 nothing to do, planned or applied, 1 refused,
with --detailed-exitcode 2 when there are changes.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from gatehouse.answers import Evidence, Standing, Version
from gatehouse.client import Client
from gatehouse.code import code_digest
from gatehouse.definitions import DefinitionError
from gatehouse.errors import GatehouseError, ServerError, TimedOut
from gatehouse.plans import Plan
from gatehouse.repository import Repository, load

PASSED, FAILED, USAGE, WAITS, TIMED_OUT, SERVER = range(6)
CHANGES = 2
DONE = ("create", "new version", "change", "publish")
KINDS = ("lint", "unit", "integration", "measurement")


def main(argv: Sequence[str] | None = None, *, transport: httpx.BaseTransport | None = None) -> int:
    """Carry out one command; the exit code."""
    options = _parser().parse_args(argv)
    token = os.environ.get("GATEHOUSE_TOKEN", "")
    if not (options.url and token):
        print("Set GATEHOUSE_URL (or --url) and GATEHOUSE_TOKEN.", file=sys.stderr)
        return USAGE
    try:
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

    status = commands.add_parser("status", help="where a version is, and why")
    _names_version(status)
    status.set_defaults(command=_status)

    wait = commands.add_parser("wait", help="wait until a version's gates ended")
    _names_version(wait)
    wait.add_argument("--timeout", type=float, default=900.0, help="seconds (default: 900)")
    wait.set_defaults(command=_wait)

    register = commands.add_parser("register", help="register a model file as a version")
    register.add_argument("model")
    register.add_argument("artifact", type=Path)
    register.add_argument("--lineage", type=Path, help="JSON file: service, dataset, parameters, metrics, signature …")
    register.add_argument("--service", help="feature service, name@number")
    register.add_argument("--dataset", help="digest of the dataset")
    register.add_argument("--note", help="what is new in this version")
    _names_code(register, required=False)
    register.set_defaults(command=_register)

    evidence = commands.add_parser("evidence", help="submit a report of CI; exits by the verdict read from it")
    evidence.add_argument("model")
    evidence.add_argument("kind", choices=KINDS)
    evidence.add_argument("report", type=Path, help="JUnit XML, ruff's JSON, or a measurement as JSON")
    _names_code(evidence, required=True)
    evidence.set_defaults(command=_evidence)

    plan = commands.add_parser("plan", help="what applying feature definitions would do")
    _names_definitions(plan)
    plan.set_defaults(command=_plan)

    apply = commands.add_parser("apply", help="show the plan of feature definitions, ask, and carry it out")
    _names_definitions(apply)
    apply.add_argument("--yes", action="store_true", help="do not ask")
    apply.add_argument("--reason", default="", help="why it is published; needed with --publish")
    apply.set_defaults(command=_apply)
    return parser


def _names_definitions(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, help="a YAML or Python file, or a folder of them")
    parser.add_argument("--publish", action="store_true", help="publish new versions, instead of leaving drafts")
    parser.add_argument("--detailed-exitcode", action="store_true", help="exit with 2 when there are changes")


def _names_version(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model")
    parser.add_argument("version", type=int)


def _names_code(parser: argparse.ArgumentParser, *, required: bool) -> None:
    code = parser.add_mutually_exclusive_group(required=required)
    code.add_argument("--code", type=Path, help="the code folder; its digest is computed here")
    code.add_argument("--code-digest", help="its digest, computed before")
    parser.add_argument("--commit", help="commit of the code")


def _status(portal: Client, options: argparse.Namespace) -> int:
    return _tell(portal, portal.standing(options.model, options.version), options)


def _wait(portal: Client, options: argparse.Namespace) -> int:
    return _tell(portal, portal.wait_for_gates(options.model, options.version, timeout=options.timeout), options)


def _tell(portal: Client, standing: Standing, options: argparse.Namespace) -> int:
    if options.json:
        _print_json(standing)
    else:
        print(f"{standing.model} v{standing.version}: {standing.stage}\n  {standing.why}")
        if standing.gates_ended and standing.gates.gate_run is not None:
            for check in portal.gate_run(standing.model, standing.gates.gate_run).checks:
                print(f"  {check.verdict:<12} {check.check_id}: {check.message}")
    if standing.passed:
        return PASSED
    return FAILED if standing.gates_ended else WAITS


def _register(portal: Client, options: argparse.Namespace) -> int:
    lineage = _lineage(options.lineage) if options.lineage else {}
    for name in ("service", "dataset", "note", "commit"):
        if getattr(options, name) is not None:
            lineage[name] = getattr(options, name)
    if digest := _digest(options):
        lineage["code_digest"] = digest
    version: Version = portal.register_version(options.model, options.artifact, **lineage)
    if options.json:
        _print_json(version)
    else:
        print(f"{version.model} v{version.number} {version.artifact_digest}")
    return PASSED


def _lineage(path: Path) -> dict[str, Any]:
    """The file's fields; those that ``Client.register_version`` takes and no others."""
    lineage: Any = json.loads(path.read_text())
    known = set(Client.register_version.__kwdefaults__ or {})
    if not isinstance(lineage, dict) or set(lineage) - known:
        raise ValueError(f"{path}: a lineage is a JSON object with some of {', '.join(sorted(known))}.")
    return lineage


def _evidence(portal: Client, options: argparse.Namespace) -> int:
    text = options.report.read_text()
    report = json.loads(text) if options.kind == "measurement" else text
    evidence: Evidence = portal.submit_evidence(
        options.model, options.kind, report, code_digest=_digest(options), commit=options.commit or ""
    )
    if options.json:
        _print_json(evidence)
    else:
        print(f"{evidence.kind}: {evidence.verdict}: {evidence.summary}")
    return PASSED if evidence.verdict == "passed" else FAILED


def _plan(portal: Client, options: argparse.Namespace) -> int:
    return _refusals(lambda repository: _planned(portal, options, repository), options)


def _planned(portal: Client, options: argparse.Namespace, repository: Repository) -> int:
    plan = portal.plan(repository.definitions, publish=options.publish)
    _print_json(plan) if options.json else print(plan)
    return _by_changes(plan, options)


def _apply(portal: Client, options: argparse.Namespace) -> int:
    return _refusals(lambda repository: _applied(portal, options, repository), options)


def _applied(portal: Client, options: argparse.Namespace, repository: Repository) -> int:
    plan = portal.plan(repository.definitions, publish=options.publish)
    if not options.json:
        print(plan)
    if plan.to_do and not (options.yes or _agreed()):
        print("Nothing was applied.", file=sys.stderr)
        return FAILED
    if plan.to_do:
        plan = portal.apply(repository.definitions, digest=plan.digest, publish=options.publish, reason=options.reason)
        if not options.json:
            print(f"Applied: {', '.join(each.label for each in plan.changes if each.action in DONE)}.")
    if options.json:
        _print_json(plan)
    return _by_changes(plan, options)


def _agreed() -> bool:
    print("Apply this? Only 'yes' is accepted: ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip() == "yes"


def _by_changes(plan: Plan, options: argparse.Namespace) -> int:
    return CHANGES if options.detailed_exitcode and plan.to_do else PASSED


def _refusals(work: Callable[[Repository], int], options: argparse.Namespace) -> int:
    """Read the definitions and do ``work``; what is refused is told by file, object and field."""
    try:
        repository = load(options.path)
    except DefinitionError as problem:
        print(problem, file=sys.stderr)
        return FAILED
    try:
        return work(repository)
    except ServerError:
        raise
    except GatehouseError as problem:
        lines = [
            f"{repository.locate(path)}: {text}"
            for path, texts in problem.errors.items()
            for text in (texts if isinstance(texts, list) else [texts])
        ]
        print("\n".join(lines) if lines else _located(problem, repository), file=sys.stderr)
        return FAILED


def _located(problem: GatehouseError, repository: Repository) -> str:
    """A refusal as a whole; one that starts with an object's path starts with its file."""
    path, mark, rest = problem.detail.partition(": ")
    return f"{problem.title}: {repository.locate(path)}{mark}{rest}"


def _digest(options: argparse.Namespace) -> str:
    return code_digest(options.code) if options.code else options.code_digest or ""


def _print_json(answer: Any) -> None:
    print(json.dumps(dataclasses.asdict(answer), default=_iso, indent=2))


def _iso(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is no JSON")


if __name__ == "__main__":
    sys.exit(main())
