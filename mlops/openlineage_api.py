"""The OpenLineage receiver: ``POST /api/v1/lineage`` and ``/api/v1/lineage/batch``, as its clients send (spec 2-0-2).

Clients may compress (``Content-Encoding: gzip``). A body is inflated in pieces and no further than ``MOST_BYTES``, so a
few kilobytes that would become gigabytes cost nothing. The spec's addresses have no slash at their end; with one they
are the same.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, ClassVar

import orjson
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import exceptions, parsers, serializers
from rest_framework.request import Request
from rest_framework.response import Response

from audit import clock, scopes
from audit.errors import InvalidInput
from audit.rest import NAMED_ERRORS, ApiView, TooLarge, refuse_larger
from registry.actions.openlineage import MOST_EVENTS, Received, receive

MOST_MEMBERS = 16
"""A client sends one; each costs a copy of what is left."""
MOST_BYTES = 2 * 2**20
"""Of a body, as sent and inflated."""
PIECE = 2**16
GZIP = 16 + zlib.MAX_WBITS


class EventParser(parsers.BaseParser):
    """JSON, compressed or not, of at most ``MOST_BYTES``. What no database can keep (NaN, half a character) is none."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        request = (parser_context or {})["request"]
        refuse_larger(request, MOST_BYTES)
        coding = request.headers.get("Content-Encoding", "identity").strip().lower()
        if coding not in ("identity", "gzip", "x-gzip"):
            raise exceptions.UnsupportedMediaType(coding, detail=f"Content-Encoding {coding!r} is not read; gzip is.")
        sent = _read(stream)
        body = sent if coding == "identity" else inflated(sent)
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError as problem:
            raise exceptions.ParseError(f"JSON parse error - {problem}") from problem


def inflated(sent: bytes) -> bytes:
    """The content of a gzip body. Raises TooLarge, ParseError."""
    found, left, members = bytearray(), sent, 0
    while left:  # a body may be several members, one after the other
        members += 1
        if members > MOST_MEMBERS:
            raise exceptions.ParseError(f"The gzip body has more than the {MOST_MEMBERS} members that are accepted.")
        member = zlib.decompressobj(GZIP)
        try:
            while left and not member.eof:
                found += member.decompress(left, PIECE)
                left = member.unconsumed_tail
                if len(found) > MOST_BYTES:
                    raise TooLarge(f"The body inflates to more than the {MOST_BYTES:,} bytes that are accepted.")
        except zlib.error as problem:
            raise exceptions.ParseError(f"The body is no gzip: {problem}.") from problem
        if not member.eof:
            raise exceptions.ParseError("The gzip body ends in the middle.")
        left = member.unused_data
    return bytes(found)


def _read(stream: Any) -> bytes:
    """What was sent; no more than is accepted, whatever the request said of its length."""
    found = bytearray()
    while piece := stream.read(PIECE):
        found += piece
        if len(found) > MOST_BYTES:
            raise TooLarge(f"At most {MOST_BYTES:,} bytes are accepted.")
    return bytes(found)


# ---------------------------------------------------------------------- what is answered


class EventAnswer(serializers.Serializer[Any]):
    """What became of an event."""

    status = serializers.ChoiceField(choices=["stored", "known"], help_text="known: it came before.")


class FailedEvent(serializers.Serializer[Any]):
    index = serializers.IntegerField(help_text="Its place in the batch, from 0.")
    reason = serializers.CharField()
    retriable = serializers.BooleanField(help_text="Never: what is wrong with an event stays wrong.")


class BatchSummary(serializers.Serializer[Any]):
    received = serializers.IntegerField()
    successful = serializers.IntegerField(help_text="Kept, now or before.")
    failed = serializers.IntegerField()
    retriable = serializers.IntegerField()
    non_retriable = serializers.IntegerField()


class BatchAnswer(serializers.Serializer[Any]):
    """What became of a batch; one event that is wrong stops no other."""

    status = serializers.ChoiceField(choices=["success", "partial_success", "failure"])
    summary = BatchSummary()
    failed_events = FailedEvent(many=True)


EVENT: dict[str, Any] = {
    "type": "object",
    "description": "A RunEvent, JobEvent or DatasetEvent of OpenLineage 2-0-2; facets of any kind are kept.",
    "required": ["eventTime", "producer"],
    "properties": {
        "eventTime": {"type": "string", "format": "date-time"},
        "producer": {"type": "string", "minLength": 1, "maxLength": 300},
        "eventType": {"type": "string", "enum": ["START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"]},
        "run": {"type": "object"},
        "job": {"type": "object"},
        "dataset": {"type": "object"},
        "inputs": {"type": "array", "items": {"type": "object"}},
        "outputs": {"type": "array", "items": {"type": "object"}},
    },
}
BATCH: dict[str, Any] = {"type": "array", "items": EVENT, "maxItems": MOST_EVENTS}


# ---------------------------------------------------------------------- the addresses


class Receiver(ApiView):
    """Where other tools say where data comes from. For everybody with a token of the scope ``lineage``."""

    parser_classes: Sequence[type[parsers.BaseParser]] = (EventParser,)
    scope: ClassVar[str] = scopes.LINEAGE
    takes_keys: ClassVar[bool] = False  # the same event again is the same event

    def received(self, documents: Sequence[Any]) -> Received:
        return receive(documents, actor=self.user, latest=timezone.now(), now=clock.now())


class OneEvent(Receiver):
    @extend_schema(
        operation_id="lineage_event",
        request={"application/json": EVENT},
        responses={200: EventAnswer, 201: EventAnswer},
    )
    def post(self, request: Request) -> Response:
        """Keep one OpenLineage event. 201: it is new; 200: it came before. It is folded into the graph soon after."""
        found = self.received([request.data])
        if found.refused:
            raise InvalidInput(dict(list(found.refused[0].items())[:NAMED_ERRORS]))
        status = "stored" if found.stored else "known"
        return Response({"status": status}, status=201 if found.stored else 200)


class Batch(Receiver):
    @extend_schema(operation_id="lineage_batch", request={"application/json": BATCH}, responses=BatchAnswer)
    def post(self, request: Request) -> Response:
        """Keep many OpenLineage events. Those that are wrong are named in the answer; the others are kept."""
        documents = request.data
        if not isinstance(documents, list):
            raise InvalidInput({"body": "A list of events."})
        found = self.received(documents)
        failed = [
            {"index": place, "reason": _said(errors), "retriable": False} for place, errors in found.refused.items()
        ]
        successful = len(documents) - len(failed)
        summary = {
            "received": len(documents),
            "successful": successful,
            "failed": len(failed),
            "retriable": 0,
            "non_retriable": len(failed),
        }
        status = "success" if not failed else "partial_success" if successful else "failure"
        return Response({"status": status, "summary": summary, "failed_events": failed})


def _said(errors: dict[str, str]) -> str:
    return "; ".join(f"{path}: {text}" for path, text in list(errors.items())[:NAMED_ERRORS])


@extend_schema(exclude=True)
class OneEventToo(OneEvent):
    """The same address with a slash at its end."""


@extend_schema(exclude=True)
class BatchToo(Batch):
    """The same address with a slash at its end."""
