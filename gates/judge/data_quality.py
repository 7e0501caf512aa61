"""The features against their schema and the training data: in the training data, in the holdout, and as served now.

What was counted under other limits than the check's is told again from the range, the quantiles and the levels that
were kept; where those leave open which side of a limit a share lies on, the judgement says so and is an error.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gates.judge.verdicts import Judgement, could_not, judged, too_few
from gates.policy.checks import ColumnRule, DataQualityCheck
from stats.interval import wilson

QUANTILES = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999)
"""Of each column of numbers; the value of each is the smallest that so large a share lies at or below."""
SURE = 0.95
"""Of what is served only some entities are looked at: a share is over its limit when this interval is."""
FEWEST_ENTITIES = 30
"""What few entities have at one moment they have together (one front over three airports): only a promise judges it."""
SHOWN_DEFECTS = 8
SHOWN_COLUMNS = 150

Stored = Mapping[str, Any]


@dataclass(frozen=True)
class Share:
    """A share of rows, as narrow as it can be told: ``low`` and ``high`` are equal where it was counted."""

    low: float
    high: float


@dataclass
class _Found:
    """What is wrong, and what can not be told, in the order of looking."""

    defects: list[str] = field(default_factory=list)
    untold: list[str] = field(default_factory=list)

    def hold(self, what: str, share: Share | None, limit: float, words: str, *, n: int | None = None) -> None:
        """Hold a share of ``what`` against its limit; as a sample of ``n`` it gets the benefit of the doubt."""
        if share is None:
            return
        low, high = (_surely(share.low, n), _surely(share.high, n)) if n is not None else (share.low, share.high)
        if low > limit:
            least = "" if share.low == share.high else "at least "
            self.defects.append(f"{what} {least}{_percent(share.low)} {words}")
        elif high > limit:
            self.untold.append(f"{what} {_percent(share.low)} to {_percent(share.high)} {words}")


def judge(check: DataQualityCheck, measured: Stored) -> Judgement:
    """The worst column of each kind of defect against its limit, in each of the tables that were looked at."""
    holdout = measured["holdout"]
    detail = _detail(check, measured)
    if few := too_few(check, holdout["rows"], check.minimum_rows, detail=detail):
        return few
    if check.key != measured["key"]:
        return could_not(check, f"Duplicates were counted by {measured['key']}, not by {check.key}.", **detail)
    found = _Found()
    _training(check, measured, found)
    _holdout(check, measured, found)
    _served(check, measured, found)
    _joined(check, measured, found)
    detail |= {"defects": found.defects[:SHOWN_COLUMNS], "untold": found.untold[:SHOWN_COLUMNS]}
    n = holdout["rows"]
    if found.defects:
        counted = "1 defect" if len(found.defects) == 1 else f"{len(found.defects)} defects"
        message = f"{counted} in {n:,} rows: {_listed(found.defects)}."
        return judged(check, "failed", message, n=n, value=float(len(found.defects)), detail=detail)
    if found.untold:
        untold = _listed(found.untold)
        return could_not(check, f"What was kept does not tell it under these limits: {untold}.", **detail)
    looked = list(_columns(check, holdout))
    increase = max((_null_increase(measured, name) for name in looked), default=0.0)
    nulls = f"nulls at most {increase * 100:+.1f} points"
    like = f"{len(looked)} features of {n:,} rows look like the training data ({nulls})."
    message = " ".join([like, _served_words(check, measured["served"]), *_joined_words(measured["joined"])])
    return judged(check, "passed", message, n=n, value=increase, detail=detail)


# ---------------------------------------------------------------------- table by table


def _training(check: DataQualityCheck, measured: Stored, found: _Found) -> None:
    table = measured["training"]
    _schema(check, table, "in training ", found)
    if table["duplicates"] is not None and table["duplicates"] > check.duplicates:
        found.defects.append(f"in training {_percent(table['duplicates'])} duplicated {check.key}")
    for name in _columns(check, table):
        rule = check.columns.get(name)
        _values(check, table, name, None, "in training ", found)
        if rule is not None and rule.null_share is not None:
            _promised_nulls(table, name, rule.null_share, "in training ", found)


def _holdout(check: DataQualityCheck, measured: Stored, found: _Found) -> None:
    table, trained = measured["holdout"], measured["training"]["columns"]
    _schema(check, table, "", found)
    if table["duplicates"] > check.duplicates:
        found.defects.append(f"{_percent(table['duplicates'])} duplicated {check.key}")
    for name in _columns(check, table):
        rule = check.columns.get(name)
        if _null_increase(measured, name) > check.null_increase:
            before = _percent(_null_share(measured["training"], name))
            found.defects.append(f"{name} {_percent(_null_share(table, name))} null (trained {before})")
        if rule is not None and rule.null_share is not None:
            _promised_nulls(table, name, rule.null_share, "", found)
        _values(check, table, name, trained.get(name), "", found)


def _served(check: DataQualityCheck, measured: Stored, found: _Found) -> None:
    """What the online store serves now, of the entities that asked last."""
    table, trained = measured["served"], measured["training"]["columns"]
    _schema(check, table, "served now: ", found)
    for name in _columns(check, table):
        entry, before = table["columns"][name], _null_share(measured["training"], name)
        what, n = f"served now: {name}", entry["entities"]
        if check.served_nulls is not None:
            words = f"missing, of {n:,} entities (trained {_percent(before)})"
            # the limit moves, not the share, because the interval is that of the share
            found.hold(what, _exactly(entry["nulls"] / n), check.served_nulls + before, words, n=n)
        if check.stale is not None and entry["known"] and entry["promise_seconds"] is not None:
            words = f"older than {_span(entry['promise_seconds'])}"
            found.hold(what, _exactly(entry["stale"] / entry["known"]), check.stale, words, n=entry["known"])
        if n >= FEWEST_ENTITIES or name in check.columns:
            _values(check, table, name, trained.get(name), "served now: ", found, n=n)


def _joined(check: DataQualityCheck, measured: Stored, found: _Found) -> None:
    """How old the stored features of the training data were when they were joined."""
    if check.stale is None:
        return
    for view in measured["joined"]["views"]:
        if view["promise_seconds"] is None or not view["known"] or set(view["columns"]) <= set(check.ignore):
            continue
        words = f"older than {_span(view['promise_seconds'])} when joined"
        share = _exactly(view["stale"] / view["known"])
        found.hold(f"in training {view['view']}", share, check.stale, words, n=view["known"])


# ---------------------------------------------------------------------- rule by rule


def _schema(check: DataQualityCheck, table: Stored, where: str, found: _Found) -> None:
    found.defects += [f"{where}{name} is missing" for name in table["missing"] if name not in check.ignore]
    for name in _columns(check, table):
        if wrong := table["columns"][name]["wrong_type"]:
            found.defects.append(f"{where}{name} is {wrong[0]}, {wrong[1]} was declared")


def _promised_nulls(table: Stored, name: str, promised: float, where: str, found: _Found) -> None:
    share = _null_share(table, name)
    if share > promised:
        found.defects.append(f"{where}{name} {_percent(share)} null ({_percent(promised)} promised)")


def _values(
    check: DataQualityCheck,
    table: Stored,
    name: str,
    trained: Stored | None,
    where: str,
    found: _Found,
    *,
    n: int | None = None,
) -> None:
    """Range and levels of one column."""
    entry = table["columns"][name]
    rows = max(table["rows"] if n is None else n, 1)
    if entry["wrong_type"]:
        return
    rule = check.columns.get(name)
    is_bounded = rule is not None and (rule.minimum is not None or rule.maximum is not None)
    if is_bounded and entry["kind"] != "number" and entry["nulls"] < rows:
        found.untold.append(f"{where}{name} holds no numbers (but {entry['type']}), so a range means nothing there")
    low, high = limits(trained, rule, check.range_margin)
    beyond = outside(entry, low, high, rows)
    infinite = f"{entry['infinite']:,} infinite" if entry["kind"] == "number" and entry["infinite"] else ""
    within = "" if low is None and high is None else f"allowed {_range(low, high)}"
    why = ", ".join(filter(None, (within, infinite)))
    found.hold(f"{where}{name}", beyond, check.out_of_range, f"out of range ({why})", n=n)
    allowed = rule.allowed if rule is not None else None
    strange = unseen(entry, trained, allowed, rows)
    are_those = entry["examples"] and entry["allowed"] == (None if allowed is None else list(allowed))
    examples = f" ({', '.join(entry['examples'])})" if are_those else ""
    found.hold(f"{where}{name}", strange, check.unseen, f"unseen levels{examples}", n=n)


def limits(trained: Stored | None, rule: ColumnRule | None, margin: float) -> tuple[float | None, float | None]:
    """The range that a number has to lie in: the training's with a margin of its width, as far as promised."""
    low = high = None
    if trained is not None and trained["kind"] == "number" and "min" in trained:
        room = margin * (trained["max"] - trained["min"])
        low, high = trained["min"] - room, trained["max"] + room
    if rule is not None and rule.minimum is not None:
        low = rule.minimum if low is None else max(low, rule.minimum)
    if rule is not None and rule.maximum is not None:
        high = rule.maximum if high is None else min(high, rule.maximum)
    return low, high


