"""What every operation of openapi.yaml says beside its own: the scope, the Idempotency-Key, the ETags.

Apart from ``mlops.schema``, because REST framework's settings name this class and views are decorated with it.
"""

from __future__ import annotations

from typing import Any, cast

from drf_spectacular.openapi import AutoSchema

from audit import answers
from audit.rest import ApiView
from audit.scopes import SCOPES

ETAG = {"schema": {"type": "string"}, "description": "Of this very representation; strong."}
KEY = {
    "name": answers.HEADER,
    "in": "header",
    "schema": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": r"^[!-~]+$"},
    "description": "Chosen by the caller, such as a UUID. The same request with the same key happens once within a day "
    f"and is answered alike ({answers.REPLAYED}: true); another request with it is refused (422).",
}
REPLAYED = {
    "schema": {"type": "string", "enum": ["true"]},
    "description": "Only on the answer to a request that came before.",
}
IF_NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "schema": {"type": "string"},
    "description": "An ETag: 304 when nothing has changed.",
}
IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "required": True,
    "schema": {"type": "string"},
    "description": "The ETag of the state that is changed, from a GET of this address.",
}


class Operations(AutoSchema):
    """An operation with what ``audit.rest.ApiView`` adds to every one."""

    def get_operation(self, *args: Any, **kwargs: Any) -> Any:
        operation: Any = super().get_operation(*args, **kwargs)
        if operation is None or not isinstance(self.view, ApiView):
            return operation
        scope = self.view.scope_of(self.method)
        operation["x-scope"] = scope
        told = f"Scope `{scope}` ({SCOPES.get(scope, 'none')})."
        operation["description"] = f"{operation.get('description', '')}\n\n{told}".strip()
        for parameter in self._headers():
            operation.setdefault("parameters", []).append(parameter)
        self._describe_answers(operation["responses"])
        return operation

    def _takes_key(self) -> bool:
        return self.method == "POST" and cast(ApiView, self.view).takes_keys

    def _headers(self) -> list[dict[str, Any]]:
        asked: dict[str, list[dict[str, Any]]] = {"GET": [IF_NONE_MATCH], "PATCH": [IF_MATCH]}
        return [KEY] if self._takes_key() else asked.get(self.method, [])

    def _describe_answers(self, responses: dict[str, Any]) -> None:
        for code, response in responses.items():
            if code.startswith("2") and "$ref" not in response:
                if self._takes_key():
                    response.setdefault("headers", {})[answers.REPLAYED] = REPLAYED
                if self.method in ("GET", "PATCH") and code == "200":
                    response.setdefault("headers", {})["ETag"] = ETAG
        if self.method == "GET":
            responses["304"] = {"description": "Nothing has changed since If-None-Match.", "headers": {"ETag": ETAG}}
