"""What holds for every SDK file: the attributes come back, and a fault of ours is not felt."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from typing import Any

import pytest

import farebox
from farebox import metering, patching, safety
from tests.instrumentation.recorder import Recorder


def assert_every_target_is_patched_and_restored(sdk: str) -> None:
    """With metering off on entry: on, every target is another object; off again, the very one of before."""
    targets = importlib.import_module(f"farebox.sdks.{sdk}").TARGETS
    for module in {target.module for target in targets}:
        importlib.import_module(module)
    before = [_found(target) for target in targets]

    farebox.instrument()
    states = {patch.target.attribute: patch.state for patch in patching.patches()[sdk]}
    during = [_found(target) for target in targets]
    farebox.uninstrument()

    assert set(states.values()) == {"patched"}, states
    assert all(one is not other for one, other in zip(before, during, strict=True))
    assert all(one is other for one, other in zip(before, [_found(target) for target in targets], strict=True))


def assert_our_faults_are_not_felt(
    sdk: str, hook: str, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, call: Callable[[], Any]
) -> None:
    """`call` must reach the hook; what it answers is the same with the hook broken."""
    expected = call()

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(metering._sdks[sdk], hook, fail)
    # A log record that is kept keeps the traceback, and with it streams that the app has dropped.
    monkeypatch.setattr(logging.getLogger("farebox"), "disabled", True)

    assert call() == expected
    assert safety.faults[f"farebox.sdks.{sdk}.{hook}"] == 1
    assert len(recorder.spans()) == (1 if hook == "read_request" else 2)


def _found(target: Any) -> Any:
    owner: Any = importlib.import_module(target.module)
    *outer, last = target.attribute.split(".")
    for name in outer:
        owner = getattr(owner, name)
    return vars(owner)[last]
