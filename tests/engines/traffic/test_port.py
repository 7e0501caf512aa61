"""Splits and documents: what they may say, and how a difference reads."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from engines.traffic.document import GatewayTraffic, NginxTraffic, placed, read_document
from engines.traffic.port import Split, in_words

NGINX = {"backend": "nginx", "listen": "127.0.0.1:8701"}


@pytest.mark.parametrize("fields", [{"share": 1.5}, {"share": 0.1}, {"share": 0.1, "candidate": "delay-v4"}])
def test_split__that_says_nothing_sensible__is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="share"):
        Split("delay-v3", **fields)


def test_split__as_dict__comes_back() -> None:
    split = Split("delay-v3", "delay-v4", 0.1, "5a17", 2, fallback=0.2)
    assert Split.from_dict(split.as_dict()) == split


def test_weights__stopped__are_nobodys() -> None:
    assert Split("delay-v3", "delay-v4", 0.1, "5a17", stopped=True).weights == {}


def test_in_words__a_step__says_who_gets_how_much() -> None:
    was, want = Split("delay-v3", "delay-v4", 0.1, "5a17", 1), Split("delay-v3", "delay-v4", 0.25, "5a17", 2)
    assert in_words(was, want) == (
        "delay-v3: 0.9 → 0.75 of the entities.",
        "delay-v4: 0.1 → 0.25 of the entities.",
        "Step 1 → 2.",
    )


def test_in_words__kill_switch__comes_first() -> None:
    assert in_words(Split("delay-v3"), Split("delay-v3", stopped=True))[0].startswith("Kill switch pulled")
    assert in_words(Split("delay-v3", stopped=True), Split("delay-v3"))[0] == "Kill switch released."


def test_in_words__the_same__says_so() -> None:
    assert in_words(Split("delay-v3"), Split("delay-v3")) == ("Nothing changes.",)


def test_document__empty__is_our_own_gateway() -> None:
    assert read_document({}) == GatewayTraffic()


def test_document__of_nginx__is_read() -> None:
    found = read_document({**NGINX, "upstream": "{model}-v{number}.models.internal:8080"})
    assert isinstance(found, NginxTraffic)
    assert found.upstream is not None
    assert placed(found.upstream, "delay-v4") == "delay-v4.models.internal:8080"


@pytest.mark.parametrize(
    "document",
    [
        {"backend": "apache"},
        {"backend": "nginx"},
        {**NGINX, "listen": "80; include /etc/passwd"},
        {**NGINX, "upstream": "v{number}.internal:8080; }"},
        {**NGINX, "upstream": "v{number}.internal"},
        {**NGINX, "upstreams": {"delay-v4": "unix:/run/x.sock"}},
        {**NGINX, "upstreams": {"latest": "10.0.0.4:80"}},
        {**NGINX, "entity_header": "X-Entity: a"},
        {**NGINX, "command": "rm -rf /"},
        {"backend": "kserve", "storage_uri": "/models"},
        {"backend": "kserve", "storage_uri": "s3://m/{model}", "namespace": "Not A Label"},
    ],
)
def test_document__that_can_not_be__is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        read_document(document)
