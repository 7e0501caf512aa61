from datetime import timedelta

import pyarrow as pa
import pytest

from audit.errors import InvalidInput
from registry.frames import BEGINNING, labelled_frame, requests_frame
from tests.builders import NOON
from tests.registry import world
from tests.registry.world import DAY, times

pytestmark = pytest.mark.django_db


def test_labelled_frame__all_known__has_the_requests_columns_and_the_label_in_order() -> None:
    frame = labelled_frame(world.pipeline(), start=NOON - 10 * DAY, end=NOON - 5 * DAY, as_of=NOON)
    assert frame.column_names == ["request_id", "shop", "amount", "at", "late"]
    assert len(frame) == 5 * world.PER_DAY
    assert frame["at"].to_pylist() == sorted(frame["at"].to_pylist())


def test_labelled_frame__outcome_not_arrived__row_is_left_out() -> None:
    frame = labelled_frame(world.pipeline(), start=NOON - 3 * DAY, end=NOON, as_of=NOON)
    assert max(frame["at"].to_pylist()) <= NOON - DAY


def test_labelled_frame__end__is_exclusive_and_start_inclusive() -> None:
    start, end = NOON - 4 * DAY, NOON - 3 * DAY
    asked = labelled_frame(world.pipeline(), start=start, end=end, as_of=NOON)["at"].to_pylist()
    assert asked[0] == start
    assert asked[-1] < end


def test_labelled_frame__corrected_and_null_outcomes__last_to_arrive_counts() -> None:
    pipeline = world.pipeline()
    moments = [NOON - timedelta(hours=hour) for hour in (3, 2, 1)]
    table = {"request_id": ["r0", "r0", "r1"], "late": pa.array([1, 0, None], pa.int64()), "at": times(moments)}
    world.write("outcomes", pa.table({**table, "arrived": times(moments)}))
    frame = labelled_frame(pipeline, start=BEGINNING, end=NOON, as_of=NOON)
    assert frame.select(["request_id", "late"]).to_pylist() == [{"request_id": "r0", "late": 0}]


def test_requests_frame__source_without_request_ids__is_refused() -> None:
    pipeline = world.pipeline(entity_frame="shops")
    with pytest.raises(InvalidInput, match="request_id"):
        requests_frame(pipeline, start=BEGINNING, end=NOON, as_of=NOON)


def test_requests_frame__no_such_source__is_refused() -> None:
    with pytest.raises(InvalidInput, match="nowhere"):
        requests_frame(world.pipeline(entity_frame="nowhere"), start=BEGINNING, end=NOON, as_of=NOON)
