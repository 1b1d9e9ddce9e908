"""The fault injection of `test_faults` for LiteLLM, run by `test_litellm` in LiteLLM's environment.

Its calls are of both kinds: by LiteLLM's own HTTP stack, and nested, through the openai package.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.instrumentation import test_faults
from tests.instrumentation.recorder import Recorder
from tests.instrumentation.test_faults import HOOKS, Expected

pytestmark = test_faults.pytestmark
#: pytest finds a fixture by the name that it has in the module.
unpatched = test_faults.unpatched


def test_metering_changes_nothing_that_the_app_sees(
    recorder: Recorder, unpatched: Callable[[str], Expected], monkeypatch: pytest.MonkeyPatch
) -> None:
    test_faults.test_metering_changes_nothing_that_the_app_sees(recorder, unpatched, monkeypatch, "litellm")


@pytest.mark.parametrize("hook", HOOKS)
def test_a_fault_of_ours_changes_nothing_that_the_app_sees(
    recorder: Recorder,
    unpatched: Callable[[str], Expected],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    hook: str,
) -> None:
    test_faults.test_a_fault_of_ours_changes_nothing_that_the_app_sees(
        recorder, unpatched, monkeypatch, caplog, hook, "litellm"
    )
