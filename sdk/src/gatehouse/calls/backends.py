"""Who splits an endpoint's traffic: our gateway, an nginx, a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gatehouse.answers import EndpointTraffic, read
from gatehouse.calls.addresses import Calls, named


class BackendCalls(Calls):
    def endpoint_traffic(self, endpoint: str) -> EndpointTraffic:
        """What should be routed, whether it is, and what looks can not judge there."""
        return read(EndpointTraffic, self._wire.get(f"endpoints/{named(endpoint)}/traffic/"))

    def set_endpoint_traffic(self, endpoint: str, traffic: Mapping[str, Any], *, reason: str) -> EndpointTraffic:
        """Let another backend split the traffic (duty: platform); ``{}`` is the portal's own gateway."""
        body = {"traffic": dict(traffic), "reason": reason}
        return read(EndpointTraffic, self._wire.post(f"endpoints/{named(endpoint)}/traffic/", body))

    def kserve_manifest(
        self,
        endpoint: str,
        *,
        storage_uri: str | None = None,
        namespace: str | None = None,
        model_format: str | None = None,
    ) -> str:
        """The endpoint's InferenceService as YAML, as its route is now. Unverified on a cluster: its top says so.

        ``storage_uri`` is needed unless the endpoint's own document says it: s3://models/{model}/{number}. Raises
        ValueError where there can be none.
        """
        answer = self._wire.get(
            f"endpoints/{named(endpoint)}/manifests/",
            kind="kserve",
            storage_uri=storage_uri,
            namespace=namespace,
            model_format=model_format,
        )
        if answer["manifest"] is None:
            raise ValueError(answer["problem"])
        return str(answer["manifest"])
