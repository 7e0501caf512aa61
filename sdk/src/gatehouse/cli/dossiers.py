"""``dossier``: issue a version's audit report, save it, verify it."""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from gatehouse import verify_dossier
from gatehouse.calls.record import FORMS
from gatehouse.cli.codes import FAILED, PASSED, print_json
from gatehouse.client import Client


def add_to(commands: Any) -> None:
    dossier = commands.add_parser("dossier", help="issue the audit report of a version; save it, verify it")
    dossier.add_argument("model")
    dossier.add_argument("version", type=int)
    dossier.add_argument("--position", type=int, help="one that was issued for this position of the log")
    dossier.add_argument("--form", choices=FORMS, default="json", help="default: json")
    dossier.add_argument("-o", "--output", type=Path, metavar="FILE", help="where to save it")
    dossier.add_argument("--verify", action="store_true", help="check digest, signature and proofs, here, offline")
    dossier.set_defaults(command=_dossier)


def _dossier(portal: Client, options: argparse.Namespace) -> int:
    position = options.position
    if position is None:
        report = portal.issue_dossier(options.model, options.version)
        position = report.position
        told = f"{options.model} v{options.version} at {position} {report.digest}"
        print_json(report) if options.json else print(told)
    if options.output:
        options.output.write_bytes(portal.dossier(options.model, options.version, position, form=options.form))
    return _verified(portal, options, position) if options.verify else PASSED


def _verified(portal: Client, options: argparse.Namespace, position: int) -> int:
    """What the verifier says; it comes with this package, never from the portal that it checks."""
    content = portal.dossier(options.model, options.version, position, form="json")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"dossier-{hashlib.sha256(content).hexdigest()[:12]}.json"
        file.write_bytes(content)
        script = str(verify_dossier.__file__)
        done = subprocess.run([sys.executable, "-I", script, str(file)], capture_output=True, text=True)
    print(done.stdout, end="", file=sys.stderr if options.json else sys.stdout)
    print(done.stderr, end="", file=sys.stderr)
    return PASSED if done.returncode == 0 else FAILED
