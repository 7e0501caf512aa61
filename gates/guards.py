"""What the database refuses at the gates: rewritten evidence, and a run that passes without its checks."""

from audit.guards import Guard, append_only, frozen, never_deleted, owes_event
from registry.actions.conversion import FORM_PINNED


def in_force(registered_model: str) -> str:
    """SQL: the id of the policy in force of the model whose id the expression ``registered_model`` gives."""
    return f"""(
        SELECT p.id FROM gates_policy p JOIN gates_policydecision d ON d.policy_id = p.id AND d.outcome = 'confirmed'
        WHERE p.registered_model_id = {registered_model} ORDER BY p.number DESC LIMIT 1
    )"""


ALL_BLOCKING_CHECKS_PASSED = """
    NEW.state <> 'passed'
    OR (
        (SELECT count(*) FROM gates_checkresult r WHERE r.gate_run_id = NEW.id AND r.blocking AND r.verdict = 'passed')
            >= NEW.required_checks
        AND NOT EXISTS (
            SELECT 1 FROM gates_checkresult r WHERE r.gate_run_id = NEW.id AND r.blocking AND r.verdict <> 'passed'
        )
    )
"""
SECOND_PERSON = """
    NEW.outcome <> 'confirmed' OR EXISTS (
        SELECT 1 FROM gates_policy p
        JOIN registry_registeredmodel m ON m.id = p.registered_model_id
        JOIN auth_user_groups ug ON ug.user_id = NEW.decided_by_id
            AND ug.group_id = CASE NEW.duty WHEN 'product' THEN m.product_id WHEN 'platform' THEN m.platform_id END
            AND ug.group_id <> m.data_science_id
        WHERE p.id = NEW.policy_id AND p.created_by_id IS NOT NULL AND p.created_by_id <> NEW.decided_by_id
          AND NOT EXISTS (
              SELECT 1 FROM gates_policy q JOIN gates_policydecision d ON d.policy_id = q.id AND d.outcome = 'confirmed'
              WHERE q.registered_model_id = p.registered_model_id AND q.number > p.number
          )
    )
"""
ENDED_STAYS_ENDED = """
    OLD.state IN ('open', 'running') OR OLD.state = NEW.state
"""
PASSES_FROM_RUNNING = """
    NEW.state <> 'passed' OR OLD.state IN ('running', 'passed')
"""
PROPOSED_BY_DATA_SCIENCE = """
    NEW.created_by_id IS NULL OR EXISTS (
        SELECT 1 FROM registry_registeredmodel m
        JOIN auth_user_groups ug ON ug.user_id = NEW.created_by_id AND ug.group_id = m.data_science_id
        WHERE m.id = NEW.registered_model_id
    )
"""

# What a policy's document asks for, in the words of each database. Whatever is not said to be report only is blocking.
_CHECKS_SQLITE = "json_each(p.document, '$.checks') c"
_BLOCKING_SQLITE = "(json_type(p.document, c.fullkey || '.blocking') IS NOT 'false')"
_CHECKS_POSTGRESQL = "jsonb_array_elements(p.document -> 'checks') AS c(value)"
_BLOCKING_POSTGRESQL = "((c.value -> 'blocking') IS DISTINCT FROM 'false'::jsonb)"


def _opened(checks: str, blocking: str) -> str:
    """A run of a version of this model, under the policy in force, that knows how many checks have to pass."""
    return f"""
        NEW.state = 'open' AND NEW.policy_id = {in_force("NEW.registered_model_id")}
        AND EXISTS (
            SELECT 1 FROM registry_modelversion v
            WHERE v.id = NEW.version_id AND v.registered_model_id = NEW.registered_model_id
        )
        AND NEW.required_checks = (
            SELECT count(*) FROM gates_policy p, {checks} WHERE p.id = NEW.policy_id AND {blocking}
        )
    """


def _asked_for(checks: str, check_id: str, kind: str, blocking: str) -> str:
    """A result of a check that the policy of its run has, of that kind and weight."""
    return f"""
        EXISTS (
            SELECT 1 FROM gates_gaterun g JOIN gates_policy p ON p.id = g.policy_id, {checks}
            WHERE g.id = NEW.gate_run_id
              AND {check_id} = NEW.check_id AND {kind} = NEW.kind AND {blocking} = NEW.blocking
        )
    """


