"""What nginx is told for one endpoint: one file, included at the level of ``http``, complete in itself.

``split_clients`` hashes ``<salt>:<entity>`` with MurmurHash2 and cuts the 32-bit range in the order of its lines. The
canary's line stands first, so its part begins at 0 and only grows with its share: who is in it stays in it. (nginx's
own ``mirror`` is never used: a slow copy makes the next request of a keep-alive client wait for it.)

The first lines hold, as JSON in a comment, all that it takes to write the file again: an abort needs nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.traffic.document import VERSION, NginxTraffic, placed
from engines.traffic.port import Split, UnknownVersion, Unsupported

MARK = "# gatehouse: "
SMALLEST_SHARE = 0.0001
STATUS_PATH = "/.gatehouse"
SCORE_HEADER = "X-Gatehouse-Score"
ENDPOINT = re.compile(r"^[a-z][a-z0-9_-]{0,59}$")


@dataclass(frozen=True)
class Told:
    """What a file tells nginx: which route it was made for, whether it is what an abort left, and from what."""

    endpoint: str
    fence: int
    aborted: bool
    split: Split
    document: NginxTraffic
    log: Path

    def __post_init__(self) -> None:
        """Names stand in the configuration as they are, and in paths: nothing may hide in them."""
        if not ENDPOINT.match(self.endpoint):
            raise ValueError(f"{self.endpoint!r} does not name an endpoint")
        if not re.fullmatch(r"[A-Za-z0-9._-]*", self.split.salt):
            raise ValueError(f"{self.split.salt!r} is no salt")
        if strange := [version for version in self.split.versions if not VERSION.match(version)]:
            raise ValueError(f"{strange[0]!r} does not name a version, such as delay-v4")
        if not re.fullmatch(r"[^\s\"'$\\;{}]+", str(self.log)):
            raise ValueError(f"{self.log} is no path that nginx takes as it is")

    def facts(self) -> dict[str, Any]:
        return {
            "endpoint": self.endpoint,
            "fence": self.fence,
            "aborted": self.aborted,
            "split": self.split.as_dict(),
            "document": self.document.model_dump(mode="json"),
            "log": str(self.log),
        }


def told_by(text: str) -> Told | None:
    """What a file of ours tells nginx; None when it is not ours (or was damaged)."""
    marked = next((line for line in text.splitlines() if line.startswith(MARK)), None)
    if marked is None:
        return None
    try:
        facts = json.loads(marked.removeprefix(MARK))
        document = NginxTraffic.model_validate(facts["document"])
        split = Split.from_dict(facts["split"])
        return Told(facts["endpoint"], facts["fence"], facts["aborted"], split, document, Path(facts["log"]))
    except (ValueError, KeyError, TypeError):
        return None


def expressible(want: Split) -> Split:
    """``want`` with its share as nginx can tell it (hundredths of a percent). Raises Unsupported."""
    if want.mirror_to is not None:
        raise Unsupported("nginx's mirror makes keep-alive clients wait for it: score the shadow from the log instead.")
    share = round(want.share, 4)
    if want.share > 0.0 and share < SMALLEST_SHARE:
        raise Unsupported(f"nginx can not send less than {SMALLEST_SHARE:.2%} to a version; {want.share:.4%} is asked.")
    return Split(**{**want.as_dict(), "share": share})


def upstream_of(version: str, document: NginxTraffic) -> str:
    """Where a version answers. Raises UnknownVersion."""
    if version in document.upstreams:
        return document.upstreams[version]
    if document.upstream is None:
        known = ", ".join(sorted(document.upstreams)) or "none"
        raise UnknownVersion(f"Nobody said where {version} answers (upstreams known: {known}).")
    try:
        return placed(document.upstream, version)
    except ValueError as problem:
        raise UnknownVersion(str(problem)) from problem


def configuration(told: Told) -> str:
    """The whole file. Raises UnknownVersion."""
    return head(told) + body(told.endpoint, told.split, told.document, told.log)


def head(told: Told) -> str:
    """What changes with each fence: the comment that says what this is, and the answer of the status address."""
    status = {"endpoint": told.endpoint, "fence": told.fence, "aborted": told.aborted, "split": told.split.as_dict()}
    return (
        "# Written by Gatehouse for one endpoint and overwritten with each step of a rollout: change nothing here.\n"
        f"{MARK}{_json(told.facts())}\n"
        f"map \"\" $gh_{_name(told.endpoint)}_status {{ default '{_json(status)}'; }}\n"
    )


def body(endpoint: str, split: Split, document: NginxTraffic, log: Path) -> str:
    """Everything else: who is split how, where the versions are, what is logged. Raises UnknownVersion."""
    name = _name(endpoint)
    blocks = [
        _identity(name, document),
        _arms(name, split),
        _upstreams(name, split, document),
        _log_format(name, split),
    ]
    return "\n".join([*blocks, _server(name, split, document, log)])


def _identity(name: str, document: NginxTraffic) -> str:
    """Who asks: the entity, or where the request names none, the request itself (it then sticks to nothing)."""
    header = _variable(document.entity_header)
    return (
        f'map $http_x_request_id $gh_{name}_request {{ "" $request_id; default $http_x_request_id; }}\n'
        f'map {header} $gh_{name}_who {{ "" $gh_{name}_request; default {header}; }}\n'
        f"map $request_method $gh_{name}_logged {{ default 0; POST 1; }}"
    )


def _arms(name: str, split: Split) -> str:
    serving = bool(split.weights)
    alone = "champion" if serving else "fallback"
    if split.candidate in split.weights:
        percent = f"{split.share * 100:.2f}"
        arm = f'split_clients "{split.salt}:$gh_{name}_who" $gh_{name}_arm {{ {percent}% canary; * champion; }}'
    else:
        arm = f'map "" $gh_{name}_arm {{ default {alone}; }}'
    versions = {"champion": split.champion if serving else None, "canary": split.candidate}
    lines = " ".join(f"{each} {version};" for each, version in versions.items() if version)
    return f'{arm}\nmap $gh_{name}_arm $gh_{name}_version {{ default ""; {lines} }}'


def _upstreams(name: str, split: Split, document: NginxTraffic) -> str:
    return "\n".join(
        f"upstream gatehouse_{name}_{_name(version)} {{ server {upstream_of(version, document)}; keepalive 16; }}"
        for version in split.weights
    )


def _log_format(name: str, split: Split) -> str:
    """One JSON object a line; what the split was at that moment stands in it, since it changes."""
    there = split.candidate in split.weights
    fields = {
        "request": f"$gh_{name}_request",
        "entity": f"$gh_{name}_entity",
        "ended": "$msec",
        "took": "$request_time",
        "arm": f"$gh_{name}_arm",
        "version": f"$gh_{name}_version",
        "share": repr(split.share),
        "step": str(split.step),
        "salt": split.salt if there else "",
        "status": "$status",
        "upstream_status": "$upstream_status",
        "upstream_took": "$upstream_response_time",
        "score": f"${_header_of_answer(SCORE_HEADER)}",
    }
    text = ",".join(f'"{key}":"{value}"' for key, value in fields.items())
    return f"log_format gatehouse_{name} escape=json '{{{text}}}';"


def _server(name: str, split: Split, document: NginxTraffic, log: Path) -> str:
    entity = _variable(document.entity_header)
    return f"""server {{
    listen {document.listen};
    access_log {log} gatehouse_{name} if=$gh_{name}_logged;
    client_max_body_size 16m;
    set $gh_{name}_entity {entity};
    proxy_http_version 1.1;
    proxy_next_upstream off;
    proxy_connect_timeout 1000ms;
    proxy_read_timeout {document.timeout_ms}ms;
    proxy_set_header Connection "";
    proxy_set_header Host $http_host;
    proxy_set_header X-Request-Id $gh_{name}_request;
    add_header X-Request-Id $gh_{name}_request always;
    recursive_error_pages on;
    location = {STATUS_PATH} {{
        access_log off;
        default_type application/json;
        if ($remote_addr != $server_addr) {{ return 404; }}
        return 200 $gh_{name}_status;
    }}
{_locations(name, split, document)}}}
"""


def _locations(name: str, split: Split, document: NginxTraffic) -> str:
    """Champion, canary, and the champion once more for what the canary failed at."""
    if split.champion is None or not split.weights:
        why = "stopped by its product owner" if split.stopped else "no version serves here yet"
        answer = _json({"error": why, "fallback": split.fallback})
        return f"    location / {{ default_type application/json; return 503 '{answer}'; }}\n"
    champion = f"proxy_pass http://gatehouse_{name}_{_name(split.champion)};"
    if split.candidate not in split.weights or split.candidate is None:
        return f"    location / {{ {champion} }}\n"
    return f"""    location / {{
        error_page 418 = @canary;
        if ($gh_{name}_arm = canary) {{ return 418; }}
        {champion}
    }}
    location @canary {{
        proxy_intercept_errors on;
        proxy_read_timeout {document.canary_timeout_ms}ms;
        error_page 500 501 502 503 504 505 507 = @champion;
        proxy_pass http://gatehouse_{name}_{_name(split.candidate)};
    }}
    location @champion {{ {champion} }}
"""


def _name(text: str) -> str:
    """A slug as part of a variable's name, each slug another one."""
    return text.replace("_", "_u").replace("-", "_d")


def _variable(header: str) -> str:
    """The nginx variable of a request's header."""
    return f"$http_{header.lower().replace('-', '_')}"


def _header_of_answer(header: str) -> str:
    return f"upstream_http_{header.lower().replace('-', '_')}"


def _json(facts: Mapping[str, Any]) -> str:
    """JSON that may stand in a quoted word of nginx: every value is of a form without quotes and dollars."""
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    if "'" in text or "$" in text or "\\" in text:
        raise ValueError(f"{text} can not stand in a configuration of nginx")
    return text
