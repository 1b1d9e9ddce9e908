"""The command `farebox doctor`: say what is metered here, and whether the collector would take it.

Comes in: the environment and the installed SDKs. Goes out: findings, each with its cure. What an SDK's shapes allow is
read from its source (`farebox.shapes`), and seen by importing it only with `--import`; an empty request is sent to the
collector, and a span only with `--send`.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farebox import config, is_wanted, metering, patching, safety, shapes, startup
from farebox._version import __version__
from farebox.sdks import SDKS, Target

if TYPE_CHECKING:
    from farebox.sdks import Sdk

OK = "ok"
NOTE = "note"
BROKEN = "broken"
SEND_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at; `cure` is what the reader can do, empty where there is nothing to do."""

    topic: str
    state: str
    message: str
    cure: str = ""


@dataclass(slots=True)
class SdkFinding:
    """One SDK: its installed version (None: not installed), what is patched, and what is not and why."""

    sdk: str
    state: str
    version: str | None = None
    tested: tuple[str, str] | None = None
    patched: list[str] = field(default_factory=list)
    not_patched: dict[str, str] = field(default_factory=dict)
    message: str = ""
    cure: str = ""


def doctor(arguments: list[str]) -> int:
    """Say what is patched, for which SDK versions, and whether the collector answers."""
    parser = argparse.ArgumentParser(prog="farebox doctor", description=doctor.__doc__)
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.add_argument(
        "--import", action="store_true", dest="imports", help="import the SDKs and patch them: slow, and certain"
    )
    parser.add_argument("--send", action="store_true", help="send one test span; it becomes a row without usage")
    try:
        options = parser.parse_args(arguments)
    except SystemExit as exit_:
        return int(exit_.code or 0)
    settings = config.read()
    findings = [*_environment(settings), *_hook(), *_collector(settings), *_waiting(settings)]
    sdks = [_sdk(name, root, imports=options.imports) for name, root in SDKS.items()]
    if options.send:
        findings.append(_test_span(settings))
    print(_as_json(findings, sdks) if options.json else _as_text(findings, sdks))
    states = [finding.state for finding in findings] + [sdk.state for sdk in sdks]
    return 1 if BROKEN in states else 0


def _what_is_wrong(name: str) -> str:
    if name in ("FAREBOX_INSTRUMENT", "FAREBOX_DISABLED_SDKS"):
        return f"names an SDK that nobody knows; those known are {', '.join(SDKS)}"
    return "has a wrong value, its default is used"


def _environment(settings: config.Settings) -> list[Finding]:
    findings = [Finding("version", OK, f"farebox {__version__}, Python {sys.version.split()[0]}")]
    if is_wanted():
        findings.append(Finding("switch", OK, "metering is switched on by FAREBOX_ENABLED"))
    else:
        cure = "Set FAREBOX_ENABLED=1 for the app, or start it with: farebox run -- python app.py"
        findings.append(Finding("switch", NOTE, "metering is not switched on in this environment", cure))
    wrong = sorted(place.removeprefix("config.") for place in safety.faults if place.startswith("config."))
    findings += [
        Finding("environment", BROKEN, f"{name} {_what_is_wrong(name)}", f"Correct or unset {name}.") for name in wrong
    ]
    if settings.tracer_provider == "global":
        findings.append(Finding("pipeline", NOTE, "spans go through the app's own tracer provider and its sampling"))
    return findings


def _hook() -> list[Finding]:
    for folder in filter(None, sys.path):
        if Path(folder, "farebox.pth").is_file():
            return [Finding("hook", OK, f"the start-up hook is installed in {folder}")]
    cure = "Start the app with `farebox run`, or call farebox.instrument() before it imports its SDKs."
    return [Finding("hook", NOTE, "the start-up hook farebox.pth is not on the path of this Python", cure)]


def _collector(settings: config.Settings) -> list[Finding]:
    """Send an empty request: it shows whether the collector answers and takes the key, and books nothing."""
    from farebox import sending

    sender = sending.sender_for(settings)
    reply = sender.send(b"", SEND_TIMEOUT_S)
    sender.close()
    place = f"the collector at {settings.endpoint}"
    if reply.verdict is sending.Verdict.ACCEPTED:
        key = "takes the key" if settings.ingest_key else "answers without a key"
        return [Finding("collector", OK, f"{place} {key}")]
    if reply.verdict is sending.Verdict.REFUSED_KEY:
        cure = "Make one with `farebox keys create --org SLUG --scope ingest` and set FAREBOX_INGEST_KEY."
        what = "does not accept FAREBOX_INGEST_KEY" if settings.ingest_key else "wants a key"
        return [Finding("collector", BROKEN, f"{place} {what} ({reply.detail})", cure)]
    cure = "Start it with `farebox up`, or set FAREBOX_ENDPOINT to where it listens."
    return [Finding("collector", BROKEN, f"{place} does not take spans ({reply.detail})", cure)]


def _waiting(settings: config.Settings) -> list[Finding]:
    """Requests on disk, and those of senders with another key or endpoint, which this one does not send."""
    files = list(settings.buffer_dir.glob("*/*/*.otlp")) if settings.buffer_dir.is_dir() else []
    if not files:
        return [Finding("buffer", OK, f"nothing waits in {settings.buffer_dir}")]
    cure = "They are sent by the next app that runs with the endpoint and key that they were recorded with."
    return [Finding("buffer", NOTE, f"{len(files)} unsent requests wait in {settings.buffer_dir}", cure)]


