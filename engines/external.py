"""Score by asking an endpoint elsewhere: the Open Inference Protocol, version 2, over REST with JSON tensors.

The artifact of an external model is a JSON document::

    {"url": "https://scorer.example.com/v2/models/late-arrival/versions/3", "inputs": "columns"}

``<url>/infer`` is asked. ``inputs`` is ``columns`` (a tensor per column, shape [rows, 1]) or ``matrix`` (one tensor of
all columns; its name is ``input``, by default ``input-0``). ``output`` names the tensor with the score; without it the
answer must have only one tensor of numbers. Of two columns the second is the score. Numbers travel as FP64 with null
for a missing one, text as BYTES with "" for a missing one.

Which hosts may be asked is the operator's choice (``GATEHOUSE_EXTERNAL_HOSTS``), never the document's: a server that
asks addresses for strangers is their way into its network. Entries are ``host`` (https, port 443, and the host's
address must be public) or, in full, ``http://host:port=10.1.0.0/16``: another scheme or port, and the only addresses
accepted. The name is resolved once per question, every address is checked, and the connection goes to a checked
address; redirects are not followed, answers are of bounded length and time. Sources: OWASP's SSRF prevention cheat
sheet; the IANA special-purpose registries as Python's ``ipaddress`` has them.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engines.skops_types import Unscorable

MAX_DOCUMENT_BYTES = 64 * 1024
MAX_URL = 500
ROWS_PER_QUESTION = 1000
MAX_ANSWER_BYTES = 4 * 2**20
CONNECT_SECONDS = 5.0
FIELDS = {"url", "inputs", "input", "output"}
WAYS = ("columns", "matrix")
_HOST = re.compile(r"(?!-)[a-z0-9-]{1,63}(?:\.(?!-)[a-z0-9-]{1,63})*")
_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)*")
_NUMBERS = ("FP64", "FP32", "FP16", "INT64", "INT32", "INT16", "INT8", "UINT64", "UINT32", "UINT16", "UINT8", "BOOL")

Floats = npt.NDArray[np.float64]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

METADATA = frozenset(
    ipaddress.ip_address(each) for each in ("168.63.129.16", "169.254.169.254", "fd00:ec2::254", "192.0.0.192")
)
"""Addresses at which clouds tell a machine its credentials; the first is in no special-purpose registry."""
_NOT_PUBLIC: tuple[Network, ...] = tuple(
    ipaddress.ip_network(each)
    for each in (
        # IPv6 that carries an IPv4 address: NAT64, 6to4, Teredo, compatible
        *("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/23", "::/96"),
        # special by today's registries, not yet by every Python's
        *("192.0.0.0/24", "192.88.99.0/24", "3fff::/20", "5f00::/16"),
    )
)


# ---------------------------------------------------------------------- who may be asked


@dataclass(frozen=True)
class Allowed:
    """A host that may be asked, and the addresses that it may have (None: public ones)."""

    scheme: str
    host: str
    port: int
    network: Network | None

    @classmethod
    def parse(cls, entry: str) -> Allowed:
        """An entry of the setting. Raises ValueError with what is wrong."""
        place, _, range_ = entry.strip().partition("=")
        url = urlsplit(place if "://" in place else f"https://{place}")
        try:
            port = url.port or {"https": 443, "http": 80}[url.scheme]
            network = ipaddress.ip_network(range_) if range_ else None
        except (KeyError, ValueError) as error:
            raise ValueError(f"{entry!r} is no host such as 'ml.example.com' or 'http://ml:8080=10.0.0.0/8'") from error
        if not url.hostname or url.path or url.query or url.fragment or "@" in url.netloc:
            raise ValueError(f"{entry!r} must be a host only, such as 'ml.example.com' or 'http://ml:8080=10.0.0.0/8'")
        if url.scheme == "http" and network is None:
            raise ValueError(f"{entry!r} is asked without encryption: say in which network it is, with '=10.0.0.0/8'")
        return cls(url.scheme, url.hostname, port, network)

    def covers(self, address: Address) -> bool:
        """Whether the host may be asked at this address."""
        plain = _unmapped(address)
        if plain in METADATA:
            return False
        if self.network is not None:
            return plain in self.network
        return _is_public(plain)


def _unmapped(address: Address) -> Address:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _is_public(address: Address) -> bool:
    special = address.is_multicast or address.is_reserved or any(address in network for network in _NOT_PUBLIC)
    return address.is_global and not special


@dataclass(frozen=True)
class Document:
    """What an external model's artifact says."""

    allowed: Allowed
    path: str
    way: str
    input: str
    output: str


