"""What an ONNX file may hold, whoever is about to read it: ONNX's own operators, and every value inside the file.

Nothing is run. The one who inspects an upload and the one who loads an artifact ask the same function.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from engines.skops_types import Unscorable

DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
"""Operators whose meaning the ONNX specification gives. Any other would be code of somebody's."""
MAX_NODES = 100_000


def parsed(content: bytes) -> onnx.ModelProto:
    """The model in the bytes of a file. Raises Unscorable, and MemoryError."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise Unscorable("Nobody here knows this kind of file: it begins like ONNX, but is none.") from error
    if not model.ir_version or not model.graph.node:
        raise Unscorable("It is no ONNX model: it has no graph with nodes.")
    if model.functions or model.training_info:
        raise Unscorable("It is an ONNX model with functions or training steps of its own; neither is scored.")
    strange = sorted({each.domain for each in model.opset_import} - DOMAINS)
    if strange:
        raise Unscorable(f"It is an ONNX model with operators of {strange[0][:60]!r}; only ONNX's own are scored.")
    _check_graph(model.graph)
    return model


def _check_graph(graph: Any) -> None:
    """Refuse operators of foreign domains and weights outside the file, in subgraphs too."""
    waiting, seen = [graph], 0
    while waiting:
        each = waiting.pop()
        seen += len(each.node) + 1
        if seen > MAX_NODES:
            raise Unscorable(f"It is an ONNX model with more than {MAX_NODES} nodes.")
        _refuse_external(each.initializer)
        _refuse_external(part for sparse in each.sparse_initializer for part in (sparse.values, sparse.indices))
        for node in each.node:
            if node.domain not in DOMAINS:
                raise Unscorable(f"It is an ONNX model with the operator {_name(node)}; only ONNX's own are scored.")
            for attribute in node.attribute:
                _refuse_external(_tensors_of(attribute))
                waiting.extend(attribute.graphs)
                if attribute.HasField("g"):
                    waiting.append(attribute.g)


def _tensors_of(attribute: Any) -> Iterator[Any]:
    if attribute.HasField("t"):
        yield attribute.t
    yield from attribute.tensors
    sparse = list(attribute.sparse_tensors)
    if attribute.HasField("sparse_tensor"):
        sparse.append(attribute.sparse_tensor)
    for each in sparse:
        yield each.values
        yield each.indices


def _refuse_external(tensors: Iterable[Any]) -> None:
    for tensor in tensors:
        if tensor.data_location == tensor.EXTERNAL or tensor.external_data:
            raise Unscorable("It is an ONNX model whose weights lie in other files; save it as one file.")


def _name(node: Any) -> str:
    return repr(f"{node.domain}.{node.op_type}"[:80])
