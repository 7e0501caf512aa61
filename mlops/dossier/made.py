"""What a version is and what it was made from: identity, data, development. All of it is fixed at registration."""

from __future__ import annotations

from itertools import groupby

from features.models import FeatureServiceFeature
from mlops.dossier.case import Case
from mlops.dossier.fields import Section, moment, number, pairs, said, table, told
from mlops.dossier.log import evidence, first, sha256
from registry.models import ArtifactFile, Conversion, ModelVersion

NO_FILES = "one file, named above"


def identity(case: Case) -> Section:
    """Which bytes this is about, and who handed them in."""
    version, registered = case.version, evidence(case.registered)
    artifact = [*registered, *sha256(version.artifact_digest)]
    title, titled = case.of_model("title")
    task, tasked = case.of_model("task")
    served, served_by = _served_form(case)
    return Section(
        "identity",
        "Identity",
        (
            "EU AI Act Annex IV (1): general description",
            "ISO/IEC 42001 A.6.2.7: technical documentation",
            "NIST AI RMF GOVERN 1.6: inventory",
        ),
        (
            told("model", "Registered model", version.registered_model.name, registered),
            told("title", "Title", title, evidence(titled)),
            told("version", "Version", version.number, registered),
            told("task", "Task", task, evidence(tasked)),
            told("artifact", "Artifact, SHA-256", version.artifact_digest, artifact),
            told("artifact_name", "File name as handed in", version.artifact_name, registered),
            told("artifact_bytes", "Size in bytes", number(version.artifact_bytes), artifact),
            told("load_class", "Load class", version.load_class, registered),
            told("served_form", "Form that is scored", served, served_by),
            told("manifest", "Manifest, SHA-256", version.manifest_digest, sha256(version.manifest_digest)),
            told("files", "Files", _files(version), sha256(version.manifest_digest)),
            told("content", "Content digest (artifact and lineage)", version.content_digest, registered),
            told("signature", "Input columns", list(version.input_columns) or None, registered),
            told("output", "Output", version.signature.get("output") and str(version.signature["output"]), registered),
            told("registered_at", "Registered", moment(version.registered_at), registered),
            told("registered_by", "Registered by", case.log.author(case.registered), registered),
            told("registered_with", "Credential", version.registered_with or None, registered),
            told("claims", "Claims of the registrant (kept, not believed)", _claims(version), registered),
            told("source_run", "Source run", _source_run(case), evidence(*case.log.about(case.run)[-1:])),
            told("note", "What is new in it, in the registrant's words", version.note or None, registered),
        ),
    )


def _served_form(case: Case) -> tuple[str | None, list[str]]:
    """What is loaded to score: its own file, or the ONNX made of it, once the log tells of the comparison."""
    conversion = Conversion.objects.filter(version=case.version).first()
    compared = first(case.log.about(case.version), "model_version.converted")
    if conversion is None or compared is None:
        return f"the artifact itself ({case.version.load_class})", evidence(case.registered)
    digest = conversion.blob_id if conversion.outcome == "used" else None
    told_of = f"{conversion.get_outcome_display()}. {conversion.reason}"
    return (f"{told_of} SHA-256 {digest}" if digest else told_of), [*evidence(compared), *sha256(digest)]


def _files(version: ModelVersion) -> object:
    rows = ArtifactFile.objects.filter(version=version).select_related("blob").order_by("path")
    cells = [(row.path, row.role, number(row.blob.bytes), row.blob_id) for row in rows]
    return table(("Path", "Role", "Bytes", "SHA-256"), cells, none=NO_FILES)


def _claims(version: ModelVersion) -> object:
    return pairs(version.claims, none="none made") if version.claims else "none made"


def _source_run(case: Case) -> str | None:
    run = case.run
    if run is None:
        return None
    return f"{run.pipeline} run {run.pk}, asked for by {run.trigger}"


# ---------------------------------------------------------------------- data


