"""A policy as YAML: written for people, read back with every mistake placed on its line and column.

    # Policy 7 of credit-default, in force
    apiVersion: gates/v1
    model: credit-default
    template: high-stakes@3
    threshold: 0.5
    evidence_wait_hours: 72
    checks:

      - id: auc-floor
        kind: metric
        metric: roc_auc
        at_least: 0.8
        use: lower_bound

A policy is short and written by hand, so what a short document does not need is refused: anchors and aliases (with
them a few lines grow to gigabytes), tags, several documents, deep nesting. Words are read as YAML 1.2 has them: ``no``
is a text (a country), ``1e-5`` a number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml
from pydantic import ValidationError

from gates.policy.checks import Bar, Check
from gates.policy.document import Location, PolicyDocument, Wrong, path_of, wrongs

API_VERSION = "gates/v1"
LARGEST = 64 * 1024
"""Characters of a text; a hundred checks fit in well."""
DEEPEST = 8
MOST_PROBLEMS = 50
LONGEST_NUMBER = 40
WIDTH = 110


@dataclass(frozen=True)
class Problem:
    """What is wrong at a place of the text; both counted from 1. ``path`` is the setting's, such as
    ``checks.auc-floor.at_least``; empty for what is wrong with the text itself."""

    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        of = f"{self.path}: " if self.path else ""
        return f"line {self.line}, column {self.column}: {of}{self.message}"


class PolicyTextError(ValueError):
    """A text that is no policy; ``problems`` in the order of the text."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda each: (each.line, each.column)))[:MOST_PROBLEMS]
        super().__init__("\n".join(map(str, self.problems)))


# ---------------------------------------------------------------------- out


def dump(document: PolicyDocument, *, model: str = "", comments: Sequence[str] = ()) -> str:
    """The document as YAML: the head, then of each check what is required and what differs from its kind's defaults.

    ``comments`` are lines of text above it.
    """
    head: dict[str, Any] = {"apiVersion": API_VERSION}
    if model:
        head["model"] = model
    head |= document.model_dump(mode="json", exclude={"checks"})
    if not document.template:
        del head["template"]
    return written(head, [_of_check(check) for check in document.checks], comments=comments)


def written(
    head: Mapping[str, Any],
    checks: Sequence[Mapping[str, Any]],
    *,
    comments: Sequence[str] = (),
    asked: Mapping[tuple[str, str], str] | None = None,
) -> str:
    """Head and checks as YAML, in the order given, with an empty line before each check.

    ``asked``: by id and setting, what has to be filled in where None stands; it becomes a remark.
    """
    told = [f"# {_printable(line)}".rstrip() + "\n" for each in comments for line in each.splitlines() or [""]]
    told += [_yaml(dict(head)), "checks:\n"]
    for check in checks:
        remarks = {f"  {setting}: null": text for (of, setting), text in (asked or {}).items() if of == check["id"]}
        lines = _yaml([dict(check)]).splitlines()
        lines = [f"{line.removesuffix(' null')}  # {remarks[line]}" if line in remarks else line for line in lines]
        told += ["\n", *(f"  {line}\n" for line in lines)]
    return "".join(told)


def _printable(line: str) -> str:
    """A remark may hold what a person wrote; YAML takes no control characters, not even there."""
    return "".join(each if each.isprintable() else "?" for each in line)


def _of_check(check: Check) -> dict[str, Any]:
    kind = type(check).model_fields["kind"].default
    plain = check.model_dump(mode="json", exclude_defaults=True) | {"kind": kind}
    if not check.blocking:  # said always: some kinds only report by default, and a reader need not know which
        plain["blocking"] = False
    return {name: _short(plain[name]) for name in _order(type(check)) if name in plain}


def _short(value: Any) -> Any:
    """100 instead of 100.0; it is read back as the same."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else value


def _order(kind: type[Check]) -> list[str]:
    """id and kind, what the kind has of its own, its bar, whether it blocks."""
    common = [*Check.model_fields, "kind"]
    bar = [name for name in Bar.model_fields if name not in common] if issubclass(kind, Bar) else []
    own = [name for name in kind.model_fields if name not in (*common, *bar)]
    return ["id", "kind", *own, *bar, "blocking"]


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _short_list(dumper: yaml.SafeDumper, values: Any) -> yaml.Node:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=_is_flat(values))


def _is_flat(values: Any) -> bool:
    return not any(isinstance(each, dict | list) for each in values)


_Dumper.add_representer(list, _short_list)


def _yaml(value: Any) -> str:
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=WIDTH)


# ---------------------------------------------------------------------- in


def load(text: str, *, model: str = "") -> PolicyDocument:
    """The document that a text says; raises PolicyTextError. ``model``: the text may name no other."""
    if len(text) > LARGEST:
        _refuse(1, 1, f"The text has {len(text):,} characters; a policy has at most {LARGEST:,}.")
    try:
        _refuse_tricks(text)
        root = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as problem:
        raise PolicyTextError([_syntax(problem, text)]) from problem
    if root is None:
        _refuse(1, 1, "The text is empty.")
    reading = _Reading()
    plain = reading.value(root, ())
    if not isinstance(plain, dict):
        _refuse(*_place(root.start_mark), "A policy is a mapping: apiVersion, template, threshold, checks …")
    _take_head(plain, reading, model)
    _take_aliases(plain, reading)
    document = None
    try:
        document = PolicyDocument.model_validate(plain)
    except ValidationError as error:
        reading.problems += [reading.placed(wrong, plain) for wrong in wrongs(error, plain)]
    if reading.problems or document is None:
        raise PolicyTextError(reading.problems)
    return document


class _Loader(yaml.SafeLoader):
    """Plain words by the core schema of YAML 1.2, without its octal and hexadecimal numbers."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # yaml's own way


