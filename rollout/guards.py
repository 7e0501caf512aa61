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
# what may answer everybody while the kill switch is pulled
_MAY_FALL_BACK = f"""
    EXISTS (
        SELECT 1 FROM rollout_fallback f JOIN rollout_endpoint e ON e.id = f.endpoint_id
        WHERE f.id = NEW.fallback_id AND f.endpoint_id = NEW.endpoint_id AND f.retired_at IS NULL AND NOT e.enabled
          AND (f.version_id IS NULL OR {_promoted("f.version_id", "e.registered_model_id")})
    )
"""
_SAME_FALLBACK = "NEW.fallback_id = OLD.fallback_id AND NEW.endpoint_id = OLD.endpoint_id"
_PAUSED = "EXISTS (SELECT 1 FROM rollout_endpoint e WHERE e.id = NEW.endpoint_id AND e.rollouts_paused)"
_DECIDED_BY_PRODUCT = """
    EXISTS (
        SELECT 1 FROM registry_registeredmodel m JOIN auth_user_groups g ON g.group_id = m.product_id
        WHERE m.id = NEW.registered_model_id AND g.user_id = NEW.decided_by_id
    )
    AND (NEW.fallback_id IS NULL OR (NEW.kind = 'stop' AND EXISTS (
        SELECT 1 FROM rollout_fallback f WHERE f.id = NEW.fallback_id AND f.endpoint_id = NEW.endpoint_id
    )))
"""
_NO_FALLBACK = (
    "a fallback is of the endpoint itself and not retired, answers only while the kill switch is pulled, and its "
    "version was promoted for the model of the endpoint"
)
_LETS_NOBODY_ON = "the product owner paused rollouts at this endpoint: no candidate starts, gets more or is promoted"

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
    Guard(
        "guard_rollout_rollout_paused",
        "rollout_rollout",
        "UPDATE",
        _LETS_NOBODY_ON,
        f"""
        NEW.state NOT IN ('shadow', 'canary', 'promoted') OR (NEW.state = OLD.state AND NEW.step <= OLD.step)
        OR NOT {_PAUSED}
        """,
    ),
    Guard(
        "guard_rollout_rollout_paused_insert",
        "rollout_rollout",
        "INSERT",
        _LETS_NOBODY_ON,
        f"NEW.state NOT IN ('shadow', 'canary', 'promoted') OR NOT {_PAUSED}",
    ),
    Guard(
        "guard_rollout_route_paused",
        "rollout_route",
        "UPDATE",
        _LETS_NOBODY_ON,
        f"""
        NEW.candidate_id IS NULL OR (NEW.candidate_id = OLD.candidate_id AND NEW.share <= OLD.share) OR NOT {_PAUSED}
        """,
    ),
    Guard(
        "guard_rollout_route_falls_back",
        "rollout_route",
        "UPDATE",
        _NO_FALLBACK,
        f"NEW.fallback_id IS NULL OR ({_SAME_FALLBACK}) OR {_MAY_FALL_BACK}",
    ),
    Guard(
        "guard_rollout_route_falls_back_insert",
        "rollout_route",
        "INSERT",
        _NO_FALLBACK,
        f"NEW.fallback_id IS NULL OR {_MAY_FALL_BACK}",
    ),
    Guard(
        "guard_rollout_endpoint_given",
        "rollout_endpoint",
        "UPDATE",
        "a version of its model answers as the fallback: release the kill switch before another model comes",
        """
        NEW.registered_model_id = OLD.registered_model_id OR NOT EXISTS (
            SELECT 1 FROM rollout_route r JOIN rollout_fallback f ON f.id = r.fallback_id
            WHERE r.endpoint_id = NEW.id AND f.version_id IS NOT NULL
        )
        """,
    ),
    Guard(
        "guard_rollout_decision_by_product",
        "rollout_decision",
        "INSERT",
        "a person of the product group of its model decides, and a kill switch names a fallback of its own endpoint",
        _DECIDED_BY_PRODUCT,
    ),
    *append_only("rollout_decision"),
    *owes_event("rollout_decisionoutcome"),
    Guard(
        "guard_rollout_decisionoutcome_later",
        "rollout_decisionoutcome",
        "INSERT",
        "only a decision that was made for later has an outcome",
        """EXISTS (
            SELECT 1 FROM rollout_decision d WHERE d.id = NEW.decision_id AND d.takes_effect_at IS NOT NULL
        )""",
    ),
    *append_only("rollout_decisionoutcome"),
    *owes_event("rollout_fallback"),
    Guard(
        "guard_rollout_fallback_promoted",
        "rollout_fallback",
        "INSERT",
        _NO_FALLBACK,
        f"""NEW.version_id IS NULL OR EXISTS (
            SELECT 1 FROM rollout_endpoint e
            WHERE e.id = NEW.endpoint_id AND {_promoted("NEW.version_id", "e.registered_model_id")}
        )""",
    ),
    Guard(
        "guard_rollout_fallback_retired",
        "rollout_fallback",
        "UPDATE",
        "a fallback that answers can not be retired, and one that was retired stays retired",
        """
        (OLD.retired_at IS NULL OR NEW.retired_at = OLD.retired_at)
        AND (NEW.retired_at IS NULL OR NOT EXISTS (SELECT 1 FROM rollout_route r WHERE r.fallback_id = NEW.id))
        """,
    ),
    frozen("rollout_fallback", ("endpoint_id", "name", "score", "version_id", "note")),
    *never_deleted("rollout_fallback"),
    *owes_event("rollout_freezewindow"),
    frozen("rollout_freezewindow", ("endpoint_id", "starts_at", "ends_at", "note", "decided_by_id", "decided_at")),
    *never_deleted("rollout_freezewindow"),
    *owes_event("rollout_businessmetric"),
    frozen(
        "rollout_businessmetric",
        (
            "endpoint_id",
            "name",
            "title",
            "unit",
            "per",
            "better",
            "window",
            "missing",
            "is_heavy_tailed",
            "harm_from",
            "tolerated_harm",
            "guards",
            "created_at",
        ),
    ),
    Guard(
        "guard_rollout_businessmetric_retired",
        "rollout_businessmetric",
        "UPDATE",
        "a metric that was retired stays retired: define it anew",
        "OLD.retired_at IS NULL OR NEW.retired_at = OLD.retired_at",
    ),
    *never_deleted("rollout_businessmetric"),
    *append_only("rollout_analysisrun"),
    *append_only("rollout_measurement"),
)
