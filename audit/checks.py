"""System checks: in production the log must be signed, and its checkpoints must lie outside the database."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured

from audit import checkpoints


@register(Tags.security, deploy=True)
def log_is_sealed(**kwargs: Any) -> list[CheckMessage]:
    """Without a key nothing shows that the end of the log was cut off."""
    found: list[CheckMessage] = []
    try:
        checkpoints.trusted_keys()
    except (ImproperlyConfigured, ValueError) as problem:
        found.append(Error("The audit log can not be sealed.", hint=str(problem), id="audit.E001"))
    if not settings.CHECKPOINTS:
        hint = (
            "Set GATEHOUSE_CHECKPOINTS to a file that the database's administrators can not write, such as one on "
            "append-only storage: a copy beside the data proves nothing against them."
        )
        found.append(Warning("The log's checkpoints are kept beside the data only.", hint=hint, id="audit.W001"))
    return found
