"""Where each feature that a version takes stands by the consistency audits (``features.consistency``)."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta

from features import consistency
from features.models import FeatureService, FeatureViewVersion
from gates.frozen import Frozen, Json, Unmeasurable
from gates.judge.feature_consistency import FeatureAudit
from gates.models import GateRun
from gates.policy import FeatureConsistencyCheck


def collect(check: FeatureConsistencyCheck, run: GateRun, frozen: Frozen) -> Json:
    """Everything that ``judge.feature_consistency`` looks at. Raises Unmeasurable."""
    service = run.version.service
    if service is None:
        raise Unmeasurable("The version names no feature service: which features it takes is unknown.")
    since = frozen.began - timedelta(days=check.maximum_age_days)
    audits: list[FeatureAudit] = []
    unserved: list[str] = []
    for version, taken in _taken_of(service).items():
        standings = consistency.standings(version, since=since, until=frozen.began)
        found = [_audit(version, each) for name, each in standings.items() if name in taken]
        audits += found
        if not found:
            unserved.append(str(version))
    return {"days": check.maximum_age_days, "features": [asdict(each) for each in audits], "unserved": unserved}


def _audit(version: FeatureViewVersion, standing: consistency.Standing) -> FeatureAudit:
    return FeatureAudit(
        feature=f"{version} {standing.feature}",
        at=standing.at.isoformat(),
        cells=standing.cells,
        differing=standing.differing,
        limit=standing.limit,
        clean=standing.clean,
        needed=standing.needed,
    )


def _taken_of(service: FeatureService) -> dict[FeatureViewVersion, set[str]]:
    """By view version, the names under which an audit counts what the service takes: features, on-demand columns."""
    on_demand = {column for transform in service.pinned_transforms() for column in transform.columns}
    taken: dict[FeatureViewVersion, set[str]] = {}
    for each in service.pinned():
        taken.setdefault(each.view_version, set(on_demand)).add(each.feature)
    return taken
