"""KServe manifests: what they say, and what the schema and the webhook's rules say against them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml

from engines.traffic.document import KServeTraffic
from engines.traffic.kserve import UNVERIFIED, KServeBackend, manifest, violations
from engines.traffic.port import Split, UnknownVersion, Unsupported

DOCUMENT = KServeTraffic(backend="kserve", namespace="ml", storage_uri="s3://models/{model}/{number}", min_replicas=4)
SPLIT = Split("delay-v3", "delay-v4", 0.25, "5a17", 2)
ENDPOINT = "delay-warning"


def found(split: Split = SPLIT) -> dict[str, Any]:
    return manifest(ENDPOINT, split, DOCUMENT)


def test_manifest__canary__names_both_predictors_and_the_share() -> None:
    spec = found()["spec"]
    assert spec["predictor"]["name"] == "delay-v3"
    assert spec["predictor"]["model"]["storageUri"] == "s3://models/delay/3"
    (canary,) = spec["canary"]
    assert (canary["trafficPercent"], canary["predictor"]["name"], canary["predictor"]["minReplicas"]) == (
        25,
        "delay-v4",
        1,
    )


def test_manifest__promoted__only_renames_the_stable_predictor() -> None:
    """That is how KServe promotes without a restart: the stable predictor takes the canary's name."""
    spec = found(Split("delay-v4"))["spec"]
    assert spec["predictor"]["name"] == "delay-v4"
    assert "canary" not in spec


def test_manifest__stopped__is_stopped_without_a_canary() -> None:
    stopped = found(replace(SPLIT, stopped=True))
    assert stopped["metadata"]["annotations"]["serving.kserve.io/stop"] == "true"
    assert "canary" not in stopped["spec"]


def test_manifest__of_what_we_write__is_what_kserve_takes() -> None:
    assert violations(found()) == []
    assert violations(found(Split("delay-v3"))) == []


@pytest.mark.parametrize(
    ("split", "refusal"),
    [
        (replace(SPLIT, share=0.005), "whole percents"),
        (replace(SPLIT, mirror_to="delay-v5"), "mirrors"),
        (Split(None), "nothing to deploy"),
    ],
)
def test_manifest__kserve_has_no_words_for_it__is_unsupported(split: Split, refusal: str) -> None:
    with pytest.raises(Unsupported, match=refusal):
        found(split)


def test_manifest__no_name_of_a_version__is_unknown() -> None:
    with pytest.raises(UnknownVersion):
        found(replace(SPLIT, candidate="latest"))


def changed(path: str, value: Any) -> dict[str, Any]:
    """The manifest with one thing in it changed."""
    whole = found()
    *way, last = path.split("/")
    place: Any = whole
    for part in way:
        place = place[int(part) if part.isdigit() else part]
    place[last] = value
    return whole


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("apiVersion", "serving.kserve.io/v1alpha1"),
        ("metadata/name", "Delay_Warning"),
        ("spec/canary/0/trafficPercent", 101),
        ("spec/canary/0/trafficPercent", "25"),
        ("spec/canary/0/predictor", {"model": {"modelFormat": {"name": "onnx"}}}),
        ("spec/canary/0/predictor/name", "delay-v3"),
        ("spec/predictor/model", {}),
        ("spec/predictor/maxReplicas", 9),
        ("metadata/annotations", {}),
        ("spec/predictor/name", "x" * 50),
    ],
)
def test_violations__what_kserve_refuses__is_found(path: str, value: Any) -> None:
    assert violations(changed(path, value))


def test_violations__canaries_exceed_everything__is_found() -> None:
    canary = found()["spec"]["canary"][0]
    more = {"trafficPercent": 80, "predictor": {**canary["predictor"], "name": "delay-v5"}}
    assert violations(changed("spec/canary", [canary, more])) == ["The canaries' percents exceed 100."]


def test_plan__text__is_the_manifest_marked_unverified() -> None:
    plan = KServeBackend(DOCUMENT).plan(ENDPOINT, SPLIT, None)
    assert yaml.safe_load(plan.text) == found()
    assert UNVERIFIED in plan.text.splitlines()[0]
    assert plan.warnings[0] == UNVERIFIED


def test_plan__endpoint_is_no_dns_name__is_unsupported() -> None:
    with pytest.raises(Unsupported, match=r"metadata\.name"):
        KServeBackend(DOCUMENT).plan("delay_warning", SPLIT, None)


def test_apply_and_abort__are_somebody_elses() -> None:
    backend = KServeBackend(DOCUMENT)
    with pytest.raises(Unsupported, match="yourself"):
        backend.apply(backend.plan(ENDPOINT, SPLIT, None), 1)
    with pytest.raises(Unsupported, match="kubectl -n ml patch"):
        backend.abort(ENDPOINT, 1)
