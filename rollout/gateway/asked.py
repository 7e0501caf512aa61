"""What is asked of an endpoint and what it answered, free of any protocol. Pure.

The protocols (``rollout.protocols``) make ``Asked`` out of bytes and bytes out of ``Answered``; the core
(``rollout.gateway.core``) stands between and knows no protocol.

    Refusal           a request that gets no answer; the protocol says so in its own error form
    ├── BadRequest    the request is wrong (400); ``field`` names where
    │   └── TooLarge  more bytes or rows than the gateway takes at once (413)
    ├── NotAllowed    no token, or one without this endpoint (401, 403)
    ├── UnknownEndpoint  nothing of that name is served here (404)
    └── NotReady      known, but no version is warm yet (503)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Values: TypeAlias = Sequence[Any] | NDArray[Any]
"""One value per row: a list of None, bool, int, float and str, or a one-dimensional array of numbers."""


class Refusal(Exception):
    """A request that gets no answer. ``message`` is for who asked; ``field`` is the place in the request, or empty."""

    status = 500

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.message, self.field = message, field

    @property
    def placed_message(self) -> str:
        """The message, beginning with the field where there is one."""
        there = not self.field or self.message.startswith(f"{self.field}:")
        return self.message if there else f"{self.field}: {self.message}"


class BadRequest(Refusal):
    """The request is wrong; ``field`` is the place in it, such as ``inputs[0].data``, or empty for all of it."""

    status = 400


class TooLarge(BadRequest):
    """More bytes or rows than the gateway takes at once."""

    status = 413


class NotAllowed(Refusal):
    """No valid token (``known`` False: 401), or one whose owner has no duty for this endpoint (403)."""

    def __init__(self, message: str, *, known: bool = False) -> None:
        super().__init__(message)
        self.status = 403 if known else 401


class UnknownEndpoint(Refusal):
    """Nothing of that name is served here."""

    status = 404


class NotReady(Refusal):
    """The endpoint is known, but nothing can answer for it yet."""

    status = 503


@dataclass(frozen=True, slots=True)
class Asked:
    """One request for some rows of one endpoint.

    ``columns``: inputs, join keys and whatever else came, each ``rows`` long. ``request_id``: one for the whole
    request, one per row, or None (the gateway gives new ones). ``entity`` and ``at`` (aware, UTC): the same three
    ways; None for ``entity`` leaves it to the column named as the endpoint's entity column. ``outputs``: what the
    client wants to see (empty: the protocol's default). ``parameters``: the protocol's own, as they came.
    """

    columns: Mapping[str, Values]
    rows: int
    request_id: str | Sequence[str] | None = None
    entity: str | Sequence[str | None] | None = None
    at: datetime | Sequence[datetime | None] | None = None
    outputs: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answered:
    """The answers, one per row in the order asked.

    ``scores``: float64, NaN where nobody could answer. ``decisions``: score at or above the endpoint's threshold; None
    without a score. ``arms``: champion, canary or fallback, who should have answered; ``answered_by``: who did.
    ``versions``: number of the version that answered, None for the fallback. ``statuses``: ok, error or fallback.
    """

    scores: NDArray[np.float64]
    decisions: Sequence[bool | None]
    arms: Sequence[str]
    answered_by: Sequence[str]
    versions: Sequence[int | None]
    statuses: Sequence[str]
    request_ids: Sequence[str]


@dataclass(frozen=True, slots=True)
class Input:
    """A column that an endpoint takes. ``kind`` is the signature's word (double, long, boolean, string, …)."""

    name: str
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Described:
    """What a client may know of an endpoint. ``version`` is the champion's number (None: nobody serves yet).

    ``inputs`` are the champion's, in the model's order. ``keys`` are the join keys that may be sent instead of the
    inputs that come from the online store. ``platform`` names the form served: onnx, skops, …
    """

    endpoint: str
    version: int | None
    inputs: tuple[Input, ...]
    ready: bool
    platform: str = ""
    keys: tuple[str, ...] = ()
    entity_column: str = ""
