"""Found a registered model, and change what is said of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.contrib.auth.models import Group
from django.db import transaction

from audit.errors import AlreadyExists
from audit.trail import Actor, record
from registry.actions.rows import save_new, validate
from registry.duties import require, require_founder
from registry.models import Duty, RegisteredModel, Task


def create_model(
    *,
    name: str,
    title: str,
    description: str,
    tier: str,
    data_science: Group,
    platform: Group,
    product: Group,
    task: str = Task.BINARY_CLASSIFICATION,
    actor: Actor,
    now: datetime,
) -> RegisteredModel:
    """Found a registered model with its tier and its three owners, who are of two groups at least.

    Raises InvalidInput by field, AlreadyExists, NotPermitted.
    """
    require_founder(actor, data_science.name)
    registered_model = RegisteredModel(
        name=name,
        title=title,
        description=description,
        task=task,
        tier=tier,
        data_science=data_science,
        platform=platform,
        product=product,
        created_at=now,
    )
    if RegisteredModel.objects.filter(name=name).exists():
        raise AlreadyExists(f"The registered model {name!r} exists already.")
    validate(registered_model, also=_without_a_second(registered_model))
    with transaction.atomic():
        save_new(registered_model, taken=f"The registered model {name!r} exists already.")
        owners = {duty.value: registered_model.owner(duty).name for duty in Duty}
        said = {"title": title, "description": description, "task": task, "tier": tier}
        record("registered_model.created", registered_model, actor=actor, data={**said, **owners})
    return registered_model


def change_model(
    registered_model: RegisteredModel,
    *,
    title: str,
    description: str,
    tier: str,
    data_science: Group,
    platform: Group,
    product: Group,
    reason: str,
    actor: Actor,
    now: datetime,
) -> None:
    """Change what is said of a model, its tier or its owners. Nothing changed: nothing recorded.

    Words: any owner. A duty is handed on by the group that has it, and never so that one group has all three. The tier
    is the product owner's: the policy is data science's, so that lighter gates for a model take both.
    """
    owners = {"data_science": data_science, "platform": platform, "product": product}
    wanted: dict[str, Any] = {"title": title, "description": description, "tier": tier, **owners}
    changed = [name for name, value in wanted.items() if getattr(registered_model, name) != value]
    require(actor, registered_model, *Duty)
    for name in changed:
        if name in owners:
            require(actor, registered_model, Duty(name))
    if "tier" in changed:
        require(actor, registered_model, Duty.PRODUCT)
    if not changed:
        return
    before = {name: str(getattr(registered_model, name)) for name in changed}
    for name in changed:
        setattr(registered_model, name, wanted[name])
    handed_on = owners.keys() & set(changed)
    validate(registered_model, also=_without_a_second(registered_model) if handed_on else None)
    with transaction.atomic():
        registered_model.save(update_fields=changed)
        data = {"before": before, "after": {name: str(wanted[name]) for name in changed}}
        record("registered_model.changed", registered_model, actor=actor, reason=reason, data=data)


def _without_a_second(registered_model: RegisteredModel) -> dict[str, str]:
    """What is wrong where one group has all three duties: a policy takes a second person of another group."""
    one = registered_model.data_science
    if {registered_model.platform_id, registered_model.product_id} != {registered_model.data_science_id}:
        return {}
    why = (
        f"Product or platform has to be another group than {one}, which has data science: a policy that {one} proposes "
        "is confirmed by somebody of another group, so that nobody could confirm one."
    )
    return {"product": why}
