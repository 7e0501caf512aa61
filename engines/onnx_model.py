"""Load an ONNX artifact with ONNX Runtime: one thread, nothing from other files, no operators but ONNX's own.

How a model is called: one input per column, or one input with all columns side by side. Numbers and booleans arrive in
the input's own type, null as NaN; text as strings, null as ``""`` unless the model's metadata names another text. The
answer is taken from the output that the metadata names; else from the only output of numbers, where the second of two
columns is the probability, as scikit-learn has it.

What ``engines.conversion_child`` writes into the metadata of the models that it makes is in ``Metadata``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engines import memory, onnx_rules
from engines.loaded_model import LoadedModel, said
from engines.skops_types import Unscorable

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # the wheels send telemetry from the import on; an API call is too late
import onnx
import onnxruntime

NUMBERS = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
}
TEXT = "tensor(string)"
PREFIX = "gatehouse."


@dataclass(frozen=True)
class Metadata:
    """What a model's own metadata says of how to ask it.

    ``null_text`` stands for a missing text; ``refuses_null`` are columns in which a null is an error; ``output`` is the
    name of the output with the score.
    """

    null_text: str = ""
    refuses_null: frozenset[str] = frozenset()
    output: str = ""

    @classmethod
    def read(cls, properties: Mapping[str, str]) -> Metadata:
        """From a model's custom properties; what is not understood counts as not said."""
        try:
            refused = json.loads(properties.get(f"{PREFIX}refuses_null", "[]"))
        except ValueError:
            refused = []
        names = refused if isinstance(refused, list) else []
        return cls(
            null_text=properties.get(f"{PREFIX}null_text", ""),
            refuses_null=frozenset(name for name in names if isinstance(name, str)),
            output=properties.get(f"{PREFIX}output", ""),
        )

    def write(self, model: onnx.ModelProto) -> None:
        """Into a model's custom properties."""
        said_of_it = {
            "null_text": self.null_text,
            "refuses_null": json.dumps(sorted(self.refuses_null)),
            "output": self.output,
        }
        del model.metadata_props[:]
        for name, value in said_of_it.items():
            model.metadata_props.add(key=f"{PREFIX}{name}", value=value)


@dataclass(frozen=True)
class TensorRows:
    """Rows as one array per column: float64 or text. ``missing`` says where a column that refuses null has one."""

    arrays: dict[str, npt.NDArray[Any]]
    missing: dict[str, npt.NDArray[np.bool_]]
    size: int

    def __len__(self) -> int:
        return self.size

    def part(self, start: int, end: int) -> TensorRows:
        arrays = {name: array[start:end] for name, array in self.arrays.items()}
        return TensorRows(arrays, {name: where[start:end] for name, where in self.missing.items()}, end - start)


@dataclass(frozen=True)
class Opened:
    """A session, how columns become its inputs, and which output is the score."""

    session: onnxruntime.InferenceSession
    inputs: Inputs
    output: str
    metadata: Metadata

    @classmethod
    def of(cls, session: onnxruntime.InferenceSession, columns: tuple[str, ...]) -> Opened:
        """Raises Unscorable where columns and inputs do not fit, or no output is the score."""
        metadata = Metadata.read(session.get_modelmeta().custom_metadata_map)
        return cls(session, Inputs.of(session, columns), output_of(session, metadata), metadata)

    def ask(self, rows: TensorRows) -> Any:
        """One number per row."""
        return second(self.session.run([self.output], self.inputs.feed(rows))[0], len(rows))


def load(artifact: BinaryIO, columns: tuple[str, ...]) -> LoadedModel:
    """The model in an ONNX artifact. Raises Unscorable, and MemoryError."""
    content = artifact.read()
    with memory.tight(len(content)):
        onnx_rules.parsed(content)
        session = session_of(content)
    opened = Opened.of(session, columns)
    return LoadedModel(columns, prepare=lambda table: opened.inputs.rows(table, opened.metadata), ask=opened.ask)


