"""What can go wrong, by what the caller can do about it.

    GatehouseError
    ├── InvalidInput      400, 413, 415, 422  change what was sent; ``errors`` names the fields
    ├── NotPermitted      401, 403            another token, or somebody whose duty it is
    ├── NotFound          404                 it does not exist, or this token may not see it
    ├── Conflict          409, 412, 428       it does not fit the present state: look again
    ├── ServerError       5xx, no answer      try later; the request may or may not have been carried out
    └── TimedOut                              ``wait_for_gates`` gave up waiting; ``standing`` is what it saw last

The text is the portal's own (RFC 9457 problem documents): what was refused, why, and what would be accepted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from gatehouse.answers import Standing


class GatehouseError(Exception):
    """``status`` is the HTTP status, 0 where there was no answer; ``errors`` maps fields to what is wrong with them."""

    def __init__(
        self, detail: str, *, status: int = 0, title: str = "", errors: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(f"{title}: {detail}" if title else detail)
        self.detail, self.status, self.title = detail, status, title
        self.errors: dict[str, Any] = dict(errors or {})


class InvalidInput(GatehouseError):
    pass


class NotPermitted(GatehouseError):
    pass


class NotFound(GatehouseError):
    pass


class Conflict(GatehouseError):
    pass


class ServerError(GatehouseError):
    pass


class TimedOut(GatehouseError):
    def __init__(self, detail: str, *, standing: Standing) -> None:
        super().__init__(detail)
        self.standing = standing


KINDS: Mapping[int, type[GatehouseError]] = {
    400: InvalidInput,
    401: NotPermitted,
    403: NotPermitted,
    404: NotFound,
    409: Conflict,
    412: Conflict,
    413: InvalidInput,
    415: InvalidInput,
    422: InvalidInput,
    428: Conflict,
}


def error_of(response: httpx.Response) -> GatehouseError:
    """The error that a refusal stands for, also when a proxy answered instead of the portal."""
    problem = _problem(response)
    fallback = ServerError if response.status_code >= 500 else GatehouseError
    kind = KINDS.get(response.status_code, fallback)
    errors = problem.get("errors")
    return kind(
        str(problem.get("detail") or f"HTTP {response.status_code} from {response.request.url}"),
        status=response.status_code,
        title=str(problem.get("title") or response.reason_phrase),
        errors=errors if isinstance(errors, Mapping) else None,
    )


def _problem(response: httpx.Response) -> Mapping[str, Any]:
    if "json" not in response.headers.get("Content-Type", ""):
        return {}
    try:
        problem = response.json()
    except ValueError:
        return {}
    return problem if isinstance(problem, Mapping) else {}