WHILE_RUNNING = """
    EXISTS (SELECT 1 FROM gates_gaterun g WHERE g.id = NEW.gate_run_id AND g.state = 'running')
"""
# a run whose deadline passed is judged by its evidence alone, without ever running
WHILE_JUDGED = """
    EXISTS (
        SELECT 1 FROM gates_gaterun g WHERE g.id = NEW.gate_run_id
        AND (g.state = 'running' OR (g.state = 'open' AND NEW.kind IN ('ci_evidence', 'custom')))
    )
"""
INPUTS_STAY = """
    (OLD.state = 'open' OR (OLD.champion_id IS NOT DISTINCT FROM NEW.champion_id AND OLD.seed = NEW.seed))
    AND (OLD.holdout_id IS NOT DISTINCT FROM NEW.holdout_id OR (OLD.holdout_id IS NULL AND OLD.state = 'running'))
"""
SERVED_AS_MEASURED = """
    NEW.state <> 'passed' OR NOT EXISTS (
        SELECT 1 FROM registry_conversion c JOIN gates_preparation p ON p.gate_run_id = NEW.id
        WHERE c.version_id = NEW.version_id AND c.outcome = 'used' AND c.blob_id <> p.served_digest
    )
"""
# a pass without a preparation is of an older release, and pins what was served then
FORM_STAYS = """
    NEW.outcome <> 'used' OR NOT EXISTS (
        SELECT 1 FROM gates_gaterun g LEFT JOIN gates_preparation p ON p.gate_run_id = g.id
        WHERE g.version_id = NEW.version_id AND g.state = 'passed' AND p.served_digest IS DISTINCT FROM NEW.blob_id
    )
"""

GUARDS = (
    *owes_event("gates_policy"),
    *owes_event("gates_policydecision"),
    *owes_event("gates_evidence"),
    *owes_event("gates_preparation"),
    *owes_event("gates_gaterun"),
    *append_only("gates_policy"),
    *append_only("gates_policydecision"),
    *append_only("gates_preparation"),
    *append_only("gates_evidence"),
    *append_only("gates_checkresult"),
    *never_deleted("gates_gaterun"),
    frozen("gates_gaterun", ("registered_model_id", "version_id", "policy_id", "number", "required_checks")),
    Guard(
        "guard_gates_gaterun_passed",
        "gates_gaterun",
        "UPDATE",
        "a gate run passes only when every blocking check has passed",
        f"({ALL_BLOCKING_CHECKS_PASSED}) AND ({PASSES_FROM_RUNNING}) AND ({ENDED_STAYS_ENDED})",
    ),
    Guard(
        "guard_gates_gaterun_opened",
        "gates_gaterun",
        "INSERT",
        "a gate run starts open, under the policy in force, and requires each of its blocking checks",
        _opened(_CHECKS_SQLITE, _BLOCKING_SQLITE),
        _opened(_CHECKS_POSTGRESQL, _BLOCKING_POSTGRESQL),
    ),
    Guard(
        "guard_gates_checkresult_asked_for",
        "gates_checkresult",
        "INSERT",
        "a result is of a check that the policy of its run has",
        _asked_for(
            _CHECKS_SQLITE,
            "json_extract(p.document, c.fullkey || '.id')",
            "json_extract(p.document, c.fullkey || '.kind')",
            _BLOCKING_SQLITE,
        ),
        _asked_for(_CHECKS_POSTGRESQL, "(c.value ->> 'id')", "(c.value ->> 'kind')", _BLOCKING_POSTGRESQL),
    ),
    Guard(
        "guard_gates_policy_proposed",
        "gates_policy",
        "INSERT",
        "a policy is proposed by the data science owner",
        PROPOSED_BY_DATA_SCIENCE,
    ),
    Guard(
        "guard_gates_gaterun_inputs",
        "gates_gaterun",
        "UPDATE",
        "what a gate run is measured on is fixed when it begins, its holdout when it is prepared",
        INPUTS_STAY,
    ),
    Guard(
        "guard_gates_gaterun_served",
        "gates_gaterun",
        "UPDATE",
        "a gate run passes only a version that is served in the form that was measured",
        SERVED_AS_MEASURED,
    ),
    Guard(
        "guard_gates_preparation_running",
        "gates_preparation",
        "INSERT",
        "a gate run is prepared while it is running",
        WHILE_RUNNING,
    ),
    Guard(
        "guard_gates_checkresult_running",
        "gates_checkresult",
        "INSERT",
        "a check has its result while its gate run is running",
        WHILE_JUDGED,
    ),
    Guard("guard_registry_conversion_pinned", "registry_conversion", "INSERT", FORM_PINNED, FORM_STAYS),
    Guard(
        "guard_gates_policydecision_second_person",
        "gates_policydecision",
        "INSERT",
        "a policy takes force when a second person, of another duty and group, confirms it",
        SECOND_PERSON,
    ),
)
