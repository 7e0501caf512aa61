"""Uploads by somebody who means harm (registry research, section 4.5): none reaches a file, a page or a process."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from audit import clock
from benchmarks.bombs import zipped
from registry.models import ArtifactFile, Blob, ModelVersion
from tests.builders import NOON, alice, person, registered_model
from tests.mlops.calls import Caller, problem, refused_fields
from tests.registry import world

pytestmark = pytest.mark.django_db

VERSIONS = "models/late-arrival/versions/"
BOUNDARY = "------------------------attack"


@pytest.fixture(autouse=True)
def _cheap_passwords(settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(autouse=True)
def _noon() -> Iterator[None]:
    with clock.at(NOON):
        yield


def part(name: str, content: bytes, *, filename: str | None = None, kind: str = "application/octet-stream") -> bytes:
    """A part of a form as nobody's library would write it: the name of the file goes in as it is."""
    file = f'; filename="{filename}"\r\nContent-Type: {kind}' if filename is not None else ""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
    return head.encode(errors="surrogateescape") + content + b"\r\n"


def send(*parts: bytes, media_type: str = f"multipart/form-data; boundary={BOUNDARY}", user: Any = None) -> Any:
    registered_model()
    body = b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()
    return Caller(user or alice()).client.post(f"/api/v1/{VERSIONS}", body, content_type=media_type)


def model(name: str = "model.skops", content: bytes | None = None, **changes: Any) -> bytes:
    return part("artifact", world.model_bytes() if content is None else content, filename=name, **changes)


def _files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# ---------------------------------------------------------------------- names

ELSEWHERE = [
    "../../../etc/cron.d/evil", "..\\\\..\\\\evil", "/etc/passwd", "//host/share", "C:\\\\evil.dll", "C:evil",
    "~/.bashrc",
    "%2e%2e%2fevil", "%252e%252e%252fevil", "..%5cevil", "a/../../evil", "./evil", ".", "..", "a//b", "evil\0.txt",
    "\u2024\u2024/evil", "\uff0e\uff0e\uff0fevil", "\u202etxt.exe", "evil.", "evil ", "x" * 300,
]  # fmt: skip


@pytest.mark.parametrize("name", ELSEWHERE)
@pytest.mark.parametrize("field", ["artifact", "files"])
def test_name__that_is_another_place__is_refused_and_nothing_is_written(data_root: Path, name: str, field: str) -> None:
    parts = [model(name)] if field == "artifact" else [model(), part("files", b"x", filename=name)]
    registered_model()
    before = _files_below(data_root)
    response = send(*parts)
    assert response.status_code in (400, 422), response.content
    assert _files_below(data_root) == before
    assert not ModelVersion.objects.exists()


@pytest.mark.parametrize("name", ["../model.skops", "%2e%2e/model.skops", "/etc/passwd", "model.skops/../../x", "..."])
def test_download__by_another_place__is_not_there(name: str) -> None:
    version = world.version()
    response = Caller(alice()).client.get(f"/api/v1/{VERSIONS}{version.number}/files/{name}")
    assert response.status_code == 404


def test_download__by_the_digest__is_not_there() -> None:
    version = world.version()
    path = f"{version.artifact_digest[:2]}/{version.artifact_digest}"
    assert problem(Caller(alice()).get(f"{VERSIONS}1/files/{path}"))[0] == 404


MARKUP = "<img src=x onerror=alert(1)>"


def test_markup__in_names_notes_and_claims__is_shown_as_text() -> None:
    claims = b'{"note": "<script>alert(2)</script>", "claims": {"<svg onload=alert(3)>": "<b>"}, "label": "<i>"}'
    response = send(model(MARKUP), part("files", b"x", filename="'><script>.txt"), part("lineage", claims))
    assert response.status_code == 201, response.content
    version = ModelVersion.objects.get()
    browser = Client()
    browser.force_login(person("root", is_superuser=True, is_staff=True))
    for page in (
        "/models/late-arrival/versions/1/",
        "/models/late-arrival/",
        f"/admin/registry/modelversion/{version.pk}/change/",
        "/admin/registry/modelversion/",
    ):
        text = browser.get(page).content.decode()
        for hostile in (MARKUP, "<script>alert(2)", "<svg onload", "'><script>.txt"):
            assert hostile not in text, page
    assert "&lt;img src=x onerror=alert(1)&gt;" in browser.get("/models/late-arrival/versions/1/").content.decode()


def test_markup__in_the_name_of_a_download__stays_inside_its_header() -> None:
    send(model(), part("files", b"x", filename="a;b=c\u00e9.txt"))
    response = Caller(alice()).get(f"{VERSIONS}1/files/a;b=c\u00e9.txt")
    assert b"".join(response.streaming_content) == b"x"
    assert response["Content-Disposition"] == "attachment; filename*=utf-8''a%3Bb%3Dc%C3%A9.txt"


