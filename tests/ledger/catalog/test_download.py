"""Fetching a catalog: whole, or not at all with the reason."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from farebox_ledger.catalog.download import Download, Limits, checked_origin, fetch
from farebox_ledger.errors import CatalogUnusable, InvalidInput
from tests.fakes.catalog_server import CatalogServer, catalog_server

CONTENT = b'{"gpt-4o": {"litellm_provider": "openai"}}' * 100
SMALL = Limits(max_bytes=len(CONTENT), idle_s=5, total_s=10)


@pytest.fixture
def server() -> Iterator[CatalogServer]:
    with catalog_server() as running:
        running.content = CONTENT
        yield running


def test_a_file_of_the_web_comes_whole_with_its_etag(server: CatalogServer) -> None:
    assert fetch(server.url, limits=SMALL) == Download(CONTENT, server.etag)
    assert server.asked[0]["accept-encoding"] == "gzip"
    assert "if-none-match" not in server.asked[0]


def test_what_is_known_already_is_not_sent_again(server: CatalogServer) -> None:
    assert fetch(server.url, etag=server.etag) == Download(None, server.etag)
    assert fetch(server.url, etag='"other"').content == CONTENT


@pytest.mark.parametrize("how", [{"encoding": "gzip"}, {"is_chunked": True}, {"has_etag": False}], ids=str)
def test_it_may_come_compressed_or_in_chunks(server: CatalogServer, how: dict[str, Any]) -> None:
    for name, value in how.items():
        setattr(server, name, value)

    assert fetch(server.url, limits=SMALL).content == CONTENT


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"cut_after": 100}, "truncated file: 100 of 4200 bytes"),
        ({"cut_after": 100, "is_chunked": True}, "truncated file"),
        ({"cut_after": 30, "encoding": "gzip"}, "truncated file"),
        ({"status": 404}, "answers 404"),
        ({"status": 500}, "answers 500"),
        ({"encoding": "br"}, "'br', which nobody asked for"),
        ({"content": CONTENT + b" "}, "larger than 4200 bytes"),
        ({"content": bytes(50_000_000), "encoding": "gzip"}, "larger than 4200 bytes"),
        ({"pause_s": 1.0}, "sent nothing for 0.2 seconds"),
        ({"status": 302, "location": "ftp://example.com/prices.json"}, "no address of the web"),
        ({"status": 302, "location": "http://example.com/prices.json"}, "redirects to where no catalog may come from"),
    ],
    ids=str,
)
def test_a_file_that_does_not_come_whole_is_refused_with_the_reason(
    server: CatalogServer, how: dict[str, Any], words: str
) -> None:
    for name, value in how.items():
        setattr(server, name, value)
    limits = Limits(len(CONTENT), idle_s=0.2 if "pause_s" in how else 5, total_s=10)

    with pytest.raises(CatalogUnusable, match=words):
        fetch(server.url, limits=limits)


def test_the_whole_time_is_bounded(server: CatalogServer) -> None:
    with pytest.raises(CatalogUnusable, match="took longer than -1 seconds"):
        fetch(server.url, limits=Limits(total_s=-1))


def test_a_server_that_is_not_there_is_named(server: CatalogServer) -> None:
    port = server.url.rsplit(":", 1)[1].split("/")[0]
    with catalog_server() as gone:
        url = gone.url
    assert port not in url

    with pytest.raises(CatalogUnusable, match="cannot be reached"):
        fetch(url)


def test_a_file_is_read_compressed_or_not(tmp_path: Path) -> None:
    plain, packed = tmp_path / "prices.json", tmp_path / "price list.json.gz"
    plain.write_bytes(CONTENT)
    packed.write_bytes(gzip.compress(CONTENT))

    assert fetch(plain.as_uri(), limits=SMALL) == fetch(packed.as_uri(), limits=SMALL) == Download(CONTENT)


def test_a_file_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    truncated, broken = tmp_path / "truncated.gz", tmp_path / "broken.gz"
    truncated.write_bytes(gzip.compress(CONTENT)[:-9])
    broken.write_bytes(b"\x1f\x8b and no more")

    for path, words in (
        (truncated, "truncated"),
        (broken, "no gzip"),
        (tmp_path / "none.json", "No such file"),
        (tmp_path, "cannot be read"),
    ):
        with pytest.raises(CatalogUnusable, match=words):
            fetch(path.as_uri())


@pytest.mark.parametrize(
    "origin",
    ["https://example.com/x.json", "http://localhost:80/x", "http://[::1]/x", "http://127.9.9.9/x", "file:///tmp/x"],
)
def test_a_catalog_may_come_encrypted_or_from_this_machine(origin: str) -> None:
    assert checked_origin(origin) == origin


@pytest.mark.parametrize(
    "origin",
    [
        "http://example.com/x.json",
        "http://localhost.example.com/x",
        "http://127.0.0.1.example.com/x",
        "https://user:secret@example.com/x",
        "ftp://example.com/x",
        "file://example.com/x",
        "prices.json",
        "https://",
        "http://[::1",
        "",
    ],
)
def test_any_other_address_is_refused(origin: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        checked_origin(origin)
    assert refused.value.field == "url"
