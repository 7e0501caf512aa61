"""Registered models with their tier and three owners."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib.auth.models import AbstractBaseUser, Group
from django.db import models
from django.db.models import Q

from features.models import SLUG

if TYPE_CHECKING:
    from registry.models.versions import ModelVersion


class Tier(models.TextChoices):
    EXPERIMENTAL = "experimental"
    STANDARD = "standard"
    HIGH_STAKES = "high-stakes"


class Task(models.TextChoices):
    BINARY_CLASSIFICATION = "binary_classification"
    REGRESSION = "regression"


class Duty(models.TextChoices):
    """The three duties; each registered model names the group that has it."""

    DATA_SCIENCE = "data_science", "Data science: model quality"
    PLATFORM = "platform", "Platform: infrastructure reliability"
    PRODUCT = "product", "Product: which model is used and when"


class RegisteredModelQuerySet(models.QuerySet["RegisteredModel"]):
    def visible_to(self, user: AbstractBaseUser) -> RegisteredModelQuerySet:
        """Models a user may look at: those their groups own; all for superusers and auditors."""
        if getattr(user, "is_superuser", False) or _is_auditor(user):
            return self
        mine = user.groups.all()  # type: ignore[attr-defined]  # AbstractBaseUser lacks PermissionsMixin's field
        owned = Q(data_science__in=mine) | Q(platform__in=mine) | Q(product__in=mine)
        return self.filter(owned).distinct()


class RegisteredModel(models.Model):
    """A question that is answered by a model, with the tier of its stakes and three owners."""

    name = models.CharField(max_length=60, unique=True, validators=[SLUG])
    title = models.CharField(max_length=120)
    description = models.TextField(blank=True, help_text="The question it answers, for whom, and when.")
    task = models.CharField(max_length=30, choices=Task.choices, default=Task.BINARY_CLASSIFICATION)
    tier = models.CharField(max_length=20, choices=Tier.choices, default=Tier.STANDARD)
    data_science = models.ForeignKey(Group, on_delete=models.PROTECT, related_name="+", help_text="Owns model quality.")
    platform = models.ForeignKey(Group, on_delete=models.PROTECT, related_name="+", help_text="Owns infrastructure.")
    product = models.ForeignKey(
        Group, on_delete=models.PROTECT, related_name="+", help_text="Owns which model is used."
    )
    retention_days = models.PositiveIntegerField(
        null=True,
        blank=True,
        editable=False,
        help_text="Files of a version that nothing refers to go so many days after its registration; empty: never.",
    )
    quota_bytes = models.BigIntegerField(
        null=True, blank=True, editable=False, help_text="All files of all versions together; empty: the setting's."
    )
    automation = models.BooleanField(default=True, editable=False, help_text="Off: nothing retrains by itself.")
    created_at = models.DateTimeField()

    objects: ClassVar[Any] = RegisteredModelQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(tier__in=Tier.values), name="registered_model_tier_known"),
            models.CheckConstraint(condition=Q(task__in=Task.values), name="registered_model_task_known"),
        ]
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def registered_model(self) -> RegisteredModel:
        """Itself: so that events about a model and about its parts are found alike."""
        return self

    def owner(self, duty: str) -> Group:
        """The group that has ``duty`` for this model."""
        return {
            Duty.DATA_SCIENCE: self.data_science,
            Duty.PLATFORM: self.platform,
            Duty.PRODUCT: self.product,
        }[Duty(duty)]

    def champion(self) -> ModelVersion | None:
        alias = self.aliases.filter(name="champion").select_related("version").first()
        return alias.version if alias else None


AUDITORS = "auditors"
"""Members of this group may read everything. They change nothing, but for legal holds: those they place and release."""


def _is_auditor(user: AbstractBaseUser) -> bool:
    return bool(user.groups.filter(name=AUDITORS).exists())  # type: ignore[attr-defined]  # see visible_to