def outside(entry: Stored, low: float | None, high: float | None, rows: int) -> Share | None:
    """The share of rows beyond the limits; between two bounds where it was counted under others.

    Infinite values are beyond any limits, also where there are none.
    """
    if entry["kind"] != "number":
        return None
    infinite = entry["infinite"] / rows
    if low is None and high is None:
        return _exactly(infinite) if infinite else None
    if (low, high) == (entry["low"], entry["high"]) and entry["outside"] is not None:
        return _exactly(entry["outside"] / rows + infinite)
    if "quantiles" not in entry:
        return _exactly(infinite)  # nothing else is there
    below = _below(entry, low) if low is not None else Share(0.0, 0.0)
    above = _above(entry, high) if high is not None else Share(0.0, 0.0)
    present = (rows - entry["nulls"] - entry["infinite"]) / rows
    return Share((below.low + above.low) * present + infinite, min(1.0, below.high + above.high) * present + infinite)


def _below(entry: Stored, bound: float) -> Share:
    """The share of the present values below a bound."""
    if bound <= entry["min"]:
        return Share(0.0, 0.0)
    if bound > entry["max"]:
        return Share(1.0, 1.0)
    place = bisect_left(entry["quantiles"], bound)  # the quantiles before it lie below the bound
    return Share(_quantile(place - 1, 0.0), _quantile(place, 1.0))


