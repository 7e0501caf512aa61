"""A throwaway nginx for tests, in a folder of its own: it includes what the backend writes, and serves the versions.

The versions' servers are part of the same nginx: each answers with its own name, and fails where the path says so.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

GRACE_SECONDS = 20
MISSING = "NOT TESTED ON NGINX: there is no nginx here (Debian and Ubuntu: apt-get install nginx-light)"


def nginx_program() -> str | None:
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def is_required() -> bool:
    """In CI a missing nginx fails instead of skipping."""
    return os.environ.get("CI") == "true" or os.environ.get("GATEHOUSE_REQUIRE_NGINX") == "1"


@dataclass(frozen=True)
class RunningNginx:
    """``front`` is free for an endpoint to listen on; ``versions`` says where each version answers."""

    command: tuple[str, ...]
    folder: Path
    logs: Path
    front: str
    versions: dict[str, str]
    process: subprocess.Popen[bytes]
    configuration: Path


@contextmanager
def running_nginx(program: str, place: Path, versions: Sequence[str]) -> Iterator[RunningNginx]:
    """An nginx whose upstreams are these versions. Raises TimeoutError when it does not start."""
    folder, logs = place / "gatehouse.d", place / "logs"
    folder.mkdir(parents=True)
    logs.mkdir()
    front, *addresses = _free_addresses(len(versions) + 1)
    answering = dict(zip(versions, addresses, strict=True))
    configuration = place / "nginx.conf"
    configuration.write_text(_configuration(place, folder, answering))
    command = (program, "-p", str(place), "-c", str(configuration))
    with subprocess.Popen([*command, "-g", "daemon off;"], stderr=subprocess.DEVNULL) as process:
        try:
            for address in addresses:
                _wait_for(address)
            yield RunningNginx(command, folder, logs, front, answering, process, configuration)
        finally:
            process.terminate()
            process.wait(GRACE_SECONDS)


def _configuration(place: Path, folder: Path, versions: dict[str, str]) -> str:
    servers = "\n".join(
        f"""    server {{
        listen {address};
        access_log off;
        default_type text/plain;
        add_header X-Gatehouse-Score 0.25;
        location / {{ return 200 {version}; }}
        location /fails/{version} {{ return 503; }}
        location /hangs-up/{version} {{ return 444; }}
        location /refuses/{version} {{ return 422; }}
    }}"""
        for version, address in versions.items()
    )
    user = "user root;" if os.geteuid() == 0 else ""
    return f"""{user}
pid {place}/nginx.pid;
error_log {place}/error.log;
worker_processes 2;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
{servers}
    include {folder}/*.conf;
}}
"""


def _free_addresses(count: int) -> list[str]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    return addresses


def wait_for_lines(log: Path, count: int) -> None:
    """Until nginx has logged so many requests: it does so after it has answered."""
    deadline = time.monotonic() + GRACE_SECONDS
    while not log.exists() or log.read_bytes().count(b"\n") < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"nginx did not log {count} requests in {log}")
        time.sleep(0.02)


def _wait_for(address: str) -> None:
    host, port = address.rsplit(":", 1)
    deadline = time.monotonic() + GRACE_SECONDS
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise TimeoutError(f"nginx did not open {address}") from None
            time.sleep(0.02)
