"""Models elsewhere: a real HTTP server in a thread answers, well or badly; and who may be asked at all."""

import ipaddress
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from engines import external
from engines.external import Allowed, check_document
from engines.scoring import Scorer, Unscorable

DAY = timedelta(days=1)
Answer = Callable[[BaseHTTPRequestHandler, Any], None]


@contextmanager
def serving(answer: Answer, *, tls: ssl.SSLContext | None = None) -> Iterator[tuple[int, list[Any]]]:
    """A server on this machine; its port, and the questions that it got."""
    questions: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            questions.append((self.path, question))
            try:
                answer(self, question)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls:
        server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]  # a client that hangs up
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port, questions
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def reply(handler: BaseHTTPRequestHandler, content: bytes, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(content)), **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(content)


def tensor(values: Any, shape: list[int] | None = None, name: str = "p", datatype: str = "FP64") -> bytes:
    listed = list(values)
    output = {"name": name, "shape": shape or [len(listed)], "datatype": datatype, "data": listed}
    return json.dumps({"model_name": "late", "outputs": [output]}).encode()


def half_of_x(handler: BaseHTTPRequestHandler, question: Any) -> None:
    data = question["inputs"][0]["data"]
    reply(handler, tensor(None if each is None else each / 2 for each in data))


def saying(content: bytes, **more: Any) -> Answer:
    return lambda handler, _: reply(handler, content, **more)


@pytest.fixture
def document(tmp_path: Path) -> Callable[..., Path]:
    def write(**content: Any) -> Path:
        path = tmp_path / "external.json"
        path.write_text(json.dumps(content))
        return path

    return write


Write = Callable[..., Path]


def scorer(path: Path, port: int, *columns: str, **changes: Any) -> Scorer:
    hosts = [f"http://127.0.0.1:{port}=127.0.0.0/8"]
    return Scorer(path, **{"load_class": "external", "columns": columns or ("x",), "hosts": hosts, **changes})


def local(port: int) -> str:
    return f"http://127.0.0.1:{port}/v2/models/late"


X = pa.table({"x": [1.0, 0.5]})

# ---------------------------------------------------------------------- rows out, scores in


def test_predict__a_tensor_per_column__is_the_protocol(document: Write) -> None:
    with serving(half_of_x) as (port, questions), scorer(document(url=local(port)), port, "x", "shop") as asked:
        scored = asked.predict(pa.table({"shop": ["a", None], "x": [1.0, 0.5]}))
    assert scored.scores.tolist() == [0.5, 0.25]
    assert questions == [
        (
            "/v2/models/late/infer",
            {
                "inputs": [
                    {"name": "x", "shape": [2, 1], "datatype": "FP64", "data": [1.0, 0.5]},
                    {"name": "shop", "shape": [2, 1], "datatype": "BYTES", "data": ["a", ""]},
                ]
            },
        )
    ]


def test_predict__one_matrix__is_row_by_row(document: Write) -> None:
    with serving(saying(tensor([0.1, 0.9]))) as (port, questions):
        path = document(url=local(port), inputs="matrix", input="rows")
        with scorer(path, port, "x", "y") as asked:
            asked.predict(pa.table({"x": [1, 2], "y": [None, 4.0]}))
    assert questions[0][1]["inputs"] == [
        {"name": "rows", "shape": [2, 2], "datatype": "FP64", "data": [1.0, None, 2.0, 4.0]}
    ]


def test_predict__two_columns__the_second_is_the_score(document: Write) -> None:
    with serving(saying(tensor([0.9, 0.1, 0.3, 0.7], [2, 2]))) as (port, _):
        assert scorer(document(url=local(port)), port).predict(X).scores.tolist() == [0.1, 0.7]


