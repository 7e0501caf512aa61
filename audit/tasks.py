"""The job that carries out a reaction to an event."""

from audit.models import Event
from audit.trail import react
from jobs.run import Work, handler


@handler("audit.react")
def react_to_event(work: Work) -> None:
    react(Event.objects.get(pk=work.payload["event"]), work.payload["verb"])
