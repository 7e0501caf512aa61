"""What nginx itself does with the configuration that it is given, beyond the contract of all backends."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engines.traffic.__main__ import main
from engines.traffic.document import NginxTraffic
from engines.traffic.nginx import NginxBackend
from engines.traffic.nginx_config import Told, configuration, told_by
from engines.traffic.port import OlderFence, Refused, Split, Unsupported
from tests.nginx_server import RunningNginx, wait_for_lines

ENDPOINT = "delay-warning"
HALF = Split("delay-v3", "delay-v4", 0.5, "5a17", 2)


def backend_of(nginx: RunningNginx, **more: Any) -> NginxBackend:
    document = NginxTraffic(backend="nginx", listen=nginx.front, **{"upstreams": nginx.versions, **more})
    return NginxBackend(document, nginx.folder, nginx.logs, nginx.command)


def routed(nginx: RunningNginx, split: Split = HALF, **more: Any) -> NginxBackend:
    """A backend that has applied ``split`` at fence 1."""
    backend = backend_of(nginx, **more)
    backend.apply(backend.plan(ENDPOINT, split, None), 1)
    return backend


def ask(
    nginx: RunningNginx, path: str = "/", *, method: str = "POST", source: str = "127.0.0.1", **headers: str
) -> tuple[int, str]:
    host, port = nginx.front.rsplit(":", 1)
    client = http.client.HTTPConnection(host, int(port), timeout=30, source_address=(source, 0))
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    client.request(method, path, body=b'{"x": 1}' if method == "POST" else None, headers=named)
    answer = client.getresponse()
    text = answer.read().decode()
    client.close()
    return answer.status, text


def rows(backend: NginxBackend, count: int = 1) -> Sequence[Mapping[str, Any]]:
    """What was logged, once so much is there."""
    wait_for_lines(backend.logs / f"{ENDPOINT}.log", count)
    return backend.read(ENDPOINT, "").rows


def test_candidate__fails__champion_answers_and_it_counts_as_the_candidates_error(nginx: RunningNginx) -> None:
    backend = routed(nginx, replace(HALF, share=1.0))
    assert ask(nginx, "/fails/delay-v4", X_Entity="N1", X_Request_Id="r-1") == (200, "delay-v3")
    (row,) = rows(backend)
    assert (row["arm"], row["answered_by"], row["status"], row["error"]) == ("canary", "champion", "error", "HTTP 503")
    assert (row["request_id"], row["entity"], row["version"]) == ("r-1", "N1", 4)


def test_candidate__hangs_up__champion_answers(nginx: RunningNginx) -> None:
    backend = routed(nginx, replace(HALF, share=1.0))
    assert ask(nginx, "/hangs-up/delay-v4", X_Entity="N1") == (200, "delay-v3")
    assert rows(backend)[0]["error"] == "HTTP 502"


def test_candidate__takes_too_long__champion_answers(nginx: RunningNginx) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and never says anything
        upstreams = {**nginx.versions, "delay-v4": f"127.0.0.1:{silent.getsockname()[1]}"}
        backend = routed(nginx, replace(HALF, share=1.0), upstreams=upstreams, canary_timeout_ms=50)
        assert ask(nginx, X_Entity="N1") == (200, "delay-v3")
    (row,) = rows(backend)
    assert row["error"] == "HTTP 504"
    assert row["latency_ms"] >= 50


def test_candidate__refuses_the_request__is_its_answer_and_its_error(nginx: RunningNginx) -> None:
    backend = routed(nginx, replace(HALF, share=1.0))
    assert ask(nginx, "/refuses/delay-v4", X_Entity="N1")[0] == 422
    (row,) = rows(backend)
    assert (row["answered_by"], row["status"]) == ("canary", "error")


def test_champion__fails__nobody_hides_it(nginx: RunningNginx) -> None:
    backend = routed(nginx, Split("delay-v3"))
    assert ask(nginx, "/fails/delay-v3", X_Entity="N1")[0] == 503
    (row,) = rows(backend)
    assert (row["arm"], row["status"]) == ("champion", "error")


def test_request__without_an_entity__is_spread_and_sticks_to_nothing(nginx: RunningNginx) -> None:
    backend = routed(nginx)
    assert {ask(nginx)[1] for _ in range(40)} == {"delay-v3", "delay-v4"}
    found = rows(backend, 40)
    assert {row["entity"] for row in found} == {None}
    assert len({row["request_id"] for row in found}) == 40


def test_answer__score_in_a_header__is_in_the_row(nginx: RunningNginx) -> None:
    backend = routed(nginx)
    ask(nginx, X_Entity="N1")
    assert rows(backend)[0]["score"] == 0.25


def test_log__no_prediction_asked__has_no_row(nginx: RunningNginx) -> None:
    backend = routed(nginx)
    ask(nginx, "/v2/health/ready", method="GET")
    ask(nginx, X_Request_Id="asked-later")
    assert [row["request_id"] for row in rows(backend)] == ["asked-later"]


def test_entity__strange_characters__is_logged_as_it_was_sent(nginx: RunningNginx) -> None:
    backend = routed(nginx)
    ask(nginx, X_Entity='a "b" \\ {c} ; $host')
    assert rows(backend)[0]["entity"] == 'a "b" \\ {c} ; $host'


def test_arms__many_entities__are_those_of_murmurhash(nginx: RunningNginx) -> None:
    routed(nginx, replace(HALF, share=0.25))
    below = int(0xFFFFFFFF * 2500 / 10000)
    for number in range(200):
        expected = "delay-v4" if murmurhash2(f"5a17:E{number}".encode()) < below else "delay-v3"
        assert ask(nginx, X_Entity=f"E{number}")[1] == expected


def murmurhash2(data: bytes) -> int:
    """Austin Appleby's MurmurHash2, 32 bits, seed 0."""
    multiplier, words = 0x5BD1E995, len(data) // 4
    found = len(data)
    for place in range(words):
        word = int.from_bytes(data[4 * place : 4 * place + 4], "little") * multiplier & 0xFFFFFFFF
        word = (word ^ word >> 24) * multiplier & 0xFFFFFFFF
        found = found * multiplier & 0xFFFFFFFF ^ word
    if tail := data[4 * words :]:
        found = (found ^ int.from_bytes(tail, "little")) * multiplier & 0xFFFFFFFF
    found = (found ^ found >> 13) * multiplier & 0xFFFFFFFF
    return found ^ found >> 15


