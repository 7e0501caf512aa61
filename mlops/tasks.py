"""Background work that needs to know all apps."""

from __future__ import annotations

from django.conf import settings

from audit.models import Event
from jobs.run import Work, handler
from mlops import openlineage


@handler("mlops.emit_lineage", computes=True)
def emit_lineage(work: Work) -> None:
    """Tell the receiver of one event; tried again while it is not taken."""
    is_told = bool(settings.OPENLINEAGE_URL)  # it may have been switched off since
    if is_told:
        openlineage.send(openlineage.document(Event.objects.get(pk=work.payload["event"])))
    with work.finishing({"told": is_told}):
        return
