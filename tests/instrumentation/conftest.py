from __future__ import annotations

import gc
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

import farebox
from farebox import config, exporting, safety
from tests import fakes
from tests.fakes.provider import FakeProvider
from tests.instrumentation import cells, matrix
from tests.instrumentation.recorder import Recorder

AUTHORITY = Path(fakes.__file__).with_name("authority.pem")
PASSED = pytest.StashKey[bool]()


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of the machine reaches a test, and no test writes into the home folder."""
    import os

    for name in list(os.environ):
        if name.startswith(("FAREBOX_", "OTEL_", "OPENAI_", "ANTHROPIC_", "AWS_")):
            monkeypatch.delenv(name)
    # HTTP clients read all authorities that they trust when they are made: 40 ms for those of the web.
    monkeypatch.setenv("SSL_CERT_FILE", str(AUTHORITY))
    monkeypatch.setenv("FAREBOX_BUFFER_DIR", str(tmp_path / "buffer"))
    safety.faults.clear()
    safety.losses.clear()


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as fake:
        yield fake


@pytest.fixture
def recorder(_environment: None, request: pytest.FixtureRequest) -> Iterator[Recorder]:
    """Metering is on, and the recorder gets what would be sent; what a passed test has metered goes into the matrix."""
    kept = Recorder()
    with cells.Watch() as watch:
        exporting.start(config.read(), kept)
        assert farebox.instrument()
        yield kept
        if request.node.stash.get(PASSED, False):
            cells.SEEN.update(watch.cells(kept.spans()))
        farebox.uninstrument()
        exporting.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call":
        item.stash[PASSED] = report.passed
    return report


@pytest.hookimpl(tryfirst=True)  # before pytest looks at `-m`
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The matrix is compared when all others have run."""
    config.stash[matrix.COLLECTED] = {item.path for item in items}
    items.sort(key=lambda item: item.path.name == "test_matrix.py")


@pytest.fixture(scope="module", autouse=True)
def _cheap_collections() -> None:
    """Leave the modules of all SDKs out of the many collections that the tests ask for: each would take 0.2 s."""
    gc.freeze()


@pytest.fixture
def no_faults(recorder: Recorder) -> Iterator[None]:
    """A fault of ours, which the app would not see, fails the test."""
    yield
    assert not safety.faults, dict(safety.faults)
