"""``status``, ``register``, ``evidence``: a version on its way to the gates."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from gatehouse.answers import Evidence, Version
from gatehouse.cli.codes import FAILED, PASSED, print_json
from gatehouse.cli.gate import exit_code
from gatehouse.client import Client
from gatehouse.code import code_digest

KINDS = ("lint", "unit", "integration", "coverage", "measurement")


def add_to(commands: Any) -> None:
    status = commands.add_parser("status", help="where a version is, and why")
    _names_version(status)
    status.set_defaults(command=_status)

    register = commands.add_parser("register", help="register a model file as a version")
    register.add_argument("model")
    register.add_argument("artifact", type=Path)
    register.add_argument("--file", type=Path, action="append", default=[], help="a file beside it; once for each")
    register.add_argument("--lock", type=Path, help="lock file of the environment it was made in")
    register.add_argument("--claim", action="append", default=[], metavar="NAME=TEXT", help="kept, not believed")
    register.add_argument("--lineage", type=Path, help="JSON file: service, dataset, parameters, metrics, signature …")
    register.add_argument("--service", help="feature service, name@number")
    register.add_argument("--dataset", help="digest of the dataset")
    register.add_argument("--note", help="what is new in this version")
    register.add_argument("--number", action="store_true", help="print the version's number and nothing else")
    _names_code(register, required=False)
    register.set_defaults(command=_register)

    evidence = commands.add_parser("evidence", help="submit a report of CI; exits by the verdict read from it")
    evidence.add_argument("model")
    evidence.add_argument("kind", choices=KINDS)
    evidence.add_argument("report", type=Path, help="JUnit XML, ruff's or coverage's JSON, or a measurement as JSON")
    evidence.add_argument("--version", type=int, help="of a measurement: the version it was made of")
    _names_code(evidence, required=False)
    evidence.set_defaults(command=_evidence)


def _names_version(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model")
    parser.add_argument("version", type=int)


def _names_code(parser: argparse.ArgumentParser, *, required: bool) -> None:
    code = parser.add_mutually_exclusive_group(required=required)
    code.add_argument("--code", type=Path, help="the code folder; its digest is computed here")
    code.add_argument("--code-digest", help="its digest, computed before")
    parser.add_argument("--commit", help="commit of the code")


def _status(portal: Client, options: argparse.Namespace) -> int:
    standing = portal.standing(options.model, options.version)
    if options.json:
        print_json(standing)
        return exit_code(standing)
    print(f"{standing.model} v{standing.version}: {standing.stage}\n  {standing.why}")
    if standing.gates_ended and standing.gates.gate_run is not None:
        for check in portal.gate_run(standing.model, standing.gates.gate_run).checks:
            print(f"  {check.verdict:<12} {check.check_id}: {check.message}")
    return exit_code(standing)


def _register(portal: Client, options: argparse.Namespace) -> int:
    lineage = _lineage(options.lineage) if options.lineage else {}
    for name in ("service", "dataset", "note", "commit"):
        if getattr(options, name) is not None:
            lineage[name] = getattr(options, name)
    if digest := _digest(options):
        lineage["code_digest"] = digest
    if options.lock:
        lineage["environment_lock"] = options.lock.read_text()
    if options.claim:
        lineage["claims"] = {**lineage.get("claims", {}), **_claims(options.claim)}
    if options.file:
        lineage["files"] = options.file
    version: Version = portal.register_version(options.model, options.artifact, **lineage)
    if options.json:
        print_json(version)
    elif options.number:
        print(version.number)
    else:
        print(f"{version.model} v{version.number} {version.artifact_digest}")
    return PASSED


def _claims(words: list[str]) -> dict[str, str]:
    if strange := [word for word in words if "=" not in word]:
        raise ValueError(f"--claim {strange[0]}: NAME=TEXT is needed.")
    return dict(word.split("=", 1) for word in words)


def _lineage(path: Path) -> dict[str, Any]:
    """The file's fields; those that ``Client.register_version`` takes and no others."""
    lineage: Any = json.loads(path.read_text())
    known = set(Client.register_version.__kwdefaults__ or {}) - {"files"}
    if not isinstance(lineage, dict) or set(lineage) - known:
        raise ValueError(f"{path}: a lineage is a JSON object with some of {', '.join(sorted(known))}.")
    return lineage


def _evidence(portal: Client, options: argparse.Namespace) -> int:
    text = options.report.read_text()
    measures = options.kind == "measurement"
    if measures and options.version is None:
        raise ValueError("a measurement is about one version: --version N.")
    if not measures and not _digest(options):
        raise ValueError(f"a {options.kind} report is about code: --code FOLDER or --code-digest DIGEST.")
    evidence: Evidence = portal.submit_evidence(
        options.model,
        options.kind,
        json.loads(text) if measures else text,
        code_digest=_digest(options),
        commit=options.commit or "",
        version=options.version,
    )
    if options.json:
        print_json(evidence)
    else:
        print(f"{evidence.kind}: {evidence.verdict}: {evidence.summary}")
    return PASSED if measures or evidence.verdict == "passed" else FAILED


def _digest(options: argparse.Namespace) -> str:
    return code_digest(options.code) if options.code else options.code_digest or ""
