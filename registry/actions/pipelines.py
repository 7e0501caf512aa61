"""Say how a model is trained."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction

from audit.errors import AlreadyExists
from audit.trail import Actor, record
from features.models import FeatureService
from registry import windows as training_windows
from registry.actions.rows import save_new, validate
from registry.actions.services import hold_service
from registry.duties import require
from registry.models import Duty, RegisteredModel, TrainingPipeline

ENTRY_POINT = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
MEMORY_LIMIT = 8 * 2**30


def define_pipeline(
    *,
    registered_model: RegisteredModel,
    name: str,
    entry_point: str,
    code_path: str,
    service: FeatureService,
    entity_frame: str,
    outcomes: str,
    label: str,
    parameters: Mapping[str, Any],
    windows: Sequence[Mapping[str, Any]],
    holdout_days: int,
    time_limit: timedelta,
    automatic: bool,
    memory_limit: int = MEMORY_LIMIT,
    actor: Actor,
    now: datetime,
) -> TrainingPipeline:
    """Say how a model is trained. ``code_path`` is a folder below the project's own; ``entry_point`` a module.

    ``windows`` are the training windows that a retraining may choose among.
    """
    require(actor, registered_model, Duty.DATA_SCIENCE)
    pipeline = TrainingPipeline(
        registered_model=registered_model,
        name=name,
        entry_point=entry_point,
        code_path=code_path,
        service=service,
        entity_frame=entity_frame,
        outcomes=outcomes,
        label=label,
        parameters=dict(parameters),
        windows=[dict(window) for window in windows],
        holdout_days=holdout_days,
        time_limit=time_limit,
        memory_limit=memory_limit,
        automatic=automatic,
    )
    taken = f"{registered_model} has a pipeline {name!r} already."
    if registered_model.pipelines.filter(name=name).exists():
        raise AlreadyExists(taken)
    validate(pipeline, also=_wrong_with(pipeline))
    with transaction.atomic():
        hold_service(service)
        save_new(pipeline, taken=taken)
        data = {"pipeline": name, "entry_point": entry_point, "service": str(service), "windows": pipeline.windows}
        record("training_pipeline.defined", pipeline, actor=actor, data=data)
    return pipeline


def _wrong_with(pipeline: TrainingPipeline) -> dict[str, str]:
    """What no field says about itself."""
    wrong = {}
    if not ENTRY_POINT.fullmatch(pipeline.entry_point):
        wrong["entry_point"] = "The name of a Python module, such as flights.train."
    folder = Path(settings.BASE_DIR, pipeline.code_path)
    if not (folder.is_dir() and folder.resolve().is_relative_to(Path(settings.BASE_DIR).resolve())):
        wrong["code_path"] = "A folder of the project that exists, relative to its root."
    if pipeline.time_limit <= timedelta(0):
        wrong["time_limit"] = "More than nothing."
    if not pipeline.windows:
        wrong["windows"] = 'At least one, such as {"name": "expanding"}.'
    for window in pipeline.windows:
        wrong.update(wrong_with_window("windows", window))
    return wrong


def wrong_with_window(field: str, window: Mapping[str, Any]) -> dict[str, str]:
    try:
        training_windows.check(window)
    except training_windows.WindowError as error:
        return {field: str(error)}
    return {}
