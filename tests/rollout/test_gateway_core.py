"""The core of the gateway, on plain objects: arms, rescue, limits, and what the log says."""

from __future__ import annotations

import math
from datetime import timedelta

import numpy as np
import pytest

from rollout.assignment import bucket
from rollout.gateway.asked import Asked, BadRequest, NotReady, UnknownEndpoint
from rollout.gateway.breaker import CONSECUTIVE
from rollout.gateway.core import new_id
from rollout.gateway.table import TableFallback
from rollout.prediction_log import CANDIDATE_GIVEN, PREDICTION
from tests.builders import NOON
from tests.rollout.gateways import CANDIDATE, CHAMPION, EARLIER, SALT, House, KeyedStore, canary, line, version


def in_canary(share: float = 0.5) -> str:
    """An entity that the candidate answers at this share."""
    return next(f"N{each}" for each in range(1000) if bucket(f"N{each}", salt=SALT) < share)


def test_answer__a_champion__scores_and_logs_before_it_answers() -> None:
    house = House(line())
    answered = house.ask(0.7, 0.3, request_id=["a", "b"], entity="N1")
    assert answered.scores.tolist() == [0.7, 0.3]
    assert answered.decisions == [True, False]
    assert answered.versions == [CHAMPION, CHAMPION]
    assert house.log.rows("request_id") == ["a", "b"]
    assert house.log.rows("entity") == ["N1", "N1"]
    assert house.log.rows("sticky") == [True, True]
    assert house.log.rows("x1") == [0.7, 0.3]
    assert house.log.rows("at") == [NOON.isoformat()] * 2


def test_answer__every_column_of_the_log__is_there() -> None:
    house = House(canary())
    house.ask(0.7)
    for name in PREDICTION.names:
        assert len(house.log.rows(name)) == 1, name


def test_answer__an_endpoint_nobody_knows__is_refused() -> None:
    house = House(line())
    house.served = None
    with pytest.raises(NotReady):
        house.ask(0.1)
    with pytest.raises(UnknownEndpoint):
        house.gateway.describe("another")


def test_answer__no_entity__sticks_to_its_request_id() -> None:
    house = House(canary())
    house.ask(0.1, 0.2, request_id="r")
    assert house.log.rows("request_id") == ["r:0", "r:1"]
    assert house.log.rows("entity") == ["r:0", "r:1"]
    assert house.log.rows("sticky") == [False, False]
    assert house.log.rows("bucket") == [bucket("r:0", salt=SALT), bucket("r:1", salt=SALT)]


def test_answer__the_entity_column__names_who_asks() -> None:
    house = House(line())
    house.ask(0.1, 0.2, 0.3, columns={"tailnum": np.array([7.0, 8.5, math.nan])}, request_id=["a", "b", "c"])
    assert house.log.rows("entity") == ["7", "8.5", "c"]
    assert house.log.rows("sticky") == [True, True, False]


def test_answer__no_request_id__gets_one_that_sorts_by_time() -> None:
    first, second = new_id(), new_id()
    assert len(first) == 36
    assert first[14] == "7"
    assert first[:8] <= second[:8]


def test_answer__a_request_of_tomorrow__is_refused() -> None:
    with pytest.raises(BadRequest):
        House(line()).ask(0.1, at=NOON + timedelta(days=1))


def test_answer__a_missing_input__names_it() -> None:
    house = House(line(champion=version(CHAMPION, ("x1", "x2"))))
    with pytest.raises(BadRequest, match="x2") as refused:
        house.ask(0.1)
    assert refused.value.field == "x2"
    assert not house.log.records


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_answer__in_a_canary__the_bucket_decides(share: float) -> None:
    house = House(canary(share))
    entities = [f"N{each}" for each in range(200)]
    answered = house.ask(*[0.0] * 200, entity=entities)
    assert answered.arms == ["canary" if bucket(each, salt=SALT) < share else "champion" for each in entities]
    assert set(answered.versions) == {CHAMPION, CANDIDATE}
    assert set(house.log.rows("share")) == {share}