# ---------------------------------------------------------------------- contents


class Evil:
    """Its pickle writes a file when it is loaded."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.proof), "w"))


@pytest.mark.parametrize(
    ("name", "protocol"), [*(("model.pkl", number) for number in range(6)), ("model.skops", 4), ("model.onnx", 2)]
)
def test_pickle__under_any_name__is_quarantined_and_never_run(tmp_path: Path, name: str, protocol: int) -> None:
    proof = tmp_path / "proof"
    response = send(model(name, pickle.dumps(Evil(proof), protocol)))
    assert (response.status_code, response.json()["load_class"]) == (201, "quarantined")
    assert "pickle" in response.json()["load_class_because"]
    assert not proof.exists()


def test_bomb__sent_as_a_model__is_quarantined() -> None:
    response = send(model(content=zipped({"schema.json": b"{}", "0.npy": bytes(300 * 2**20)})))
    assert response.json()["load_class"] == "quarantined"
    assert "times as many" in response.json()["load_class_because"]


@pytest.mark.parametrize("kind", ["text/html", "application/x-python-pickle", "image/svg+xml", "nonsense"])
def test_content_type__of_a_part__decides_nothing(kind: str) -> None:
    response = send(model(kind=kind))
    assert response.json()["load_class"] == "skops"
    download = Caller(alice()).get(f"{VERSIONS}1/files/model.skops")
    assert download["Content-Type"] == "application/octet-stream"
    assert b"".join(download.streaming_content) == world.model_bytes()


# ---------------------------------------------------------------------- forms


def test_form__two_models__are_refused() -> None:
    assert refused_fields(send(model(), model("other.skops", b"evil"))) == {"artifact"}


def test_form__two_lineages__are_refused() -> None:
    two = [part("lineage", text) for text in (b'{"seed": 1}', b'{"seed": 2}')]
    assert refused_fields(send(model(), *two)) == {"lineage"}


@pytest.mark.parametrize("name", ["path", "digest", "source", "artifact_location", "load_class", "registered_by"])
def test_form__part_that_is_not_known__is_refused(name: str) -> None:
    assert refused_fields(send(model(), part(name, b"file:///etc/passwd"))) == {name}
    assert refused_fields(send(model(), part(name, b"x", filename="x"))) == {name}


def test_form__text_where_a_file_is_needed__is_refused() -> None:
    assert refused_fields(send(part("artifact", b"/etc/passwd"))) == {"artifact"}
    assert refused_fields(send(model(), part("files", b"/etc/passwd"))) & {"files", "files.0"}


def test_form__file_where_a_text_is_needed__is_refused() -> None:
    assert refused_fields(send(model(), part("lineage", b"{}", filename="lineage.json"))) == {"lineage"}


def test_form__two_files_of_one_name__are_refused_whatever_their_case() -> None:
    files = [part("files", b"x", filename=name) for name in ("a.txt", "A.TXT")]
    assert refused_fields(send(model(), *files)) == {"files"}
    assert refused_fields(send(model("a.txt"), files[1])) == {"files"}


def test_form__more_files_than_a_version_has__is_refused() -> None:
    files = [part("files", b"x", filename=f"{number}.txt") for number in range(101)]
    assert send(model(), *files).status_code in (400, 422)
    assert not ModelVersion.objects.exists()


@pytest.mark.parametrize(
    "media_type", ["multipart/form-data", "text/html", "multipart/form-data; boundary=" + "x" * 300]
)
def test_form__of_another_kind__is_refused(media_type: str) -> None:
    assert send(model(), media_type=media_type).status_code in (400, 415)


def test_form__cut_short__registers_nothing_and_leaves_nothing(data_root: Path) -> None:
    registered_model()
    before = _files_below(data_root)
    body = model()[: len(world.model_bytes()) // 2]
    Caller(alice()).client.post(f"/api/v1/{VERSIONS}", body, content_type=f"multipart/form-data; boundary={BOUNDARY}")
    stored = {path for path in _files_below(data_root) - before if not path.startswith("artifacts/")}
    assert stored == set()


def test_form__too_large_as_it_arrives__is_refused_and_leaves_nothing(data_root: Path, settings: Any) -> None:
    registered_model()
    before = _files_below(data_root)
    settings.GATEHOUSE_MAX_ARTIFACT_BYTES = 1000
    assert refused_fields(send(model(content=b"x" * 1001))) == {"artifact"}
    assert refused_fields(send(model(content=b"x"), part("files", b"x" * 1001, filename="a"))) == {"files"}
    assert _files_below(data_root) == before
    assert not Blob.objects.exists()
    assert not ArtifactFile.objects.exists()
