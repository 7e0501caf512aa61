"""KServe's InferenceService for an endpoint, as a manifest that somebody else applies (kubectl, Argo CD, Flux).

``spec.canary`` (v0.20 and later, Standard mode: kserve/kserve#5672) has a share and a predictor of its own name; it is
promoted by giving the stable predictor that name, without a restart, and rolled back by taking the entry away. KServe
picks requests at random: nobody sticks to an arm, so what is judged per entity can not be judged.

**Unverified on a cluster**: the manifests are checked against an excerpt of the CRD's schema (``kserve_schema.json``)
and the rules of its webhook as they are described, nothing more. The manifest, the plan and the documentation say so.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from engines.traffic.document import VERSION, KServeTraffic, placed
from engines.traffic.port import (
    Caps,
    Observed,
    Plan,
    Read,
    Receipt,
    Split,
    UnknownVersion,
    Unsupported,
    in_words,
)

UNVERIFIED = "Unverified on a cluster: checked against the CRD's schema only. Try it where nothing depends on it."
LONGEST_SERVICE = 63
UNJUDGED = {
    "stickiness": "KServe sends each request anew to an arm: nothing that is judged per entity can be.",
    "everything": "KServe's log is not read: send predictions and outcomes to the intake.",
}


@dataclass(frozen=True)
class KServeBackend:
    """Plans only: nothing of Gatehouse talks to a cluster."""

    document: KServeTraffic
    name: str = "kserve"

    def capabilities(self) -> Caps:
        return Caps(
            sticky=False,
            mirror=False,
            smallest_share=0.01,
            seconds=math.inf,
            aborts_alone=False,
            unjudged=UNJUDGED,
        )

    def plan(self, endpoint: str, want: Split, was: Split | None) -> Plan:
        """See the port; ``text`` is the manifest. Raises Unsupported, UnknownVersion."""
        found = manifest(endpoint, want, self.document)
        if wrong := violations(found):
            raise Unsupported(f"KServe would refuse the manifest of {endpoint}: {' '.join(wrong)}")
        warnings = (UNVERIFIED, *(f"{what.capitalize()}: {why}" for what, why in UNJUDGED.items()))
        return Plan(endpoint, self.name, want, in_words(was, want), in_yaml(found), warnings)

    def apply(self, plan: Plan, fence: int) -> Receipt:
        raise Unsupported(f"Apply the manifest of {plan.endpoint} yourself: gatehouse endpoint manifests --kserve.")

    def observed(self, endpoint: str) -> Observed:
        """Nothing is known of the cluster."""
        return Observed(None, None)

    def read(self, endpoint: str, since: str) -> Read:
        return Read((), since)

    def abort(self, endpoint: str, fence: int) -> Receipt:
        raise Unsupported(
            f"Take the canary off yourself: kubectl -n {self.document.namespace} patch inferenceservice {endpoint} "
            '--type=json -p \'[{"op":"remove","path":"/spec/canary"}]\''
        )


def manifest(endpoint: str, want: Split, document: KServeTraffic) -> dict[str, Any]:
    """The InferenceService for a split. Raises Unsupported for what KServe has no words for, UnknownVersion."""
    if want.champion is None:
        raise Unsupported(f"No version serves {endpoint} yet: there is nothing to deploy.")
    if want.mirror_to is not None:
        raise Unsupported("KServe mirrors no traffic.")
    percent = round(want.share * 100)
    if not math.isclose(percent, want.share * 100, abs_tol=1e-9):
        raise Unsupported(f"KServe takes whole percents; a share of {want.share:.4%} is asked.")
    annotations = {
        "serving.kserve.io/deploymentMode": "Standard",
        "serving.kserve.io/autoscalerClass": "none",
    }
    if want.stopped:
        annotations["serving.kserve.io/stop"] = "true"
    spec: dict[str, Any] = {"predictor": _predictor(want.champion, document.min_replicas, document)}
    if want.candidate is not None and percent and not want.stopped:
        replicas = max(1, math.ceil(want.share * document.min_replicas))
        spec["canary"] = [{"trafficPercent": percent, "predictor": _predictor(want.candidate, replicas, document)}]
    metadata = {"name": endpoint, "namespace": document.namespace, "annotations": annotations}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": metadata,
        "spec": spec,
    }


def _predictor(version: str, replicas: int, document: KServeTraffic) -> dict[str, Any]:
    if VERSION.match(version) is None:
        raise UnknownVersion(f"{version!r} does not name a version, such as delay-v4.")
    model = {
        "modelFormat": {"name": document.model_format},
        "protocolVersion": document.protocol_version,
        "storageUri": placed(document.storage_uri, version),
    }
    return {"name": version, "minReplicas": replicas, "model": model}


def violations(found: dict[str, Any]) -> list[str]:
    """What the schema and the rules of KServe's webhook say against a manifest; empty: nothing."""
    problems = sorted(_schema().iter_errors(found), key=lambda each: list(map(str, each.absolute_path)))
    wrong = [f"{'.'.join(map(str, each.absolute_path))}: {each.message}." for each in problems]
    return wrong or _against_the_rules(found)


def _against_the_rules(found: dict[str, Any]) -> list[str]:
    """As kserve/kserve#5672 describes them: Standard mode, unique names, at most 100 percent together."""
    wrong = []
    canaries = found["spec"].get("canary", [])
    predictors = [found["spec"]["predictor"], *(each["predictor"] for each in canaries)]
    names = [each.get("name", "") for each in predictors]
    if canaries and found["metadata"].get("annotations", {}).get("serving.kserve.io/deploymentMode") != "Standard":
        wrong.append("spec.canary needs the deployment mode Standard.")
    if len(set(names)) < len(names):
        wrong.append("Two predictors have one name.")
    if sum(each["trafficPercent"] for each in canaries) > 100:
        wrong.append("The canaries' percents exceed 100.")
    services = [f"{found['metadata']['name']}-{name}-predictor" for name in names]
    wrong += [f"{each} is longer than a service's name may be." for each in services if len(each) > LONGEST_SERVICE]
    return wrong


def in_yaml(found: dict[str, Any]) -> str:
    """The manifest as a file, with what is to be known of it at its top."""
    return (
        f"# Generated by Gatehouse. {UNVERIFIED}\n# Needs KServe v0.20 or later in Standard mode (spec.canary).\n"
        + str(yaml.safe_dump(found, sort_keys=False))
    )


@cache
def _schema() -> Any:
    return jsonschema.Draft7Validator(json.loads(Path(__file__).with_name("kserve_schema.json").read_text()))
