"""The queue's main process: ``python -m jobs.cluster <pid of the watchdog>``. Only the watchdog starts it.

It is django-q2's ``qcluster`` command, with every process of the cluster tied to its parent: whichever of watchdog,
main process and sentinel is killed, all below it die too, so that no orphan works on beside the next cluster.
"""

from __future__ import annotations

import os
import sys

import django

from jobs import process


def main(watchdog: int) -> None:
    """Start the cluster and return; the interpreter then waits for the sentinel to end."""
    process.die_with(watchdog)
    process.name_process(process.MAIN)
    process.tie_generations()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mlops.settings")
    django.setup()

    from django_q.cluster import Cluster
    from django_q.signals import post_spawn

    post_spawn.connect(_name_worker, dispatch_uid="jobs.cluster")
    Cluster().start()


def _name_worker(**kwargs: object) -> None:
    process.name_process(process.WORKER)


if __name__ == "__main__":
    main(int(sys.argv[1]))