def _above(entry: Stored, bound: float) -> Share:
    """The share of the present values above a bound."""
    if bound >= entry["max"]:
        return Share(0.0, 0.0)
    if bound < entry["min"]:
        return Share(1.0, 1.0)
    place = bisect_right(entry["quantiles"], bound)  # the quantiles before it lie at or below the bound
    return Share(1.0 - _quantile(place, 1.0), 1.0 - _quantile(place - 1, 0.0))


def _quantile(place: int, otherwise: float) -> float:
    return QUANTILES[place] if 0 <= place < len(QUANTILES) else otherwise


def unseen(entry: Stored, trained: Stored | None, allowed: Sequence[Any] | None, rows: int) -> Share | None:
    """The share of rows with a level that is not allowed, or was not in training; None where levels mean nothing."""
    counted_by = entry["allowed"]
    if allowed is not None:
        if counted_by is not None and list(counted_by) == list(allowed):
            return _exactly((entry["unseen"] or 0) / rows)
        return _unlisted(entry, allowed, rows)
    if counted_by is None:
        return None if entry["unseen"] is None else _exactly(entry["unseen"] / rows)
    if trained is None or entry["kind"] != "text":
        return None
    known = trained.get("levels")
    return Share(0.0, 1.0) if known is None else _unlisted(entry, [level for level, _ in known], rows)


def _unlisted(entry: Stored, listed: Sequence[Any], rows: int) -> Share | None:
    levels = entry.get("levels")
    if levels is None:
        return Share(0.0, 1.0) if entry["kind"] in ("number", "text", "flag") else None
    return _exactly(sum(count for level, count in levels if level not in listed) / rows)


