"""Policies from a terminal and from a pipeline: show, propose, try, compare, decide."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User

from gatehouse import Conflict, InvalidInput, NotFound, NotPermitted, Policy, PolicyDryRun, cli
from gates.policy import parse
from gates.policy.text import dump, load
from tests.builders import alice, paula, pete, policy_in_force, registered_model
from tests.gates import rows
from tests.mlops import world as building
from tests.mlops.calls import token
from tests.sdk import portal

pytestmark = pytest.mark.django_db

MODEL = "late-arrival"
FLOOR: dict[str, Any] = {"checks": [rows.AUC]}
LOOSER: dict[str, Any] = {"checks": [{**rows.AUC, "at_least": 0.5}]}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the command as somebody; the exit code."""

    def command(user: User, *words: str) -> int:
        monkeypatch.setenv("GATEHOUSE_URL", portal.URL)
        monkeypatch.setenv("GATEHOUSE_TOKEN", token(user))
        return cli.main(words, transport=portal.transport())

    return command


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(dump(parse(LOOSER), model=MODEL))
    return path


# ---------------------------------------------------------------------- the client


def test_client__a_policys_whole_life() -> None:
    registered_model()
    scientist, owner = portal.client(alice()), portal.client(paula())
    with pytest.raises(NotFound):
        owner.policy(MODEL)
    first = scientist.propose_policy(MODEL, document=FLOOR, note="First.")
    confirmed = owner.decide_policy(MODEL, first.number, "confirm", reason="Agreed.")
    second = scientist.propose_policy(MODEL, yaml=dump(parse(LOOSER)), note="Too strict.")

    assert (first.standing, confirmed.standing) == ("waiting", "in force")
    assert confirmed.decision is not None
    assert (confirmed.decision.decided_by, confirmed.decision.reason) == ("paula", "Agreed.")
    assert [repr(change) for change in second.loosened] == ["<PolicyChange auc-floor: at_least 0.6 → 0.5, looser>"]
    difference = owner.policy_difference(MODEL, 2)
    assert (str(difference), difference.looser) == ("auc-floor: at_least 0.6 → 0.5, looser", True)
    assert owner.decide_policy(MODEL, 2, "decline", reason="No.").standing == "declined"
    assert [(each.number, each.standing) for each in owner.policies(MODEL)] == [(2, "declined"), (1, "in force")]
    assert owner.policy(MODEL).document == parse(FLOOR).model_dump(mode="json")
    assert load(owner.policy_yaml(MODEL, 2)) == parse(LOOSER)
    assert "<td>1</td>" in owner.policies(MODEL)._repr_html_()  # type: ignore[attr-defined]  # it is Rows


def test_client__template_with_overrides__is_proposed_and_refused_by_field() -> None:
    registered_model()
    scientist = portal.client(alice())

    with pytest.raises(InvalidInput) as refused:
        scientist.propose_policy(MODEL, template="standard", note="First.")
    assert set(refused.value.errors) == {"overrides.checks.fairness.by"}
    overrides = {"checks": {"fairness": {"by": "origin"}}}
    policy = scientist.propose_policy(MODEL, template="standard", overrides=overrides, note="First.")
    assert (repr(policy), policy.template) == ("<Policy 1 of late-arrival: waiting>", "standard@3")


def test_client__what_is_refused__says_by_whom_it_could_be_done() -> None:
    registered_model()
    scientist = portal.client(alice())
    scientist.propose_policy(MODEL, document=FLOOR, note="First.")

    with pytest.raises(NotPermitted, match="a second person"):
        scientist.decide_policy(MODEL, 1, "confirm", reason="Mine.")
    with pytest.raises(Conflict, match="waits for a second person"):
        scientist.propose_policy(MODEL, document=LOOSER, note="Another.")


def test_client__dry_run__tells_what_would_have_been() -> None:
    world = building.build()
    floor = {**rows.AUC, "at_least": 0.65, "blocking": False}
    trained = {"id": "trained", "kind": "training_data"}
    tried = portal.client(world.scientist).dry_run_policy(
        "delay-arrival", document={"checks": [floor, trained]}, last=2
    )

    assert isinstance(tried, PolicyDryRun)
    assert (tried.untold, tried.rows[0].would_end, tried.rows[0].untold) == (2, None, ("trained",))
    assert str(tried).splitlines()[0] == "What this rule would have made of the last 2 versions can not be told."
    assert "trained can not be told" in str(tried.rows[0])


