"""The chain over all events, and the search for what was done to it.

Each event has a link, written by the database with it (``audit.links``): a position without gaps, and the SHA-256 of
the hash before, the event's id and the digest of its content (``audit.canonical``). Who edits an event breaks its
digest, who recomputes the digest breaks the link, who recomputes all links from there on disagrees with the signed
checkpoints that were kept elsewhere (``audit.checkpoints``), and so does who cuts off the end.

Reads rows as plain SQL, in pages: 100,000 events a second and more (``benchmarks/verify_audit.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from hashlib import sha256
from itertools import combinations
from typing import Any

from django.db import connection, transaction

from audit import canonical, merkle
from audit.models import Event, Link
from audit.signing import SignedCheckpoint

EDITED, DELETED, SWAPPED, TRUNCATED, UNLINKED, SIGNATURE = (
    "edited", "deleted", "swapped", "truncated", "unlinked", "signature",
)  # fmt: skip

PAGE = 10_000
MOST_PROBLEMS = 1_000
"""So many are told; a log that was restored from something else has one for each event."""
MOST_COMPARED = 300
"""Among so many broken links it is looked for those that were exchanged for one another."""


@dataclass(frozen=True)
class Head:
    """The newest link: how many events there are, and the hash that stands for all of them."""

    position: int
    hash: str


@dataclass(frozen=True)
class Problem:
    """Something that was done to the log. ``position`` and ``event_id`` are 0 where they do not apply."""

    kind: str
    position: int
    event_id: int
    message: str


@dataclass(frozen=True)
class Verification:
    """What was read and what is wrong with it."""

    events: int
    problems: tuple[Problem, ...]
    checked_checkpoints: int
    head: Head

    @property
    def is_intact(self) -> bool:
        return not self.problems


def digest_of(event: Event) -> str:
    """SHA-256 over the canonical content of an event, hexadecimal; the same whichever database it was read from."""
    return event.content_digest()


def head() -> Head:
    """The newest link; position 0 of an empty log.

    On PostgreSQL the events of a transaction get their links when it commits: inside it, they are not counted yet.
    """
    newest = Link.objects.order_by("-position").values_list("position", "hash").first()
    return Head(*newest) if newest else Head(0, "")


def position_of(event: Event) -> int:
    """The event's place in the chain, from 1. Raises Link.DoesNotExist before its transaction committed."""
    return Link.objects.get(event_id=event.pk).position


def hashes(*, until: int) -> Iterator[bytes]:
    """The links' hashes in order, 32 bytes each, up to position ``until``: the leaves of a checkpoint's tree."""
    position = 0
    while position < until:
        links = Link.objects.filter(position__gt=position, position__lte=until).order_by("position")
        page = list(links.values_list("position", "hash")[:PAGE])
        if not page:
            return
        for _, each in page:
            yield bytes.fromhex(each)
        position = page[-1][0]


def verify(*, checkpoints: Sequence[SignedCheckpoint] = ()) -> Verification:
    """Read the whole log and compare it with itself and with ``checkpoints``; the caller checks their signatures.

    What is recorded meanwhile is left for the next time.
    """
    reading, end = _Reading(checkpoints), head()
    for page in _pages(end.position):
        reading.read(page)
    return Verification(reading.events, reading.finish(end), len(checkpoints), end)


@dataclass
class _Broken:
    """A link that does not follow from what is there; ``digest`` is that of the event's content as it is now."""

    position: int
    event_id: int
    digest: str
    stored: str
    before: str
    hash: str


