"""How good it was found, by which rules, and who let it through: performance, validation, approvals."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from audit.models import Event
from gates.models import CheckResult, Policy
from mlops.dossier.case import Case
from mlops.dossier.fields import Field, Section, moment, pairs, said, table, told
from mlops.dossier.log import evidence, first, sha256
from mlops.dossier.words import decider

LATER = {
    "endpoint.decision_carried_out": "carried out",
    "endpoint.decision_withdrawn": "withdrawn",
    "endpoint.decision_refused": "could not be carried out",
}
"""What may become of a decision that was made for later."""
NOT_JUDGED = "no gate run had ended"
NO_WAIVERS = "None: Gatehouse has no waivers. A version that fails a blocking check can not enter a rollout."
INTERVAL = ("Check", "Verdict", "Value", "Low", "High", "Rows", "Rule")


def performance(case: Case) -> Section:
    """What was measured, on what, how surely, and against which bar."""
    proof = _proof(case)
    word = evidence(case.registered)
    dataset = case.version.dataset
    return Section(
        "performance",
        "Performance",
        (
            "EU AI Act Annex IV (3)-(4): functioning, performance metrics",
            "EU AI Act Art. 15: accuracy and robustness",
            "NIST AI RMF MEASURE 2: evaluation",
        ),
        (
            told("training_metrics", "Metrics at training", _training_metrics(case), word),
            told(
                "training_data",
                "Measured at training on",
                dataset and f"its training dataset, {dataset.digest}",
                sha256(dataset.digest if dataset else None),
            ),
            told("measured_on", "Measured by the gates on", _holdout(case), proof),
            told("metrics", "Metrics with their intervals", _checks(case, "metric", none="none required"), proof),
            told("versus", "Against the champion", _checks(case, "versus_champion", none="none required"), proof),
            told("rival", "The champion compared with", _rival(case), proof),
            told("fairness", "Between groups", _checks(case, "fairness", none="none required"), proof),
            told("segments", "By group", _segments(case), proof),
            told("latency", "Time to answer", _checks(case, "latency", none="none required"), proof),
            told("stability", "Data quality and served values", _quality(case), proof),
            told("thresholds", "Thresholds set before the run", *_thresholds(case)),
        ),
    )


def _proof(case: Case) -> list[str]:
    return evidence(case.judgement)


def _training_metrics(case: Case) -> object:
    return pairs(case.version.metrics, names=("Metric", "Value"), none="") or None


def _holdout(case: Case) -> str | None:
    run = case.judged
    if run is None:
        return None
    return f"{run.holdout.rows} rows of {run.holdout.digest}" if run.holdout else "no holdout was needed"


def _rival(case: Case) -> str | None:
    if case.judged is None:
        return None
    return str(case.judged.champion) if case.judged.champion else "none: there was no champion"


def _checks(case: Case, *kinds: str, none: str) -> object:
    if case.judged is None:
        return None
    found = [each for each in case.results if each.kind in kinds]
    return table(INTERVAL, [_measured(each) for each in found], none=none)


def _quality(case: Case) -> object:
    return _checks(case, "data_quality", "training_data", "feature_consistency", none="none required")


def _measured(result: CheckResult) -> tuple[Any, ...]:
    return (
        result.check_id,
        result.verdict,
        _short(result.value),
        _short(result.low),
        _short(result.high),
        result.n,
        result.threshold,
    )


def _short(value: float | None) -> float | None:
    """Six significant digits: what a person reads. The whole numbers are in the check's row."""
    return None if value is None else float(f"{value:.6g}")


def _segments(case: Case) -> object:
    """The groups of the fairness checks, with their sizes and rates."""
    if case.judged is None:
        return None
    rows = [
        (each.check_id, group.get("group"), group.get("n"), _rates(group))
        for each in case.results
        if each.kind == "fairness"
        for group in each.detail.get("groups", ())
    ]
    return table(("Check", "Group", "Rows", "Rates"), rows, none="no check asks for groups")


def _rates(group: dict[str, Any]) -> str:
    known = sorted((name, value) for name, value in group.items() if isinstance(value, float))
    return ", ".join(f"{name} {value:.4g}" for name, value in known) or "too few to show"