def _sdk(name: str, root: str, *, imports: bool) -> SdkFinding:
    """Look at what of an SDK is patched when an app imports it, in its source or by doing so."""
    distribution, installed = _installed(root)
    if installed is None:
        return SdkFinding(name, NOTE, message="not installed")
    if setting := metering.switched_off_by(name):
        return SdkFinding(name, NOTE, installed, message=f"left alone by {setting}", cure=f"Change {setting}.")
    file: Sdk = importlib.import_module(f"farebox.sdks.{name}")
    found = SdkFinding(name, OK, installed, file.TESTED)
    if imports and (error := _imported(name, root)):
        cure = f"Repair it: pip install --force-reinstall {distribution}"
        return SdkFinding(name, BROKEN, installed, message=f"cannot be imported: {error}", cure=cure)
    is_whole = True
    for target, reason, is_fault in _became(name) if imports else _would_become(file.TARGETS):
        if reason is None:
            found.patched.append(f"{target.module}.{target.attribute}")
        else:
            found.not_patched[f"{target.module}.{target.attribute}"] = reason
            is_whole = is_whole and (target.is_newer or not is_fault)
    _judge(found, distribution, is_whole=is_whole)
    return found


def _imported(name: str, root: str) -> Exception | None:
    """Import the SDK with metering on, and what it imports itself only when it is used; the answer is what it raised.

    A part that lacks a package of its own stays waiting, which is no fault.
    """
    startup.instrument()
    try:
        importlib.import_module(root)
    except Exception as error:  # noqa: BLE001 - an SDK that cannot be imported is a finding
        return error
    for module in {patch.target.module for patch in patching.patches().get(name, [])}:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    return None


def _became(name: str) -> Iterator[tuple[Target, str | None, bool]]:
    """Each target, why it is not patched (None where it is), and whether that is a fault: a module may be left out."""
    for patch in patching.patches().get(name, []):
        reason = None if patch.state == patching.PATCHED else patch.reason
        yield patch.target, reason, patch.state == patching.MISSING


def _would_become(targets: Iterable[Target]) -> Iterator[tuple[Target, str | None, bool]]:
    """The same from the source."""
    for target in targets:
        yield target, shapes.missing(target), shapes.has_module(target)


def _judge(found: SdkFinding, distribution: str, *, is_whole: bool) -> None:
    """Say what the targets mean; `is_whole` when no other is missing than those that older versions lack."""
    tested = found.tested
    if not found.patched or not is_whole:
        found.state = BROKEN
        found.message = "some calls are not metered" if found.patched else "no call is metered"
        if tested:
            found.cure = f"Install a version that is tested: pip install '{distribution}=={tested[1]}.*'"
    elif tested and found.version and (side := _side_of(found.version, tested)):
        found.message = f"{side} than the tested versions; it is patched because its shapes match"


def _side_of(installed: str, tested: tuple[str, str]) -> str | None:
    """On which side of the tested range a version lies: "older", "newer", or None inside; minor versions count."""
    oldest, newest = ([int(number) for number in re.findall(r"\d+", version)] for version in tested)
    numbers = [int(number) for number in re.findall(r"\d+", installed)]
    if numbers[: len(newest)] > newest:
        return "newer"
    return "older" if numbers[: len(oldest)] < oldest else None


def _installed(root: str) -> tuple[str, str | None]:
    """The name and the version of the distribution that brings a package; None where it is not installed."""
    # Many distributions share a namespace (`azure`, `google`); those below one are called as their packages.
    names = [root.replace(".", "-")] if "." in root else packages_distributions().get(root, [])
    for name in names:
        try:
            return name, version(name)
        except PackageNotFoundError:
            continue
    return root, None


def _test_span(settings: config.Settings) -> Finding:
    """Send one span through the whole pipeline and say whether it arrived."""
    from farebox import exporting, manual

    exporting.start(settings)
    is_recorded = manual.record_usage(provider="farebox", model="doctor", operation="chat", requests=0, tags=["doctor"])
    exporting.flush(SEND_TIMEOUT_S)
    has_failed = not is_recorded or any(place.startswith("exporting.") for place in safety.faults)
    if has_failed:
        return Finding("test span", BROKEN, "the test span was not taken", "See the finding about the collector.")
    return Finding("test span", OK, "the test span was taken: a row of provider `farebox`, model `doctor`")


def _as_json(findings: list[Finding], sdks: list[SdkFinding]) -> str:
    data: dict[str, Any] = {
        "findings": [asdict(finding) for finding in findings],
        "sdks": [asdict(sdk) for sdk in sdks],
    }
    return json.dumps(data, indent=2)


def _as_text(findings: list[Finding], sdks: list[SdkFinding]) -> str:
    lines = [_line(finding.state, finding.topic, finding.message, finding.cure) for finding in findings]
    for sdk in sdks:
        tested = f", tested with {sdk.tested[0]} to {sdk.tested[1]}" if sdk.tested else ""
        what = f"{sdk.version or ''}{tested}".strip()
        message = "; ".join(part for part in (what, sdk.message) if part)
        lines.append(_line(sdk.state, sdk.sdk, message, sdk.cure))
        lines += [f"        patched      {target}" for target in sdk.patched]
        lines += [f"        not patched  {target}: {why}" for target, why in sdk.not_patched.items()]
    return "\n".join(lines)


def _line(state: str, topic: str, message: str, cure: str) -> str:
    return f"{state:<7} {topic:<12} {message}" + (f"\n        {'cure':<12} {cure}" if cure else "")
