"""``endpoint traffic``, ``endpoint manifests``: who splits an endpoint's traffic."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from gatehouse.answers import EndpointTraffic
from gatehouse.cli.codes import FAILED, PASSED, print_json
from gatehouse.client import Client


def add_verbs(verbs: Any) -> None:
    """Below ``gatehouse endpoint``."""
    traffic = verbs.add_parser("traffic", help="who splits its traffic; exits 1 when that does not follow the route")
    traffic.add_argument("name")
    traffic.add_argument("--set", type=Path, metavar="FILE", help="JSON file: from now on this backend splits it")
    traffic.add_argument("--reason", help="why; kept for ever")
    traffic.set_defaults(command=_traffic)

    manifests = verbs.add_parser("manifests", help="its manifests, for who applies them to a cluster")
    manifests.add_argument("name")
    manifests.add_argument("--kserve", action="store_true", required=True, help="an InferenceService (v0.20 and later)")
    manifests.add_argument("--storage-uri", help="where versions lie: s3://models/{model}/{number}")
    manifests.add_argument("--namespace")
    manifests.add_argument("--model-format")
    manifests.set_defaults(command=_manifests)


def _traffic(portal: Client, options: argparse.Namespace) -> int:
    if options.set is None:
        found = portal.endpoint_traffic(options.name)
    elif not options.reason:
        raise ValueError("--set needs a --reason: this is the record of the decision.")
    else:
        document = json.loads(options.set.read_text())
        found = portal.set_endpoint_traffic(options.name, document, reason=options.reason)
    if options.json:
        print_json(found)
    else:
        print("\n".join(_lines(found)))
    return FAILED if found.follows is False and options.set is None else PASSED


def _lines(found: EndpointTraffic) -> list[str]:
    word = {True: "follows", False: "DOES NOT FOLLOW", None: "is not observed"}[found.follows]
    lines = [f"{found.endpoint}: {found.backend} {word} (route revision {found.fence})"]
    lines += [f"  {version}: {share:.4g} of the entities" for version, share in found.weights.items()]
    if found.plan is not None and found.plan.problem:
        lines.append(f"  problem: {found.plan.problem}")
    return lines + [f"  {what} can not be judged: {why}" for what, why in found.unjudged.items()]


def _manifests(portal: Client, options: argparse.Namespace) -> int:
    manifest = portal.kserve_manifest(
        options.name,
        storage_uri=options.storage_uri,
        namespace=options.namespace,
        model_format=options.model_format,
    )
    print(manifest, end="")
    return PASSED
