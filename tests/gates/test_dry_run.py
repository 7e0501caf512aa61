"""What another policy would have made of past runs: judged again from what was kept, or said not to be known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from audit import clock
from audit.models import Event
from engines import scoring
from gates import actions
from gates.dry_run import DryRun, Row, dry_run
from gates.judge import Judgement
from gates.models import CheckResult, GateRun, Policy, PolicyDecision
from gates.policy import PolicyDocument, parse
from gates.preparation import forget
from jobs.drain import drain
from registry.models import ModelVersion
from tests.builders import NOON, ROBOT, alice, paula, policy_in_force, registered_model
from tests.gates import rows, world

pytestmark = pytest.mark.django_db

REVENUE: dict[str, Any] = {"id": "revenue", "kind": "custom", "measurement": "revenue", "at_least": 1.0}
FLOOR: dict[str, Any] = {"id": "auc-floor", "kind": "metric", "metric": "roc_auc", "at_least": 0.6, "minimum_rows": 500}


@pytest.fixture(autouse=True)
def _today() -> Iterator[None]:
    with clock.at(world.NOW):
        yield


@pytest.fixture(scope="module", autouse=True)
def _no_scorers_left() -> Iterator[None]:
    yield
    scoring.shut_down()


def under(*checks: dict[str, Any], **fields: Any) -> DryRun:
    return dry_run(registered_model(), rule(*checks, **fields))


def rule(*checks: dict[str, Any], **fields: Any) -> PolicyDocument:
    return parse({"checks": list(checks), **fields})


def measured(revenue: float, **numbers: Any) -> GateRun:
    """A version whose pipeline measured its revenue, judged under the policy in force."""
    version = rows.version()
    report = {"metric": "revenue", "value": revenue, **numbers}
    rows.evidence("measurement", report, code_digest="", version=version, now=world.NOW)
    actions.open_run(version, actor=ROBOT, reason="Registered.", now=world.NOW)
    drain()
    return GateRun.objects.get(version=version)


# ---------------------------------------------------------------------- versions that ended otherwise


def test_dry_run__higher_bar__says_which_versions_would_have_ended_otherwise() -> None:
    rows.policy(REVENUE)
    runs = [measured(revenue) for revenue in (1.5, 1.05, 0.9)]
    assert [run.state for run in runs] == ["passed", "passed", "failed"]

    tried = under({**REVENUE, "at_least": 1.1})

    assert tried.sentence == "Under this rule, 1 of the last 3 versions would have ended otherwise."
    assert [(row.run, row.ended, row.would_end) for row in tried.rows] == [
        (runs[2], "failed", "failed"),
        (runs[1], "passed", "failed"),
        (runs[0], "passed", "passed"),
    ]
    assert [row.changed for row in tried.rows] == [(), (("revenue", "passed", "failed"),), ()]


def test_dry_run__same_rule_under_another_name__changes_nothing() -> None:
    rows.policy(REVENUE)
    for revenue in (1.5, 0.9):
        measured(revenue)

    tried = under({**REVENUE, "id": "renamed"})

    assert tried.sentence == "Under this rule, none of the last 2 versions would have ended otherwise."
    assert [row.would_end for row in tried.rows] == ["failed", "passed"]


def test_dry_run__check_turned_to_report_only__no_longer_stops_the_version() -> None:
    rows.policy(REVENUE)
    measured(0.9)
    second = {**REVENUE, "id": "second", "at_least": 0.1}

    (row,) = under({**REVENUE, "blocking": False}, second).rows

    assert (row.ended, row.would_end) == ("failed", "passed")
    assert row.changed == (("revenue", "failed", "failed, report only"),)


def test_dry_run__check_dropped__tells_what_it_had_said() -> None:
    rows.policy(REVENUE, {**REVENUE, "id": "second", "at_least": 0.1})
    measured(0.9)

    (row,) = under({**REVENUE, "id": "second", "at_least": 0.1}).rows

    assert (row.ended, row.would_end) == ("failed", "passed")
    assert row.changed == (("revenue", "failed", ""),)


def test_dry_run__of_a_version_judged_twice__counts_its_last_run() -> None:
    rows.policy(REVENUE)
    run = measured(0.9)
    report = {"metric": "revenue", "value": 1.2}
    rows.evidence("measurement", report, code_digest="", version=run.version, now=world.NOW)
    again = actions.rerun(run.version, actor=ROBOT, reason="Measured again.", now=world.NOW)
    drain()

    (row,) = under(REVENUE).rows

    assert (row.run, row.ended, row.would_end) == (again, "passed", "passed")


def test_dry_run__of_the_last_versions__is_no_more_than_asked_for() -> None:
    rows.policy(REVENUE)
    runs = [measured(1.2) for _ in range(3)]

    tried = dry_run(registered_model(), rule(REVENUE), last=2)

    assert [row.run for row in tried.rows] == [runs[2], runs[1]]
    assert under(REVENUE).as_dict()["rows"][0]["gate_run"] == runs[2].pk


def test_dry_run__writes_nothing() -> None:
    rows.policy(REVENUE)
    measured(1.2)
    before = (Event.objects.count(), GateRun.objects.count(), CheckResult.objects.count())

    under({**REVENUE, "at_least": 2.0})

    assert (Event.objects.count(), GateRun.objects.count(), CheckResult.objects.count()) == before


# ---------------------------------------------------------------------- what can not be told


def test_dry_run__before_any_version_was_judged__says_so() -> None:
    assert under(REVENUE).sentence == "No version has been judged yet: nothing to try this rule on."


def test_dry_run__check_of_a_kind_that_was_not_asked__can_not_be_told() -> None:
    rows.policy(REVENUE)
    measured(1.2)

    tried = under(REVENUE, rows.CI)

    assert tried.sentence == "What this rule would have made of the one version judged so far can not be told."
    assert (tried.rows[0].would_end, tried.rows[0].untold) == (None, ("ci",))


def test_dry_run__report_only_check_that_can_not_be_told__leaves_the_end_known() -> None:
    rows.policy(REVENUE)
    measured(1.2)

    (row,) = under(REVENUE, {**rows.CI, "blocking": False}).rows

    assert (row.would_end, row.untold) == ("passed", ("ci",))


def test_dry_run__measurement_that_nobody_was_asked_for__can_not_be_told() -> None:
    rows.policy(REVENUE)
    measured(1.2)

    (row,) = under({**REVENUE, "measurement": "clicks"}).rows

    assert (row.would_end, row.untold) == (None, ("revenue",))


def test_dry_run__report_that_nobody_was_asked_for__can_not_be_told_and_a_red_one_can() -> None:
    rows.policy({**rows.CI, "require": ["lint"]})
    for kind, report in (("lint", "[]"), ("unit", rows.RED)):
        rows.evidence(kind, report, now=world.NOW)
    actions.open_run(rows.version(), actor=ROBOT, reason="Registered.", now=world.NOW)
    drain()

    (unknown,) = under({**rows.CI, "require": ["lint", "integration"]}).rows
    (red,) = under({**rows.CI, "require": ["lint", "unit"]}).rows

    assert (unknown.ended, unknown.would_end) == ("passed", None)
    assert (red.would_end, red.changed) == ("failed", (("ci", "passed", "failed"),))


def test_dry_run__measured_kind_of_a_run_without_frozen_inputs__can_not_be_told() -> None:
    rows.policy(FLOOR)
    run = rows.running()
    actions.conclude(run, [rows.judged("auc-floor", "passed")], actor=ROBOT, now=NOON)

    (row,) = under({**FLOOR, "at_least": 0.7}).rows

    assert (row.ended, row.would_end, row.untold) == ("passed", None, ("auc-floor",))
    assert under({**FLOOR, "id": "renamed"}).rows[0].would_end == "passed"


def test_dry_run__run_of_a_policy_no_longer_read__can_not_be_told() -> None:
    version = rows.version()
    values = {"registered_model": version.registered_model, "number": 1, "content_hash": "o", "created_at": NOON}
    document = rule(REVENUE).model_dump(mode="json")
    document["checks"][0]["gone"] = 1
    old = Policy.objects.create(document=document, created_by=alice(), **values)
    decided = {"outcome": "confirmed", "duty": "product", "reason": "", "decided_by": paula(), "decided_at": NOON}
    PolicyDecision.objects.create(policy=old, **decided)
    run = GateRun.objects.create(
        registered_model=version.registered_model,
        version=version,
        policy=old,
        number=1,
        required_checks=1,
        state="open",
        opened_at=NOON,
        deadline=NOON,
    )
    run.move("running", actor=ROBOT, reason="For a test.")
    actions.conclude(run, [replace(rows.judged("revenue", "failed"), kind="custom")], actor=ROBOT, now=NOON)

    (row,) = under(REVENUE).rows

    assert (row.ended, row.would_end, row.untold) == ("failed", None, ("revenue",))


def test_sentence__counts_those_that_can_not_be_told_apart() -> None:
    run = rows.running()
    known = Row(run, "passed", "failed", (), ())
    same = Row(run, "passed", "passed", (), ())
    unknown = Row(run, "passed", None, (), ("ci",))

    several = DryRun((known,) * 3 + (same,) * 15 + (unknown,) * 2)
    assert several.sentence == (
        "Under this rule, 3 of the last 20 versions would have ended otherwise; 2 can not be told."
    )
    assert DryRun((known,)).sentence == "Under this rule, the one version judged so far would have ended otherwise."
    assert DryRun((unknown, unknown)).sentence == (
        "What this rule would have made of the last 2 versions can not be told."
    )


# ---------------------------------------------------------------------- measured anew, on real rows


@pytest.fixture
def judged() -> tuple[ModelVersion, ModelVersion]:
    """A good version and one trained on noise, both judged on a real holdout."""
    pipeline = world.build(per_day=100)
    policy_in_force(registered_model(), {"checks": [FLOOR], "threshold": 0.25})
    versions = world.version(pipeline), world.version(pipeline, noise=1.0)
    drain()
    return versions


def test_dry_run__other_bars_metrics_and_kinds__are_measured_anew(judged: tuple[ModelVersion, ModelVersion]) -> None:
    forget()
    found = [CheckResult.objects.get(gate_run__version=version).value or 0.0 for version in judged]
    between = sum(found) / 2
    recall = {"id": "recall", "kind": "metric", "metric": "recall", "at_least": 0.99, "minimum_rows": 100}
    fairness = {"id": "fair", "kind": "fairness", "by": "origin", "at_most": 1.0}

    tried = under({**FLOOR, "at_least": between}, recall, fairness, threshold=0.25)
    low = under({**FLOOR, "at_least": between}, recall, fairness, threshold=0.001)

    assert [row.untold for row in tried.rows] == [(), ()]
    assert [row.would_end for row in tried.rows] == ["failed", "failed"]
    assert ("recall", "", "failed") in tried.rows[1].changed
    assert [row.would_end for row in low.rows] == ["failed", "passed"]


def test_dry_run__column_that_the_holdout_does_not_have__is_an_error(judged: tuple[ModelVersion, ModelVersion]) -> None:
    fairness = {"id": "fair", "kind": "fairness", "by": "nowhere", "at_most": 0.1}

    assert [row.would_end for row in under(FLOOR, fairness, threshold=0.25).rows] == ["error", "error"]


def test_dry_run__same_rule__is_what_happened(judged: tuple[ModelVersion, ModelVersion]) -> None:
    tried = under(FLOOR, threshold=0.25)

    assert tried.differing == 0
    assert [row.ended for row in tried.rows] == [row.would_end for row in tried.rows]


def test_judgement__has_what_a_result_keeps() -> None:
    """A dry run reads past judgements back from their rows."""
    kept = {field.name for field in CheckResult._meta.get_fields()}

    assert set(Judgement.__dataclass_fields__) <= kept
