"""An entry point that imports nothing heavy and leaves what ``leave`` says; run by the tests in the real sandbox."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main() -> int:
    arguments = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
    leave = json.loads(Path(arguments["--params"]).read_text())["leave"]
    out = Path(arguments["--out"])
    (out / "model.skops").write_bytes(b"model")
    (out / "signature.json").write_text('{"inputs": []}')
    if leave == "link":
        (out / "model.skops").unlink()
        os.symlink("/etc/passwd", out / "model.skops")
    if leave == "linked folder":
        out.rename("elsewhere")
        os.symlink("/etc", out)
    if leave == "pipe":
        (out / "model.skops").unlink()
        os.mkfifo(out / "model.skops")
    if leave == "no model":
        (out / "model.skops").unlink()
    if leave == "no signature":
        (out / "signature.json").unlink()
    if leave == "not a number":
        (out / "metrics.json").write_text('{"auc": NaN}')
    if leave == "nul":
        (out / "metrics.json").write_text(json.dumps({"auc": "\0"}))
    if leave == "list":
        (out / "metrics.json").write_text("[]")
    if leave == "much":
        (out / "metrics.json").write_text(json.dumps({"auc": "x" * 5_000_000}))
    if leave == "lock":
        (out / "environment.lock").write_text("other==1.0\n")
    if leave == "binary lock":
        (out / "environment.lock").write_bytes(b"other==1\xff")
    print("left \0", leave)
    return 0


if __name__ == "__main__":
    sys.exit(main())
