"""Replay a prediction: was it the code, the data, or both?

The features are recomputed as the feature store knew them when the request was asked, and compared with those that were
served; the version that answered is loaded again and asked once more, on the logged inputs and on the recomputed ones.

=====================  ============================================================================================
reproduced             the same answer, from features that were right
feature_skew           a feature was served with another value than the one that training would have seen
artifact_difference    on the very inputs that were served the version answers something else now
not_reproducible       it can not be told, and why
=====================  ============================================================================================

Skew and difference can both hold; then both are said. Nothing is written.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from importlib import metadata
from typing import Any

import pyarrow as pa
from django.contrib.auth.models import AbstractBaseUser

from audit.errors import GatehouseError, InvalidInput, NotFound, Unavailable
from engines.scoring import Scorer, Unscorable
from features.consistency import Cell, compare_row
from mlops import predictions
from mlops.predictions import Prediction, plain
from monitoring.served import AT, served_by
from registry.artifacts import local_path
from registry.conversion import served_form
from registry.models import LoadClass, ModelVersion
from rollout import scorers
from rollout.gateway import FALLBACK
from rollout.routing import Serving

REPRODUCED = "reproduced"
FEATURE_SKEW = "feature_skew"
ARTIFACT_DIFFERENCE = "artifact_difference"
NOT_REPRODUCIBLE = "not_reproducible"

TOLERANCE = 1e-9
"""Two scores that differ by no more (of their size, if that is above 1) are the same: a batch sums in other order."""
NAMED = 3
"""Features that the sentence names; the table has all."""
NOT_LOADED = {
    LoadClass.EXTERNAL: "it is served by an endpoint outside Gatehouse, whose state then nobody kept",
    LoadClass.QUARANTINED: "it is quarantined: documented, never loaded",
}


@dataclass(frozen=True)
class FeatureSkew:
    """An input of the model: what was served, and what it should have been.

    ``origin`` is the view version or transform, or ``request``. ``recomputed`` is None for what was not recomputed
    (``is_checked`` is False). ``difference`` is served minus recomputed, of two numbers. ``is_late``: it differs
    because the value of the slot before was still in the store, minutes after its slot.
    """

    feature: str
    origin: str
    served: Any
    recomputed: Any = None
    difference: float | None = None
    is_checked: bool = False
    differs: bool = False
    is_late: bool = False

    def as_dict(self) -> dict[str, Any]:
        return {
            "feature": self.feature,
            "origin": self.origin,
            "served": plain(self.served),
            "recomputed": plain(self.recomputed),
            "difference": self.difference,
            "is_checked": self.is_checked,
            "differs": self.differs,
            "is_late": self.is_late,
        }


@dataclass(frozen=True)
class Replay:
    """The verdict. ``causes`` are all that hold, ``cause`` is the first; ``message`` is one sentence with the numbers.

    ``served`` is the score that left the gateway, ``replayed`` the one of the logged inputs now, ``recomputed`` the one
    of the recomputed features. ``inputs`` are all inputs of the model, ``environment`` what differs between the
    environment recorded with the version and this one: name, then, now.
    """

    endpoint: str
    request_id: str
    causes: tuple[str, ...]
    message: str
    version: str = ""
    at: datetime | None = None
    served: float | None = None
    replayed: float | None = None
    recomputed: float | None = None
    form: str = ""
    inputs: tuple[FeatureSkew, ...] = ()
    environment: tuple[tuple[str, str, str], ...] = ()

    @property
    def cause(self) -> str:
        return self.causes[0]

    @property
    def features(self) -> tuple[FeatureSkew, ...]:
        """The features that were served with another value."""
        return tuple(each for each in self.inputs if each.differs)

    def as_dict(self) -> dict[str, Any]:
        return {
            "endpoint": self.endpoint,
            "request_id": self.request_id,
            "version": self.version,
            "at": self.at,
            "cause": self.cause,
            "causes": list(self.causes),
            "message": self.message,
            "served": self.served,
            "replayed": self.replayed,
            "recomputed": self.recomputed,
            "tolerance": TOLERANCE,
            "form": self.form,
            "features": [each.as_dict() for each in self.features],
            "inputs": [each.as_dict() for each in self.inputs],
            "environment": [{"name": name, "then": then, "now": now} for name, then, now in self.environment],
        }


def replay(
    endpoint: str, request_id: str, *, reader: AbstractBaseUser, now: datetime, at: datetime | None = None
) -> Replay:
    """Replay the prediction that ``endpoint`` (its name) logged under this id.

    Raises NotFound when the endpoint is not ``reader``'s to see; a prediction that was not logged is a verdict.
    """
    predictions.visible_endpoint(endpoint, reader)
    try:
        found = predictions.find(endpoint, request_id, reader=reader, now=now, at=at)
    except NotFound as problem:
        return Replay(endpoint, request_id, (NOT_REPRODUCIBLE,), _sentence([f"not reproducible: {problem}"]))
    return of(found)


def of(prediction: Prediction) -> Replay:
    """Replay a prediction that was found."""
    line, inputs = prediction.line, prediction.inputs()
    start = Replay(
        prediction.endpoint.name,
        prediction.request_id,
        (NOT_REPRODUCIBLE,),
        "",
        at=prediction.at,
        served=prediction.score,
        version=str(line.version) if line else "",
    )
    if line is None:
        return replace(start, message=_sentence([_unanswered(prediction)]))
    if inputs is None:
        return replace(start, message=_sentence([f"not reproducible: the log has not all inputs of {line.version}"]))
    features = _compared(prediction, line)
    found = replace(start, inputs=tuple(_described(line, inputs, features.cells)))
    if prediction.answering is None or prediction.score is None:
        answer = _Answer(problem=_unanswered(prediction))
    else:
        answer = _answer(line.version, inputs, _corrected(inputs, features.cells), served=prediction.score)
    found = replace(found, replayed=answer.replayed, recomputed=answer.recomputed, form=answer.form)
    if not answer.problem and not _same(answer.replayed, prediction.score):
        found = replace(found, environment=tuple(changed_environment(line.version)))
    causes, sentences = zip(*_findings(found, features, answer), strict=True)
    return replace(found, causes=tuple(dict.fromkeys(causes)), message=_sentence(sentences))


# ---------------------------------------------------------------------- the features


@dataclass(frozen=True)
class _Features:
    """The recomputed cells, or why there are none."""

    cells: Sequence[Cell] = ()
    problem: str = ""


def _compared(prediction: Prediction, line: Serving) -> _Features:
    """What the feature store's columns should have been, as it knew things at the time of the request."""
    if not _from_store(line):
        return _Features()
    for sample in served_by(line, prediction.table):
        try:
            return _Features(compare_row(sample.service, sample.rows, timestamp=AT, as_of=prediction.at))
        except (Unavailable, InvalidInput, NotFound) as problem:
            return _Features(problem=str(problem))
    return _Features(problem="the log does not name the entity that they describe")