INTEGER = re.compile(r"^[-+]?[0-9]+$")
NUMBER = re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$")
for _tag, _words, _starts in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("null", r"^(?:null|Null|NULL|~|)$", ["n", "N", "~", ""]),
    ("int", INTEGER.pattern, "-+0123456789"),
    ("float", NUMBER.pattern + r"|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$", "-+.0123456789"),
):
    for _class in (_Loader, _Dumper):  # what would be read as a number is written as a text in quotes
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_words), list(_starts))


def _refuse_tricks(text: str) -> None:
    """Raise PolicyTextError for what no policy needs. The events come one by one: nothing has grown yet."""
    depth = documents = 0
    for event in yaml.parse(text, Loader=_Loader):
        line, column = _place(event.start_mark)
        documents += isinstance(event, yaml.DocumentStartEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            _refuse(line, column, "Anchors (&) and aliases (*) are not read; write it out.")
        if getattr(event, "tag", None) is not None:
            _refuse(line, column, "Tags (!) are not read.")
        if depth > DEEPEST:
            _refuse(line, column, f"Nested more than {DEEPEST} deep.")
        if documents > 1:
            _refuse(line, column, "One policy at a time: here a second document begins.")


def _refuse(line: int, column: int, message: str, path: str = "") -> NoReturn:
    raise PolicyTextError([Problem(line, column, path, message)])


def _place(mark: Any) -> tuple[int, int]:
    return mark.line + 1, mark.column + 1


def _syntax(problem: yaml.YAMLError, text: str) -> Problem:
    if isinstance(problem, yaml.MarkedYAMLError):
        mark = problem.problem_mark or problem.context_mark
        line, column = _place(mark) if mark else (1, 1)
        said = " ".join(each for each in (problem.context, problem.problem) if each)
        return Problem(line, column, "", f"This is not YAML: {said}.")
    position = getattr(problem, "position", 0)  # of a character that YAML does not allow
    line = text.count("\n", 0, position) + 1
    column = position - (text.rfind("\n", 0, position) + 1) + 1
    return Problem(line, column, "", "This character is not allowed in YAML.")


@dataclass
class _Reading:
    """Plain values out of YAML's nodes, remembering where each key and value stands."""

    keys: dict[Location, tuple[int, int]] = field(default_factory=dict)
    values: dict[Location, tuple[int, int]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def value(self, node: yaml.Node, at: Location) -> Any:
        self.values[at] = _place(node.start_mark)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, at)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(each, (*at, position)) for position, each in enumerate(node.value)]
        return _scalar(node)

    def _mapping(self, node: yaml.MappingNode, at: Location) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in node.value:
            line, column = _place(key.start_mark)
            if not isinstance(key, yaml.ScalarNode):
                self.problems.append(Problem(line, column, "", "A key is a word."))
                continue
            below = (*at, key.value)
            if key.value in found:
                first = self.keys[below][0]
                path = ".".join(map(str, below))
                self.problems.append(Problem(line, column, path, f"It is given twice, first in line {first}."))
                continue
            self.keys[below] = line, column
            found[key.value] = self.value(value, below)
        return found

    def placed(self, wrong: Wrong, plain: Any) -> Problem:
        """On the key of what should not be there, else on the value, else on the nearest thing around it."""
        at = wrong.location
        if wrong.is_the_key and at in self.keys:
            line, column = self.keys[at]
        else:
            while at not in self.values:
                at = at[:-1]
            line, column = self.values[at]
        return Problem(line, column, path_of(wrong.location, plain), wrong.message)

    def refuse(self, at: Location, message: str) -> None:
        line, column = self.values[at]
        self.problems.append(Problem(line, column, ".".join(map(str, at)), message))


def _scalar(node: yaml.Node) -> Any:
    kind, text = node.tag.rpartition(":")[2], str(node.value)
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if kind in ("int", "float") and len(text) <= LONGEST_NUMBER:
        return int(text) if kind == "int" else float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


def _take_head(plain: dict[str, Any], reading: _Reading, model: str) -> None:
    """What a text says about itself and is no part of the document."""
    if "apiVersion" in plain and plain.pop("apiVersion") != API_VERSION:
        reading.refuse(("apiVersion",), f"This portal reads {API_VERSION}.")
    if "model" in plain:
        said = plain.pop("model")
        if model and said != model:
            reading.refuse(("model",), f"This is the policy of another model: {model} was expected.")


def _take_aliases(plain: dict[str, Any], reading: _Reading) -> None:
    """``extends`` for template, ``severity: block | report`` for blocking: read, never written."""
    if "extends" in plain:
        _rename(plain, reading, ("extends",), "template", plain["extends"])
    for at, check in _checks(plain):
        if "severity" not in check:
            continue
        severity = check["severity"]
        if isinstance(severity, str) and severity in ("block", "report"):
            _rename(check, reading, (*at, "severity"), "blocking", severity == "block")
        else:
            del check["severity"]
            reading.refuse((*at, "severity"), "block or report (blocking: true or false).")


def _checks(plain: dict[str, Any]) -> Iterator[tuple[Location, dict[str, Any]]]:
    checks = plain.get("checks")
    for position, check in enumerate(checks if isinstance(checks, list) else ()):
        if isinstance(check, dict):
            yield ("checks", position), check


def _rename(mapping: dict[str, Any], reading: _Reading, at: Location, name: str, value: Any) -> None:
    del mapping[str(at[-1])]
    if name in mapping:
        reading.refuse(at, f"{name} is given as well; say it once.")
        return
    mapping[name] = value
    new = (*at[:-1], name)
    reading.keys[new], reading.values[new] = reading.keys[at], reading.values[at]
