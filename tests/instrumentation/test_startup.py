"""The start-up hook: nothing when off, next to nothing when on, and everything once an SDK is imported."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.fakes.provider import FakeProvider
from tests.fakes.receiver import FakeReceiver
from tests.instrumentation import processes

LOADED = """
    import json, sys
    names = ("farebox", "farebox.startup", "farebox.patching", "farebox.metering", "opentelemetry", "wrapt", "openai",
             "anthropic", "typing", "inspect", "logging", "google.protobuf")
    print(json.dumps({name: name in sys.modules for name in names}))
"""

CALL = """
    import openai
    client = openai.OpenAI(base_url="%s/v1", api_key="k")
    client.embeddings.create(model="text-embedding-3-small", input="x")
"""


def loaded(buffer: Path, *options: str, code: str = LOADED, **variables: str) -> set[str]:
    done = processes.run(code, processes.environment(buffer, **variables), *options)
    assert done.returncode == 0, done.stderr
    answer: dict[str, bool] = json.loads(done.stdout)
    return {name for name, is_loaded in answer.items() if is_loaded}


@pytest.mark.parametrize("value", ["", "0", "false", "no", "off", "2", "enabled"])
def test_switched_off_the_hook_loads_nothing_of_ours(tmp_path: Path, value: str) -> None:
    assert loaded(tmp_path, FAREBOX_ENABLED=value) == set()


@pytest.mark.parametrize("value", ["1", "true", "Yes", " ON "])
def test_switched_on_the_hook_loads_only_the_watcher(tmp_path: Path, value: str) -> None:
    assert loaded(tmp_path, FAREBOX_ENABLED=value) == {"farebox"}


FINDERS = """
    import sys
    def finders():
        return [type(finder).__name__ for finder in sys.meta_path if type(finder).__module__.startswith("farebox")]
