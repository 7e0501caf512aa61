"""Definitions from a team's files to the portal: read, planned, asked for, applied; refusals name the file."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.conf import settings

from engines.expressions import check_expression
from features.models import FeatureService, FeatureView, FeatureViewVersion, OnDemandTransform
from gatehouse import Conflict, DefinitionError, cli
from gatehouse.definitions import Aggregation, Source, on_demand
from gatehouse.definitions import FeatureView as View
from gatehouse.ibis_sql import compiled
from gatehouse.repository import load
from tests.builders import alice, charlie, group
from tests.features import store
from tests.features.test_plan import author
from tests.mlops.calls import token
from tests.sdk import portal

pytestmark = pytest.mark.django_db

YAML = """
owner: delay-science
entities:
  carrier_origin: {join_keys: [carrier, origin], description: A carrier at an airport.}
sources:
  readings:
    uri: sources/readings.parquet
    event_timestamp: happened
    created_timestamp: arrived
    freshness: 2h
views:
  weather:
    entity: carrier_origin
    sources: [readings]
    expression: |
      SELECT carrier, origin, happened, arrived, temp, seats FROM readings
    features:
      - temp
      - {name: seats, description: Seats at the gate.}
    event_timestamp: happened
    known_at: arrived
    lookback: 0
    ttl: 60d
"""
PYTHON = '''
from datetime import timedelta

import numpy as np

from gatehouse.definitions import FeatureService, FeatureView, Source, on_demand

owner = "delay-science"
readings = Source("readings", "sources/readings.parquet", "happened", "arrived", freshness=timedelta(hours=2))
rows = readings.table(
    {"carrier": "string", "origin": "string", "happened": "timestamp", "arrived": "timestamp", "temp": "float64"}
)
warmth = FeatureView(
    "warmth",
    entity="carrier_origin",
    sources=[readings],
    expression=rows.filter(rows.temp > 0).mutate(fahrenheit=rows.temp * 1.8 + 32),
    features=["fahrenheit"],
    event_timestamp="happened",
    known_at="arrived",
    lookback="0",
)


@on_demand(features={"felt": "float64"})
def chill(wind, warmth__fahrenheit: float):
    """Colder in the wind."""
    return {"felt": np.where(wind > 3, warmth__fahrenheit - 2 * wind, warmth__fahrenheit)}


delay = FeatureService("delay", ["warmth.fahrenheit"], request_features=["wind"], transforms=[chill])
'''


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "features"
    folder.mkdir()
    (folder / "weather.yaml").write_text(YAML)
    group("delay-science")
    store.write_source("readings", [store.reading(hour, temp=float(hour)) for hour in range(200)])
    return folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run the command as Alice; ``says`` is what she types."""

    def command(*words: str, says: str = "", who: Any = alice) -> int:
        monkeypatch.setenv("GATEHOUSE_URL", portal.URL)
        monkeypatch.setenv("GATEHOUSE_TOKEN", token(who()))
        monkeypatch.setattr("sys.stdin", io.StringIO(says))
        return cli.main(words, transport=portal.transport())

    return command


