"""What the database refuses in the registry: a version is immutable from registration on."""

from audit.guards import Guard, append_only, frozen, never_deleted, owes_event

GUARDS = (
    *owes_event("registry_registeredmodel"),
    *owes_event("registry_trainingpipeline"),
    frozen("registry_trainingpipeline", ("registered_model_id", "name", "entry_point", "code_path")),
    *owes_event("registry_trainingrun"),
    *owes_event("registry_modelversion"),
    *owes_event("registry_alias"),
    *owes_event("registry_conversion"),
    *append_only("registry_modelversion"),
    *append_only("registry_artifactfile"),
    *append_only("registry_conversion"),
    *append_only("registry_modelcard"),
    # of bytes that were removed, the row still says what they were; only when and why may be noted on it
    frozen("registry_blob", ("digest", "bytes", "stored_at")),
    *never_deleted("registry_blob"),
    frozen("registry_legalhold", ("version_id", "reason", "placed_by_id", "placed_at")),
    *never_deleted("registry_legalhold"),
    Guard(
        "guard_registry_legalhold_released",
        "registry_legalhold",
        "UPDATE",
        "registry_legalhold: a hold is released once, by another person than the one who placed it",
        "OLD.released_at IS NULL AND NEW.released_by_id IS NOT NULL AND NEW.released_by_id <> OLD.placed_by_id",
    ),
    *owes_event("registry_artifactfile"),
    *owes_event("registry_legalhold"),
    *owes_event("registry_modelcard"),
    *never_deleted("registry_registeredmodel"),
    *never_deleted("registry_trainingrun"),
    Guard(
        "guard_registry_trainingrun_ended",
        "registry_trainingrun",
        "UPDATE",
        "registry_trainingrun: a run that has ended stays as it ended",
        "OLD.state IN ('requested', 'running')",
    ),
    frozen("registry_alias", ("registered_model_id", "name")),
    *never_deleted("registry_alias"),
    # what other tools told us stays as it was sent; only that it was folded is noted on it
    frozen(
        "registry_lineageevent",
        ("digest", "body", "kind", "event_type", "event_time", "producer", "received_by_id", "received_at"),
    ),
    *never_deleted("registry_lineageevent"),
    *owes_event("registry_lineageevent", apart_from=("folded_at", "problem")),
)