def _from_store(line: Serving) -> set[str]:
    """Inputs that the feature service gives, other than those that came with the request."""
    if line.service is None:
        return set()
    return set(line.service.vector).difference(line.service.request_features).intersection(line.inputs)


def _described(line: Serving, inputs: pa.Table, cells: Sequence[Cell]) -> Iterator[FeatureSkew]:
    """Every input of the model, in its order."""
    known = {cell.column: cell for cell in cells}
    from_store = _from_store(line)
    for name in inputs.column_names:
        served = inputs[name][0].as_py()
        cell = known.get(name)
        if cell is None:
            yield FeatureSkew(name, "feature store" if name in from_store else "request", served)
            continue
        yield FeatureSkew(
            feature=name,
            origin=cell.origin,
            served=served,
            recomputed=cell.recomputed,
            difference=cell.difference,
            is_checked=True,
            differs=cell.differs,
            is_late=cell.is_late,
        )


def _corrected(inputs: pa.Table, cells: Sequence[Cell]) -> pa.Table:
    """The inputs with the recomputed values where they differ."""
    for cell in cells:
        if cell.differs and cell.column in inputs.column_names:
            place = inputs.column_names.index(cell.column)
            inputs = inputs.set_column(place, cell.column, _cell(cell.recomputed, inputs.schema.field(place).type))
    return inputs


