"""Search the log for what was done to it, and record what is found: once for each distinct problem."""

from __future__ import annotations

from audit import checkpoints
from audit.chain import Problem, Verification
from audit.models import Event
from audit.trail import Service, record

FAILED = "audit.verification_failed"
WATCHMAN = Service("log verification")
MOST_RECORDED = 50
"""Events that one search leaves at most; it says how many problems there are in all."""


def of_the_log() -> Verification:
    """The whole log against the checkpoints in the database and in the file.

    Raises ImproperlyConfigured without a key, ValueError for a line of the file that is no checkpoint.
    """
    path = checkpoints.file()
    outside = checkpoints.read(path) if path.exists() else []
    return checkpoints.verify([*checkpoints.stored(), *outside], checkpoints.trusted_keys())


def report(found: Verification) -> list[Event]:
    """An event for each problem that none tells of yet. It names the event concerned, which may be gone."""
    known = {_key(told.data) for told in Event.objects.filter(name=FAILED)}
    events: list[Event] = []
    for problem in found.problems:
        data = {
            "kind": problem.kind,
            "position": problem.position,
            "event": problem.event_id,
            "problems": len(found.problems),
        }
        if _key(data) in known or len(events) == MOST_RECORDED:
            continue
        known.add(_key(data))
        events.append(record(FAILED, _subject(problem), actor=WATCHMAN, reason=problem.message, data=data))
    return events


def _key(data: dict[str, object]) -> tuple[object, ...]:
    return data["kind"], data["position"], data["event"]


def _subject(problem: Problem) -> Event:
    event = Event.objects.filter(pk=problem.event_id).first()
    return event or Event(pk=problem.event_id, name=problem.kind, subject_label=f"position {problem.position}")
