"""The registry's verbs: found a model, say how it is trained, train it, register what came out, move its champion."""

from registry.actions.cards import write_card
from registry.actions.founding import change_model, create_model
from registry.actions.keeping import (
    may_place,
    may_release,
    place_hold,
    release_hold,
    remove_files,
    set_quota,
    set_retention,
)
from registry.actions.pipelines import define_pipeline
from registry.actions.services import hold_service, retire_feature_service
from registry.actions.training import (
    Outcome,
    begin_training,
    cancel_training,
    complete_training,
    fail_training,
    request_training,
)
from registry.actions.versions import content_digest, crown, register_version

__all__ = [
    "Outcome",
    "begin_training",
    "cancel_training",
    "change_model",
    "complete_training",
    "content_digest",
    "create_model",
    "crown",
    "define_pipeline",
    "fail_training",
    "hold_service",
    "may_place",
    "may_release",
    "place_hold",
    "register_version",
    "release_hold",
    "remove_files",
    "request_training",
    "retire_feature_service",
    "set_quota",
    "set_retention",
    "write_card",
]