def check_document(document: Mapping[str, Any], *, allowed_hosts: Sequence[str]) -> Document:
    """The document understood. Raises Unscorable with what is wrong; resolves no name and asks nobody."""
    unknown = sorted(set(document) - FIELDS)
    if unknown:
        raise Unscorable(f"It says what is not understood: {', '.join(map(str, unknown))[:100]}.")
    if not all(isinstance(value, str) for value in document.values()):
        raise Unscorable("Every field of it must be a text.")
    way = document.get("inputs", "columns")
    if way not in WAYS:
        raise Unscorable(f"inputs is 'columns' or 'matrix', not {way!r}.")
    url = _url(document.get("url", ""))
    allowed = _allowed(url, allowed_hosts)
    return Document(allowed, url.path, way, document.get("input", "input-0"), document.get("output", ""))


def _url(text: str) -> SplitResult:
    """The address, written in the one way in which nothing about it can be read differently by someone else."""
    if len(text) > MAX_URL or not text.isascii() or not text.isprintable() or set(text) & set(" \\@?#%"):
        raise Unscorable("url must be plain: a scheme, a host, a path, nothing encoded and nothing else.")
    try:
        url = urlsplit(text)
        _ = url.port
    except ValueError as error:
        raise Unscorable("url is not an address.") from error
    if url.scheme not in ("https", "http") or not url.hostname:
        raise Unscorable("url must begin with https:// and name a host.")
    dots = any(set(part) == {"."} for part in url.path.split("/") if part)
    if not _PATH.fullmatch(url.path) or dots:
        raise Unscorable("The path of url may hold letters, digits, '-', '.', '_', '~' and '/'.")
    if not _is_canonical(url.hostname):
        raise Unscorable(f"{url.hostname!r} is neither a host name nor an address as it is usually written.")
    return url


def _is_canonical(host: str) -> bool:
    """A host name, or an address in its usual spelling: not 2130706433, 0x7f.1 or 127.1."""
    try:
        return str(ipaddress.ip_address(host)) == host
    except ValueError:
        last = host.rsplit(".", 1)[-1]
        looks_like_number = last.isdigit() or re.fullmatch(r"0x[0-9a-f]*", last) is not None
        return _HOST.fullmatch(host) is not None and not looks_like_number


def _allowed(url: SplitResult, allowed_hosts: Sequence[str]) -> Allowed:
    port = url.port or {"https": 443, "http": 80}[url.scheme]
    for entry in allowed_hosts:
        try:
            each = Allowed.parse(entry)
        except ValueError as error:
            raise Unscorable(f"GATEHOUSE_EXTERNAL_HOSTS is wrong: {error}.") from error
        if (each.scheme, each.host, each.port) == (url.scheme, url.hostname, port):
            return each
    raise Unscorable(
        f"{url.scheme}://{url.hostname}:{port} is not among the hosts that may be asked (GATEHOUSE_EXTERNAL_HOSTS)."
    )


# ---------------------------------------------------------------------- asking


