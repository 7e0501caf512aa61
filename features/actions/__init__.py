"""What people and pipelines do in the feature store: define, publish, pin, snapshot.

Every verb can be called again with the same content: it then returns what exists and records nothing.
"""

from features.actions.datasets import snapshot
from features.actions.descriptions import change_source, describe_entity, may_describe
from features.actions.feature_views import apply_view, deprecate, publish, retire
from features.actions.push import push
from features.actions.sources import define_entity, define_source
from features.actions.transforms import define_transform
from features.actions.vectors import Users, define_service, retire_service

__all__ = [
    "Users",
    "apply_view",
    "change_source",
    "define_entity",
    "define_service",
    "define_source",
    "define_transform",
    "deprecate",
    "describe_entity",
    "may_describe",
    "publish",
    "push",
    "retire",
    "retire_service",
    "snapshot",
]
