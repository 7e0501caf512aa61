"""What was really served since the last consistency audit: a keyed sample of the gateway's and the readers' values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from audit.errors import InvalidInput, Unavailable
from features import served_log
from features.consistency import Compared, compare, sampled
from features.models import ConsistencyCheck, FeatureService
from registry.models import ModelVersion
from rollout import prediction_log
from rollout.models import Endpoint, Rollout
from rollout.routing import Serving, serving

SAMPLE = 500
"""Rows of one endpoint, or of one service's readers, that an audit recomputes."""
FIRST = timedelta(days=1)
LONGEST = timedelta(days=7)
"""How far back the first audit looks, and one after a long pause."""
SETTLE = timedelta(minutes=2)
"""What was read is noted a little later (``features.served_log``): readers are audited up to this long ago."""
KEPT_DAYS = 14

AT = served_log.AT


@dataclass(frozen=True)
class Sample:
    """Rows that were served from one feature service: ``AT``, join keys, request features and the served columns."""

    service: FeatureService
    rows: pa.Table


@dataclass(frozen=True)
class Audit:
    """What one audit found, and what it could not recompute, in words."""

    since: datetime
    compared: tuple[Compared, ...]
    problems: tuple[str, ...]


def audit(*, now: datetime) -> Audit:
    """Recompute a sample of everything that was served since the last audit, by the time of serving."""
    since = _since(now)
    compared: list[Compared] = []
    problems: list[str] = []
    for sample in _samples(since, now):
        try:
            compared += compare(sample.service, sample.rows, timestamp=AT, as_of=now)
        except (Unavailable, InvalidInput) as problem:  # one broken source must not hide what the others serve
            problems.append(f"{sample.service}: {problem}")
    return Audit(since, tuple(compared), tuple(problems))


def forget_read(*, now: datetime) -> int:
    """Delete what readers got so long ago that no audit will ask for it; the count of day folders deleted."""
    return served_log.forget(before=(now - timedelta(days=KEPT_DAYS)).astimezone(UTC).date())


def _since(now: datetime) -> datetime:
    last = ConsistencyCheck.objects.filter(since__isnull=False, at__lte=now).order_by("-at").first()
    return max(last.at, now - LONGEST) if last is not None else now - FIRST


def _samples(since: datetime, until: datetime) -> Iterator[Sample]:
    for endpoint in Endpoint.objects.order_by("name"):
        yield from of_endpoint(endpoint, since=since, until=until)
    yield from of_readers(since=since - SETTLE, until=until - SETTLE)


def of_endpoint(endpoint: Endpoint, *, since: datetime, until: datetime, size: int = SAMPLE) -> list[Sample]:
    """What champion and candidate of an endpoint were given (also in shadow), in a sample keyed by the request."""
    rows = _logged(endpoint, since, until, size)
    samples: list[Sample] = []
    for salt in pc.unique(rows["salt"].combine_chunks()).to_pylist():
        of_salt = rows.filter(pc.equal(rows["salt"], salt))
        samples += _of_rollout(salt, of_salt) if salt else _of_champions(of_salt)
    return samples


def of_readers(*, since: datetime, until: datetime, size: int = SAMPLE) -> Iterator[Sample]:
    """What was read over REST and SDK: the keyed sample that was noted."""
    services = FeatureService.objects.in_bulk(served_log.services())
    for key in sorted(services):
        service = services[key]
        rows = served_log.read(key, since=since, until=until)
        if rows.num_rows:
            yield from _sample(service, sampled(rows, by=[AT, *_join_keys(service, rows)], size=size))


def _logged(endpoint: Endpoint, since: datetime, until: datetime, size: int) -> pa.Table:
    """The sampled rows of the log that a version was asked for, read day by day so that a busy day fits into memory."""
    parts: list[pa.Table] = []
    start = since
    while start < until:
        end = min(until, start.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1))
        log = prediction_log.read(endpoint.name, since=start, until=end)
        parts.append(sampled(log.filter(pc.is_valid(log["version_id"])), by=["request_id"], size=size))
        start = end
    rows = pa.concat_tables(parts, promote_options="permissive") if parts else prediction_log.PREDICTION.empty_table()
    return sampled(
        rows.set_column(rows.column_names.index("salt"), "salt", pc.fill_null(rows["salt"], "")),
        by=["request_id"],
        size=size,
    )


def _of_champions(rows: pa.Table) -> Iterator[Sample]:
    """Rows outside a rollout: each names the champion that it was for."""
    versions = ModelVersion.objects.select_related("service").in_bulk(
        pc.unique(rows["version_id"].combine_chunks()).to_pylist()
    )
    for key in sorted(versions):
        yield from served_by(serving(versions[key]), rows.filter(pc.equal(rows["version_id"], key)))


def _of_rollout(salt: str, rows: pa.Table) -> Iterator[Sample]:
    """Rows of a rollout: every request was looked up for the champion, and for the candidate where it could be."""
    rollout = Rollout.objects.select_related("version__service", "incumbent__service").filter(salt=salt).first()
    if rollout is None or rollout.incumbent is None:
        return
    champion = serving(rollout.incumbent)
    yield from served_by(champion, rows)
    if prediction_log.CANDIDATE_GIVEN in rows.column_names:
        given = pc.fill_null(rows[prediction_log.CANDIDATE_GIVEN], False)
        yield from served_by(serving(rollout.version, beside=champion), rows.filter(given))


def served_by(line: Serving, rows: pa.Table) -> Iterator[Sample]:
    """A version's store columns and what was asked for them, under their own names."""
    if line.service is None:
        return
    asked = {name: column for name, column in line.asked.items() if column in rows.column_names}
    from_store = set(line.service.vector).difference(line.service.request_features)
    values = {
        name: line.logged[name] for name in line.inputs if name in from_store and line.logged[name] in rows.column_names
    }
    columns = {AT: rows["at"], **{name: rows[column] for name, column in {**asked, **values}.items()}}
    yield from _sample(line.service, pa.table(columns))


def _sample(service: FeatureService, rows: pa.Table) -> Iterator[Sample]:
    """The rows whose entity is known; none where the log does not name it (rows of an older release)."""
    keys = _join_keys(service, rows)
    wanted = {key for each in service.pinned() for key in each.view_version.view.entity.join_keys}
    if wanted.issubset(keys):
        for key in keys:
            rows = rows.filter(pc.is_valid(rows[key]))
        if rows.num_rows:
            yield Sample(service, rows)


def _join_keys(service: FeatureService, rows: pa.Table) -> list[str]:
    keys = dict.fromkeys(key for each in service.pinned() for key in each.view_version.view.entity.join_keys)
    return [key for key in keys if key in rows.column_names]
