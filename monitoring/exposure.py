"""Which live models a fault of the feature store reaches: champions, and candidates in an open rollout."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from django.contrib.auth.models import Group

from features.models import DataSource, FeatureServiceFeature, FeatureViewVersion
from registry.models import Alias, ModelVersion, RegisteredModel
from rollout.models import ACTIVE, Rollout


@dataclass(frozen=True)
class Exposed:
    """A version that is live. ``role``: champion, or the state of its rollout."""

    version: ModelVersion
    role: str

    @property
    def registered_model(self) -> RegisteredModel:
        return self.version.registered_model

    def __str__(self) -> str:
        return f"{self.version} ({self.role})"


def consumers(view_versions: Collection[FeatureViewVersion]) -> list[Exposed]:
    """The live versions whose feature service pins one of these view versions, champions first."""
    services = FeatureServiceFeature.objects.filter(view_version__in=view_versions).values("service")
    related = ("version__registered_model__platform",)
    champions = Alias.objects.filter(name=Alias.CHAMPION, version__service__in=services).select_related(*related)
    candidates = Rollout.objects.filter(state__in=ACTIVE, version__service__in=services).select_related(*related)
    return [
        *(Exposed(alias.version, alias.name) for alias in champions.order_by("registered_model__name")),
        *(Exposed(each.version, each.state) for each in candidates.order_by("registered_model__name", "pk")),
    ]


def fed_by(source: DataSource) -> list[Exposed]:
    """The live versions that take a feature computed from ``source``."""
    return consumers(list(source.view_versions.all()))


def names(exposed: Sequence[Exposed]) -> list[str]:
    """The models, each once."""
    return list(dict.fromkeys(each.registered_model.name for each in exposed))


def only_model(exposed: Sequence[Exposed]) -> RegisteredModel | None:
    """The model that all of these are versions of; None when there are several, or none."""
    of = {each.registered_model.pk: each.registered_model for each in exposed}
    return next(iter(of.values())) if len(of) == 1 else None


def platform_group(exposed: Sequence[Exposed] = ()) -> Group | None:
    """The platform group of these models, else that of all models; None where there are several (each may act)."""
    groups = {each.registered_model.platform for each in exposed}
    if not groups:
        groups = set(Group.objects.filter(pk__in=RegisteredModel.objects.values("platform"))[:2])
    return next(iter(groups)) if len(groups) == 1 else None


def severity(exposed: Sequence[Exposed]) -> str:
    """High when a champion is hurt, medium when only candidates are, else low."""
    if any(each.role == Alias.CHAMPION for each in exposed):
        return "high"
    return "medium" if exposed else "low"


def in_words(exposed: Sequence[Exposed]) -> str:
    """A sentence that names them."""
    if not exposed:
        return "It hurts no live model."
    return f"It hurts {', '.join(map(str, exposed))}."