class Endpoint:
    """An external model. Every question is a connection of its own, to an address that was just checked."""

    def __init__(
        self,
        path: Path,
        *,
        columns: tuple[str, ...],
        allowed_hosts: Sequence[str],
        timeout: timedelta,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
    ) -> None:
        self._document = check_document(_read(path), allowed_hosts=allowed_hosts)
        self._columns = columns
        self._seconds = timeout.total_seconds()
        self._max_answer = max_answer_bytes
        self._open = True

    @property
    def is_alive(self) -> bool:
        return self._open

    def close(self) -> None:
        self._open = False

    def predict(self, table: pa.Table) -> tuple[Floats, dict[int, str]]:
        """Scores of all rows; a row whose score is null or no finite number is an error of that row.

        Raises Unscorable when the endpoint does not answer as the protocol says.
        """
        ends = time.monotonic() + self._seconds
        scores = np.full(len(table), np.nan)
        for start in range(0, len(table), ROWS_PER_QUESTION):
            part = table.slice(start, ROWS_PER_QUESTION)
            scores[start : start + len(part)] = self._ask(part, seconds=ends - time.monotonic())
        failed = np.flatnonzero(~np.isfinite(scores))
        scores[failed] = np.nan
        return scores, dict.fromkeys(failed.tolist(), "the endpoint's answer is not a finite number")

    def time_rows(self, table: pa.Table, *, seconds: float) -> Floats:
        times: list[float] = []
        ends = time.monotonic() + seconds
        for row in range(len(table)):
            if time.monotonic() >= ends:
                break
            milliseconds = self.clock(table.slice(row, 1))
            if milliseconds is not None:
                times.append(milliseconds)
        return np.asarray(times, dtype=np.float64)

    def clock(self, table: pa.Table) -> float | None:
        began = time.perf_counter()
        _, errors = self.predict(table)
        return None if errors else (time.perf_counter() - began) * 1000

    def _ask(self, table: pa.Table, *, seconds: float) -> Floats:
        question = json.dumps({"inputs": self._tensors(table)}, allow_nan=False).encode()
        answer = self._post(question, seconds=seconds)
        return _scores(answer, rows=len(table), output=self._document.output)

    def _tensors(self, table: pa.Table) -> list[dict[str, Any]]:
        rows = len(table)
        columns = {name: _column(table.column(name), name) for name in self._columns}
        if self._document.way == "columns":
            return [
                {"name": name, "shape": [rows, 1], "datatype": kind, "data": values}
                for name, (kind, values) in columns.items()
            ]
        texts = [name for name, (kind, _) in columns.items() if kind != "FP64"]
        if texts:
            raise Unscorable(f'{texts[0]} is no number: a matrix holds numbers only; say "inputs": "columns".')
        flat = [value for row in zip(*(values for _, values in columns.values()), strict=True) for value in row]
        shape = [rows, len(columns)]
        return [{"name": self._document.input, "shape": shape, "datatype": "FP64", "data": flat}]

    def _post(self, question: bytes, *, seconds: float) -> Any:
        if seconds <= 0:
            raise Unscorable(f"The endpoint had not answered after {self._seconds:.0f} s.")
        host = self._document.allowed
        raw, connection = _connection(host, seconds=seconds)
        # A time-out of the socket counts from byte to byte: an answer that drips would never meet it.
        watch = threading.Timer(seconds, _cut, [raw])
        watch.daemon = True
        began = time.monotonic()
        watch.start()
        try:
            connection.request("POST", f"{self._document.path}/infer", question, _HEADERS)
            response = connection.getresponse()
            if response.status != http.client.OK:
                raise Unscorable(f"The endpoint answered with status {response.status}; 200 is a score.")
            content = response.read(self._max_answer + 1)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if isinstance(error, TimeoutError) or time.monotonic() - began >= seconds:
                raise Unscorable(f"The endpoint had not answered after {self._seconds:.0f} s.") from error
            raise Unscorable(f"The endpoint can not be asked: {type(error).__name__}.") from error
        finally:
            watch.cancel()
            connection.close()
        if time.monotonic() - began >= seconds:
            raise Unscorable(f"The endpoint had not answered after {self._seconds:.0f} s.")
        if len(content) <= self._max_answer and response.length:
            raise Unscorable("The endpoint's answer is shorter than it said.")
        if len(content) > self._max_answer:
            raise Unscorable(f"The endpoint's answer is longer than {self._max_answer} bytes.")
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            raise Unscorable("The endpoint's answer is not JSON.") from error


