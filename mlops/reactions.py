"""What the system does by itself: event name → the verbs that follow. Read this file first.

Each verb takes the event, runs as a job in one transaction, and acts once. Reactions only move state and ask for work;
they never touch an engine. Downward steps (drift asks the registry to retrain) are plain calls inside the verbs.

    pipeline or retraining ─▶ training_run.requested ─▶ train ─▶ model_version.registered ─▶ gates
    gate_run.passed ─▶ rollout.proposed ─▶ shadow ─▶ canary ─▶ rollout.promoted (champion) or rollout.rolled_back
    drift or decay confirmed ─▶ incident + retraining ─▶ training_run.requested …, until promoted, refused or a rethink
"""

from audit.trail import Reactions

REACTIONS: Reactions = {
    "training_run.requested": ("registry.reactions.start_training",),
    "training_run.failed": ("monitoring.reactions.on_training_failed",),
    "model_version.registered": ("gates.reactions.open_gate_run",),
    "evidence.submitted": ("gates.reactions.begin_waiting_runs",),
    "gate_run.passed": ("rollout.reactions.propose_rollouts", "monitoring.reactions.on_gates_ended"),
    "gate_run.failed": ("monitoring.reactions.on_gates_ended",),
    "gate_run.inconclusive": ("monitoring.reactions.on_gates_ended",),
    "gate_run.error": ("monitoring.reactions.on_gates_ended",),
    "rollout.proposed": ("rollout.reactions.start_next",),
    "rollout.held": ("monitoring.reactions.on_rollout_held",),
    "rollout.promoted": ("rollout.reactions.start_next", "monitoring.reactions.on_rollout_ended"),
    "rollout.rolled_back": ("rollout.reactions.start_next", "monitoring.reactions.on_rollout_ended"),
    "rollout.aborted": ("rollout.reactions.start_next", "monitoring.reactions.on_rollout_ended"),
}