def test_answer__a_growing_share__keeps_every_entity_of_the_canary() -> None:
    house = House(canary())
    entities = [f"N{each}" for each in range(300)]
    before: set[str] = set()
    for share in (0.0, 0.01, 0.05, 0.25, 0.5, 1.0):
        house.served = canary(share)
        arms = house.ask(*[0.0] * 300, entity=entities).arms
        now = {entity for entity, arm in zip(entities, arms, strict=True) if arm == "canary"}
        assert before <= now
        before = now
    assert len(before) == 300


def test_answer__in_shadow__champion_answers_and_the_log_says_so() -> None:
    house = House(canary(0.0, stage="shadow", step=0, candidate=version(CANDIDATE, ("x1", "x2"))))
    answered = house.ask(0.4, columns={"x2": [5]})
    assert answered.arms == ["champion"]
    assert house.log.rows("shadow") == [True]
    assert house.log.rows("candidate_id") == [CANDIDATE]
    assert house.log.rows("x2") == [5]
    assert house.log.rows(CANDIDATE_GIVEN) == [True]


def test_answer__a_candidate_that_can_not_be_fed__hurts_nobody_in_shadow() -> None:
    house = House(canary(0.0, stage="shadow", candidate=version(CANDIDATE, ("x1", "x2"))))
    assert house.ask(0.4).statuses == ["ok"]


def test_answer__a_candidate_that_fails__champion_answers_and_the_error_is_the_candidates() -> None:
    house = House(canary())
    house.models[CANDIDATE].rule = lambda x1: math.nan
    answered = house.ask(0.4, entity=in_canary())
    assert answered.scores.tolist() == [0.4]
    assert (answered.arms, answered.answered_by, answered.statuses) == (["canary"], ["champion"], ["error"])
    assert house.log.rows("error") == ["It broke."]
    assert house.log.rows("version_id") == [CANDIDATE]
    assert house.log.rows("latency_ms") == [None]


def test_answer__a_candidate_that_takes_too_long__is_given_up() -> None:
    house = House(canary(timeout_ms=20))
    house.models[CANDIDATE].seconds = 0.5
    answered = house.ask(0.4, entity=in_canary())
    assert answered.scores.tolist() == [0.4]
    assert answered.statuses == ["error"]
    assert "20 ms" in house.log.rows("error")[0]


def test_answer__a_candidate_in_time__answers_from_its_own_thread() -> None:
    house = House(canary(timeout_ms=5000))
    assert house.ask(0.4, entity=in_canary()).scores.tolist() == [10.4]


def test_answer__a_candidate_that_keeps_failing__is_not_asked_any_more_and_the_gateway_is_told() -> None:
    house = House(canary())
    house.models[CANDIDATE].rule = lambda x1: math.nan
    for _ in range(CONSECUTIVE):
        house.ask(0.4, entity=in_canary())
    asked = house.models[CANDIDATE].calls
    answered = house.ask(0.4, entity=in_canary())
    assert house.models[CANDIDATE].calls == asked
    assert (answered.arms, answered.answered_by, answered.statuses) == (["canary"], ["champion"], ["error"])
    assert house.opened == 1
    assert house.gateway.breakers["delay-warning", CANDIDATE].as_dict()["rollout"] == 7


def test_answer__another_rollout_of_the_same_version__begins_with_a_closed_breaker() -> None:
    house = House(canary())
    house.models[CANDIDATE].rule = lambda x1: math.nan
    for _ in range(CONSECUTIVE):
        house.ask(0.4, entity=in_canary())
    house.models[CANDIDATE].rule = lambda x1: x1
    house.served = canary(rollout=8)
    assert house.ask(0.4, entity=in_canary()).statuses == ["ok"]


def test_answer__rows_that_nobody_can_score__open_no_breaker_of_the_candidate() -> None:
    house = House(canary())
    house.models[CANDIDATE].rule = house.models[CHAMPION].rule = lambda x1: math.nan
    for _ in range(CONSECUTIVE):
        house.ask(0.4, entity=in_canary())
    assert not house.gateway.breakers["delay-warning", CANDIDATE].is_open


def test_answer__a_champion_that_fails__the_fallback_answers() -> None:
    house = House(line())
    house.models[CHAMPION].rule = lambda x1: math.nan
    answered = house.ask(0.4)
    assert answered.scores.tolist() == [0.2]
    assert (answered.arms, answered.answered_by, answered.statuses) == (["champion"], ["fallback"], ["error"])
    assert answered.versions == [None]


