"""Carry the context of a call into the threads of an SDK that spreads it over a pool.

Comes in: an executor that an SDK keeps. Goes out: the same executor, behind a proxy whose tasks run in the context in
which they were handed over, so that the spans of their requests know who pays and what they are part of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import Any

from farebox.bodies import Proxy


def carrying(executor: Any) -> Any:
    """The executor with contexts carried; one that carries them already is answered as it is."""
    return executor if isinstance(executor, CarryingExecutor) else CarryingExecutor(executor)


class CarryingExecutor(Proxy):
    """An executor of `concurrent.futures`, for the rest."""

    def submit(self, task: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return self.__wrapped__.submit(copy_context().run, task, *args, **kwargs)

    def map(self, task: Callable[..., Any], *arguments: Any, **options: Any) -> Iterator[Any]:
        context = copy_context()

        def run(*given: Any) -> Any:
            return context.copy().run(task, *given)  # one context can be entered by one thread at a time

        results: Iterator[Any] = self.__wrapped__.map(run, *arguments, **options)
        return results
