"""Data quality from tables in memory: measured by pandera, judged, and judged again under another rule."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from gates.judge import Judgement, data_quality
from gates.measure import data_quality as measure
from gates.policy import ColumnRule, DataQualityCheck

CHECK = DataQualityCheck(id="data-quality")
ROWS = 1000
TYPES = {"wind": pa.float64(), "carrier": pa.string()}
NOTHING_SERVED = {"rows": 0, "missing": [], "duplicates": None, "columns": {}, "why": "Nothing served.", "at": ""}
NOTHING_JOINED: dict[str, Any] = {"why": "", "rows": 0, "views": []}


def rows(count: int = ROWS, **columns: Any) -> pa.Table:
    """Wind from 0 to 40, two carriers, a key."""
    values = {
        "request_id": [f"r{place}" for place in range(count)],
        "wind": np.linspace(0, 40, count) if count else pa.array([], pa.float64()),
        "carrier": pa.array((["UA", "B6"] * count)[:count], pa.string()),
    }
    return pa.table({**values, **columns})


def measured(
    holdout: pa.Table, check: DataQualityCheck = CHECK, *, trained: pa.Table | None = None, **parts: Any
) -> dict[str, Any]:
    """What would be stored."""
    trained = rows() if trained is None else trained
    names, rules = list(TYPES), check.columns
    training = measure.subject(trained, measure.promised(names, TYPES, rules), rules, key=check.key)
    wanted = measure.like_training(trained, training, names, TYPES, rules, range_margin=check.range_margin)
    found = {
        "key": check.key,
        "training": training,
        "holdout": measure.subject(holdout, wanted, rules, key=check.key),
        "served": NOTHING_SERVED,
        "joined": NOTHING_JOINED,
        **parts,
    }
    stored: dict[str, Any] = json.loads(json.dumps(found, allow_nan=False))
    return stored


def judged(holdout: pa.Table, check: DataQualityCheck = CHECK, **parts: Any) -> Judgement:
    return data_quality.judge(check, measured(holdout, check, **parts))


def check(**settings: Any) -> DataQualityCheck:
    return DataQualityCheck(id="data-quality", **settings)


def first(count: int, value: Any, otherwise: Any) -> list[Any]:
    return [value] * count + list(otherwise[count:])


WIND = rows()["wind"].to_pylist()
CARRIER = rows()["carrier"].to_pylist()


def test_data_quality__like_the_training_data__passes() -> None:
    judgement = judged(rows())

    assert judgement.verdict == "passed"
    assert judgement.message.startswith("2 features of 1,000 rows look like the training data")
    assert judgement.n == ROWS


@pytest.mark.parametrize(
    ("defect", "told"),
    [
        ({"wind": first(400, None, WIND)}, "wind 40.0 % null (trained 0.0 %)"),
        ({"wind": first(300, float("nan"), WIND)}, "wind 30.0 % null (trained 0.0 %)"),
        ({"wind": first(300, 1048.0, WIND)}, "wind 30.0 % out of range (allowed -20…60)"),
        ({"wind": first(300, float("inf"), WIND)}, "wind 30.0 % out of range (allowed -20…60, 300 infinite)"),
        ({"carrier": first(100, "ZZ", CARRIER)}, "carrier 10.0 % unseen levels (ZZ)"),
        ({"carrier": pa.array(range(ROWS))}, "carrier is int64, string was declared"),
        ({"request_id": first(11, "r0", rows()["request_id"].to_pylist())}, "1.0 % duplicated request_id"),
    ],
)
def test_data_quality__defect__fails_and_is_named(defect: Mapping[str, Any], told: str) -> None:
    judgement = judged(rows(**defect))

    assert judgement.verdict == "failed"
    assert judgement.message == f"1 defect in 1,000 rows: {told}."
    assert judgement.detail["defects"] == [told]


def test_data_quality__missing_column__fails() -> None:
    assert "wind is missing" in judged(rows().drop_columns(["wind"])).message


def test_data_quality__several_defects__are_all_told() -> None:
    strange = first(16, "XX", first(32, "YY", CARRIER))
    judgement = judged(rows(wind=first(31, 70.0, WIND), carrier=strange), check(out_of_range=0.005))

    assert judgement.message == (
        "2 defects in 1,000 rows: wind 3.1 % out of range (allowed -20…60), carrier 3.2 % unseen levels (XX, YY)."
    )


def test_data_quality__share_within_its_limit__passes() -> None:
    assert judged(rows(wind=first(49, 1048.0, WIND))).verdict == "passed"


def test_data_quality__integers_for_doubles__is_no_defect() -> None:
    assert judged(rows(wind=pa.array([20] * ROWS))).verdict == "passed"


def test_data_quality__nulls_as_in_training__pass() -> None:
    gappy = first(790, None, WIND)

    assert judged(rows(wind=first(800, None, WIND)), trained=rows(wind=gappy)).verdict == "passed"


def test_data_quality__ignored_column__is_not_judged() -> None:
    ignoring = check(ignore=("wind",))

    assert judged(rows(wind=[9999.0] * ROWS), ignoring).verdict == "passed"
    assert judged(rows().drop_columns(["wind"]), ignoring).verdict == "passed"


def test_data_quality__too_few_rows__is_inconclusive() -> None:
    assert judged(rows(3)).verdict == "inconclusive"
    assert judged(rows(0)).verdict == "inconclusive"


def test_data_quality__column_that_was_all_null_in_training__has_no_range() -> None:
    trained = rows(wind=pa.nulls(ROWS, pa.float64()))

    assert judged(rows(), trained=trained).verdict == "passed"


# ---------------------------------------------------------------------- what owners promise


def test_data_quality__tightened_range__counts_in_training_too() -> None:
    judgement = judged(rows(), check(columns={"wind": ColumnRule(maximum=20)}))

    assert judgement.verdict == "failed"
    assert "in training wind 50.0 % out of range (allowed …20)" in judgement.message
    assert "wind 50.0 % out of range (allowed -20…20)" in judgement.message


def test_data_quality__allowed_levels__replace_those_of_training() -> None:
    holdout = rows(carrier=first(100, "AA", CARRIER))

    assert judged(holdout, check(columns={"carrier": ColumnRule(allowed=("UA", "B6", "AA"))})).verdict == "passed"
    only = judged(holdout, check(columns={"carrier": ColumnRule(allowed=("UA", "AA"))}))
    assert "in training carrier 50.0 % unseen levels (B6)" in only.message


def test_data_quality__promised_null_share__holds_in_every_table() -> None:
    gappy = first(50, None, WIND)
    judgement = judged(rows(wind=gappy), check(columns={"wind": ColumnRule(null_share=0.02)}), trained=rows(wind=gappy))

    assert "in training wind 5.0 % null (2.0 % promised), wind 5.0 % null (2.0 % promised)" in judgement.message


# ---------------------------------------------------------------------- training data


def test_data_quality__duplicates_in_training__fail() -> None:
    doubled = rows(request_id=first(101, "r0", rows()["request_id"].to_pylist()))

    assert "in training 10.0 % duplicated request_id" in judged(rows(), trained=doubled).message


def test_data_quality__training_without_the_key__is_judged_on_the_rest() -> None:
    assert judged(rows(), trained=rows().drop_columns(["request_id"])).verdict == "passed"


def test_data_quality__training_of_another_type__fails() -> None:
    judgement = judged(rows(), trained=rows(carrier=pa.array(range(ROWS))))

    assert "in training carrier is int64, string was declared" in judgement.message


def joined(stale: int, *, promise: float | None = 3600.0) -> dict[str, Any]:
    view: dict[str, Any] = {
        "view": "weather@1",
        "columns": ["wind"],
        "promise_seconds": promise,
        "ttl_seconds": None,
        "known": 500,
        "stale": stale,
        "expired": 0,
        "age_seconds": {},
    }
    return {"why": "", "rows": 500, "views": [view]}


def test_data_quality__training_values_older_than_promised__fail_only_where_the_policy_limits_it() -> None:
    limited = judged(rows(), check(stale=0.05), joined=joined(100))

    assert limited.verdict == "failed"
    assert "in training weather@1 20.0 % older than 1 hours when joined" in limited.message
    told = judged(rows(), joined=joined(100))
    assert told.verdict == "passed"
    assert "Older than promised when joined for training: weather@1 20.0 %." in told.message


# ---------------------------------------------------------------------- what is served now


def served(missing: int = 0, stale: int = 0, n: int = 500, **columns: Any) -> dict[str, Any]:
    """What the store answered ``n`` entities about the wind."""
    wind = first(missing, None, np.linspace(0, 40, n).tolist())
    wanted = measure.like_training(
        rows(),
        measure.subject(rows(), measure.promised(["wind"], TYPES, {}), {}),
        ["wind"],
        TYPES,
        {},
        range_margin=0.5,
    )
    found = measure.subject(pa.table({"wind": pa.array(wind, pa.float64()), **columns}), wanted, {})
    found["columns"]["wind"] |= {"entities": n, "known": n - missing, "stale": stale, "promise_seconds": 7200.0}
    return {**found, "why": "", "at": "2013-04-01T00:00:00+00:00"}


def test_data_quality__stale_values_served__fail_where_clearly_over_the_limit() -> None:
    judgement = judged(rows(), check(stale=0.05), served=served(stale=100))

    assert judgement.verdict == "failed"
    assert "served now: wind 20.0 % older than 2 hours" in judgement.message


def test_data_quality__stale_share_of_few_entities__has_the_benefit_of_the_doubt() -> None:
    assert judged(rows(), check(stale=0.05), served=served(stale=1, n=10)).verdict == "passed"


def test_data_quality__served_without_limits__is_told_and_not_judged() -> None:
    judgement = judged(rows(), served=served(missing=250, stale=100))

    assert judgement.verdict == "passed"
    assert "Served now to 500 entities: 50.0 % missing, 40.0 % of the values stale." in judgement.message


def test_data_quality__missing_values_served__fail_beyond_what_training_had() -> None:
    strict = check(served_nulls=0.1)
    gappy = rows(wind=first(450, None, WIND))

    assert (
        "served now: wind 50.0 % missing, of 500 entities (trained 0.0 %)"
        in judged(rows(), strict, served=served(missing=250)).message
    )
    assert judged(gappy, strict, trained=gappy, served=served(missing=250)).verdict == "passed"


def test_data_quality__strange_values_served__fail() -> None:
    judgement = judged(rows(), served=served(wind=pa.array([1048.0] * 500)))

    assert "served now: wind 100.0 % out of range (allowed -20…60)" in judgement.message


def test_data_quality__strange_values_of_few_entities__are_no_sample_and_only_a_promise_judges_them() -> None:
    few = served(n=3, wind=pa.array([1048.0] * 3))
    assert judged(rows(), served=few).verdict == "passed"
    promised = check(columns={"wind": {"maximum": 100.0}})
    assert "served now: wind" in judged(rows(), promised, served=few).message


def test_data_quality__nothing_served__says_so_and_passes() -> None:
    judgement = judged(rows(), check(stale=0.0, served_nulls=0.0))

    assert judgement.verdict == "passed"
    assert "Nothing served." in judgement.message


# ---------------------------------------------------------------------- another rule over the same numbers


def again(kept: dict[str, Any], **settings: Any) -> Judgement:
    return data_quality.judge(check(**settings), kept)


def test_dry_run__same_rule__is_the_same_judgement() -> None:
    tight = check(columns={"wind": ColumnRule(minimum=1, maximum=39)}, out_of_range=0.01)
    kept = measured(rows(), tight)

    assert data_quality.judge(tight, kept) == data_quality.judge(tight, json.loads(json.dumps(kept)))


@pytest.mark.parametrize("maximum", [-5.0, 5.0, 20.0, 38.0, 39.9, 40.0, 50.0])
def test_dry_run__other_range__agrees_with_measuring_anew_or_can_not_tell(maximum: float) -> None:
    kept = measured(rows())
    for limit in (0.0, 0.01, 0.04, 0.3, 0.6, 1.0):
        settings: dict[str, Any] = {"columns": {"wind": ColumnRule(maximum=maximum)}, "out_of_range": limit}
        told, anew = again(kept, **settings), judged(rows(), check(**settings))

        assert told.verdict in (anew.verdict, "error")


def test_dry_run__wider_limits_than_the_values_reach__are_told() -> None:
    assert again(measured(rows()), columns={"wind": ColumnRule(maximum=45)}).verdict == "passed"


def test_dry_run__limit_between_two_quantiles__can_not_be_told() -> None:
    judgement = again(measured(rows()), columns={"wind": ColumnRule(maximum=39.9)}, out_of_range=0.003)

    assert judgement.verdict == "error"
    assert "What was kept does not tell it under these limits" in judgement.message


def test_dry_run__other_levels__are_counted_from_those_kept() -> None:
    kept = measured(rows(carrier=first(100, "ZZ", CARRIER)))

    assert again(kept, columns={"carrier": ColumnRule(allowed=("UA", "B6", "ZZ"))}).verdict == "passed"
    assert "carrier 55.0 % unseen" in again(kept, columns={"carrier": ColumnRule(allowed=("B6",))}).message


def test_dry_run__promise_taken_back__falls_back_on_the_levels_of_training() -> None:
    kept = measured(rows(carrier=first(100, "ZZ", CARRIER)), check(columns={"carrier": ColumnRule(allowed=("ZZ",))}))

    assert again(kept).detail["defects"] == ["carrier 10.0 % unseen levels"]


def test_dry_run__levels_too_many_to_keep__can_not_be_told() -> None:
    many = rows(carrier=[f"L{place}" for place in range(ROWS)])
    kept = measured(many, trained=many)

    assert data_quality.judge(CHECK, kept).verdict == "passed"
    assert again(kept, columns={"carrier": ColumnRule(allowed=("UA",))}).verdict == "error"


def test_dry_run__other_key__can_not_be_told() -> None:
    assert again(measured(rows()), key="flight").verdict == "error"


@pytest.mark.parametrize("infinite", [float("inf"), float("-inf")])
def test_data_quality__infinite_in_training__is_a_defect_there_and_widens_no_range(infinite: float) -> None:
    broken = rows(wind=first(100, infinite, WIND))
    judgement = judged(rows(wind=first(100, 1e6, WIND)), trained=broken)

    assert judgement.verdict == "failed"
    assert "in training wind 10.0 % out of range (100 infinite)" in judgement.message
    assert ", wind 10.0 % out of range (allowed" in judgement.message


def test_data_quality__infinite_values__under_another_rule__are_told_again() -> None:
    found = measured(rows(wind=first(300, float("inf"), WIND)))

    narrow = data_quality.judge(check(range_margin=0.1), found)
    assert "wind 30.0 % out of range (allowed -4…44, 300 infinite)" in narrow.message
    assert data_quality.judge(check(out_of_range=0.4), found).verdict == "passed"


def test_data_quality__nothing_but_infinite_values__is_out_of_range_and_no_null() -> None:
    judgement = judged(rows(wind=[float("inf")] * ROWS))

    assert "wind 100.0 % out of range" in judgement.message
    assert "null" not in judgement.message


def test_data_quality__nobody_asked_yet__passes_and_says_what_was_not_looked_at() -> None:
    nobody = {**NOTHING_SERVED, "why": "Nobody asked."}

    assert "judged nothing" not in judged(rows(), served=nobody).message
    judgement = judged(rows(), check(stale=0.1, served_nulls=0.1), served=nobody)
    assert judgement.verdict == "passed"
    assert "Nobody asked. So stale and served_nulls judged nothing that is served, which stops no" in judgement.message
