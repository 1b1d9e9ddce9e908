"""The SDK files: all of one shape, all in the list, none importing its SDK."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest

import farebox.sdks
from farebox.sdks import SDKS
from tests.instrumentation import processes

FILES = sorted(path.stem for path in Path(farebox.sdks.__file__).parent.glob("*.py") if path.stem != "__init__")


def test_every_file_is_in_the_list() -> None:
    assert sorted(SDKS) == FILES


@pytest.mark.parametrize("name", FILES)
def test_a_file_has_the_shape_of_all(name: str) -> None:
    module = importlib.import_module(f"farebox.sdks.{name}")

    assert all(isinstance(version, str) for version in module.TESTED)
    assert module.TARGETS
    assert all(target.module.split(".")[0] == SDKS[name].split(".")[0] for target in module.TARGETS)
    assert list(inspect.signature(module.read_request).parameters) == ["owner", "args", "kwargs"]
    assert list(inspect.signature(module.read_response).parameters) == ["response", "reading"]
    assert list(inspect.signature(module.read_chunk).parameters) == ["chunk", "reading"]


@pytest.mark.parametrize("name", FILES)
def test_a_file_does_not_import_its_sdk(tmp_path: Path, name: str) -> None:
    code = f"""
        import sys
        import farebox.sdks.{name}
        roots = {list(SDKS.values())!r} + ["httpx", "httpx2", "pydantic", "grpc"]
        print([root for root in roots if root in sys.modules])
    """
    done = processes.run(code, processes.environment(tmp_path, FAREBOX_ENABLED="0"))

    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("name", FILES)
def test_a_file_reads_odd_answers_without_raising_into_the_app(name: str) -> None:
    """What is read is guarded by the caller; what can be read of an odd answer still is."""
    from farebox.reading import Reading, Request

    module = importlib.import_module(f"farebox.sdks.{name}")
    for odd in (None, "text", b"bytes", 7, [], {}, {"usage": None}, {"usage": {}}, object()):
        reading = Reading(Request("chat", name, None))
        module.read_response(odd, reading)
        module.read_chunk(odd, reading)
        assert reading.attributes == {}
