"""Takes what does not belong in the books out of an error message, before it touches a disk.

Provider errors quote keys, addresses and sometimes prompts: only the first line stays, cut and scrubbed.
"""

from __future__ import annotations

import re
from typing import Final

MAX_MESSAGE_CHARACTERS: Final = 256
_INPUT_CHARACTERS: Final = 4 * MAX_MESSAGE_CHARACTERS  # enough to scrub what the cut could split, and bounded

_SECRETS: Final = re.compile(
    r"""
    (?:bearer|basic)\s+[^\s"',;]+                    # an Authorization header
    | \b(?:sk|pk|rk|fbx|gsk|hf|ghp|gho|xox[abp]|xai|r8)[-_][A-Za-z0-9*_\-.]{8,}
    | \b(?:AKIA|ASIA|AIza)[A-Za-z0-9*_\-]{8,}
    | \beyJ[A-Za-z0-9_\-]{8,}(?:\.[A-Za-z0-9_\-]*)*   # a JSON web token
    | [A-Za-z0-9_\-+/=]{40,}                          # any other long opaque token
    """,
    re.VERBOSE | re.IGNORECASE,
)
_EMAIL: Final = re.compile(r"[^\s@<>\"'(),;:]{1,64}@[^\s@<>\"'(),;:]{1,255}\.[A-Za-z]{2,24}")


def scrubbed(message: str) -> str | None:
    """Answer the first line of an error message without keys and e-mail addresses, at most 256 characters."""
    lines = message[:_INPUT_CHARACTERS].replace("\0", "").strip().splitlines()
    if not lines:
        return None
    line = _EMAIL.sub("[email]", _SECRETS.sub("[secret]", lines[0].strip()))
    return line[:MAX_MESSAGE_CHARACTERS] or None
