"""Events recorded before the chain get their digest and their link, oldest first, in one go."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from django.db import migrations, models

from audit import canonical

BATCH = 2_000
GUARD = "guard_audit_event_update"


def seal(apps: Any, schema_editor: Any) -> None:
    """Fill digests and links. The guards come back with the others, after the migrations (audit.guards)."""
    event_model, link_model = apps.get_model("audit", "Event"), apps.get_model("audit", "Link")
    last = link_model.objects.order_by("-position").first()
    position, before = (last.position, last.hash) if last else (0, "")
    unlinked = event_model.objects.filter(link=None).order_by("id")
    if not unlinked.exists():
        return
    on = "" if schema_editor.connection.vendor == "sqlite" else " ON audit_event"
    schema_editor.execute(f"DROP TRIGGER IF EXISTS {GUARD}{on}")
    for events in _batches(unlinked.values_list("pk", flat=True)):
        links = []
        rows = event_model.objects.filter(pk__in=events).order_by("id")
        for event in rows:
            event.digest = digest(event)
            position, before = position + 1, canonical.link(before, event.pk, event.digest)
            links.append(link_model(position=position, event_id=event.pk, hash=before))
        event_model.objects.bulk_update(rows, ["digest"], batch_size=200)
        link_model.objects.bulk_create(links, batch_size=200)


def digest(event: Any) -> str:
    """What Event.content_digest said when this migration was written."""
    values = [
        event.name, event.subject_type, event.subject_id, event.subject_label, event.registered_model, event.actor_id,
        event.service, event.reason, event.cause_id, canonical.moment(event.at), canonical.moment(event.recorded_at),
    ]  # fmt: skip
    return canonical.digest(values, canonical.as_text(event.data))


def _batches(keys: Any) -> Iterator[list[int]]:
    waiting = iter(list(keys))
    while batch := list(islice(waiting, BATCH)):
        yield batch


class Migration(migrations.Migration):
    dependencies = [("audit", "0002_chain_reports_and_tokens")]

    operations = [
        migrations.CreateModel(
            name="Turn",
            fields=[("event_id", models.BigIntegerField(primary_key=True, serialize=False))],
        ),
        # knox's own table of tokens: ours took its place, and nothing else knows that it is there
        migrations.RunSQL("DROP TABLE IF EXISTS knox_authtoken", migrations.RunSQL.noop),
        migrations.RunPython(seal, migrations.RunPython.noop),
    ]
