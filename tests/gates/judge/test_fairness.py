"""Differences between groups."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from gates.frozen import Unmeasurable
from gates.judge import Judgement
from gates.judge.fairness import judge
from gates.measure.fairness import measure
from gates.policy import FairnessCheck
from tests.gates.holdouts import holdout, kept

LENIENT = FairnessCheck(id="fairness", by="origin", at_most=0.1, use="lower_bound")
STRICT = FairnessCheck(id="fairness", by="origin", at_most=0.1, use="upper_bound")
RATIO = FairnessCheck(
    id="ratio", by="origin", measure="demographic_parity_ratio", at_least=0.8, use="upper_bound", confidence=0.9
)


def fairness(check: FairnessCheck, **groups: tuple[int, float, float]) -> Judgement:
    """Groups by name: size, share of positives, share of positives that is found. Nobody else is selected."""
    names: list[str | None] = []
    y: list[float] = []
    p: list[float] = []
    for name, (n, base, found) in groups.items():
        positives = round(n * base)
        hits = round(positives * found)
        names += [None if name == "unknown" else name] * n
        y += [1] * positives + [0] * (n - positives)
        p += [0.9] * hits + [0.1] * (n - hits)
    frozen = holdout(np.array(y), np.array(p), columns={"origin": pa.array(names)})
    return judge(check, kept(measure, check, frozen))


def test_fairness__small_gap__passes_with_base_rates() -> None:
    judgement = fairness(STRICT, EWR=(9000, 0.29, 0.6), JFK=(9000, 0.27, 0.57))

    assert judgement.verdict == "passed"
    assert "Difference in real cases found 0.030 [" in judgement.message
    assert "JFK found 57.0% (base rate 27.0%); EWR found 60.0% (base rate 29.0%)" in judgement.message
    assert [group["base_rate"] for group in judgement.detail["groups"]] == [0.29, 0.27]


def test_fairness__groups__have_an_interval_of_each_rate() -> None:
    group = fairness(STRICT, EWR=(9000, 0.3, 0.6), JFK=(9000, 0.3, 0.57)).detail["groups"][0]
    low, high = group["intervals"]["tpr"]

    assert low < group["tpr"] < high
    assert group["judged"] is True
    assert "cells" not in group


@pytest.mark.parametrize("measure_name", ["equal_opportunity_difference", "demographic_parity_difference"])
def test_fairness__wide_gap__fails(measure_name: Any) -> None:
    judgement = fairness(
        LENIENT.model_copy(update={"measure": measure_name}), EWR=(9000, 0.5, 0.9), JFK=(9000, 0.5, 0.4)
    )

    assert judgement.verdict == "failed"
    assert judgement.low is not None
    assert judgement.low > 0.1
    assert "is above 0.1" in judgement.message


def test_fairness__false_alarms_apart__fail_equalised_odds_and_are_named() -> None:
    names = np.repeat(["EWR", "JFK"], 2000)
    y = np.tile([0.0, 1.0], 2000)
    p = np.where((y == 1) | ((names == "JFK") & (np.arange(4000) % 3 == 0)), 0.9, 0.1)
    odds = LENIENT.model_copy(update={"measure": "equalized_odds_difference"})
    judgement = judge(odds, kept(measure, odds, holdout(y, p, columns={"origin": names})))

    assert judgement.verdict == "failed"
    assert "JFK falsely alarmed 33." in judgement.message


def test_fairness__gap_around_the_bar__is_inconclusive_only_when_it_has_to_be_proven() -> None:
    groups = {"EWR": (900, 0.29, 0.6), "JFK": (900, 0.27, 0.52)}

    assert fairness(STRICT, **groups).verdict == "inconclusive"
    assert "more rows would decide if it stays as measured" in fairness(STRICT, **groups).message
    assert fairness(LENIENT, **groups).verdict == "passed"


def test_fairness__small_group__is_listed_with_what_it_lacks_and_not_judged() -> None:
    judgement = fairness(LENIENT, EWR=(9000, 0.3, 0.6), JFK=(9000, 0.3, 0.6), OO=(32, 0.5, 0.0), HA=(12, 0.3, 0.0))
    rows = {group["group"]: group for group in judgement.detail["groups"]}

    assert judgement.verdict == "passed"
    assert "Not enough evidence for HA (188 more rows needed and 26 more positive rows needed), OO" in judgement.message
    assert rows["OO"]["judged"] is False
    assert rows["HA"] == {"group": "HA", "n": 12, "judged": False}


def test_fairness__small_group_that_has_to_be_known__is_inconclusive() -> None:
    waiting = LENIENT.model_copy(update={"small_groups": "inconclusive"})
    alike = {"EWR": (9000, 0.3, 0.6), "JFK": (9000, 0.3, 0.6), "OO": (32, 0.3, 0.0)}

    assert fairness(waiting, **alike).verdict == "inconclusive"
    assert "168 more rows needed" in fairness(waiting, **alike).message
    assert fairness(waiting, **(alike | {"JFK": (9000, 0.3, 0.2)})).verdict == "failed"


def test_fairness__one_large_group_only__is_inconclusive() -> None:
    judgement = fairness(LENIENT, EWR=(9000, 0.3, 0.6), OO=(32, 0.3, 0.0))

    assert judgement.verdict == "inconclusive"
    assert "1 of 2 groups by origin have 200 rows and 30 positives; two are needed" in judgement.message


def test_fairness__groups_without_positives__is_inconclusive() -> None:
    assert fairness(LENIENT, EWR=(9000, 0.0, 0.0), JFK=(9000, 0.0, 0.0)).verdict == "inconclusive"


def test_fairness__four_fifths_rule__is_a_ratio_at_least() -> None:
    assert fairness(RATIO, EWR=(9000, 0.5, 0.7), LGA=(9000, 0.5, 0.35)).verdict == "failed"
    assert fairness(RATIO, EWR=(9000, 0.5, 0.7), LGA=(9000, 0.5, 0.68)).verdict == "passed"


def test_fairness__nobody_selected__has_no_ratio() -> None:
    judgement = fairness(RATIO, EWR=(9000, 0.5, 0.0), LGA=(9000, 0.5, 0.0))

    assert judgement.verdict == "inconclusive"
    assert "there is no ratio" in judgement.message


def test_fairness__null__is_a_group_of_its_own() -> None:
    judgement = fairness(LENIENT, EWR=(900, 0.5, 0.6), unknown=(900, 0.5, 0.6))

    assert [group["group"] for group in judgement.detail["groups"]] == ["(unknown)", "EWR"]


def test_fairness__column_that_is_not_there__says_which_are() -> None:
    with pytest.raises(Unmeasurable, match="no column 'origin'"):
        measure(LENIENT, holdout(np.array([1.0, 0.0]), np.array([0.5, 0.5])))
