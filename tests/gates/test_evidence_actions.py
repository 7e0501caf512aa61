"""Evidence is handed in, waited for, and judged at the deadline."""

from datetime import timedelta
from typing import Any

import pytest
from django.db.models import QuerySet

from audit.errors import InvalidInput, NotPermitted
from audit.models import Event
from gates import actions, reported
from gates.models import Evidence, GateRun
from gates.reactions import begin_waiting_runs
from gates.tasks import GATES
from tests.builders import NOON, ROBOT, alice, charlie, pete, registered_model
from tests.gates import rows

pytestmark = pytest.mark.django_db

REVENUE: dict[str, Any] = {"id": "revenue", "kind": "custom", "measurement": "revenue-per-user", "at_least": 1.0}
EXACT: dict[str, Any] = {**rows.CI, "require": ["unit"], "commit": "exact"}
LATER = NOON + timedelta(days=10)


def measurement(of: Any, **numbers: Any) -> Evidence:
    payload = {"metric": "revenue-per-user", "value": 1.2, **numbers}
    return rows.evidence("measurement", payload, code_digest="", version=of)


def submitted() -> QuerySet[Event]:
    return Event.objects.filter(name="evidence.submitted")


def refusal(kind: str, payload: Any = rows.JUNIT, **fields: Any) -> dict[str, list[str]]:
    with pytest.raises(InvalidInput) as refused:
        rows.evidence(kind, payload, **fields)
    assert not Evidence.objects.exists()
    return dict(refused.value.errors)


# ---------------------------------------------------------------------- about code


def test_submit_evidence__has_our_verdict_and_its_event() -> None:
    evidence = rows.evidence("unit", rows.RED, actor=pete(), commit="abc123")

    assert (evidence.verdict, evidence.summary) == ("failed", "1 of 1 test failed (tests::test_a)")
    assert submitted().get().data == {"kind": "unit", "verdict": "failed", "code_digest": rows.CODE}


@pytest.mark.parametrize("digest", ["", "abc", "C0DE" * 16, "g" * 64])
def test_submit_evidence__without_a_digest_of_code__is_refused(digest: str) -> None:
    assert set(refusal("unit", code_digest=digest)) == {"code_digest"}


def test_submit_evidence__unknown_kind_or_unreadable_report__is_refused() -> None:
    assert set(refusal("vibes")) == {"kind"}
    assert set(refusal("unit", "all green, I promise")) == {"payload"}


def test_submit_evidence__report_of_code_about_a_version_or_with_a_name__is_refused() -> None:
    assert set(refusal("unit", version=rows.version())) == {"version"}
    assert set(refusal("coverage", "{}", name="coverage")) == {"name"}


def test_submit_evidence__by_a_stranger__is_refused() -> None:
    with pytest.raises(NotPermitted):
        rows.evidence("unit", actor=charlie())


# ---------------------------------------------------------------------- about a version


def test_submit_evidence__measurement__is_about_its_version() -> None:
    version = rows.version()
    evidence = measurement(version, n=300)

    assert (evidence.version, evidence.name, evidence.verdict) == (version, "revenue-per-user", "inconclusive")
    assert str(evidence) == f"revenue-per-user of {version}"
    assert submitted().get().data["version"] == version.number


def test_submit_evidence__measurement_named_beside_the_report__has_that_name() -> None:
    version = rows.version()
    named = rows.evidence("measurement", {"value": 1}, code_digest="", version=version, name="energy")

    assert named.name == "energy"
    assert actions.evidence_about(version).get() == named


def test_submit_evidence__measurement_without_version__is_refused_with_what_to_give() -> None:
    [why] = refusal("measurement", {"metric": "x", "value": 1}, code_digest="")["version"]

    assert "give its number as version" in why


def test_submit_evidence__measurement_of_another_models_version__is_refused() -> None:
    other = rows.version(registered_model("other"))

    assert set(refusal("measurement", {"metric": "x", "value": 1}, code_digest="", version=other)) == {"version"}


@pytest.mark.parametrize("field", ["code_digest", "commit"])
def test_submit_evidence__measurement_that_names_code__is_refused(field: str) -> None:
    given = {"code_digest": "", "version": rows.version(), field: rows.CODE}

    assert set(refusal("measurement", {"metric": "x", "value": 1}, **given)) == {field}


def test_submit_evidence__measurement_with_two_names_or_a_bar__is_refused() -> None:
    about = {"code_digest": "", "version": rows.version()}

    assert set(refusal("measurement", {"metric": "x", "value": 1}, name="y", **about)) == {"name"}
    assert set(refusal("measurement", {"metric": "x", "value": 1, "at_least": 0}, **about)) == {"payload"}


