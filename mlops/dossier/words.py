"""What people say: purpose, ownership, limitations and oversight. From the model card; groups and switches are ours."""

from __future__ import annotations

from typing import Any

from audit.models import Event
from mlops.dossier.case import Case
from mlops.dossier.fields import Field, Section, moment, said, table, told
from mlops.dossier.log import evidence, first
from rollout.models import Endpoint

CARRIED_OUT = "endpoint.decision_carried_out"
DECIDED = ("endpoint.decided", CARRIED_OUT)
"""Events that may say which model an endpoint is given to, and whether it serves."""


def _by_card(case: Case, *fields: tuple[str, str]) -> list[Field]:
    """Fields of the model card, each with what it is called here."""
    card, written = case.card
    words: dict[str, Any] = card.content if card else {}
    return [said(key, label, words.get(key), evidence(written)) for key, label in fields]


def _by_model(case: Case, key: str, label: str) -> Field:
    value, event = case.of_model(key)
    return told(key, label, value, evidence(event))


def purpose(case: Case) -> Section:
    """What it is for, for whom, and how much depends on it."""
    description, described = case.of_model("description")
    return Section(
        "purpose",
        "Purpose",
        (
            "EU AI Act Annex IV (1): intended purpose",
            "EU AI Act Art. 6: classification",
            "SR 26-2: materiality, exposure and purpose",
            "NIST AI RMF MAP 1.1: context and purpose",
        ),
        (
            said("question", "The question it answers", description, evidence(described)),
            *_by_card(
                case,
                ("intended_use", "Intended use"),
                ("out_of_scope", "Out of scope"),
                ("affected_persons", "Persons affected"),
                ("decision_role", "Advises or decides"),
            ),
            _by_model(case, "tier", "Risk tier"),
            told("tier_changes", "Changes of the tier", *_changes(case, "tier")),
            *_by_card(case, ("risk_reason", "Why this tier"), ("ai_act_class", "Class under the EU AI Act")),
            told("decision_points", "Decision points that ask it", *_decision_points(case)),
        ),
    )


def _changes(case: Case, name: str) -> tuple[object, list[str]]:
    events = [event for event in case.model_changes if name in event.data["after"]]
    rows = [
        (moment(event.at), event.data["before"].get(name), event.data["after"][name], case.log.author(event))
        for event in events
    ]
    return table(("At", "From", "To", "By"), rows, none="none since it was founded"), evidence(*events)


def _endpoints(case: Case) -> list[tuple[Endpoint, Event]]:
    """Decision points that were opened for the model or given to it, and the first event that says so."""
    begun: dict[int, Event] = {}
    for event in case.log.named("endpoint.created", *DECIDED):
        begun.setdefault(int(event.subject_id), event)
    rows = Endpoint.objects.in_bulk(begun)
    return [(rows[pk], event) for pk, event in begun.items()]


def _decision_points(case: Case) -> tuple[object, list[str]]:
    found = _endpoints(case)
    # what a point is called can change; its name, threshold and fallback can not
    rows = [(point.name, point.threshold, point.entity_column, point.outcome_window) for point, _ in found]
    columns = ("Endpoint", "Acts at or above", "Entity", "Outcome known after")
    return table(columns, rows, none="none"), evidence(*(event for _, event in found))


# ---------------------------------------------------------------------- ownership


def ownership(case: Case) -> Section:
    """Who answers for what."""
    asked = first(case.log.about(case.run), "training_run.requested")
    judged = case.judged
    proposed = first(case.log.about(judged.policy), "policy.proposed") if judged else None
    confirmed = first(case.log.about(judged.policy), "policy.confirmed") if judged else None
    return Section(
        "ownership",
        "Ownership",
        (
            "EU AI Act Art. 17: accountability framework",
            "ISO/IEC 42001 A.3.2: roles and responsibilities",
            "NIST AI RMF GOVERN 2.1: roles and lines of communication",
        ),
        (
            _by_model(case, "data_science", "Owner of model quality"),
            _by_model(case, "platform", "Owner of infrastructure"),
            _by_model(case, "product", "Owner of its use"),
            told("owner_changes", "Changes of owners", *_owner_changes(case)),
            told("founded_by", "Founded by", case.log.author(case.founded) or None, evidence(case.founded)),
            told("asked_by", "Asked for this version", case.log.author(asked) or None, evidence(asked)),
            told("policy_by", "Set the bar", case.log.author(proposed) or None, evidence(proposed)),
            told("policy_confirmed_by", "Confirmed the bar", case.log.author(confirmed) or None, evidence(confirmed)),
            told("in_use_by", "Decided its use", *_in_use_by(case)),
            told("card", "Model card in force", *_card(case)),
            *_by_card(
                case,
                ("developer", "Developer"),
                ("deputy", "Deputy of the owner"),
                ("escalation", "Escalation contact"),
                ("review_by", "To be reviewed by"),
            ),
        ),
    )


