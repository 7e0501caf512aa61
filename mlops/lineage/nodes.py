"""What the graph says of each thing, and which rows belong to which: gates, rollouts, predictions, incidents, loops."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet

from features.models import DataSource, FeatureViewVersion
from gates.models import CheckResult, Evidence, GateRun, Policy, Verdict
from mlops.lineage.addresses import url_of
from mlops.lineage.as_of import Period
from mlops.lineage.graph import Facts, Node
from monitoring.models import Incident, IncidentKind, Rethink, Retraining
from registry import lineage as described
from registry.models import ModelVersion
from rollout.models import Endpoint, Rollout, RolloutState

ROLLOUT_PARTS = ("endpoint", "version__registered_model", "gate_run__policy", "gate_run__version__registered_model")
ROLLOUT_CAUSES = (IncidentKind.ROLLED_BACK, IncidentKind.STUCK)
MINUTE = "%Y-%m-%d %H:%M"


def from_tree(node: described.Node, *, key: str = "") -> Node:
    """A node of the registry's description, with its page."""
    chosen = key or node.key
    return Node(node.kind, chosen, node.label, url_of(chosen), node.facts, node.is_verified)


def nobody(of: str, kind: str, why: str) -> Node:
    """What should be there and is not."""
    return Node(kind, f"missing:{kind}:{of}", why, is_verified=False)


def gate_run_node(gate_run: GateRun) -> Node:
    results = gate_run.results.filter(blocking=True)
    passed = results.filter(verdict=Verdict.PASSED).count()
    facts = (
        ("State", gate_run.state),
        ("Why", gate_run.state_reason),
        ("Blocking checks", f"{passed} of {gate_run.required_checks} passed"),
        ("Policy", f"{gate_run.policy.number}, {gate_run.policy.content_hash}"),
        ("Opened", f"{gate_run.opened_at:{MINUTE}}"),
    )
    return _node("gate run", f"gate_run:{gate_run.pk}", str(gate_run), facts)


def policy_node(policy: Policy) -> Node:
    facts = (("SHA-256", policy.content_hash), ("Adopted", f"{policy.created_at:{MINUTE}}"), ("Note", policy.note))
    return _node("policy", f"policy:{policy.registered_model_id}/{policy.number}", f"Policy {policy.number}", facts)


def evidence_of(gate_run: GateRun) -> QuerySet[Evidence]:
    """The reports that the run's checks were judged by: those that its results name."""
    details = CheckResult.objects.filter(gate_run=gate_run).values_list("detail", flat=True)
    named = {pk for detail in details for pk in _evidence_ids(detail)}
    return Evidence.objects.filter(pk__in=named).order_by("pk")


def _evidence_ids(detail: Mapping[str, Any]) -> Iterator[int]:
    """A check's detail names the reports by kind (``gates.judge.ci_evidence``)."""
    named = detail.get("evidence", {})
    yield from (each for each in (named.values() if isinstance(named, Mapping) else [named]) if isinstance(each, int))


def evidence_node(evidence: Evidence) -> Node:
    facts = (
        ("Verdict", evidence.verdict),
        ("Said", evidence.summary),
        ("About the code", evidence.code_digest),
        ("Submitted", f"{evidence.submitted_at:{MINUTE}}"),
    )
    return _node("evidence", f"evidence:{evidence.pk}", f"{evidence.kind}: {evidence.verdict}", facts)


def rollout_node(rollout: Rollout) -> Node:
    facts = (
        ("State", rollout.state),
        ("Why", rollout.state_reason),
        ("Shadow since", f"{rollout.shadow_since:{MINUTE}}" if rollout.shadow_since else "never"),
        ("Canary since", f"{rollout.canary_since:{MINUTE}}" if rollout.canary_since else "never"),
        ("Ended", f"{rollout.ended_at:{MINUTE}}" if rollout.ended_at else "not yet"),
    )
    return _node("rollout", f"rollout:{rollout.pk}", str(rollout), facts)


def rollout_before(endpoint: Endpoint, version: ModelVersion, moment: datetime) -> Rollout | None:
    """The rollout through which a version came to answer an endpoint at ``moment``: the newest that had begun there.

    None where a product decision brought it, or the endpoint was opened with it.
    """
    rows = Rollout.objects.filter(endpoint=endpoint, version=version).select_related(*ROLLOUT_PARTS)
    begun = Q(canary_since__lte=moment) | Q(state=RolloutState.PROMOTED, ended_at__lte=moment)
    return rows.filter(begun).order_by("-pk").first()


