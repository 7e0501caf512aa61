"""``ci``: lint and test a model's code, and submit the reports as evidence of exactly that code."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gatehouse.ci import KINDS, Bench, Project, Result, Revision, revision_of, run
from gatehouse.cli.codes import FAILED, PASSED, USAGE
from gatehouse.client import Client
from gatehouse.gate_reports import markdown_table
from gatehouse.summaries import add_summary_option, write_summary

REPORTS = ".gatehouse"
"""The reports' folder, below the code: hidden, so that it is no part of it."""


def add_to(commands: Any) -> None:
    ci = commands.add_parser("ci", help="lint and test a model's code, and submit the reports")
    ci.add_argument("path", type=Path, nargs="?", default=Path(), help="the code folder (default: this one)")
    ci.add_argument("--model", default="", help="default: what gatehouse.toml or [tool.gatehouse] names")
    ci.add_argument("--commit", default="", help="commit of the code (default: git's)")
    ci.add_argument("--kind", choices=KINDS, action="append", default=[], help="only this; once for each")
    ci.add_argument("--reports", type=Path, help=f"where the reports are written (default: {REPORTS} in the folder)")
    ci.add_argument("--no-submit", action="store_true", help="only here; needs no portal")
    ci.add_argument("--python", default=sys.executable, help="interpreter with the model's packages (default: this)")
    ci.add_argument("--timeout", type=float, default=1800.0, help="seconds that each step may take (default: 1800)")
    ci.add_argument("--jobs", type=int, default=1, help="steps at the same time (default: 1)")
    add_summary_option(ci)
    ci.set_defaults(command=_ci, is_offline=lambda options: options.no_submit)


def _ci(portal: Client | None, options: argparse.Namespace) -> int:
    project = Project.read(options.path, model=options.model, kinds=options.kind)
    if portal is not None and not project.model:
        print("Which model's code is this? Name it with --model or in gatehouse.toml.", file=sys.stderr)
        return USAGE
    reports = options.reports or project.folder / REPORTS
    bench = Bench(project.folder, reports, options.python, options.timeout, max(options.jobs, 1))
    before = revision_of(project.folder, commit=options.commit)
    results = run(project, bench, told=lambda line: print(line, file=sys.stderr, flush=True))
    changed = revision_of(project.folder, commit=options.commit).code_digest != before.code_digest
    if portal is not None and not changed:
        results = tuple(_submitted(portal, project.model, result, before) for result in results)
    _tell(project, before, results, options, changed=changed)
    return PASSED if not changed and all(result.verdict == "passed" for result in results) else FAILED


def _submitted(portal: Client, model: str, result: Result, revision: Revision) -> Result:
    """With the verdict that the portal read, which is the one that counts. What a broken tool left is not sent."""
    if result.report is None:
        return result
    text = result.report.read_text(encoding="utf-8")
    evidence = portal.submit_evidence(
        model, result.kind, text, code_digest=revision.code_digest, commit=revision.commit
    )
    return replace(result, verdict=evidence.verdict, summary=evidence.summary, evidence=evidence.id)


def _tell(
    project: Project, revision: Revision, results: Sequence[Result], options: argparse.Namespace, *, changed: bool
) -> None:
    """The table to stdout, what has to be mended and minded to stderr."""
    closing = _closing(project, revision, results, changed=changed)
    if options.json:
        print(json.dumps(_as_json(project, revision, results, changed=changed), indent=2))
    else:
        print("\n".join([*_table(results), closing]))
    for result in results:
        if result.verdict != "passed":
            where = [f"  whole log: {os.path.relpath(result.log)}"] if result.log else []
            print("\n".join([f"{result.kind}:", *(f"  {line}" for line in result.details), *where]), file=sys.stderr)
    for remark in revision.remarks:
        print(f"Mind: {remark}", file=sys.stderr)
    rows = [(result.kind, result.verdict, result.summary) for result in results]
    title = f"## Code of {project.model or 'this model'}\n\n"
    write_summary(f"{title}{markdown_table(('check', 'verdict', 'what was found'), rows)}\n{closing}\n", options)


def _table(results: Sequence[Result]) -> list[str]:
    rows = [("check", "verdict", "what was found"), *((each.kind, each.verdict, each.summary) for each in results)]
    first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
    return [f"{kind:<{first}}  {verdict:<{second}}  {said}" for kind, verdict, said in rows]


def _closing(project: Project, revision: Revision, results: Sequence[Result], *, changed: bool) -> str:
    code = f"code {revision.code_digest[:12]}" + (f", commit {revision.commit[:12]}" if revision.commit else "")
    if changed:
        return f"The files changed while they were checked ({code} before): nothing was submitted. Write outside of it."
    sent = [str(result.evidence) for result in results if result.evidence is not None]
    if not sent:
        return f"Not submitted: {code}."
    return f"Submitted to {project.model} as evidence {', '.join(sent)} of {code}."


def _as_json(project: Project, revision: Revision, results: Sequence[Result], *, changed: bool) -> dict[str, Any]:
    return {
        "model": project.model,
        "code_digest": revision.code_digest,
        "commit": revision.commit,
        "remarks": list(revision.remarks),
        "changed": changed,
        "results": [result.as_dict() for result in results],
    }
