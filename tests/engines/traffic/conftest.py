"""A real nginx of this test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nginx_server import MISSING, RunningNginx, is_required, nginx_program, running_nginx


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[RunningNginx]:
    """An nginx in front of the versions v3, v4 and v5 of the model delay."""
    program = nginx_program()
    if program is None:
        if is_required():
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    with running_nginx(program, tmp_path / "nginx", ("delay-v3", "delay-v4", "delay-v5")) as running:
        yield running
