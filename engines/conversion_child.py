"""The child that converts: loads a skops artifact, makes ONNX of it, and asks both forms the same rows.

It runs in a process that ``scoring_child`` forked: no network, no secrets, limited memory. The rows it gets are real.
Missing and never-seen values decide most often whether two forms of a model are the same, so real rows are varied
besides: each column missing in some, each text replaced by one never seen, each number put beyond its range. And
numbers are put onto the thresholds of trees and right beside them (``conversion_probes``): the least rounding decides.
"""

from __future__ import annotations

import io
import itertools
import socket
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import onnx
import pyarrow as pa
import pyarrow.compute as pc
import skl2onnx
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType

from engines import conversion_double, conversion_probes, onnx_model, scoring_wire, skops_model
from engines.loaded_model import LoadedModel, Scores, said, score_table
from engines.onnx_model import Metadata
from engines.skops_types import Unscorable

OPSETS = {"": 18, "ai.onnx.ml": 3}
"""Fixed, so that a new release of the converter does not by itself give other files."""
LIBRARIES = ("numpy", "onnx", "onnxruntime", "protobuf", "scikit-learn", "skl2onnx", "skops")
VARIED_ROWS = 4
"""Real rows that each variation of a column is tried on."""
NEVER_SEEN = "a text that no training has seen"
NULL_TEXTS = ("nan", "")
"""What may stand for a missing text: the converter writes scikit-learn's category NaN as ``nan``; to an encoder that
has seen no missing text any other text is as unknown as a missing one."""
WORST = 3
MATRIX = "all columns"
"""The name of the only input of a model that takes all columns in one."""


class NotConvertible(Exception):
    """There is no ONNX for this model; the message says why."""


def serve(channel: socket.socket, artifact: BinaryIO, columns: tuple[str, ...], tolerance: float) -> None:
    """Answer the one question that this child is for."""
    _, body = scoring_wire.receive(channel)
    table = pa.ipc.open_stream(body).read_all()
    try:
        report, content = convert(artifact, columns, table, tolerance=tolerance)
    except Unscorable as refusal:
        scoring_wire.send(channel, {"unscorable": str(refusal)})
    except NotConvertible as refusal:
        scoring_wire.send(channel, {"not_convertible": str(refusal)})
    except MemoryError:
        scoring_wire.send(channel, {"unscorable": "Converting it needs more memory than its limit."})
    else:
        scoring_wire.send(channel, report, content)


def convert(
    artifact: BinaryIO, columns: tuple[str, ...], table: pa.Table, *, tolerance: float
) -> tuple[dict[str, Any], bytes]:
    """The report of ``conversion.Converted`` and the ONNX bytes. Raises Unscorable and NotConvertible."""
    estimator = skops_model.estimator_in(artifact)
    original = skops_model.loaded(estimator, columns)
    plain = pa.table({name: _plain(table.column(name), name) for name in columns})
    texts = tuple(name for name in columns if pa.types.is_string(plain.column(name).type))
    reasons: list[str] = []
    converted = Way(estimator, texts, columns).converted(reasons)
    first = next(converted, None)
    if first is None:  # before a slow model is asked thousands of rows for nothing
        raise NotConvertible(reasons[0])
    questions = Questions.about(plain, conversion_probes.probes(estimator, plain))
    expected = questions.put_to(original)
    refused = questions.refused_nulls(expected)
    best: Attempt | None = None
    for content in _forms(itertools.chain([first], converted), refused, NULL_TEXTS if texts else NULL_TEXTS[-1:]):
        try:
            loaded = onnx_model.load(io.BytesIO(content), columns)
        except Unscorable as refusal:
            reasons.append(str(refusal))
            continue
        attempt = Attempt.of(content, questions.put_to(loaded), expected, real=len(table))
        best = attempt if best is None or attempt.rank < best.rank else best
        if best.rank <= (0, tolerance):
            break
    if best is None:
        raise NotConvertible(reasons[0])
    return best.report(expected, questions), best.content


def _forms(models: Iterable[onnx.ModelProto], refused: frozenset[str], null_texts: Sequence[str]) -> Iterator[bytes]:
    """Each model's bytes, with all that its metadata may say of a missing text."""
    for model in models:
        for null_text in null_texts:
            Metadata(null_text, refused, model.graph.output[0].name).write(model)
            yield model.SerializeToString(deterministic=True)


def _plain(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """A column as float64 or text. Raises NotConvertible for any other kind."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return column.cast(pa.string())
    try:
        return column.cast(pa.float64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise NotConvertible(f"{name} holds {column.type}: ONNX takes numbers and text.") from error


# ---------------------------------------------------------------------- what both forms are asked


@dataclass(frozen=True)
class Questions:
    """The real rows and, apart from them, their variations: each column without a value, and with an unseen one; and
    the rows on the thresholds of trees and beside them.

    The null of column *i* stands in the rows ``[i * base, (i + 1) * base)`` of ``nulls``.
    """

    real: pa.Table
    nulls: pa.Table
    unseen: pa.Table
    probes: pa.Table
    base: int

    @classmethod
    def about(cls, real: pa.Table, probes: pa.Table) -> Questions:
        places = np.unique(np.linspace(0, len(real) - 1, VARIED_ROWS).astype(np.int64))
        few = real.take(places)
        nulls = [_with(few, name, pa.nulls(len(few), real.column(name).type)) for name in real.column_names]
        unseen = [_with(few, name, _never_seen(real.column(name), len(few))) for name in real.column_names]
        return cls(real, pa.concat_tables(nulls), pa.concat_tables(unseen), probes, len(few))

    @property
    def variations(self) -> int:
        return len(self.nulls) + len(self.unseen)

    def put_to(self, model: LoadedModel) -> Scores:
        """A model's scores of the real rows, the nulls, the unseen values, the probes; NaN where it refused a row."""
        asked = (self.real, self.nulls, self.unseen, self.probes)
        return np.concatenate([score_table(model, each)[0] for each in asked if len(each)])

    def refused_nulls(self, scores: Scores) -> frozenset[str]:
        """The columns in which a model takes no null: ONNX, which knows numbers only, would answer regardless."""
        nulls = np.isnan(scores[len(self.real) : len(self.real) + len(self.nulls)])
        refused = np.flatnonzero(nulls.reshape(-1, self.base).all(axis=1))
        return frozenset(self.real.column_names[place] for place in refused)


def _with(table: pa.Table, name: str, values: Any) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, pa.chunked_array([values], table.column(name).type))


