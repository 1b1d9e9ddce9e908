"""Run small apps in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 60.0


def environment(buffer: Path, **variables: str) -> dict[str, str]:
    """A clean environment with metering on; variables come on top."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FAREBOX_", "OTEL_", "OPENAI_"))}
    return {**kept, "FAREBOX_ENABLED": "1", "FAREBOX_BUFFER_DIR": str(buffer), **variables}


def run(code: str, environ: dict[str, str], *options: str, **arguments: Any) -> subprocess.CompletedProcess[str]:
    """Run Python code to its end; its output is captured."""
    command = [sys.executable, *options, "-c", textwrap.dedent(code)]
    return subprocess.run(
        command, env=environ, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, **arguments
    )


def start(code: str, environ: dict[str, str]) -> subprocess.Popen[str]:
    """Start Python code and leave it running; its input and output are pipes."""
    command = [sys.executable, "-c", textwrap.dedent(code)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environ, cwd=ROOT, stdin=pipe, stdout=pipe, text=True)
