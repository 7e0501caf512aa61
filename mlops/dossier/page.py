"""A report as one HTML page: for reading, and for printing from a browser. No scripts."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

from django.template.loader import render_to_string

from mlops.dossier.documents import canonical

STYLE = Path(__file__).parent.parent / "static" / "gatehouse" / "dossier.css"


def render_html(document: dict[str, Any], *, stylesheet: str = "") -> str:
    """The page; its style stands in it unless ``stylesheet`` is an address."""
    digest = sha256(canonical(document)).hexdigest()
    context = {"document": document, "digest": digest, "stylesheet": stylesheet, "css": STYLE.read_text()}
    return render_to_string("dossier/report.html", context)
