"""What a client does when the portal does not answer, answers late, or something else answers."""

from __future__ import annotations

import hashlib
import uuid
from base64 import b64encode
from pathlib import Path

import httpx
import pytest

import gatehouse
from gatehouse.wire import Retries

PAGE: dict[str, object] = {"results": [], "next": None, "previous": None}


class Portal:
    """Answers in turn; a status, a response or an exception each. The last one for ever."""

    def __init__(self, *answers: int | httpx.Response | Exception) -> None:
        self.answers, self.asked = list(answers), 0
        self.keys: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.keys.append(request.headers.get("Idempotency-Key", ""))
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, int):
            return httpx.Response(answer, json=PAGE)
        return httpx.Response(answer.status_code, content=answer.read(), headers=answer.headers)

    def client(self) -> gatehouse.Client:
        retries = Retries(attempts=3, pause=0.0)
        return gatehouse.Client("http://portal", "gh_x", retries=retries, transport=httpx.MockTransport(self))


BROKEN = httpx.ConnectError("refused")


@pytest.mark.parametrize("trouble", [502, 503, 504, BROKEN, httpx.ReadTimeout("late")])
def test_asking__after_trouble_that_passes__gets_its_answer(trouble: int | Exception) -> None:
    portal = Portal(trouble, trouble, 200)

    assert portal.client().models() == []
    assert portal.asked == 3


@pytest.mark.parametrize("trouble", [503, BROKEN])
def test_asking__while_the_trouble_stays__gives_up(trouble: int | Exception) -> None:
    portal = Portal(trouble)

    with pytest.raises(gatehouse.ServerError):
        portal.client().models()
    assert portal.asked == 3


def test_asking__a_defect__is_not_repeated() -> None:
    portal = Portal(500)

    with pytest.raises(gatehouse.ServerError):
        portal.client().models()
    assert portal.asked == 1


EVIDENCE: dict[str, object] = {
    "id": 1, "model": "m", "kind": "lint", "verdict": "passed", "summary": "", "code_digest": "", "commit": "",
    "submitted_at": "2013-04-01T12:00:00Z",
}  # fmt: skip


@pytest.mark.parametrize("trouble", [503, BROKEN, httpx.ReadTimeout("late")])
def test_telling__what_may_have_been_heard__is_said_again_with_the_same_key(trouble: int | Exception) -> None:
    portal = Portal(trouble, trouble, httpx.Response(201, json=EVIDENCE))
    client = portal.client()
    client.submit_evidence("m", "lint", [], code_digest="0" * 64)
    client.submit_evidence("m", "lint", [], code_digest="0" * 64)

    first, *again, other = portal.keys
    assert again == [first, first]
    assert uuid.UUID(first) != uuid.UUID(other)


def test_change__of_a_state_that_was_read__is_tried_once() -> None:
    portal = Portal(503)

    with pytest.raises(gatehouse.ServerError):
        portal.client().change_model("m", etag='"1"', reason="Shorter.", title="M")
    assert portal.asked == 1


def test_change__of_a_state_that_is_gone__is_a_conflict() -> None:
    gone = httpx.Response(412, json={"title": "Precondition Failed", "detail": "It was changed since."})

    with pytest.raises(gatehouse.Conflict, match="changed since"):
        Portal(gone).client().change_model("m", etag='"1"', reason="Shorter.", title="M")


def test_download__whose_bytes_are_not_those_announced__leaves_no_file(tmp_path: Path) -> None:
    digest = b64encode(hashlib.sha256(b"weights").digest()).decode()
    headers = {"Repr-Digest": f"sha-256=:{digest}:"}
    whole = Portal(httpx.Response(200, content=b"weights", headers=headers))
    damaged = Portal(httpx.Response(200, content=b"weightz", headers=headers))

    assert whole.client().download("m", 1, "model.skops", tmp_path).read_bytes() == b"weights"
    with pytest.raises(gatehouse.ServerError, match="not those that were announced"):
        damaged.client().download("m", 1, "model.skops", tmp_path / "other")
    assert not list(tmp_path.glob("other*"))


def test_registering__which_is_the_same_twice__sends_its_whole_file_again(tmp_path: Path) -> None:
    (artifact := tmp_path / "model.bin").write_bytes(b"weights" * 1000)
    bodies: list[int] = []

    def answer(request: httpx.Request) -> httpx.Response:
        bodies.append(request.read().count(b"weights"))
        return httpx.Response(503)

    client = gatehouse.Client(
        "http://portal", "gh_x", retries=Retries(attempts=2, pause=0.0), transport=httpx.MockTransport(answer)
    )
    with pytest.raises(gatehouse.ServerError):
        client.register_version("m", artifact)
    assert bodies == [1000, 1000]


def test_answer__of_something_that_is_no_portal__is_a_server_error() -> None:
    with pytest.raises(gatehouse.ServerError, match="is this the portal"):
        Portal(httpx.Response(200, html="<h1>Welcome</h1>")).client().models()
    with pytest.raises(gatehouse.GatehouseError, match="HTTP 418"):
        Portal(httpx.Response(418, html="<h1>Tea</h1>")).client().models()


def test_next_page__at_another_address__does_not_get_the_token() -> None:
    hosts: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        hosts.append(request.url.host)
        more = "http://elsewhere/api/v1/models/?cursor=abc" if len(hosts) == 1 else None
        return httpx.Response(200, json={**PAGE, "next": more})

    gatehouse.Client("http://portal", "gh_x", transport=httpx.MockTransport(answer)).models()

    assert hosts == ["portal", "portal"]


def test_pauses__grow_and_heed_the_server() -> None:
    retries = Retries(pause=1.0)
    pauses = [retries.seconds(failures, None) for failures in (1, 2, 3)]

    assert all(low <= pause <= high for pause, (low, high) in zip(pauses, [(0.5, 1), (1, 2), (2, 4)], strict=True))
    assert retries.seconds(1, httpx.Response(503, headers={"Retry-After": "7"})) == 7.0
    assert retries.seconds(1, httpx.Response(503, headers={"Retry-After": "900"})) == 30.0
