"""What was served of the features that the version takes, against what training sees of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from gates.judge.verdicts import Judgement, could_not, judged
from gates.policy.checks import FeatureConsistencyCheck

SHOWN = 5


@dataclass(frozen=True)
class FeatureAudit:
    """What the consistency audits say of one feature that a version takes (``features.consistency.Standing``).

    The audit that decides (``at``, ISO), its view's ``limit``, and the ``clean`` cells since of those ``needed`` to be
    sure again.
    """

    feature: str
    at: str
    cells: int
    differing: int
    limit: float
    clean: int = 0
    needed: int = 0

    @property
    def share(self) -> float:
        return self.differing / self.cells if self.cells else 0.0

    @property
    def in_words(self) -> str:
        since = f", {self.clean:,} of {self.needed:,} needed agreed since" if self.clean else ""
        return (
            f"{self.feature} {self.differing:,} of {self.cells:,} differ ({self.share:.2%}, {self.limit:.2%} allowed, "
            f"audit of {datetime.fromisoformat(self.at):%Y-%m-%d %H:%M}{since})"
        )


def judge(check: FeatureConsistencyCheck, measured: Mapping[str, Any]) -> Judgement:
    """``features``: an audit per feature that was served in ``days``; ``unserved``: view versions of which none was.

    What was never served has no evidence against it, and would never get any if that stopped a version.
    """
    if check.maximum_age_days != measured["days"]:
        why = f"The audits of {measured['days']} days were looked at, those of {check.maximum_age_days} are asked."
        return could_not(check, why)
    audits, unserved = [FeatureAudit(**each) for each in measured["features"]], measured["unserved"]
    days = f"in the last {check.maximum_age_days} days"
    aside = f" Not served {days}: {', '.join(unserved)}." if unserved else ""
    broken = sorted((each for each in audits if each.clean < each.needed), key=lambda each: -each.share)
    detail = {
        "features": [{**asdict(each), "share": each.share} for each in audits],
        "unserved": list(unserved),
    }
    if broken:
        more = f" and {len(broken) - SHOWN} more features" if len(broken) > SHOWN else ""
        told = "; ".join(each.in_words for each in broken[:SHOWN])
        message = f"Served values are not what training sees: {told}{more}.{aside}"
        cells = sum(each.cells for each in broken)
        return judged(check, "failed", message, n=cells, value=broken[0].share, detail=detail)
    if not audits:
        nothing = f"Nothing of {', '.join(unserved)} was served {days}" if unserved else "It takes no stored features"
        return judged(check, "passed", f"{nothing}: there is nothing to compare yet.", n=0, detail=detail)
    cells = sum(each.clean for each in audits)
    message = f"{cells:,} served values of {len(audits)} features agree with what training sees.{aside}"
    return judged(check, "passed", message, n=cells, value=0.0, detail=detail)
