"""A report as PDF, set by Typst from the canonical JSON. The same document gives the same bytes.

What a report says reaches the template as data (``report.json``), never as markup, so nothing in a name can run. No
network, no packages, no fonts of the machine, no date but none.
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import Any

import typst
from django.conf import settings

from mlops.dossier.documents import canonical
from mlops.templatetags.dossier import event_name

TEMPLATE = Path("templates", "dossier", "report.typ")


def render_pdf(document: dict[str, Any]) -> bytes:
    """The whole report on A4."""
    written = canonical(document)
    beside = {
        "digest": sha256(written).hexdigest(),
        "names": {str(each["id"]): event_name(each["content"]) for each in document["proof"]["events"]},
    }
    with TemporaryDirectory(prefix="gatehouse-report-") as folder:
        root = Path(folder)
        copyfile(Path(settings.BASE_DIR, TEMPLATE), root / "report.typ")
        (root / "report.json").write_bytes(written)
        (root / "page.json").write_text(json.dumps(beside))
        packages = root / "packages"  # none
        compiled = typst.compile(
            root / "report.typ",
            root=root,
            format="pdf",
            ignore_system_fonts=True,
            package_path=packages,
            package_cache_path=packages,
            timestamp=0,
        )
    assert isinstance(compiled, bytes)  # no output path was given
    return compiled
