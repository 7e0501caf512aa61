"""Client of the Gatehouse portal, for training pipelines, CI and notebooks.

with gatehouse.Client("https://gatehouse.example.com", token) as portal:
    version = portal.register_version("late-arrival", "model.skops", code_digest=gatehouse.code_digest("src"))
    standing = portal.wait_for_gates("late-arrival", version.number)
    print(standing.passed, standing.why)
"""

from gatehouse.answers import (
    BusinessMetric,
    Check,
    EndpointTraffic,
    Evidence,
    GateRun,
    GateStanding,
    Look,
    Measurement,
    Model,
    OutcomesLearned,
    Owners,
    Pipeline,
    Prediction,
    PredictionsKept,
    Progress,
    Push,
    Rollout,
    RolloutStanding,
    Standing,
    TrafficPlan,
    TrainingRun,
    Vectors,
    Version,
)
from gatehouse.client import Client
from gatehouse.code import code_digest
from gatehouse.definitions import DefinitionError
from gatehouse.endpoints import Decision, DecisionOutcome, Endpoint, Fallback, Freeze
from gatehouse.errors import Conflict, GatehouseError, InvalidInput, NotFound, NotPermitted, ServerError, TimedOut
from gatehouse.graphs import Affected, Graph, Impact, Node, Replay, Served, VersionDiff
from gatehouse.plans import Change, Plan
from gatehouse.policies import Policy, PolicyChange, PolicyDifference, PolicyDryRun
from gatehouse.records import Card, Checkpoint, Event, File, Hold, LogState, Manifest, Report
from gatehouse.wire import Retries

__all__ = [
    "Affected",
    "BusinessMetric",
    "Card",
    "Change",
    "Check",
    "Checkpoint",
    "Client",
    "Conflict",
    "Decision",
    "DecisionOutcome",
    "DefinitionError",
    "Endpoint",
    "EndpointTraffic",
    "Event",
    "Evidence",
    "Fallback",
    "File",
    "Freeze",
    "GateRun",
    "GateStanding",
    "GatehouseError",
    "Graph",
    "Hold",
    "Impact",
    "InvalidInput",
    "LogState",
    "Look",
    "Manifest",
    "Measurement",
    "Model",
    "Node",
    "NotFound",
    "NotPermitted",
    "OutcomesLearned",
    "Owners",
    "Pipeline",
    "Plan",
    "Policy",
    "PolicyChange",
    "PolicyDifference",
    "PolicyDryRun",
    "Prediction",
    "PredictionsKept",
    "Progress",
    "Push",
    "Replay",
    "Report",
    "Retries",
    "Rollout",
    "RolloutStanding",
    "Served",
    "ServerError",
    "Standing",
    "TimedOut",
    "TrafficPlan",
    "TrainingRun",
    "Vectors",
    "Version",
    "VersionDiff",
    "code_digest",
]