def test_kill_switch__pulled__no_version_answers(nginx: RunningNginx) -> None:
    backend = routed(nginx)
    stopped = Split("delay-v3", stopped=True, fallback=0.2)
    backend.apply(backend.plan(ENDPOINT, stopped, HALF), 2)
    status, text = ask(nginx, X_Entity="N1")
    assert status == 503
    assert json.loads(text) == {"error": "stopped by its product owner", "fallback": 0.2}
    (row,) = rows(backend)
    assert (row["arm"], row["status"], row["version"]) == ("fallback", "fallback", None)


def test_apply__nginx_refuses_the_configuration__the_old_one_stays(nginx: RunningNginx) -> None:
    backend = routed(nginx)
    before = (nginx.folder / f"{ENDPOINT}.conf").read_text()
    (nginx.folder / "somebody-else.conf").write_text("nonsense;")
    with pytest.raises(Refused, match="nonsense"):
        backend.apply(backend.plan(ENDPOINT, replace(HALF, share=0.9), HALF), 2)
    assert (nginx.folder / f"{ENDPOINT}.conf").read_text() == before
    assert backend.observed(ENDPOINT).fence == 1


def test_apply__first_one_is_refused__leaves_nothing(nginx: RunningNginx) -> None:
    backend = backend_of(nginx, upstreams={}, upstream="v{number}.nowhere.invalid:80")
    with pytest.raises(Refused, match="host not found"):
        backend.apply(backend.plan(ENDPOINT, HALF, None), 1)
    assert not (nginx.folder / f"{ENDPOINT}.conf").exists()


def test_apply__nginx_is_not_running__is_refused(nginx: RunningNginx) -> None:
    nginx.process.terminate()
    nginx.process.wait()
    backend = backend_of(nginx)
    with pytest.raises(Refused, match="reload"):
        backend.apply(backend.plan(ENDPOINT, HALF, None), 1)


def test_apply_and_abort__no_such_folder__are_refused(tmp_path: Path) -> None:
    document = NginxTraffic(backend="nginx", listen="127.0.0.1:1", upstream="v{number}.internal:80")
    backend = NginxBackend(document, tmp_path / "nowhere", tmp_path)
    with pytest.raises(Refused, match="can not be written"):
        backend.apply(backend.plan(ENDPOINT, HALF, None), 1)
    with pytest.raises(Refused, match="can not be written"):
        backend.abort(ENDPOINT, 1)


def test_abort__nginx_is_not_running__it_will_start_without_the_candidate(nginx: RunningNginx) -> None:
    backend = routed(nginx)
    nginx.process.terminate()
    nginx.process.wait()
    with pytest.raises(Refused, match="off in the file"):
        backend.abort(ENDPOINT, 1)
    told = told_by((nginx.folder / f"{ENDPOINT}.conf").read_text())
    assert told is not None
    assert told.split.weights == {"delay-v3": 1.0}


def test_abort__apply_is_testing_its_configuration__apply_gives_up(nginx: RunningNginx, tmp_path: Path) -> None:
    """The apply waits in ``nginx -t`` until the abort has been asked for."""
    backend = routed(nginx)
    plan = backend.plan(ENDPOINT, replace(HALF, share=0.9), HALF)
    slow = tmp_path / "slow-nginx"
    waiting = f"while [ ! -e {nginx.folder}/{ENDPOINT}.abort ]; do touch {tmp_path}/testing; sleep 0.02; done"
    slow.write_text(f'#!/bin/sh\ncase " $* " in *" -t "*) {waiting};; esac\nexec "$@"\n')
    slow.chmod(0o755)
    held_up = replace(backend, command=(str(slow), *nginx.command))
    refused: list[str] = []

    def apply() -> None:
        try:
            held_up.apply(plan, 2)
        except OlderFence as refusal:
            refused.append(str(refusal))

    applying = threading.Thread(target=apply)
    applying.start()
    while not (tmp_path / "testing").exists():
        applying.join(0.01)
    assert backend.abort(ENDPOINT, 2).changed
    applying.join()
    assert refused == ["The candidate was taken off at fence 2."]
    assert {ask(nginx, X_Entity=f"N{number}")[1] for number in range(30)} == {"delay-v3"}


