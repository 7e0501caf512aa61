"""What the database refuses in monitoring: rewritten judgements and evidence."""

from audit.guards import append_only, frozen, never_deleted

GUARDS = (
    *append_only("monitoring_driftrun"),
    *never_deleted("monitoring_incident"),
    *never_deleted("monitoring_rethink"),
    frozen("monitoring_rethink", ("registered_model_id", "question", "evidence", "evidence_digest", "proposed_at")),
)
