"""What the database refuses at the rollout: no traffic and no champion without passed gates, whoever writes."""

from audit.guards import Guard, append_only, frozen, never_deleted, owes_event
from gates.guards import in_force

PASSED_GATES_IN_FORCE = f"""
    EXISTS (
        SELECT 1 FROM gates_gaterun g
        WHERE g.id = NEW.gate_run_id AND g.version_id = NEW.version_id AND g.state = 'passed'
          AND g.registered_model_id = NEW.registered_model_id
          AND g.policy_id = {in_force("g.registered_model_id")}
    )
    AND EXISTS (
        SELECT 1 FROM rollout_endpoint e
        WHERE e.id = NEW.endpoint_id AND e.registered_model_id = NEW.registered_model_id
    )
"""


def _promoted(version: str, registered_model: str) -> str:
    return f"""EXISTS (
        SELECT 1 FROM rollout_rollout r
        WHERE r.version_id = {version} AND r.state = 'promoted' AND r.registered_model_id = {registered_model}
    )"""


# of the model that the endpoint is given to, whose policy says what is good enough there
_ROUTED = f"""
    (NEW.champion_id IS NULL OR EXISTS (
        SELECT 1 FROM rollout_endpoint e
        WHERE e.id = NEW.endpoint_id AND {_promoted("NEW.champion_id", "e.registered_model_id")}
    ))
    AND (NEW.candidate_id IS NULL OR EXISTS (
        SELECT 1 FROM rollout_rollout r
        WHERE r.id = NEW.rollout_id AND r.version_id = NEW.candidate_id AND r.endpoint_id = NEW.endpoint_id
          AND r.state IN ('shadow', 'canary', 'paused')
    ))
"""
_CHAMPION = f"NEW.name <> 'champion' OR {_promoted('NEW.version_id', 'NEW.registered_model_id')}"
# into shadow and canary from anywhere, also out of a pause; a canary that began lawfully goes on, and may be promoted
_ENTERED = f"""
    NEW.state = OLD.state OR NEW.state IN ('pending', 'aborted')
    OR (OLD.state <> 'pending' AND NEW.state IN ('paused', 'rolled_back'))
    OR (OLD.state = 'canary' AND NEW.state = 'promoted')
    OR ({PASSED_GATES_IN_FORCE})
"""
_NO_TRAFFIC = (
    "a version that has not passed every gate of the policy in force can not enter a rollout, its shadow or its canary"
)
_NO_ROUTE = "the route serves only promoted champions and the candidate of an active rollout"
_NO_CHAMPION = "only a promoted version of the model can be champion"

GUARDS = (
    *owes_event("rollout_endpoint"),
    # what a decision point does is said in reports of the past (mlops.dossier)
    frozen("rollout_endpoint", ("name", "entity_column", "threshold", "outcome_window", "fallback")),
    *owes_event("rollout_decision"),
    *owes_event("rollout_route"),
    *owes_event("rollout_rollout"),
    Guard("guard_rollout_rollout_gated", "rollout_rollout", "INSERT", _NO_TRAFFIC, PASSED_GATES_IN_FORCE),
    Guard(
        "guard_rollout_rollout_entered",
        "rollout_rollout",
        "UPDATE",
        _NO_TRAFFIC,
        _ENTERED,
    ),
    Guard(
        "guard_rollout_rollout_onwards",
        "rollout_rollout",
        "UPDATE",
        "a rollout starts once, and what has ended stays ended",
        """
        (OLD.state NOT IN ('promoted', 'rolled_back', 'aborted') OR NEW.state = OLD.state)
        AND (OLD.state = 'pending' OR NEW.state <> 'pending')
        """,
    ),
    frozen("rollout_rollout", ("endpoint_id", "registered_model_id", "version_id", "gate_run_id", "salt")),
    *never_deleted("rollout_rollout"),
    Guard("guard_rollout_route_insert", "rollout_route", "INSERT", _NO_ROUTE, _ROUTED),
    Guard("guard_rollout_route_update", "rollout_route", "UPDATE", _NO_ROUTE, _ROUTED),
    Guard("guard_registry_alias_insert", "registry_alias", "INSERT", _NO_CHAMPION, _CHAMPION),
    Guard("guard_registry_alias_update", "registry_alias", "UPDATE", _NO_CHAMPION, _CHAMPION),
    *append_only("rollout_decision"),
    *append_only("rollout_analysisrun"),
    *append_only("rollout_measurement"),
)
