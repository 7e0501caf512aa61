"""A request has one name, in its answer, its refusal and the log."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from django.test import Client

from mlops import request_ids
from tests.mlops.calls import problem


def test_refusal__carries_the_callers_name_for_it() -> None:
    response = Client(headers={"X-Request-ID": "deploy-7.a_b"}).get("/api/v1/nothing/")

    assert response["X-Request-ID"] == "deploy-7.a_b"
    assert problem(response)[1]["request_id"] == "deploy-7.a_b"


@pytest.mark.parametrize("given", ["", "two words", "x" * 65, "<b>", "line\\nbreak"])
def test_name__that_is_no_plain_word__is_replaced(given: str) -> None:
    response = Client(headers={"X-Request-ID": given}).get("/api/v1/nothing/")

    assert response["X-Request-ID"] != given
    assert len(response["X-Request-ID"]) == 32


def test_log__has_the_name_of_the_request_and_none_outside() -> None:
    record: Any = logging.LogRecord("x", logging.INFO, "", 1, "", None, None)
    request_ids.Named().filter(record)

    assert record.request_id == "-"
