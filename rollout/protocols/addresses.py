"""Which address asks for what, and every refusal in the words of its protocol. Pure.

``GET /v2``, ``/v2/health/live``, ``/v2/health/ready``, ``/v2/models/<name>[/versions/<v>][/ready]``,
``POST …/infer``; MLflow's ``GET /ping``, ``/health``, ``/version``, ``POST /invocations[?endpoint=<name>]`` and
``POST /endpoints/<name>/invocations``.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qs

from rollout.gateway.asked import BadRequest, Described, NotReady, Refusal, UnknownEndpoint
from rollout.protocols import invocations, v2
from rollout.protocols.calls import JSON, MAX_NAME, Call, House, Reply, json_reply

TEXT = "text/plain; charset=utf-8"


class _NoSuchAddress(Refusal):
    status = 404


class _OtherMethod(Refusal):
    status = 405


@dataclass(frozen=True, slots=True)
class _Model:
    """What is behind ``/v2/models/``. ``what`` is infer, ready or empty."""

    name: str
    version: str
    what: str


def reply(call: Call, house: House) -> Reply:
    """Answer a call; a refusal is a reply, too. Whatever else ``house`` raises passes through."""
    path = call.path
    try:
        if not (path.isascii() and call.query.isascii()):  # names are slugs
            raise _NoSuchAddress("There is nothing at this address.")
        if path.startswith("/v2"):
            return _v2(call, house)
        if path == "/invocations" or path.startswith("/endpoints/"):
            _only("POST", call)
            return invocations.invoke(call, _ready(house.describe(_invoked(call, house))), house)
        return _about_server(call, house)
    except Refusal as refusal:
        return v2.refused(refusal) if path.startswith("/v2") else invocations.refused(refusal)


def endpoint_of(call: Call) -> str | None:
    """The endpoint that a call names; None where it names none (health, and ``/invocations`` without one)."""
    try:
        if call.path.startswith("/v2/models/"):
            return _model(call.path).name
        if call.path.startswith("/endpoints/"):
            return _named_in_path(call.path)
        return _named_in_query(call) if call.path == "/invocations" else None
    except Refusal:
        return None


# ---------------------------------------------------------------------- the Open Inference Protocol


def _v2(call: Call, house: House) -> Reply:
    path = call.path
    if path.startswith("/v2/models/"):
        asked = _model(path)
        _only("POST" if asked.what == "infer" else "GET", call)
        described = house.describe(asked.name)
        v2.check_version(described, asked.version)
        return _about_model(call, asked, described, house)
    _only("GET", call)
    if path in ("/v2", "/v2/"):
        return v2.server(house)
    if path == "/v2/health/live":
        return json_reply({"live": True})
    if path == "/v2/health/ready":
        return json_reply({"ready": house.is_ready()}, 200 if house.is_ready() else 503)
    raise _NoSuchAddress("There is nothing at this address.")


def _about_model(call: Call, asked: _Model, described: Described, house: House) -> Reply:
    if asked.what == "infer":
        return v2.infer(call, _ready(described), house)
    if asked.what == "ready":
        return json_reply({"name": described.endpoint, "ready": described.ready}, 200 if described.ready else 503)
    return v2.model(described)


def _ready(described: Described) -> Described:
    """What is not known to the gateway yet can not even be read. Raises NotReady."""
    if not described.ready and described.version is None:
        raise NotReady(f"{described.endpoint} is not ready: nothing can answer for it yet.")
    return described


def _model(path: str) -> _Model:
    match path.split("/")[3:]:
        case [name]:
            return _Model(name, "", "")
        case [name, ("infer" | "ready") as what]:
            return _Model(name, "", what)
        case [name, "versions", version]:
            return _Model(name, version, "")
        case [name, "versions", version, ("infer" | "ready") as what]:
            return _Model(name, version, what)
    raise _NoSuchAddress("There is nothing at this address.")


# ---------------------------------------------------------------------- MLflow's


def _about_server(call: Call, house: House) -> Reply:
    if call.path not in ("/ping", "/health", "/version"):
        raise _NoSuchAddress("There is nothing at this address.")
    _only("GET", call)
    if call.path == "/version":
        return Reply(200, house.version.encode(), TEXT)
    is_ready = house.is_ready()
    return Reply(200 if is_ready else 503, b"\n", JSON)  # as MLflow answers


def _invoked(call: Call, house: House) -> str:
    """The endpoint of an invocation: named in the address, or the only one there is."""
    if call.path.startswith("/endpoints/"):
        return _named_in_path(call.path)
    named = _named_in_query(call)
    if named is not None:
        return named
    names = house.names()
    if len(names) == 1:
        return names[0]
    if not names:
        raise UnknownEndpoint("Nothing is served here for you.")
    raise BadRequest(
        f"{len(names)} endpoints are served here: say which, /endpoints/<name>/invocations or ?endpoint=<name>.",
        "endpoint",
    )


def _named_in_path(path: str) -> str:
    match path.split("/")[2:]:
        case [name, "invocations"]:
            return name
    raise _NoSuchAddress("There is nothing at this address.")


def _named_in_query(call: Call) -> str | None:
    if not call.query:
        return None
    try:
        names = parse_qs(call.query, keep_blank_values=True, max_num_fields=20).get("endpoint", [])
    except ValueError as error:
        raise BadRequest("The query can not be read.", "endpoint") from error
    if len(names) > 1:
        raise BadRequest("It is given twice.", "endpoint")
    return names[0][:MAX_NAME] if names else None


def _only(method: str, call: Call) -> None:
    if call.method != method and not (method == "GET" and call.method == "HEAD"):
        raise _OtherMethod(f"This address takes {method}.")
