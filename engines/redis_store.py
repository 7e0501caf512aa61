"""The online store in Redis: for reads in a tenth of a millisecond, and for gateways that must not load the database.

One hash per view version, ``<prefix>:<view>``: the fields are entity keys, a value is the event time and the known time
(big-endian, eight bytes each) and then the record. A read is one ``HMGET`` per view version, all sent at once; to
forget a version is one ``UNLINK``, and ``HSCAN`` lists it. One string per record would be no faster to read, and
nothing would say what belongs to a version.

What Redis loses (a restart without persistence, an eviction) ``features.materialize.refill`` computes again.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from engines.online import OnlineStoreError, Records, Stored

SCHEMES = ("redis://", "rediss://", "unix://")
"""How an address of a Redis begins."""

_TIMES = struct.Struct(">qq")
_EVENT = struct.Struct(">q")
# Lua unpacks a batch's keys onto its stack, which holds 8,000; other clients wait while a script runs.
_ROWS_AT_A_TIME = 1000
_BATCHES_AT_A_TIME = 10
_SCAN_COUNT = 2000
_CONNECT_SECONDS = 2.0
_ANSWER_SECONDS = 5.0

# Keeps each record unless a newer one is there; ARGV is key, value, key, value, …, each key once. The times are
# compared as halves of 32 bits: a Lua number holds 53, and Lua compares texts by the server's locale.
_KEEP = """
local keys = {}
for i = 1, #ARGV, 2 do keys[#keys + 1] = ARGV[i] end
local held = redis.call('HMGET', KEYS[1], unpack(keys))
local newer = {}
for i = 1, #keys do
  local value, there = ARGV[2 * i], held[i]
  local keep = true
  if there then
    local a, b, c, d = struct.unpack('>i4I4i4I4', value)
    local e, f, g, h = struct.unpack('>i4I4i4I4', there)
    if a ~= e then keep = a > e
    elseif b ~= f then keep = b > f
    elseif c ~= g then keep = c > g
    else keep = d >= h end
  end
  if keep then
    newer[#newer + 1] = keys[i]
    newer[#newer + 1] = value
  end
end
if #newer > 0 then redis.call('HSET', KEYS[1], unpack(newer)) end
return #newer / 2
"""


class RedisStore:
    """``engines.online.OnlineStore`` on a Redis 6.2 or newer at ``url``; one connection per thread that asks.

    Two portals share a Redis only with different ``prefix``es or database numbers.
    """

    name = "redis"

    def __init__(self, url: str, *, prefix: str = "gatehouse") -> None:
        # a kept connection may have died with a restarted server: one more attempt, and every write may be repeated
        retry = Retry(NoBackoff(), 1)
        self._client: Any = Redis.from_url(
            url, retry=retry, socket_connect_timeout=_CONNECT_SECONDS, socket_timeout=_ANSWER_SECONDS
        )
        self._keep = self._client.register_script(_KEEP)
        self._prefix = prefix

    def close(self) -> None:
        """Give the connections back to the system."""
        self._client.close()

    def read(self, wanted: Mapping[int, Sequence[str]]) -> Mapping[int, Mapping[str, Stored]]:
        """See ``OnlineStore.read``."""
        asked = [(view, keys) for view, keys in wanted.items() if keys]
        found: dict[int, dict[str, Stored]] = {view: {} for view in wanted}
        if not asked:
            return found
        event_of, size = _EVENT.unpack_from, _TIMES.size
        for (view, keys), values in zip(asked, self._answer(lambda: self._fetched(asked)), strict=True):
            found[view] = {
                key: (event_of(value)[0], value[size:])
                for key, value in zip(keys, values, strict=True)
                if value is not None
            }
        return found

    def write(self, records: Sequence[Records]) -> list[int]:
        """See ``OnlineStore.write``: atomic per record, a thousand of one view at a time."""
        return [int(self._answer(partial(self._written, each))) for each in records]

    def contents(self, view: int, *, limit: int | None = None) -> Iterator[tuple[str, int, int, bytes]]:
        """See ``OnlineStore.contents``; in no order. What is written meanwhile may or may not be among it."""
        return islice(self._scanned(view), limit)

    def forget(self, view: int) -> None:
        """See ``OnlineStore.forget``."""
        self._answer(lambda: self._client.unlink(self._place(view)))

    # ------------------------------------------------------------------ commands

    def _fetched(self, asked: Sequence[tuple[int, Sequence[str]]]) -> list[list[bytes | None]]:
        """The values of each view's keys: all commands in one packet, then all answers.

        On the connection itself, as redis-py's pipelines do inside: that is two and a half times as fast for one key.
        """
        try:
            return self._exchanged(asked)
        except (RedisConnectionError, RedisTimeoutError):
            return self._exchanged(asked)  # a kept connection may have died with a restarted server

    def _exchanged(self, asked: Sequence[tuple[int, Sequence[str]]]) -> list[list[bytes | None]]:
        pool = self._client.connection_pool
        connection = pool.get_connection()
        try:
            packets = [
                part for view, keys in asked for part in connection.pack_command("HMGET", self._place(view), *keys)
            ]
            connection.send_packed_command([b"".join(packets)])
            return [connection.read_response(disable_decoding=True) for _ in asked]
        except BaseException:
            connection.disconnect()  # answers that nobody reads must not meet the next question
            raise
        finally:
            pool.release(connection)

    def _written(self, records: Records) -> int:
        kept = 0
        place = self._place(records.view)
        batches = range(0, len(records), _ROWS_AT_A_TIME)
        for first in range(0, len(batches), _BATCHES_AT_A_TIME):
            # together, so that Redis works on one batch while we pack the next
            with self._client.pipeline(transaction=False) as pipeline:
                for start in batches[first : first + _BATCHES_AT_A_TIME]:
                    self._keep(keys=[place], args=_arguments(records, start), client=pipeline)
                kept += sum(map(int, pipeline.execute()))
        return kept

    def _scanned(self, view: int) -> Iterator[tuple[str, int, int, bytes]]:
        cursor, seen = 0, set[bytes]()
        while True:
            cursor, page = self._answer(partial(self._client.hscan, self._place(view), cursor, count=_SCAN_COUNT))
            for key, value in page.items():
                if key not in seen:  # a scan may name one twice while the hash grows
                    seen.add(key)
                    event, known = _TIMES.unpack_from(value)
                    yield key.decode(), event, known, value[_TIMES.size :]
            if cursor == 0:
                return

    def _place(self, view: int) -> str:
        return f"{self._prefix}:{view}"

    def _answer(self, ask: Callable[[], Any]) -> Any:
        """What the client raises, as the store's own error."""
        try:
            return ask()
        except RedisError as error:
            raise OnlineStoreError(f"The online store (Redis) did not answer: {error}") from error


def _arguments(records: Records, start: int) -> list[str | bytes]:
    """Key, value, key, value, … of a batch."""
    batch = slice(start, start + _ROWS_AT_A_TIME)
    arguments: list[str | bytes] = []
    times = map(_TIMES.pack, records.events[batch], records.knowns[batch])
    for key, both, packed in zip(records.keys[batch], times, records.packed[batch], strict=True):
        arguments += (key, both + packed)
    return arguments
