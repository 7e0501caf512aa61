"""The client: what a pipeline, a CI job or a notebook asks of the portal, one method each (``gatehouse.calls``)."""

from __future__ import annotations

from types import TracebackType

import httpx

from gatehouse.calls.backends import BackendCalls
from gatehouse.calls.business_metrics import BusinessMetricCalls
from gatehouse.calls.endpoints import EndpointCalls
from gatehouse.calls.features import FeatureCalls
from gatehouse.calls.gates import GateCalls
from gatehouse.calls.lineage import LineageCalls
from gatehouse.calls.policies import PolicyCalls
from gatehouse.calls.record import RecordCalls
from gatehouse.calls.registry import RegistryCalls
from gatehouse.calls.rollouts import RolloutCalls
from gatehouse.calls.traffic import TrafficCalls
from gatehouse.wire import Retries, Wire


class Client(
    BackendCalls,
    BusinessMetricCalls,
    RegistryCalls,
    GateCalls,
    PolicyCalls,
    RolloutCalls,
    EndpointCalls,
    FeatureCalls,
    TrafficCalls,
    LineageCalls,
    RecordCalls,
):
    """A portal at ``url``, as the holder of ``token`` (``manage.py token USER --scope …`` prints one).

    Every method raises a ``GatehouseError`` when it is refused. When the portal does not answer or answers 502, 503 or
    504, it is asked again. What creates or decides (evidence, training requests, rollouts) carries an Idempotency-Key,
    the same with each retry, so that it happens once. Two things are tried once: ``change_model``, which names the
    state that it changes, and ``release_hold``.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout: float = 30.0,
        retries: Retries | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = url
        self._wire = Wire(url, token, timeout=timeout, retries=retries or Retries(), transport=transport)

    def __repr__(self) -> str:
        return f"<gatehouse.Client {self.url}>"

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._wire.close()
