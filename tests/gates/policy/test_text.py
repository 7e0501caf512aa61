"""YAML in and out: every mistake on its line and column, and nothing read that a policy does not need."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gates.policy import PolicyDocument, parse
from gates.policy.templates import from_template
from gates.policy.text import LARGEST, PolicyTextError, Problem, dump, load

HEAD = "apiVersion: gates/v1\nchecks:\n"
FLOOR = "  - {id: auc, kind: metric, metric: roc_auc, at_least: 0.65}\n"


def problems(text: str, **fields: Any) -> list[Problem]:
    with pytest.raises(PolicyTextError) as refused:
        load(text, **fields)
    return list(refused.value.problems)


def problem(text: str, **fields: Any) -> Problem:
    (only,) = problems(text, **fields)
    return only


def place(text: str, **fields: Any) -> tuple[int, int, str]:
    found = problem(text, **fields)
    return found.line, found.column, found.path


# ---------------------------------------------------------------------- out


def test_dump__of_a_policy__says_what_is_required_and_what_differs() -> None:
    floor = {"id": "auc-floor", "kind": "metric", "metric": "roc_auc", "at_least": 0.65, "use": "lower_bound"}
    leakage = {"id": "leakage", "kind": "leakage"}
    document = parse({"template": "standard@3", "checks": [floor, leakage]})

    assert dump(document, model="late-arrival", comments=["Policy 1.", "By \x07 alice:\nbecause."]) == (
        "# Policy 1.\n"
        "# By ? alice:\n"
        "# because.\n"
        "apiVersion: gates/v1\n"
        "model: late-arrival\n"
        "template: standard@3\n"
        "threshold: 0.5\n"
        "evidence_wait_hours: 72\n"
        "checks:\n"
        "\n"
        "  - id: auc-floor\n"
        "    kind: metric\n"
        "    metric: roc_auc\n"
        "    at_least: 0.65\n"
        "    use: lower_bound\n"
        "\n"
        "  - id: leakage\n"
        "    kind: leakage\n"
        "    blocking: false\n"
    )


@pytest.mark.parametrize("tier", ["experimental", "standard", "high-stakes"])
@pytest.mark.parametrize("task", ["binary_classification", "regression"])
def test_dump__of_each_template__is_read_back_as_the_same(tier: str, task: str) -> None:
    answers: dict[str, Any] = {"fairness": {"by": "origin"}, "slices": {"by": ["carrier"]}}
    if task == "regression":
        answers = {"error-ceiling": {"at_most": 3}, "error-vs-champion": {"not_worse_by": 0.1}}
        if tier == "high-stakes":
            answers["slices"] = {"by": ["carrier"], "not_worse_than_overall_by": 0.5}
    elif tier == "experimental":
        del answers["slices"]
    document = from_template(tier, task=task, overrides={"checks": answers})

    assert load(dump(document)) == document
    assert load(dump(document)).content_hash() == document.content_hash()


AWKWARD = [
    "no",
    "NO",
    "on",
    "1e5",
    "0x1f",
    "12:30",
    "2013-01-01",
    "null",
    "~",
    "a: b",
    "# c",
    "- d",
    "é",
    "<<",
    "=",
    " x ",
]
COLUMNS = st.sampled_from(AWKWARD) | st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=20
)
SHARES = st.floats(0, 1)
LEVELS = st.one_of(COLUMNS, st.integers(-(2**53), 2**53), st.booleans(), st.floats(-1e300, 1e300))


@given(
    by=st.lists(COLUMNS, min_size=1, max_size=5, unique=True),
    allowed=st.dictionaries(COLUMNS, st.lists(LEVELS, max_size=4), max_size=4),
    worse=st.floats(0, 1e6),
    threshold=SHARES,
    tolerance=st.floats(0, 1, allow_subnormal=False),
)
@settings(max_examples=150, deadline=None)
def test_dump__of_any_names_and_numbers__is_read_back_as_the_same(
    by: list[str], allowed: dict[str, list[Any]], worse: float, threshold: float, tolerance: float
) -> None:
    checks = [
        {"id": "s", "kind": "slice", "metric": "roc_auc", "by": by, "not_worse_than_overall_by": worse},
        {"id": "dq", "kind": "data_quality", "columns": {name: {"allowed": each} for name, each in allowed.items()}},
        {"id": "r", "kind": "robustness", "parity_tolerance": tolerance, "blocking": False},
    ]
    document = parse({"threshold": threshold, "checks": checks})

    assert load(dump(document)).content_hash() == document.content_hash()


# ---------------------------------------------------------------------- in


def test_load__words_of_yaml_1_2__are_what_they_say() -> None:
    text = (
        HEAD
        + "  - {id: f, kind: fairness, by: no, at_most: 1e-1}\n"
        + ("  - {id: d, kind: data_quality, columns: {on: {allowed: [NO, yes, 12:30, 2013-01-01, 1, true]}}}\n")
    )
    document = load(text).model_dump()

    assert document["checks"][0]["by"] == "no"
    assert document["checks"][0]["at_most"] == 0.1
    assert document["checks"][1]["columns"]["on"]["allowed"] == ("NO", "yes", "12:30", "2013-01-01", 1, True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (HEAD + FLOOR + "treshold: 0.3\n", (4, 1, "treshold")),
        (HEAD + FLOOR + "threshold: 3\n", (4, 12, "threshold")),
        (HEAD + FLOOR.replace("at_least", "at_leest"), (3, 46, "checks.auc.at_leest")),
        (HEAD + FLOOR.replace("0.65", "high"), (3, 56, "checks.auc.at_least")),
        (HEAD + FLOOR.replace("0.65", ".nan"), (3, 56, "checks.auc.at_least")),
        (HEAD + FLOOR.replace("at_least", "at_most"), (3, 55, "checks.auc.at_most")),
        (HEAD + FLOOR.replace("kind: metric", "kind: vibes"), (3, 21, "checks.auc.kind")),
        (HEAD + FLOOR.replace("id: auc, ", ""), (3, 5, "checks.0.id")),
        (HEAD + FLOOR.replace("id: auc", "id: AUC"), (3, 10, "checks.AUC.id")),
        (HEAD + FLOOR + FLOOR, (4, 10, "checks.auc.id")),
        (HEAD + FLOOR + "  - auc\n", (4, 5, "checks.1")),
        (HEAD + FLOOR + "checks: []\n", (4, 1, "checks")),
        (HEAD + "  - id: auc\n    id: roc\n", (4, 5, "checks.0.id")),
        ("apiVersion: gates/v2\nchecks:\n" + FLOOR, (1, 13, "apiVersion")),
        (HEAD + FLOOR + "evidence_wait_hours: 0.5\n", (4, 22, "evidence_wait_hours")),
        ("apiVersion: gates/v1\n", (1, 1, "checks")),
        (HEAD.replace("checks:", "checks: []"), (2, 9, "checks")),
    ],
)
def test_load__one_mistake__is_told_at_its_line_and_column(text: str, expected: tuple[int, int, str]) -> None:
    assert expected in [(each.line, each.column, each.path) for each in problems(text)]


def test_load__several_mistakes__are_all_told_in_the_order_of_the_text() -> None:
    auc = "  - id: auc\n    kind: metric\n    metric: vibes\n    at_least: 0.6\n"
    text = f"threshold: 2\nchecks:\n{auc}  - id: x\n    kind: y\n"

    assert [(each.line, each.path) for each in problems(text)] == [
        (1, "threshold"),
        (5, "checks.auc.metric"),
        (8, "checks.x.kind"),
    ]


def test_load__cross_field_mistake_inside_a_column__is_told_there() -> None:
    text = (
        HEAD
        + "  - id: dq\n    kind: data_quality\n    columns:\n      delay:\n        maximum: 1\n        minimum: 2\n"
    )

    assert place(text) == (8, 18, "checks.dq.columns.delay.minimum")


def test_load__policy_of_another_model__is_refused_at_its_name() -> None:
    text = "model: fraud\n" + HEAD + FLOOR

    assert place(text, model="late-arrival") == (1, 8, "model")
    assert load(text, model="fraud") == load(text)


# ---------------------------------------------------------------------- other gates' words


def test_load__extends_and_severity__are_read_as_template_and_blocking() -> None:
    other = FLOOR.replace("id: auc", "id: other").replace("}", ", severity: report}")
    document = load("extends: standard@3\n" + HEAD + FLOOR.replace("}", ", severity: block}") + other)

    assert document.template == "standard@3"
    assert [check.blocking for check in document.checks] == [True, False]
    assert "severity" not in dump(document)
    assert "extends" not in dump(document)


@pytest.mark.parametrize("said", ["warn", "true", "[block]", "null"])
def test_load__unknown_severity__is_refused(said: str) -> None:
    assert "block or report" in problem(HEAD + FLOOR.replace("}", f", severity: {said}}}")).message


def test_load__both_words__is_refused() -> None:
    text = HEAD + FLOOR.replace("}", ", blocking: true, severity: report}")

    assert "say it once" in problem(text).message


# ---------------------------------------------------------------------- what is not read


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", 1, "empty"),
        ("# nothing\n", 1, "empty"),
        ("- a\n", 1, "mapping"),
        ("policy\n", 1, "mapping"),
        ("a: [1,\nb", 2, "not YAML"),
        ("a: b: c\n", 1, "not YAML"),
        ("\tchecks: []\n", 1, "not YAML"),
        ("a: &x [1]\nb: *x\n", 1, "Anchors"),
        ("a: 1\nb: *x\n", 2, "Anchors"),
        ("a: !!python/object/apply:os.system [ls]\n", 1, "Tags"),
        ("a: !!str 1\n", 1, "Tags"),
        ("a: !x 1\n", 1, "Tags"),
        ("a: 1\n---\nb: 2\n", 2, "second document"),
        ("[" * 5000, 1, "Nested"),
        ("a: {" * 3000, 1, "Nested"),
        ("x: 1\na: \x07\n", 2, "not allowed"),
        ("? [a, b]\n: 1\n", 1, "A key is a word"),
        ("<<: {threshold: 1}\nchecks: []\n", 1, "no such setting"),
        ("a" * (LARGEST + 1), 1, "at most"),
    ],
)  # fmt: skip
def test_load__what_no_policy_needs__is_refused_at_its_line(text: str, line: int, said: str) -> None:
    assert any(each.line == line and said in each.message for each in problems(text))


def test_load__lines_that_would_grow_to_gigabytes__are_refused_at_the_first() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
    )

    assert (problem(bomb).line, problem(bomb).column) == (1, 5)


@pytest.mark.parametrize("number", ["9" * 5000, "-" + "9" * 5000])
def test_load__number_without_end__is_no_number(number: str) -> None:
    assert place(HEAD + FLOOR.replace("0.65", number))[2] == "checks.auc.at_least"


@pytest.mark.parametrize("text", ['"\\0"', '"\\ud800"', '"\\n"'])
def test_load__character_that_no_database_keeps__is_refused_as_a_column(text: str) -> None:
    found = problem(HEAD + f"  - {{id: f, kind: fairness, by: {text}, at_most: 0.1}}\n")

    assert (found.line, found.path) == (3, "checks.f.by")


def is_answered(text: str) -> bool:
    """Whether a text is either a policy, or refused with places in it."""
    try:
        return isinstance(load(text, model="m"), PolicyDocument)
    except PolicyTextError as refused:
        return bool(refused.problems) and all(each.line >= 1 and each.column >= 1 for each in refused.problems)


@given(st.text(max_size=400))
@settings(max_examples=300, deadline=None)
def test_load__any_text__is_a_policy_or_refused_with_a_place(text: str) -> None:
    assert is_answered(text)


YAMLISH = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["metric", "roc_auc", "auc", "block", "a.b"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["id", "kind", "metric", "at_least", "checks", "severity", "extends", "columns", "by", "use", "x"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=15,
)


@given(st.dictionaries(st.sampled_from(["checks", "threshold", "apiVersion", "model", "template", "extends"]), YAMLISH))
@settings(max_examples=300, deadline=None)
def test_load__anything_in_the_place_of_anything__is_a_policy_or_refused_with_a_place(value: Any) -> None:
    assert is_answered(yaml.safe_dump(value))
