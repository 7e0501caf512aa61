"""Models, their versions with files and lineage, what keeps them, what only people know of them, training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from gatehouse.answers import Model, TrainingRun, Version, read
from gatehouse.calls.addresses import Calls, below_model, below_version, named
from gatehouse.records import Card, Hold, Manifest
from gatehouse.showing import Rows

BYTES = "application/octet-stream"


class RegistryCalls(Calls):
    # ------------------------------------------------------------------ models

    def models(self) -> list[Model]:
        """The models that this token may see, by name."""
        return Rows(read(Model, row) for row in self._wire.pages("models/"))

    def model(self, name: str) -> Model:
        """With its pipelines, and the ETag of the state that was read."""
        told, etag = self._wire.get_tagged(below_model(name))
        return replace(read(Model, told), etag=etag)

    def change_model(
        self,
        name: str,
        *,
        etag: str,
        reason: str,
        title: str | None = None,
        description: str | None = None,
        tier: str | None = None,
        data_science: str | None = None,
        platform: str | None = None,
        product: str | None = None,
    ) -> Model:
        """Change what is said of a model, its tier or its owner groups; what is not given stays.

        ``etag`` is that of the model as you read it. Raises Conflict when it was changed since (read it again).
        """
        owners = {"data_science": data_science, "platform": platform, "product": product}
        wanted = {"title": title, "description": description, "tier": tier, "owners": _given(owners) or None}
        told, new = self._wire.patch(below_model(name), {**_given(wanted), "reason": reason}, etag=etag)
        return replace(read(Model, told), etag=new)

    def card(self, model: str) -> Card:
        """What only people know of a model: purpose, limits, oversight. Raises NotFound before the first."""
        told, etag = self._wire.get_tagged(f"{below_model(model)}card/")
        return replace(read(Card, told), etag=etag)

    def write_card(self, model: str, content: Mapping[str, Any], *, reason: str, etag: str = "") -> Card:
        """The whole card anew; a field left out is unsaid. With ``etag`` only over the card that you read."""
        body = {"content": dict(content), "reason": reason}
        told, new = self._wire.put(f"{below_model(model)}card/", body, etag=etag)
        return replace(read(Card, told), etag=new)

    # ------------------------------------------------------------------ versions

    def versions(self, model: str) -> list[Version]:
        """Newest first."""
        return Rows(read(Version, row) for row in self._wire.pages(f"{below_model(model)}versions/"))

    def version(self, model: str, number: int) -> Version:
        """With its lineage."""
        return read(Version, self._wire.get(below_version(model, number)))

    def register_version(
        self,
        model: str,
        artifact: Path | str,
        *,
        files: Sequence[Path | str] = (),
        service: str | None = None,
        dataset: str | None = None,
        label: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        importance: Mapping[str, float] | None = None,
        commit: str | None = None,
        dirty: bool | None = None,
        code_digest: str | None = None,
        environment: Mapping[str, Any] | None = None,
        environment_lock: str | None = None,
        seed: int | None = None,
        signature: Mapping[str, Any] | None = None,
        claims: Mapping[str, Any] | None = None,
        note: str | None = None,
    ) -> Version:
        """Register a model file with what it was made from; the same content again is the same version.

        ``files`` lie beside it (its documentation, a sample) under their own names. ``service`` is name@number,
        ``dataset`` a digest, ``code_digest`` that of ``gatehouse.code_digest(folder)``, ``environment_lock`` the text
        of a lock file. ``claims`` are what you say of yourself: kept, not believed. What is not given is shown as
        unverified.
        """
        lineage = {
            "service": service,
            "dataset": dataset,
            "label": label,
            "parameters": parameters,
            "metrics": metrics,
            "importance": importance,
            "commit": commit,
            "dirty": dirty,
            "code_digest": code_digest,
            "environment": environment,
            "environment_lock": environment_lock,
            "seed": seed,
            "signature": signature,
            "claims": claims,
            "note": note,
        }
        return self._upload_version(model, _given(lineage), Path(artifact), [Path(file) for file in files])

    def _upload_version(self, model: str, lineage: Mapping[str, Any], artifact: Path, files: Sequence[Path]) -> Version:
        parts = [("artifact", artifact), *(("files", file) for file in files)]
        form = {"lineage": json.dumps(lineage)}

        def send(http: httpx.Client, headers: Mapping[str, str]) -> httpx.Response:
            with ExitStack() as opened:
                sent = [(part, (path.name, opened.enter_context(path.open("rb")), BYTES)) for part, path in parts]
                return http.post(f"{below_model(model)}versions/", data=form, files=sent, headers=headers)

        return read(Version, self._wire.upload(send))

    def files(self, model: str, number: int) -> Manifest:
        """The files of a version with their digests."""
        return read(Manifest, self._wire.get(f"{below_version(model, number)}files/"))

    def download(self, model: str, number: int, path: str, to: Path | str) -> Path:
        """Save a file of a version; its bytes are compared with the digest that they were registered with."""
        target = Path(to)
        target = target / path.rsplit("/", 1)[-1] if target.is_dir() else target
        address = "/".join(named(part) for part in path.split("/"))
        self._wire.download(f"{below_version(model, number)}files/{address}", target)
        return target

    # ------------------------------------------------------------------ holds

    def holds(self, model: str, number: int) -> list[Hold]:
        """Newest first; one stands while ``released_at`` is None."""
        return Rows(read(Hold, row) for row in self._wire.get(f"{below_version(model, number)}hold/"))

    def place_hold(self, model: str, number: int, *, reason: str) -> Hold:
        """Nothing of the version may be removed from now on."""
        return read(Hold, self._wire.post(f"{below_version(model, number)}hold/", {"reason": reason}))

    def release_hold(self, model: str, number: int, *, reason: str) -> Hold:
        """By an auditor, and not by who placed it."""
        return read(Hold, self._wire.delete(f"{below_version(model, number)}hold/", reason=reason))

    # ------------------------------------------------------------------ training

    def request_training(
        self,
        model: str,
        pipeline: str,
        *,
        window: Mapping[str, Any],
        reason: str,
        parameters: Mapping[str, Any] | None = None,
    ) -> TrainingRun:
        """Ask the portal to train; one training may be open per model (Conflict)."""
        body = {"pipeline": pipeline, "window": window, "reason": reason, "parameters": parameters or {}}
        return read(TrainingRun, self._wire.post(f"{below_model(model)}training-runs/", body))

    def training_run(self, model: str, id: int) -> TrainingRun:
        return read(TrainingRun, self._wire.get(f"{below_model(model)}training-runs/{id}/"))


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
