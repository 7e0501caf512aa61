"""The Open Inference Protocol V2 over REST (https://github.com/kserve/open-inference-protocol, read at d49cc23). Pure.

The model's name is the endpoint's: which version answers is the endpoint's decision, and the reply says which one did.
A version in the address is the client's assertion that the champion has that number; another one is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rollout.gateway.asked import Answered, Asked, BadRequest, Described, Refusal, Values
from rollout.protocols import about, binary_tensors, tensors
from rollout.protocols.calls import MAX_COLUMNS, MAX_NAME, OCTETS, Call, House, Reply, body_of, document, json_reply

OUTPUTS = {
    "score": "FP64",
    "decision": "BOOL",
    "arm": tensors.BYTES,
    "answered_by": tensors.BYTES,
    "version": "INT64",
    "status": tensors.BYTES,
    "request_id": tensors.BYTES,
}
"""What may be asked for: datatypes by name."""
DEFAULT = ("score", "decision")
EXTENSIONS = ["binary_tensor_data"]


@dataclass(frozen=True, slots=True)
class Inference:
    """A request, and how its reply is wanted. ``outputs``: name and whether as bytes."""

    asked: Asked
    id: str | None
    outputs: tuple[tuple[str, bool], ...]


# ---------------------------------------------------------------------- health and metadata


def server(house: House) -> Reply:
    return json_reply({"name": "gatehouse", "version": house.version, "extensions": EXTENSIONS})


def model(described: Described) -> Reply:
    """Metadata: the champion's inputs; ``parameters`` has the keys that may be sent instead of stored features."""
    inputs = [_about_tensor(each.name, tensors.datatype_of(each.kind)) for each in described.inputs]
    outputs = [_about_tensor(name, datatype) for name, datatype in OUTPUTS.items()]
    return json_reply(
        {
            "name": described.endpoint,
            "versions": [] if described.version is None else [str(described.version)],
            "platform": described.platform,
            "inputs": inputs,
            "outputs": outputs,
            "parameters": {"keys": ",".join(described.keys), "entity_column": described.entity_column},
        }
    )


def _about_tensor(name: str, datatype: str) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [-1]}


def check_version(described: Described, version: str) -> None:
    """Raises BadRequest unless no version is pinned, or the champion's."""
    if not version or version == str(described.version):
        return
    serves = "no version serves" if described.version is None else f"version {described.version} serves"
    raise BadRequest(
        f"Version {version[:MAX_NAME]} of {described.endpoint} does not serve; {serves}. "
        "Which version answers is decided for the endpoint: leave the version out.",
        "version",
    )


def refused(refusal: Refusal) -> Reply:
    """The protocol's error; ``field`` is ours."""
    content = {"error": refusal.placed_message}
    return json_reply(content | {"field": refusal.field} if refusal.field else content, refusal.status)


# ---------------------------------------------------------------------- infer


def infer(call: Call, described: Described, house: House) -> Reply:
    """Raises Refusal."""
    inference = read(call, described)
    return write(inference, house.answer(described.endpoint, inference.asked), described)


def read(call: Call, described: Described) -> Inference:
    """What is asked. Raises BadRequest, and nothing else whatever the bytes."""
    text, behind = binary_tensors.split(call, body_of(call))
    content = document(text)
    name = content.get("id")
    if name is not None and (type(name) is not str or len(name) > MAX_NAME):
        raise BadRequest(f"It must be text of at most {MAX_NAME} characters.", "id")
    parameters = _parameters(content, "parameters")
    rows, columns = _columns(content.get("inputs"), behind, described)
    outputs = _outputs(content.get("outputs"), parameters.get("binary_data_output"))
    asked = about.asked(columns, rows, parameters, tuple(each for each, _ in outputs), described)
    return Inference(asked, name, outputs)


def _parameters(content: dict[str, Any], place: str) -> dict[str, Any]:
    parameters = content.get("parameters")
    if parameters is None:
        return {}
    if type(parameters) is not dict:
        raise BadRequest("It must be an object.", place)
    return parameters


