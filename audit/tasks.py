"""Background work of the trail: reactions to events, sealing the log, searching it for changes."""

from __future__ import annotations

from django.utils import timezone

from audit import answers, checkpoints, clock, verification
from audit.models import Event
from audit.trail import react
from jobs.run import Work, enqueue, handler


@handler("audit.react")
def react_to_event(work: Work) -> None:
    react(Event.objects.get(pk=work.payload["event"]), work.payload["verb"])


@handler("audit.seal", computes=True)
def seal(work: Work) -> None:
    """Sign a checkpoint, unless nothing was recorded since the last one."""
    checkpoint = checkpoints.make(now=clock.now())
    with work.finishing(result={"size": checkpoint.size if checkpoint else 0}):
        pass  # a checkpoint is whole by itself; done twice it is the same


@handler("audit.verify", computes=True)
def verify(work: Work) -> None:
    """Search the whole log and record what is wrong with it."""
    found = verification.of_the_log()
    with work.finishing(result={"events": found.events, "problems": len(found.problems)}):
        verification.report(found)


def ask_for_checkpoint(event: Event) -> None:
    """A reaction: what was just decided is sealed soon."""
    enqueue("audit.seal", key=f"audit.seal:{event.pk}")


@handler("audit.forget_answers")
def forget_answers(work: Work) -> int:
    """Answers to requests with an Idempotency-Key are kept for a day."""
    return answers.forget(now=timezone.now())
