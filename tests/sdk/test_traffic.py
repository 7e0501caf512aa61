"""Predictions and outcomes of teams that serve elsewhere, and business metrics, through the SDK and its command."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.contrib.auth.models import User

import gatehouse
from audit import clock
from gatehouse import bodies, cli
from rollout import business, prediction_log
from rollout.models import BusinessMetric
from tests.builders import NOON, paula, pete
from tests.mlops.calls import token
from tests.rollout import life
from tests.sdk import portal
from tests.sdk.portal import client

pytestmark = pytest.mark.django_db

ASKED = datetime(2013, 4, 1, 11, tzinfo=UTC)
METRIC: dict[str, Any] = {
    "title": "Money spent", "per": "entity", "better": "higher", "window": timedelta(hours=2), "missing": "zero",
    "tolerated_harm": 1.0, "unit": "EUR",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _cheap_passwords(settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def rows(n: int = 3) -> list[dict[str, Any]]:
    return [
        {"request_id": f"r{row}", "at": ASKED, "version": 1, "score": 0.5, "entity": f"N{row}", "x1": float(row)}
        for row in range(n)
    ]


def logged() -> pa.Table:
    return prediction_log.read(life.ENDPOINT, since=NOON - timedelta(days=1), until=NOON).sort_by("request_id")


@pytest.mark.parametrize("form", [list, pd.DataFrame, pa.Table.from_pylist])
def test_predictions__as_rows_frame_or_table__are_logged_once(form: Any) -> None:
    life.begin()
    with clock.at(NOON):
        first, again = (client(pete()).log_predictions(life.ENDPOINT, form(rows())) for _ in range(2))

    assert (first.stored, first.repeated, again.stored, again.repeated) == (3, 0, 0, 3)
    assert repr(first) == "<Predictions of delay-warning: 3 stored, 0 known before>"
    assert logged()["x1"].to_pylist() == [0.0, 1.0, 2.0]


def parts(*rows: dict[str, Any]) -> Any:
    """Parts of two lines each."""
    told = (json.dumps({**row, "at": row["at"].isoformat()}).encode() for row in rows)
    return bodies.of_lines(told, part_rows=2)


def test_predictions__in_several_parts__are_counted_together_and_faults_say_where() -> None:
    life.begin()
    with clock.at(NOON):
        wire = client(pete())
        assert wire.push_predictions(life.ENDPOINT, parts(*rows(5))).stored == 5
        with pytest.raises(gatehouse.InvalidInput, match=r"lines\.1\.score.*Counted from 4 lines on"):
            wire.push_predictions(life.ENDPOINT, parts(*rows(4), {**rows()[0], "request_id": "x", "score": 7}))
        with pytest.raises(gatehouse.Conflict, match="another content"):
            wire.log_predictions(life.ENDPOINT, [{**rows()[0], "score": 0.75}])
    with pytest.raises(ValueError, match="no row"):
        wire.log_predictions(life.ENDPOINT, [])


def test_outcomes__labels_and_values__are_learned() -> None:
    life.begin()
    with clock.at(NOON):
        product = client(paula())
        metric = product.define_business_metric(life.ENDPOINT, "spent", **METRIC)
        product.log_predictions(life.ENDPOINT, rows())
        labels = product.log_outcomes(life.ENDPOINT, pd.DataFrame({"request_id": ["r0", "r1"], "label": [1, 0]}))
        spent = [{"entity": "N1", "value": 2.5, "at": ASKED + timedelta(minutes=5)}]
        values = [product.log_outcomes(life.ENDPOINT, form, metric="spent") for form in (spent, pd.DataFrame(spent))]

    assert (labels.labels, [each.values for each in values]) == (2, [1, 1])
    assert repr(metric) == (
        "<BusinessMetric delay-warning/spent: per entity after 2 h, higher is better, up to 1 EUR worse is tolerated>"
    )
    found = business.values(BusinessMetric.objects.get(), logged(), now=NOON + timedelta(hours=1))
    assert found.value.tolist() == [0.0, 2.5, 0.0]


def test_business_metric__retired__is_not_in_force() -> None:
    life.begin()
    product = client(paula())
    product.define_business_metric(life.ENDPOINT, "spent", **METRIC)
    assert product.retire_business_metric(life.ENDPOINT, "spent", reason="Over.").retired_at is not None
    assert [each.name for each in product.business_metrics(life.ENDPOINT)] == ["spent"]
    assert product.business_metrics(life.ENDPOINT, retired=False) == []


# ---------------------------------------------------------------------- the command


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    def command(user: User, *words: Any) -> int:
        monkeypatch.setenv("GATEHOUSE_URL", portal.URL)
        monkeypatch.setenv("GATEHOUSE_TOKEN", token(user))
        with clock.at(NOON):
            return cli.main([str(word) for word in words], transport=portal.transport())

    return command


def test_command__pushes_files(run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    life.begin()
    (told := tmp_path / "predictions.jsonl").write_text(
        "\n".join(json.dumps({**row, "at": row["at"].isoformat()}) for row in rows()) + "\n"
    )
    pq.write_table(pa.table({"request_id": ["r0"], "label": [1.0]}), labels := tmp_path / "labels.parquet")
    define = ("define", life.ENDPOINT, "spent", "--title", "Money", "--per", "entity", "--better", "higher")
    limits = ("--missing", "zero", "--window-hours", "2", "--tolerated-harm", "1")
    (values := tmp_path / "values.ndjson").write_text('{"entity": "N1", "value": 3, "at": "2013-04-01T11:05:00Z"}\n')
    pq.write_table(pa.table({"entity": ["N2"], "value": [4], "at": [ASKED]}), more := tmp_path / "values.parquet")

    assert run(pete(), "predictions", "push", told, "--endpoint", life.ENDPOINT) == 0
    assert run(pete(), "outcomes", "push", labels, "--endpoint", life.ENDPOINT) == 0
    assert run(paula(), "business-metric", *define, *limits) == 0
    for file in (values, more):
        assert run(pete(), "outcomes", "push", file, "--endpoint", life.ENDPOINT, "--metric", "spent") == 0
    assert run(paula(), "business-metric", "list", life.ENDPOINT) == 0
    assert run(paula(), "business-metric", "retire", life.ENDPOINT, "spent", "--reason", "Over.") == 0

    out = capsys.readouterr().out
    assert "delay-warning: 3 predictions stored, 0 known before" in out
    assert "delay-warning: 1 labels, 0 values" in out
    assert out.count("0 labels, 1 values") == 2
    assert "delay-warning/spent: per entity after 2 h" in out


def test_command__with_a_file_of_another_kind_or_a_wrong_line__says_so(
    run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    life.begin()
    (table := tmp_path / "predictions.csv").write_text("a,b\n")
    (wrong := tmp_path / "predictions.jsonl").write_text('\n{"request_id": "a"}\n')

    assert run(pete(), "predictions", "push", table, "--endpoint", life.ENDPOINT) == 2
    assert "one of .jsonl, .ndjson, .parquet" in capsys.readouterr().err
    assert run(pete(), "predictions", "push", wrong, "--endpoint", life.ENDPOINT) == 2
    assert "lines.2.at" in capsys.readouterr().err
