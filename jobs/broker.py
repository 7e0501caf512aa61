"""django-q2's ORM broker, with three things it lacks.

Bells are fetched in the order they were rung. Several clusters may share the database, and a watchdog has to know that
*its* cluster answers, so each cluster also listens to a queue that only its watchdog rings. And a bell that was fetched
says by whom, so that what a killed cluster had fetched can be handed back at once.
"""

from __future__ import annotations

from time import sleep

from django.conf import settings
from django.utils import timezone
from django_q.brokers.orm import ORM
from django_q.conf import Conf
from django_q.models import OrmQ


def own_queue(worker: str) -> str:
    """Name of the queue that only this worker's cluster hears."""
    return f"{Conf.CLUSTER_NAME}@{worker}"


def fetched_queue(worker: str) -> str:
    """Name under which the bells stand that this worker's cluster has fetched and not yet acknowledged."""
    return f"{own_queue(worker)}/fetched"


def hand_back(worker: str) -> None:
    """After the death of a worker's cluster: withdraw its watchdog's questions, let others hear what it had fetched."""
    OrmQ.objects.filter(key=own_queue(worker)).delete()
    OrmQ.objects.filter(key=fetched_queue(worker)).update(key=Conf.CLUSTER_NAME, lock=timezone.now())


class Bells(ORM):  # type: ignore[misc]  # django-q2 has no type information
    """``dequeue`` as in the parent class, but ordered, over two queues, and signed."""

    def dequeue(self) -> list[tuple[int, str]] | None:
        """Up to ``bulk`` bells as (acknowledgement id, signed task); None after a pause when there is none."""
        queues = [self.list_key]
        if settings.GATEHOUSE_WORKER_ID:
            queues.append(own_queue(settings.GATEHOUSE_WORKER_ID))
        waiting = self.get_connection().filter(key__in=queues, lock__lt=timezone.now())
        # "gatehouse@host" sorts after "gatehouse": the watchdog's question goes before the work.
        bells = list(waiting.order_by("-key", "id")[: Conf.BULK])
        if not bells:
            sleep(Conf.POLL)
            return None
        return [(bell.pk, bell.payload) for bell in bells if self._lock(bell)]

    def _lock(self, bell: OrmQ) -> bool:
        """False when another cluster was faster."""
        worker = settings.GATEHOUSE_WORKER_ID
        key = fetched_queue(worker) if worker and bell.key == self.list_key else bell.key
        mine = self.get_connection().filter(pk=bell.pk, key=bell.key, lock=bell.lock)
        return bool(mine.update(key=key, lock=self.timeout(bell)))
