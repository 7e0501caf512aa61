"""A whole high-stakes gate run on the flights: ``make bench BENCH=gate_run``.

The demo's model (31 inputs, boosted trees) is judged on the labelled flights of three months (about 80,000 rows)
against a champion, under the template for high stakes: every kind of check that it has, fairness and slices by airport,
a timing of a thousand calls per model. Two workers share the checks of the run, as on a machine with two cores; before
it begins there is nothing warm in them. What is timed is the run alone, from its preparation to its verdict: whatever
the verdict is, it costs the same. Afterwards the run is done again from what was frozen with it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from benchmarks import portal
from benchmarks.figures import Figure, Rate, report

NOW = datetime(2013, 10, 1, 12, tzinfo=UTC)
HOLDOUT_DAYS = 89
WORKERS = 2
LIGHT: dict[str, Any] = {"checks": [{"id": "training-data", "kind": "training_data"}]}
"""What the champion passes, quickly."""
OVERRIDES: dict[str, Any] = {
    "threshold": 0.25,
    "checks": {
        "slices": {"by": ["origin", "carrier"]},
        "fairness": {"by": "origin", "at_most": 0.3},
        "data-quality": {"ignore": ["month"]},
        "ci": {"commit": "any"},
    },
}
JUNIT = '<testsuite><testcase classname="tests" name="test_model"/></testsuite>'


def main() -> int:
    with portal.empty() as variables:
        found = json.loads(_program(variables, "prepare"))
        run = str(found["gate_run"])
        workers = [_started(variables, "work", run) for _ in range(WORKERS)]
        for worker in workers:
            worker.wait()
        found |= json.loads(_program(variables, "tell", run))
    for check in found["checks"]:
        print(f"{check['check_id']}: {check['verdict']}, {check['wall_seconds']:.1f} s. {check['message']}")
    print(f"prepared in {found['prepared']:.1f} s; {found['state']}; {found['reproduction']}")
    return report(
        Figure("gate_run_wall", found["wall_seconds"], "s", at_most=60.0),
        Rate("gate_run_rows", found["rows"], "rows", at_least=75_000),
        Rate("gate_run_inputs", found["inputs"], "columns", at_least=30),
        Figure("gate_run_not_reproduced", float(not found["is_identical"]), "runs", at_most=0),
        Figure("gate_run_reproduced_in", found["reproduced_in"], "s", at_most=60.0),
    )


def _program(variables: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "-m", "benchmarks.gate_run", *arguments]
    return subprocess.run(command, env=variables, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]


def _started(variables: dict[str, str], *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "benchmarks.gate_run", *arguments], env=variables)


# ---------------------------------------------------------------------- in the portal's processes


def prepare() -> dict[str, Any]:
    """A champion, a candidate, the policy of high stakes, all evidence; the run waits for a worker."""
    from audit import clock
    from gates import actions as gates
    from jobs.drain import drain
    from mlops.demo import setup
    from mlops.demo.people import create_people
    from registry.models import ModelVersion

    cast = create_people()
    with clock.at(setup.OPENED):
        house = setup.furnish(cast)
        _in_force(house, cast, document=LIGHT)
    with clock.at(NOW):
        for algorithm in ("logistic", "hgb"):
            _trained(house, cast, algorithm)
        champion, candidate = ModelVersion.objects.order_by("number")
        assert house.registered_model.champion() == champion, [str(each) for each in champion.gate_runs.all()]
        _in_force(house, cast, template="high-stakes", overrides=OVERRIDES)
        for kind, payload in (("lint", "[]"), ("unit", JUNIT), ("integration", JUNIT)):
            gates.submit_evidence(
                registered_model=house.registered_model,
                kind=kind,
                code_digest=candidate.code_digest,
                payload=payload,
                actor=cast.dana,
                now=NOW,
            )
        drain()
        run = gates.rerun(candidate, actor=cast.dana, reason="The policy of high stakes is in force.", now=NOW)
    assert run.state == "running", run.state_reason
    return {"gate_run": run.pk}


def _in_force(house: Any, cast: Any, **content: Any) -> None:
    from audit import clock
    from gates import actions as gates

    now, why = clock.now(), "For a benchmark."
    policy = gates.propose_policy(house.registered_model, note=why, actor=cast.dana, now=now, **content)
    gates.confirm_policy(policy, reason=why, actor=cast.paula, now=now)


def _trained(house: Any, cast: Any, algorithm: str) -> None:
    """A version of this algorithm, trained on everything before the holdout, and judged."""
    from jobs.drain import drain
    from mlops.demo.setup import CODE, FIRST_DAY, ITERATIONS
    from registry import actions as registry
    from registry.models import TrainingRun

    alike = house.pipelines[algorithm]
    window = {"name": "expanding", "start": FIRST_DAY.isoformat()}
    pipeline = registry.define_pipeline(
        registered_model=house.registered_model,
        name=f"{algorithm}-benchmark",
        entry_point=alike.entry_point,
        code_path=alike.code_path if alike.code_path else str(CODE),
        service=alike.service,
        entity_frame=alike.entity_frame,
        outcomes=alike.outcomes,
        label=alike.label,
        parameters={"algorithm": algorithm, "iterations": ITERATIONS, "threads": WORKERS},
        windows=[window],
        holdout_days=HOLDOUT_DAYS,
        time_limit=timedelta(minutes=10),
        automatic=False,
        actor=cast.dana,
        now=NOW,
    )
    run = registry.request_training(
        pipeline, window=window, trigger="person", parameters=None, actor=cast.dana, reason="Train.", now=NOW
    )
    drain()
    ended = TrainingRun.objects.get(pk=run.pk)
    assert ended.state == "succeeded", ended.state_reason


def work(run_id: int) -> None:
    """Work the queue off, as one of several workers, until the run has ended."""
    from audit import clock
    from engines import scoring
    from gates.models import GateRun
    from jobs.drain import drain

    with clock.at(NOW):
        while GateRun.objects.filter(pk=run_id, state="running").exists():
            if not drain():
                time.sleep(0.05)
    scoring.shut_down()


def tell(run_id: int) -> dict[str, Any]:
    """What came of it, and whether it can be repeated."""
    from gates.models import GateRun
    from gates.reproduction import reproduce

    run = GateRun.objects.select_related("policy", "registered_model", "holdout", "preparation").get(pk=run_id)
    began = time.perf_counter()
    again = reproduce(run)
    return {
        "state": f"{run.state}: {run.state_reason}",
        "wall_seconds": run.wall_seconds,
        "prepared": run.preparation.wall_seconds,
        "rows": run.holdout.rows if run.holdout else 0,
        "inputs": len(run.preparation.inputs["candidate"]["columns"]),
        "checks": list(run.results.order_by("id").values("check_id", "verdict", "message", "wall_seconds")),
        "reproduction": again.message,
        "is_identical": again.is_identical,
        "reproduced_in": time.perf_counter() - began,
    }


if __name__ == "__main__":
    if len(sys.argv) == 1:
        sys.exit(main())
    portal.set_up()
    if sys.argv[1] == "work":
        work(int(sys.argv[2]))
    else:
        print(json.dumps(prepare() if sys.argv[1] == "prepare" else tell(int(sys.argv[2]))))
