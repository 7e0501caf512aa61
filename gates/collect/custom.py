"""The measurements that a pipeline posted of a version, as they were when the run began."""

from __future__ import annotations

from gates import reported
from gates.frozen import Frozen, Json
from gates.models import GateRun
from gates.policy import CustomCheck


def collect(check: CustomCheck, run: GateRun, frozen: Frozen) -> Json:
    """What comes while a run is measured belongs to the next one."""
    return reported.measurements(run, frozen.began)
