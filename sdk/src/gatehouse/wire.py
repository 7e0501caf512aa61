"""Requests on the wire: the token, refusals as exceptions, and retries where repeating can not do harm."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from gatehouse.errors import ServerError, error_of

AGAIN = frozenset({502, 503, 504})
LONGEST_PAUSE = 30.0


@dataclass(frozen=True)
class Retries:
    """``pause`` seconds after the first failure, doubling, with jitter; a server's Retry-After counts when longer."""

    attempts: int = 4
    pause: float = 0.5

    def seconds(self, failures: int, response: httpx.Response | None) -> float:
        asked = response.headers.get("Retry-After", "") if response is not None else ""
        told = float(asked) if asked.isascii() and asked.isdigit() else 0.0
        ours = self.pause * 2.0 ** (failures - 1) * random.uniform(0.5, 1.0)
        return min(max(ours, told), LONGEST_PAUSE)


class Wire:
    """One portal and one token. ``sleep`` is called between attempts."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout: float,
        retries: Retries,
        transport: httpx.BaseTransport | None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._retries, self._sleep, self._timeout = retries, sleep, timeout
        self._http = httpx.Client(
            base_url=f"{url.rstrip('/')}/api/v1/",
            headers={"Authorization": f"Bearer {token}", "Accept": "application/json"},
            timeout=timeout,
            transport=transport,
        )

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, *, patience: float = 0.0, **params: Any) -> Any:
        """``patience``: seconds that the portal may take before it answers, beyond the time-out."""
        given = {name: value for name, value in params.items() if value is not None}
        timeout = self._timeout + patience
        return self._answer(lambda: self._http.get(path, params=given, timeout=timeout), repeat=True)

    def pages(self, path: str, **params: Any) -> Iterator[Mapping[str, Any]]:
        """Every row of a listing, page after page."""
        given: dict[str, Any] = {**params, "page_size": 200}
        while True:
            page = self.get(path, **given)
            yield from page["results"]
            if not page["next"]:
                return
            # only its cursor: the token goes to the address that the caller named, whatever a page says
            given["cursor"] = httpx.URL(page["next"]).params["cursor"]

    def post(self, path: str, body: Mapping[str, Any], *, repeat: bool = False, patience: float = 0.0) -> Any:
        """``repeat``: doing it twice is the same as once, so that it may be tried again. ``patience`` as in ``get``."""
        timeout = self._timeout + patience
        return self._answer(lambda: self._http.post(path, json=body, timeout=timeout), repeat=repeat)

    def upload(self, path: str, send: Callable[[httpx.Client], httpx.Response]) -> Any:
        """``send`` opens its file anew at each attempt."""
        return self._answer(lambda: send(self._http), repeat=True)

    def _answer(self, ask: Callable[[], httpx.Response], *, repeat: bool) -> Any:
        response = self._attempt(ask, repeat=repeat)
        if not response.is_success:
            raise error_of(response)
        try:
            return response.json()
        except ValueError as problem:
            raise ServerError(
                f"{response.request.url} did not answer JSON: is this the portal?", status=response.status_code
            ) from problem

    def _attempt(self, ask: Callable[[], httpx.Response], *, repeat: bool) -> httpx.Response:
        failures = 0
        while True:
            response: httpx.Response | None = None
            try:
                response = ask()
                if response.status_code not in AGAIN:
                    return response
                problem: Exception = error_of(response)
            except httpx.TransportError as broken:
                problem = ServerError(f"{type(broken).__name__}: {broken}")
            failures += 1
            if not repeat or failures >= self._retries.attempts:
                raise problem
            self._sleep(self._retries.seconds(failures, response))
