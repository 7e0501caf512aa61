"""The registry's nouns: registered models with their owners, how they are trained, versions with their lineage."""

from registry.models.files import (
    ArtifactFile,
    Blob,
    Conversion,
    ConversionOutcome,
    FileRole,
    LegalHold,
    ModelCard,
)
from registry.models.openlineage import ExternalEdge, ExternalKind, ExternalNode, LineageEvent
from registry.models.registered import AUDITORS, Duty, RegisteredModel, RegisteredModelQuerySet, Task, Tier
from registry.models.training import RunState, TrainingPipeline, TrainingRun
from registry.models.versions import Alias, LoadClass, ModelVersion

__all__ = [
    "AUDITORS",
    "Alias",
    "ArtifactFile",
    "Blob",
    "Conversion",
    "ConversionOutcome",
    "Duty",
    "ExternalEdge",
    "ExternalKind",
    "ExternalNode",
    "FileRole",
    "LegalHold",
    "LineageEvent",
    "LoadClass",
    "ModelCard",
    "ModelVersion",
    "RegisteredModel",
    "RegisteredModelQuerySet",
    "RunState",
    "Task",
    "Tier",
    "TrainingPipeline",
    "TrainingRun",
]
