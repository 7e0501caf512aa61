"""Policies over HTTP: proposed in three forms, tried, compared, decided on by a second person."""

from __future__ import annotations

from typing import Any

import pytest

from audit.scopes import DECIDE, READ, REGISTER
from gates import actions
from gates.models import Policy
from gates.policy import parse
from gates.policy.text import dump, load
from tests.builders import NOON, alice, audrey, charlie, paula, pete, policy_in_force, registered_model
from tests.gates import rows
from tests.mlops import world as building
from tests.mlops.calls import Caller, problem, refused_fields

pytestmark = pytest.mark.django_db

POLICIES = "models/late-arrival/policies/"
FLOOR = {"checks": [rows.AUC]}
STRICTER = {"checks": [{**rows.AUC, "at_least": 0.7}]}


def yaml(document: dict[str, Any]) -> str:
    return dump(parse(document), model="late-arrival")


@pytest.fixture(autouse=True)
def _model() -> None:
    registered_model()


# ---------------------------------------------------------------------- proposing


@pytest.mark.parametrize(
    "form",
    [
        {"document": FLOOR},
        {"yaml": yaml(FLOOR)},
        {"template": "standard", "overrides": {"checks": {"fairness": {"by": "origin"}}}},
    ],
    ids=["document", "yaml", "template"],
)
def test_policies__proposed_in_each_form__waits_at_its_address(form: dict[str, Any]) -> None:
    caller = Caller(alice())
    response = caller.post(POLICIES, {**form, "note": "A first one."})

    assert response.status_code == 201, response.content
    found = caller.client.get(response["Location"]).json()
    assert (found["number"], found["standing"], found["created_by"]) == (1, "waiting", "alice")
    assert (found["decision"], found["loosened"], found["loosened_after"]) == (None, [], None)
    assert parse(found["document"]).content_hash() == found["content_hash"]


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"document": FLOOR}, {"note"}),
        ({"note": "x"}, {"document"}),
        ({"note": "x", "document": FLOOR, "yaml": yaml(FLOOR)}, {"document"}),
        ({"note": "x", "document": FLOOR, "overrides": {}}, {"overrides"}),
        ({"note": "x", "document": FLOOR, "reason": "y"}, {"reason"}),
        ({"note": "x", "document": [1]}, {"document"}),
        ({"note": "x", "document": {"checks": [{**rows.AUC, "at_lest": 1}]}}, {"document.checks.auc-floor.at_lest"}),
        ({"note": "x", "document": {**FLOOR, "treshold": 1}}, {"document.treshold"}),
        ({"note": "x", "document": {**FLOOR, "template": "experimental@3"}}, {"document.template"}),
        ({"note": "x", "template": "strict"}, {"template"}),
        ({"note": "x", "template": "experimental", "overrides": {"checks": {"fairness": None}}}, {"template"}),
        ({"note": "x", "template": "standard"}, {"overrides.checks.fairness.by"}),
        ({"note": "x", "template": "standard", "overrides": {"checks": [1]}}, {"overrides.checks"}),
        ({"note": "x", "yaml": "a: ["}, {"yaml"}),
        ({"note": "x", "yaml": yaml(FLOOR).replace("0.6", "high")}, {"yaml.checks.auc-floor.at_least"}),
        ({"note": "x", "yaml": "x" * (64 * 1024 + 1)}, {"yaml"}),
    ],
)
def test_policies__with_something_wrong__is_refused_by_field(body: dict[str, Any], fields: set[str]) -> None:
    assert refused_fields(Caller(alice()).post(POLICIES, body)) == fields
    assert not Policy.objects.exists()


def test_policies__mistakes_in_yaml__are_told_with_line_and_column() -> None:
    text = "checks:\n  - id: auc\n    kind: metric\n    metric: roc_auc\n    at_leest: 0.6\n"
    _, body = problem(Caller(alice()).post(POLICIES, {"yaml": text, "note": "x"}))

    assert body["errors"] == {
        "yaml.checks.auc.at_leest": ["line 5, column 5: There is no such setting; did you mean at_least?"]
    }


def test_policies__yaml_of_another_model__is_refused() -> None:
    text = dump(parse(FLOOR), model="fraud")

    assert refused_fields(Caller(alice()).post(POLICIES, {"yaml": text, "note": "x"})) == {"yaml.model"}


@pytest.mark.parametrize(("who", "status"), [(paula, 403), (pete, 403), (audrey, 403), (charlie, 404)])
def test_policies__of_somebody_without_the_duty__are_refused(who: Any, status: int) -> None:
    assert problem(Caller(who()).post(POLICIES, {"document": FLOOR, "note": "x"}))[0] == status


def test_policies__while_another_waits__is_a_conflict() -> None:
    caller = Caller(alice())
    caller.post(POLICIES, {"document": FLOOR, "note": "x"})

    assert problem(caller.post(POLICIES, {"document": STRICTER, "note": "x"}))[0] == 409
    assert caller.post(POLICIES, {"document": FLOOR, "note": "x"}).json()["number"] == 1


