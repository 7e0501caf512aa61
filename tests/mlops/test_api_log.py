"""The log's checkpoints and public key over HTTP: enough to verify it elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

from audit import chain, checkpoints, signing
from audit.trail import record
from tests.audit.subjects import ROBOT, incident
from tests.builders import NOON, charlie
from tests.mlops.calls import Caller
from tests.mlops.reported import settle

pytestmark = pytest.mark.django_db


def write(cause: str) -> None:
    record("incident.seen", incident(cause), actor=ROBOT)
    settle()
    checkpoints.make(now=NOON)


def test_checkpoints__newest_first__verify_with_the_public_key() -> None:
    """Anybody with a token may collect them: hashes tell nothing of what happened."""
    caller = Caller(charlie())
    write("one")
    write("other")

    rows = caller.get("log/checkpoints/").json()["results"]
    state = caller.get("log/verification/").json()

    assert [row["size"] for row in rows] == [chain.head().position, chain.head().position - 1]
    key = signing.read_public_key(state["public_key"])
    for row in rows:
        assert signing.SignedCheckpoint(**row).holds({state["key_id"]: key})
    assert (state["position"], state["head"]) == (rows[0]["size"], rows[0]["head"])
    assert state["checkpoint"] == rows[0]


def test_verification__without_a_key_and_a_checkpoint__says_what_there_is(settings: Any) -> None:
    settings.MAKES_AUDIT_KEY = False
    caller = Caller(charlie())
    settle()

    state = caller.get("log/verification/").json()

    assert (state["checkpoint"], state["public_key"], state["key_id"]) == (None, "", "")
    assert state["head"] == chain.head().hash != ""
