"""What the API of every app shares: scopes, strict queries, bounded bodies, ETags, refusals that name the field.

A view finds its rows, calls one verb or none, and answers. What a query or a body does not know is refused: a
misspelled filter would answer everything, a misspelled field would be lost from the record.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import sha256
from typing import Any, ClassVar, cast

from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpResponseBase, HttpResponseNotModified, QueryDict
from django.utils.http import parse_etags
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework import exceptions, generics, parsers, renderers, serializers, status
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from audit import answers, scopes
from audit.errors import InvalidInput, NotPermitted

NAMED_ERRORS = 20
"""A body of a thousand wrong rows is refused with the first so many."""
DEEPEST_JSON = 32
_SURROGATE = re.compile("[\ud800-\udfff]")


class TooLarge(exceptions.APIException):
    """A body that would not be read to its end."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_code = "too_large"


class PreconditionRequired(exceptions.APIException):
    """A change of something that others change as well, without a word on what it was when it was read."""

    status_code = status.HTTP_428_PRECONDITION_REQUIRED
    default_code = "precondition_required"


class PreconditionFailed(exceptions.APIException):
    """It is not what it was when the caller read it."""

    status_code = status.HTTP_412_PRECONDITION_FAILED
    default_code = "precondition_failed"


def refuse_larger(request: Request, most: int) -> None:
    """Raise TooLarge by what the request says of itself; a server reads no further than that."""
    announced = request.META.get("CONTENT_LENGTH") or "0"
    if announced.isdigit() and int(announced) > most:
        raise TooLarge(f"The body has {int(announced):,} bytes; at most {most:,} are accepted.")


class BoundedJSONParser(parsers.JSONParser):
    """JSON up to ``DATA_UPLOAD_MAX_MEMORY_SIZE``: REST framework reads past Django's own limit."""

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        refuse_larger(parser_context["request"], settings.DATA_UPLOAD_MAX_MEMORY_SIZE)
        try:
            return super().parse(stream, media_type=media_type, parser_context=parser_context)
        except RecursionError as problem:
            raise exceptions.ParseError("The JSON is nested too deeply.") from problem


class StrictFilters(DjangoFilterBackend):  # type: ignore[misc]  # django-filter has no type information
    """Filters whose values are checked; one that is wrong is refused like one that is unknown."""

    def filter_queryset(self, request: Request, queryset: Any, view: Any) -> Any:
        filterset = self.get_filterset(request, queryset, view)
        if filterset is None:
            return queryset
        if not filterset.is_valid():
            raise exceptions.ValidationError(filterset.errors)
        return filterset.qs