@pytest.mark.parametrize("scopes", [(READ,), (REGISTER, READ)])
def test_policies__with_a_token_that_may_not_decide__is_refused(scopes: tuple[str, ...]) -> None:
    body = {"document": FLOOR, "note": "x"}

    assert problem(Caller(alice(), *scopes).post(POLICIES, body))[0] == 403
    assert Caller(alice(), DECIDE).post(POLICIES, body).status_code == 201
    decision = {"outcome": "confirm", "reason": "x"}
    assert problem(Caller(paula(), *scopes).post(f"{POLICIES}1/decision/", decision))[0] == 403


# ---------------------------------------------------------------------- looking


def in_force(document: dict[str, Any]) -> Policy:
    return policy_in_force(registered_model(), document)


def test_policy__in_force__is_told_with_who_confirmed_it() -> None:
    in_force(FLOOR)

    answer = Caller(pete()).get(f"{POLICIES}in-force/").json()

    assert (answer["number"], answer["standing"], answer["decision"]["outcome"]) == (1, "in force", "confirmed")
    assert answer["decision"]["decided_by"] == "some-delay-product"


def test_policy__before_there_is_one__is_not_there() -> None:
    assert problem(Caller(pete()).get(f"{POLICIES}in-force/"))[0] == 404
    assert problem(Caller(pete()).get(f"{POLICIES}1/"))[0] == 404


def test_policy__as_yaml__is_text_that_is_read_back() -> None:
    policy = in_force(FLOOR)
    response = Caller(pete()).get(f"{POLICIES}in-force/", form="yaml")

    assert response["Content-Type"] == "application/yaml; charset=utf-8"
    assert load(response.content.decode(), model="late-arrival") == parse(policy.document)
    accepted = Caller(pete()).get(f"{POLICIES}1/", form="yaml", headers={"Accept": "application/yaml"})
    assert accepted.content == response.content
    known = Caller(pete()).get(f"{POLICIES}1/", form="yaml", headers={"If-None-Match": response["ETag"]})
    assert (known.status_code, known.content) == (304, b"")
    assert problem(Caller(pete()).get(f"{POLICIES}1/", form="xml"))[0] == 400


def test_policies__listed__are_newest_first_with_their_standing() -> None:
    in_force(FLOOR)
    in_force(STRICTER)
    actions.propose_policy(registered_model(), document=FLOOR, note="Back.", actor=alice(), now=NOON)

    found = Caller(audrey()).get(POLICIES).json()["results"]

    assert [(row["number"], row["standing"]) for row in found] == [(3, "waiting"), (2, "in force"), (1, "replaced")]
    assert "document" not in found[0]
    assert [row["number"] for row in Caller(audrey()).get(POLICIES, created_by="alice").json()["results"]] == [3]


def test_policies__listed__cost_a_fixed_number_of_queries(django_assert_max_num_queries: Any) -> None:
    for number in range(6):
        in_force({"checks": [{**rows.AUC, "at_least": 0.5 + number / 100}]})
    caller = Caller(audrey())
    with django_assert_max_num_queries(12):
        assert len(caller.get(POLICIES).json()["results"]) == 6


def test_policy__loosened_after_a_failed_run__says_so_for_ever() -> None:
    in_force(STRICTER)
    run = rows.running(rows.version())
    actions.conclude(run, [rows.judged("auc-floor", "failed")], actor=alice(), now=NOON)
    in_force(FLOOR)

    answer = Caller(pete()).get(f"{POLICIES}in-force/").json()

    assert answer["loosened_after"] == {"gate_run": run.pk, "version": run.version.number, "state": "failed"}
    assert answer["loosened"] == [
        {"check": "auc-floor", "setting": "at_least", "before": 0.7, "after": 0.6, "direction": "looser"}
    ]


# ---------------------------------------------------------------------- difference and dry run


def test_diff__of_a_proposal__is_against_the_policy_in_force() -> None:
    in_force(FLOOR)
    Caller(alice()).post(POLICIES, {"document": STRICTER, "note": "x"})

    answer = Caller(paula()).get(f"{POLICIES}2/diff/").json()

    assert (answer["number"], answer["against"]) == (2, 1)
    assert answer["words"] == ["auc-floor: at_least 0.6 → 0.7, stricter"]
    assert answer["changes"][0]["direction"] == "stricter"


def test_diff__of_the_one_in_force__is_against_the_one_before_it_or_nothing() -> None:
    in_force(FLOOR)
    first = Caller(paula()).get(f"{POLICIES}1/diff/").json()
    in_force(STRICTER)
    second = Caller(paula()).get(f"{POLICIES}2/diff/").json()

    assert (first["against"], first["words"]) == (None, ["auc-floor: new (metric: roc_auc ≥ 0.6), stricter"])
    assert (second["against"], second["words"]) == (1, ["auc-floor: at_least 0.6 → 0.7, stricter"])


def test_diff__against_a_named_one() -> None:
    in_force(FLOOR)
    in_force(STRICTER)

    assert Caller(paula()).get(f"{POLICIES}1/diff/", against=2).json()["words"] == [
        "auc-floor: at_least 0.7 → 0.6, looser"
    ]
    assert problem(Caller(paula()).get(f"{POLICIES}1/diff/", against=9))[0] == 404
    assert problem(Caller(paula()).get(f"{POLICIES}1/diff/", against="x"))[0] == 400


