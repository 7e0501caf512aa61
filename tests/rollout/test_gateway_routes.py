"""Which line takes effect, what a breaker counts, how models become ready, and what goes on without the database."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from onnx import TensorProto, helper

from rollout.gateway import kit_files, table
from rollout.gateway.breaker import CONSECUTIVE, RETRY_AFTER, Breaker
from rollout.gateway.limits import GivenUp, Limited
from rollout.gateway.lines import LineUnreadable, TableAway
from rollout.gateway.models import RETRY_AFTER as RETRY_MODEL
from rollout.gateway.models import WARM_AFTER, Models
from rollout.gateway.poller import TOKENS_EVERY, Poller, Routes
from rollout.gateway.settling import settled
from rollout.gateway.table import Column, RouteTable, TableFallback, TableLine, TableVersion
from tests.builders import NOON
from tests.rollout.gateways import canary, line, version

OLD, NEW, CANDIDATE = version(1), version(2), version(3)


@dataclass
class Known:
    """What is known of versions, by key."""

    loaded: set[int] = field(default_factory=set)
    reproduced: set[int] = field(default_factory=set)
    refused: set[int] = field(default_factory=set)

    def is_loaded(self, version: TableVersion) -> bool:
        return version.pk in self.loaded

    def is_reproduced(self, version: TableVersion) -> bool:
        return version.pk in self.reproduced

    def is_refused(self, version: TableVersion) -> bool:
        return version.pk in self.refused


# ---------------------------------------------------------------------- what takes effect


def test_settled__nothing_is_ready__nothing_serves() -> None:
    assert settled(line(champion=OLD), None, Known()) is None


def test_settled__a_new_champion_still_loads__the_old_one_serves() -> None:
    before, wanted = line(champion=OLD), line(champion=NEW, revision=2)
    assert settled(wanted, before, Known(loaded={1})) == before
    assert settled(wanted, before, Known(loaded={1, 2})) == wanted


def test_settled__a_new_champion_can_not_be_loaded__the_old_one_goes_on() -> None:
    before = line(champion=OLD)
    now = settled(line(champion=NEW), before, Known(loaded={1}, refused={2}))
    assert now is not None
    assert now.champion == OLD


def test_settled__the_only_champion_can_not_be_loaded__the_fallback_may_answer() -> None:
    wanted = line(champion=NEW)
    assert settled(wanted, None, Known(refused={2})) == wanted


def test_settled__a_candidate_is_taken_away__at_once_whatever_loads() -> None:
    before = canary(champion=OLD, candidate=CANDIDATE)
    now = settled(line(champion=NEW, revision=9), before, Known(loaded={1, 3}, reproduced={3}))
    assert now is not None
    assert (now.champion, now.candidate, now.share, now.stage) == (OLD, None, 0.0, "")


def test_settled__a_candidate_that_reproduced_nothing_yet__gets_no_traffic() -> None:
    wanted = canary(champion=OLD, candidate=CANDIDATE)
    known = Known(loaded={1, 3})
    assert settled(wanted, line(champion=OLD), known) == wanted.without_candidate()
    known.reproduced.add(3)
    assert settled(wanted, line(champion=OLD), known) == wanted


def test_settled__just_started__waits_for_the_candidate_until_it_was_tried() -> None:
    wanted = canary(champion=OLD, candidate=CANDIDATE)
    assert settled(wanted, None, Known(loaded={1})) is None
    assert settled(wanted, None, Known(loaded={1}, refused={3})) == wanted.without_candidate()


def test_settled__a_shadow__needs_no_loaded_candidate() -> None:
    wanted = canary(0.0, champion=OLD, candidate=CANDIDATE, stage="shadow")
    assert settled(wanted, None, Known(loaded={1})) == wanted


def test_settled__the_kill_switch__stops_at_once_while_something_loads() -> None:
    stop = line(champion=NEW, enabled=False, fallback=TableFallback(version=CANDIDATE, name="last-year"))
    assert settled(stop, line(champion=OLD), Known(loaded={1})) == stop


def test_settled__a_smaller_share__takes_effect_while_a_champion_loads() -> None:
    before = canary(0.5, champion=OLD, candidate=CANDIDATE)
    now = settled(canary(0.1, champion=NEW, candidate=CANDIDATE), before, Known(loaded={1, 3}, reproduced={3}))
    assert now is not None
    assert (now.champion, now.share) == (OLD, 0.1)


# ---------------------------------------------------------------------- breaker and limits


def test_breaker__consecutive_failures__open_it_once() -> None:
    breaker = Breaker()
    assert [breaker.failed("no", float(at)) for at in range(CONSECUTIVE + 1)] == [False] * 4 + [True, False]
    assert not breaker.lets_through(CONSECUTIVE + 0.5)


def test_breaker__a_success_between__keeps_it_closed() -> None:
    breaker = Breaker()
    for at in range(3 * CONSECUTIVE):
        breaker.failed("no", float(at))
        if at % 2:
            breaker.succeeded()
    assert not breaker.is_open


def test_breaker__open__lets_one_through_now_and_then() -> None:
    breaker = Breaker()
    for _ in range(CONSECUTIVE):
        breaker.failed("no", 0.0)
    assert [breaker.lets_through(RETRY_AFTER + each) for each in (0.0, 0.1)] == [True, False]
    breaker.succeeded()
    assert breaker.lets_through(RETRY_AFTER + 0.2)


def test_limited__busy_with_what_was_given_up__refuses_at_once() -> None:
    release = threading.Event()
    limited = Limited(threads=1)
    with pytest.raises(GivenUp, match="longer than"):
        limited.call(release.wait, seconds=0.01)
    with pytest.raises(GivenUp, match="busy"):
        limited.call(lambda: 1, seconds=60)
    release.set()
    limited.close()


# ---------------------------------------------------------------------- the last good copy


def test_table__to_json_and_back__is_the_same() -> None:
    whole = canary(champion=OLD, candidate=CANDIDATE, tokens={"d": 1.5}, fallback=TableFallback(0.2, NEW, "x"))
    told = RouteTable.of({"delay-warning": whole})
    assert RouteTable.from_dict(json.loads(json.dumps(told.as_dict()))) == told


def test_kept__damaged_and_foreign_files__are_left_out(tmp_path: Path) -> None:
    table.keep(line(), tmp_path, at=NOON)
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "later.json").write_text('{"format": 99}')
    assert table.kept(tmp_path).lines == {"delay-warning": line()}
    assert table.kept(tmp_path / "nowhere").lines == {}


# ---------------------------------------------------------------------- models


def doubling(folder: Path, *, pk: int = 5) -> TableVersion:
    """A real ONNX model that answers twice x1; of another ``pk`` in other bytes."""
    value = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, (None, 1)) for name in ("x1", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x1", "x1"], ["y"])], f"g{pk}", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    content = model.SerializeToString()
    path = folder / f"{pk}.onnx"
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    return replace(version(pk), digest=digest, path=str(path), inputs=(Column("x1", "double"),))


def kit(folder: Path, of: TableVersion, scores: list[float]) -> None:
    rows = pa.table({"x1": np.arange(float(len(scores))), kit_files.SCORE: pa.array(scores, pa.float64())})
    kit_files.write(kit_files.place(folder, of.digest), rows, why="" if scores else "Nothing was recorded.")


def test_models__a_kit_that_is_reproduced__is_ready_and_warm(tmp_path: Path) -> None:
    mine = doubling(tmp_path)
    kit(tmp_path, mine, [0.0, 2.0, 4.0])
    models = Models(tmp_path)
    models.want([mine])
    assert models.load_due()
    assert models.is_reproduced(mine)
    warm = models.get(mine)
    assert warm is not None
    assert warm.is_warm
    assert not models.load_due(), "nothing is left to do"


def test_models__a_kit_with_other_scores__is_refused_and_tried_again_later(tmp_path: Path) -> None:
    mine, at = doubling(tmp_path), [0.0]
    kit(tmp_path, mine, [0.0, 2.0, 4.001])
    models = Models(tmp_path, seconds=lambda: at[0])
    models.want([mine])
    models.load_due()
    assert models.is_refused(mine)
    assert models.get(mine) is None
    assert "Row 2" in models.problem(mine)
    assert not models.load_due()
    kit(tmp_path, mine, [0.0, 2.0, 4.0])
    at[0] += RETRY_MODEL
    assert models.load_due()
    assert models.is_reproduced(mine)
    assert models.problem(mine) == ""


def test_models__no_kit_yet__may_serve_as_champion_only_until_one_is_there(tmp_path: Path) -> None:
    mine = doubling(tmp_path)
    models = Models(tmp_path)
    models.want([mine])
    models.load_due()
    assert models.is_loaded(mine)
    assert not models.is_reproduced(mine)
    assert "no warm-up kit" in models.problem(mine)
    kit(tmp_path, mine, [])
    models.load_due()
    assert models.is_reproduced(mine)


def test_models__an_empty_kit__is_warm_after_some_requests(tmp_path: Path) -> None:
    mine = doubling(tmp_path)
    kit(tmp_path, mine, [])
    models = Models(tmp_path)
    models.want([mine])
    models.load_due()
    warm = models.get(mine)
    assert warm is not None
    assert not warm.is_warm
    warm.calls = WARM_AFTER
    assert warm.is_warm


def test_models__other_bytes_than_registered__are_refused(tmp_path: Path) -> None:
    mine = replace(doubling(tmp_path), digest="0" * 64)
    models = Models(tmp_path)
    models.want([mine, replace(mine, pk=6, digest="1" * 64, path="")])
    models.load_due()
    assert "damaged" in models.problem(mine)


# ---------------------------------------------------------------------- following the table


@dataclass
class Database:
    """The route table of a test; it may be away."""

    lines: dict[str, TableLine] = field(default_factory=dict)
    allowed: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    is_away: bool = False
    has_no_tokens: bool = False
    whole_reads: int = 0

    def _answer(self) -> None:
        if self.is_away:
            raise TableAway("no such table")

    def marks(self) -> Mapping[str, Any]:
        self._answer()
        return {name: (each.revision,) for name, each in self.lines.items()}

    def line(self, endpoint: str) -> TableLine:
        self._answer()
        self.whole_reads += 1
        if endpoint == "spoilt":
            raise LineUnreadable("Its plan is no plan.")
        if endpoint == "unreachable":
            raise PermissionError("its storage is not ours")
        return self.lines[endpoint]

    def tokens(self) -> Mapping[str, Mapping[str, float | None]]:
        self._answer()
        if self.has_no_tokens:
            raise TableAway("gone between two questions")
        return self.allowed


class Followed:
    """A poller on a database of a test, its routes and its clock."""

    def __init__(self, folder: Path, served: TableVersion) -> None:
        self.at = 0.0
        self.database = Database({"delay-warning": line(champion=served)}, {"delay-warning": {"digest": None}})
        self.models = Models(folder / "kits")
        self.routes = Routes(self.models)
        self.poller = Poller(self.database, self.routes, folder / "routes", lambda: NOON, seconds=lambda: self.at)

    def look(self) -> bool:
        answered = self.poller.look()
        if self.models.load_due():
            self.routes.settle()
        return answered


@pytest.fixture
def served(tmp_path: Path) -> TableVersion:
    mine = doubling(tmp_path)
    kit(tmp_path / "kits", mine, [0.0, 2.0])
    return mine


def test_look__nothing_changed__reads_no_line_again(tmp_path: Path, served: TableVersion) -> None:
    followed = Followed(tmp_path, served)
    for _ in range(5):
        followed.look()
    assert followed.database.whole_reads == 1
    assert followed.routes.is_ready()


def test_look__a_route_that_can_not_be_read__holds_up_no_other(tmp_path: Path, served: TableVersion) -> None:
    followed = Followed(tmp_path, served)
    followed.database.lines = {"spoilt": line(), **followed.database.lines}
    followed.look()
    followed.look()
    assert followed.routes.line("delay-warning") is not None
    assert followed.database.whole_reads == 2, "it is not tried again before it changes"


def test_look__an_endpoint_whose_storage_fails__holds_up_no_other_and_is_tried_again(
    tmp_path: Path, served: TableVersion
) -> None:
    followed = Followed(tmp_path, served)
    followed.database.lines = {"unreachable": line(), **followed.database.lines}
    for _ in range(3):
        assert followed.look()
    assert followed.routes.line("delay-warning") is not None
    assert followed.database.whole_reads == 4


def test_look__the_database_goes_between_two_questions__loses_no_roll_back(
    tmp_path: Path, served: TableVersion
) -> None:
    followed = Followed(tmp_path, served)
    followed.look()
    taken_off = line(champion=served, enabled=False, revision=2)
    followed.database.lines["delay-warning"] = taken_off
    followed.database.has_no_tokens, followed.at = True, TOKENS_EVERY
    assert not followed.look()
    assert followed.routes.line("delay-warning") == taken_off


def test_look__a_candidate_that_scores_otherwise_than_recorded__is_never_routed_to(
    tmp_path: Path, served: TableVersion
) -> None:
    candidate = doubling(tmp_path, pk=6)
    kit(tmp_path / "kits", candidate, [0.0, 2.5])
    followed = Followed(tmp_path, served)
    followed.database.lines["delay-warning"] = canary(champion=served, candidate=candidate)
    followed.look()
    found = followed.routes.line("delay-warning")
    assert found is not None
    assert (found.champion, found.candidate, found.share) == (served, None, 0.0)
    assert [each["version"] for each in followed.routes.problems()] == [str(candidate)]


def test_ready__nothing_was_ever_read__is_not(tmp_path: Path, served: TableVersion) -> None:
    followed = Followed(tmp_path, served)
    followed.database.is_away = True
    followed.poller.begin()
    assert not followed.routes.is_ready()


def test_look__a_new_revision__takes_effect(tmp_path: Path, served: TableVersion) -> None:
    followed = Followed(tmp_path, served)
    followed.look()
    stop = line(champion=served, enabled=False, revision=2)
    followed.database.lines["delay-warning"] = stop
    followed.look()
    assert followed.routes.line("delay-warning") == stop


def test_look__the_database_is_away__what_serves_goes_on(tmp_path: Path, served: TableVersion) -> None:
    followed = Followed(tmp_path, served)
    followed.look()
    before = followed.routes.line("delay-warning")
    followed.database.is_away = True
    assert not followed.look()
    assert followed.routes.line("delay-warning") is before
    assert followed.poller.away_since is not None
    followed.database.is_away = False
    assert followed.look()
    assert followed.poller.away_since is None


def test_begin__without_the_database__serves_the_last_good_copy(tmp_path: Path, served: TableVersion) -> None:
    Followed(tmp_path, served).look()
    again = Followed(tmp_path, served)
    again.database.is_away = True
    again.poller.begin()
    again.models.load_due()
    again.routes.settle()
    found = again.routes.line("delay-warning")
    assert found is not None
    assert found.champion == served
    assert again.routes.tokens == {"delay-warning": {"digest": None}}


def test_look__a_revoked_token__is_gone_within_seconds(tmp_path: Path, served: TableVersion) -> None:
    followed = Followed(tmp_path, served)
    followed.look()
    followed.database.allowed = {"delay-warning": {}}
    followed.look()
    assert followed.routes.tokens["delay-warning"]
    followed.at += TOKENS_EVERY
    followed.look()
    assert not followed.routes.tokens["delay-warning"]
    assert table.kept(tmp_path / "routes").lines["delay-warning"].tokens == {}


def test_problems__a_version_that_is_refused__is_told(tmp_path: Path, served: TableVersion) -> None:
    kit(tmp_path / "kits", served, [0.0, 3.0])
    followed = Followed(tmp_path, served)
    followed.look()
    (problem,) = followed.routes.problems()
    assert (problem["kind"], problem["endpoint"]) == ("refused", "delay-warning")
    assert followed.routes.told()["delay-warning"]["revision"] == 1
