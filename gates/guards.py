"""What the database refuses at the gates: rewritten evidence, and a run that passes without its checks."""

from audit.guards import Guard, append_only, frozen, never_deleted, owes_event

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
ENDED_STAYS_ENDED = """
    OLD.state IN ('open', 'running') OR OLD.state = NEW.state
"""

GUARDS = (
    *owes_event("gates_policy"),
    *owes_event("gates_evidence"),
    *owes_event("gates_gaterun"),
    *append_only("gates_policy"),
    *append_only("gates_evidence"),
    *append_only("gates_checkresult"),
    *never_deleted("gates_gaterun"),
    frozen("gates_gaterun", ("registered_model_id", "version_id", "policy_id", "number", "required_checks")),
    Guard(
        "guard_gates_gaterun_passed",
        "gates_gaterun",
        "UPDATE",
        "a gate run passes only when every blocking check has passed",
        f"({ALL_BLOCKING_CHECKS_PASSED}) AND ({ENDED_STAYS_ENDED})",
    ),
    Guard(
        "guard_gates_gaterun_opened",
        "gates_gaterun",
        "INSERT",
        "a gate run starts open, under the policy in force",
        """
        NEW.state = 'open' AND NEW.policy_id = (
            SELECT p.id FROM gates_policy p WHERE p.registered_model_id = NEW.registered_model_id
            ORDER BY p.number DESC LIMIT 1
        )
        """,
    ),
)
