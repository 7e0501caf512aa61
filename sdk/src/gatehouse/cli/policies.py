"""``policy``: what a model's versions must prove, as YAML: show it, change it, try it on the past, decide on it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gatehouse.calls.policies import OUTCOMES
from gatehouse.cli.codes import FAILED, PASSED, print_json
from gatehouse.client import Client
from gatehouse.errors import InvalidInput

TIERS = ("experimental", "standard", "high-stakes")
TASKS = ("binary_classification", "regression")


def add_to(commands: Any) -> None:
    policy = commands.add_parser("policy", help="what a model's versions must prove")
    verbs = policy.add_subparsers(required=True, metavar="VERB")

    show = verbs.add_parser("show", help="print a policy as YAML")
    show.add_argument("model")
    show.add_argument("number", type=int, nargs="?", help="default: the one in force")
    show.set_defaults(command=_show)

    template = verbs.add_parser("template", help="print where a tier's policies start, as YAML")
    template.add_argument("tier", choices=TIERS)
    template.add_argument("--task", choices=TASKS)
    template.set_defaults(command=_template)

    propose = verbs.add_parser("propose", help="propose a policy; a second person confirms it")
    _names_file(propose)
    propose.add_argument("--note", required=True, help="why it changes")
    propose.set_defaults(command=_propose)

    diff = verbs.add_parser("diff", help="what a policy asks otherwise than the one in force")
    diff.add_argument("model")
    diff.add_argument("number", type=int)
    diff.add_argument("--against", type=int, metavar="NUMBER", help="than another one")
    diff.set_defaults(command=_diff)

    dry_run = verbs.add_parser("dry-run", help="what a policy would have made of the last versions")
    _names_file(dry_run)
    dry_run.add_argument("--last", type=int, default=20, help="versions (default: 20)")
    dry_run.set_defaults(command=_dry_run)

    for outcome in OUTCOMES:
        decide = verbs.add_parser(outcome, help=HELP[outcome])
        decide.add_argument("model")
        decide.add_argument("number", type=int)
        decide.add_argument("--reason", required=True)
        decide.set_defaults(command=_decide, outcome=outcome)


HELP = {
    "confirm": "put somebody else's proposal in force",
    "decline": "refuse somebody else's proposal",
    "withdraw": "take a proposal back",
}


def _names_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model")
    parser.add_argument("file", type=Path, help="YAML")


def _show(portal: Client, options: argparse.Namespace) -> int:
    if options.json:
        print_json(portal.policy(options.model, options.number))
    else:
        print(portal.policy_yaml(options.model, options.number), end="")
    return PASSED


def _template(portal: Client, options: argparse.Namespace) -> int:
    print(portal.policy_template(options.tier, task=options.task), end="")
    return PASSED


def _propose(portal: Client, options: argparse.Namespace) -> int:
    def propose(text: str) -> None:
        policy = portal.propose_policy(options.model, yaml=text, note=options.note)
        if options.json:
            print_json(policy)
            return
        print(f"{policy.model} policy {policy.number}: {policy.standing}")
        for change in policy.loosened:
            print(f"  asks less: {change.check} {change.setting}")

    return _with_file(options.file, propose)


def _diff(portal: Client, options: argparse.Namespace) -> int:
    difference = portal.policy_difference(options.model, options.number, against=options.against)
    print_json(difference) if options.json else print(difference)
    return PASSED


def _dry_run(portal: Client, options: argparse.Namespace) -> int:
    def try_it(text: str) -> None:
        tried = portal.dry_run_policy(options.model, yaml=text, last=options.last)
        if options.json:
            print_json(tried)
            return
        print(tried)
        for line in tried.difference.words:
            print(f"  {line}")

    return _with_file(options.file, try_it)


def _decide(portal: Client, options: argparse.Namespace) -> int:
    policy = portal.decide_policy(options.model, options.number, options.outcome, reason=options.reason)
    print_json(policy) if options.json else print(f"{policy.model} policy {policy.number}: {policy.standing}")
    return PASSED


def _with_file(file: Path, work: Callable[[str], None]) -> int:
    """Do ``work`` with the file's text; what is refused of it is told with file, line and column."""
    text = file.read_text()
    try:
        work(text)
    except InvalidInput as problem:
        if not any(field.partition(".")[0] == "yaml" for field in problem.errors):
            raise
        for field, texts in problem.errors.items():
            path = field.partition(".")[2]
            for each in texts:
                print(f"{file}: {_placed(each, path)}", file=sys.stderr)
        return FAILED
    return PASSED


def _placed(text: str, path: str) -> str:
    """``line 7, column 5: There is no such setting.`` with the setting after the place."""
    place, mark, rest = text.partition(": ")
    if not (mark and place.startswith("line ")):
        return f"{path}: {text}" if path else text
    return f"{place}: {path}: {rest}" if path else text