def _owner_changes(case: Case) -> tuple[object, list[str]]:
    rows, events = [], []
    for event in case.model_changes:
        for name in ("data_science", "platform", "product"):
            if name in event.data["after"]:
                events.append(event)
                after, before = event.data["after"][name], event.data["before"].get(name)
                rows.append((moment(event.at), name, before, after, case.log.author(event)))
    return table(("At", "Duty", "From", "To", "By"), rows, none="none since it was founded"), evidence(*events)


def _in_use_by(case: Case) -> tuple[object, list[str]]:
    """Who opened the decision points, and who decided last what serves there."""
    events = case.log.named("endpoint.created", *DECIDED)
    people = list(dict.fromkeys(decider(case, event) for event in events))
    return ", ".join(people) or None, evidence(*events)


def _card(case: Case) -> tuple[object, list[str]]:
    card, written = case.card
    if card is None or written is None:
        return "none was written", []
    return f"number {card.number}, written {moment(written.at)} by {case.log.author(written)}", evidence(written)


# ---------------------------------------------------------------------- limitations and oversight


def limitations(case: Case) -> Section:
    """Where it must not be trusted, what answers then, and who can stop it."""
    product, owned = case.of_model("product")
    stop = f"members of {product}: the kill switch of each endpoint, with a note" if product else None
    takes_off = "data science or platform: pause or abort a rollout; the champion answers everybody again"
    return Section(
        "limitations",
        "Limitations and oversight",
        (
            "EU AI Act Art. 13: information to deployers",
            "EU AI Act Art. 14: human oversight, stop",
            "NIST AI RMF MANAGE 2.4: disengage",
        ),
        (
            *_by_card(
                case,
                ("limitations", "Known limits"),
                ("fallback", "Fallback, in words"),
                ("stop_button", "When to stop it"),
                ("oversight", "Oversight"),
                ("instructions", "Instructions for users"),
            ),
            told("fallback_scores", "Score served when it can not answer", *_fallbacks(case)),
            told("may_stop", "Who may press the kill switch", stop, evidence(owned)),
            told("may_pause", "Who may take a candidate off", takes_off, evidence(owned)),
            told("fallbacks", "Named fallbacks of the kill switch", *_named_fallbacks(case)),
            told("stops", "Kill switches pulled and released", *_stops(case)),
            told("loading", "How it may be loaded", _loading(case), evidence(case.registered)),
        ),
    )


def _fallbacks(case: Case) -> tuple[object, list[str]]:
    found = _endpoints(case)
    rows = [(point.name, "an error" if point.fallback is None else point.fallback) for point, _ in found]
    return table(("Endpoint", "Fallback"), rows, none="it serves nowhere"), evidence(*(event for _, event in found))


def _named_fallbacks(case: Case) -> tuple[object, list[str]]:
    events = case.log.named("fallback.added", "fallback.retired")
    rows = []
    for event in events:
        version = event.data["version"]
        answer = f"{version['model']} v{version['version']}" if version else event.data["score"]
        act = event.name.partition(".")[2]
        rows.append((event.subject_label, answer, act, moment(event.at), case.log.author(event), event.reason))
    return table(("Fallback", "Answers", "Act", "At", "By", "Note"), rows, none="none"), evidence(*events)


def _stops(case: Case) -> tuple[object, list[str]]:
    """Those that took effect: what was decided for later is told when it was carried out."""
    switched = [event for event in case.log.named(*DECIDED) if event.data.get("kind") in ("stop", "resume")]
    events = [event for event in switched if "takes_effect_at" not in event.data or event.name == CARRIED_OUT]
    rows = [
        (event.subject_label, event.data["kind"], moment(event.at), decider(case, event), _instead(event), event.reason)
        for event in events
    ]
    columns = ("Endpoint", "Act", "At", "By", "Answered instead", "Note")
    return table(columns, rows, none="never"), evidence(*events)


def decider(case: Case, event: Event) -> str:
    """Who decided: Gatehouse carries out what a person decided for later."""
    author = case.log.author(event)
    return f"{event.data['decided_by']} (carried out by {author})" if event.name == CARRIED_OUT else author


def _instead(event: Event) -> str:
    """What answered everybody from a kill switch on; nothing to say of its release, or of an old log."""
    facts = event.data.get("route", {}).get("fallback")
    if facts is None:
        return ""
    version = facts["version"]
    what = f"{version['model']} v{version['version']}" if version else facts["score"]
    what = "an error" if what is None else what
    return f"{facts['name']}: {what}" if facts["name"] else f"{what}"


def _loading(case: Case) -> str:
    why = case.registered.data.get("quarantined_because")
    if case.version.load_class == "quarantined":
        return f"not at all: quarantined. {why}" if why else "not at all: quarantined"
    return f"as {case.version.load_class}, in a child process without network; never by the web process"
