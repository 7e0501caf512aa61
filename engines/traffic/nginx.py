"""nginx as a traffic backend: one file for each endpoint in a folder that nginx includes, tested before it is loaded.

``apply`` and ``abort`` of one endpoint exclude each other by a file lock. An abort first leaves a note, so that an
``apply`` under way gives up instead of finishing; it needs the file on the disk and nginx, nothing of the portal.
What is routed is asked of nginx itself (an address that only the machine's own requests get an answer from).
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from engines.traffic import access_log
from engines.traffic.document import NginxTraffic
from engines.traffic.nginx_config import (
    ENDPOINT,
    SMALLEST_SHARE,
    STATUS_PATH,
    Told,
    body,
    configuration,
    expressible,
    told_by,
)
from engines.traffic.port import (
    Caps,
    Observed,
    OlderFence,
    Plan,
    Read,
    Receipt,
    Refused,
    Split,
    in_words,
)

SECONDS = 2.0
"""After so long a change is in force (a reload takes some 20 ms, its old workers stop listening 100 ms later)."""

_SETTLED = 0.25  # old workers accept for 100 ms after the new ones do: only what is answered so long is in force
_LOOK_EVERY = 0.02
_PATIENCE = 10.0  # of one call of nginx: it may have to look up the names of upstreams

UNJUDGED = {
    "predictions": "nginx sees no scores, unless the servers send each in the header X-Gatehouse-Score.",
    "loss": "It needs the scores that were answered.",
    "shadow": "nginx logs no features: a shadow needs predictions sent to the intake.",
    "features": "Drift of features can not be seen in an access log.",
}


@dataclass(frozen=True)
class NginxBackend:
    """One endpoint's nginx. ``folder``: nginx includes its ``*.conf`` within ``http``; ``logs``: where it writes.

    ``command`` starts the nginx of this machine (``("nginx",)``, or with ``sudo -n`` before it).
    """

    document: NginxTraffic
    folder: Path
    logs: Path
    command: Sequence[str] = ("nginx",)
    name: str = "nginx"

    def capabilities(self) -> Caps:
        return Caps(
            sticky=True,
            mirror=False,
            smallest_share=SMALLEST_SHARE,
            seconds=SECONDS,
            aborts_alone=True,
            unjudged={} if self.document.rows == "intake" else UNJUDGED,
        )

    def plan(self, endpoint: str, want: Split, was: Split | None) -> Plan:
        """See the port. The share is rounded to what nginx can tell, hundredths of a percent."""
        told = expressible(want)
        text = body(endpoint, told, self.document, self._log(endpoint))
        warnings = tuple(
            f"{what.capitalize()} can not be judged: {why}" for what, why in self.capabilities().unjudged.items()
        )
        if want.stopped and want.fallback is not None:
            warnings += (
                f"Callers get 503 with the fallback {want.fallback:g} in it: nginx knows not how many rows they ask.",
            )
        return Plan(endpoint, self.name, told, in_words(was, told), text, warnings)

    def apply(self, plan: Plan, fence: int) -> Receipt:
        told = Told(plan.endpoint, fence, False, plan.want, self.document, self._log(plan.endpoint))
        with self._alone(plan.endpoint):
            held = self._held(plan.endpoint)
            self._check_fence(held, plan.want, fence, self._aborted_at(plan.endpoint))
            if held == told and self._loaded(told):
                return Receipt(fence, plan.want, False, "nginx does so already.")
            if held is not None and held.aborted and held.fence == fence and held.split == plan.want:
                return Receipt(fence, plan.want, False, "The abort has done so already.")
            self._install(told)
        return Receipt(fence, plan.want, True, "nginx has loaded it.")

    def abort(self, endpoint: str, fence: int) -> Receipt:
        self._note_abort(endpoint, fence)
        with self._alone(endpoint):
            held = self._held(endpoint)
            if held is None:
                return Receipt(fence, Split(champion=None), False, "nginx was never told of it.")
            if held.fence > fence:
                raise OlderFence(f"{endpoint} is at fence {held.fence}: an abort of {fence} is too late.")
            told = Told(endpoint, fence, True, held.split.without_candidate(), held.document, held.log)
            if held == told and self._loaded(told):
                return Receipt(fence, told.split, False, "The candidate is off already.")
            self._write(endpoint, configuration(told))
            self._reload(told)
        return Receipt(fence, told.split, True, "The candidate is off.")

    def observed(self, endpoint: str) -> Observed:
        """What the running nginx says; nothing, while it was never told of the endpoint."""
        held = self._held(endpoint)
        if held is None:
            return Observed(None, None)
        found = self._status(held)
        if found is None:
            raise Refused(f"nginx does not answer at {held.document.listen}{STATUS_PATH}.")
        return found

    def read(self, endpoint: str, since: str) -> Read:
        """See the port; nothing, where the endpoint's document leaves the log to the intake."""
        if self.document.rows == "intake":
            return Read((), since)
        return access_log.read(self._log(endpoint), since)

    # -- the folder ----------------------------------------------------------------------------------------------------

    def _path(self, endpoint: str, ending: str = ".conf") -> Path:
        if not ENDPOINT.match(endpoint):
            raise ValueError(f"{endpoint!r} does not name an endpoint")
        return self.folder / f"{endpoint}{ending}"

    def _log(self, endpoint: str) -> Path:
        return self.logs / self._path(endpoint, ".log").name

    @contextmanager
    def _alone(self, endpoint: str) -> Iterator[None]:
        """Nobody else writes this endpoint's file meanwhile, whichever process; it is free when the process dies."""
        path = self._path(endpoint, ".lock")
        try:
            lock = path.open("a")
        except OSError as problem:
            raise Refused(f"{path} can not be written: {problem}") from problem
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _held(self, endpoint: str) -> Told | None:
        try:
            return told_by(self._path(endpoint).read_text())
        except FileNotFoundError:
            return None

    def _note_abort(self, endpoint: str, fence: int) -> None:
        _write(self._path(endpoint, ".abort"), str(max(fence, self._aborted_at(endpoint))))

    def _aborted_at(self, endpoint: str) -> int:
        """The newest fence at which an abort was asked for; -1 before any."""
        try:
            return int(self._path(endpoint, ".abort").read_text())
        except (FileNotFoundError, ValueError):
            return -1

    def _write(self, endpoint: str, text: str) -> None:
        _write(self._path(endpoint), text)

    # -- nginx ---------------------------------------------------------------------------------------------------------

    @staticmethod
    def _check_fence(held: Told | None, want: Split, fence: int, aborted_at: int) -> None:
        newest = held.fence if held is not None else -1
        if fence < max(newest, aborted_at):
            raise OlderFence(f"Fence {fence} is older than {max(newest, aborted_at)}, which nginx was told already.")
        if fence == aborted_at and want.candidate in want.weights:
            raise OlderFence(f"The candidate was taken off at fence {fence}.")

    def _install(self, told: Told) -> None:
        """Write, test, load. What was there is put back when nginx does not take the new one, or an abort came in."""
        path = self._path(told.endpoint)
        before = path.read_text() if path.exists() else None
        self._write(told.endpoint, configuration(told))
        try:
            self._run("-t", f"nginx does not take the configuration of {told.endpoint}")
            self._check_fence(None, told.split, told.fence, self._aborted_at(told.endpoint))
            self._run("-s", "nginx could not be told to reload", "reload")
        except (Refused, OlderFence):
            if before is None:
                path.unlink()
            else:
                self._write(told.endpoint, before)
            raise
        self._confirm(told)

    def _reload(self, told: Told) -> None:
        """For an abort: the file stays whatever nginx says, so that it starts without the candidate at least."""
        self._run("-s", f"The candidate of {told.endpoint} is off in the file, but nginx did not load it", "reload")
        self._confirm(told)

    def _run(self, option: str, otherwise: str, *more: str) -> None:
        try:
            done = subprocess.run(
                [*self.command, option, *more], capture_output=True, text=True, timeout=_PATIENCE, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as problem:
            raise Refused(f"{otherwise}: {problem}") from problem
        if done.returncode:
            raise Refused(f"{otherwise}: {_problems(done.stderr)}")

    def _confirm(self, told: Told) -> None:
        """Wait until nothing but the new configuration has answered for a while; Refused when that does not come."""
        until = time.monotonic() + SECONDS
        since: float | None = None
        while (now := time.monotonic()) < until:
            if not self._loaded(told):
                since = None
            elif since is None:
                since = now
            elif now - since >= _SETTLED:
                return
            time.sleep(_LOOK_EVERY)
        raise Refused(f"nginx was told to reload but does not do so after {SECONDS:g} s: its error log says why.")

    def _loaded(self, told: Told) -> bool:
        return self._status(told) == Observed(told.split, told.fence, told.aborted)

    def _status(self, told: Told) -> Observed | None:
        """What the running nginx says that it does; None when it does not answer."""
        host, _, port = told.document.listen.rpartition(":")
        reached = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://{reached}:{port}{STATUS_PATH}", timeout=1.0) as answer:
                status = json.load(answer)
            if status["endpoint"] != told.endpoint:
                return None
            return Observed(Split.from_dict(status["split"]), int(status["fence"]), bool(status["aborted"]))
        except (OSError, ValueError, KeyError, TypeError):  # not there, or somebody else's answer
            return None


def _write(path: Path, text: str) -> None:
    """The file whole or as it was, also after a power cut. Raises Refused."""
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with unfinished.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as problem:
        raise Refused(f"{path} can not be written: {problem}") from problem


def _problems(stderr: str) -> str:
    """What nginx complains of, without the lines that only count."""
    lines = [line for line in stderr.splitlines() if "[emerg]" in line or "[error]" in line or "[alert]" in line]
    return " ".join(lines or stderr.split("\n"))[:1000]
