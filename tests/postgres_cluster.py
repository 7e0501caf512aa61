"""Run a command against a throwaway PostgreSQL: ``python tests/postgres_cluster.py -- pytest -n 2``.

Makes a cluster in a temporary folder, reachable only through a Unix socket in that folder, points
``GATEHOUSE_DATABASE_URL`` at it, runs the command, stops and deletes the cluster, and exits as the command did.
Where no PostgreSQL server is installed it says so loudly and exits with ``NO_SERVER`` (77, as in automake).

The server refuses to run as root, so root starts it as ``postgres`` or, without such a user, as ``nobody``. Nothing in
the cluster outlives the command, so durability is off: the suite is several times faster without fsync.
"""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn
from urllib.parse import quote

NO_SERVER = 77
USAGE = 2
DATABASE = "gatehouse"
GRACE_SECONDS = 20
# A socket's whole path must fit in sockaddr_un: 108 bytes on Linux, 104 on macOS.
LONGEST_SOCKET_FOLDER = 80
STOPPING_SIGNALS = (signal.SIGTERM, signal.SIGHUP)

SERVER_OPTIONS = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",  # the race tests open a connection for each thread, in each pytest worker
    "timezone": "UTC",
}

BANNER = """
########################################################################
##                                                                    ##
##   NOT TESTED ON POSTGRESQL: no server binaries on this machine.    ##
##                                                                    ##
##   Row locks and races are proven only there. Install PostgreSQL    ##
##   (Debian and Ubuntu: apt-get install postgresql) and run again.   ##
##                                                                    ##
########################################################################
"""


def server_binaries() -> Path | None:
    """The folder that holds ``initdb`` and ``pg_ctl``: on PATH, else Debian's newest; None without a server."""
    on_path = shutil.which("pg_ctl")
    candidates = [Path(on_path).resolve().parent] if on_path else []
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_major_version, reverse=True)
    return next((folder for folder in candidates if _is_server(folder)), None)


def _major_version(folder: Path) -> float:
    """15.0 for ``…/postgresql/15/bin``; Debian once also had names such as 9.6."""
    try:
        return float(folder.parent.name)
    except ValueError:
        return 0.0


def _is_server(folder: Path) -> bool:
    return all(os.access(folder / name, os.X_OK) for name in ("initdb", "pg_ctl", "postgres", "createdb"))


@dataclass(frozen=True)
class Cluster:
    """A PostgreSQL cluster in ``folder``, run by ``owner`` (None: by whoever we are)."""

    binaries: Path
    folder: Path
    owner: pwd.struct_passwd | None

    @property
    def url(self) -> str:
        """The database URL as django-environ takes a socket folder: an empty host, then the folder, then the name."""
        return f"postgres://{DATABASE}@/{quote(str(self.folder))}/{DATABASE}"

    def start(self) -> None:
        """Create and start the cluster and its database; prints the server's log where it does not start."""
        self._run("initdb", "--username", DATABASE, "--auth", "trust", "--encoding", "UTF8", "--no-locale", "--no-sync")
        self.resume()
        self._run("createdb", "--host", str(self.folder), "--username", DATABASE, DATABASE)

    def resume(self) -> None:
        """Start the server of a cluster that was created."""
        options = " ".join(f"-c {name}='{value}'" for name, value in SERVER_OPTIONS.items())
        try:
            self._run(
                "pg_ctl", "start", "--wait", "--log", str(self._log), "--options", f"-k '{self.folder}' {options}"
            )
        except subprocess.CalledProcessError:
            print(self._log.read_text() if self._log.exists() else "(no server log)", file=sys.stderr)
            raise

    def stop(self) -> None:
        """Stop at once, dropping connections; quiet where the server never started."""
        if (self._data / "postmaster.pid").exists():
            self._run("pg_ctl", "stop", "--wait", "--mode", "immediate")

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _log(self) -> Path:
        return self.folder / "server.log"

    def _run(self, program: str, *arguments: str) -> None:
        """Run a server program as the owner, in the cluster's folder (the owner may not read ours)."""
        environment = {**os.environ, "PGDATA": str(self._data), "LC_ALL": "C"}
        subprocess.run(
            [str(self.binaries / program), *arguments],
            check=True,
            cwd=self.folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in the terminal is for the command, not for initdb
            user=self.owner.pw_uid if self.owner else None,
            group=self.owner.pw_gid if self.owner else None,
            extra_groups=[] if self.owner else None,
        )


@contextmanager
def running_cluster(binaries: Path) -> Iterator[Cluster]:
    """A started cluster, stopped and deleted on the way out, also when a signal is the reason."""
    cluster = Cluster(binaries=binaries, folder=_socket_folder(), owner=_unprivileged_user())
    try:
        with _signals_held_back():
            if cluster.owner is not None:
                os.chown(cluster.folder, cluster.owner.pw_uid, cluster.owner.pw_gid)
            cluster.start()
        yield cluster
    finally:
        with _signals_held_back():
            try:
                cluster.stop()
            finally:
                shutil.rmtree(cluster.folder)


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """Answer a signal only after the block: an initdb or a stop that is cut short leaves a server behind."""
    held: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, frame: held.append(number))
        for number in (*STOPPING_SIGNALS, signal.SIGINT)
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if held:
        sys.exit(128 + held[0])


def _socket_folder() -> Path:
    parent = tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix="gatehouse-pg-", dir=parent if len(parent) < LONGEST_SOCKET_FOLDER else "/tmp"))


def _unprivileged_user() -> pwd.struct_passwd | None:
    """Who runs the server when we are root; None when we are not and may run it ourselves."""
    if os.geteuid() != 0:
        return None
    by_name = {user.pw_name: user for user in pwd.getpwall()}
    return by_name.get("postgres") or by_name["nobody"]


def run_command(command: Sequence[str], *, url: str) -> int:
    """Run the command on that database; its exit code, 128 + n for one that died of signal n."""
    with subprocess.Popen(command, env={**os.environ, "GATEHOUSE_DATABASE_URL": url}) as child:
        try:
            code = child.wait()
        except KeyboardInterrupt:
            code = _end(child, politely=True)  # a terminal sent Ctrl-C to the child as well
        except SystemExit:
            _end(child, politely=False)
            raise
    return code if code >= 0 else 128 - code


def _end(child: subprocess.Popen[bytes], *, politely: bool) -> int:
    """Wait for a child that is already ending, else ask it, else kill it."""
    if not politely:
        child.terminate()
    try:
        return child.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()


def _exit_on_signal(number: int, frame: FrameType | None) -> NoReturn:
    """Turn a signal into SystemExit, so that the cluster is taken down on the way out."""
    sys.exit(128 + number)


def main(arguments: Sequence[str]) -> int:
    """Exit code of the command after ``--``."""
    if len(arguments) < 2 or arguments[0] != "--":
        print("usage: python tests/postgres_cluster.py -- <command> [argument ...]", file=sys.stderr)
        return USAGE
    binaries = server_binaries()
    if binaries is None:
        print(BANNER, file=sys.stderr)
        return NO_SERVER
    for number in STOPPING_SIGNALS:
        signal.signal(number, _exit_on_signal)
    with running_cluster(binaries) as cluster:
        return run_command(arguments[1:], url=cluster.url)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
