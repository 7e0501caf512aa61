"""The admin's sidebar and first page: the nouns in the order of a model's life, and what waits for the person."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.urls import reverse

from audit.desk import signed_in
from mlops.waiting import waiting_for

GROUPS: dict[str, list[tuple[str, str, str]]] = {
    "Models": [
        ("Registered models", "registry_registeredmodel", "category"),
        ("Versions", "registry_modelversion", "sell"),
        ("Model cards", "registry_modelcard", "badge"),
        ("Training pipelines", "registry_trainingpipeline", "account_tree"),
        ("Training runs", "registry_trainingrun", "model_training"),
        ("Aliases", "registry_alias", "label"),
    ],
    "Features": [
        ("Entities", "features_entity", "key_vertical"),
        ("Data sources", "features_datasource", "database"),
        ("Feature views", "features_featureview", "table_view"),
        ("View versions", "features_featureviewversion", "history"),
        ("Feature services", "features_featureservice", "view_column"),
        ("On-demand transforms", "features_ondemandtransform", "function"),
        ("Datasets", "features_dataset", "dataset"),
        ("Materializations", "features_materialization", "sync"),
        ("Consistency checks", "features_consistencycheck", "rule"),
    ],
    "Lineage of other tools": [
        ("Datasets and jobs", "registry_externalnode", "hub"),
        ("Events received", "registry_lineageevent", "call_received"),
    ],
    "Gates": [
        ("Gate runs", "gates_gaterun", "door_front"),
        ("Check results", "gates_checkresult", "checklist"),
        ("Policies", "gates_policy", "policy"),
        ("Evidence", "gates_evidence", "fact_check"),
    ],
    "Rollouts": [
        ("Rollouts", "rollout_rollout", "moving"),
        ("Looks", "rollout_analysisrun", "query_stats"),
        ("Endpoints", "rollout_endpoint", "output"),
        ("Business metrics", "rollout_businessmetric", "payments"),
        ("Product decisions", "rollout_decision", "how_to_vote"),
        ("Fallbacks", "rollout_fallback", "health_and_safety"),
        ("Freezes", "rollout_freezewindow", "ac_unit"),
    ],
    "Monitoring": [
        ("Rethinks", "monitoring_rethink", "psychology"),
        ("Incidents", "monitoring_incident", "emergency_home"),
        ("Retrainings", "monitoring_retraining", "autorenew"),
        ("Drift and performance", "monitoring_driftrun", "monitoring"),
        ("Monitors", "monitoring_monitor", "visibility"),
    ],
    "Audit": [("Events", "audit_event", "history_edu")],
    "System": [
        ("Jobs", "jobs_job", "work_history"),
        ("Due work", "jobs_due", "schedule"),
        ("Heartbeats", "jobs_heartbeat", "ecg_heart"),
        ("API tokens", "audit_apitoken", "key"),
    ],
}
FOR_ADMINISTRATORS = [("Users", "auth_user", "person"), ("Groups", "auth_group", "group")]


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """The groups of the sidebar; accounts only for administrators."""
    groups = dict(GROUPS)
    if request.user.is_active and getattr(request.user, "is_superuser", False):
        groups["System"] = [*groups["System"], *FOR_ADMINISTRATORS]
    portal = [
        {"title": "What needs me", "icon": "inbox", "link": reverse("portal:home"), "active": False},
        {"title": "Admin overview", "icon": "dashboard", "link": reverse("admin:index")},
    ]
    return [
        {"title": None, "items": portal},
        *(
            {"title": title, "separator": True, "items": [_item(*each) for each in items]}
            for title, items in groups.items()
        ),
    ]


def _item(title: str, name: str, icon: str) -> dict[str, Any]:
    return {"title": title, "icon": icon, "link": reverse(f"admin:{name}_changelist")}


def first_page(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """What the first page shows besides the sidebar."""
    groups = [(title, [_item(*each) for each in items]) for title, items in GROUPS.items()]
    return {**context, "title": "Overview", "waiting": waiting_for(signed_in(request)), "groups": groups}
