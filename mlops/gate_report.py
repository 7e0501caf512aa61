"""The parts of a gate report: a row per check with its picture, and below it what a person would rather look at.

Built from stored rows alone. What an older run did not keep is left out, never guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gates.models import CheckResult, GateRun
from mlops import gate_charts, gate_curves, gate_findings, gate_words
from mlops.gate_charts import Whisker
from mlops.gate_details import Plot, Settings, Table, parts_of
from mlops.gate_findings import number_of
from monitoring.evidence import readable

BARS = ("at_least", "at_most")


@dataclass(frozen=True)
class CheckView:
    """One check of a run as the page shows it."""

    result: CheckResult
    settings: Settings
    plots: tuple[Plot, ...] = ()
    tables: tuple[Table, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    places: tuple[str, ...] = ()
    whisker: Whisker | None = None
    rule: str = ""

    @property
    def title(self) -> str:
        return gate_words.title(self.result.check_id)

    @property
    def kind(self) -> str:
        """What sort of check it is; empty where its title says the same."""
        kind = gate_words.KINDS.get(self.result.kind, self.result.kind)
        return "" if kind.lower() == self.title.lower() else kind

    @property
    def message(self) -> str:
        said = gate_words.named(self.result.message)
        return said if said == self.result.message else said[:1].upper() + said[1:]

    @property
    def value(self) -> str:
        return gate_findings.value_in_words(self.result)

    @property
    def counted_on(self) -> str:
        return gate_findings.counted_on(self.result)

    @property
    def interval(self) -> str:
        return gate_findings.interval_in_words(self.result)

    @property
    def must(self) -> str:
        """The bar in short."""
        return gate_words.in_short(self.settings) or self.result.threshold

    @property
    def has_detail(self) -> bool:
        return bool(self.rule or self.plots or self.tables or self.facts)

    @property
    def what_is_inside(self) -> str:
        """What unfolds: it is named, so that nobody opens it in vain."""
        names = [plot.title for plot in self.plots] + [table.title for table in self.tables if table.title]
        return ", ".join(dict.fromkeys(names)) or "Details"

    @property
    def is_open(self) -> bool:
        """Whether its detail is unfolded from the start: what stopped the version is."""
        return self.result.blocking and self.result.verdict != "passed"


def settings_of(run: GateRun) -> dict[str, Settings]:
    """The settings of each check by its id, as the run's policy has them: also of forms that are no longer read."""
    checks = run.policy.document.get("checks", ())
    return {str(each.get("id")): each for each in checks if isinstance(each, Mapping)}


def views(run: GateRun, results: Sequence[CheckResult], curves: Mapping[str, Any]) -> list[CheckView]:
    """The checks of a run, worst first."""
    asked = settings_of(run)
    brought: set[str] = set()
    return [_view(each, asked.get(each.check_id, {}), curves, brought) for each in gate_findings.by_severity(results)]


def _view(result: CheckResult, settings: Settings, curves: Mapping[str, Any], brought: set[str]) -> CheckView:
    """``brought``: the curves whose JSON a check above has written; those of this one are added."""
    parts = parts_of(result, settings)
    for key, chart, title in gate_curves.of_check(result.kind, str(settings.get("metric", "")), curves):
        parts.plots.append(Plot(f"curve-{key}", chart, title, brings=key not in brought))
        brought.add(key)
    return CheckView(
        result=result,
        settings=settings,
        plots=tuple(parts.plots),
        tables=tuple(parts.tables),
        facts=tuple(parts.facts),
        places=tuple(gate_findings.where(result)),
        whisker=_whisker(result, settings),
        rule=gate_words.told(settings),
    )


def _whisker(result: CheckResult, settings: Settings) -> Whisker | None:
    if result.kind == "versus_champion":
        margin = number_of(settings, "not_worse_by")
        bar, at_least = (None if margin is None else -margin), True
    else:
        side = next((name for name in BARS if number_of(settings, name) is not None), "")
        bar, at_least = number_of(settings, side), side == "at_least"
    return gate_charts.whisker(result.value, result.low, result.high, bar=bar, at_least=at_least)


# ---------------------------------------------------------------------- two runs side by side


@dataclass(frozen=True)
class Pair:
    """One check in an earlier run and in this one; None where a run did not have it."""

    check_id: str
    before: CheckResult | None
    after: CheckResult | None

    @property
    def title(self) -> str:
        return gate_words.title(self.check_id)

    @property
    def has_changed(self) -> bool:
        return self.before is None or self.after is None or self.before.verdict != self.after.verdict


def side_by_side(before: Sequence[CheckResult], after: Sequence[CheckResult]) -> list[Pair]:
    """The checks of two runs, those that ended otherwise first."""
    old, new = ({each.check_id: each for each in results} for results in (before, after))
    pairs = [Pair(check_id, old.get(check_id), new.get(check_id)) for check_id in dict.fromkeys([*new, *old])]
    return sorted(pairs, key=lambda pair: not pair.has_changed)


def frozen(inputs: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What a run was measured on, as rows of name and value."""
    for name, text in readable(inputs):
        yield name[:1].upper() + name[1:], text
