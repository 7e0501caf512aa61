"""HTML, PDF and ZIP of a report: nothing in a name runs, every hash stands in full, the same bytes each time."""

from __future__ import annotations

import io
import json
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import typst
from django.conf import settings

from mlops import dossier
from mlops.dossier.paper import TEMPLATE
from tests.builders import NOON, audrey
from tests.mlops import reported
from tests.mlops.reported import sealed_position, settle

pytestmark = pytest.mark.django_db

NASTY = [
    '#panic("ran")',
    "<script>alert(1)</script>",
    '"); #set page(fill: red)',
    "$ sum $ *b* _i_ \\ @x <l> // /* `",
    "\u202e",
]


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.add(tag)


def tags(page: str) -> set[str]:
    parser = Tags()
    parser.feed(page)
    return parser.seen


@pytest.fixture
def document() -> dict[str, Any]:
    return dossier.build(reported.world()["champion"], position=sealed_position())


def test_html__texts_with_markup__are_shown_not_run(document: dict[str, Any]) -> None:
    document["title"] = " ".join(NASTY)
    page = dossier.render_html(document)
    assert "script" not in tags(page)
    assert "&lt;script&gt;alert(1)" in page


def test_html__every_digest__stands_in_full(document: dict[str, Any]) -> None:
    page = dossier.render_html(document)
    proof = document["proof"]
    hashes = [each[name] for each in proof["events"] for name in ("digest", "link")]
    for wanted in [*hashes, proof["checkpoint"]["root"], proof["checkpoint"]["signature"], proof["public_key"]]:
        assert wanted in page


def test_html__for_download__needs_no_other_file(document: dict[str, Any]) -> None:
    assert "link" not in tags(dossier.render_html(document))
    assert "style" not in tags(dossier.render_html(document, stylesheet="/static/dossier.css"))


def test_pdf__texts_with_markup__are_data(document: dict[str, Any]) -> None:
    document["title"] = " ".join(NASTY)
    document["sections"][0]["fields"][0]["value"] = NASTY
    document["sections"][0]["fields"][1]["value"] = {"columns": NASTY, "rows": [NASTY]}
    document["sections"][0]["fields"][1]["label"] = NASTY[0]
    assert dossier.render_pdf(document).startswith(b"%PDF-")


def test_pdf__rendered_twice__the_same_bytes(document: dict[str, Any]) -> None:
    first = dossier.render_pdf(document)
    typst.compile(b"something else in between")
    assert dossier.render_pdf(json.loads(dossier.canonical(document))) == first


def test_pdf_template__takes_no_package_and_no_other_file() -> None:
    text = Path(settings.BASE_DIR, TEMPLATE).read_text()
    for word in ("@preview", "#import", "#include", "datetime", "read("):
        assert word not in text
    assert text.count('json("') == 2


def test_zip__of_a_report__has_every_form_the_verifier_and_how_to_use_it() -> None:
    world = reported.world()
    settle()
    report = dossier.issue(world["champion"], actor=audrey(), now=NOON)
    settle()
    with zipfile.ZipFile(io.BytesIO(dossier.archive(report))) as file:
        stem = f"dossier-delay-arrival-1-at-{report.position}"
        assert sorted(file.namelist()) == sorted(
            [f"{stem}.json", f"{stem}.html", f"{stem}.pdf", "verify_dossier.py", "README.txt"]
        )
        assert report.digest in file.read("README.txt").decode()
        assert json.loads(file.read(f"{stem}.json"))["seal"]["digest"] == report.digest
