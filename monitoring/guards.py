"""What the database refuses in monitoring: rewritten judgements and evidence."""

from audit.guards import append_only, frozen, never_deleted, owes_event

GUARDS = (
    *owes_event("monitoring_monitor"),
    # seen again, an incident shows the newest evidence and counts: measured, not decided
    *owes_event("monitoring_incident", apart_from=("title", "detail", "evidence", "occurrences", "severity")),
    *owes_event("monitoring_retraining"),
    *owes_event("monitoring_rethink"),
    *append_only("monitoring_driftrun"),
    *never_deleted("monitoring_incident"),
    frozen("monitoring_incident", ("registered_model_id", "version_id", "kind", "opened_at")),
    frozen("monitoring_retraining", ("registered_model_id", "incident_id", "champion_before_id", "cause_kind")),
    *never_deleted("monitoring_rethink"),
    frozen("monitoring_rethink", ("registered_model_id", "question", "evidence", "evidence_digest", "proposed_at")),
)
