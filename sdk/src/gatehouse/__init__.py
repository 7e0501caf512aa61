"""Client of the Gatehouse portal, for training pipelines and CI.

with gatehouse.Client("https://gatehouse.example.com", token) as portal:
    version = portal.register_version("late-arrival", "model.skops", code_digest=gatehouse.code_digest("src"))
    standing = portal.wait_for_gates("late-arrival", version.number)
    print(standing.passed, standing.why)
"""

from gatehouse.answers import (
    Check,
    Evidence,
    GateRun,
    GateStanding,
    Look,
    Measurement,
    Model,
    Owners,
    Pipeline,
    Prediction,
    Push,
    Rollout,
    RolloutStanding,
    Standing,
    TrainingRun,
    Vectors,
    Version,
)
from gatehouse.client import Client
from gatehouse.code import code_digest
from gatehouse.definitions import DefinitionError
from gatehouse.errors import Conflict, GatehouseError, InvalidInput, NotFound, NotPermitted, ServerError, TimedOut
from gatehouse.plans import Change, Plan
from gatehouse.wire import Retries

__all__ = [
    "Change",
    "Check",
    "Client",
    "Conflict",
    "DefinitionError",
    "Evidence",
    "GateRun",
    "GateStanding",
    "GatehouseError",
    "InvalidInput",
    "Look",
    "Measurement",
    "Model",
    "NotFound",
    "NotPermitted",
    "Owners",
    "Pipeline",
    "Plan",
    "Prediction",
    "Push",
    "Retries",
    "Rollout",
    "RolloutStanding",
    "ServerError",
    "Standing",
    "TimedOut",
    "TrainingRun",
    "Vectors",
    "Version",
    "code_digest",
]
