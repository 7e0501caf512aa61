"""A gate run as other tools read it: JUnit XML for CI servers, Markdown for a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from gatehouse.answers import Check, GateRun, Standing

OPEN, RUNNING = "open", "running"


def junit(standing: Standing, run: GateRun | None) -> str:
    """A test case per check: failed is a failure, inconclusive and error are errors, and what only reports and did
    not pass is skipped. When the gates as a whole did not pass, a case of that name says why, so that no report of a
    version that may not go on is green.
    """
    name = f"gates of {standing.model} v{standing.version}"
    suite = Element("testsuite", name=name)
    properties = SubElement(suite, "properties")
    for key, value in (("model", standing.model), ("version", standing.version), ("state", standing.gates.state)):
        SubElement(properties, "property", name=key, value=str(value))
    for check in run.checks if run else ():
        _add_case(suite, check, f"gatehouse.{standing.model}")
    _add_whole(suite, standing)
    for total, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(total, str(sum(1 for _ in suite.iter(tag))))
    root = Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _add_case(suite: Element, check: Check, classname: str) -> None:
    case = SubElement(suite, "testcase", classname=classname, name=_plain(check.check_id))
    if check.verdict != "passed":
        tag = ("failure" if check.verdict == "failed" else "error") if check.blocking else "skipped"
        said = check.message if check.blocking else f"report only: {check.verdict}: {check.message}"
        SubElement(case, tag, message=_plain(said), type=check.verdict)
    SubElement(case, "system-out").text = _plain(f"{check.verdict}: {check.message}\nrule: {check.threshold}")


def _add_whole(suite: Element, standing: Standing) -> None:
    case = SubElement(suite, "testcase", classname=f"gatehouse.{standing.model}", name="gates")
    if not standing.passed:
        tag = "failure" if standing.gates.state == "failed" else "error"
        SubElement(case, tag, message=_plain(standing.gates.message), type=standing.gates.state)


def _plain(text: str) -> str:
    """Without the control characters that XML can not hold."""
    return "".join(each for each in text if each in "\t\n" or (each >= " " and each not in "\ufffe\uffff"))


def markdown(standing: Standing, run: GateRun | None) -> str:
    """The verdict in a sentence, then a row per check."""
    lines = [f"## Gates of {standing.model} v{standing.version}: {standing.gates.state}", "", _cell(standing.why), ""]
    if run is None or not run.checks:
        return "\n".join(lines)
    rows = [
        (check.check_id, check.verdict + ("" if check.blocking else " (report only)"), _measured(check), check.message)
        for check in run.checks
    ]
    return "\n".join([*lines, markdown_table(("check", "verdict", "measured", "why"), rows)])


def _measured(check: Check) -> str:
    if check.value is None:
        return ""
    interval = f" [{check.low:.4g}, {check.high:.4g}]" if check.low is not None and check.high is not None else ""
    rows = f", n {check.n:,}" if check.n is not None else ""
    return f"{check.value:.4g}{interval}{rows}"


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with a newline at its end."""
    lines = [heads, ["---"] * len(heads), *([_cell(value) for value in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(text: str) -> str:
    """A text of somebody else's in one line that Markdown shows as it is."""
    shown = "".join(f"\\{each}" if each in "\\`*_[]<>|#!" else each for each in text)
    return " ".join(shown.split())
