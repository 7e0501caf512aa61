"""What drf-spectacular can not see: how callers sign in, and that every operation may answer a problem document."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension

from mlops.problems import MEDIA_TYPE

WRITES = ("post", "put", "patch", "delete")

PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "What was refused and why (RFC 9457).",
    "required": ["type", "title", "status", "detail", "instance"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "For a person: what was refused, why, what would be accepted."},
        "instance": {"type": "string", "description": "The address that was asked."},
        "request_id": {"type": "string", "description": "X-Request-ID of the answer: what to look for in the logs."},
        "errors": {
            "type": "object",
            "description": "By field or query parameter; rows.3.label inside lists.",
            "additionalProperties": {"type": "array", "items": {"type": "string"}},
        },
    },
}
MEANING = {
    400: "The query or the JSON itself is wrong.",
    401: "No valid token.",
    403: "Not the caller's duty; the detail says whose it is. Or the token lacks the scope.",
    404: "There is no such thing, or the caller may not see it.",
    406: "Only application/json is answered.",
    409: "It does not fit the present state, or somebody was faster.",
    412: "It was changed since the caller read it (If-Match).",
    413: "The body is too large.",
    415: "The media type is not read here.",
    422: "A field has a value that can not be accepted, or the key came with another request; errors names it.",
    428: "If-Match is missing.",
}
NAMED_BY_QUERY = ("/lineage/backwards/", "/lineage/forwards/", "/v1/predictions/", "/v1/outcomes/")
"""Addresses whose query names the thing: it may not be there."""
REBUILT = ("/dossiers/{position}/", "/reports/{position}/")
"""Answers are built again and compared with what was recorded: they may not be the same any more (409)."""


class BearerTokens(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # it registers itself
    target_class = "mlops.authentication.BearerTokens"
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "A token from the admin or `manage.py token`."}


def add_problems(result: dict[str, Any], generator: Any, request: Any, public: Any) -> dict[str, Any]:
    """A postprocessing hook: document the refusals that every operation has in common."""
    components = result.setdefault("components", {})
    components.setdefault("schemas", {})["Problem"] = PROBLEM
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    components["responses"] = {
        f"Problem{code}": {"description": meaning, "content": content} for code, meaning in MEANING.items()
    }
    for address, operations in result["paths"].items():
        for method, operation in operations.items():
            for code in _possible(address, method):
                operation["responses"].setdefault(str(code), {"$ref": f"#/components/responses/Problem{code}"})
    return result


def _possible(address: str, method: str) -> list[int]:
    found = [400, 401, 403, 406]
    if "{" in address or address.endswith(NAMED_BY_QUERY):
        found.append(404)
    if address.endswith(REBUILT):
        found.append(409)
    if method in WRITES:
        found += [409, 413, 415, 422]
    if method == "patch":
        found += [412, 428]
    return sorted(found)
