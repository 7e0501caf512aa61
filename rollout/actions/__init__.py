"""The verbs of rollouts: what a product owner decides about an endpoint, and a candidate's steps towards it."""

from rollout.actions.business_metrics import define_business_metric, retire_business_metric
from rollout.actions.candidates import (
    abort,
    advance,
    hold,
    pause,
    promote,
    propose,
    resume,
    resume_all,
    roll_back,
    start,
)
from rollout.actions.endpoints import create_endpoint, decide, describe
from rollout.actions.fallbacks import add_fallback, retire_fallback
from rollout.actions.features import retire_feature_service
from rollout.actions.freezes import freeze, unfreeze
from rollout.actions.looks import record_look
from rollout.actions.schedule import carry_out_due, withdraw
from rollout.actions.traffic import note_traffic_adrift, note_traffic_restored, set_traffic

__all__ = [
    "abort",
    "add_fallback",
    "advance",
    "carry_out_due",
    "create_endpoint",
    "decide",
    "define_business_metric",
    "describe",
    "freeze",
    "hold",
    "note_traffic_adrift",
    "note_traffic_restored",
    "pause",
    "promote",
    "propose",
    "record_look",
    "resume",
    "resume_all",
    "retire_business_metric",
    "retire_fallback",
    "retire_feature_service",
    "roll_back",
    "set_traffic",
    "start",
    "unfreeze",
    "withdraw",
]
