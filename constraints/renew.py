"""Pin the environments of `run.py sdk` and of the foreign emitters as requirements.toml asks; needs uv on PATH.

Run: python3 constraints/renew.py [NAME… | emitters/NAME…]; without names all of them. Each file
holds names and versions only: what farebox itself needs, the SDK, and pytest.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
WITH_ALL = ("pytest", "pytest-timeout")
OLDEST_PYTHON = "3.11"


def main(names: list[str]) -> int:
    own = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]["dependencies"]
    for folder, prefix, with_all in ((HERE, "", WITH_ALL), (HERE / "emitters", "emitters/", ())):
        asked = tomllib.loads((folder / "requirements.toml").read_text())
        for name in asked:
            if names and prefix + name not in names:
                continue
            for age, wanted in asked[name].items():
                pin(folder / (f"{name}.txt" if age == "newest" else f"{name}-{age}.txt"), [*own, *with_all, *wanted])
    return 0


def pin(file: Path, requirements: list[str]) -> None:
    """Resolve the requirements for all platforms and write the file anew."""
    options = ("--universal", "--no-annotate", "--no-header", "--quiet", "--python-version", OLDEST_PYTHON)
    # The old file would be preferred to newer versions.
    file.unlink(missing_ok=True)
    command = ["uv", "pip", "compile", *options, "--output-file", str(file), "-"]
    subprocess.run(command, input="\n".join(requirements), text=True, check=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