"""


def test_the_first_sdk_puts_the_finder_of_the_patches_in_the_place_of_the_watcher(tmp_path: Path) -> None:
    code = (
        FINDERS
        + """
    before, place = finders(), [type(finder).__name__ for finder in sys.meta_path].index("Watch")
    import anthropic, openai
    from openai._base_client import SyncAPIClient
    after = finders(), type(sys.meta_path[place]).__name__
    print(before, *after, hasattr(SyncAPIClient.request, "__wrapped__"))
    import farebox
    farebox.uninstrument()
    print(finders(), hasattr(SyncAPIClient.request, "__wrapped__"))
    """
    )

    done = processes.run(code, processes.environment(tmp_path))

    assert done.stdout.splitlines() == ["['Watch'] ['_Finder'] _Finder True", "[] False"], done.stderr


def test_the_hook_of_an_interpreter_that_reads_it_again_puts_no_second_watcher(tmp_path: Path) -> None:
    code = FINDERS + "    import farebox\n    farebox.begin()\n    farebox.instrument()\n    print(finders())\n"

    assert processes.run(code, processes.environment(tmp_path)).stdout == "['Watch']\n"


def test_the_hook_patches_an_sdk_that_another_hook_has_imported_before(tmp_path: Path) -> None:
    code = """
    import os
    import openai, farebox
    os.environ["FAREBOX_ENABLED"] = "1"
    farebox.begin()
    print(hasattr(openai._base_client.SyncAPIClient.request, "__wrapped__"))
    """
    done = processes.run(code, processes.environment(tmp_path, FAREBOX_ENABLED="0"))

    assert done.stdout == "True\n", done.stderr


def test_switching_off_before_any_sdk_is_imported_leaves_no_finder(tmp_path: Path) -> None:
    code = (
        FINDERS
        + """
    import farebox
    farebox.uninstrument()
    print(finders())
    farebox.instrument()
    print(finders())
    import openai
    print(hasattr(openai._base_client.SyncAPIClient.request, "__wrapped__"))
    """
    )

    done = processes.run(code, processes.environment(tmp_path))

    assert done.stdout.splitlines() == ["[]", "['_Finder']", "True"], done.stderr


def test_an_sdk_is_imported_even_where_the_patches_cannot_be(tmp_path: Path) -> None:
    code = """
    import sys
    sys.modules["farebox.patching"] = None  # its import raises
    import openai
    print(openai.OpenAI.__name__)
    """

    done = processes.run(code, processes.environment(tmp_path))

    assert done.stdout == "OpenAI\n"
    assert done.stderr.count("farebox: metering failed in startup") == 1


def test_opentelemetry_switched_off_as_a_whole_switches_us_off(tmp_path: Path) -> None:
    assert loaded(tmp_path, OTEL_SDK_DISABLED="true") == {"farebox"}


def test_importing_the_package_imports_nothing_else(tmp_path: Path) -> None:
    assert loaded(tmp_path, code="    import farebox\n" + LOADED, FAREBOX_ENABLED="0") == {"farebox"}


def test_protobuf_is_not_loaded_on_the_apps_way(tmp_path: Path) -> None:
    names = loaded(tmp_path, code="    import openai\n" + LOADED)

    assert {"farebox.metering", "opentelemetry", "wrapt", "openai"} <= names
    assert "google.protobuf" not in names


@pytest.mark.parametrize("options", [(), ("-X", "utf8"), ("-O",)])
def test_an_app_is_metered_by_one_variable(tmp_path: Path, options: tuple[str, ...]) -> None:
    with FakeProvider() as provider, FakeReceiver() as receiver:
        environ = processes.environment(tmp_path, FAREBOX_ENDPOINT=receiver.url)
        done = processes.run(CALL % provider.url, environ, *options)

        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        (span,) = receiver.wait_for(1)
        assert span.name == "embeddings text-embedding-3-small"


def test_an_sdk_that_was_imported_before_is_metered_too(tmp_path: Path) -> None:
    code = "    import openai\n    import farebox\n    farebox.instrument()\n" + CALL
    with FakeProvider() as provider, FakeReceiver() as receiver:
        environ = processes.environment(tmp_path, FAREBOX_ENDPOINT=receiver.url, FAREBOX_ENABLED="0")
        assert processes.run(code % provider.url, environ).returncode == 0

        assert len(receiver.wait_for(1)) == 1


@pytest.mark.parametrize(
    ("variables", "count"),
    [
        ({"FAREBOX_INSTRUMENT": "anthropic"}, 0),
        ({"FAREBOX_INSTRUMENT": "anthropic, OpenAI"}, 1),
        ({"FAREBOX_DISABLED_SDKS": "openai"}, 0),
        ({"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "requests,farebox"}, 0),
        ({"OTEL_SDK_DISABLED": "true"}, 0),
        ({"FAREBOX_ENABLED": "no"}, 0),
    ],
)
def test_the_settings_choose_what_is_metered(tmp_path: Path, variables: dict[str, str], count: int) -> None:
    with FakeProvider() as provider, FakeReceiver() as receiver:
        environ = processes.environment(tmp_path, FAREBOX_ENDPOINT=receiver.url, **variables)
        assert processes.run(CALL % provider.url, environ).returncode == 0

        assert len(receiver.spans) == count


def test_together_with_opentelemetry_instrument_a_call_is_one_span(tmp_path: Path) -> None:
    program = Path(sys.executable).parent / "opentelemetry-instrument"
    with FakeProvider() as provider, FakeReceiver() as receiver:
        for enabled in ("1", "0"):
            environ = processes.environment(tmp_path, FAREBOX_ENDPOINT=receiver.url, FAREBOX_ENABLED=enabled)
            script = tmp_path / "app.py"
            script.write_text(textwrap.dedent(CALL % provider.url))
            done = subprocess.run(
                [str(program), "--traces_exporter", "none", "--metrics_exporter", "none", "--logs_exporter", "none",
                 sys.executable, str(script)],
                env=environ, capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr

        assert [span.scope for span in receiver.wait_for(2)] == ["farebox.sdks.openai"] * 2


def test_the_module_of_an_sdk_keeps_its_own_loader(tmp_path: Path) -> None:
    code = """
        import openai._base_client as module
        print(type(module.__loader__).__name__, type(module.__spec__.loader).__name__, module.__spec__.name)
    """
    done = processes.run(code, processes.environment(tmp_path))

    assert done.stdout.split() == ["SourceFileLoader", "SourceFileLoader", "openai._base_client"]


def test_a_broken_sdk_file_does_not_break_the_import(tmp_path: Path) -> None:
    code = """
        import sys
        sys.modules["farebox.sdks.openai"] = None
        import openai
        print(openai.OpenAI.__name__)
    """
    done = processes.run(code, processes.environment(tmp_path))

    assert done.stdout == "OpenAI\n"
    assert "farebox: metering failed in patching.load" in done.stderr


def test_an_sdk_of_another_shape_is_left_alone(tmp_path: Path) -> None:
    package = tmp_path / "openai"
    package.mkdir()
    (package / "__init__.py").write_text("from openai import _base_client\n")
    (package / "_base_client.py").write_text("class SyncAPIClient:\n    request = 'no method'\n")
    code = """
        import openai, json
        from farebox import patching
        print(json.dumps([[p.target.attribute, p.state, p.reason] for p in patching.patches()["openai"][:2]]))
    """
    done = processes.run(code, processes.environment(tmp_path / "buffer", PYTHONPATH=str(tmp_path)))

    assert json.loads(done.stdout) == [
        ["SyncAPIClient.request", "missing", "openai._base_client has no callable SyncAPIClient.request"],
        ["AsyncAPIClient.request", "missing", "openai._base_client has no callable AsyncAPIClient.request"],
    ]
    assert done.stderr == ""