def test_answer__a_champion_that_is_not_loaded__the_fallback_answers() -> None:
    house = House(line())
    del house.models[CHAMPION]
    assert house.ask(0.4).scores.tolist() == [0.2]


def test_answer__kill_switch_without_a_fallback__gives_no_score() -> None:
    house = House(line(enabled=False, fallback=None))
    answered = house.ask(0.4)
    assert math.isnan(answered.scores[0])
    assert answered.decisions == [None]
    assert answered.statuses == ["fallback"]


def test_answer__kill_switch_to_an_earlier_champion__is_answered_by_it() -> None:
    house = House(line(enabled=False, fallback=TableFallback(score=0.2, version=version(EARLIER), name="last-year")))
    answered = house.ask(0.4)
    assert answered.scores.tolist() == [100.4]
    assert (answered.arms, answered.versions) == (["fallback"], [EARLIER])
    assert house.log.rows("version_id") == [EARLIER]


def test_answer__an_earlier_champion_that_fails_too__leaves_the_fixed_score() -> None:
    house = House(line(enabled=False, fallback=TableFallback(score=0.2, version=version(EARLIER), name="last-year")))
    del house.models[EARLIER]
    answered = house.ask(0.4)
    assert answered.scores.tolist() == [0.2]


def test_answer__a_crowded_spool__takes_the_canary_off_and_the_log_says_share_zero() -> None:
    house = House(canary(1.0))
    house.log.pressure = 0.8
    assert house.ask(0.4).arms == ["champion"]
    assert house.log.rows("share") == [0.0]
    assert house.gateway.is_crowded


def test_answer__a_full_spool__is_answered_and_counted() -> None:
    house = House(line())
    house.log.is_full = True
    assert house.ask(0.4, 0.5).scores.tolist() == [0.4, 0.5]
    assert house.gateway.dropped == 2


def test_answer__a_durable_endpoint__is_logged_durably() -> None:
    house = House(line(durable=True))
    house.ask(0.4)
    assert house.log.durable == [True]


def test_answer__by_key__reads_the_store_and_logs_what_was_served() -> None:
    champion = version(CHAMPION, service=5, keys=("tailnum",))
    house = House(line(champion=champion), store=KeyedStore({"N1": 0.9}))
    answered = house.gateway.answer("delay-warning", Asked({"tailnum": ["N1"]}, 1))
    assert answered.scores.tolist() == [0.9]
    assert house.log.rows("x1") == [0.9]


def test_answer__by_value__does_not_ask_the_store() -> None:
    champion = version(CHAMPION, service=5, keys=("tailnum",))
    house = House(line(champion=champion), store=KeyedStore({}, is_away=True))
    assert house.ask(0.4).scores.tolist() == [0.4]


def test_answer__a_store_that_is_away__leaves_the_fallback() -> None:
    champion = version(CHAMPION, service=5, keys=("tailnum",))
    house = House(line(champion=champion), store=KeyedStore({}, is_away=True))
    answered = house.gateway.answer("delay-warning", Asked({"tailnum": ["N1"]}, 1))
    assert answered.scores.tolist() == [0.2]
    assert house.log.rows("error") == ["No answer."]


def test_answer__a_request_of_one_entity__is_timed_once() -> None:
    house = House(line())
    house.ask(0.4, 0.5, entity="N1")
    timed = house.log.rows("latency_ms")
    assert timed[0] > 0
    assert timed[1] is None
    assert house.log.rows("warm") == [True, True]


def test_answer__a_batch_of_several_entities__is_not_timed() -> None:
    house = House(canary())
    house.ask(0.4, 0.5, entity=["N1", "N2"])
    assert house.log.rows("latency_ms") == [None, None]


def test_answer__a_model_that_is_not_warm_yet__is_logged_as_such() -> None:
    house = House(line())
    house.models[CHAMPION].is_warm = False
    house.ask(0.4)
    assert house.log.rows("warm") == [False]


def test_describe__says_what_the_champion_takes() -> None:
    house = House(line(champion=version(CHAMPION, ("x1", "x2"), keys=("tailnum",))))
    described = house.gateway.describe("delay-warning")
    assert [each.name for each in described.inputs] == ["x1", "x2"]
    assert described.keys == ("tailnum",)
    assert described.ready
