"""A training pipeline on its whole way through the API: register, submit evidence, wait, read why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression

import gatehouse
from audit import clock
from engines import scoring
from jobs.drain import drain
from registry.models import TrainingPipeline
from tests.builders import alice
from tests.gates import rows, world
from tests.sdk.portal import client

pytestmark = pytest.mark.django_db

MODEL = "late-arrival"
FLOOR = {"id": "auc-floor", "kind": "metric", "metric": "roc_auc", "at_least": 0.6, "use": "lower_bound"}
CI = {"id": "ci", "kind": "ci_evidence", "require": ["lint", "unit", "integration"]}
REPORTS: dict[str, Any] = {"lint": [], "unit": rows.JUNIT, "integration": rows.JUNIT}


@pytest.fixture(autouse=True)
def _today() -> Iterator[None]:
    with clock.at(world.NOW):
        yield
    scoring.shut_down()


def train(pipeline: TrainingPipeline, path: Path, *, useless: bool = False) -> str:
    """A model file, as a pipeline leaves it; the digest of the dataset that it learned from."""
    table = world.training_table(pipeline)
    labels = table.column("late").to_numpy()
    if useless:
        labels = np.random.default_rng(3).permutation(labels)
    frame = table.select(list(pipeline.service.vector)).to_pandas()
    skops.io.dump(LogisticRegression(max_iter=1000).fit(frame, labels), path)
    return world.dataset(pipeline, table).digest


def test_pipeline__registers_submits_and_waits__and_reads_why_it_passed_or_failed(tmp_path: Path) -> None:
    pipeline = world.build()
    rows.policy(FLOOR, CI, threshold=0.25)
    code = tmp_path / "code"
    code.mkdir()
    (code / "train.py").write_text("print('train')\n")
    digest = gatehouse.code_digest(code)
    lineage: dict[str, Any] = {"service": str(pipeline.service), "label": "late", "code_digest": digest, "seed": 3}
    with client(alice()) as portal:
        dataset = train(pipeline, tmp_path / "good.skops")
        good = portal.register_version(MODEL, tmp_path / "good.skops", dataset=dataset, note="Wind.", **lineage)
        drain()
        waiting = portal.standing(MODEL, good.number)
        for kind, report in REPORTS.items():
            assert portal.submit_evidence(MODEL, kind, report, code_digest=digest).verdict == "passed"
        with pytest.raises(gatehouse.TimedOut) as late:
            portal.wait_for_gates(MODEL, good.number, timeout=0)
        drain()
        passed = portal.wait_for_gates(MODEL, good.number)

        train(pipeline, tmp_path / "useless.skops", useless=True)
        useless = portal.register_version(MODEL, tmp_path / "useless.skops", dataset=dataset, **lineage)
        drain()
        failed = portal.wait_for_gates(MODEL, useless.number)
        assert failed.gates.gate_run is not None
        checks = {check.check_id: check for check in portal.gate_run(MODEL, failed.gates.gate_run).checks}

    assert (waiting.stage, waiting.gates.missing_evidence) == ("judged", ("lint", "unit", "integration"))
    assert late.value.standing.gates.state in ("open", "running")
    assert (passed.passed, passed.stage) == (True, "ready")
    assert (failed.passed, failed.stage) == (False, "refused")
    assert "auc-floor" in failed.why
    assert (checks["auc-floor"].verdict, checks["ci"].verdict) == ("failed", "passed")
    floor = checks["auc-floor"]
    assert floor.low is not None
    assert floor.low < 0.6
    assert str(floor.value)[:4] in floor.message
