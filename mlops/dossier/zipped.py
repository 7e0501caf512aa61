"""A report as one file to hand over: JSON, HTML, PDF, the verifier, how to use it. Always the same bytes."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from audit.models import Report
from mlops.dossier.issuing import document_of, sealed
from mlops.dossier.page import render_html
from mlops.dossier.paper import render_pdf

VERIFIER = Path(__file__).parent / "verify_dossier.py"
EPOCH = (1980, 1, 1, 0, 0, 0)
README = """\
{title}
Log position {position}, SHA-256 {digest}

{name}.json   the report, canonical JSON (RFC 8785): this is what counts, and what was recorded in the log
{name}.html   the same for reading
{name}.pdf    the same on paper
verify_dossier.py   checks the JSON offline; needs Python 3.9 and nothing else

    python verify_dossier.py {name}.json --key PUBLIC_KEY --checkpoint CHECKPOINTS

Get the public key and the checkpoint file from somewhere else than this archive: from whoever keeps them for you.
Without them the verifier shows that the report was not changed since it was written, not who wrote it.
The digest in the log is over the JSON without its member "seal".
"""


def archive(report: Report) -> bytes:
    """The ZIP of an issued report. Raises Conflict like ``document_of``."""
    document = document_of(report)
    name = file_name(report)
    about = {"title": document["title"], "position": report.position, "digest": report.digest, "name": name}
    files = {
        f"{name}.json": sealed(report, document),
        f"{name}.html": render_html(document).encode(),
        f"{name}.pdf": render_pdf(document),
        "verify_dossier.py": VERIFIER.read_bytes(),
        "README.txt": README.format(**about).encode(),
    }
    whole = BytesIO()
    with ZipFile(whole, "w", ZIP_DEFLATED, compresslevel=6) as file:
        for path, content in files.items():
            entry = ZipInfo(path, EPOCH)
            entry.compress_type = ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            file.writestr(entry, content)
    return whole.getvalue()


def file_name(report: Report) -> str:
    """What a report's files are called, without an ending: letters, digits, '-' and '_' alone."""
    which = report.registered_model_name if report.kind == "dossier" else "incident"
    number = report.subject_label.rpartition(" v")[2] if report.kind == "dossier" else report.subject_id
    return f"{report.kind}-{which}-{number}-at-{report.position}".replace("incident-incident", "incident")