def test_predict__named_output__is_the_score(document: Write) -> None:
    both = json.loads(tensor([1, 2], name="label", datatype="INT64"))
    both["outputs"] += json.loads(tensor([0.1, 0.7]))["outputs"]
    with serving(saying(json.dumps(both).encode())) as (port, _):
        assert scorer(document(url=local(port), output="p"), port).predict(X).scores.tolist() == [0.1, 0.7]
        with pytest.raises(Unscorable, match="2 times the tensor of numbers"):
            scorer(document(url=local(port)), port).predict(X)


def test_predict__score_that_is_no_number__is_an_error_of_its_row(document: Write) -> None:
    with serving(half_of_x) as (port, _):
        scored = scorer(document(url=local(port)), port).predict(pa.table({"x": [1.0, None, 3.0]}))
    assert scored.scores[[0, 2]].tolist() == [0.5, 1.5]
    assert np.isnan(scored.scores[1])
    assert set(scored.errors) == {1}


def test_predict__many_rows__are_asked_in_parts(document: Write) -> None:
    with serving(half_of_x) as (port, questions):
        scored = scorer(document(url=local(port)), port).predict(pa.table({"x": np.arange(2500.0)}))
    np.testing.assert_array_equal(scored.scores, np.arange(2500) / 2)
    assert len(questions) == 3


def test_time_rows__single_rows__are_timed_with_the_network(document: Write) -> None:
    with serving(half_of_x) as (port, _):
        times = scorer(document(url=local(port)), port).time_rows(X, budget=timedelta(seconds=10))
    assert len(times) == 2


def test_clock__rows_at_once__is_timed_with_the_network_and_a_null_answer_is_none(document: Write) -> None:
    with serving(half_of_x) as (port, _):
        asked = scorer(document(url=local(port)), port)
        assert (asked.clock(X) or 0) > 0
        assert asked.clock(pa.table({"x": [1.0, None]})) is None


# ---------------------------------------------------------------------- answers that are none


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<html>", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "no list of outputs"),
        (b'{"outputs": {}}', "no list of outputs"),
        (b'{"outputs": []}', "0 times"),
        (tensor([0.1]), "shape"),
        (tensor([0.1, 0.2], [2, 3]), "shape"),
        (tensor([0.1, 0.2, 0.3], [2]), "values|number"),
        (tensor(["a", "b"]), "no number"),
        (tensor([10**400, 0.5]), "no number"),
        (tensor([[0.1], [0.2, 0.3]]), "no number"),
        (tensor([0.1, 0.2], datatype="BYTES"), "0 times"),
    ],
)
def test_predict__wrong_answer__is_refused(document: Write, content: bytes, said: str) -> None:
    with serving(saying(content)) as (port, _), pytest.raises(Unscorable, match=said):
        scorer(document(url=local(port)), port).predict(X)


@pytest.mark.parametrize("status", [204, 301, 302, 307, 308, 400, 401, 500, 503])
def test_predict__another_status__is_refused_and_no_redirect_is_followed(document: Write, status: int) -> None:
    with (
        serving(half_of_x) as (target, reached),
        serving(saying(b"", status=status, Location=f"http://127.0.0.1:{target}/v2/models/late/infer")) as (port, _),
        pytest.raises(Unscorable, match=f"status {status}"),
    ):
        scorer(document(url=local(port)), port).predict(X)
    assert reached == []


def test_predict__slow_answer__is_cut_off(document: Write) -> None:
    with serving(lambda handler, _: time.sleep(1.5)) as (port, _):
        asked = scorer(document(url=local(port)), port, call_timeout=timedelta(milliseconds=200))
        began = time.monotonic()
        with pytest.raises(Unscorable, match="not answered"):
            asked.predict(X)
        assert time.monotonic() - began < 1.4


