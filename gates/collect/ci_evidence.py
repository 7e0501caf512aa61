"""The reports of CI about a version's code, as they were when the run began."""

from __future__ import annotations

from gates import reported
from gates.frozen import Frozen, Json
from gates.models import GateRun
from gates.policy import CiEvidenceCheck


def collect(check: CiEvidenceCheck, run: GateRun, frozen: Frozen) -> Json:
    """What comes while a run is measured belongs to the next one."""
    return reported.ci(run, frozen.began)
