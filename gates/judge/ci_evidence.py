"""Reports of CI about the code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from gates.judge.verdicts import Judgement, VerdictName, could_not, judged
from gates.policy import CiEvidenceCheck

Report = Mapping[str, Any]
"""evidence, verdict, summary, commit, submitted_at, tests, share (of covered lines)"""


def judge(check: CiEvidenceCheck, measured: Mapping[str, Any]) -> Judgement:
    """``measured``: code_digest, commit and dirty of the version; began and deadline of the run; reports by kind, the
    newest about exactly this code, of "any" commit and of the "exact" one (``gates.reported.ci``).

    What has not come is inconclusive.
    """
    code, commit = measured["code_digest"], measured["commit"]
    if not code:
        return could_not(check, "The version does not say which code made it: no evidence can be about it.")
    if check.commit == "exact" and measured["dirty"]:
        why = (
            "It was made from a tree with uncommitted changes: no commit is exactly its code. Commit, and train again."
        )
        return judged(check, "failed", why, detail={"code_digest": code, "commit": commit, "dirty": True})
    if check.commit == "exact" and not commit:
        return could_not(check, "The version does not say which commit made it: no evidence can be about exactly it.")
    reports: Mapping[str, Report] = measured["reports"][check.commit]
    began, deadline = (datetime.fromisoformat(measured[each]) for each in ("began", "deadline"))
    seen = [_judged(check, kind, reports[kind], began) for kind in check.require if kind in reports]
    missing = [kind for kind in check.require if kind not in reports]
    if missing:
        came = f"by {deadline:%Y-%m-%d %H:%M}" if began >= deadline else "yet"
        of = f"commit {commit[:12]}" if check.commit == "exact" else f"code {code[:12]}"
        other = _other_commits(missing, measured["reports"]["any"])
        seen.append(("inconclusive", f"no {' and no '.join(missing)} report about {of} came {came}{other}"))
    worst: VerdictName = min((verdict for verdict, _ in seen), key=("failed", "error", "inconclusive", "passed").index)
    told = "; ".join(text for verdict, text in seen if worst == "passed" or verdict != "passed")
    detail = {
        "code_digest": code,
        "commit": commit,
        "evidence": {kind: reports[kind]["evidence"] for kind in check.require if kind in reports},
    }
    return judged(check, worst, f"{told}.", n=len(seen) - bool(missing), detail=detail)


def _judged(check: CiEvidenceCheck, kind: str, report: Report, began: datetime) -> tuple[VerdictName, str]:
    told = f"{kind}: {report['summary']}"
    if report["verdict"] != "passed":
        return report["verdict"], told
    age = (began - datetime.fromisoformat(report["submitted_at"])) / timedelta(days=1)
    if check.maximum_age_days is not None and age > check.maximum_age_days:
        return "error", f"{told}, but {age:.0f} days old; at most {check.maximum_age_days} are accepted"
    if report["tests"] is not None and report["tests"] < check.minimum_tests:
        return "error", f"{told}, but {check.minimum_tests} tests are required"
    if kind == "coverage" and check.minimum_coverage is not None:
        return _covered(check.minimum_coverage, report["share"], told)
    return "passed", told


def _covered(minimum: float, share: float | None, told: str) -> tuple[VerdictName, str]:
    if share is None:
        return "error", f"{told}, but it does not say which share of the lines is covered"
    if share < minimum:
        return "failed", f"{told}, but {minimum:.1%} is required"
    return "passed", told


def _other_commits(missing: Sequence[str], reports: Mapping[str, Report]) -> str:
    """Under an exact commit: what did come about the same code, of another."""
    others = [f"{kind} of {reports[kind]['commit'][:12] or 'no commit'}" for kind in missing if kind in reports]
    return f" (there is {', '.join(others)})" if others else ""
