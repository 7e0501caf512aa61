"""Answer requests, a line of JSON each, one after another until the input ends."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.feast_peer.inside import definitions, measured, repository

COMMANDS: Mapping[str, Callable[..., dict[str, Any]]] = {
    "ready": dict,
    "write": repository.write,
    "historical": measured.historical,
    "materialize": measured.materialize,
    "read": measured.read,
    "served": measured.served,
    "order": measured.order,
    "add_view": definitions.add_view,
    "view_names": definitions.view_names,
    "view_version": definitions.view_version,
}


def main() -> None:
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what Feast prints is no answer
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = COMMANDS[request.pop("command")](**request)
        except Exception as error:  # noqa: BLE001  (the outermost frame: whoever asked is told)
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
