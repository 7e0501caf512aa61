"""Reports of CI: what passes, what must fail, what is not there yet, what can not be judged."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gates.judge import Judgement
from gates.judge.ci_evidence import judge
from gates.policy import CiEvidenceCheck

NOW = datetime(2013, 6, 1, tzinfo=UTC)
CODE, COMMIT = "c0de" * 16, "ab12" * 10
CI = CiEvidenceCheck(id="ci", require=("lint", "unit"), maximum_age_days=14)


def report(verdict: str = "passed", *, days: float = 1, **fields: Any) -> dict[str, Any]:
    at = (NOW - timedelta(days=days)).isoformat()
    told = {"evidence": 7, "verdict": verdict, "summary": "it ran", "commit": COMMIT, "submitted_at": at}
    return {**told, "tests": None, "share": None, **fields}


def ci(check: CiEvidenceCheck = CI, **given: Any) -> Judgement:
    """Reports by kind, all of the version's own commit; other words are what is known of the version."""
    known = {"code_digest": CODE, "commit": COMMIT, "dirty": False, "began": NOW, "deadline": NOW}
    known |= {word: given.pop(word) for word in list(given) if word in known}
    exact = {kind: each for kind, each in given.items() if each["commit"] == known["commit"]}
    told = {name: value.isoformat() if isinstance(value, datetime) else value for name, value in known.items()}
    return judge(check, {**told, "reports": {"any": given, "exact": exact}})


def asking(*kinds: Any, **fields: Any) -> CiEvidenceCheck:
    return CiEvidenceCheck(id="ci", require=kinds, **fields)


GREEN = report(tests=12)


def test_ci__everything_required_passed__passes_and_names_the_reports() -> None:
    judgement = ci(lint=report(), unit=GREEN, coverage=report("failed"))

    assert judgement.verdict == "passed"
    assert judgement.detail["evidence"] == {"lint": 7, "unit": 7}
    assert judgement.n == 2


def test_ci__failed_report__fails_even_when_another_is_missing() -> None:
    assert ci(unit=report("failed")).verdict == "failed"


def test_ci__missing_report__is_inconclusive_and_named() -> None:
    judgement = ci(lint=report())

    assert judgement.verdict == "inconclusive"
    assert judgement.message == "no unit report about code c0dec0dec0de came by 2013-06-01 00:00."


def test_ci__missing_report_before_the_deadline__has_not_come_yet() -> None:
    assert ci(lint=report(), deadline=NOW + timedelta(days=1)).message.endswith("came yet.")


def test_ci__no_test_ran__is_an_error() -> None:
    assert ci(lint=report(), unit=report("error", tests=0)).verdict == "error"


def test_ci__fewer_tests_than_required__is_an_error_for_each_kind_of_tests() -> None:
    many = asking("unit", "integration", minimum_tests=12)

    assert ci(many, unit=GREEN, integration=GREEN).verdict == "passed"
    assert ci(many, unit=GREEN, integration=report(tests=11)).verdict == "error"


@pytest.mark.parametrize(("days", "verdict"), [(14, "passed"), (14.01, "error")])
def test_ci__stale_report__is_an_error(days: float, verdict: str) -> None:
    assert ci(lint=report(), unit=report(days=days, tests=12)).verdict == verdict


@pytest.mark.parametrize(("share", "verdict"), [(0.8, "passed"), (0.7999, "failed"), (None, "error")])
def test_ci__coverage__must_reach_the_policys_minimum(share: float | None, verdict: str) -> None:
    judgement = ci(asking("coverage", minimum_coverage=0.8), coverage=report(share=share))

    assert judgement.verdict == verdict


def test_ci__coverage_without_a_minimum__only_has_to_be_there() -> None:
    assert ci(asking("coverage"), coverage=report(share=0.01)).verdict == "passed"


def test_ci__nothing_covered_could_be_measured__is_an_error() -> None:
    assert ci(asking("coverage", minimum_coverage=0.8), coverage=report("error")).verdict == "error"


def test_ci__version_without_code__is_an_error() -> None:
    assert ci(lint=report(), unit=GREEN, code_digest="").verdict == "error"


# ---------------------------------------------------------------------- the exact commit

EXACT = asking("unit", commit="exact")


def test_ci__exact_commit__takes_reports_of_that_commit_alone() -> None:
    assert ci(EXACT, unit=GREEN).verdict == "passed"
    other = ci(EXACT, unit=report(commit="ffff" * 10, tests=12))
    assert other.verdict == "inconclusive"
    assert "no unit report about commit ab12ab12ab12 came" in other.message
    assert "(there is unit of ffffffffffff)" in other.message


def test_ci__any_commit__takes_a_report_of_the_same_code_from_another() -> None:
    assert ci(asking("unit"), unit=report(commit="ffff" * 10, tests=12), dirty=True, commit="").verdict == "passed"


def test_ci__exact_commit_of_a_version_that_names_none__is_an_error() -> None:
    assert ci(EXACT, unit=GREEN, commit="").verdict == "error"


def test_ci__exact_commit_of_a_dirty_tree__fails() -> None:
    judgement = ci(EXACT, unit=GREEN, dirty=True)

    assert judgement.verdict == "failed"
    assert "uncommitted" in judgement.message
