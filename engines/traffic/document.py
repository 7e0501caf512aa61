"""What an endpoint says of its traffic: a small document, empty for our own gateway.

Nothing in it names a program or a folder of the machine that runs Gatehouse: those are the operator's settings
(``GATEHOUSE_NGINX_…``). Every value is of a form that can stand in a configuration file as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter

VERSION = re.compile(r"^(?P<model>[a-z][a-z0-9_-]*)-v(?P<number>[1-9][0-9]{0,9})$")
"""How a version is written in addresses, configurations and logs: ``delay-v4``."""

_HOST = r"(\[[0-9a-f:]+\]|[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?)"
_PLACED = r"(\{model\}|\{number\}|[A-Za-z0-9.-])+"

Address = Annotated[str, StringConstraints(pattern=rf"^{_HOST}:[1-9][0-9]{{0,4}}$", max_length=260)]
AddressTemplate = Annotated[str, StringConstraints(pattern=rf"^{_PLACED}:([1-9][0-9]{{0,4}})$", max_length=260)]
Header = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9-]*$", max_length=60)]
UriTemplate = Annotated[
    str, StringConstraints(pattern=r"^[a-z][a-z0-9]*://(\{model\}|\{number\}|[A-Za-z0-9._/-])+$", max_length=500)
]
DnsLabel = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", max_length=63)]
VersionName = Annotated[str, StringConstraints(pattern=VERSION.pattern, max_length=80)]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GatewayTraffic(_Document):
    """Our own gateway answers."""

    backend: Literal["gateway"] = "gateway"


class NginxTraffic(_Document):
    """An nginx in front of servers that somebody else runs, one for each version.

    ``upstream`` is where a version answers, such as ``delay-v{number}.models.internal:8080``; ``upstreams`` says so for
    single versions (``{"delay-v4": "10.0.0.4:8080"}``). ``rows``: who tells the prediction log of the requests; with
    ``intake`` nginx's own log is not read (your servers send their predictions, with scores and features).
    """

    backend: Literal["nginx"]
    listen: Annotated[
        str, StringConstraints(pattern=r"^(([0-9]{1,3}\.){3}[0-9]{1,3}|\[[0-9a-f:]+\]):[1-9][0-9]{0,4}$")
    ] = Field(description="Address and port on which nginx takes the endpoint's requests, such as 127.0.0.1:8701.")
    upstream: AddressTemplate | None = None
    upstreams: dict[VersionName, Address] = Field(default_factory=dict)
    entity_header: Header = "X-Entity"
    canary_timeout_ms: int = Field(default=1000, ge=1, le=600_000)
    timeout_ms: int = Field(default=10_000, ge=1, le=600_000)
    rows: Literal["nginx", "intake"] = "nginx"


class KServeTraffic(_Document):
    """KServe (v0.20 and later) on Kubernetes: Gatehouse writes the InferenceService, somebody else applies it."""

    backend: Literal["kserve"]
    namespace: DnsLabel = "default"
    storage_uri: UriTemplate = Field(description="Where a version's files lie, such as s3://models/{model}/{number}.")
    model_format: DnsLabel = "onnx"
    protocol_version: Literal["v1", "v2"] = "v2"
    min_replicas: int = Field(default=2, ge=1, le=1000)


Traffic = GatewayTraffic | NginxTraffic | KServeTraffic
_READER: TypeAdapter[Traffic] = TypeAdapter(Annotated[Traffic, Field(discriminator="backend")])


def read_document(document: Mapping[str, Any]) -> Traffic:
    """The document of an endpoint; an empty one is our own gateway. Raises pydantic's ValidationError."""
    return _READER.validate_python(dict(document)) if document else GatewayTraffic()


def version_name(model: str, number: int) -> str:
    """How a version is written here: ``delay-v4``."""
    return f"{model}-v{number}"


def placed(template: str, version: str) -> str:
    """A template with a version's model and number in it; ValueError when it is not written as one."""
    found = VERSION.match(version)
    if found is None:
        raise ValueError(f"{version!r} does not name a version, such as delay-v4")
    return template.replace("{model}", found["model"]).replace("{number}", found["number"])
