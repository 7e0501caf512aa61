"""Pin features for a model: the feature service."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.contrib.auth.models import Group
from django.db import transaction

from audit.errors import Conflict, InvalidInput
from audit.trail import Actor, record
from features import meaning
from features.actions.rules import refuse, repeated, require_member, validate
from features.models import (
    FeatureService,
    FeatureServiceFeature,
    FeatureViewVersion,
    OnDemandTransform,
    ViewState,
)

Users = Callable[[FeatureService], Sequence[str]]
"""Says who uses a service now, in words; models are above this app."""


def define_service(
    *,
    name: str,
    features: Sequence[str],
    request_features: Sequence[str] = (),
    transforms: Sequence[str] = (),
    owner: Group,
    description: str = "",
    actor: Actor,
    now: datetime,
) -> FeatureService:
    """The service with this vector, pinned to the newest published versions: the one that exists, else a new number.

    ``features`` are written "view.feature"; their order is the order of the vector, after ``request_features``.
    ``transforms`` are names of on-demand transforms, pinned to their newest; their columns come last, by name.
    """
    require_member(actor, owner)
    check_vector(features=features, request_features=request_features, transforms=transforms)
    validate(FeatureService(name=name, owner=owner), also={})
    with transaction.atomic():
        # Numbers of a service are given one at a time; before its first there is only the owner to lock.
        Group.objects.select_for_update(no_key=True).get(pk=owner.pk)
        vector = _vector(features, request_features, transforms)
        numbers = FeatureService.objects.filter(name=name).order_by("-number")
        newest = numbers.select_related("owner").first()
        if newest is not None:
            require_member(actor, newest.owner)
        existing = numbers.filter(content_hash=vector.content_hash).first()
        if existing is not None:
            return unless_retired(existing)
        service = FeatureService(
            name=name,
            number=newest.number + 1 if newest else 1,
            description=description,
            owner=owner,
            request_features=list(request_features),
            content_hash=vector.content_hash,
            created_at=now,
        )
        vector.store(service)
        record("feature_service.defined", service, actor=actor, data={"pins": vector.pins})
    return service


@dataclass(frozen=True)
class _Vector:
    """What a service pins: features of view versions in their order, on-demand transforms, and the hash of it all."""

    pinned: Sequence[tuple[FeatureViewVersion, str]]
    on_demand: Sequence[OnDemandTransform]
    content_hash: str

    @property
    def pins(self) -> list[str]:
        return sorted({str(version) for version, _ in self.pinned} | {str(each) for each in self.on_demand})

    def store(self, service: FeatureService) -> None:
        """Insert the service with its pins."""
        service.save(force_insert=True)
        FeatureServiceFeature.objects.bulk_create(
            FeatureServiceFeature(service=service, view_version=version, feature=feature, position=position)
            for position, (version, feature) in enumerate(self.pinned)
        )
        service.transforms.set(self.on_demand)


def _vector(features: Sequence[str], request_features: Sequence[str], transforms: Sequence[str]) -> _Vector:
    """The vector of these names, pinned to what is newest now. Raises InvalidInput when it does not fit together."""
    pinned = _pinned(features)
    on_demand = _newest_transforms(transforms)
    check_columns(
        [f"{version.view.name}__{feature}" for version, feature in pinned],
        request_features=request_features,
        transforms={each.name: (each.inputs, each.columns) for each in on_demand},
    )
    content_hash = meaning.service_hash(
        [(version.view.name, version.content_hash, feature) for version, feature in pinned],
        request_features,
        [(each.name, each.content_hash) for each in on_demand],
    )
    return _Vector(pinned, on_demand, content_hash)


def retire_service(
    service: FeatureService, *, actor: Actor, reason: str, now: datetime, users: Users
) -> FeatureService:
    """No model may take the service up any more, and nothing is kept fresh for it. Refused while ``users`` names any.

    Retiring it again changes nothing.
    """
    require_member(actor, service.owner)
    refuse({"reason": "" if reason.strip() else "Say why; whoever used the service will read it."})
    with transaction.atomic():
        stored = FeatureService.objects.select_for_update().get(pk=service.pk)
        if stored.retired_at is None:
            using = users(stored)
            if using:
                raise Conflict(f"{service} is used by {', '.join(using)} and can not be retired.")
            stored.retired_at = now
            stored.save(update_fields=["retired_at"])
            record("feature_service.retired", stored, actor=actor, reason=reason)
        service.retired_at = stored.retired_at
    return service


def unless_retired(service: FeatureService) -> FeatureService:
    """The service. Raises Conflict if it was retired: its vector is that number's for ever."""
    if service.retired_at is not None:
        raise Conflict(f"{service} has exactly this vector and was retired; choose another name.")
    return service


def check_vector(*, features: Sequence[str], request_features: Sequence[str], transforms: Sequence[str]) -> None:
    """Raise InvalidInput with what is wrong with the names of a vector."""
    refuse(
        {
            "features": "" if features or request_features else "Name at least one.",
            "request_features": repeated(request_features),
            "transforms": repeated(transforms),
        }
    )


def check_columns(
    columns: Iterable[str],
    *,
    request_features: Sequence[str],
    transforms: Mapping[str, tuple[Sequence[str], Sequence[str]]],
) -> None:
    """Raise InvalidInput where columns would be filled twice, or a transform (name to inputs and columns) lacks one."""
    stored = set(columns)
    computed = {column for _, given in transforms.values() for column in given}
    clash = [column for column in request_features if column in stored | computed]
    both = sorted(stored & computed)
    present = stored | set(request_features)
    lacking = [
        f"{name} takes {', '.join(missing)}"
        for name, (inputs, _) in transforms.items()
        if (missing := [column for column in inputs if column not in present])
    ]
    refuse(
        {
            "request_features": f"{', '.join(clash)}: the feature store fills this column." if clash else "",
            "transforms": f"{', '.join(both)}: a feature view fills this column."
            if both
            else f"{'; '.join(lacking)}: name it among the features or request features."
            if lacking
            else "",
        }
    )


def _newest_transforms(names: Sequence[str]) -> list[OnDemandTransform]:
    """The newest number of each transform, by name. Raises InvalidInput for one that is not there."""
    stored = OnDemandTransform.objects.filter(name__in=names).order_by("number")
    newest = {each.name: each for each in stored}  # ascending, so that the newest stays
    missing = [name for name in names if name not in newest]
    refuse({"transforms": f"There is no transform {', '.join(missing)}." if missing else ""})
    return [newest[name] for name in sorted(names)]


def _pinned(features: Sequence[str]) -> list[tuple[FeatureViewVersion, str]]:
    """Each "view.feature" with the newest published version of its view. Raises InvalidInput with every fault."""
    names = {reference.partition(".")[0] for reference in features}
    published = FeatureViewVersion.objects.filter(view__name__in=names, state=ViewState.PUBLISHED)
    # ascending, so that the newest of a view stays
    newest = {version.view.name: version for version in published.select_related("view").order_by("number")}
    faults = [repeated(features)]
    for reference in features:
        view, _, feature = reference.partition(".")
        if view not in newest:
            faults.append(f"{reference}: no feature view {view!r} is published.")
        elif feature not in newest[view].feature_names:
            faults.append(f"{reference}: {newest[view]} has {', '.join(newest[view].feature_names)}.")
    if any(faults):
        raise InvalidInput({"features": [fault for fault in faults if fault]})
    return [(newest[view], feature) for view, _, feature in (reference.partition(".") for reference in features)]
