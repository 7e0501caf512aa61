"""``endpoint``: who serves a decision point, and what its product owner decides: kill switch, pauses, freezes."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import Any

from gatehouse.cli import backends
from gatehouse.cli.codes import PASSED, print_json
from gatehouse.client import Client

DECISIONS = {
    "serve": "let another model's champion serve",
    "stop": "pull the kill switch: everybody gets the fallback",
    "resume": "release the kill switch",
    "pause": "let no candidate near the endpoint",
    "continue": "let candidates go on where they were",
}


def add_to(commands: Any) -> None:
    endpoint = commands.add_parser("endpoint", help="who serves a decision point; a product owner's decisions")
    verbs = endpoint.add_subparsers(required=True, metavar="VERB")

    every = verbs.add_parser("list", help="the endpoints and who serves them")
    every.add_argument("--model")
    every.set_defaults(command=_list)

    show = verbs.add_parser("show", help="who serves, who waits, what was decided")
    show.add_argument("name")
    show.set_defaults(command=_show)

    for kind, about in DECISIONS.items():
        decide = verbs.add_parser(kind, help=about)
        decide.add_argument("name")
        if kind == "serve":
            decide.add_argument("model")
        if kind == "stop":
            decide.add_argument("--fallback", help="a named one; default: the endpoint's fixed score")
        decide.add_argument("--note", required=True, help="why: it is recorded")
        decide.add_argument("--at", type=moment, help="later: ISO 8601, without an offset UTC")
        decide.set_defaults(command=_decide, kind=kind, model=None, fallback=None)

    withdraw = verbs.add_parser("withdraw", help="take back what was decided for later")
    withdraw.add_argument("name")
    withdraw.add_argument("decision", type=int)
    withdraw.add_argument("--reason", required=True)
    withdraw.set_defaults(command=_withdraw)

    freeze = verbs.add_parser("freeze", help="a time in which nothing starts, gets more traffic or is promoted")
    freeze.add_argument("name")
    freeze.add_argument("--from", dest="starts_at", type=moment, required=True)
    freeze.add_argument("--until", dest="ends_at", type=moment, required=True)
    freeze.add_argument("--note", required=True, help="why: it is recorded")
    freeze.set_defaults(command=_freeze)

    unfreeze = verbs.add_parser("unfreeze", help="end a freeze early, or call it off")
    unfreeze.add_argument("name")
    unfreeze.add_argument("freeze", type=int)
    unfreeze.add_argument("--reason", required=True)
    unfreeze.set_defaults(command=_unfreeze)

    _add_fallbacks(verbs)
    backends.add_verbs(verbs)


def _add_fallbacks(verbs: Any) -> None:
    fallback = verbs.add_parser("fallback", help="what may answer while the kill switch is pulled")
    acts = fallback.add_subparsers(required=True, metavar="ACT")

    every = acts.add_parser("list", help="those that can be named")
    every.add_argument("name")
    every.set_defaults(command=_fallbacks)

    add = acts.add_parser("add", help="name a fixed score, or an earlier champion")
    add.add_argument("name")
    add.add_argument("fallback")
    answer = add.add_mutually_exclusive_group(required=True)
    answer.add_argument("--score", type=float)
    answer.add_argument("--version", type=int, metavar="NUMBER")
    add.add_argument("--note", required=True, help="why: it is recorded")
    add.set_defaults(command=_add_fallback)

    retire = acts.add_parser("retire", help="no kill switch can name it any more")
    retire.add_argument("name")
    retire.add_argument("fallback")
    retire.add_argument("--reason", required=True)
    retire.set_defaults(command=_retire_fallback)


def moment(text: str) -> datetime:
    """A time from the command line; without an offset it is UTC."""
    at = datetime.fromisoformat(text)
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _tell(answer: Any, options: argparse.Namespace) -> int:
    print_json(answer) if options.json else print(answer)
    return PASSED


def _tell_all(rows: Any, lines: list[str], options: argparse.Namespace) -> int:
    print_json(rows) if options.json else print("\n".join(lines))
    return PASSED


def _list(portal: Client, options: argparse.Namespace) -> int:
    found = portal.endpoints(model=options.model)
    return _tell_all(found, [each.line for each in found], options)


def _show(portal: Client, options: argparse.Namespace) -> int:
    return _tell(portal.endpoint(options.name), options)


def _decide(portal: Client, options: argparse.Namespace) -> int:
    chosen = {"model": options.model, "fallback": options.fallback, "takes_effect_at": options.at}
    return _tell(portal.decide(options.name, options.kind, note=options.note, **chosen), options)


def _withdraw(portal: Client, options: argparse.Namespace) -> int:
    return _tell(portal.withdraw_decision(options.name, options.decision, reason=options.reason), options)


def _freeze(portal: Client, options: argparse.Namespace) -> int:
    window = {"starts_at": options.starts_at, "ends_at": options.ends_at}
    return _tell(portal.freeze(options.name, **window, note=options.note), options)


def _unfreeze(portal: Client, options: argparse.Namespace) -> int:
    return _tell(portal.lift_freeze(options.name, options.freeze, reason=options.reason), options)


def _fallbacks(portal: Client, options: argparse.Namespace) -> int:
    found = portal.fallbacks(options.name, retired=False)
    return _tell_all(found, [str(each) for each in found], options)


def _add_fallback(portal: Client, options: argparse.Namespace) -> int:
    answer = {"score": options.score, "version": options.version}
    return _tell(portal.add_fallback(options.name, options.fallback, note=options.note, **answer), options)


def _retire_fallback(portal: Client, options: argparse.Namespace) -> int:
    return _tell(portal.retire_fallback(options.name, options.fallback, reason=options.reason), options)