def _thresholds(case: Case) -> tuple[object, list[str]]:
    """When the bar was set and when the measuring began: the first must come first."""
    run = case.judged
    if run is None:
        return None, []
    confirmed, opened = _told_of(case, run.policy, "confirmed"), first(case.log.about(run), "gate_run.opened")
    if confirmed is None or opened is None:
        return None, []
    order = "before" if confirmed.link.position < opened.link.position else "after"
    value = f"{run.policy}, in force since {moment(confirmed.at)}, {order} the run was opened at {moment(opened.at)}"
    return value, [*evidence(confirmed, opened), *sha256(run.policy.content_hash)]


def _told_of(case: Case, policy: Policy | None, what: str) -> Event | None:
    """When a policy was ``proposed`` or ``confirmed``."""
    return first(case.log.about(policy), f"policy.{what}") if policy else None


# ---------------------------------------------------------------------- validation


def validation(case: Case) -> Section:
    """Each gate: what was expected, what was found."""
    run, proof = case.judged, _proof(case)
    proposed, confirmed = (_told_of(case, run.policy if run else None, what) for what in ("proposed", "confirmed"))
    by_policy = [*evidence(proposed, confirmed), *sha256(run.policy.content_hash if run else None)]
    card, written = case.card
    words = card.content if card else {}
    return Section(
        "validation",
        "Validation",
        (
            "SR 26-2: validation and effective challenge",
            "ISO/IEC 42001 A.6.2.4: verification and validation",
            "EU AI Act Annex IV (2)(g): validation and testing procedures",
        ),
        (
            told("policy", "Policy", run and str(run.policy), by_policy),
            told("policy_hash", "Policy, content hash", run and run.policy.content_hash, by_policy),
            told("policy_by", "Proposed by", case.log.author(proposed) or None, by_policy),
            told("policy_confirmed_by", "Confirmed by", case.log.author(confirmed) or None, by_policy),
            told("policy_at", "In force since", confirmed and moment(confirmed.at), by_policy),
            told("policy_why", "Why this policy", proposed and proposed.reason, by_policy),
            told("verdict", "Verdict of the gates", run and case.gate_state(run), proof),
            told("verdict_why", "In a sentence", case.judgement and case.judgement.reason, proof),
            told("required", "Blocking checks that must pass", run and run.required_checks, proof),
            told("checks", "Every check", _every_check(case), proof),
            told("gate_runs", "Gate runs", *_runs(case)),
            told("waivers", "Waivers", NO_WAIVERS, []),
            told("independence", "Who decided that it passed", _who_decided(case), proof),
            said("validator", "Validator", words.get("validator"), evidence(written)),
        ),
    )


def _every_check(case: Case) -> object:
    if case.judged is None:
        return None
    rows = [
        (each.check_id, "blocking" if each.blocking else "reported only", each.threshold, each.message, each.verdict)
        for each in case.results
    ]
    return table(("Check", "Kind", "Expected", "Found", "Verdict"), rows, none="none was judged")


def _runs(case: Case) -> tuple[object, list[str]]:
    rows, proof = [], []
    for run in case.gate_runs:
        events = case.log.about(run)
        proof += evidence(*events)
        ended = events[-1]
        rows.append((run.number, run.policy.number, case.gate_state(run), moment(events[0].at), moment(ended.at)))
    return table(("Run", "Policy", "State", "Opened", "Last change"), rows, none=NOT_JUDGED), proof


def _who_decided(case: Case) -> str | None:
    if case.judgement is None:
        return None
    return f"{case.log.author(case.judgement)}, from what was measured; no person can set a verdict"


# ---------------------------------------------------------------------- approvals


APPROVALS = ("rollout.promoted", "rollout.shadow", "rollout.canary", "rollout.resumed", "rollout.held")


