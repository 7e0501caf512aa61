"""What people do in the demo, and when. How it ends is for the rules to find: nothing here knows the outcome."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from features import actions as features
from features.models import FeatureViewVersion, ViewState
from gates import actions as gates
from gates.models import GateRunState
from gates.policy import text
from mlops.demo.people import Cast
from mlops.demo.replay import Scene
from mlops.demo.setup import CODE, FIRST_DAY, LEAK, POLICY, WATCH, House
from monitoring.actions.monitors import configure
from monitoring.actions.rethinks import decline
from monitoring.models import Rethink, RethinkState
from registry import actions as registry
from rollout import actions as rollout
from rollout.actions.features import retire_feature_service

EXPANDING = {"name": "expanding", "start": FIRST_DAY.isoformat()}


def scenes(house: House, cast: Cast) -> list[Scene]:
    """Pushes of new code and requests to train, each by a person."""
    return [
        Scene(_day(4, 1), "The data scientist checks the model's code", lambda now: submit_evidence(house, cast, now)),
        _training(house, cast, "logistic", _day(4, 1), "First version: logistic regression."),
        _training(house, cast, "hgb", _day(4, 15), "Gradient-boosted trees instead of logistic regression."),
        Scene(_day(4, 16), "Dana has unsteady gate runs repeated", lambda now: _repeat_unsteady(house, cast, now)),
        _training(house, cast, "slow", _day(5, 2), "Thirty small models vote."),
        _training(house, cast, "unfair", _day(5, 3), "Labels from the new feed, which is said to be cleaner."),
        Scene(_day(5, 4), "Dana asks for a lower bar; Paula declines", lambda now: _ask_for_less(house, cast, now)),
        _training(house, cast, "leaking", _day(5, 6), "Adds the carrier's late rate of the day: best ever offline."),
        Scene(_day(5, 10), "Dana tidies up after the leak", lambda now: _withdraw_leak(house, cast, now)),
        _training(house, cast, "month_onehot", _day(5, 26), "The month as one column each: seasons at last."),
        Scene(_day(6, 10), "Automatic retraining is switched on", lambda now: _automate(house, cast, now)),
        *(
            Scene(_day(month, 20), "Paula looks at her queue", lambda now: _decide(house, cast, now))
            for month in (7, 9)
        ),
        Scene(_day(12, 9), "Paula freezes the endpoint over Christmas", lambda now: _freeze(house, cast, now)),
    ]


def _repeat_unsteady(house: House, cast: Cast, now: datetime) -> None:
    """On a machine with other work the latency of two copies of one model may differ too much to judge; then later."""
    for version in house.registered_model.versions.order_by("number"):
        run = version.gate_runs.order_by("-number").first()
        if run is not None and run.state == GateRunState.INCONCLUSIVE:
            gates.rerun(version, actor=cast.dana, reason="The machine was too busy to tell.", now=now)


def _ask_for_less(house: House, cast: Cast, now: datetime) -> None:
    """After a version was refused: the proposal says for ever which run it followed, and it takes a second person."""
    wished = text.load(POLICY.read_text().replace("p95_ms: 50", "p95_ms: 200"))
    policy = gates.propose_policy(
        house.registered_model,
        document=wished.model_dump(mode="json"),
        note="The vote of thirty models ranks a little better; let it take its time.",
        actor=cast.dana,
        now=now,
    )
    gates.decline_policy(policy, reason="A traveller waits for this answer.", actor=cast.paula, now=now)


def _withdraw_leak(house: House, cast: Cast, now: datetime) -> None:
    """Nobody else shall take up the view that claims to know the day. Refused while a rollout or champion uses it."""
    service = house.pipelines["leaking"].service
    assert service is not None
    why = "Its day's rate counts flights that had not landed yet: never known when it is asked for."
    retire_feature_service(service, actor=cast.dana, reason=why, now=now)
    version = FeatureViewVersion.objects.get(view__name=LEAK, state=ViewState.PUBLISHED)
    features.deprecate(version, actor=cast.dana, reason=why, now=now)


def _automate(house: House, cast: Cast, now: datetime) -> None:
    configure(
        registered_model=house.registered_model,
        settings=WATCH | {"retrain_on": ["drift", "decay"]},
        actor=cast.dana,
        reason="Two months of windows made sense: from now on confirmed drift and decay retrain.",
        now=now,
    )


def _decide(house: House, cast: Cast, now: datetime) -> None:
    """Paula declines what waits for her; later in the year she is away, so a later one waits in the admin."""
    for rethink in Rethink.objects.filter(registered_model=house.registered_model, state=RethinkState.PROPOSED):
        decline(rethink, reason="The approach stays for this season; go on.", actor=cast.paula, now=now)


def _freeze(house: House, cast: Cast, now: datetime) -> None:
    """Nothing new for the travellers on the days when the app is asked most and nobody is in the office."""
    note = "Christmas: nothing new while nobody is here to look."
    window = {"starts_at": _day(12, 24), "ends_at": _day(12, 27)}
    rollout.freeze(house.endpoint, **window, note=note, actor=cast.paula, now=now)


def _day(month: int, day: int) -> datetime:
    return datetime(2013, month, day, 6, tzinfo=UTC)


def _training(house: House, cast: Cast, pipeline: str, at: datetime, why: str) -> Scene:
    def act(now: datetime) -> None:
        registry.request_training(
            house.pipelines[pipeline],
            window=EXPANDING,
            trigger="person",
            parameters=None,
            actor=cast.dana,
            reason=why,
            now=now,
        )

    return Scene(at, why, act)


def submit_evidence(house: House, cast: Cast, now: datetime) -> None:
    """Really lint and test the model's code, as its CI would, and submit the reports bound to the code's digest."""
    with tempfile.TemporaryDirectory() as folder:
        told = checked(CODE, Path(folder))
        for result in told["results"]:
            if result["report"] is None:
                raise RuntimeError(f"{result['kind']}: {result['summary']}: {result['details']}")
            gates.submit_evidence(
                registered_model=house.registered_model,
                kind=result["kind"],
                code_digest=told["code_digest"],
                commit=told["commit"],
                payload=Path(result["report"]).read_text(),
                actor=cast.dana,
                now=now,
            )


def checked(code: Path, reports: Path) -> dict[str, Any]:
    """What ``gatehouse ci`` says of a folder of model code; a failing test is in its report, not an error here."""
    command = [sys.executable, "-m", "gatehouse.cli", "--json", "ci", str(code), "--no-submit"]
    options = ["--jobs", "2", "--timeout", "300", "--reports", str(reports)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # tiny fits: threads would only wait for one another
    finished = subprocess.run([*command, *options], env=environment, capture_output=True, text=True, check=False)
    if not finished.stdout:
        raise RuntimeError(f"The code was not checked: {finished.stderr}")
    told: dict[str, Any] = json.loads(finished.stdout)
    return told
