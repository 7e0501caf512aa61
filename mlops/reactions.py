"""What the system does by itself: event name → the verbs that follow. Read this file first.

Each verb takes the event, runs as a job in one transaction, and acts once. Reactions only move state and ask for work;
they never touch an engine. Downward steps (drift asks the registry to retrain) are plain calls inside the verbs.

    pipeline or retraining ─▶ training_run.requested ─▶ train ─▶ model_version.registered ─▶ gates
    gate_run.passed ─▶ rollout.proposed ─▶ shadow ─▶ canary ─▶ rollout.promoted (champion) or rollout.rolled_back
    drift or decay confirmed ─▶ incident + retraining ─▶ training_run.requested …, until promoted, refused or a rethink
"""

from audit.trail import Reactions

SEAL = "audit.tasks.ask_for_checkpoint"
"""Sign the log as it is now, so that nobody can take back what was decided."""
ROUTE = "rollout.reactions.send_traffic"
"""Tell who else splits the endpoint's traffic, where it is not our own gateway (rollout.traffic)."""
TELL = "mlops.openlineage.emit"
"""Tell another tool, where one is set up (docs/operations.md)."""

REACTIONS: Reactions = {
    "training_run.requested": ("registry.reactions.start_training",),
    "training_run.running": (TELL,),
    "training_run.succeeded": (TELL,),
    "training_run.failed": ("monitoring.reactions.on_training_failed", TELL),
    "training_run.cancelled": (TELL,),
    "model_version.registered": ("registry.reactions.convert", "gates.reactions.open_gate_run"),
    "evidence.submitted": ("gates.reactions.begin_waiting_runs",),
    "gate_run.running": (TELL,),
    "gate_run.passed": ("rollout.reactions.propose_rollouts", "monitoring.reactions.on_gates_ended", TELL),
    "gate_run.failed": ("monitoring.reactions.on_gates_ended", TELL),
    "gate_run.inconclusive": ("monitoring.reactions.on_gates_ended", TELL),
    "gate_run.error": ("monitoring.reactions.on_gates_ended", TELL),
    "endpoint.decided": (ROUTE, "rollout.reactions.go_on"),
    "endpoint.decision_carried_out": (ROUTE, "rollout.reactions.go_on"),
    "endpoint.unfrozen": ("rollout.reactions.go_on",),
    "rollout.proposed": ("rollout.reactions.start_next", "rollout.reactions.make_kit"),
    "endpoint.traffic_set": (ROUTE,),
    "endpoint.traffic_adrift": ("monitoring.reactions.on_traffic_adrift",),
    "endpoint.traffic_restored": ("monitoring.reactions.on_traffic_restored",),
    "rollout.canary": (ROUTE,),
    "rollout.paused": (ROUTE,),
    "rollout.resumed": (ROUTE,),
    "rollout.held": ("monitoring.reactions.on_rollout_held",),
    "rollout.promoted": (ROUTE, "rollout.reactions.start_next", "monitoring.reactions.on_rollout_ended", SEAL, TELL),
    "rollout.rolled_back": (ROUTE, "rollout.reactions.start_next", "monitoring.reactions.on_rollout_ended"),
    "rollout.aborted": (ROUTE, "rollout.reactions.start_next", "monitoring.reactions.on_rollout_ended"),
}