def session_of(content: bytes) -> onnxruntime.InferenceSession:
    """A session of one thread. Raises Unscorable, and MemoryError."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False  # memory is given back, so that the limit means what it says
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except MemoryError:
        raise
    except Exception as error:  # whatever a crafted file makes the library raise, it can not be loaded
        raise Unscorable(f"It can not be loaded: {said(error)}.") from error


# ---------------------------------------------------------------------- rows in, scores out


@dataclass(frozen=True)
class Inputs:
    """How columns become inputs: each its own, or all in the one input ``matrix``. ``kinds`` are the inputs' types."""

    kinds: dict[str, str]
    matrix: str
    columns: tuple[str, ...]

    @classmethod
    def of(cls, session: onnxruntime.InferenceSession, columns: tuple[str, ...]) -> Inputs:
        inputs = session.get_inputs()
        kinds = {each.name: each.type for each in inputs}
        strange = sorted({kind for kind in kinds.values() if kind != TEXT and kind not in NUMBERS})
        if strange:
            raise Unscorable(f"It takes {', '.join(strange)}; numbers and text are given.")
        if set(kinds) <= set(columns) and all(_fits(each.shape, 1) for each in inputs):
            return cls(kinds, "", tuple(name for name in columns if name in kinds))
        if len(inputs) == 1 and _fits(inputs[0].shape, len(columns)):
            return cls(kinds, inputs[0].name, columns)
        taken = ", ".join(f"{each.name} {each.shape}" for each in inputs[:8])
        raise Unscorable(f"It takes {taken}: neither one input per column nor one for all {len(columns)} columns.")

    def rows(self, table: pa.Table, metadata: Metadata) -> TensorRows:
        """The table as arrays. Raises ValueError for a column of another kind than its input."""
        arrays, missing = {}, {}
        for name in self.columns:
            column = table.column(name)
            if pa.types.is_dictionary(column.type):
                column = column.cast(column.type.value_type)
            is_text = self.kinds[self.matrix or name] == TEXT
            arrays[name] = _texts(column, name, metadata.null_text) if is_text else _floats(column, name)
            if name in metadata.refuses_null:
                missing[name] = column.is_null(nan_is_null=True).to_numpy()
        return TensorRows(arrays, missing, len(table))

    def feed(self, rows: TensorRows) -> dict[str, npt.NDArray[Any]]:
        """What the session is fed. Raises ValueError for values that the model does not take."""
        refused = [name for name, where in rows.missing.items() if where.any()]
        if refused:
            raise ValueError(f"{refused[0]} is missing, and the model does not take that")
        if not self.matrix:
            return {name: typed(array, self.kinds[name], name)[:, np.newaxis] for name, array in rows.arrays.items()}
        kind = self.kinds[self.matrix]
        side_by_side = [typed(array, kind, name) for name, array in rows.arrays.items()]
        return {self.matrix: np.stack(side_by_side, axis=1)}


def _fits(shape: Sequence[Any], columns: int) -> bool:
    """Whether an input of this shape takes so many columns (a dimension that is no number is open)."""
    return len(shape) == 2 and (shape[1] == columns or not isinstance(shape[1], int))


def _texts(column: pa.ChunkedArray, name: str, null_text: str) -> npt.NDArray[np.object_]:
    if pa.types.is_null(column.type):
        column = column.cast(pa.string())
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise ValueError(f"{name} holds {column.type}, and the model takes text")
    return np.asarray(column.fill_null(null_text).to_pylist(), dtype=np.object_)


def _floats(column: pa.ChunkedArray, name: str) -> npt.NDArray[np.float64]:
    kinds = (pa.types.is_null, pa.types.is_boolean, pa.types.is_integer, pa.types.is_decimal, pa.types.is_floating)
    if not any(is_kind(column.type) for is_kind in kinds):
        raise ValueError(f"{name} holds {column.type}, and the model takes a number")
    return np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)


def typed(array: npt.NDArray[Any], kind: str, name: str) -> npt.NDArray[Any]:
    """A column as its input takes it. Raises ValueError."""
    if kind == TEXT:
        return array
    wanted = NUMBERS[kind]
    if not issubclass(wanted, np.floating) and not np.equal(np.mod(array, 1), 0).all():
        raise ValueError(f"{name} is missing or no whole number, and the model takes whole numbers")
    return array.astype(wanted, copy=False)


def output_of(session: onnxruntime.InferenceSession, metadata: Metadata) -> str:
    """The name of the output with the score. Raises Unscorable when it can not be told."""
    outputs: dict[str, Any] = {each.name: each for each in session.get_outputs()}
    if metadata.output in outputs:
        return metadata.output
    numbers = [name for name, each in outputs.items() if each.type in ("tensor(float)", "tensor(double)")]
    mapped = [name for name, each in outputs.items() if each.type.startswith("seq(map(") and "float" in each.type]
    whole = [name for name, each in outputs.items() if each.type in NUMBERS]
    for found in (numbers, mapped, whole):
        if len(found) == 1:
            _refuse_many_classes(outputs[found[0]].shape)
            return found[0]
        if found:
            break
    raise Unscorable(f"Which of its outputs is the score can not be told: {', '.join(outputs)[:200]}.")


def _refuse_many_classes(shape: Sequence[Any] | None) -> None:
    if shape and len(shape) == 2 and isinstance(shape[1], int) and shape[1] > 2:
        raise Unscorable(f"It tells {shape[1]} classes apart; a score needs exactly two.")


def second(answer: Any, rows: int) -> Any:
    """One number per row: the second of two columns (or of two mapped classes), or the only one."""
    if isinstance(answer, list):  # a ZipMap: one dictionary per row, from class to probability
        answer = np.asarray([[each[key] for key in sorted(each)] for each in answer])
    if answer.ndim == 2 and answer.shape[1] in (1, 2):
        return answer[:, -1]
    if answer.ndim == 1 and answer.shape[0] == rows:
        return answer
    raise ValueError(f"the model answered an array of shape {answer.shape} for {rows} rows")
