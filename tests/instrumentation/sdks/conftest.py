"""What the oldest supported version of each SDK must do: all of a file's tests but those that its `NEWER` names.

`NEWER` holds ids of cases ("chat parse") and names of tests; both are of features that the SDK got later.
"""

from __future__ import annotations

import pytest


@pytest.hookimpl(tryfirst=True)  # before pytest looks at `-m`
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as `core` what is not newer."""
    for item in items:
        if isinstance(item, pytest.Function) and not _names(item) & getattr(item.module, "NEWER", frozenset()):
            item.add_marker(pytest.mark.core)


def _names(item: pytest.Function) -> set[str]:
    case = item.callspec.id if hasattr(item, "callspec") else ""
    return {item.originalname, case, f"{item.originalname}[{case}]"}
