"""Served against recomputed, from audits."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from gates.judge import Judgement, feature_consistency
from gates.judge.feature_consistency import FeatureAudit
from gates.policy import FeatureConsistencyCheck

CHECK = FeatureConsistencyCheck(id="feature-consistency")


def audit(feature: str = "weather@1 temp", **fields: Any) -> FeatureAudit:
    """A feature whose newest 250 served values agreed."""
    values: dict[str, Any] = {"cells": 250, "differing": 0, "limit": 0.0, "clean": 250, **fields}
    return FeatureAudit(feature, "2013-06-01T00:00:00+00:00", **values)


def judged(*audits: FeatureAudit, unserved: Sequence[str] = (), days: int = 7) -> Judgement:
    measured = {"days": days, "features": [asdict(each) for each in audits], "unserved": list(unserved)}
    return feature_consistency.judge(CHECK, measured)


def test_feature_consistency__all_agree__passes_with_the_count() -> None:
    judgement = judged(audit(), audit("weather@1 tag"))

    assert (judgement.verdict, judgement.n) == ("passed", 500)
    assert judgement.message == "500 served values of 2 features agree with what training sees."


def test_feature_consistency__one_above_its_limit__fails_and_names_it_with_numbers() -> None:
    broken = audit("wind@2 gust", differing=20, clean=0, needed=38)
    judgement = judged(audit(), broken, unserved=["tide@1"])

    assert (judgement.verdict, judgement.value) == ("failed", 0.08)
    assert "wind@2 gust 20 of 250 differ (8.00%, 0.00% allowed, audit of 2013-06-01 00:00)" in judgement.message
    assert "weather@1 temp" not in judgement.message
    assert "Not served in the last 7 days: tide@1." in judgement.message


def test_feature_consistency__some_clean_since_but_too_few__still_fails() -> None:
    judgement = judged(audit(differing=20, clean=10, needed=38))

    assert judgement.verdict == "failed"
    assert "10 of 38 needed agreed since" in judgement.message


def test_feature_consistency__enough_clean_since__passes() -> None:
    assert judged(audit(differing=20, clean=38, needed=38)).verdict == "passed"


def test_feature_consistency__never_served__does_not_stop_and_says_so() -> None:
    judgement = judged(unserved=["weather@1", "wind@2"])

    assert judgement.verdict == "passed"
    assert judgement.message == (
        "Nothing of weather@1, wind@2 was served in the last 7 days: there is nothing to compare yet."
    )


def test_feature_consistency__no_stored_features__passes() -> None:
    judgement = judged()

    assert (judgement.verdict, judgement.n) == ("passed", 0)
    assert "takes no stored features" in judgement.message


def test_feature_consistency__audits_of_another_time__can_not_be_told() -> None:
    assert judged(audit(), days=3).verdict == "error"