# ---------------------------------------------------------------------- waited for


def waiting(*checks: dict[str, Any], **fields: Any) -> GateRun:
    rows.policy(rows.AUC, *checks)
    return rows.running(rows.version(**fields))


def test_missing_evidence__names_reports_and_measurements() -> None:
    run = waiting(rows.CI, REVENUE)

    assert actions.missing_evidence(run) == ("lint", "unit", "measurement: revenue-per-user")
    rows.evidence("unit")
    measurement(run.version)
    assert actions.missing_evidence(run) == ("lint",)


def test_missing_evidence__measurement_of_another_version__does_not_count() -> None:
    run = waiting(REVENUE)
    measurement(rows.version())

    assert actions.missing_evidence(run) == ("measurement: revenue-per-user",)


def test_missing_evidence__version_without_code__still_waits_for_measurements_of_itself() -> None:
    run = waiting(rows.CI, REVENUE, code_digest="")
    rows.evidence("lint", "[]")

    assert actions.missing_evidence(run) == ("measurement: revenue-per-user",)


def test_missing_evidence__exact_commit__waits_for_reports_of_that_commit() -> None:
    run = waiting(EXACT, commit="a" * 40)
    rows.evidence("unit", commit="b" * 40)

    assert actions.missing_evidence(run) == ("unit",)
    rows.evidence("unit", commit="a" * 40)
    assert actions.missing_evidence(run) == ()


@pytest.mark.parametrize("version", [{"commit": ""}, {"commit": "a" * 40, "dirty": True}])
def test_missing_evidence__exact_commit_that_nobody_can_name__is_not_waited_for(version: dict[str, Any]) -> None:
    assert waiting(EXACT, **version).state == "running"


def test_begin_waiting_runs__measurement_came__begins_the_run_of_its_version_alone() -> None:
    run, other = waiting(REVENUE), rows.running(rows.version())
    measurement(run.version)
    begin_waiting_runs(submitted().get())

    run.refresh_from_db()
    other.refresh_from_db()
    assert (run.state, other.state) == ("running", "open")


# ---------------------------------------------------------------------- as of the moment that the run began


def test_reported__newest_of_each_kind_counts_and_nothing_that_came_later() -> None:
    run = waiting(rows.CI, REVENUE)
    rows.evidence("unit", rows.JUNIT)
    red = rows.evidence("unit", rows.RED)
    rows.evidence("unit", rows.JUNIT, now=LATER)
    measured = measurement(run.version)
    measurement(rows.version())

    assert reported.ci(run, NOON)["reports"]["any"]["unit"]["evidence"] == red.pk
    assert reported.measurements(run, NOON)["measurements"]["revenue-per-user"]["evidence"] == measured.pk
    assert reported.measurements(run, NOON - timedelta(seconds=1))["measurements"] == {}


def test_reported__red_report_after_a_green_one_of_the_same_code__fails() -> None:
    run = waiting(rows.CI)
    for payload in (rows.JUNIT, rows.RED):
        rows.evidence("unit", payload)

    [(judgement, _)] = reported.evidence_judgements(run, NOON)
    assert judgement.verdict == "failed"


# ---------------------------------------------------------------------- the deadline


def test_deadline__nothing_measured_came__is_inconclusive_and_names_all_that_lacks() -> None:
    run = waiting(rows.CI, REVENUE)
    rows.evidence("lint", "[]")
    actions.conclude_without_evidence(run, actor=GATES, now=LATER)

    assert run.state == "inconclusive"
    assert "no unit report" in run.state_reason
    assert "No measurement revenue-per-user" in run.state_reason
    assert {result.check_id for result in run.results.all()} == {"ci", "revenue"}
    assert all(result.measured["began"] == LATER.isoformat() for result in run.results.all())


def test_deadline__measurement_that_came_is_short__fails() -> None:
    run = waiting(rows.CI, REVENUE)
    measurement(run.version, value=0.5)
    actions.conclude_without_evidence(run, actor=GATES, now=LATER)

    assert run.state == "failed"


def test_deadline__only_what_is_reported_lacks__the_run_begins_without_it() -> None:
    run = waiting({**REVENUE, "blocking": False})
    assert run.state == "open"
    actions.conclude_without_evidence(run, actor=GATES, now=LATER)

    assert run.state == "running"


def test_evidence__of_a_person_and_of_gatehouse__may_both_be_submitted() -> None:
    rows.evidence("unit", actor=alice())
    rows.evidence("unit", actor=ROBOT)

    assert submitted().count() == 2