@pytest.mark.parametrize("who", [alice, paula, audrey])
def test_dry_run__by_everybody_who_sees_the_model__says_what_would_have_been(who: Any) -> None:
    world = building.build()
    path = "models/delay-arrival/policies/dry-run/"
    user = who() if who is audrey else (world.scientist if who is alice else world.owner)
    quiet = {**rows.AUC, "id": "auc-floor", "at_least": 0.65, "blocking": False}
    always = {"id": "always", "kind": "training_data", "blocking": True}

    answer = Caller(user, READ).post(path, {"document": {"checks": [quiet, always]}, "last": 3})

    assert answer.status_code == 200, answer.content
    told = answer.json()
    assert told["sentence"] == "What this rule would have made of the last 3 versions can not be told."
    assert told["difference"]["against"] == 1
    assert [row["untold"] for row in told["rows"]] == [["always"]] * 3
    assert {row["direction"] for row in told["difference"]["changes"]} == {"looser", "stricter"}


def test_dry_run__of_what_is_in_force__changes_nothing_and_records_nothing() -> None:
    world = building.build()
    document = world["policy"].document
    caller = Caller(world.scientist)
    answer = caller.post("models/delay-arrival/policies/dry-run/", {"document": document}).json()

    assert (answer["differing"], answer["untold"], answer["difference"]["changes"]) == (0, 0, [])
    assert answer["sentence"] == "Under this rule, none of the last 4 versions would have ended otherwise."
    assert Policy.objects.filter(registered_model=world.registered_model).count() == 1


def test_dry_run__with_something_wrong__is_refused_by_field() -> None:
    caller = Caller(alice())

    assert refused_fields(caller.post(f"{POLICIES}dry-run/", {"yaml": "checks: 3"})) == {"yaml.checks"}
    assert refused_fields(caller.post(f"{POLICIES}dry-run/", {"document": FLOOR, "last": 0})) == {"last"}
    assert refused_fields(caller.post(f"{POLICIES}dry-run/", {"document": FLOOR, "note": "x"})) == {"note"}


# ---------------------------------------------------------------------- deciding


def decide(who: Any, outcome: str, **fields: Any) -> Any:
    return Caller(who).post(f"{POLICIES}1/decision/", {"outcome": outcome, "reason": "Because.", **fields})


@pytest.mark.parametrize(
    ("who", "outcome", "standing"),
    [
        (paula, "confirm", "in force"),
        (pete, "confirm", "in force"),
        (pete, "decline", "declined"),
        (alice, "withdraw", "withdrawn"),
    ],
)
def test_decision__of_whose_duty_it_is__is_carried_out(who: Any, outcome: str, standing: str) -> None:
    Caller(alice()).post(POLICIES, {"document": FLOOR, "note": "x"})

    response = decide(who(), outcome)

    assert response.status_code == 201, response.content
    assert (response.json()["standing"], response.json()["decision"]["reason"]) == (standing, "Because.")
    assert problem(decide(who(), outcome))[0] == 409


@pytest.mark.parametrize(
    ("who", "outcome", "status"),
    [
        (alice, "confirm", 403),
        (alice, "decline", 403),
        (audrey, "confirm", 403),
        (audrey, "withdraw", 403),
        (paula, "withdraw", 403),
        (charlie, "confirm", 404),
    ],
)
def test_decision__of_somebody_else__is_refused(who: Any, outcome: str, status: int) -> None:
    Caller(alice()).post(POLICIES, {"document": FLOOR, "note": "x"})

    assert problem(decide(who(), outcome))[0] == status
    assert actions.in_force(registered_model()) is None


def test_decision__with_something_wrong__is_refused_by_field() -> None:
    Caller(alice()).post(POLICIES, {"document": FLOOR, "note": "x"})

    assert refused_fields(decide(paula(), "waive")) == {"outcome"}
    assert refused_fields(decide(paula(), "confirm", reason="")) == {"reason"}
    assert refused_fields(decide(paula(), "confirm", force=True)) == {"force"}


# ---------------------------------------------------------------------- templates


@pytest.mark.parametrize("tier", ["experimental", "standard", "high-stakes"])
def test_template__is_there_for_everybody_as_json_and_as_yaml(tier: str) -> None:
    caller = Caller(charlie())
    answer = caller.get(f"policy-templates/{tier}/").json()
    text = caller.get(f"policy-templates/{tier}/", form="yaml", task="regression").content.decode()

    assert (answer["template"], answer["task"]) == (f"{tier}@3", "binary_classification")
    assert {"check": "fairness", "setting": "by"}.items() <= answer["open"][0].items()
    assert "at_most:  # the largest mean absolute error, in the label's unit" in text


def test_template__that_is_not_there__is_told() -> None:
    assert problem(Caller(charlie()).get("policy-templates/strict/"))[0] == 404
    assert problem(Caller(charlie()).get("policy-templates/standard/", task="ranking"))[0] == 400