# ---------------------------------------------------------------------- the command


def test_policy_show__prints_the_one_in_force_as_yaml_or_json(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    policy_in_force(registered_model(), FLOOR)

    assert run(pete(), "policy", "show", MODEL) == 0
    text = capsys.readouterr().out
    assert text.startswith("# Policy 1 of late-arrival: in force.")
    assert load(text) == parse(FLOOR)
    assert run(pete(), "--json", "policy", "show", MODEL, "1") == 0
    assert json.loads(capsys.readouterr().out)["standing"] == "in force"
    assert run(pete(), "policy", "show", MODEL, "2") == 2


def test_policy_template__prints_what_is_to_be_filled_in(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(alice(), "policy", "template", "high-stakes") == 0
    assert "by:  # the column of the requests that names the groups to compare" in capsys.readouterr().out
    assert run(alice(), "policy", "template", "standard", "--task", "regression") == 0
    assert "error-ceiling" in capsys.readouterr().out


def test_policy__proposed_compared_and_confirmed(run: Any, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy_in_force(registered_model(), FLOOR)

    assert run(alice(), "policy", "propose", MODEL, str(file), "--note", "Too strict.") == 0
    assert capsys.readouterr().out == "late-arrival policy 2: waiting\n  asks less: auc-floor at_least\n"
    assert run(paula(), "policy", "diff", MODEL, "2") == 0
    assert capsys.readouterr().out == "auc-floor: at_least 0.6 → 0.5, looser\n"
    assert run(paula(), "policy", "diff", MODEL, "2", "--against", "2") == 0
    assert capsys.readouterr().out == "Nothing is asked otherwise.\n"
    assert run(alice(), "policy", "confirm", MODEL, "2", "--reason", "Mine.") == 2
    assert "a second person" in capsys.readouterr().err
    assert run(paula(), "policy", "confirm", MODEL, "2", "--reason", "Agreed.") == 0
    assert capsys.readouterr().out == "late-arrival policy 2: in force\n"


@pytest.mark.parametrize(("verb", "who", "standing"), [("decline", pete, "declined"), ("withdraw", alice, "withdrawn")])
def test_policy__declined_or_withdrawn(
    run: Any, file: Path, capsys: pytest.CaptureFixture[str], verb: str, who: Any, standing: str
) -> None:
    registered_model()
    run(alice(), "policy", "propose", MODEL, str(file), "--note", "First.")
    capsys.readouterr()

    assert run(who(), "policy", verb, MODEL, "1", "--reason", "No.") == 0
    assert capsys.readouterr().out == f"late-arrival policy 1: {standing}\n"


def test_policy_propose__mistakes__are_told_with_file_line_and_column(
    run: Any, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registered_model()
    file.write_text("checks:\n  - id: auc\n    kind: metric\n    metric: roc_auc\n    at_leest: 0.6\n")

    assert run(alice(), "policy", "propose", MODEL, str(file), "--note", "First.") == 1
    assert capsys.readouterr().err == (
        f"{file}: line 5, column 5: checks.auc.at_leest: There is no such setting; did you mean at_least?\n"
    )
    file.write_text("a: [")
    assert run(alice(), "policy", "dry-run", MODEL, str(file)) == 1
    assert "line 1, column 5: This is not YAML" in capsys.readouterr().err


def test_policy_dry_run__prints_the_sentence_and_what_is_asked_otherwise(
    run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = building.build()
    path = tmp_path / "policy.yaml"
    document = world["policy"].document
    path.write_text(dump(parse({**document, "evidence_wait_hours": 24})))

    assert run(world.scientist, "policy", "dry-run", "delay-arrival", str(path)) == 0
    assert capsys.readouterr().out == (
        "Under this rule, none of the last 4 versions would have ended otherwise.\n  evidence_wait_hours 72 → 24\n"
    )
    assert run(world.scientist, "--json", "policy", "dry-run", "delay-arrival", str(path), "--last", "1") == 0
    assert len(json.loads(capsys.readouterr().out)["rows"]) == 1


def test_policy_propose__file_that_is_not_there__is_wrong_usage(run: Any, tmp_path: Path) -> None:
    assert run(alice(), "policy", "propose", MODEL, str(tmp_path / "none.yaml"), "--note", "x") == 2


def test_policy__is_what_the_client_answers() -> None:
    policy_in_force(registered_model(), FLOOR)

    assert isinstance(portal.client(alice()).policy(MODEL), Policy)
