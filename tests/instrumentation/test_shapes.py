"""What the source of an SDK has to say about its targets, against what importing it shows."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from farebox import patching, shapes
from farebox.sdks import SDKS, Target
from tests.instrumentation.recorder import Recorder

SOURCES = {
    "__init__.py": "from .clients import *\n",
    "base.py": "class Base:\n    def inherited(self): ...\n    value = 1\n",
    "clients.py": (
        "from typing import Generic, TypeVar\n"
        "from . import base\n"
        "from .base import Base as Renamed\n"
        "try:\n    import nothing\nexcept ImportError:\n    pass\n"
        "else:\n    def behind(): ...\n"
        "class Client(Renamed):\n    async def own(self): ...\n    def __init__(self): ...\n"
        "class Loop(Loop): ...\n"
        "def function(): ...\n"
    ),
    "broken.py": "def (\n",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "sdk_in_source"
    folder.mkdir()
    for name, text in SOURCES.items():
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    shapes._tree.cache_clear()
    return folder.name


@pytest.mark.parametrize(
    ("module", "attribute", "reason"),
    [
        (".clients", "Client.own", None),
        (".clients", "Client.__init__", None),
        (".clients", "Client.inherited", None),
        (".clients", "Renamed.inherited", None),
        (".clients", "function", None),
        (".clients", "behind", None),
        ("", "function", None),
        ("", "Client.inherited", None),
        (".clients", "Client.value", "has no callable Client.value"),
        (".clients", "Client.gone", "has no callable Client.gone"),
        (".clients", "Gone.own", "has no callable Gone.own"),
        (".clients", "Loop.own", "has no callable Loop.own"),
        (".clients", "gone", "has no callable gone"),
        (".broken", "function", "is not there"),
        (".gone", "function", "is not there"),
    ],
)
def test_a_target_is_found_where_importing_would_find_it(
    package: str, module: str, attribute: str, reason: str | None
) -> None:
    found = shapes.missing(Target(package + module, attribute))

    assert found == (None if reason is None else f"{package}{module} {reason}")
    assert package not in sys.modules


def test_a_package_that_is_not_installed_has_no_module() -> None:
    assert not shapes.has_module(Target("no_such_sdk.client", "Client.chat"))


@pytest.mark.parametrize("sdk", sorted(set(SDKS) - {"litellm"}))
def test_the_source_says_what_importing_shows(recorder: Recorder, sdk: str) -> None:
    importlib.import_module(SDKS[sdk])
    targets = [patch.target for patch in patching.patches()[sdk]]
    for module in {target.module for target in targets}:
        importlib.import_module(module)

    patched = [patch.target for patch in patching.patches()[sdk] if patch.state == patching.PATCHED]
    assert [target for target in targets if shapes.missing(target) is None] == patched
    assert patched