def drip(handler: BaseHTTPRequestHandler, question: Any) -> None:
    """A byte every now and then, so that no time-out between two bytes is ever met."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b" ")
        time.sleep(0.02)


def test_predict__answer_that_drips__is_cut_off(document: Write) -> None:
    with serving(drip) as (port, _):
        asked = scorer(document(url=local(port)), port, call_timeout=timedelta(milliseconds=300))
        began = time.monotonic()
        with pytest.raises(Unscorable, match="not answered"):
            asked.predict(X)
        assert time.monotonic() - began < 1.5


def flood(handler: BaseHTTPRequestHandler, question: Any) -> None:
    """An answer without an end."""
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b"0" * 65536)


def test_predict__answer_without_end__is_cut_off(document: Write) -> None:
    with serving(flood) as (port, _), pytest.raises(Unscorable, match="longer than"):
        scorer(document(url=local(port)), port).predict(X)


def test_predict__nobody_there__says_so(document: Write) -> None:
    with serving(half_of_x) as (port, _):
        pass
    with pytest.raises(Unscorable, match="can not be reached"):
        scorer(document(url=local(port)), port).predict(X)


def self_signed(folder: Path) -> ssl.SSLContext:
    """A certificate for this machine that nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + DAY)
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = builder.add_extension(alternative, critical=False).sign(key, hashes.SHA256())
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "server.pem").write_bytes(key.private_bytes(*form) + certificate.public_bytes(form[0]))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context


def test_predict__certificate_that_nobody_vouches_for__is_not_asked(document: Write, tmp_path: Path) -> None:
    with serving(half_of_x, tls=self_signed(tmp_path)) as (port, questions):
        path = document(url=f"https://127.0.0.1:{port}/v2/models/late")
        with pytest.raises(Unscorable, match="SSLCertVerificationError"):
            scorer(path, port, hosts=[f"https://127.0.0.1:{port}=127.0.0.0/8"]).predict(X)
    assert questions == []


