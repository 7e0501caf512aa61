"""What the edges keep: reports that were issued, answers that may be asked for again, tokens of the API."""

from __future__ import annotations

from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from knox.models import AbstractAuthToken


class Report(models.Model):
    """An audit report that was issued: for one log position its bytes are always the same. Written once."""

    kind = models.CharField(max_length=20, help_text="dossier or incident.")
    subject_type = models.CharField(max_length=80)
    subject_id = models.CharField(max_length=40)
    subject_label = models.CharField(max_length=200)
    registered_model_name = models.CharField(max_length=100, blank=True)
    position = models.BigIntegerField(help_text="Last link of the log that it knows.")
    digest = models.CharField(max_length=64, help_text="SHA-256 of its canonical JSON.")
    generator = models.CharField(max_length=40, help_text="Version of the code that wrote it.")
    issued_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    issued_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["subject_type", "subject_id", "position", "generator"], name="report_once_per_position"
            ),
        ]
        ordering: ClassVar = ["-id"]

    def __str__(self) -> str:
        return f"{self.kind} of {self.subject_label} at {self.position}"


class IdempotentAnswer(models.Model):
    """What was answered to a request with an Idempotency-Key; the same request with the same key gets it again."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=200)
    fingerprint = models.CharField(max_length=64, help_text="SHA-256 of method, address and body.")
    status = models.PositiveSmallIntegerField()
    headers = models.JSONField(default=dict)
    body = models.BinaryField()
    at = models.DateTimeField(help_text="Wall clock: forgotten after a day.")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["user", "key"], name="idempotency_key_once_per_user"),
        ]

    def __str__(self) -> str:
        return f"{self.user} {self.key}"


class ApiToken(AbstractAuthToken):  # type: ignore[misc]  # knox has no types
    """Who may call the API, for what, until when. Kept as a digest; the text was shown once."""

    name = models.CharField(max_length=80, blank=True, help_text="What it is for, such as 'CI of flights'.")
    scopes = models.JSONField(default=list, help_text="What its holder may do with it, of what the user may do.")
    last_used_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[Any]

    class Meta:
        ordering: ClassVar = ["user", "created"]
