"""``plan`` and ``apply``: feature definitions as code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gatehouse.cli.codes import CHANGES, FAILED, PASSED, print_json
from gatehouse.client import Client
from gatehouse.definitions import DefinitionError
from gatehouse.errors import GatehouseError, ServerError
from gatehouse.plans import Plan
from gatehouse.repository import Repository, load

DONE = ("create", "new version", "change", "publish")


def add_to(commands: Any) -> None:
    plan = commands.add_parser("plan", help="what applying feature definitions would do")
    _names_definitions(plan)
    plan.set_defaults(command=_plan)

    apply = commands.add_parser("apply", help="show the plan of feature definitions, ask, and carry it out")
    _names_definitions(apply)
    apply.add_argument("--yes", action="store_true", help="do not ask")
    apply.add_argument("--reason", default="", help="why it is published; needed with --publish")
    apply.set_defaults(command=_apply)


def _names_definitions(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, help="a YAML or Python file, or a folder of them")
    parser.add_argument("--publish", action="store_true", help="publish new versions, instead of leaving drafts")
    parser.add_argument("--detailed-exitcode", action="store_true", help="exit with 2 when there are changes")


def _plan(portal: Client, options: argparse.Namespace) -> int:
    return _refusals(lambda repository: _planned(portal, options, repository), options)


def _planned(portal: Client, options: argparse.Namespace, repository: Repository) -> int:
    plan = portal.plan(repository.definitions, publish=options.publish)
    print_json(plan) if options.json else print(plan)
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
        print_json(plan)
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