class ApiView(APIView):
    """``query`` names the query parameters of a view; any other is refused (400).

    ``scope`` is what a token needs for everything but looking, which needs ``read`` (``audit.scopes``).
    """

    parser_classes: Sequence[type[parsers.BaseParser]] = (BoundedJSONParser,)
    query: ClassVar[tuple[str, ...]] = ()
    scope: ClassVar[str] = ""
    takes_keys: ClassVar[bool] = True
    """An Idempotency-Key of a POST counts. Not where repeating is harmless by itself, or work takes minutes: the
    answer is kept in the transaction of the work."""

    @property
    def user(self) -> User:
        return cast(User, self.request.user)  # IsAuthenticated stands before every view

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if not hasattr(self, str(request.method).lower()):
            raise exceptions.MethodNotAllowed(str(request.method))  # whatever the token may do
        if refusal := scopes.missing(self.scope_of(str(request.method)), getattr(request.auth, "scopes", ())):
            raise NotPermitted(refusal)
        self.refuse_unknown(request.query_params)
        if request.method == "POST" and self.takes_keys and (key := answers.key_of(request)) is not None:
            self.__dict__["post"] = partial(self._post_once, key)  # found first where REST framework looks for it

    @classmethod
    def scope_of(cls, method: str) -> str:
        """What a token needs for this method."""
        return scopes.READ if method in SAFE_METHODS else cls.scope

    def _post_once(self, key: str, request: Request, *args: Any, **kwargs: Any) -> HttpResponseBase:
        post: Any = type(self).post  # type: ignore[attr-defined]  # it is one of those that have it
        return answers.once(
            request,
            key,
            lambda: post(self, request, *args, **kwargs),
            prepare=lambda: self.prepare_post(request, *args, **kwargs),
        )

    def prepare_post(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """The part of ``post`` that takes its time and changes nothing: a POST with a key does it before its
        transaction opens. ``post`` itself does what was not prepared."""

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        """What was looked at gets an ETag; one that the caller has already is not sent again."""
        final = super().finalize_response(request, response, *args, **kwargs)
        looked = request.method in ("GET", "HEAD") and final.status_code == status.HTTP_200_OK
        return _tagged(request, final) if looked and isinstance(final, Response) else final

    def require_match(self, current: Any) -> None:
        """Refuse a change unless If-Match names what ``current``, read under a lock, is represented as."""
        given = self.request.headers.get("If-Match")
        if given is None:
            raise PreconditionRequired("Say by If-Match which state you change: the ETag of a GET of this address.")
        if given.strip() != "*" and etag_of(current) not in parse_etags(given):
            raise PreconditionFailed("It was changed since you read it, or you read something else: GET it again.")

    def known_query(self) -> set[str]:
        return set(self.query)

    def refuse_unknown(self, given: QueryDict) -> None:
        known = self.known_query()
        offer = f"There are: {', '.join(sorted(known))}." if known else "This address takes none."
        wrong = {name: [f"There is no such query parameter. {offer}"] for name in given if name not in known}
        if wrong:
            raise exceptions.ValidationError(wrong)

    def read(self, body: type[serializers.BaseSerializer[Any]]) -> dict[str, Any]:
        """The request's body as ``body`` describes it. Raises InvalidInput by field, ``rows.3.label`` inside lists."""
        serializer = body(data=self.request.data)
        if not serializer.is_valid():
            raise InvalidInput(dict(list(_by_path(serializer.errors).items())[:NAMED_ERRORS]))
        return cast(dict[str, Any], serializer.validated_data)


def etag_of(data: Any) -> str:
    """The strong ETag of what is answered as ``data``."""
    return _tag(bytes(renderers.JSONRenderer().render(data)))


def _tag(content: bytes) -> str:
    return f'"{sha256(content).hexdigest()[:32]}"'


def _tagged(request: Request, response: Response) -> HttpResponseBase:
    """The answer with its ETag (of its own bytes); 304 for what the caller has."""
    response.render()
    tag = _tag(response.content)
    keeping = {"ETag": tag, "Cache-Control": "private, no-cache"}
    given = request.headers.get("If-None-Match", "")
    had = given.strip() == "*" or tag in [each.removeprefix("W/") for each in parse_etags(given)]
    final: HttpResponseBase = HttpResponseNotModified() if had else response
    for name, value in keeping.items():
        final[name] = value
    return final


class Listing(ApiView, generics.ListAPIView[Any]):
    """A page of the rows that the caller may see. Subclasses say which by ``visible``."""

    filter_backends = (StrictFilters,)
    ordering: ClassVar[str] = "-id"
    """A unique column: cursors stand on it."""

    def visible(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        raise NotImplementedError

    def filter_queryset(self, queryset: Any) -> Any:
        return super().filter_queryset(self.visible(queryset))

    def known_query(self) -> set[str]:
        filters = getattr(self, "filterset_class", None)
        posted = self.request.method not in ("GET", "HEAD", "OPTIONS")
        return set() if posted else {"cursor", "page_size", *(filters.base_filters if filters else ())}


class Body(serializers.Serializer[Any]):
    """A request's body; a field that it does not have is refused."""

    def to_internal_value(self, data: Any) -> Any:
        unknown = [name for name in data if name not in self.fields] if isinstance(data, Mapping) else []
        if unknown:
            offer = ", ".join(self.fields)
            raise serializers.ValidationError(
                {name: [f"There is no such field. There are: {offer}."] for name in unknown}
            )
        return super().to_internal_value(data)


class Reason(Body):
    reason = serializers.CharField(max_length=2000, help_text="Why: this is the record of the decision.")


class PlainJSONField(serializers.JSONField):
    """JSON that every database can keep: finite numbers, no NUL in a text, not nested without end."""

    def to_internal_value(self, data: Any) -> Any:
        value = super().to_internal_value(data)
        if problem := _unkeepable(value):
            raise serializers.ValidationError(problem)
        return value


class MappingField(PlainJSONField):
    """A JSON object."""

    def to_internal_value(self, data: Any) -> Any:
        value = super().to_internal_value(data)
        if not isinstance(value, dict):
            raise serializers.ValidationError("A JSON object is needed.")
        return value


def _unkeepable(value: Any, depth: int = 0) -> str:
    """Why a JSON value can not be kept; empty when it can."""
    if depth > DEEPEST_JSON:
        return f"Nested more than {DEEPEST_JSON} deep."
    if isinstance(value, str):
        if "\0" in value:
            return "A text holds the character NUL."
        return "A text holds half a character (a lone surrogate)." if _SURROGATE.search(value) else ""
    if isinstance(value, float):
        return "" if math.isfinite(value) else "A number is not finite."
    inside: list[Any] = value if isinstance(value, list) else []
    if isinstance(value, dict):
        inside = [*value, *value.values()]
    return next((problem for each in inside if (problem := _unkeepable(each, depth + 1))), "")


def _by_path(errors: Any, path: str = "") -> dict[str, list[str]]:
    """Nested errors of REST framework as one mapping from a field's path to its texts."""
    if isinstance(errors, Mapping):
        children: list[tuple[Any, Any]] = list(errors.items())
    elif isinstance(errors, list) and any(isinstance(each, Mapping | list) for each in errors):
        children = list(enumerate(errors))
    else:
        return {path or "body": [str(each) for each in errors]} if errors else {}
    found: dict[str, list[str]] = {}
    for name, below in children:
        whole = path if name == "non_field_errors" else f"{path}.{name}" if path else str(name)
        found.update(_by_path(below, whole))
    return found
