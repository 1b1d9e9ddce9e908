"""What the image holds: the steps of deploy/Dockerfile that install it, in a folder instead of a container.

No container runtime is needed or used; the base image and the user are what these tests do not show.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.line import ROOT, Process, clean_environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
INSTALLED = "/opt/farebox"
DATA = "/var/lib/farebox"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the build stage leaves in /opt/farebox."""
    folder = tmp_path_factory.mktemp("image")
    context = folder / "src"
    ignored = shutil.ignore_patterns(*(ROOT / ".dockerignore").read_text().replace("**/", "").split())
    shutil.copytree(ROOT, context, ignore=ignored)
    build = DOCKERFILE.split("\nFROM ")[1]
    for command in re.findall(r"^RUN (.+)$", build, re.MULTILINE):
        here = command.replace(INSTALLED, str(folder / "farebox"))
        here = re.sub(r"^python ", f"{sys.executable} ", here)
        subprocess.run(here, shell=True, cwd=context, check=True, timeout=400)
    return folder / "farebox"


def settings(folder: Path) -> dict[str, str]:
    """The variables of the image, with its data in a folder and its ports free ones on the loopback."""
    block = re.search(r"^ENV (.+?)\n(?! )", DOCKERFILE, re.MULTILINE | re.DOTALL)
    assert block
    found = dict(pair.split("=", 1) for pair in block[1].replace("\\\n", " ").split())
    found.pop("PATH")
    return {
        name: re.sub(r"0\.0\.0\.0:\d+", "127.0.0.1:0", value).replace(DATA, str(folder))
        for name, value in found.items()
    }


def test_the_image_s_entry_point_has_every_command(image: Path) -> None:
    assert json.loads(re.search(r"^ENTRYPOINT (.+)$", DOCKERFILE, re.MULTILINE)[1]) == ["farebox"]  # type: ignore[index]

    shown = subprocess.run(
        [image / "bin" / "farebox", "--help"], capture_output=True, text=True, timeout=60, check=True
    )

    for command in ("up", "collector", "forward", "api", "maintain", "migrate"):
        assert re.search(rf"^\s+{command}\b", shown.stdout, re.MULTILINE), command


def test_the_image_starts_with_its_own_settings(image: Path, tmp_path: Path) -> None:
    (command,) = json.loads(re.search(r"^CMD (.+)$", DOCKERFILE, re.MULTILINE)[1])  # type: ignore[index]
    started = Process([str(image / "bin" / "farebox"), command], clean_environment() | settings(tmp_path))
    try:
        started.wait_for(r"http://127\.0\.0\.1:\d+")
        assert (tmp_path / "farebox.db").exists()
        assert (tmp_path / "spool").is_dir()
    finally:
        assert started.stop() == 0
