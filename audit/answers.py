"""Answers that may be asked for again: a POST with an ``Idempotency-Key`` happens once, however often it is sent.

The key's row is written in the transaction of the work, so that both are there or neither. A request that finds the key
taken waits for the other's end (the unique index makes it) and gets the same answer. What was refused or failed is not
kept: it may be tried again with the same key. The body is read to its end before the transaction opens, so that a slow
client keeps no lock.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django.db import IntegrityError, OperationalError, connection, transaction
from django.http import HttpResponse, HttpResponseBase
from django.utils import timezone
from rest_framework import exceptions
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from audit.errors import Conflict, InvalidInput
from audit.models import IdempotentAnswer

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
KEY = r"[\x20-\x7E]{1,200}"
KEPT = timedelta(days=1)
LARGEST_ANSWER = 2**20
"""Bytes. A larger answer is not kept; the request still happens once."""
PATIENCE = timedelta(seconds=30)
"""How long a request waits for another with its key (PostgreSQL; SQLite waits as long as for any write)."""
NOT_KEPT = 0
"""The status of a row whose answer was not kept."""

_FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
_HEADERS = ("Location", "ETag", "Content-Disposition")

Answer = HttpResponseBase


class _Taken(Exception):
    """Another request with this key was carried out in the meantime."""


def key_of(request: Request) -> str | None:
    """The key that came with a request. Raises ValidationError (400) for one that is none."""
    given = request.headers.get(HEADER)
    if given is not None and not (re.fullmatch(KEY, given) and given.strip()):
        raise exceptions.ValidationError({HEADER: ["1 to 200 printable ASCII characters, such as a UUID."]})
    return given


def once(request: Request, key: str, carry_out: Callable[[], Answer], *, prepare: Callable[[], None]) -> Answer:
    """What ``carry_out`` answers, or what it answered when this request came before with this key.

    ``prepare`` is called before the transaction opens: what takes its time happens under no lock.
    """
    fingerprint = fingerprint_of(request)
    try:
        if (stored := _stored(request.user, key)) is not None:
            return _again(stored, fingerprint)
        prepare()
        with transaction.atomic():
            row = claim(request.user, key, fingerprint, now=timezone.now())
            answer = carry_out()
            if answer.status_code >= 400:
                transaction.set_rollback(True)
            else:
                _keep(row, answer)
            return answer
    except _Taken:
        if (stored := _stored(request.user, key)) is None:
            raise Conflict(f"Another request with this {HEADER} was just carried out: ask again.") from None
        return _again(stored, fingerprint)


def forget(*, now: datetime) -> int:
    """Delete what was kept long enough; the count."""
    return int(IdempotentAnswer.objects.filter(at__lte=now - KEPT).delete()[0])


# ---------------------------------------------------------------------- what was asked


def fingerprint_of(request: Request) -> str:
    """SHA-256 over method, address, media type and body. Of a form its parts count, not what stands between them.

    Reads the whole body; uploads are hashed where they were put down, in pieces.
    """
    media_type = request.META.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
    digest = sha256()
    for text in (str(request.method), request.get_full_path(), media_type):
        _add(digest, text.encode())
    if media_type in _FORMS:
        for part in _parts(request):
            _add(digest, part)
    else:
        _add(digest, request._request.body)
    return digest.hexdigest()


def _add(digest: Any, part: bytes) -> None:
    """With its length, so that no two sequences of parts are the same bytes."""
    digest.update(len(part).to_bytes(8, "big"))
    digest.update(part)


def _parts(request: Request) -> Iterator[bytes]:
    form: Any = request.data  # a QueryDict, as the media type is a form's
    for name, values in sorted(form.lists()):
        for value in values:
            yield name.encode()
            if isinstance(value, UploadedFile):
                yield f"file {value.name}".encode()
                yield _digest_of(value)
            else:
                yield f"text {value}".encode()


def _digest_of(file: Any) -> bytes:
    content = sha256()
    for chunk in file.chunks():
        content.update(chunk)
    file.seek(0)
    return content.digest()


# ---------------------------------------------------------------------- what was answered


def claim(user: Any, key: str, fingerprint: str, *, now: datetime, patience: timedelta = PATIENCE) -> IdempotentAnswer:
    """Take the key in the transaction of the work. Raises _Taken after another request's work was committed with it,
    Conflict when that one takes longer than ``patience``.
    """
    IdempotentAnswer.objects.filter(user=user, key=key, at__lte=now - KEPT).delete()
    try:
        _wait_for_locks(f"{int(patience.total_seconds() * 1000)}ms")
        with transaction.atomic():
            row = IdempotentAnswer.objects.create(
                user=user, key=key, fingerprint=fingerprint, status=NOT_KEPT, body=b"", at=now
            )
        _wait_for_locks("DEFAULT")
    except IntegrityError as taken:
        raise _Taken from taken
    except OperationalError as late:
        raise Conflict(f"A request with this {HEADER} is still being carried out: ask again.") from late
    return row


def _wait_for_locks(limit: str) -> None:
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(
                "SET LOCAL lock_timeout TO DEFAULT" if limit == "DEFAULT" else f"SET LOCAL lock_timeout = '{limit}'"
            )


def _stored(user: Any, key: str) -> IdempotentAnswer | None:
    recent = timezone.now() - KEPT
    return IdempotentAnswer.objects.filter(user=user, key=key, at__gt=recent).first()


def _keep(row: IdempotentAnswer, answer: Answer) -> None:
    row.headers = {name: answer.headers[name] for name in _HEADERS if name in answer.headers}
    content = _content(answer)
    if content is not None and len(content) <= LARGEST_ANSWER:
        row.status, row.body = answer.status_code, content
        row.headers["Content-Type"] = "application/json" if isinstance(answer, Response) else answer["Content-Type"]
    row.save(update_fields=["status", "headers", "body"])


def _content(answer: Answer) -> bytes | None:
    """An answer's bytes; None for one that streams."""
    if isinstance(answer, Response):
        return bytes(JSONRenderer().render(answer.data))
    return answer.content if isinstance(answer, HttpResponse) else None


def _again(stored: IdempotentAnswer, fingerprint: str) -> Answer:
    if stored.fingerprint != fingerprint:
        raise InvalidInput({HEADER: "This key came with another request before: each request has a key of its own."})
    if stored.status == NOT_KEPT:
        where = stored.headers.get("Location")
        raise Conflict(
            "This was carried out; its answer was too large to be kept." + (f" Look at {where}." if where else "")
        )
    return HttpResponse(bytes(stored.body), status=stored.status, headers={**stored.headers, REPLAYED: "true"})