def _columns(inputs: Any, behind: memoryview, described: Described) -> tuple[int, dict[str, Values]]:
    """Rows, and the columns by name."""
    if type(inputs) is not list or not 0 < len(inputs) <= MAX_COLUMNS:
        raise BadRequest(f"It must be a list of 1 to {MAX_COLUMNS} tensors.", "inputs")
    if not behind and len(inputs) > 1:
        row = tensors.plain_row(inputs)
        if row is not None:
            return 1, row
    rows, start = 0, 0
    found: list[tuple[str, int, list[Values]]] = []
    for number, tensor in enumerate(inputs):
        place = f"inputs[{number}]"
        name, datatype, length, width = tensors.head(tensor, place)
        if rows not in (0, length):
            raise BadRequest(f"It has {length} rows, and the first tensor has {rows}.", f"{place}.shape")
        rows = length
        size = binary_tensors.size_of(tensor, place)
        columns: list[Values]
        if size is None:
            columns = list(tensors.from_json(tensor.get("data"), datatype, rows, width, f"{place}.data"))
        else:
            raw = behind[start : start + size]
            columns = binary_tensors.from_bytes(raw, datatype, rows, width, f"{place}.data")
            start += size
        found.append((name, width, columns))
    if start != len(behind):
        raise BadRequest(f"{len(behind)} bytes lie behind the JSON, and the tensors take {start}.", "inputs")
    return rows, tensors.named(found, described)


def _outputs(wanted: Any, all_binary: Any) -> tuple[tuple[str, bool], ...]:
    if wanted is None or wanted == []:
        return tuple((name, all_binary is True) for name in DEFAULT)
    if type(wanted) is not list or len(wanted) > len(OUTPUTS):
        raise BadRequest(f"It must be a list of at most {len(OUTPUTS)}.", "outputs")
    found: dict[str, bool] = {}
    for number, each in enumerate(wanted):
        place = f"outputs[{number}]"
        name = each.get("name") if type(each) is dict else None
        if type(name) is not str or name not in OUTPUTS:
            raise BadRequest(f"It must be one of {', '.join(OUTPUTS)}.", f"{place}.name")
        if name in found:
            raise BadRequest(f"{name} is asked for twice.", f"{place}.name")
        parameters = _parameters(each, f"{place}.parameters")
        if "classification" in parameters:
            raise BadRequest("There are no classes here; leave it out.", f"{place}.parameters.classification")
        binary = parameters.get("binary_data", all_binary)
        found[name] = binary is True
    return tuple(found.items())


def write(inference: Inference, answered: Answered, described: Described) -> Reply:
    """The reply. Its ``parameters`` tell arm, who answered and status of the rows (``mixed``: they differ)."""
    n = len(answered.arms)
    behind = []
    outputs: list[dict[str, Any]] = []
    for name, as_bytes in inference.outputs:
        values = column(name, answered)
        output: dict[str, Any] = {"name": name, "shape": [n], "datatype": OUTPUTS[name]}
        if as_bytes:
            raw = binary_tensors.to_bytes(values, OUTPUTS[name])
            behind.append(raw)
            output["parameters"] = {"binary_data_size": len(raw)}
        else:
            output["data"] = values
        outputs.append(output)
    version = about.unanimous(answered.versions)
    content: dict[str, Any] = {
        "model_name": described.endpoint,
        # of several versions, and of a fallback, there is no one number
        "model_version": str(version) if version is not None else "",
        "parameters": {
            "arm": about.unanimous(answered.arms),
            "answered_by": about.unanimous(answered.answered_by),
            "status": about.unanimous(answered.statuses),
        },
        "outputs": outputs,
    }
    if n == 1:
        content["parameters"]["request_id"] = answered.request_ids[0]
    if inference.id:
        content["id"] = inference.id
    head = json_reply(content)
    if not behind:
        return head
    length = ("Inference-Header-Content-Length", str(len(head.body)))
    return Reply(200, b"".join([head.body, *behind]), OCTETS, (length,))


def column(name: str, answered: Answered) -> list[Any]:
    """An output's values; a score that is not there is NaN, which JSON has as null."""
    if name == "score":
        scores: list[Any] = answered.scores.tolist()
        return scores
    return list(
        {
            "decision": answered.decisions,
            "arm": answered.arms,
            "answered_by": answered.answered_by,
            "version": answered.versions,
            "status": answered.statuses,
            "request_id": answered.request_ids,
        }[name]
    )
