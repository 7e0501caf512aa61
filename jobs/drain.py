"""Work the queue off in this process, in order: what tests and the replay use instead of waiting for a worker.

It reads the same broker rows and calls the same function as a worker does.
"""

from __future__ import annotations

from django_q.models import OrmQ
from django_q.signing import SignedPackage

from jobs.run import run


def drain(*, limit: int = 10_000) -> int:
    """Answer every bell until none is left (also those rung by the work itself); the count of bells answered.

    Raises RuntimeError after ``limit`` bells: work that asks for itself for ever is a defect.
    """
    answered = 0
    while True:
        bells = list(OrmQ.objects.order_by("id")[:200])
        if not bells:
            return answered
        OrmQ.objects.filter(pk__in=[bell.pk for bell in bells]).delete()
        for bell in bells:
            task = SignedPackage.loads(bell.payload)
            if task["func"] == "jobs.run.run":
                run(*task["args"], renew=False)
            answered += 1
        if answered > limit:
            raise RuntimeError(f"More than {limit} jobs in one drain: something asks for itself for ever.")
