"""Schemathesis against the application: what the OpenAPI document says, and what is answered, are the same.

Left out is the one check that takes every request allowed by the document for one that must succeed: a model, an
organization or a price that does not exist is refused by the books, not by the shape of the request.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import load_all_checks
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance
from sqlalchemy import Engine

from tests.api.conftest import Api, bearer, running_api

load_all_checks()


@pytest.fixture
def line(sqlite_engine: Engine) -> Iterator[Api]:
    yield from running_api(sqlite_engine)


@pytest.mark.parametrize("examples", [25, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_answers_are_those_of_the_document(line: Api, examples: int) -> None:
    document = schemathesis.openapi.from_asgi("/schema/openapi.json", line.client.app)
    failed = {}
    for found in document.get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()
        try:
            check(operation, line, examples)
        except BaseExceptionGroup as error:
            failed[operation.label] = "\n".join(str(one) for one in error.exceptions)

    assert failed == {}, "\n\n".join(f"{label}:\n{said}" for label, said in failed.items())


def check(operation: schemathesis.APIOperation[Any, Any, Any, Any], line: Api, examples: int) -> None:
    @given(case=operation.as_strategy())
    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def holds(case: schemathesis.Case[Any]) -> None:
        case.call_and_validate(headers=bearer(line.system_key), excluded_checks=[positive_data_acceptance])

    holds()
