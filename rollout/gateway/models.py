"""Warm models: loaded in the background, replayed against their warm-up kit, and only then ready.

A model is kept under its form (bytes and input columns), so a promoted candidate is warm already. What can not be
loaded, or gives other scores than were recorded, is refused and tried again after a while.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from engines.in_process import InProcessModel, open_model
from engines.skops_types import Unscorable
from rollout.gateway import kit_files
from rollout.gateway.table import Column, TableVersion

log = logging.getLogger(__name__)

RETRY_AFTER = 30.0
"""Seconds until what was refused is tried again: a file may be back."""
WARM_AFTER = 20
"""Requests after which a model that had no rows to be warmed with counts as warm."""
KEPT = 16
"""Forms kept loaded beyond those that are wanted: yesterday's champion may be tomorrow's fallback."""

Form = tuple[str, tuple[Column, ...]]


@dataclass
class Warm:
    """A loaded model. ``kit_rows``: recorded rows that it reproduced (None: no kit was there to compare with)."""

    model: InProcessModel
    kit_rows: int | None = None
    why: str = ""
    calls: int = 0

    @property
    def is_warm(self) -> bool:
        """Whether a latency measured now is that of a warm model."""
        return bool(self.kit_rows) or self.calls >= WARM_AFTER


@dataclass(frozen=True)
class _Refused:
    problem: str
    at: float


class Models:
    """The models of one gateway process. ``changed`` is called, from the loading thread, after each that is done."""

    def __init__(
        self,
        kits: Path,
        *,
        hosts: Sequence[str] = (),
        changed: Callable[[], None] = lambda: None,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kits, self._hosts, self._changed, self._seconds = kits, hosts, changed, seconds
        self._warm: dict[Form, Warm] = {}
        self._refused: dict[Form, _Refused] = {}
        self._wanted: dict[Form, TableVersion] = {}
        self._work = threading.Event()
        self._is_over = False
        self._thread: threading.Thread | None = None

    # ------------------------------------------------------------------ asked on every request

    def get(self, version: TableVersion) -> Warm | None:
        """The version's loaded model."""
        return self._warm.get(version.form)

    # ------------------------------------------------------------------ readiness (``settling.Readiness``)

    def is_loaded(self, version: TableVersion) -> bool:
        return version.form in self._warm

    def is_reproduced(self, version: TableVersion) -> bool:
        warm = self._warm.get(version.form)
        return warm is not None and warm.kit_rows is not None

    def is_refused(self, version: TableVersion) -> bool:
        return version.form in self._refused

    def problem(self, version: TableVersion) -> str:
        """What speaks against a version, or is missing; empty when nothing is."""
        refused = self._refused.get(version.form)
        if refused is not None:
            return refused.problem
        warm = self._warm.get(version.form)
        if warm is not None and warm.kit_rows is None:
            return "It has no warm-up kit yet, so nobody compared its scores here with those at its gates."
        return ""

    # ------------------------------------------------------------------ loading

    def want(self, versions: Iterable[TableVersion]) -> None:
        """Have these loaded; of the others the latest are kept."""
        self._wanted = {version.form: version for version in versions}
        spare = [form for form in list(self._warm) if form not in self._wanted]
        for form in spare[: max(0, len(spare) - KEPT)]:
            self._warm.pop(form, None)
        for form in [form for form in list(self._refused) if form not in self._wanted]:
            self._refused.pop(form, None)
        self._work.set()

    def start(self) -> None:
        """Load in the background from now on."""
        self._thread = threading.Thread(target=self._keep_loading, name="models", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._is_over = True
        self._work.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def load_due(self) -> bool:
        """Load what is wanted and not there, and compare what now has a kit; whether anything changed."""
        changed = False
        for form, version in list(self._wanted.items()):
            if self._is_over:
                break
            if self._is_due(form, version):
                self._load(form, version)
                self._changed()
                changed = True
        return changed

    def _keep_loading(self) -> None:
        while not self._is_over:
            self._work.wait(timeout=1.0)  # a kit may be there now, or a refused one be due
            self._work.clear()
            self.load_due()

    def _is_due(self, form: Form, version: TableVersion) -> bool:
        refused = self._refused.get(form)
        if refused is not None:
            return self._seconds() - refused.at >= RETRY_AFTER
        warm = self._warm.get(form)
        if warm is None:
            return True
        return warm.kit_rows is None and kit_files.place(self._kits, version.digest).exists()

    def _load(self, form: Form, version: TableVersion) -> None:
        """Load one, replay its kit, and say that it is ready, or why not."""
        try:
            known = self._warm.get(form)
            warm = Warm(known.model if known else self._opened(version))
            kit = kit_files.read(kit_files.place(self._kits, version.digest))
            if kit is not None:
                problem = kit_files.replay(warm.model, kit, tolerance=version.tolerance)
                if problem:
                    raise Unscorable(problem)
                warm.kit_rows, warm.why = len(kit), kit.why
        except (Unscorable, OSError, MemoryError, KeyError, pa.ArrowInvalid) as problem:
            said = str(problem) or type(problem).__name__
            log.error("%s is not ready: %s", version, said)
            self._warm.pop(form, None)
            self._refused[form] = _Refused(said, self._seconds())
            return
        self._refused.pop(form, None)
        self._warm[form] = warm

    def _opened(self, version: TableVersion) -> InProcessModel:
        if not version.path:
            raise Unscorable("Its artifact is gone or damaged.")
        return open_model(
            Path(version.path),
            load_class=version.load_class,
            columns=version.names,
            digest=version.digest,
            texts=[each.name for each in version.inputs if each.kind == "string"],
            hosts=self._hosts,
        )
