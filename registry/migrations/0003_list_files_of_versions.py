"""Every version gets its manifest: before there were several files a version, its artifact was its only one."""

from __future__ import annotations

import hashlib
from typing import Any

from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

PAGE = 500


def list_files(apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    versions = apps.get_model("registry", "ModelVersion")
    files = apps.get_model("registry", "ArtifactFile")
    blobs = apps.get_model("registry", "Blob")
    _open_versions(schema_editor)
    for version in versions.objects.filter(files__isnull=True).order_by("registered_at", "pk").iterator(PAGE):
        line = f"{version.artifact_name}\0{version.artifact_digest}\0{version.artifact_bytes}\n"
        blob, _ = blobs.objects.get_or_create(
            digest=version.artifact_digest,
            defaults={"bytes": version.artifact_bytes, "stored_at": version.registered_at},
        )
        files.objects.create(version=version, path=version.artifact_name, role="model", blob=blob)
        digest = hashlib.sha256(line.encode()).hexdigest()
        versions.objects.filter(pk=version.pk).update(manifest_digest=digest)


def _open_versions(schema_editor: BaseDatabaseSchemaEditor) -> None:
    """The guard that keeps versions as they are stands aside for the new column; migrate installs it again."""
    on = ' ON "registry_modelversion"' if schema_editor.connection.vendor == "postgresql" else ""
    schema_editor.execute(f'DROP TRIGGER IF EXISTS "guard_registry_modelversion_update"{on}')


class Migration(migrations.Migration):
    dependencies = [("registry", "0002_files_holds_and_lineage")]

    # back: the rows go with their tables
    operations = [migrations.RunPython(list_files, migrations.RunPython.noop, elidable=False)]
