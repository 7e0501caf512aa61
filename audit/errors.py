"""What Gatehouse refuses, and why, in words for the person who asked.

    GatehouseError                 500
    ├── InvalidInput               422  a field has a value that can not be accepted
    ├── NotPermitted               403  the actor lacks the duty
    ├── NotFound                   404
    ├── Conflict                   409  the request does not fit the present state
    │   ├── TransitionError             a state machine does not allow it, or somebody else was faster
    │   ├── AlreadyExists
    │   └── GateNotPassed               a version that has not passed every gate asked for traffic
    └── Unavailable                503  an engine, the network or the database did not answer

``mlops.problems`` turns them into RFC 9457 problem documents, ``audit.edges`` into messages in the admin and portal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class GatehouseError(Exception):
    """Base of everything that Gatehouse refuses; the text is for the user."""

    status = 500
    title = "Gatehouse could not do this"


class InvalidInput(GatehouseError):
    """``errors`` maps a field's name to what is wrong and what would be accepted."""

    status = 422
    title = "The input can not be accepted"

    def __init__(self, errors: Mapping[str, str | Sequence[str]]) -> None:
        self.errors = {field: [text] if isinstance(text, str) else list(text) for field, text in errors.items()}
        super().__init__("; ".join(f"{field}: {' '.join(texts)}" for field, texts in self.errors.items()))


class NotPermitted(GatehouseError):
    status = 403
    title = "This is not your duty"


class NotFound(GatehouseError):
    status = 404
    title = "There is no such thing"


class Conflict(GatehouseError):
    status = 409
    title = "This does not fit the present state"


class TransitionError(Conflict):
    title = "The state does not allow this"


class AlreadyExists(Conflict):
    title = "This exists already"


class GateNotPassed(Conflict):
    title = "The version has not passed its gates"


class Unavailable(GatehouseError):
    status = 503
    title = "A part of the system did not answer"
