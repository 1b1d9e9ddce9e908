"""The page `docs/sdk-matrix.md`: which calls of which SDK the tests have metered, and how they ended.

Comes in: cells (`tests.instrumentation.cells`). Goes out: the page as text, and the cells of a page that was written
before. A mode in which an SDK has no such call is named here with its reason; every other empty cell says `untested`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from tests.instrumentation.cells import Cell

#: The files of the tests that a session has found.
COLLECTED = pytest.StashKey[set[Path]]()
PAGE = Path(__file__).resolve().parents[2] / "docs" / "sdk-matrix.md"
MODES = ("sync", "async", "sync stream", "async stream")
OUTCOMES = ("completed", "closed_early", "dropped", "cancelled", "error")
UNTESTED = "**untested**"
NOT_OFFERED = "–"
#: Tested in environments of their own, by the slow tests.
SLOW_SDKS = frozenset({"litellm"})

#: What no SDK streams: the answer is one piece, or is delivered whole by another call.
NEVER_STREAMED = frozenset({
    "embeddings", "rerank", "ocr", "video_generation", "classify", "chat (batch)", "embeddings (batch)",
    "generate_content (batch)", "ocr (batch)",
})  # fmt: skip
#: SDK and operation → modes that it does not offer.
STREAMS = frozenset({"sync stream", "async stream"})
NEVER: Mapping[tuple[str, str], frozenset[str]] = {
    ("bedrock", "image_generation"): STREAMS,
    ("google_genai", "image_generation"): STREAMS,
    ("huggingface_hub", "speech"): STREAMS,
    ("groq", "speech"): STREAMS,
    ("groq", "transcription"): STREAMS,
    ("openai", "speech"): STREAMS,
    ("together", "image_generation"): STREAMS,
    ("together", "transcription"): STREAMS,
}
#: Every way in which a stream of text can end is to be tested; a sync one is cancelled by nobody.
CHATS = frozenset({"chat", "generate_content"})
ENDS: Mapping[str, tuple[str, ...]] = {
    "sync": ("completed", "error"),
    "async": ("completed", "error"),
    "sync stream": ("completed", "closed_early", "dropped", "error"),
    "async stream": OUTCOMES,
}
#: Ends that an SDK does not let be told from another: its generator stands before what is metered. In Cohere's a stream
#: that is dropped is closed, in Hugging Face's one that is closed is dropped.
NEVER_ENDS: Mapping[str, frozenset[str]] = {
    "cohere": frozenset({"dropped"}),
    "huggingface_hub": frozenset({"closed_early"}),
}
#: SDKs without an async client.
SYNC_ONLY = frozenset({"bedrock"})

HEAD = """# What the tests meter

Each cell is taken from the spans that the tests in `tests/instrumentation` have recorded from calls of the real SDKs;
it lists how those calls ended: c completed, e closed early, d dropped, x cancelled, f failed. **untested** is a mode
that the SDK may offer and no test has called, **d?** a way in which a chat may end and no test has ended one, – a mode
that the SDK does not offer (the list stands in `tests/instrumentation/matrix.py`).

`WRITE_SDK_MATRIX=1 python3 run.py test tests/instrumentation` writes this page anew, with `--slow` litellm's rows;
without the variable the tests compare.

| SDK | operation | sync | async | sync stream | async stream |
|---|---|---|---|---|---|
"""
LETTERS = dict(zip(OUTCOMES, "cedxf", strict=True))


def is_complete(config: pytest.Config, sdk: str) -> bool:
    """Whether a session runs all that has cells of this SDK: every file here, none of it chosen by name."""
    chosen = (
        config.option.keyword
        or getattr(config.option, "lf", False)
        or any("::" in argument for argument in config.args)
    )
    files = set(Path(__file__).parent.rglob("test_*.py"))
    expression = "slow" if sdk in SLOW_SDKS else "not slow"
    return not chosen and files <= config.stash[COLLECTED] and config.option.markexpr in ("", expression)


def page(cells: Iterable[Cell]) -> str:
    """The whole page."""
    found = set(cells)
    rows = sorted({(cell.sdk, cell.operation) for cell in found})
    return HEAD + "".join(_row(sdk, operation, found) for sdk, operation in rows)


def cells_of(text: str) -> set[Cell]:
    """The cells that a page claims."""
    rows = [[part.strip() for part in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    outcomes = {letter: outcome for outcome, letter in LETTERS.items()}
    return {
        Cell(sdk, operation, mode, outcomes[letter])
        for sdk, operation, *filled in rows[2:]
        for mode, content in zip(MODES, filled, strict=True)
        if content not in (UNTESTED, NOT_OFFERED)
        for letter in content.split()
        if letter in outcomes
    }


def _row(sdk: str, operation: str, cells: set[Cell]) -> str:
    return f"| {sdk} | {operation} | " + " | ".join(_content(sdk, operation, mode, cells) for mode in MODES) + " |\n"


def _content(sdk: str, operation: str, mode: str, cells: set[Cell]) -> str:
    seen = [LETTERS[outcome] for outcome in OUTCOMES if Cell(sdk, operation, mode, outcome) in cells]
    is_stream, is_async = mode.endswith("stream"), mode.startswith("async")
    if seen:
        ends = [end for end in ENDS[mode] if end not in NEVER_ENDS.get(sdk, ())] if operation in CHATS else []
        return " ".join(seen + [f"**{LETTERS[end]}?**" for end in ends if LETTERS[end] not in seen])
    is_never = (is_stream and operation in NEVER_STREAMED) or (is_async and sdk in SYNC_ONLY)
    return NOT_OFFERED if is_never or mode in NEVER.get((sdk, operation), ()) else UNTESTED
