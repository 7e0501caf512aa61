"""What events say of a version, so that the log alone can answer later what served and from which bytes."""

from __future__ import annotations

from typing import Any

from registry.models import ModelVersion


def version_facts(version: ModelVersion) -> dict[str, Any]:
    """Its name, number and digests. ``id`` finds the events about it."""
    return {
        "id": version.pk,
        "model": version.registered_model.name,
        "version": version.number,
        "artifact": version.artifact_digest,
        "manifest": version.manifest_digest,
    }
