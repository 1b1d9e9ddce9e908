"""The console command, `farebox run` and `farebox doctor`."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from farebox import cli, run
from farebox.sdks import SDKS
from tests.fakes.provider import FakeProvider
from tests.fakes.receiver import FakeReceiver
from tests.instrumentation import processes

FAREBOX = Path(sys.executable).parent / "farebox"


def farebox(buffer: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environ = processes.environment(buffer, **{"FAREBOX_ENABLED": "", **variables})
    return subprocess.run(
        [str(FAREBOX), *arguments], env=environ, capture_output=True, text=True, timeout=60, check=False
    )


def test_help_lists_every_command_with_its_first_line(tmp_path: Path) -> None:
    done = farebox(tmp_path, "--help")

    assert done.returncode == 0
    said = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if line.startswith("  "))
    assert said["run"] == "Start an app with metering switched on."
    assert said["doctor"] == "Say what is patched, for which SDK versions, and whether the collector answers."


def test_help_imports_no_part(tmp_path: Path) -> None:
    code = """
        import sys
        from farebox import cli
        cli.main(["--help"])
        parts = ("sqlalchemy", "litestar", "opentelemetry", "grpc")
        print([name for name in sys.modules if name.split(".")[0] in parts])
    """
    done = processes.run(code, processes.environment(tmp_path, FAREBOX_ENABLED=""))

    assert done.stdout.splitlines()[-1] == "[]"


def test_the_version_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == "farebox 0.1.0\n"


def test_wrong_use_is_exit_code_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert cli.main(["fly"]) == 2
    assert "no command 'fly'. Known: " in capsys.readouterr().err


def test_a_missing_part_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    command = EntryPoint("up", "not_installed_package.commands:up", cli.GROUP)
    monkeypatch.setattr(cli, "_commands", lambda: {"up": command})

    assert cli.main(["up"]) == 1
    assert 'pip install "farebox[server]"' in capsys.readouterr().err


def test_run_meters_an_app_and_passes_its_exit_code_on(tmp_path: Path) -> None:
    with FakeProvider() as provider, FakeReceiver() as receiver:
        app = tmp_path / "app.py"
        app.write_text(
            "import sys, openai\n"
            f"client = openai.OpenAI(base_url='{provider.url}/v1', api_key='k')\n"
            "client.embeddings.create(model='text-embedding-3-small', input='x')\n"
            "print(sys.argv[1:])\n"
            "sys.exit(7)\n"
        )
        done = farebox(tmp_path, "run", "--", sys.executable, str(app), "--flag", "x", FAREBOX_ENDPOINT=receiver.url)

        assert (done.returncode, done.stdout, done.stderr) == (7, "['--flag', 'x']\n", "")
        assert len(receiver.wait_for(1)) == 1


def test_run_meters_where_the_hook_is_not_read(tmp_path: Path) -> None:
    """A Python that reads no `.pth` files of ours: only the path that `farebox run` gives it."""
    hook = run.environment({})["PYTHONPATH"]
    code = "import sys; sys.path[:0] = []; import farebox.startup; print(farebox.startup.is_on())"
    environ = {**processes.environment(tmp_path), "PYTHONPATH": hook}
    done = subprocess.run(
        [sys._base_executable, "-c", code],  # type: ignore[attr-defined]
        env=environ, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert (done.stdout, done.stderr) == ("True\n", "")


def test_run_lets_the_apps_own_sitecustomize_run(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('theirs')\n")
    environ = run.environment({**processes.environment(tmp_path), "PYTHONPATH": str(tmp_path)})

    done = processes.run("import sitecustomize; print(sitecustomize.__file__)", environ)

    assert done.stdout.splitlines() == ["theirs", str(tmp_path / "sitecustomize.py")]
    assert done.stderr == ""


def test_run_without_a_program_is_wrong_use(tmp_path: Path) -> None:
    assert farebox(tmp_path, "run").returncode == 2
    assert "`python` is the one that the shell would start" in farebox(tmp_path, "run", "--help").stdout
    missing = farebox(tmp_path, "run", "no-such-program")
    assert missing.returncode == 1
    assert "no program 'no-such-program'" in missing.stderr


def test_doctor_says_that_all_is_well(tmp_path: Path) -> None:
    with FakeReceiver() as receiver:
        done = farebox(
            tmp_path, "doctor", "--json", FAREBOX_ENABLED="1", FAREBOX_ENDPOINT=receiver.url, FAREBOX_INGEST_KEY="k"
        )
        requests = list(receiver.requests)

    answer = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    assert {finding["state"] for finding in answer["findings"]} == {"ok"}
    sdks = {sdk["sdk"]: sdk for sdk in answer["sdks"]}
    assert list(sdks) == list(SDKS)
    assert sdks["openai"]["patched"] == [
        "openai._base_client.SyncAPIClient.request",
        "openai._base_client.AsyncAPIClient.request",
        "openai.resources.realtime.realtime.RealtimeConnection.recv_bytes",
        "openai.resources.realtime.realtime.AsyncRealtimeConnection.recv_bytes",
        "openai.resources.responses.responses.ResponsesConnection.recv_bytes",
        "openai.resources.responses.responses.AsyncResponsesConnection.recv_bytes",
        "openai.resources.live.live.LiveConnection.recv_bytes",
        "openai.resources.live.live.AsyncLiveConnection.recv_bytes",
        "openai.resources.live.sideband.SidebandConnection.recv_bytes",
        "openai.resources.live.sideband.AsyncSidebandConnection.recv_bytes",
        "openai.resources.live.forks.ForksConnection.recv_bytes",
        "openai.resources.live.forks.AsyncForksConnection.recv_bytes",
        "openai.resources.beta.realtime.realtime.RealtimeConnection.recv_bytes",
        "openai.resources.beta.realtime.realtime.AsyncRealtimeConnection.recv_bytes",
        "openai.resources.beta.responses.responses.ResponsesConnection.recv_bytes",
        "openai.resources.beta.responses.responses.AsyncResponsesConnection.recv_bytes",
    ]
    # Its modules are imported by the SDK only when they are used.
    assert len(sdks["mistralai"]["patched"]) == 54
    assert sdks["mistralai"]["not_patched"] == {}
    # It shares its namespace with other packages.
    assert sdks["azure_ai_inference"]["version"] == "1.0.0b9"
    assert [request.body for request in requests] == [b""]
    assert requests[0].headers["authorization"] == "Bearer k"


def test_doctor_imports_an_sdk_only_when_asked(tmp_path: Path) -> None:
    code = """
        import sys
        from farebox import doctor
        doctor.doctor(["--json", *sys.argv[1:]])
        print([name for name in ("ollama", "openai", "httpx") if name in sys.modules])
    """
    variables = {"FAREBOX_INSTRUMENT": "ollama", "FAREBOX_ENDPOINT": "http://127.0.0.1:9"}
    environ = processes.environment(tmp_path, **variables)
    asked = code.replace("*sys.argv[1:]", '"--import"')

    source, imported = (processes.run(text, environ).stdout for text in (code, asked))

    *first, modules = source.splitlines()
    *second, loaded = imported.splitlines()
    assert (modules, loaded) == ("[]", "['ollama', 'httpx']")
    sdks = [{sdk["sdk"]: sdk for sdk in json.loads("\n".join(lines))["sdks"]} for lines in (first, second)]
    assert sdks[0]["ollama"] == sdks[1]["ollama"]
    assert sdks[0]["ollama"]["patched"] == ["ollama._client.Client._request", "ollama._client.AsyncClient._request"]
    assert sdks[0]["openai"]["message"] == "left alone by FAREBOX_INSTRUMENT"


def test_doctor_says_that_an_sdk_cannot_be_imported(tmp_path: Path) -> None:
    package = tmp_path / "ollama"
    package.mkdir()
    (package / "__init__.py").write_text("import a_package_that_is_missing\n")
    done = farebox(
        tmp_path / "buffer", "doctor", "--json", "--import",
        FAREBOX_INSTRUMENT="ollama", PYTHONPATH=str(tmp_path), FAREBOX_ENDPOINT="http://127.0.0.1:9",
    )  # fmt: skip

    [found] = [sdk for sdk in json.loads(done.stdout)["sdks"] if sdk["sdk"] == "ollama"]
    assert found["state"] == "broken"
    assert found["message"] == "cannot be imported: No module named 'a_package_that_is_missing'"
    assert found["cure"] == "Repair it: pip install --force-reinstall ollama"


def test_doctor_sends_a_span_only_when_asked(tmp_path: Path) -> None:
    with FakeReceiver() as receiver:
        done = farebox(tmp_path, "doctor", "--send", FAREBOX_ENDPOINT=receiver.url)

        assert done.returncode == 0, done.stdout
        assert [span.name for span in receiver.spans] == ["chat doctor"]


@pytest.mark.parametrize(("status", "cure"), [(401, "farebox keys create"), (503, "farebox up")])
def test_doctor_names_the_cure_of_what_is_broken(tmp_path: Path, status: int, cure: str) -> None:
    with FakeReceiver() as receiver:
        receiver.status = status
        done = farebox(tmp_path, "doctor", FAREBOX_ENDPOINT=receiver.url)

    assert done.returncode == 1
    assert cure in done.stdout


def test_doctor_tells_wrong_settings_and_unpatchable_sdks(tmp_path: Path) -> None:
    package = tmp_path / "openai"
    package.mkdir()
    (package / "__init__.py").write_text("from openai import _base_client\n")
    (package / "_base_client.py").write_text("")
    with FakeReceiver() as receiver:
        done = farebox(
            tmp_path / "buffer", "doctor", "--json",
            FAREBOX_ENDPOINT=receiver.url, FAREBOX_BUFFER_MAX_BYTES="much", FAREBOX_DISABLED_SDKS="opnai",
            PYTHONPATH=str(tmp_path),
        )  # fmt: skip

    answer = json.loads(done.stdout)
    assert done.returncode == 1
    assert [finding["message"] for finding in answer["findings"] if finding["topic"] == "environment"] == [
        "FAREBOX_BUFFER_MAX_BYTES has a wrong value, its default is used",
        "FAREBOX_DISABLED_SDKS names an SDK that nobody knows; those known are anthropic, azure_ai_inference, bedrock, "
        "cohere, google_genai, groq, huggingface_hub, litellm, mistralai, ollama, openai, together",
    ]
    (found,) = [sdk for sdk in answer["sdks"] if sdk["sdk"] == "openai"]
    assert found["state"] == "broken"
    assert found["not_patched"]["openai._base_client.SyncAPIClient.request"].endswith(
        "has no callable SyncAPIClient.request"
    )
    assert found["cure"].startswith("Install a version that is tested: pip install")
