"""Requests on the wire: the token, refusals as exceptions, and retries that can not do harm.

What creates or decides carries an Idempotency-Key, made once and sent with each retry: the portal does it once.
"""

from __future__ import annotations

import hashlib
import random
import time
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from gatehouse.errors import ServerError, error_of

AGAIN = frozenset({502, 503, 504})
KEY = "Idempotency-Key"
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
        return _json(self._answer(lambda: self._http.get(path, params=given, timeout=timeout)))

    def get_tagged(self, path: str) -> tuple[Any, str]:
        """The answer with its ETag, which names the state that was read."""
        response = self._answer(lambda: self._http.get(path))
        return _json(response), response.headers.get("ETag", "")

    def get_bytes(self, path: str, **params: Any) -> bytes:
        """An answer that is no JSON."""
        given = {name: value for name, value in params.items() if value is not None}
        headers = {"Accept": "*/*"}
        return self._answer(lambda: self._http.get(path, params=given, headers=headers)).content

    def download(self, path: str, to: Path) -> str:
        """Stream an attachment to a file, checked against the digest that came with it; its SHA-256.

        The file is there whole or not at all.
        """

        def fetch() -> httpx.Response:
            digest = hashlib.sha256()
            part = to.with_name(f"{to.name}.part")
            with self._http.stream("GET", path, headers={"Accept": "*/*"}) as response:
                if not response.is_success:
                    response.read()
                    return response
                with part.open("wb") as file:
                    for piece in response.iter_bytes():
                        digest.update(piece)
                        file.write(piece)
            said = response.headers.get("Repr-Digest", "")
            if said and f"sha-256=:{b64encode(digest.digest()).decode()}:" not in said:
                part.unlink()
                raise ServerError(f"{response.request.url}: the bytes that came are not those that were announced.")
            part.replace(to)
            found.append(digest.hexdigest())
            return response

        found: list[str] = []
        self._answer(fetch)
        return found[-1]

    def pages(self, path: str, **params: Any) -> Iterator[Mapping[str, Any]]:
        """Every row of a listing, page after page."""
        given: dict[str, Any] = {"page_size": 200, **params}
        while True:
            page = self.get(path, **given)
            yield from page["results"]
            if not page["next"]:
                return
            # only its cursor: the token goes to the address that the caller named, whatever a page says
            given["cursor"] = httpx.URL(page["next"]).params["cursor"]

    def post(self, path: str, body: Mapping[str, Any], *, repeat: bool = False, patience: float = 0.0) -> Any:
        """``repeat``: doing it twice is the same as once; else a key sees to it. ``patience`` as in ``get``."""
        timeout, headers = self._timeout + patience, {} if repeat else {KEY: str(uuid.uuid4())}
        return _json(self._answer(lambda: self._http.post(path, json=body, timeout=timeout, headers=headers)))

    def post_bytes(self, path: str, content: bytes, *, media_type: str, patience: float = 0.0, **params: Any) -> Any:
        """Rows as a file has them; doing it twice is the same as once. ``patience`` as in ``get``."""
        headers, timeout = {"Content-Type": media_type}, self._timeout + patience

        def send() -> httpx.Response:
            return self._http.post(path, content=content, params=params, timeout=timeout, headers=headers)

        return _json(self._answer(send))

    def upload(self, send: Callable[[httpx.Client, Mapping[str, str]], httpx.Response]) -> Any:
        """``send`` opens its files anew at each attempt, and sends the headers."""
        headers = {KEY: str(uuid.uuid4())}
        return _json(self._answer(lambda: send(self._http, headers)))

    def patch(self, path: str, body: Mapping[str, Any], *, etag: str) -> tuple[Any, str]:
        """Change the state that ``etag`` names; the answer and its ETag. Tried once: a second time it is another."""
        headers = {"If-Match": etag}
        response = self._answer(lambda: self._http.patch(path, json=body, headers=headers), repeat=False)
        return _json(response), response.headers.get("ETag", "")

    def put(self, path: str, body: Mapping[str, Any], *, etag: str = "") -> tuple[Any, str]:
        """The whole of something; the same twice is the same, unless ``etag`` says what it must have been before."""
        headers = {"If-Match": etag} if etag else {}
        response = self._answer(lambda: self._http.put(path, json=body, headers=headers), repeat=not etag)
        return _json(response), response.headers.get("ETag", "")

    def delete(self, path: str, **params: Any) -> Any:
        """Tried once: a second time there is nothing to end."""
        return _json(self._answer(lambda: self._http.delete(path, params=params), repeat=False))

    def _answer(self, ask: Callable[[], httpx.Response], *, repeat: bool = True) -> httpx.Response:
        response = self._attempt(ask, repeat=repeat)
        if not response.is_success:
            raise error_of(response)
        return response

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


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError as problem:
        raise ServerError(
            f"{response.request.url} did not answer JSON: is this the portal?", status=response.status_code
        ) from problem
