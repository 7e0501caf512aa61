"""Traffic: predictions, what really happened, and a prediction looked at again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from gatehouse.answers import Prediction, read
from gatehouse.calls.addresses import Calls, named
from gatehouse.graphs import Replay
from gatehouse.showing import Rows

LONGEST_REPLAY = 120.0
"""Seconds that the portal may take to recompute and score."""


class TrafficCalls(Calls):
    def predict(self, endpoint: str, rows: Sequence[Mapping[str, Any]]) -> list[Prediction]:
        """Ask an endpoint; each row has a ``request_id``, under which it counts once however often it is sent."""
        answer = self._wire.post(f"endpoints/{named(endpoint)}/predict/", {"rows": list(rows)}, repeat=True)
        return Rows(read(Prediction, row) for row in answer["rows"])

    def send_outcomes(self, endpoint: str, outcomes: Sequence[tuple[str, float, datetime]]) -> int:
        """What really happened: request_id, label and the prediction's ``at``. The count that was stored."""
        rows = [
            {"request_id": request_id, "label": label, "predicted_at": at.isoformat()}
            for request_id, label, at in outcomes
        ]
        answer = self._wire.post(f"endpoints/{named(endpoint)}/outcomes/", {"rows": rows}, repeat=True)
        return int(answer["stored"])

    def prediction(self, endpoint: str, request_id: str) -> Mapping[str, Any]:
        """A prediction as it was logged: inputs, score, who answered."""
        told: Mapping[str, Any] = self._wire.get(f"endpoints/{named(endpoint)}/predictions/{named(request_id)}/")
        return told

    def replay(self, endpoint: str, request_id: str) -> Replay:
        """Was it the code, the data, or both? Recomputes the features as of then, and scores again. Writes nothing."""
        path = f"endpoints/{named(endpoint)}/predictions/{named(request_id)}/replay/"
        return read(Replay, self._wire.post(path, {}, repeat=True, patience=LONGEST_REPLAY))
