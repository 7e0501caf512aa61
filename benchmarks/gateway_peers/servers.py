"""The servers of others, one worker each, as their documentation starts them; access logs off."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from benchmarks import environments
from benchmarks.feast_peer.environment import cache
from benchmarks.processes import free_port

HERE = Path(__file__).parent
PEERS = ("fastapi", "mlserver", "mlflow", "bentoml")
LOG = "said.log"
_START_SECONDS = 180


@dataclass(frozen=True)
class Post:
    """How one row is asked, and what of the answer is its score."""

    path: str
    body: Callable[[Sequence[float]], bytes]
    score: Callable[[Any], float]
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Server:
    """A running server: the process whose tree is measured, and how it is asked (by name of the way)."""

    pid: int
    port: int
    ways: Mapping[str, Post]

    def score(self, way: str, row: Sequence[float]) -> float:
        """The score of a row. Raises OSError for a refusal, and while nobody listens."""
        post = self.ways[way]
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            headers = {"Content-Type": "application/json", **post.headers}
            connection.request("POST", post.path, post.body(row), headers)
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise OSError(f"POST {post.path}: {response.status} {answer[:500]!r}")
        return post.score(json.loads(answer))


@dataclass(frozen=True)
class Artifacts:
    """The model as joblib wrote it, fitted on numbers without names (``model``) and with (``named``)."""

    model: Path
    named: Path
    columns: tuple[str, ...]


@contextmanager
def running(name: str, artifacts: Artifacts, folder: Path) -> Iterator[Server]:
    """One peer, in its own environment (made if need be), until the block ends. ``folder`` is an empty one for it."""
    binaries = environments.made(HERE / "environments" / f"{name}.txt", cache())
    port = free_port()
    command, variables = _COMMANDS[name](binaries, artifacts, folder, port)
    with process(command, folder=folder, variables=variables) as started:
        server = Server(started.pid, port, _WAYS[name](artifacts.columns))
        wait_for_answers(server, [0.0] * len(artifacts.columns), started, folder)
        yield server


@contextmanager
def process(command: Sequence[str], *, folder: Path, variables: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process group of its own; what it says goes to ``LOG`` in its folder."""
    with (folder / LOG).open("wb") as said:
        running = subprocess.Popen(
            command, cwd=folder, env=dict(variables), stdout=said, stderr=said, start_new_session=True
        )
        try:
            yield running
        finally:
            _end(running)


def _end(running: subprocess.Popen[bytes]) -> None:
    """End the group: in order, or, after a while, at once."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(running.pid, number)
        with suppress(subprocess.TimeoutExpired):
            running.wait(20)
            return


def wait_for_answers(server: Server, row: Sequence[float], started: subprocess.Popen[bytes], folder: Path) -> None:
    """Until every way answers. Raises TimeoutError with what the server said last."""
    deadline = time.monotonic() + _START_SECONDS
    for way in server.ways:
        while True:
            try:
                server.score(way, row)
                break
            except (OSError, ValueError, KeyError) as problem:
                if time.monotonic() > deadline or started.poll() is not None:
                    raise TimeoutError(
                        f"{way} does not answer: {problem}\n{(folder / LOG).read_text()[-2000:]}"
                    ) from problem
                time.sleep(0.25)


_Command = tuple[list[str], dict[str, str]]


def _base(binaries: Path) -> dict[str, str]:
    """The environment of a peer: nothing of ours, and one thread for one row's arithmetic."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
    path = f"{binaries}:{os.environ.get('PATH', '')}"
    return {**kept, "PATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def _fastapi(binaries: Path, artifacts: Artifacts, folder: Path, port: int) -> _Command:
    command = [str(binaries / "uvicorn"), "fastapi_app:app", "--app-dir", str(HERE / "inside")]
    options = ["--port", str(port), "--workers", "1", "--no-access-log", "--log-level", "warning"]
    variables = {
        "MODEL": str(artifacts.model),
        "NAMED_MODEL": str(artifacts.named),
        "COLUMNS": str(len(artifacts.columns)),
    }
    return [*command, *options], _base(binaries) | variables


def _mlserver(binaries: Path, artifacts: Artifacts, folder: Path, port: int) -> _Command:
    settings = {
        "http_port": port,
        "grpc_port": free_port(),
        "metrics_port": free_port(),
        "host": "127.0.0.1",
        "parallel_workers": 0,  # in the server's own process: the cheapest it has
        "debug": False,
    }
    shutil.copy(artifacts.model, folder / "model.joblib")
    model = {
        "name": "peer",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": "./model.joblib"},
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(model))
    return [str(binaries / "mlserver"), "start", str(folder)], _base(binaries)


def _mlflow(binaries: Path, artifacts: Artifacts, folder: Path, port: int) -> _Command:
    written, variables = folder / "model", _base(binaries)
    script = [str(binaries / "python"), str(HERE / "inside" / "mlflow_model.py"), str(artifacts.model), str(written)]
    subprocess.run(script, check=True, env=variables, capture_output=True)
    command = [str(binaries / "mlflow"), "models", "serve", "--model-uri", str(written), "--env-manager", "local"]
    return [*command, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"], variables


def _bentoml(binaries: Path, artifacts: Artifacts, folder: Path, port: int) -> _Command:
    command = [str(binaries / "bentoml"), "serve", "bentoml_service:Scores", "--working-dir", str(HERE / "inside")]
    variables = {"MODEL": str(artifacts.model), "BENTOML_HOME": str(folder), "BENTOML_DO_NOT_TRACK": "True"}
    return [*command, "--port", str(port), "--host", "127.0.0.1"], _base(binaries) | variables


_COMMANDS: Mapping[str, Callable[[Path, Artifacts, Path, int], _Command]] = {
    "fastapi": _fastapi,
    "mlserver": _mlserver,
    "mlflow": _mlflow,
    "bentoml": _bentoml,
}


def _fastapi_ways(columns: Sequence[str]) -> dict[str, Post]:
    def body(row: Sequence[float]) -> bytes:
        return json.dumps(dict(zip(columns, row, strict=True))).encode()

    def score(answer: Any) -> float:
        return float(answer["score"])

    return {"FastAPI": Post("/predict", body, score), "FastAPI, data frame": Post("/predict_frame", body, score)}


def _mlserver_ways(columns: Sequence[str]) -> dict[str, Post]:
    def body(row: Sequence[float]) -> bytes:
        tensor = {"name": "rows", "shape": [1, len(row)], "datatype": "FP64", "data": list(row)}
        return json.dumps({"inputs": [tensor], "outputs": [{"name": "predict_proba"}]}).encode()

    return {"MLServer": Post("/v2/models/peer/infer", body, lambda answer: float(answer["outputs"][0]["data"][1]))}


def _mlflow_ways(columns: Sequence[str]) -> dict[str, Post]:
    def body(row: Sequence[float]) -> bytes:
        return json.dumps({"inputs": [list(row)]}).encode()

    return {"mlflow models serve": Post("/invocations", body, lambda answer: float(answer["predictions"][0][1]))}


def _bentoml_ways(columns: Sequence[str]) -> dict[str, Post]:
    def body(row: Sequence[float]) -> bytes:
        return json.dumps({"rows": [list(row)]}).encode()

    return {"BentoML": Post("/predict", body, lambda answer: float(answer[0]))}


_WAYS: Mapping[str, Callable[[Sequence[str]], dict[str, Post]]] = {
    "fastapi": _fastapi_ways,
    "mlserver": _mlserver_ways,
    "mlflow": _mlflow_ways,
    "bentoml": _bentoml_ways,
}
