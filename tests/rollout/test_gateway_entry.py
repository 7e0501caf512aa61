"""The WSGI entry on a process in this one: bytes in, bytes out, who may ask, and what Prometheus may scrape."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from audit.models import ApiToken
from rollout.gateway.entry import Application
from rollout.gateway.lines import Lines
from rollout.gateway.process import Process
from rollout.protocols.calls import MAX_BYTES
from tests import builders
from tests.rollout import life

pytestmark = pytest.mark.django_db
INFER = f"/v2/models/{life.ENDPOINT}/infer"
BODY = json.dumps({"inputs": [{"name": "x1", "shape": [1], "datatype": "FP64", "data": [0.5]}]}).encode()


@pytest.fixture
def process() -> Iterator[Process]:
    life.begin()
    made = Process()
    made.poller.begin()
    made.models.load_due()
    yield made
    made.stop()


def call(
    process: Process, method: str, path: str, body: bytes = b"", **environ: Any
) -> tuple[str, dict[str, str], bytes]:
    """Status, headers and body of the answer."""
    told: list[Any] = []
    length = {} if "HTTP_TRANSFER_ENCODING" in environ else {"CONTENT_LENGTH": str(len(body))}
    whole = {"REQUEST_METHOD": method, "PATH_INFO": path, "wsgi.input": io.BytesIO(body), **length, **environ}
    parts = Application(process)(whole, lambda status, headers: told.extend((status, dict(headers))))
    return told[0], told[1], b"".join(parts)


def bearer(text: str) -> dict[str, str]:
    return {"HTTP_AUTHORIZATION": f"Bearer {text}"}


def a_token() -> str:
    return str(ApiToken.objects.create(builders.paula(), expiry=timedelta(days=1), scopes=["serve"])[1])


def test_infer__with_a_token_of_somebody_on_duty__is_answered(process: Process) -> None:
    token = a_token()
    process.routes.tokens = Lines().tokens()
    status, headers, body = call(process, "POST", INFER, BODY, **bearer(token))
    assert status == "200 OK"
    assert headers["Content-Length"] == str(len(body))
    assert json.loads(body)["model_name"] == life.ENDPOINT


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer gh_wrong", "Basic abc", "Bearer é", "Bearer " + "x" * 999]
)
def test_infer__without_a_valid_token__is_refused_and_not_logged(process: Process, authorization: str) -> None:
    status, _, _ = call(process, "POST", INFER, BODY, HTTP_AUTHORIZATION=authorization)
    assert status.startswith("401")
    assert not process.gateway.counts


def test_infer__an_expired_token__is_refused_without_asking_the_database(process: Process) -> None:
    token = a_token()
    allowed = Lines().tokens()
    process.routes.tokens = {name: dict.fromkeys(each, 1.0) for name, each in allowed.items()}
    status, _, _ = call(process, "POST", INFER, BODY, **bearer(token))
    assert status.startswith("403")


def test_infer__in_chunks__is_read_to_its_end(process: Process) -> None:
    process.needs_token = False
    status, _, _ = call(process, "POST", INFER, BODY, HTTP_TRANSFER_ENCODING="chunked")
    assert status == "200 OK"


@pytest.mark.parametrize("chunked", [True, False])
def test_infer__more_bytes_than_are_taken__is_refused(process: Process, chunked: bool) -> None:
    environ = {"HTTP_TRANSFER_ENCODING": "chunked"} if chunked else {}
    status, _, _ = call(process, "POST", INFER, b" " * (MAX_BYTES + 1), **environ)
    assert status.startswith("413")


def test_health__before_anything_was_read__is_not_ready() -> None:
    process = Process()
    try:
        assert call(process, "GET", "/v2/health/live")[0] == "200 OK"
        assert call(process, "GET", "/v2/health/ready")[0].startswith("503")
    finally:
        process.stop()


def test_head__has_no_body_but_its_length(process: Process) -> None:
    _, headers, body = call(process, "HEAD", "/v2")
    assert body == b""
    assert int(headers["Content-Length"]) > 0


def test_metrics__count_what_was_answered(process: Process) -> None:
    process.needs_token = False
    call(process, "POST", INFER, BODY)
    _, headers, body = call(process, "GET", "/metrics")
    assert headers["Content-Type"].startswith("text/plain")
    assert f'gatehouse_predictions_total{{endpoint="{life.ENDPOINT}",arm="champion",status="ok"' in body.decode()
    assert "gatehouse_dropped_rows_total" in body.decode()


def test_stop__a_second_time__changes_nothing(process: Process) -> None:
    process.stop()
    process.stop()