def _out_of_range(entry: Stored, rows: int) -> float | None:
    """As it was counted; None where nothing was asked and nothing is wrong."""
    if entry["outside"] is None and not entry["infinite"]:
        return None
    return float((entry["outside"] or 0) + entry["infinite"]) / rows


# ---------------------------------------------------------------------- numbers and words


def _exactly(share: float) -> Share:
    return Share(share, share)


def _surely(share: float, n: int) -> float:
    around = wilson(round(share * n), n, confidence=SURE)
    return around.low if around is not None else 0.0


def _columns(check: DataQualityCheck, table: Stored) -> Iterator[str]:
    return (name for name in table["columns"] if name not in check.ignore)


def _null_share(table: Stored, name: str) -> float:
    entry = table["columns"].get(name)
    return entry["nulls"] / max(table["rows"], 1) if entry is not None else 0.0


def _null_increase(measured: Stored, name: str) -> float:
    return _null_share(measured["holdout"], name) - _null_share(measured["training"], name)


def _percent(share: float) -> str:
    """A share for a person, never rounded to nothing: 3.1 %, 0.04 %."""
    return f"{share * 100:.1f} %" if share >= 0.001 or share == 0 else f"{share * 100:.2g} %"


def _span(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:g} hours" if hours < 48 else f"{hours / 24:g} days"


def _range(low: float | None, high: float | None) -> str:
    return f"{'' if low is None else f'{low:.4g}'}…{'' if high is None else f'{high:.4g}'}"


def _listed(told: Sequence[str]) -> str:
    more = f", and {len(told) - SHOWN_DEFECTS} more" if len(told) > SHOWN_DEFECTS else ""
    return f"{', '.join(told[:SHOWN_DEFECTS])}{more}"


def _served_words(check: DataQualityCheck, served: Stored) -> str:
    if served["why"]:
        asked = {"stale": check.stale, "served_nulls": check.served_nulls}
        names = " and ".join(name for name, limit in asked.items() if limit is not None)
        return (
            f"{served['why']}{f' So {names} judged nothing that is served, which stops no version.' if names else ''}"
        )
    entries = served["columns"].values()
    cells, known = sum(each["entities"] for each in entries), sum(each["known"] for each in entries)
    missing = _percent(sum(each["nulls"] for each in entries) / cells) if cells else "none"
    old = f", {_percent(sum(each['stale'] for each in entries) / known)} of the values stale" if known else ""
    return f"Served now to {served['rows']:,} entities: {missing} missing{old}."


def _joined_words(joined: Stored) -> list[str]:
    old = [view for view in joined["views"] if view["stale"]]
    told = ", ".join(f"{view['view']} {_percent(view['stale'] / view['known'])}" for view in old[:SHOWN_DEFECTS])
    return [f"Older than promised when joined for training: {told}."] if old else []


def _detail(check: DataQualityCheck, measured: Stored) -> dict[str, Any]:
    holdout, served = measured["holdout"], measured["served"]
    rows = max(holdout["rows"], 1)
    columns = []
    for name in list(_columns(check, holdout))[:SHOWN_COLUMNS]:
        entry = holdout["columns"][name]
        now = served["columns"].get(name)
        columns.append(
            {
                "column": name,
                "null_share": entry["nulls"] / rows,
                "trained_null_share": _null_share(measured["training"], name),
                "null_increase": _null_increase(measured, name),
                "out_of_range": _out_of_range(entry, rows),
                "unseen": None if entry["unseen"] is None else entry["unseen"] / rows,
                "served_missing": None if now is None else now["nulls"] / max(now["entities"], 1),
                "served_stale": None if now is None or not now["known"] else now["stale"] / now["known"],
            }
        )
    return {
        "duplicates": holdout["duplicates"],
        "ignored": list(check.ignore),
        "columns": columns,
        "training": {key: measured["training"][key] for key in ("rows", "duplicates", "missing")},
        "served": {"entities": served["rows"], "why": served["why"], "at": served["at"]},
        "joined": measured["joined"],
    }