def _cell(value: Any, kind: pa.DataType) -> pa.Array:
    """In the type in which it would have been served; in its own where it was served as something else."""
    try:
        return pa.array([value], None if pa.types.is_null(kind) else kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([value])


# ---------------------------------------------------------------------- the version


@dataclass(frozen=True)
class _Answer:
    """What the version answers now; ``error`` is what it said instead of a number, ``problem`` why it was not asked."""

    replayed: float | None = None
    recomputed: float | None = None
    form: str = ""
    error: str = ""
    problem: str = ""


def _answer(version: ModelVersion, inputs: pa.Table, corrected: pa.Table, *, served: float) -> _Answer:
    """Ask the version again, as it is served now; where it was converted since, also as it was before."""
    if version.load_class in NOT_LOADED:
        return _Answer(problem=f"{version} can not be asked again: {NOT_LOADED[LoadClass(version.load_class)]}")
    try:
        form = served_form(version)
        _ = form.path  # checks the bytes: a warm scorer would not notice that they are gone or changed
        found = _asked(scorers.scorer(version), inputs, corrected, form=form.load_class)
        if _same(found.replayed, served) or form.digest == version.artifact_digest:
            return found
        before = _as_registered(version, inputs, corrected)
        return before if _same(before.replayed, served) else found
    except (Unscorable, GatehouseError, OSError) as problem:
        return _Answer(problem=f"{version} can not be asked again: {str(problem).rstrip('.')}")


def _as_registered(version: ModelVersion, inputs: pa.Table, corrected: pa.Table) -> _Answer:
    """What the artifact itself answers, as it did before it was converted."""
    path = local_path(version)
    with Scorer(path, load_class=version.load_class, columns=inputs.column_names) as original:
        return _asked(original, inputs, corrected, form=version.load_class)


def _asked(scorer: Scorer, inputs: pa.Table, corrected: pa.Table, *, form: str) -> _Answer:
    scored = scorer.predict(inputs)
    replayed = _number(scored.scores[0])
    recomputed = replayed if corrected is inputs else _number(scorer.predict(corrected).scores[0])
    return _Answer(replayed, recomputed, form, error=scored.errors.get(0, ""))


def _number(score: float) -> float | None:
    return float(score) if math.isfinite(score) else None


def _same(found: float | None, served: float | None) -> bool:
    if found is None or served is None:
        return found is served
    return abs(found - served) <= TOLERANCE * max(1.0, abs(served))


def changed_environment(version: ModelVersion) -> Iterator[tuple[str, str, str]]:
    """What of the environment recorded with the version is another one here: name, then, now."""
    recorded: Mapping[str, Any] = version.environment
    packages = recorded.get("packages")
    python = recorded.get("python")
    if isinstance(python, str) and python != platform.python_version():
        yield "python", python, platform.python_version()
    for name, then in sorted(packages.items()) if isinstance(packages, dict) else ():
        now = _installed(str(name))
        if now != str(then):
            yield str(name), str(then), now


def _installed(package: str) -> str:
    try:
        return metadata.version(package)
    except (metadata.PackageNotFoundError, ValueError):
        return "not installed"


# ---------------------------------------------------------------------- the verdict in words


def _findings(found: Replay, features: _Features, answer: _Answer) -> Iterator[tuple[str, str]]:
    """Each cause that holds with its part of the sentence; the first decides."""
    is_same = _same(found.replayed, found.served)
    if found.features:
        yield FEATURE_SKEW, _skew_said(found)
    if answer.problem:
        yield NOT_REPRODUCIBLE, answer.problem
    elif not is_same:
        yield ARTIFACT_DIFFERENCE, _difference_said(found, answer)
    if features.problem:
        same = f", though on the logged inputs {found.version} answers {_said(found.served)}, as served"
        problem = features.problem.rstrip(".")
        yield NOT_REPRODUCIBLE, f"its features can not be recomputed ({problem}){same if is_same else ''}"
    elif is_same and not found.features:
        yield REPRODUCED, _reproduced_said(found)


def _skew_said(found: Replay) -> str:
    named = [_one_said(each) for each in found.features[:NAMED]]
    rest = len(found.features) - len(named)
    told = ", ".join(named) + (f" and {rest} more" if rest else "")
    if found.recomputed is None:
        return f"feature skew: {told}"
    if _same(found.recomputed, found.replayed):
        return f"feature skew: {told}; the score would have been {_said(found.recomputed)} all the same"
    return (
        f"feature skew: {told}; with the recomputed features the score would have been {_said(found.recomputed)} "
        f"instead of {_said(found.replayed)}"
    )


def _one_said(each: FeatureSkew) -> str:
    text = f"{each.feature} was served as {_said(each.served)} and was {_said(each.recomputed)} as known then"
    if each.difference is not None:
        text += f" ({_said(abs(each.difference))} {'too much' if each.difference > 0 else 'too little'})"
    return text + (", the value of the slot before" if each.is_late else "")


def _difference_said(found: Replay, answer: _Answer) -> str:
    changed = [f"{name} was {then} and is {now}" for name, then, now in found.environment]
    shown = ", ".join(changed[:NAMED]) + (f" and {len(changed) - NAMED} more differ" if len(changed) > NAMED else "")
    why = shown or "the recorded environment is this one, or none was recorded"
    if found.replayed is None or found.served is None:
        return f"artifact or environment difference: {found.version} now gives no number ({answer.error}); {why}"
    apart = _said(abs(found.replayed - found.served))
    return (
        f"artifact or environment difference: on the inputs that were served {found.version} now answers "
        f"{_said(found.replayed)} where {_said(found.served)} was served ({apart} apart), though its bytes are those "
        f"that were registered; {why}"
    )


def _reproduced_said(found: Replay) -> str:
    checked = sum(each.is_checked for each in found.inputs)
    left = sum(not each.is_checked and each.origin != "request" for each in found.inputs)
    text = f"reproduced: {found.version} answers {_said(found.served)} again on the inputs that were served"
    if checked:
        which = "the feature that was recomputed is" if checked == 1 else f"the {checked} features recomputed are"
        text += f", and {which} what was known then"
    elif not left:
        text += ", all of which came with the request"
    return text + (f"; {left} could not be recomputed" if left else "")


def _unanswered(prediction: Prediction) -> str:
    """Why there is no version's answer that could be compared."""
    row, asked = prediction.row, prediction.asked
    score = "no score" if prediction.score is None else f"its fallback {_said(prediction.score)}"
    if row["answered_by"] != FALLBACK:
        return "not reproducible: the version that answered is not known any more"
    because = f"because {asked.version} failed: {row['error']}" if asked else "no version was to answer"
    return f"not reproducible: the endpoint gave {score}, {because}"


def _said(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return "nothing" if value is None else str(value)


def _sentence(parts: Sequence[str]) -> str:
    text = "; ".join(part.rstrip(".") for part in parts)
    return f"{text[:1].upper()}{text[1:]}."
