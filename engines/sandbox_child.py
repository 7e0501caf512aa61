"""The last step before a child that is not trusted: give up every right it does not need, then become it.

``engines.sandbox`` starts this file as a script, ``python -I -S sandbox_child.py <plan as JSON> <argv ...>``, because a
``preexec_fn`` in a process with threads can deadlock. It imports the standard library only.

Where the system allows namespaces (Linux, unprivileged or root) the child gets no network, sees no process but its own
(so not our environment in ``/proc`` either), and finds the ``hidden`` folders empty. Whatever could not be set up is
said in the child's output, so that it is read with the run. Limits and the death with the parent hold everywhere on
Linux.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

# From <sched.h>, <sys/mount.h> and <sys/prctl.h>.
CLONE_NEWNS = 0x00020000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
MS_NOSUID_NODEV_NOEXEC = 2 | 4 | 8
MS_PRIVATE_RECURSIVE = (1 << 18) | 16384
PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38

INSIDE_ID = 1000
"""The user's number inside its namespace. Never 0: an exec as 0 would keep the right to undo the hiding."""


def main(arguments: Sequence[str]) -> NoReturn:
    plan: dict[str, Any] = json.loads(arguments[0])
    argv = list(arguments[1:])
    if plan["parent"] is not None:
        die_with(plan["parent"])
    if isolate():
        pid = os.fork()  # the first process after unshare(CLONE_NEWPID) is the new namespace's first
        if pid:
            finish_like(pid)
        die_with(0)  # the parent is outside the namespace and has the number 0 there
        private_mounts(plan["hidden"])
    else:
        notice("no namespaces on this system: the child has a network and reads what its user may read")
    limit(plan["limits"])
    _libc().prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    os.chdir(plan["cwd"])
    os.execvpe(argv[0], argv, os.environ)


def die_with(parent: int) -> None:
    """Be killed when the parent dies; leave at once when it is dead already."""
    if sys.platform == "linux":
        _libc().prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def isolate() -> bool:
    """Enter namespaces of our own: no network, no foreign processes, mounts that concern nobody else."""
    if sys.platform != "linux":
        return False
    user, group = os.geteuid(), os.getegid()
    if _libc().unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC):
        return False
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{INSIDE_ID} {user} 1")
    _write("/proc/self/gid_map", f"{INSIDE_ID} {group} 1")
    return True


def private_mounts(hidden: Sequence[str]) -> None:
    """A ``/proc`` of the own namespace, and nothing in the hidden folders."""
    libc = _libc()
    libc.mount(b"none", b"/", None, MS_PRIVATE_RECURSIVE, None)
    if libc.mount(b"proc", b"/proc", b"proc", MS_NOSUID_NODEV_NOEXEC, None):
        notice("/proc could not be replaced: the child sees the processes of its user")
    for folder in hidden:
        if libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", MS_NOSUID_NODEV_NOEXEC, b"size=4k"):
            notice(f"a folder could not be hidden: {os.strerror(ctypes.get_errno())}")


def limit(limits: Mapping[str, int]) -> None:
    """Set the resource limits, by their names in ``resource``, never above what we have ourselves."""
    for name, value in limits.items():
        number = getattr(resource, name)
        highest = resource.getrlimit(number)[1]
        allowed = value if highest == resource.RLIM_INFINITY else min(value, highest)
        resource.setrlimit(number, (allowed, allowed))


def finish_like(pid: int) -> NoReturn:
    """Wait for the child and end as it did."""
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


def notice(text: str) -> None:
    os.write(2, f"sandbox: {text}\n".encode())


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


if __name__ == "__main__":
    main(sys.argv[1:])
