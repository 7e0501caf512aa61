"""On-demand features: define the functions that compute features from a request and stored values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.contrib.auth.models import Group
from django.db import transaction

from audit.errors import InvalidInput
from audit.trail import Actor, record
from engines.on_demand import DTYPES, OnDemandError, Transform
from engines.on_demand import transform as read
from features import meaning
from features.actions.rules import refuse, require_member, validate
from features.description import described_features, names_error
from features.models import OnDemandTransform


@dataclass(frozen=True)
class PreparedTransform:
    """A function that has been read and found acceptable, and is not stored."""

    function: Transform
    features: tuple[Mapping[str, str], ...]
    content_hash: str


def define_transform(
    *,
    name: str,
    code: str,
    features: Sequence[Mapping[str, str]],
    owner: Group,
    description: str = "",
    actor: Actor,
    now: datetime,
) -> OnDemandTransform:
    """The transform with this function: the one that exists, else a new number.

    ``code`` is one Python function (``engines.on_demand`` says what is accepted) whose arguments are columns: request
    features, or ``view__feature``. ``features`` name everything it returns, with ``dtype``.
    """
    require_member(actor, owner)
    prepared = prepare_transform(name=name, code=code, features=features, owner=owner)
    with transaction.atomic():
        # Numbers are given one at a time; before the first there is only the owner to lock.
        Group.objects.select_for_update(no_key=True).get(pk=owner.pk)
        numbers = OnDemandTransform.objects.filter(name=name).order_by("-number")
        newest = numbers.select_related("owner").first()
        if newest is not None:
            require_member(actor, newest.owner)
        existing = numbers.filter(content_hash=prepared.content_hash).first()
        if existing is not None:
            return existing
        stored = OnDemandTransform.objects.create(
            name=name,
            number=newest.number + 1 if newest else 1,
            description=description,
            owner=owner,
            code=code,
            inputs=list(prepared.function.inputs),
            features=list(prepared.features),
            content_hash=prepared.content_hash,
            created_at=now,
        )
        record("on_demand_transform.defined", stored, actor=actor, data={"content_hash": prepared.content_hash})
    return stored


def prepare_transform(
    *, name: str, code: str, features: Sequence[Mapping[str, str]], owner: Group
) -> PreparedTransform:
    """Check a transform without storing anything. Raises InvalidInput by field."""
    described = described_features(features)
    wrong = names_error([each["name"] for each in described])
    # its number and hash are given when it is stored
    wanted = OnDemandTransform(name=name, code=code, owner=owner, inputs=["…"], features=described)
    validate(wanted, also={"features": wrong if described else "Name at least one."})
    try:
        function = read(code)
    except OnDemandError as error:
        raise InvalidInput({"code": str(error)}) from error
    refuse({"features": _wrong_with(function, described)})
    typed = [(each["name"], each["dtype"]) for each in described]
    return PreparedTransform(function, tuple(described), meaning.transform_hash(name, function.digest, typed))


def _wrong_with(function: Transform, described: Sequence[Mapping[str, str]]) -> str:
    """What declared and returned features disagree in; '' for nothing."""
    names = [each["name"] for each in described]
    if sorted(names) != sorted(function.outputs):
        return f"The function returns {', '.join(function.outputs)}; declared are {', '.join(names)}."
    for each in described:
        accepted = DTYPES[function.outputs[each["name"]]]
        if each.get("dtype") not in accepted:
            kind = function.outputs[each["name"]]
            return f"{each['name']} is a {kind}: its dtype is {' or '.join(accepted)}, not {each.get('dtype')}."
    return ""