def _never_seen(column: pa.ChunkedArray, size: int) -> pa.Array:
    """Values that no row has: a new text, numbers on both sides of the range."""
    if pa.types.is_string(column.type):
        return pa.array([NEVER_SEEN] * size)
    ends = pc.min_max(column)
    if not ends["min"].is_valid:
        return pa.nulls(size, pa.float64())
    beyond = (ends["min"].as_py() - 1.0, ends["max"].as_py() + 1.0)
    return pa.array([beyond[place % 2] for place in range(size)], pa.float64())


# ---------------------------------------------------------------------- ways to convert


@dataclass(frozen=True)
class Way:
    """A fitted estimator and what it takes."""

    estimator: Any
    texts: tuple[str, ...]
    columns: tuple[str, ...]

    def converted(self, reasons: list[str]) -> Iterator[onnx.ModelProto]:
        """ONNX models, likeliest first; why a way does not go is added to ``reasons``.

        In double precision, as scikit-learn computes, a value takes the same branch beside every threshold; not all
        operators of ONNX Runtime know it, and where one does not, single precision is next. An estimator that is no
        pipeline is converted with one input of all its columns only.
        """
        for number, kinds in itertools.product((DoubleTensorType, FloatTensorType), (self._apart, self._together)):
            try:
                model = self._converted(kinds(number), in_double=number is DoubleTensorType)
            except Exception as error:  # noqa: BLE001  # the converter raises anything for what it does not know
                reasons.append(said(error))
                continue
            yield model

    def _apart(self, number: type) -> list[tuple[str, Any]]:
        """An input per column."""
        return [(name, (StringTensorType if name in self.texts else number)([None, 1])) for name in self.columns]

    def _together(self, number: type) -> list[tuple[str, Any]]:
        """One input for all columns. Raises NotConvertible where they are not all numbers."""
        if self.texts:
            raise NotConvertible("one input can not hold numbers and text")
        return [(MATRIX, number([None, len(self.columns)]))]

    def _converted(self, kinds: list[tuple[str, Any]], *, in_double: bool) -> onnx.ModelProto:
        is_classifier = hasattr(self.estimator, "classes_")
        options = {"zipmap": False} if is_classifier else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model: onnx.ModelProto = skl2onnx.convert_sklearn(
                self.estimator,
                "model",
                initial_types=kinds,
                target_opset=OPSETS,
                options=options,
                custom_conversion_functions=conversion_double.CONVERTERS if in_double else None,
            )
        kept = model.graph.output[1 if is_classifier else 0]  # a classifier's first output is the class
        others = [each for each in model.graph.output if each.name != kept.name]
        for each in others:
            model.graph.output.remove(each)
        conversion_double.prune(model.graph)
        return model


# ---------------------------------------------------------------------- how far apart


@dataclass(frozen=True)
class Attempt:
    """One ONNX form, measured. ``scores`` are those of the real rows; ``apart`` their differences, 0 where both forms
    refused; ``disagreements`` counts rows, variations and probes that only one form answered."""

    content: bytes
    scores: Scores
    apart: npt.NDArray[np.float64]
    errors: int
    disagreements: int
    max_difference: float

    @classmethod
    def of(cls, content: bytes, answered: Scores, expected: Scores, *, real: int) -> Attempt:
        only_one = np.isnan(answered) != np.isnan(expected)
        both = ~np.isnan(answered) & ~np.isnan(expected)
        apart = np.where(both, np.abs(answered - expected), 0.0)
        return cls(
            content=content,
            scores=answered[:real],
            apart=apart[:real],
            errors=int((np.isnan(answered) & np.isnan(expected))[:real].sum()),
            disagreements=int(only_one.sum()),
            max_difference=float(apart.max(initial=0.0)),
        )

    @property
    def rank(self) -> tuple[int, float]:
        """Smaller is nearer to the original."""
        return self.disagreements, self.max_difference

    def report(self, expected: Scores, questions: Questions) -> dict[str, Any]:
        """As ``conversion.Converted`` has it."""
        furthest = np.argsort(-self.apart, kind="stable")[:WORST]
        return {
            "rows": len(self.scores),
            "errors": self.errors,
            "variations": questions.variations,
            "probes": len(questions.probes),
            "disagreements": self.disagreements,
            "max_difference": self.max_difference,
            "worst": [_compared(int(row), expected, self.scores) for row in furthest if self.apart[row] > 0],
            "libraries": {name: version(name) for name in LIBRARIES},
        }


def _compared(row: int, expected: Scores, scores: Scores) -> Mapping[str, Any]:
    return {"row": row, "original": float(expected[row]), "onnx": float(scores[row])}
