"""Pin features for a model: the feature service."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.contrib.auth.models import Group
from django.db import transaction

from audit.errors import InvalidInput
from audit.trail import Actor, record
from features import meaning
from features.actions.rules import repeated, require_member, validate
from features.models import FeatureService, FeatureServiceFeature, FeatureViewVersion, ViewState


def define_service(
    *,
    name: str,
    features: Sequence[str],
    request_features: Sequence[str] = (),
    owner: Group,
    description: str = "",
    actor: Actor,
    now: datetime,
) -> FeatureService:
    """The service with this vector, pinned to the newest published versions: the one that exists, else a new number.

    ``features`` are written "view.feature"; their order is the order of the vector, after ``request_features``.
    """
    require_member(actor, owner)
    empty = "" if features or request_features else "Name at least one."
    faults = {"features": empty, "request_features": repeated(request_features)}
    validate(FeatureService(name=name, owner=owner), also=faults)
    with transaction.atomic():
        # Numbers of a service are given one at a time; before its first there is only the owner to lock.
        Group.objects.select_for_update().get(pk=owner.pk)
        pinned = _pinned(features)
        columns = {f"{version.view.name}__{feature}" for version, feature in pinned}
        clash = [column for column in request_features if column in columns]
        if clash:
            raise InvalidInput({"request_features": f"{', '.join(clash)}: the feature store fills this column."})
        content_hash = meaning.service_hash(
            [(version.view.name, version.content_hash, feature) for version, feature in pinned], request_features
        )
        numbers = FeatureService.objects.filter(name=name).order_by("-number")
        newest = numbers.select_related("owner").first()
        if newest is not None:
            require_member(actor, newest.owner)
        existing = numbers.filter(content_hash=content_hash).first()
        if existing is not None:
            return existing
        service = FeatureService.objects.create(
            name=name,
            number=newest.number + 1 if newest else 1,
            description=description,
            owner=owner,
            request_features=list(request_features),
            content_hash=content_hash,
            created_at=now,
        )
        FeatureServiceFeature.objects.bulk_create(
            FeatureServiceFeature(service=service, view_version=version, feature=feature, position=position)
            for position, (version, feature) in enumerate(pinned)
        )
        pins = sorted({str(version) for version, _ in pinned})
        record("feature_service.defined", service, actor=actor, data={"pins": pins})
    return service


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