def predictions_node(period: Period) -> Node:
    """What a version answered at an endpoint over a period."""
    until = f"{period.until:{MINUTE}}" if period.until else "now"
    facts = (
        ("From", f"{period.since:{MINUTE}}"),
        ("Until", until),
        ("As", period.arm),
        ("Share of entities", f"{period.share:.0%}"),
    )
    key = f"predictions:{period.endpoint}/{period.arm}/{period.since:%Y%m%dT%H%M%S}"
    return Node("predictions", key, f"{period.endpoint}, {period.arm} {period.share:.0%}", facts=facts)


def prediction_node(endpoint: Endpoint, row: Mapping[str, Any]) -> Node:
    score = row.get("score")
    facts = (
        ("Asked", f"{row['at']:{MINUTE}}"),
        ("Entity", str(row.get("entity") or "not named")),
        ("Arm", str(row.get("arm") or "unknown")),
        ("Score", "none" if score is None else f"{score:.6g}"),
        ("Status", str(row.get("status") or "unknown")),
    )
    request_id = row["request_id"]
    return _node("prediction", f"prediction:{endpoint.name}/{request_id}", f"{endpoint.name} {request_id}", facts)


def why_unanswered(answered: int | None) -> str:
    """Why no version of a prediction can be shown."""
    if answered is None:
        return "No version answered: the endpoint's fallback did."
    return "The version that answered is not yours to see."


def incident_node(incident: Incident) -> Node:
    facts = (
        ("Kind", incident.get_kind_display()),
        ("State", incident.state),
        ("Opened", f"{incident.opened_at:{MINUTE}}"),
        ("Who has it", str(incident.owner) if incident.owner else "nobody"),
    )
    return _node("incident", f"incident:{incident.pk}", incident.title, facts)


def rollout_of(incident: Incident) -> Rollout | None:
    """The rollout that an incident is about; its cause is named by it."""
    kind, _, pk = incident.cause_key.partition(":")
    if kind not in ROLLOUT_CAUSES or not pk.isdigit():
        return None
    return Rollout.objects.filter(pk=int(pk)).select_related(*ROLLOUT_PARTS).first()


def named_by(incident: Incident) -> Iterator[described.Node]:
    """The source or view versions that an incident's evidence names."""
    said = incident.evidence
    source = DataSource.objects.filter(name=str(said.get("source", ""))).select_related("owner").first()
    if source is not None:
        yield described.source_node(source)
    view, _, number = str(said.get("view", "")).partition("@")
    if number.isdigit():
        rows = FeatureViewVersion.objects.filter(view__name=view, number=int(number)).select_related("view")
        for version in rows.prefetch_related("sources__owner"):
            yield described.view_node(version, version.feature_names)


def retraining_node(retraining: Retraining) -> Node:
    facts = (
        ("Cause", retraining.cause_kind),
        ("State", retraining.state),
        ("Why", retraining.state_reason),
        ("Started", f"{retraining.started_at:{MINUTE}}"),
    )
    return _node("retraining", f"retraining:{retraining.pk}", str(retraining), facts)


def rethink_node(rethink: Rethink) -> Node:
    facts = (
        ("Question", rethink.question),
        ("State", rethink.state),
        ("Evidence", rethink.evidence_digest),
        ("Proposed", f"{rethink.proposed_at:{MINUTE}}"),
        ("Decided by", rethink.decided_by.get_username() if rethink.decided_by else "nobody yet"),
    )
    return _node("rethink", f"rethink:{rethink.pk}", str(rethink), facts)


def retrainings_before(rethink: Rethink) -> QuerySet[Retraining]:
    """The retrainings that a rethink looks back on: those of its model since the last rethink was proposed."""
    rows = Retraining.objects.filter(registered_model=rethink.registered_model, started_at__lte=rethink.proposed_at)
    earlier = Rethink.objects.filter(
        registered_model=rethink.registered_model, proposed_at__lt=rethink.proposed_at
    ).order_by("-proposed_at")
    last = earlier.first()
    if last is not None:
        rows = rows.filter(started_at__gt=last.proposed_at)
    return rows.select_related("incident", "champion_before").order_by("pk")


def _node(kind: str, key: str, label: str, facts: Facts) -> Node:
    return Node(kind, key, label, url_of(key), facts)