_HEADERS = {"Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "identity"}


def _read(path: Path) -> Mapping[str, Any]:
    with path.open("rb") as file:
        content = file.read(MAX_DOCUMENT_BYTES + 1)
    try:
        document = json.loads(content) if len(content) <= MAX_DOCUMENT_BYTES else None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise Unscorable("This is not the document of an external model: a short JSON object.")
    return document


def _cut(raw: socket.socket) -> None:
    """End a connection that somebody else waits on."""
    with suppress(OSError):  # it has ended by itself
        raw.shutdown(socket.SHUT_RDWR)


def _connection(host: Allowed, *, seconds: float) -> tuple[socket.socket, http.client.HTTPConnection]:
    """A connection to a checked address of the host, whose certificate must be the host's."""
    limit = min(CONNECT_SECONDS, seconds)
    address = str(_checked_address(host))
    connection = http.client.HTTPConnection(host.host, host.port)
    try:
        raw = socket.create_connection((address, host.port), timeout=limit)
        if host.scheme == "https":
            raw = _encrypted(raw, host.host)
    except OSError as error:
        raise Unscorable(f"The endpoint can not be reached: {type(error).__name__}.") from error
    raw.settimeout(seconds)
    connection.sock, connection.auto_open = raw, 0  # it never connects by itself, to an address that nobody checked
    return raw, connection


def _encrypted(raw: socket.socket, host: str) -> ssl.SSLSocket:
    """The connection under TLS. Raises OSError (ssl.SSLError) for a certificate that is not the host's."""
    try:
        return ssl.create_default_context().wrap_socket(raw, server_hostname=host)
    except OSError:
        raw.close()
        raise


def _checked_address(host: Allowed) -> Address:
    """An address of the host. Raises Unscorable unless all its addresses are such as it may have."""
    try:
        found = socket.getaddrinfo(host.host, host.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unscorable(f"The host {host.host} is not known.") from error
    addresses = [ipaddress.ip_address(str(each[4][0]).partition("%")[0]) for each in found]
    if not addresses or not all(host.covers(each) for each in addresses):
        raise Unscorable(f"The host {host.host} has an address that may not be asked.")
    return addresses[0]


def _column(column: pa.ChunkedArray, name: str) -> tuple[str, list[Any]]:
    """A column as the protocol's kind and values."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return "BYTES", column.fill_null("").to_pylist()
    try:
        values = column.cast(pa.float64()).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise Unscorable(f"{name} holds {column.type}, which can not be sent as a number or a text.") from error
    return "FP64", [value if value is not None and np.isfinite(value) else None for value in values]


def _scores(answer: Any, *, rows: int, output: str) -> Floats:
    """The scores in an answer. Raises Unscorable unless it is what the protocol says, row for row."""
    listed = answer.get("outputs") if isinstance(answer, dict) else None
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise Unscorable("The endpoint's answer holds no list of outputs.")
    numbers = [each for each in listed if each.get("datatype") in _NUMBERS]
    found = [each for each in numbers if each.get("name") == output] if output else numbers
    if len(found) != 1:
        what = f"output {output!r}" if output else "tensor of numbers"
        raise Unscorable(f"The endpoint's answer holds {len(found)} times the {what}; once is expected.")
    shape, data = found[0].get("shape"), found[0].get("data")
    if shape not in ([rows], [rows, 1], [rows, 2]):
        raise Unscorable(f"The endpoint answered a tensor of shape {str(shape)[:40]} for {rows} rows.")
    try:
        values = np.asarray(data, dtype=np.float64).reshape(rows, -1)
    except (ValueError, TypeError, OverflowError) as error:
        raise Unscorable("The endpoint's answer holds what is no number.") from error
    if values.size != int(np.prod(shape)):
        raise Unscorable(f"The endpoint answered {values.size} values for a tensor of shape {shape}.")
    return values[:, -1]
