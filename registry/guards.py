"""What the database refuses in the registry: a version is immutable from registration on."""

from audit.guards import append_only, never_deleted

GUARDS = (
    *append_only("registry_modelversion"),
    *never_deleted("registry_registeredmodel"),
    *never_deleted("registry_trainingrun"),
)
