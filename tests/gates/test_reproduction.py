"""A gate run done again from what was frozen with it, bit for bit."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from audit import clock
from audit.errors import Conflict, Unavailable
from engines import scoring
from features import files
from gates.models import CheckResult, GateRun, Preparation
from gates.reproduction import reproduce
from jobs.drain import drain
from registry import artifacts
from tests.gates import rows, world

pytestmark = pytest.mark.django_db

FLOOR = {"id": "auc-floor", "kind": "metric", "metric": "roc_auc", "at_least": 0.6, "use": "lower_bound"}
FAIRNESS = {"id": "fairness", "kind": "fairness", "by": "origin", "at_most": 0.15, "use": "lower_bound"}
SLICES = {"id": "slices", "kind": "slice", "metric": "brier", "by": ["origin"], "not_worse_than_overall_by": 0.05}
LATENCY = {"id": "latency", "kind": "latency", "p95_ms": 250, "calls": 80}
GROUP = {"id": "by-gender", "kind": "fairness", "by": "gender", "at_most": 0.15, "blocking": False}
CHECKS = (FLOOR, FAIRNESS, SLICES, LATENCY, GROUP)


@pytest.fixture(autouse=True)
def _today() -> Iterator[None]:
    with clock.at(world.NOW):
        yield


@pytest.fixture(scope="module", autouse=True)
def _no_scorers_left() -> Iterator[None]:
    yield
    scoring.shut_down()


@pytest.fixture
def run() -> GateRun:
    pipeline = world.build(per_day=100)
    rows.policy(*CHECKS, threshold=0.25)
    version = world.version(pipeline)
    drain()
    found: GateRun = version.gate_runs.get()
    assert found.state == "passed", found.state_reason
    return found


def edited(table: str, sql: str) -> None:
    """What only somebody with the database's own rights can do: its guards stand aside."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(f"DROP TRIGGER guard_{table}_update")
        else:
            cursor.execute(f"DROP TRIGGER guard_{table}_update ON {table}")
        cursor.execute(sql)


def test_reproduce__untouched__is_identical(run: GateRun) -> None:
    found = reproduce(run)

    assert found.is_identical, found.message
    assert found.scores_equal
    assert [check_id for check_id, _, _ in found.checks] == [check["id"] for check in CHECKS]
    assert all(was == now for _, was, now in found.checks)
    assert "bit for bit" in found.message


def test_reproduce__result_edited__names_what_differs(run: GateRun) -> None:
    edited("gates_checkresult", "UPDATE gates_checkresult SET value = 0.99 WHERE check_id = 'auc-floor'")
    found = reproduce(run)

    assert not found.is_identical
    assert "auc-floor: value was 0.99" in found.message


def test_reproduce__numbers_of_a_collected_check_edited__are_judged_again(run: GateRun) -> None:
    measured = CheckResult.objects.get(check_id="latency").measured
    measured["single"]["candidate"] = [5000.0 for _ in measured["single"]["candidate"]]
    result = CheckResult.objects.get(check_id="latency")
    edited("gates_checkresult", "SELECT 1")
    CheckResult.objects.filter(pk=result.pk).update(measured=measured)
    found = reproduce(run)

    assert ("latency", "passed", "passed") not in found.checks


def test_reproduce__scores_edited__is_refused(run: GateRun, data_root: Path) -> None:
    (file,) = (data_root / "gate-scores").rglob("*.parquet")
    table = pq.read_table(file)
    better = pa.array(table.column("y").to_numpy())
    pq.write_table(table.set_column(table.column_names.index("candidate"), "candidate", better), file)

    with pytest.raises(Unavailable, match="digest differs"):
        reproduce(run)


def test_reproduce__holdout_edited__is_refused(run: GateRun) -> None:
    assert run.holdout is not None
    table = files.read(run.holdout.uri)
    files.replace(run.holdout.uri, table.slice(1))

    with pytest.raises(Unavailable, match="digest differs"):
        reproduce(run)


def test_reproduce__artifact_gone__says_that_it_can_not_be_scored_again(run: GateRun) -> None:
    artifacts.path_of(run.preparation.served_digest, what="it").unlink()
    found = reproduce(run)

    assert found.scores_equal is False
    assert "can not be scored again" in found.message


def test_reproduce__other_libraries_and_other_scores__names_the_libraries(run: GateRun) -> None:
    preparation = Preparation.objects.get(gate_run=run)
    inputs = {**preparation.inputs, "libraries": {**preparation.inputs["libraries"], "numpy": "1.0"}}
    inputs["candidate"] = {**inputs["candidate"], "columns": list(reversed(inputs["candidate"]["columns"]))}
    edited("gates_preparation", "SELECT 1")
    Preparation.objects.update(inputs=inputs)
    found = reproduce(GateRun.objects.get(pk=run.pk))

    assert found.scores_equal is False
    assert "numpy 1.0 then" in found.message


def test_reproduce__run_that_was_never_prepared__is_refused() -> None:
    with pytest.raises(Conflict, match="never prepared"):
        reproduce(rows.running())


def test_command__says_it_check_by_check(run: GateRun) -> None:
    out = io.StringIO()
    call_command("reproduce_gate_run", run.pk, stdout=out)

    assert "auc-floor: passed" in out.getvalue()
    assert "Identical" in out.getvalue()


def test_command__something_differs__exits_with_1(run: GateRun) -> None:
    edited("gates_checkresult", "UPDATE gates_checkresult SET value = 0.99 WHERE check_id = 'auc-floor'")
    with pytest.raises(SystemExit) as ended:
        call_command("reproduce_gate_run", run.pk, stdout=io.StringIO())

    assert ended.value.code == 1


def test_command__unknown_run__says_so() -> None:
    with pytest.raises(CommandError, match="no gate run 7"):
        call_command("reproduce_gate_run", 7)