class _Reading:
    """One pass over the log, link by link."""

    def __init__(self, checkpoints: Sequence[SignedCheckpoint]) -> None:
        self.events, self.position = 0, 0
        self.hash: str | None = ""
        """Of the last link; None after a gap, where the next one can not be judged."""
        self.found: list[Problem] = []
        self.broken: list[_Broken] = []
        self._by_size: dict[int, list[SignedCheckpoint]] = {}
        for each in checkpoints:
            self._by_size.setdefault(each.size, []).append(each)
        self._newest = max(self._by_size, default=0)
        self._tree = merkle.Growing()
        self._agreed = 0

    def read(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """The next links, each with the event that it names: what ``_SELECT`` gives."""
        for position, event_id, hash, stored, data, *values in rows:
            if position != self.position + 1:
                self._gap(position)
            before, self.hash = self.hash, hash
            self.position = position
            self.events += 1
            if position <= self._newest:
                self._compare(position, hash)
            if stored is None:
                self._add(DELETED, position, event_id, f"Event {event_id} at position {position} was deleted.")
                continue
            try:
                digest = canonical.digest(values, data)
            except ValueError:  # somebody made its data something else than JSON
                digest = "unreadable"
            if before is None:
                is_whole = digest == stored
            else:
                is_whole = sha256(f"{before}:{event_id}:{digest}".encode()).hexdigest() == hash
            if not is_whole:
                self.broken.append(_Broken(position, event_id, digest, stored, before or "", hash))
            elif digest != stored:
                self._add(EDITED, position, event_id, f"The stored digest of event {event_id} was edited.")

    def finish(self, end: Head) -> tuple[Problem, ...]:
        """All that was found, in the order of positions."""
        if self.position < end.position:
            self._gap(end.position + 1)
        for size, checkpoints in self._by_size.items():
            if size > end.position:
                message = (
                    f"The signed checkpoint of {checkpoints[0].at} knows {size} events; the log ends at "
                    f"{end.position}: the last {size - end.position} were cut off."
                )
                self._add(TRUNCATED, end.position + 1, 0, message)
        found = [*self.found, *_exchanged(self.broken), *_unlinked()]
        return tuple(sorted(found, key=lambda problem: problem.position)[:MOST_PROBLEMS])

    def _gap(self, position: int) -> None:
        first, last = self.position + 1, position - 1
        which = f"link {first} is" if first == last else f"links {first} to {last} are"
        self._add(DELETED, first, 0, f"The {which} missing: events were deleted together with their links.")
        self.hash = None

    def _compare(self, position: int, hash: str) -> None:
        self._tree.add(_as_bytes(hash))
        for checkpoint in self._by_size.get(position, ()):
            if checkpoint.head == hash and checkpoint.root == self._tree.root().hex():
                self._agreed = position
                continue
            message = (
                f"The signed checkpoint of {checkpoint.at} knows another history up to position {position}: links "
                f"from {self._agreed + 1} on were rewritten."
            )
            self._add(EDITED, position, 0, message)

    def _add(self, kind: str, position: int, event_id: int, message: str) -> None:
        if len(self.found) < MOST_PROBLEMS:
            self.found.append(Problem(kind, position, event_id, message))


def _exchanged(broken: Sequence[_Broken]) -> list[Problem]:
    """Broken links as problems: those that fit in one another's place were swapped, the others edited."""
    partners: dict[int, _Broken] = {}

    def is_settled(each: _Broken) -> bool:
        """It has its partner, or is only broken because the one before it was swapped."""
        before = partners.get(each.position - 1)
        follows = before is not None and canonical.link(before.hash, each.event_id, each.digest) == each.hash
        return each.position in partners or follows

    for one, other in combinations(broken[:MOST_COMPARED], 2):
        if not (is_settled(one) or is_settled(other)) and (_fits(one, other) or _fits(other, one)):
            partners[one.position], partners[other.position] = other, one
    problems = []
    for each in broken[:MOST_PROBLEMS]:
        partner = partners.get(each.position)
        if partner is not None:
            message = (
                f"Event {each.event_id} at position {each.position} was swapped with event {partner.event_id} at "
                f"position {partner.position}."
            )
            problems.append(Problem(SWAPPED, each.position, each.event_id, message))
        elif not is_settled(each):
            problems.append(Problem(EDITED, each.position, each.event_id, _edited(each)))
    return problems


def _fits(one: _Broken, other: _Broken) -> bool:
    """Whether the place of ``one`` holds, now, what belongs to the place of ``other``."""
    return (
        # the contents of two events, or their ids
        canonical.link(other.before, other.event_id, one.digest) == other.hash
        # which event a link names
        or canonical.link(other.before, one.event_id, one.digest) == other.hash
        # the positions of two links
        or canonical.link(other.before, one.event_id, one.digest) == one.hash
    )


def _edited(broken: _Broken) -> str:
    where = f"Event {broken.event_id} at position {broken.position}"
    if broken.digest != broken.stored:
        return f"{where} was edited: its content does not have the digest that was recorded."
    return f"{where} was edited and given a digest that fits; its link shows another, or was edited itself."


_EVENT = (
    "name", "subject_type", "subject_id", "subject_label", "registered_model", "actor_id", "service", "reason",
    "cause_id",
)  # fmt: skip
_TIMES = {
    # SQLite keeps no fraction of a whole second; text either way
    "sqlite": "substr(e.{0} || '.000000', 1, 26)",
    "postgresql": "to_char(e.{0} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')",
}


def _pages(until: int) -> Iterator[list[tuple[Any, ...]]]:
    """Links up to that position in order, each with its event as stored: the order of ``Event.content_digest``."""
    times = _TIMES[connection.vendor]
    columns = [*(f"e.{name}" for name in _EVENT), times.format("at"), times.format("recorded_at")]
    query = (
        f"SELECT l.position, l.event_id, l.hash, e.digest, CAST(e.data AS text), {', '.join(columns)} "
        "FROM audit_link l LEFT JOIN audit_event e ON e.id = l.event_id WHERE l.position <= %s ORDER BY l.position"
    )
    # A transaction, so that PostgreSQL's cursor is read as it goes; on SQLite it would keep writers out.
    reading = transaction.atomic() if connection.vendor == "postgresql" else nullcontext()
    with reading, connection.chunked_cursor() as cursor:
        cursor.execute(query, [until])
        yield from _ahead(lambda: cursor.fetchmany(PAGE))


def _ahead(fetch: Callable[[], list[tuple[Any, ...]]]) -> Iterator[list[tuple[Any, ...]]]:
    """Pages as long as there are any; the next one is fetched while the caller works on the last."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        waiting = thread.submit(fetch)
        while page := waiting.result():
            waiting = thread.submit(fetch)
            yield page


def _unlinked() -> list[Problem]:
    query = "SELECT e.id FROM audit_event e LEFT JOIN audit_link l ON l.event_id = e.id WHERE l.position IS NULL"
    with connection.cursor() as cursor:
        cursor.execute(f"{query} ORDER BY e.id LIMIT %s", [MOST_PROBLEMS])
        events = [event_id for (event_id,) in cursor.fetchall()]
    message = "Event {} has no link: it was written past the chain, or its link was deleted."
    return [Problem(UNLINKED, 0, event_id, message.format(event_id)) for event_id in events]


def _as_bytes(hash: str) -> bytes:
    try:
        return bytes.fromhex(hash)
    except ValueError:  # somebody wrote something else there; the link before it is told
        return hash.encode()