def approvals(case: Case) -> Section:
    """Who proposed it and who let it take traffic: bound to these bytes, this policy, these numbers."""
    proposed = [(rollout, event) for rollout, event in case.way if event.name == "rollout.proposed"]
    promoted = [(rollout, event) for rollout, event in case.way if event.name == "rollout.promoted"]
    decided = _decisions(case)
    return Section(
        "approvals",
        "Approvals",
        (
            "EU AI Act Art. 14: human oversight",
            "EU AI Act Art. 17: quality management system, accountability",
            "SR 26-2: effective challenge, segregation of duties",
        ),
        (
            told("proposed", "Proposed", *_steps(case, proposed, none="not proposed for any endpoint")),
            told("let_through", "Let through the gates", _let_through(case), _proof(case)),
            told("promoted", "Promoted", *_steps(case, promoted, none="not promoted")),
            told("decisions", "Decisions of the product owner", *decided),
            told("digest", "Artifact that was approved", _approved(case), [*_proof(case), *_artifact(case)]),
            _conditions(case),
            told("hands", "Persons whose hand was in it", *_hands(case)),
        ),
    )


def _artifact(case: Case) -> list[str]:
    return sha256(case.version.artifact_digest)


def _let_through(case: Case) -> str | None:
    run = case.judged
    if run is None or case.judgement is None:
        return None
    verdict = case.gate_state(run)
    by = case.log.author(case.judgement)
    return f"{verdict} at {moment(case.judgement.at)}, gate run {run.number} under {run.policy}, by {by}"


def _approved(case: Case) -> str | None:
    run = case.judged
    if run is None:
        return None
    passed = case.gate_state(run) == "passed"
    return case.version.artifact_digest if passed else "none: it did not pass its gates"


def _steps(case: Case, steps: Iterable[tuple[Any, Event]], *, none: str) -> tuple[object, list[str]]:
    taken = list(steps)
    rows = [(rollout.endpoint.name, moment(event.at), case.log.author(event), event.reason) for rollout, event in taken]
    return table(("Endpoint", "At", "By", "Why"), rows, none=none), evidence(*(event for _, event in taken))


def _decisions(case: Case) -> tuple[object, list[str]]:
    """About endpoints while they were this model's; a person makes them, with a note."""
    events = case.log.named("endpoint.decided", *LATER, "endpoint.frozen", "endpoint.unfrozen")
    rows = [
        (event.subject_label, _decision(event), moment(event.at), decider(case, event), event.reason)
        for event in events
    ]
    return table(("Endpoint", "Decision", "At", "By", "Note"), rows, none="none recorded"), evidence(*events)


def _decision(event: Event) -> str:
    """What was decided, and for when; or what became of it."""
    if event.name in LATER:
        return f"{event.data['kind']} of {event.data['decided_at'][:16]}: {LATER[event.name]}"
    if "freeze" in event.data:
        verb = "frozen" if event.name == "endpoint.frozen" else "no longer frozen"
        return f"{verb}, {event.data['starts_at'][:16]} to {event.data['ends_at'][:16]} UTC"
    due = event.data.get("takes_effect_at")
    return f"{event.data.get('kind')}, for {due[:16]} UTC" if due else str(event.data.get("kind"))


def _conditions(case: Case) -> Field:
    """The plan that a rollout had to follow, as it was when the rollout began: later it can not change."""
    begun = [rollout for rollout, event in case.way if event.name in ("rollout.shadow", "rollout.promoted")]
    if not begun:
        return told("conditions", "Conditions of the rollout", "none yet: no rollout had begun", [])
    plan = pairs(begun[-1].plan, names=("Condition", "Value"), none="none")
    return told("conditions", "Conditions of the rollout", plan, evidence(*case.log.about(begun[-1])[:2]))


def _hands(case: Case) -> tuple[object, list[str]]:
    """Every person with an event on the way, and what they did: one person alone would be seen here."""
    of_run = case.log.about(case.run)
    of_gates = [event for run in case.gate_runs for event in case.log.about(run)]
    policies = [event for run in case.gate_runs for event in case.log.about(run.policy)]
    way = [event for _, event in case.way]
    every = [
        *of_run,
        case.registered,
        *policies,
        *of_gates,
        *way,
        *case.log.named("endpoint.decided", "endpoint.decision_withdrawn"),
    ]
    people = sorted({event.pk: event for event in every if event.actor_id is not None}.values(), key=lambda e: e.pk)
    done: dict[str, list[str]] = {}
    for event in people:
        names = done.setdefault(case.log.author(event), [])
        names += [event.name] if event.name not in names else []
    rows = [(name, ", ".join(names)) for name, names in sorted(done.items())]
    return table(("Person", "Recorded acts"), rows, none="no person: every step was automatic"), evidence(*people)