def data(case: Case) -> Section:
    """What it learned from and what it is given, down to the sources."""
    version, dataset, service = case.version, case.version.dataset, case.version.service
    made = case.log.about_shared(dataset) if dataset else []
    proof = [*evidence(case.registered, *made[:1]), *sha256(dataset.digest if dataset else None)]
    features = [*evidence(case.registered), *sha256(service.content_hash if service else None)]
    card, written = case.card
    words = card.content if card else {}
    return Section(
        "data",
        "Data",
        (
            "EU AI Act Art. 10: data and data governance",
            "EU AI Act Annex IV (2)(d): data requirements",
            "ISO/IEC 42001 A.7: data for AI systems, provenance (A.7.5)",
        ),
        (
            told("dataset", "Training dataset, digest of its full content", dataset and dataset.digest, proof),
            told("dataset_rows", "Rows", dataset and dataset.rows, proof),
            told("dataset_from", "First instant asked for", dataset and moment(dataset.time_from), proof),
            told("dataset_to", "Last instant asked for", dataset and moment(dataset.time_to), proof),
            told("dataset_as_of", "Nothing that arrived after", dataset and moment(dataset.as_of), proof),
            told("dataset_engine", "Computed by", dataset and dataset.engine, proof),
            told("label", "Label", version.label or (dataset and dataset.label), proof),
            told("timestamp", "Time column of the examples", dataset and dataset.timestamp, proof),
            told("service", "Feature service (pinned)", service and str(service), features),
            told("service_hash", "Feature service, content hash", service and service.content_hash, features),
            told("request_features", "Columns of the request", _request_features(case), features),
            told("features", "Features by view version", _features(case), features),
            told("transforms", "Computed at request time", _transforms(case), features),
            told("sources", "Data sources", _sources(case), features),
            told("feature_approval", "Who published the feature views", *_published(case)),
            told("importance", "Share of importance per feature", _importance(version), evidence(case.registered)),
            told("holdouts", "Holdouts of the gates", *_holdouts(case)),
            said("known_gaps", "Known gaps", words.get("known_gaps"), evidence(written)),
            said("personal_data", "Personal data", words.get("personal_data"), evidence(written)),
            said("data_retention", "Retention of the data", words.get("data_retention"), evidence(written)),
        ),
    )


def _request_features(case: Case) -> object:
    service = case.version.service
    return (list(service.request_features) or "none") if service else None


def _pinned(case: Case) -> list[FeatureServiceFeature]:
    return case.version.service.pinned() if case.version.service else []


def _features(case: Case) -> object:
    if case.version.service is None:
        return None
    rows = []
    for view_version, pinned in groupby(_pinned(case), key=lambda each: each.view_version):
        names = ", ".join(each.feature for each in pinned)
        rows.append((str(view_version), names, view_version.content_hash))
    return table(("View version", "Features", "Meaning, SHA-256"), rows, none="none from the store")


def _transforms(case: Case) -> object:
    if case.version.service is None:
        return None
    rows = [(str(each), ", ".join(each.inputs), each.content_hash) for each in case.version.service.pinned_transforms()]
    return table(("Transform", "Of", "Code, SHA-256"), rows, none="none")


def _views(case: Case) -> list[object]:
    return list({each.view_version_id: each.view_version for each in _pinned(case)}.values())


def _sources(case: Case) -> object:
    if case.version.service is None:
        return None
    rows = sorted(
        (source.name, str(view))
        for view in _views(case)
        for source in view.sources.order_by("name")  # type: ignore[attr-defined]
    )
    return table(("Source", "Read by"), rows, none="none")


def _published(case: Case) -> tuple[object, list[str]]:
    views = _views(case)
    if not views:
        return None, []
    events = case.log.about_many(views, name="feature_view_version.published")  # type: ignore[arg-type]  # rows
    rows = [(event.subject_label, moment(event.at), case.log.author(event), event.reason) for event in events]
    return table(("View version", "Published", "By", "Why"), rows, none="the log does not tell"), evidence(*events)


def _importance(version: ModelVersion) -> object:
    shares = sorted(version.importance.items(), key=lambda item: (-item[1], item[0]))
    return table(("Feature", "Share"), shares, none="") or None