def test_abort__then_the_route_without_the_candidate__is_done_already(nginx: RunningNginx) -> None:
    backend = routed(nginx)
    backend.abort(ENDPOINT, 2)
    assert not backend.apply(backend.plan(ENDPOINT, Split("delay-v3"), HALF), 2).changed


def test_abort__nothing_of_the_portal_is_needed__by_the_file_alone(nginx: RunningNginx) -> None:
    routed(nginx)
    unknowing = NginxTraffic(backend="nginx", listen="127.0.0.1:1")
    NginxBackend(unknowing, nginx.folder, nginx.logs, nginx.command).abort(ENDPOINT, 1)
    assert {ask(nginx, X_Entity=f"N{number}")[1] for number in range(30)} == {"delay-v3"}


def test_status__asked_from_elsewhere__is_not_there(nginx: RunningNginx) -> None:
    routed(nginx)
    assert ask(nginx, "/.gatehouse", method="GET")[0] == 200
    assert ask(nginx, "/.gatehouse", method="GET", source="127.0.0.2")[0] == 404


def test_observed__never_told__is_nothing(nginx: RunningNginx) -> None:
    assert backend_of(nginx).observed(ENDPOINT).split is None


def test_observed__another_endpoint_answers_there__is_refused(nginx: RunningNginx) -> None:
    """Two files with one address: nginx warns, and takes the first."""
    backend = routed(nginx)
    with pytest.raises(Refused, match="does not do so"):
        backend.apply(backend.plan("z-last", HALF, None), 1)
    with pytest.raises(Refused, match="does not answer"):
        backend.observed("z-last")
    assert backend.observed(ENDPOINT).split == HALF


def test_observed__nginx_does_not_answer__is_refused(nginx: RunningNginx) -> None:
    backend = routed(nginx)
    nginx.process.terminate()
    nginx.process.wait()
    with pytest.raises(Refused, match="does not answer"):
        backend.observed(ENDPOINT)


def test_plan__mirror_or_too_small_a_share__is_unsupported(nginx: RunningNginx) -> None:
    backend = backend_of(nginx)
    with pytest.raises(Unsupported, match="keep-alive"):
        backend.plan(ENDPOINT, replace(HALF, mirror_to="delay-v5"), None)
    with pytest.raises(Unsupported, match=r"0\.01%"):
        backend.plan(ENDPOINT, replace(HALF, share=0.00002), None)


def test_plan__rows_come_from_the_intake__everything_may_be_judged(nginx: RunningNginx) -> None:
    assert backend_of(nginx).plan(ENDPOINT, HALF, None).warnings
    assert not backend_of(nginx, rows="intake").plan(ENDPOINT, HALF, None).warnings


def told(**changes: Any) -> Told:
    document = NginxTraffic(backend="nginx", listen="127.0.0.1:8701", upstream="v{number}.internal:80")
    usual = {"endpoint": ENDPOINT, "fence": 3, "aborted": False, "split": HALF, "log": Path("/l/a.log")}
    return Told(**{"document": document, **usual, **changes})


def test_configuration__read_again__tells_the_same() -> None:
    assert told_by(configuration(told())) == told()


@pytest.mark.parametrize(
    "changes",
    [
        {"endpoint": "../etc/passwd"},
        {"endpoint": "a;b"},
        {"split": replace(HALF, salt='"; }')},
        {"split": replace(HALF, candidate="delay-v4; return 200")},
        {"log": Path("/l/a b; rewrite")},
    ],
)
def test_configuration__words_with_a_meaning_for_nginx__are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"name|salt|path"):
        told(**changes)


def test_configuration__endpoints_alike_but_for_a_dash__have_variables_of_their_own() -> None:
    dashed, underlined = configuration(told(endpoint="a-b")), configuration(told(endpoint="a_b"))
    assert "$gh_a_db_arm" in dashed
    assert "$gh_a_db_arm" not in underlined


def test_command__abort__takes_the_candidate_off_without_the_portal(
    nginx: RunningNginx, capsys: pytest.CaptureFixture[str]
) -> None:
    routed(nginx)
    options = ("--folder", str(nginx.folder), "--nginx", " ".join(nginx.command))
    assert main(["show", ENDPOINT, *options]) == 0
    assert "delay-v4: 0.5 of the entities" in capsys.readouterr().out
    assert main(["abort", ENDPOINT, *options]) == 0
    assert "delay-v3 answers everybody" in capsys.readouterr().out
    assert {ask(nginx, X_Entity=f"N{number}")[1] for number in range(30)} == {"delay-v3"}


def test_command__nothing_was_told__says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["abort", ENDPOINT, "--folder", str(tmp_path)]) == 1
    assert "is no file that Gatehouse wrote" in capsys.readouterr().err
