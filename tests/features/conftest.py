"""A Redis for the tests of a module, where the server is installed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import redis_server


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    program = redis_server.server_program()
    if program is None:
        assert not redis_server.is_required(), redis_server.MISSING
        pytest.skip(redis_server.MISSING)
    with redis_server.running_redis(program) as url:
        yield url