def _holdouts(case: Case) -> tuple[object, list[str]]:
    run = case.judged
    if run is None or run.holdout is None:
        return None, []
    held = run.holdout
    cells = [(held.digest, held.rows, moment(held.time_from), moment(held.time_to))]
    told_by = [*evidence(case.judgement), *sha256(held.digest)]
    return table(("Digest", "Rows", "From", "To"), cells, none=""), told_by


# ---------------------------------------------------------------------- development


def development(case: Case) -> Section:
    """Which code made it, how, where, and what else was tried."""
    version, run = case.version, case.run
    asked = first(case.log.about(run), "training_run.requested")
    ended = first(case.log.about(run), "training_run.succeeded")
    ours = evidence(asked, ended)
    word = evidence(case.registered)
    code = [*word, *sha256(version.code_digest)]
    return Section(
        "development",
        "Development",
        (
            "EU AI Act Annex IV (2): elements and process of development",
            "SR 26-2: conceptual soundness, development documentation",
            "ISO/IEC 42001 A.4: resources",
        ),
        (
            told("trained_by", "Trained", "by Gatehouse, in a child process" if run else None, ours),
            told("pipeline", "Pipeline", run and str(run.pipeline), ours),
            told("entry_point", "Entry point", run and run.pipeline.entry_point, ours),
            told("code_path", "Code folder", run and run.pipeline.code_path, ours),
            told("commit", "Commit", version.commit, code),
            told("dirty", "Uncommitted changes", ("yes" if version.dirty else "no") if version.commit else None, code),
            told("code_digest", "Code folder, SHA-256 over its files", version.code_digest, code),
            told("parameters", "Hyperparameters", pairs(version.parameters, none="none given"), word),
            told("seed", "Seed", version.seed, word),
            told("window", "Training window", run and pairs(run.window, none="none"), ours),
            told("asked_by", "Asked for by", case.log.author(asked) if asked else None, evidence(asked)),
            told("asked_why", "Why", asked and asked.reason, evidence(asked)),
            told("asked_at", "Asked for", asked and moment(asked.at), evidence(asked)),
            told("trained_at", "Ended", ended and moment(ended.at), evidence(ended)),
            told("wall_seconds", "Duration in seconds", run and run.wall_seconds, ours),
            told("environment", "Environment", pairs(version.environment, none="") or None, word),
            told("environment_lock", "Packages, as locked", _lock(version), word),
            told("code_evidence", "Reports about this code", *_reports(case)),
            told("alternatives", "Alternatives tried before", *_alternatives(case)),
        ),
    )


def _lock(version: ModelVersion) -> object:
    return version.environment_lock.strip().splitlines() or None


def _reports(case: Case) -> tuple[object, list[str]]:
    code, number = case.version.code_digest, case.version.number
    events = [
        event
        for event in case.log.named("evidence.submitted")
        if (code and event.data.get("code_digest") == code) or event.data.get("version") == number
    ]
    rows = [
        (event.data.get("kind"), event.data.get("verdict"), event.reason, moment(event.at), case.log.author(event))
        for event in events
    ]
    return table(("Kind", "Verdict", "Summary", "At", "By"), rows, none="none"), evidence(*events)


def _alternatives(case: Case) -> tuple[object, list[str]]:
    """Versions of the model that were registered before this one, and how their gates ended."""
    before = [
        event
        for event in case.log.named("model_version.registered")
        if event.link.position < case.registered.link.position
    ]
    judged = {
        event.data.get("judged", {}).get("id"): event
        for event in case.log.of_kind("gates.gaterun")
        if "judged" in event.data
    }
    rows, proof = [], evidence(*before)
    for event in before:
        end = judged.get(int(event.subject_id))
        proof += evidence(end)
        rows.append((event.subject_label, moment(event.at), event.reason, str(end.data["to"]) if end else "not judged"))
    return table(("Version", "Registered", "What was new", "Gates"), rows, none="none: it is the first"), proof
