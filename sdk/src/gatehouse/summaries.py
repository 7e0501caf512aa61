"""Markdown for the page of a CI run: to a file that is named, or to the step summary that GitHub offers."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

STEP_SUMMARY = "GITHUB_STEP_SUMMARY"


def add_summary_option(parser: argparse.ArgumentParser) -> None:
    told = f"write a summary in Markdown (default: appended to ${STEP_SUMMARY} where that is set)"
    parser.add_argument("--summary", type=Path, metavar="FILE", help=told)


def write_summary(text: str, options: argparse.Namespace) -> None:
    if options.summary:
        options.summary.write_text(text, encoding="utf-8")
    elif step := os.environ.get(STEP_SUMMARY):
        with Path(step).open("a", encoding="utf-8") as page:
            page.write(f"{text}\n")