def test_plan__prints_what_would_happen_and_exits_by_request(
    run: Callable[..., int], repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("plan", str(repository)) == 0
    said = capsys.readouterr().out
    assert "+ entity carrier_origin" in said
    assert "+ view weather: create weather@1, a draft" in said
    assert said.endswith("Plan: 3 to create.\n")
    assert run("plan", str(repository), "--detailed-exitcode") == 2
    assert not FeatureView.objects.exists()


def test_apply__asks_first__and_applies_only_after_yes(run: Callable[..., int], repository: Path) -> None:
    assert run("apply", str(repository), says="no\n") == 1
    assert run("apply", str(repository), says="") == 1
    assert not FeatureView.objects.exists()
    assert run("apply", str(repository), says="yes\n") == 0
    assert FeatureViewVersion.objects.get().state == "draft"
    assert run("apply", str(repository), "--detailed-exitcode") == 0


def test_apply__of_python_and_yaml_together__publishes_and_pins(
    run: Callable[..., int], repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "warmth.py").write_text(PYTHON)

    assert run("apply", str(repository), "--yes", "--publish", "--reason", "First.") == 0, capsys.readouterr().err

    warmth = FeatureViewVersion.objects.get(view__name="warmth")
    assert (warmth.language, warmth.state, warmth.types) == ("ibis", "published", {"fahrenheit": "float64"})
    assert FeatureService.objects.get().vector == ("wind", "warmth__fahrenheit", "chill__felt")
    assert OnDemandTransform.objects.get().description == "Colder in the wind."
    assert OnDemandTransform.objects.get().code.startswith("def chill(wind, warmth__fahrenheit: float):\n")


def test_plan__of_a_changed_view__shows_text_and_values(
    run: Callable[..., int], repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("apply", str(repository), "--yes", "--publish", "--reason", "First.")
    (repository / "weather.yaml").write_text(YAML.replace("temp, seats FROM", "temp + 1 AS temp, seats FROM"))
    capsys.readouterr()

    assert run("plan", str(repository)) == 0
    said = capsys.readouterr().out
    assert "~ view weather: new version weather@2, a draft" in said
    assert "+  temp + 1 AS temp," in said
    assert "change against weather@1" in said
    assert "temp: " in said


def test_command__that_is_refused__names_file_object_and_field(
    run: Callable[..., int], repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = repository / "weather.yaml"
    file.write_text(YAML.replace("FROM readings", "FROM secrets").replace("freshness: 2h", "freshness: soon"))
    assert run("plan", str(repository)) == 1
    assert f"{file}: source readings: freshness: 'soon' is no length of time" in capsys.readouterr().err
    file.write_text(YAML.replace("FROM readings", "FROM secrets"))
    assert run("apply", str(repository), "--yes") == 1
    assert f"{file}: view weather: expression: secrets: only the declared data sources" in capsys.readouterr().err
    file.write_text(YAML)
    assert run("plan", str(repository), who=charlie) == 1
    assert f"{file}: source readings: Only members" in capsys.readouterr().err


def test_plan__as_json__is_the_whole_plan(
    run: Callable[..., int], repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--json", "plan", str(repository)) == 0
    assert json.loads(capsys.readouterr().out)["to_do"] == 3


def test_client__that_applies_an_old_plan__gets_a_conflict(repository: Path) -> None:
    definitions = load(repository).definitions
    with portal.client(alice()) as client:
        plan = client.plan(definitions)
        other = load(repository).definitions
        other["views"]["weather"]["ttl"] = "1d"
        client.apply(other, digest=client.plan(other).digest)

        with pytest.raises(Conflict, match="Plan again"):
            client.apply(definitions, digest=plan.digest)


# ---------------------------------------------------------------------- reading files


def test_load__of_one_object_said_twice__names_both_files(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("entities: {x: {join_keys: [a]}}")
    (tmp_path / "b.yaml").write_text("entities: {x: {join_keys: [a]}}")
    assert load(tmp_path).definitions["entities"] == {"x": {"join_keys": ["a"]}}
    (tmp_path / "b.yaml").write_text("entities: {x: {join_keys: [b]}}")
    with pytest.raises(DefinitionError, match=r"b\.yaml: entity x is defined in .*a\.yaml otherwise"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.yaml", "views: {x: 1}", "view x: a mapping of fields"),
        ("a.yaml", "vews: {}", "vews: there are owner, entities"),
        ("a.yaml", "views: {x: {ttl: 1h, ttl: 2h}}", "named twice: ttl"),
        ("a.yaml", "a: [", "this is not YAML"),
        ("a.py", "import nowhere_to_be_found", "ModuleNotFoundError"),
        ("a.py", "x = 1", "nothing is defined"),
        ("a.txt", "", "no YAML or Python file"),
    ],
)
def test_load__of_what_can_not_be_read__says_which_file(tmp_path: Path, name: str, text: str, why: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DefinitionError, match=why):
        load(tmp_path)


def test_on_demand__function__stays_callable_and_knows_its_text() -> None:
    @on_demand(features={"double": "float64"}, owner="us")
    def twice(x):  # type: ignore[no-untyped-def]  # as people write them
        return {"double": np.add(x, x)}

    assert twice(3)["double"] == 6
    assert twice.as_json()["code"].startswith("def twice(x):")


def test_view__with_aggregations_and_spans__as_the_portal_takes_it() -> None:
    view = View(
        "delays",
        entity="carrier",
        sources=[Source("arrivals", "a.parquet", "event_at")],
        expression="SELECT 1",
        cadence=timedelta(hours=4),
        aggregations=[Aggregation("late_7d", "share", "7d", column="late")],
        consistency_limit=0.0,
    )
    assert view.as_json() == {
        "entity": "carrier",
        "sources": ["arrivals"],
        "expression": "SELECT 1",
        "language": "sql",
        "cadence": "4h",
        "aggregations": [{"name": "late_7d", "function": "share", "column": "late", "over": "7d"}],
        "consistency_limit": 0.0,
    }


# ---------------------------------------------------------------------- Ibis


def test_ibis__expression__names_its_columns_and_its_trailing_window() -> None:
    rows = ibis.table({"origin": "string", "at": "timestamp", "n": "int64"}, name="readings")
    week = ibis.window(group_by=rows.origin, order_by=rows["at"], preceding=ibis.interval(days=7), following=0)

    filtered = compiled(rows.filter(rows.n > 0))
    windowed = compiled(rows.mutate(week=rows.n.sum().over(week)))

    assert filtered.split() == [
        "SELECT",
        '"origin",',
        '"at",',
        '"n"',
        "FROM",
        '"readings"',
        "AS",
        '"t0"',
        "WHERE",
        '"t0"."n"',
        ">",
        "0",
    ]
    assert "AND CURRENT ROW" in windowed
    assert compiled(rows).split() == ["SELECT", '"origin",', '"at",', '"n"', "FROM", '"readings"']


def test_ibis__usual_expressions__pass_the_portals_check() -> None:
    rows = ibis.table(
        {
            "origin": "string",
            "at": "timestamp",
            "known": "timestamp",
            "n": "int64",
            "temp": "float64",
            "wet": "boolean",
        },
        name="readings",
    )
    before = ibis.window(group_by=rows.origin, order_by=rows["at"])
    made = rows.mutate(
        hour=rows["at"].hour(),
        day=rows["at"].truncate("D"),
        waited=rows.known.epoch_seconds() - rows["at"].epoch_seconds(),
        kind=ibis.cases((rows.wet, "wet"), (rows.temp > 30, "hot"), else_="fair"),
        name=rows.origin.upper() + "-" + rows.origin.substr(0, 2),
        log=ibis.ifelse(rows.temp > 0, rows.temp.ln(), ibis.null()),
        last=rows.n.lag().over(before),
        many=rows.n.sum().over(ibis.trailing_range_window(ibis.interval(hours=3), order_by=rows["at"])),
    )
    by_origin = rows.group_by("origin").agg(mean=rows.temp.mean(), n=rows.count())
    for expression in (made, made.filter(made.hour > 3), rows.left_join(by_origin, "origin"), rows.union(rows)):
        assert check_expression(compiled(expression), ["readings"]) == tuple(expression.columns)


def test_ibis__what_is_no_table__is_refused() -> None:
    with pytest.raises(DefinitionError, match="a text or an Ibis table"):
        compiled(3)


# ---------------------------------------------------------------------- the tutorial


def blocks(language: str) -> list[str]:
    text = Path(settings.BASE_DIR, "docs", "feature_store.md").read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_tutorial__its_files__are_applied_as_they_stand(run: Callable[..., int], tmp_path: Path) -> None:
    group("delay-science"), group("delay-platform")
    times = pa.array([store.at(hour) for hour in range(48)], pa.timestamp("us", "UTC"))
    arrivals = {"carrier": ["UA", "AA"] * 24, "arr_delay": [float(hour) for hour in range(48)]}
    (tmp_path / "sources").mkdir(exist_ok=True)
    pq.write_table(
        pa.table({**arrivals, "event_at": times, "created_at": times}), tmp_path / "sources" / "arrivals.parquet"
    )
    folder = tmp_path / "features"
    folder.mkdir()
    (folder / "delays.yaml").write_text(blocks("yaml")[0])

    assert run("apply", str(folder), "--yes", "--publish", "--reason", "First.", who=author) == 0
    assert FeatureService.objects.get().vector[-2:] == ("pace__mph", "pace__is_hurried")

    (folder / "delays.yaml").unlink()
    (folder / "delays.py").write_text(blocks("python")[0])
    assert run("plan", str(folder), "--detailed-exitcode", who=author) == 2
