"""A policy takes two people: proposed by data science, in force when a second person of another duty confirms it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, connection, transaction

from audit.errors import Conflict, InvalidInput, NotPermitted
from audit.models import Event
from gates import actions
from gates.models import GateRun, Policy, PolicyDecision, PolicyOutcome
from gates.policy import PolicyDocument, parse
from gates.policy.text import load
from registry.models import AUDITORS, RegisteredModel
from tests.builders import (
    NOON,
    ROBOT,
    alice,
    audrey,
    charlie,
    group,
    paula,
    person,
    pete,
    policy_in_force,
    registered_model,
)
from tests.gates import rows

pytestmark = pytest.mark.django_db

STRICTER = {**rows.AUC, "at_least": 0.7}
LOOSER = {**rows.AUC, "at_least": 0.5}


def propose(*checks: dict[str, Any], by: User | None = None, **fields: Any) -> Policy:
    given = {"document": {"checks": list(checks or [rows.AUC])}} if "template" not in fields else {}
    values = {"note": "Because.", "now": NOON, "actor": by or alice(), **given, **fields}
    return actions.propose_policy(values.pop("of", None) or registered_model(), **values)


def confirm(policy: Policy, by: User | None = None) -> PolicyDecision:
    return actions.confirm_policy(policy, reason="Agreed.", actor=by or paula(), now=NOON)


def events(name: str) -> int:
    return Event.objects.filter(name=name).count()


# ---------------------------------------------------------------------- proposing


def test_propose__from_a_template__is_numbered_recorded_and_not_in_force() -> None:
    policy = propose(template="standard", overrides={"checks": {"fairness": {"by": "origin"}}})

    assert (policy.number, policy.document["template"], policy.created_by) == (1, "standard@3", alice())
    assert Event.objects.get(name="policy.proposed").reason == "Because."
    assert actions.in_force(registered_model()) is None
    assert actions.standing_of(policy, in_force=None) == "waiting"


@pytest.mark.usefixtures("governed_writes")
def test_propose_and_decide__each_leave_their_event_after_their_rows() -> None:
    propose()
    confirm(Policy.objects.get())

    assert [events(name) for name in ("policy.proposed", "policy.confirmed")] == [1, 1]


def test_propose__same_content_as_what_waits_or_is_in_force__is_that_policy() -> None:
    first = propose()

    assert propose(by=person("ann", "delay-science")) == first
    confirm(first)
    assert propose() == first
    assert events("policy.proposed") == 1


def test_propose__content_of_a_declined_or_replaced_policy__is_proposed_anew() -> None:
    confirm(propose())
    actions.decline_policy(propose(STRICTER), reason="No.", actor=pete(), now=NOON)
    confirm(propose(STRICTER))

    assert propose().number == 4


def test_propose__while_another_waits__is_refused() -> None:
    propose()

    with pytest.raises(Conflict, match="late-arrival policy 1 waits for a second person"):
        propose(STRICTER)


def test_propose__unknown_setting__is_refused_with_its_path() -> None:
    with pytest.raises(InvalidInput) as refused:
        propose(template="standard", overrides={"checks": {"auc-floor": {"at_lest": 0.5}}})

    assert refused.value.errors["checks.auc-floor.at_lest"] == ["There is no such setting; did you mean at_least?"]
    assert not Policy.objects.exists()


def test_propose__template_below_the_models_tier__is_refused() -> None:
    critical = registered_model("credit", tier="high-stakes")

    with pytest.raises(InvalidInput, match="lower stakes"):
        propose(of=critical, template="standard", overrides={"checks": {"fairness": None}})


@pytest.mark.parametrize(
    "given",
    [
        {"document": None},
        {"template": "standard", "document": {"checks": []}},
        {"document": {"checks": [rows.AUC]}, "overrides": {"threshold": 0.1}},
    ],
)
def test_propose__neither_or_both_forms__is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        actions.propose_policy(registered_model(), note="", actor=alice(), now=NOON, **given)


def test_propose__note_without_end__is_refused() -> None:
    with pytest.raises(InvalidInput, match="note"):
        propose(note="x" * 2001)


@pytest.mark.parametrize("somebody", [charlie, paula, pete, audrey, lambda: person("aud", AUDITORS, "delay-science")])
def test_propose__by_somebody_without_the_duty__is_refused(somebody: Any) -> None:
    with pytest.raises(NotPermitted):
        propose(by=somebody())


def test_propose__by_gatehouse_itself__is_refused_for_nobody_could_be_the_second() -> None:
    with pytest.raises(NotPermitted, match="a person"):
        propose(actor=ROBOT)


# ---------------------------------------------------------------------- the second person


@pytest.mark.parametrize("second", [paula, pete])
def test_confirm__by_product_or_platform__puts_it_in_force(second: Any) -> None:
    policy = propose()
    decision = confirm(policy, second())

    assert actions.in_force(registered_model()) == policy
    assert (decision.decided_by, decision.reason) == (second(), "Agreed.")
    event = Event.objects.get(name="policy.confirmed")
    assert (event.actor, event.data["proposed_by"]) == (second(), "alice")


@pytest.mark.parametrize(
    "somebody",
    [
        alice,
        lambda: person("ann", "delay-science"),
        charlie,
        audrey,
        lambda: person("root", is_superuser=True),
        lambda: person("aud", AUDITORS, "delay-product"),
        lambda: person("gone", "delay-product", is_active=False),
    ],
    ids=[
        "who proposed",
        "another scientist",
        "stranger",
        "auditor",
        "administrator",
        "auditing owner",
        "closed account",
    ],
)
@pytest.mark.parametrize("verb", [actions.confirm_policy, actions.decline_policy])
def test_decide__by_somebody_else__is_refused(verb: Any, somebody: Any) -> None:
    policy = propose()

    with pytest.raises(NotPermitted):
        verb(policy, reason="Mine.", actor=somebody(), now=NOON)
    assert not PolicyDecision.objects.exists()
    assert not actions.may_second(policy, somebody())


@pytest.mark.parametrize("duty", ["delay-product", "delay-platform"])
def test_confirm__by_who_proposed_it_with_a_second_duty__is_refused(duty: str) -> None:
    both = person("both", "delay-science", duty)
    policy = propose(by=both)

    with pytest.raises(NotPermitted, match="a second person"):
        confirm(policy, both)
    assert not actions.may_second(policy, both)


@pytest.mark.parametrize("verb", [actions.confirm_policy, actions.decline_policy, actions.withdraw_policy])
def test_decide__by_gatehouse_itself__is_refused(verb: Any) -> None:
    with pytest.raises(NotPermitted):
        verb(propose(), reason="By itself.", actor=ROBOT, now=NOON)


@pytest.mark.parametrize("first", ["confirm", "decline", "withdraw"])
@pytest.mark.parametrize("then", ["confirm", "decline", "withdraw"])
def test_decide__what_was_decided__is_refused(first: str, then: str) -> None:
    policy = propose()
    verbs = {"confirm": actions.confirm_policy, "decline": actions.decline_policy, "withdraw": actions.withdraw_policy}
    who = {"confirm": paula, "decline": pete, "withdraw": alice}
    verbs[first](policy, reason="First.", actor=who[first](), now=NOON)

    with pytest.raises(Conflict, match="already"):
        verbs[then](policy, reason="Then.", actor=who[then](), now=NOON)
    assert PolicyDecision.objects.get().reason == "First."


def test_decline__leaves_the_policy_in_force_and_lets_another_be_proposed() -> None:
    confirm(first := propose())
    declined = propose(STRICTER)
    actions.decline_policy(declined, reason="Too strict.", actor=pete(), now=NOON)

    assert actions.in_force(registered_model()) == first
    assert actions.standing_of(declined, in_force=1) == "declined"
    assert Event.objects.get(name="policy.declined").reason == "Too strict."
    assert propose(LOOSER).number == 3


def test_withdraw__by_another_owner_of_data_science__lets_another_be_proposed() -> None:
    withdrawn = propose()
    actions.withdraw_policy(withdrawn, reason="A typo.", actor=person("ann", "delay-science"), now=NOON)

    assert actions.standing_of(withdrawn, in_force=None) == "withdrawn"
    assert propose(STRICTER).number == 2


@pytest.mark.parametrize("somebody", [paula, pete, charlie, audrey])
def test_withdraw__by_somebody_without_the_duty__is_refused(somebody: Any) -> None:
    with pytest.raises(NotPermitted):
        actions.withdraw_policy(propose(), reason="No.", actor=somebody(), now=NOON)


def test_confirm__after_the_stakes_have_risen__is_refused() -> None:
    policy = propose()
    RegisteredModel.objects.update(tier="high-stakes")

    with pytest.raises(Conflict, match="does not fit the model any more"):
        confirm(policy)
    actions.withdraw_policy(policy, reason="The stakes have risen.", actor=alice(), now=NOON)


def test_propose__after_the_stakes_have_risen__goes_by_the_new_tier() -> None:
    stale = registered_model()
    RegisteredModel.objects.update(tier="high-stakes")

    with pytest.raises(InvalidInput, match="high stakes"):
        propose(of=stale)


def test_confirm__overtaken_by_a_newer_one__is_refused() -> None:
    policy = propose()
    newer = Policy.objects.create(
        registered_model=registered_model(),
        number=2,
        document={},
        content_hash="n",
        created_by=alice(),
        created_at=NOON,
    )
    PolicyDecision.objects.create(
        policy=newer, outcome=PolicyOutcome.CONFIRMED, duty="product", reason="", decided_by=paula(), decided_at=NOON
    )

    with pytest.raises(Conflict, match="which is newer"):
        confirm(policy)
    assert actions.standing_of(policy, in_force=2) == "outdated"


def test_confirm__while_a_run_waits__judges_its_version_under_the_new_policy() -> None:
    policy_in_force(registered_model(), {"checks": [rows.AUC, rows.CI]})
    waiting = rows.running()

    confirm(propose(STRICTER))

    waiting.refresh_from_db()
    assert (waiting.state, waiting.state_reason) == (
        "inconclusive",
        "late-arrival policy 2 is in force now; judged again under it.",
    )
    assert GateRun.objects.get(version=waiting.version, number=2).policy.number == 2


# ---------------------------------------------------------------------- loosening


def ended(verdict: str, of: Any = None) -> GateRun:
    run = rows.running(of or rows.version())
    actions.conclude(run, [rows.judged("auc-floor", verdict)], actor=ROBOT, now=NOON)
    return run


def test_loosened__stricter_policy__is_not_marked() -> None:
    policy_in_force(registered_model(), {"checks": [rows.AUC]})
    ended("failed")

    policy = propose(STRICTER)

    assert (policy.loosened, policy.loosened_after) == ([], None)


@pytest.mark.parametrize("verdict", ["failed", "inconclusive", "error"])
def test_loosened__after_a_run_that_did_not_pass__is_marked_with_it_for_ever(verdict: str) -> None:
    policy_in_force(registered_model(), {"checks": [rows.AUC, {**rows.AUC, "id": "second", "metric": "accuracy"}]})
    run = rows.running(rows.version())
    judged = [rows.judged("auc-floor", verdict), rows.judged("second", verdict)]
    actions.conclude(run, judged, actor=ROBOT, now=NOON)

    policy = propose(LOOSER)

    assert policy.loosened_after == run
    assert [(each["check"], each["setting"], each["direction"]) for each in policy.loosened] == [
        ("auc-floor", "at_least", "looser"),
        ("second", "check", "looser"),
    ]
    told = Event.objects.get(name="policy.proposed", subject_id=str(policy.pk)).data
    assert told["loosened"] == policy.loosened
    assert told["loosened_after"] == {"gate_run": run.pk, "was": str(run), "state": verdict}
    confirm(policy)
    assert Event.objects.filter(name="policy.confirmed").latest("id").data["loosened_after"]["gate_run"] == run.pk
    with pytest.raises(IntegrityError), transaction.atomic():
        Policy.objects.filter(pk=policy.pk).update(loosened_after=None)


def test_loosened__after_a_pass__says_what_but_not_after_which() -> None:
    policy_in_force(registered_model(), {"checks": [rows.AUC]})
    ended("failed")
    ended("passed")

    policy = propose(LOOSER)

    assert (len(policy.loosened), policy.loosened_after) == (1, None)


def test_loosened__by_way_of_a_harmless_change__is_still_marked() -> None:
    policy_in_force(registered_model(), {"checks": [rows.AUC]})
    run = ended("failed")
    confirm(propose(rows.AUC, {**rows.AUC, "id": "aside", "blocking": False}))

    assert propose(LOOSER).loosened_after == run


def test_loosened__run_that_a_new_policy_ended_while_it_waited__does_not_count() -> None:
    policy_in_force(registered_model(), {"checks": [rows.AUC, rows.CI]})
    rows.running()
    confirm(propose(rows.AUC, {**rows.CI, "minimum_tests": 2}))
    GateRun.objects.filter(number=2).update(state="running")

    assert propose(rows.AUC).loosened_after is None


def test_loosened__first_policy__loosens_nothing() -> None:
    assert propose(LOOSER).loosened == []


def test_loosened__policy_before_in_a_form_no_longer_read__counts_as_loosened() -> None:
    old = Policy.objects.create(
        registered_model=registered_model(),
        number=1,
        document={"checks": [{**rows.AUC, "drift_tolerance": 1}]},
        content_hash="old",
        created_by=alice(),
        created_at=NOON,
    )
    confirm_by_hand(old, paula())

    policy = propose(STRICTER)

    assert [each["setting"] for each in policy.loosened] == ["document"]


# ---------------------------------------------------------------------- as text


def test_policy_text__tells_who_decided_and_what_was_loosened_and_is_read_back() -> None:
    policy_in_force(registered_model(), {"checks": [rows.AUC]})
    run = ended("failed")
    policy = propose(LOOSER, note="The data changed,\nsee the report.")
    confirm(policy)
    policy = Policy.objects.get(pk=policy.pk)

    text = actions.policy_text(policy)

    assert f"# Policy 2 of late-arrival: in force. SHA-256 {policy.content_hash}\n" in text
    assert "# Proposed by alice on 2013-04-01: The data changed,\n# see the report.\n" in text
    assert "# Confirmed by paula (Product: which model is used and when) on 2013-04-01: Agreed.\n" in text
    assert f"# Loosened after {run} (failed):\n#   auc-floor: at_least 0.6 → 0.5, looser\n" in text
    assert load(text, model="late-arrival") == parse(policy.document)


def test_policy_text__of_a_form_no_longer_read__is_a_conflict() -> None:
    old = Policy(registered_model=registered_model(), number=1, document={"checks": []}, created_at=NOON)

    with pytest.raises(Conflict, match="no longer read"):
        actions.policy_text(old)


def test_changes_since__nothing__are_all_new() -> None:
    document: PolicyDocument = parse({"checks": [rows.AUC]})

    assert [change.direction for change in actions.changes_since(None, document)] == ["stricter"]


# ---------------------------------------------------------------------- the database itself


def confirm_by_hand(policy: Policy, who: User, duty: str = "product", outcome: str = "confirmed") -> PolicyDecision:
    return PolicyDecision.objects.create(
        policy=policy, outcome=outcome, duty=duty, reason="By hand.", decided_by=who, decided_at=NOON
    )


def test_database__confirmed_by_who_proposed_it__is_refused_by_the_orm_and_in_bulk() -> None:
    both = person("both", "delay-science", "delay-product", "delay-platform")
    policy = propose(by=both)

    for duty in ("product", "platform"):
        with pytest.raises(IntegrityError, match="second person"), transaction.atomic():
            confirm_by_hand(policy, both, duty)
        row = PolicyDecision(policy=policy, outcome="confirmed", duty=duty, reason="", decided_by=both, decided_at=NOON)
        with pytest.raises(IntegrityError, match="second person"), transaction.atomic():
            PolicyDecision.objects.bulk_create([row])
    assert actions.in_force(registered_model()) is None


def test_database__confirmed_by_who_proposed_it__is_refused_by_plain_sql() -> None:
    both = person("both", "delay-science", "delay-product")
    policy = propose(by=both)
    sql = (
        "INSERT INTO gates_policydecision (policy_id, outcome, duty, reason, decided_by_id, decided_at) "
        f"VALUES ({policy.pk}, 'confirmed', 'product', '', %s, '2013-04-01 12:00:00+00:00')"
    )

    with pytest.raises(IntegrityError, match="second person"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql, [both.pk])
    with connection.cursor() as cursor:
        cursor.execute(sql, [paula().pk])
    assert actions.in_force(registered_model()) == policy


@pytest.mark.parametrize(
    ("who", "duty"),
    [(charlie, "product"), (pete, "product"), (paula, "platform"), (alice, "data_science"), (audrey, "product")],
)
def test_database__confirmed_without_that_duty__is_refused(who: Any, duty: str) -> None:
    policy = propose(by=person("ann", "delay-science"))

    with pytest.raises(IntegrityError), transaction.atomic():
        confirm_by_hand(policy, who(), duty)


def test_database__confirming_what_a_newer_one_replaced__is_refused() -> None:
    old = propose()
    actions.decline_policy(old, reason="No.", actor=pete(), now=NOON)
    stale = propose(STRICTER)
    newer = Policy.objects.create(
        registered_model=registered_model(),
        number=3,
        document={},
        content_hash="n",
        created_by=alice(),
        created_at=NOON,
    )
    confirm_by_hand(newer, paula())

    with pytest.raises(IntegrityError, match="second person"), transaction.atomic():
        confirm_by_hand(stale, paula())


def test_database__decision__is_written_once() -> None:
    decision = confirm(propose())
    again = {"outcome": "declined", "decided_at": NOON + timedelta(days=1)}

    for change in (again, {"reason": "Another."}):
        with pytest.raises(IntegrityError), transaction.atomic():
            PolicyDecision.objects.filter(pk=decision.pk).update(**change)
    with pytest.raises(IntegrityError), transaction.atomic():
        PolicyDecision.objects.all().delete()
    with pytest.raises(IntegrityError), transaction.atomic():
        confirm_by_hand(decision.policy, pete(), "platform", "declined")


# ---------------------------------------------------------------------- of another group


@pytest.fixture
def one_group_has_science_and_product() -> RegisteredModel:
    return registered_model("shared", product=group("delay-science"))


def test_confirm__by_the_group_that_proposes__is_refused_although_it_has_another_duty(
    one_group_has_science_and_product: RegisteredModel,
) -> None:
    policy = propose(of=one_group_has_science_and_product)
    colleague = person("ann", "delay-science")

    assert not actions.may_second(policy, colleague)
    with pytest.raises(NotPermitted, match=r"Who may: Platform[^()]*\(delay-platform\)\.$"):
        confirm(policy, colleague)
    with pytest.raises(IntegrityError, match="second person"), transaction.atomic():
        confirm_by_hand(policy, colleague, "product")
    assert confirm(policy, pete()).duty == "platform"


def test_confirm__model_whose_duties_are_all_one_groups__can_not_be() -> None:
    owners = {name: group("delay-science") for name in ("platform", "product")}
    policy = propose(of=registered_model("alone", **owners))

    with pytest.raises(NotPermitted, match="Who may: nobody"):
        confirm(policy, person("ann", "delay-science"))
