"""Who consumes which features now: model versions that are live or in a rollout, by the feature service they take.

A stranger to a model learns that somebody uses a feature and whom to ask (the group), not which model it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from django.contrib.auth.models import AbstractBaseUser
from django.db.models import QuerySet

from features.models import FeatureService, FeatureServiceFeature, FeatureViewVersion, ViewState
from registry.models import Alias, ModelVersion, RegisteredModel
from rollout.models import ACTIVE, Endpoint, Rollout, Route

SERVING = "serving"
"""The role of a version that answers an endpoint and is not its model's champion any more."""


@dataclass(frozen=True)
class Use:
    """A model version that takes a feature service: as ``champion``, still ``serving`` an endpoint, or in a rollout
    (its state)."""

    version: ModelVersion
    role: str
    endpoints: tuple[Endpoint, ...]
    is_visible: bool

    @property
    def owner(self) -> str:
        """The group that moves the model to other features."""
        return str(self.version.registered_model.data_science)

    @property
    def label(self) -> str:
        """The version's name, for who may know it."""
        return str(self.version) if self.is_visible else f"a model of {self.owner}"


Uses = Mapping[int, Sequence[Use]]
"""Uses by primary key of the feature service."""


@dataclass(frozen=True)
class Mover:
    """A service that pins a deprecated version, and those who have to move to another one."""

    service: FeatureService
    version: FeatureViewVersion
    features: tuple[str, ...]
    uses: tuple[Use, ...]

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups that have to act: those of the models, and the service's owner."""
        return tuple(sorted({str(self.service.owner), *(use.owner for use in self.uses)}))


def uses_now(reader: AbstractBaseUser) -> dict[int, list[Use]]:
    """All uses by service, in a fixed number of queries. ``reader`` decides only which of them are named."""
    found: dict[int, list[Use]] = {}
    for use in live_versions(reader):
        if use.version.service_id is not None:
            found.setdefault(use.version.service_id, []).append(use)
    return found


def live_versions(reader: AbstractBaseUser) -> list[Use]:
    """Every version that is champion, answers an endpoint, or is in a rollout; a version may be there twice."""
    visible = set(RegisteredModel.objects.visible_to(reader).values_list("pk", flat=True))
    related = ("registered_model__data_science", "service")
    of_version = tuple(f"version__{name}" for name in related)
    serving = _endpoints_of_champions()
    aliases = Alias.objects.filter(name=Alias.CHAMPION).select_related(*of_version).order_by("pk")
    champions = [alias.version for alias in aliases]
    # an endpoint keeps its version when another endpoint's promotion moves the model's alias
    left = set(serving) - {version.pk for version in champions}
    others = ModelVersion.objects.filter(pk__in=left).select_related(*related).order_by("pk")
    active = Rollout.objects.filter(state__in=ACTIVE).select_related("endpoint", *of_version).order_by("pk")
    found: list[tuple[ModelVersion, str, tuple[Endpoint, ...]]] = [
        *((version, Alias.CHAMPION, tuple(serving.get(version.pk, ()))) for version in champions),
        *((version, SERVING, tuple(serving[version.pk])) for version in others),
        *((rollout.version, rollout.state, (rollout.endpoint,)) for rollout in active),
    ]
    return [Use(version, role, at, version.registered_model_id in visible) for version, role, at in found]


def _endpoints_of_champions() -> dict[int, list[Endpoint]]:
    routed: dict[int, list[Endpoint]] = {}
    for route in Route.objects.filter(champion__isnull=False).select_related("endpoint").order_by("endpoint__name"):
        if route.champion_id is not None:
            routed.setdefault(route.champion_id, []).append(route.endpoint)
    return routed


def distinct_models(uses: Iterable[Use]) -> int:
    """How many models these are: one with a champion and a candidate counts once."""
    return len({use.version.registered_model_id for use in uses})


def movers(uses: Uses, *, versions: Iterable[FeatureViewVersion] | None = None) -> list[Mover]:
    """Who must leave the deprecated versions (of ``versions``, or of all): one per service and version, in use first.

    A service that was retired keeps nobody; one that no model uses is named too, because it still pins the version.
    """
    pins = FeatureServiceFeature.objects.filter(view_version__state=ViewState.DEPRECATED)
    if versions is not None:
        pins = pins.filter(view_version__in=[version.pk for version in versions])
    return _moved(pins.filter(service__retired_at=None), uses)


def would_have_to_move(version: FeatureViewVersion, uses: Uses) -> list[Mover]:
    """Who would have to leave ``version`` if it were deprecated."""
    return _moved(FeatureServiceFeature.objects.filter(view_version=version, service__retired_at=None), uses)


def _moved(pins: QuerySet[FeatureServiceFeature], uses: Uses) -> list[Mover]:
    related = ("service__owner", "view_version__view", "view_version__replaced_by__view")
    grouped: dict[tuple[int, int], list[FeatureServiceFeature]] = {}
    for pin in pins.select_related(*related).order_by("service__name", "service__number", "position"):
        grouped.setdefault((pin.service_id, pin.view_version_id), []).append(pin)
    found = [
        Mover(
            service=same[0].service,
            version=same[0].view_version,
            features=tuple(pin.feature for pin in same),
            uses=tuple(uses.get(service, ())),
        )
        for (service, _), same in grouped.items()
    ]
    return sorted(found, key=lambda mover: (not mover.uses, str(mover.service)))
