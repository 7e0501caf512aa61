"""What the kernel is told about the queue's processes: die with your parent, carry a name that ``ps`` shows.

Linux only (prctl); elsewhere these functions do nothing and the watchdog's kill of the process group has to do.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

# From <sys/prctl.h>.
PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15

MAIN = "gatehouse-main"
SENTINEL = "gatehouse-guard"
AUXILIARY = "gatehouse-queue"  # pusher and monitor
WORKER = "gatehouse-work"
WATCHDOG = "gatehouse-watch"

_GENERATIONS = (MAIN, SENTINEL, AUXILIARY)
_generation = 0
_parent = 0


def name_process(name: str) -> None:
    """Show ``name`` (at most 15 bytes) in ps, top and /proc/<pid>/comm."""
    _prctl(PR_SET_NAME, ctypes.c_char_p(name.encode()))


def die_with(parent: int) -> None:
    """Ask the kernel to kill this process when its parent goes; ends at once where the parent has gone already."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def tie_generations() -> None:
    """Tie the sentinel to this process, and the sentinel's children to the sentinel, as they are forked.

    multiprocessing leaves orphans when a parent is killed: they hold the queue's locks or work beside a new cluster.
    Processes further down are left alone: they belong to the work that starts them.
    """
    os.register_at_fork(before=_remember_parent, after_in_child=_tie_child)


def _remember_parent() -> None:
    global _parent
    _parent = os.getpid()


def _tie_child() -> None:
    global _generation
    _generation += 1
    if _generation < len(_GENERATIONS):
        die_with(_parent)
        name_process(_GENERATIONS[_generation])


def _prctl(option: int, argument: object) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, argument, 0, 0, 0)
