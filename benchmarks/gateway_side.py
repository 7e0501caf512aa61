"""Our side of ``gateway``: a portal of its own with three endpoints, and gateways over it.

    with GatewaySide() as side:                  # an empty portal with the models, served and in canary
        side.score(row)                          # by scikit-learn itself
        with side.gateway() as server: …         # `manage.py gateway` with one worker, without the ingest
        side.roll_back()                         # of the canary; the moment of the decision

Endpoints: ``in-onnx`` and ``in-sklearn`` serve the same pipeline in both forms, ``watched`` has a candidate that gets
half of its entities. As a program it is the process that keeps the portal, a line of JSON at a time.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from benchmarks import portal
from benchmarks.gateway_peers.servers import Artifacts, Post, Server, process, wait_for_answers
from benchmarks.processes import free_port

if TYPE_CHECKING:
    from registry.models import ModelVersion, RegisteredModel

ONNX, SKLEARN, WATCHED = "in-onnx", "in-sklearn", "watched"
COLUMNS = tuple(f"number{at}" for at in range(15))
ENTITY = "customer"
_ROOT = Path(__file__).resolve().parents[1]
_TOLERANCE = 1e-5


class GatewaySide:
    """See the module."""

    def __enter__(self) -> GatewaySide:
        with ExitStack() as stack:
            self._variables = stack.enter_context(portal.empty())
            command = [sys.executable, "-W", "ignore", "-m", "benchmarks.gateway_side"]
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            self._process = stack.enter_context(subprocess.Popen(command, cwd=_ROOT, env=self._variables, **pipes))
            stack.callback(self._process.stdin.close)  # type: ignore[union-attr]  # it is a pipe
            self.token: str = self._ask("begin")["token"]
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def artifacts(self) -> Artifacts:
        """The pipeline for others to serve."""
        folder = Path(self._variables["GATEHOUSE_DATA"])
        return Artifacts(folder / "unnamed.joblib", folder / "named.joblib", COLUMNS)

    def score(self, row: Sequence[float]) -> float:
        """What scikit-learn itself says."""
        return float(self._ask("score", row=list(row)))

    def start_canary(self) -> None:
        """A new candidate with half of the entities of ``watched``, its warm-up kit made."""
        self._ask("start_canary")

    def roll_back(self) -> float:
        """End the canary; ``time.monotonic()`` before the verb was called (one clock for all processes)."""
        return float(self._ask("roll_back"))

    @contextmanager
    def gateway(self, *, application: str = "") -> Iterator[Server]:
        """One worker, until the block ends: ``manage.py gateway``, or its server alone with this ``application``."""
        port = free_port()
        variables = self._variables | {
            "GATEHOUSE_DEBUG": "off",
            "GATEHOUSE_SECRET_KEY": "only for this benchmark " * 4,
            "GATEHOUSE_ALLOWED_HOSTS": "127.0.0.1",
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONPATH": str(_ROOT),
        }
        if application:
            serve = f"server.serve('127.0.0.1', {port}, workers=1, threads=4, application={application!r})"
            command = [sys.executable, "-c", f"from rollout.gateway import server; {serve}"]
        else:
            command = [sys.executable, str(_ROOT / "manage.py"), "gateway", "--no-ingest", "--workers", "1"]
            command += ["--port", str(port)]
        with TemporaryDirectory() as folder, process(command, folder=Path(folder), variables=variables) as started:
            server = Server(started.pid, port, {name: self._post(name) for name in (ONNX, SKLEARN, WATCHED)})
            wait_for_answers(server, [0.0] * len(COLUMNS), started, Path(folder))
            yield server

    def _post(self, endpoint: str) -> Post:
        return Post(
            f"/v2/models/{endpoint}/infer",
            lambda row: infer_body(row),
            lambda answer: float(answer["outputs"][0]["data"][0]),
            {"Authorization": f"Bearer {self.token}"},
        )

    def _ask(self, command: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"command": command, **arguments}) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"our side ended during {command!r}; it said why on the error output")
        return json.loads(answer)


def infer_body(row: Sequence[float], *, entity: str = "") -> bytes:
    """One row of the Open Inference Protocol: a tensor per column, as a client sends it that knows the inputs."""
    inputs = [
        {"name": name, "shape": [1], "datatype": "FP64", "data": [value]}
        for name, value in zip(COLUMNS, row, strict=True)
    ]
    content: dict[str, Any] = {"inputs": inputs}
    if entity:
        content["parameters"] = {"entity": entity}
    return json.dumps(content).encode()


# ---------------------------------------------------------------------- inside the process


class _Inside:
    """What the process does; Django is set up when this is made."""

    def begin(self) -> dict[str, str]:
        portal.set_up()
        self._fit()
        for endpoint, load_class in ((ONNX, "onnx"), (SKLEARN, "skops"), (WATCHED, "onnx")):
            with _told():
                registered_model = self._endpoint(endpoint)
                self._take_over(self._version(registered_model, load_class))
        return {"token": self._token()}

    def score(self, row: Sequence[float]) -> float:
        return float(self._unnamed.predict_proba([list(row)])[0, 1])

    def start_canary(self) -> None:
        from rollout.models import Endpoint

        endpoint = Endpoint.objects.get(name=WATCHED)
        with _told():
            candidate = self._version(endpoint.registered_model, "onnx")
            self._rollout = self._take_over(candidate)

    def roll_back(self) -> float:
        from audit import clock
        from rollout import actions
        from tests.builders import ROBOT

        decided = time.monotonic()
        actions.roll_back(self._rollout, actor=ROBOT, reason="The benchmark says so.", now=clock.now())
        return decided

    # ------------------------------------------------------------------ the models

    def _fit(self) -> None:
        """One pipeline, fitted twice on the same numbers: without names as the peers get it, and with."""
        import joblib
        import numpy as np
        import pandas as pd
        import skops.io
        from django.conf import settings
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        from engines import conversion

        random = np.random.default_rng(0)
        numbers = random.normal(size=(4_000, len(COLUMNS)))
        label = numbers[:, :4].sum(axis=1) + random.normal(size=len(numbers)) > 0
        frame = pd.DataFrame(numbers, columns=list(COLUMNS))
        self._unnamed = make_pipeline(StandardScaler(), LogisticRegression()).fit(numbers, label)
        named = make_pipeline(StandardScaler(), LogisticRegression()).fit(frame, label)
        folder = Path(settings.DATA_ROOT)
        joblib.dump(self._unnamed, folder / "unnamed.joblib")
        joblib.dump(named, folder / "named.joblib")
        skops.io.dump(named, folder / "named.skops")
        import pyarrow as pa

        self._rows = pa.Table.from_pandas(frame.head(128), preserve_index=False)
        made = conversion.convert(folder / "named.skops", columns=COLUMNS, rows=self._rows, tolerance=_TOLERANCE)
        self._forms = {"skops": (folder / "named.skops").read_bytes(), "onnx": made.content}
        self._scores = self._unnamed.predict_proba(numbers[:128])[:, 1]

    def _version(self, registered_model: RegisteredModel, load_class: str) -> ModelVersion:
        from registry import artifacts
        from registry.models import ModelVersion
        from rollout.gateway import kit_files, kits
        from tests.builders import NOON
        from tests.rollout import life

        stored = artifacts.store(io.BytesIO(self._forms[load_class]))
        number = registered_model.versions.count() + 1
        version = ModelVersion.objects.create(
            registered_model=registered_model,
            number=number,
            artifact_digest=stored.digest,
            artifact_name=f"model.{load_class}",
            artifact_bytes=stored.bytes,
            load_class=load_class,
            signature={"inputs": [{"name": name, "type": "double"} for name in COLUMNS]},
            service=life.service(f"fifteen-{registered_model.name}", COLUMNS, registered_model),
            registered_at=NOON,
            content_digest=f"content-{registered_model.name}-{number}",
        )
        # what the gates would have recorded
        kit_files.write(
            kit_files.place(kits.folder(), stored.digest), self._rows.append_column(kit_files.SCORE, [self._scores])
        )
        return version

    def _endpoint(self, name: str) -> RegisteredModel:
        from audit import clock
        from rollout import actions
        from tests import builders

        registered_model = builders.registered_model(f"model-{name}")
        step = {"share": 0.5, "min_hours": 0, "min_rows": 10_000}
        actions.create_endpoint(
            name=name,
            title=name,
            registered_model=registered_model,
            entity_column=ENTITY,
            outcome_window=timedelta(hours=1),
            plan={"shadow": {"min_hours": 0, "min_rows": 1, "max_hours": 1}, "canary": {"steps": [step]}},
            actor=builders.ROBOT,
            now=clock.now(),
        )
        return registered_model

    def _take_over(self, version: ModelVersion) -> Any:
        """Champion where there is none yet; else in canary."""
        from audit import clock
        from rollout import actions
        from rollout.models import Route
        from tests.builders import ROBOT
        from tests.rollout import life

        rollout = life.proposed(version)
        actions.start(rollout, actor=ROBOT, reason="Its turn.", now=clock.now())
        route = Route.objects.get(endpoint=rollout.endpoint)
        if route.candidate_id is not None:
            rollout.refresh_from_db()
            actions.advance(rollout, actor=ROBOT, reason="Into canary.", now=clock.now())
        return rollout

    def _token(self) -> str:
        from django.contrib.auth.models import User
        from django.db import transaction

        from audit import clock
        from audit.scopes import SERVE
        from mlops import tokens
        from tests import builders

        with transaction.atomic():  # the token's event tells of the account as well
            user: User = builders.person("bench", "delay-platform")
            return tokens.issue(user=user, scopes=[SERVE], days=1, reason="A benchmark.", actor=user, now=clock.now())


@contextmanager
def _told() -> Iterator[None]:
    """A transaction whose last event tells of the rows that no verb made."""
    from django.db import transaction

    from audit.trail import Service, record
    from rollout.models import Endpoint

    with transaction.atomic():
        yield
        record("benchmark.built", Endpoint.objects.all()[0], actor=Service("benchmark"))


def main(requests: IO[str], answers: IO[str]) -> None:
    inside = _Inside()
    for line in requests:
        asked = json.loads(line)
        answer = getattr(inside, asked.pop("command"))(**asked)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    said = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what others print is no answer
    main(sys.stdin, said)
