"""Contexts in the threads of an executor."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

from farebox.threads import carrying

who: ContextVar[str] = ContextVar("who", default="nobody")


def test_each_task_runs_in_the_context_in_which_it_was_handed_over() -> None:
    with ThreadPoolExecutor(4) as pool:
        executor = carrying(pool)
        token = who.set("ada")
        submitted = executor.submit(who.get)
        mapped = executor.map(lambda number: (number, who.get()), range(20))
        who.reset(token)

        assert submitted.result() == "ada"
        assert list(mapped) == [(number, "ada") for number in range(20)]
        assert pool.submit(who.get).result() == "nobody"


def test_an_executor_is_wrapped_once_and_stays_what_it_is() -> None:
    with ThreadPoolExecutor(1) as pool:
        executor = carrying(pool)

        assert carrying(executor) is executor
        assert isinstance(executor, ThreadPoolExecutor)


def test_what_a_task_sets_stays_in_the_task() -> None:
    with ThreadPoolExecutor(1) as pool:
        executor = carrying(pool)
        executor.submit(who.set, "bob").result()

        assert executor.submit(who.get).result() == "nobody"
        assert who.get() == "nobody"
