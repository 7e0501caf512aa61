"""What people and pipelines do in the feature store: define, publish, pin, snapshot.

Every verb can be called again with the same content: it then returns what exists and records nothing.
"""

from features.actions.datasets import snapshot
from features.actions.descriptions import change_source, describe_entity, may_describe
from features.actions.feature_views import apply_view, deprecate, publish, retire
from features.actions.sources import define_entity, define_source
from features.actions.vectors import define_service

__all__ = [
    "apply_view",
    "change_source",
    "define_entity",
    "define_service",
    "define_source",
    "deprecate",
    "describe_entity",
    "may_describe",
    "publish",
    "retire",
    "snapshot",
]
