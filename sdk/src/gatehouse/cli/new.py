"""``new model``: a folder of model code to start from."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from gatehouse.cli.codes import PASSED
from gatehouse.client import Client
from gatehouse.scaffold import TASKS, make


def add_to(commands: Any) -> None:
    new = commands.add_parser("new", help="make a folder of model code that passes from the start")
    model = new.add_subparsers(required=True, metavar="WHAT").add_parser("model", help="a model's code, tests and CI")
    model.add_argument("name", help="lower-case letters, digits, '-' and '_'")
    model.add_argument("--path", type=Path, help="where (default: a new folder of that name here)")
    model.add_argument("--task", choices=TASKS, default=TASKS[0], help=f"default: {TASKS[0]}")
    model.add_argument("--owner", default="data-science", help="group that owns the features (default: data-science)")
    model.set_defaults(command=_new, is_offline=lambda options: True)


def _new(portal: Client | None, options: argparse.Namespace) -> int:
    folder = options.path or Path(options.name)
    for file in make(options.name, folder, task=options.task, owner=options.owner):
        print(file)
    print(f"\nNext: gatehouse ci {folder} --no-submit")
    return PASSED
