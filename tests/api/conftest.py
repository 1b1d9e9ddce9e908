"""The API over a real database, with two organizations and a key for each kind of caller."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from litestar._openapi.plugin import OpenAPIPlugin
from litestar.openapi.spec import OpenAPI
from litestar.testing import TestClient
from litestar.utils.signature import ParsedSignature
from sqlalchemy import Engine

from farebox_api.app import create_app
from farebox_api.config import ApiConfig
from farebox_ledger.store.engine import open_engine, transaction
from farebox_ledger.store.keys import create_key
from farebox_ledger.store.organizations import create_organization
from farebox_ledger.store.scope import AllOrganizations
from farebox_ledger.usage import org_id_of

BOOTSTRAP_KEY = "a bootstrap key that an operator chose for the first day"


@dataclass
class Api:
    """One application and the keys that open it; acme and zenith are two tenants who must not see each other."""

    client: TestClient[Any]
    engine: Engine
    acme_key: str
    zenith_key: str
    system_key: str

    def get(self, path: str, key: str | None = None, /, **parameters: Any) -> Any:
        """Ask as acme's administrator unless another key is given, and answer the response."""
        return self.client.get(path, params=parameters, headers=bearer(key or self.acme_key))

    def json(self, path: str, key: str | None = None, /, **parameters: Any) -> Any:
        """Ask, expect 200, and answer the body."""
        response = self.get(path, key, **parameters)
        assert response.status_code == 200, response.text
        return response.json()

    def post(self, path: str, body: Any, key: str | None = None) -> Any:
        return self.client.post(path, json=body, headers=bearer(key or self.acme_key))

    def make_key(self, organization: str | None, *scopes: str, expires_at_us: int | None = None) -> str:
        with transaction(self.engine, AllOrganizations(), write=True) as connection:
            org_id = None if organization is None else org_id_of(organization)
            return create_key(connection, org_id=org_id, scopes=scopes, expires_at_us=expires_at_us)[1]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture(scope="session", autouse=True)
def _derived_once() -> Iterator[None]:
    """Derive the document and the handlers' signatures once: the same for every application, and most of making one."""
    documents: list[OpenAPI] = []
    signatures: dict[Any, ParsedSignature] = {}
    derive, parse = OpenAPIPlugin._build_openapi, ParsedSignature.from_fn

    def derive_once(plugin: OpenAPIPlugin) -> OpenAPI:
        if not documents:
            documents.append(derive(plugin))
        return documents[0]

    def parse_once(function: Any, namespace: dict[str, Any]) -> ParsedSignature:
        if "<locals>" in function.__qualname__:  # made anew with each application
            return parse(function, namespace)
        if function not in signatures:
            signatures[function] = parse(function, namespace)
        return signatures[function]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OpenAPIPlugin, "_build_openapi", derive_once)
        patch.setattr(ParsedSignature, "from_fn", parse_once)
        yield


@pytest.fixture(scope="session")
def unchanging_api(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API on SQLite for all tests together that change nothing."""
    file = tmp_path_factory.mktemp("unchanging") / "farebox.db"
    shutil.copy(sqlite_template, file)
    engine = open_engine(f"sqlite:///{file}")
    yield from running_api(engine)
    engine.dispose()


@pytest.fixture
def api(engine: Engine) -> Iterator[Api]:
    """An API on each kind of database in turn."""
    yield from running_api(engine)


def running_api(engine: Engine) -> Iterator[Api]:
    with transaction(engine, AllOrganizations(), write=True) as connection:
        for slug in ("acme", "zenith"):
            create_organization(connection, slug)
        keys = [
            create_key(connection, org_id=org_id, scopes=["admin"])[1]
            for org_id in (org_id_of("acme"), org_id_of("zenith"), None)
        ]
    config = ApiConfig(admin_key=BOOTSTRAP_KEY, price_sync_url="file:///nowhere/prices.json")
    with TestClient(create_app(config, engine), raise_server_exceptions=False) as client:
        yield Api(client, engine, *keys)