def test_predict__name_that_changes_its_address__is_asked_at_the_one_that_was_checked(
    document: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: the second look-up of the name would lead elsewhere; there is none."""
    looked_up: list[str] = []
    really = socket.getaddrinfo

    def resolver(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host != "rebind.test":
            return really(host, port, *args, **kwargs)
        looked_up.append(host)
        return really("127.0.0.1" if len(looked_up) == 1 else "127.0.0.2", port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    with serving(half_of_x) as (port, questions):
        path = document(url=f"http://rebind.test:{port}/v2/models/late")
        scorer(path, port, hosts=[f"http://rebind.test:{port}=127.0.0.1/32"]).predict(X)
        with pytest.raises(Unscorable, match="may not be asked"):
            scorer(path, port, hosts=[f"http://rebind.test:{port}=127.0.0.1/32"]).predict(X)
    assert looked_up == ["rebind.test"] * 2  # once per question
    assert len(questions) == 1


# ---------------------------------------------------------------------- who may be asked

HOSTS = ["ml.example.com", "http://10.1.2.3:8080=10.0.0.0/8", "https://[2001:db8::5]:8443=2001:db8::/32"]


@pytest.mark.parametrize(
    "url",
    [
        "https://ml.example.com/v2/models/late",
        "https://ml.example.com:443/v2/models/late/versions/3",
        "http://10.1.2.3:8080/v2/models/late",
        "https://[2001:db8::5]:8443/v2/models/late",
    ],
)
def test_check_document__listed_host__is_accepted(url: str) -> None:
    assert check_document({"url": url}, allowed_hosts=HOSTS).way == "columns"


@pytest.mark.parametrize(
    "url",
    [
        "http://ml.example.com/v2/models/late",  # not encrypted
        "https://ml.example.com:8443/v2/models/late",  # another port
        "https://ml.example.com.evil.test/v2",
        "https://evil.test/ml.example.com",
        "https://ml.example.com./v2",
        "https://ml.example.com@evil.test/v2",
        "https://evil.test#ml.example.com",
        "https://evil.test\\@ml.example.com/v2",
        "https://ml.example.com%2eevil.test/",
        "https://ml.example.com/v2?x=1",
        "https://m\N{SMALL ROMAN NUMERAL FIFTY}.example.com/v2",
        "https://ml.example.com/../admin",
        "https://ml.example.com/v2/./x",
        "https://ml.example.com/v2/%2e%2e/admin",
        "https://ml.example.com/a b",
        "https://ml.example.com/a\r\nHost: evil.test",
        "https:ml.example.com",
        "https:///v2",
        "https://ml.example.com:99999/",
        "https://[::1",
        "file:///etc/passwd",
        "ftp://ml.example.com/",
        "gopher://ml.example.com/",
        "",
        "https://127.0.0.1/v2",
        "https://2130706433/v2",
        "https://0x7f000001/v2",
        "https://0x7f.1/v2",
        "https://0177.0.0.1/v2",
        "https://127.1/v2",
        "https://0/v2",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/v2",
        "https://[::ffff:127.0.0.1]/v2",
        "https://[::ffff:7f00:1]/v2",
        "https://[fd00:ec2::254]/v2",
        "https://localhost/v2",
        "http://10.1.2.4:8080/v2",
    ],
)
def test_check_document__any_other_address_or_spelling__is_refused(url: str) -> None:
    with pytest.raises(Unscorable):
        check_document({"url": url}, allowed_hosts=HOSTS)


def test_check_document__no_host_is_listed__nobody_is_asked() -> None:
    with pytest.raises(Unscorable, match="GATEHOUSE_EXTERNAL_HOSTS"):
        check_document({"url": "https://ml.example.com/v2"}, allowed_hosts=[])


@pytest.mark.parametrize(
    "more", [{"inputs": "both"}, {"inputs": 5}, {"output": ["p"]}, {"headers": "Authorization: x"}, {"input": None}]
)
def test_check_document__what_is_not_understood__is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(Unscorable):
        check_document({"url": "https://ml.example.com/v2", **more}, allowed_hosts=HOSTS)


@pytest.mark.parametrize(
    "host",
    ["localhost", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0", "127.0.0.1", "::1", "::ffff:127.0.0.1"],
)
def test_predict__listed_name_that_leads_home__is_not_asked(document: Write, host: str) -> None:
    """Even the operator's own list does not open the way to this machine, in whatever spelling it is written."""
    allowed = Allowed("https", host, 443, None)
    with pytest.raises(Unscorable, match=r"may not be asked|not known"):
        external._checked_address(allowed)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.100.100.200",
        "169.254.169.254",
        "168.63.129.16",
        "192.0.0.192",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
        "::",
        "::1",
        "fe80::1",
        "fd00:ec2::254",
        "ff02::1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::a9fe:a9fe",
        "2002:7f00:1::",
        "2001:0:7f00:1::",
    ],
)
def test_covers__address_that_is_not_public__is_refused(address: str) -> None:
    assert not Allowed("https", "ml.example.com", 443, None).covers(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "::ffff:93.184.216.34"])
def test_covers__public_address__is_accepted(address: str) -> None:
    assert Allowed("https", "ml.example.com", 443, None).covers(ipaddress.ip_address(address))


def test_covers__listed_network__accepts_its_own_addresses_only_and_never_the_metadata() -> None:
    inside = Allowed.parse("http://ml.internal:8080=10.0.0.0/8")
    assert inside.covers(ipaddress.ip_address("10.9.8.7"))
    assert inside.covers(ipaddress.ip_address("::ffff:10.9.8.7"))
    assert not inside.covers(ipaddress.ip_address("93.184.216.34"))
    assert not Allowed.parse("http://x=169.254.0.0/16").covers(ipaddress.ip_address("169.254.169.254"))


@pytest.mark.parametrize("entry", ["http://ml.internal", "ftp://ml", "ml/path", "a@b", "http://ml=10.0.0.1/8", ""])
def test_parse__entry_that_is_no_host__is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="ml"):
        Allowed.parse(entry)


def test_scorer__document_that_is_none__is_refused(tmp_path: Path) -> None:
    for content in (b"\x80\x05.", b"[]", b"[" * 70_000, b'{"url": "' + b"x" * 70_000 + b'"}'):
        (tmp_path / "external.json").write_bytes(content)
        with pytest.raises(Unscorable):
            scorer(tmp_path / "external.json", 1)
