"""The verbs of rollouts: what a product owner decides about an endpoint, and a candidate's steps towards it."""

from rollout.actions.candidates import abort, advance, hold, pause, promote, propose, resume, roll_back, start
from rollout.actions.endpoints import create_endpoint, decide, describe
from rollout.actions.features import retire_feature_service
from rollout.actions.looks import record_look

__all__ = [
    "abort",
    "advance",
    "create_endpoint",
    "decide",
    "describe",
    "hold",
    "pause",
    "promote",
    "propose",
    "record_look",
    "resume",
    "retire_feature_service",
    "roll_back",
    "start",
]
