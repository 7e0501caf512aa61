"""``python -m engines.traffic``: look at what an nginx was told, or take a candidate off it, without the portal.

For the night when the database is away. It needs the files that Gatehouse wrote for nginx and the right to reload it:

    python -m engines.traffic show delay-warning
    python -m engines.traffic abort delay-warning

The portal, once it is back, sees that its route says otherwise: end the rollout there as well, or it is applied again
with the route's next revision.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from engines.traffic.nginx import NginxBackend
from engines.traffic.nginx_config import Told, told_by
from engines.traffic.port import TrafficError


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out one command; 0, or 1 when it is refused."""
    options = _parser().parse_args(argv)
    path = options.folder / f"{options.endpoint}.conf"
    told = told_by(path.read_text()) if path.is_file() else None
    if told is None:
        print(f"{path} is no file that Gatehouse wrote.", file=sys.stderr)
        return 1
    if options.command == "show":
        print(_in_words(told))
        return 0
    backend = NginxBackend(told.document, options.folder, told.log.parent, tuple(shlex.split(options.nginx)))
    try:
        receipt = backend.abort(options.endpoint, told.fence)
    except TrafficError as refusal:
        print(refusal, file=sys.stderr)
        return 1
    print(f"{receipt.message} {receipt.split.champion} answers everybody.")
    return 0


def _in_words(told: Told) -> str:
    shares = "\n".join(f"  {version}: {share:.4g} of the entities" for version, share in told.split.weights.items())
    aborted = ", aborted" if told.aborted else ""
    return f"{told.endpoint}, fence {told.fence}{aborted}\n{shares or '  nobody answers'}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m engines.traffic", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("command", choices=("show", "abort"))
    parser.add_argument("endpoint")
    parser.add_argument(
        "--folder", type=Path, default=Path(os.environ.get("GATEHOUSE_NGINX_FOLDER", "/etc/nginx/gatehouse.d"))
    )
    parser.add_argument("--nginx", default=os.environ.get("GATEHOUSE_NGINX_COMMAND", "nginx"), help="how it is called")
    return parser


if __name__ == "__main__":
    sys.exit(main())
