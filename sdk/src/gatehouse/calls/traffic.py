"""Traffic: predictions, what really happened, and a prediction looked at again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from gatehouse import bodies
from gatehouse.answers import OutcomesLearned, Prediction, PredictionsKept, read
from gatehouse.bodies import Part
from gatehouse.calls.addresses import Calls, named
from gatehouse.errors import InvalidInput
from gatehouse.graphs import Replay
from gatehouse.showing import Rows

LONGEST_REPLAY = 120.0
"""Seconds that the portal may take to recompute and score."""
LONGEST_INTAKE = 120.0
"""Seconds that the portal may take to check and keep a part of many rows."""


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

    def log_predictions(self, endpoint: str, rows: Any) -> PredictionsKept:
        """Predictions that were served elsewhere: a list of mappings, a pandas frame or a pyarrow table.

        Each has ``request_id``, ``at``, ``version``, ``score`` (docs/api.md has the rest), and the model's inputs under
        their names. Sent again they count once, so after an error the whole may be sent again. Raises Conflict for an
        id that is known with another content, InvalidInput naming line and field of a part of up to 20,000 rows.
        """
        return self.push_predictions(endpoint, bodies.of_rows(rows))

    def push_predictions(self, endpoint: str, parts: Iterable[Part]) -> PredictionsKept:
        answers = [read(PredictionsKept, told) for told in self._pushed("predictions/", endpoint, parts)]
        stored, repeated = sum(each.stored for each in answers), sum(each.repeated for each in answers)
        return PredictionsKept(endpoint, stored, repeated, answers[-1].arrived_at)

    def log_outcomes(self, endpoint: str, rows: Any, *, metric: str | None = None) -> OutcomesLearned:
        """What really happened: rows with a ``label`` or with ``value`` of a business metric (``metric``, or the row's
        own), each of a ``request_id`` or an ``entity`` with ``at``. The latest of what is said again counts."""
        return self.push_outcomes(endpoint, bodies.of_rows(rows, **({"metric": metric} if metric else {})))

    def push_outcomes(self, endpoint: str, parts: Iterable[Part]) -> OutcomesLearned:
        answers = [read(OutcomesLearned, told) for told in self._pushed("outcomes/", endpoint, parts)]
        labels, values = sum(each.labels for each in answers), sum(each.values for each in answers)
        unmatched = sum(each.unmatched for each in answers)
        return OutcomesLearned(endpoint, labels, values, unmatched, answers[-1].arrived_at)

    def _pushed(self, path: str, endpoint: str, parts: Iterable[Part]) -> list[Mapping[str, Any]]:
        """The answer to each part. Raises ValueError when there is none."""
        answers = [self._push(path, endpoint, part) for part in parts]
        if not answers:
            raise ValueError("There is no row to send.")
        return answers

    def _push(self, path: str, endpoint: str, part: Part) -> Mapping[str, Any]:
        kind: dict[str, Any] = {"media_type": part.media_type, "patience": LONGEST_INTAKE}
        try:
            told: Mapping[str, Any] = self._wire.post_bytes(path, part.content, endpoint=endpoint, **kind)
        except InvalidInput as problem:
            if not part.before:
                raise
            where = f"(Counted from {part.before:,} lines on: those were sent before, and are kept.)"
            detail = f"{problem.detail} {where}"
            raise InvalidInput(detail, status=problem.status, title=problem.title, errors=problem.errors) from problem
        return told

    def prediction(self, endpoint: str, request_id: str) -> Mapping[str, Any]:
        """A prediction as it was logged: inputs, score, who answered."""
        told: Mapping[str, Any] = self._wire.get(f"endpoints/{named(endpoint)}/predictions/{named(request_id)}/")
        return told

    def replay(self, endpoint: str, request_id: str) -> Replay:
        """Was it the code, the data, or both? Recomputes the features as of then, and scores again. Writes nothing."""
        path = f"endpoints/{named(endpoint)}/predictions/{named(request_id)}/replay/"
        return read(Replay, self._wire.post(path, {}, repeat=True, patience=LONGEST_REPLAY))
