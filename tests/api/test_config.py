from __future__ import annotations

from pathlib import Path

import pytest

from farebox_api.config import Address, ApiConfig, Tls
from farebox_api.errors import ConfigError


def test_an_empty_environment_gives_the_documented_defaults() -> None:
    config = ApiConfig.from_environ({})

    assert config == ApiConfig(
        database_url=None,
        listen=Address("127.0.0.1", 8080),
        admin_key=None,
        tls=None,
        max_body_bytes=67108864,
        log_level="info",
        log_format="text",
    )


def test_every_variable_is_read(tmp_path: Path) -> None:
    cert, key, authority = (tmp_path / name for name in ("cert.pem", "key.pem", "ca.pem"))
    for file in (cert, key, authority):
        file.write_text("-")

    config = ApiConfig.from_environ(
        {
            "FAREBOX_DATABASE_URL": "sqlite:///books.db",
            "FAREBOX_API_LISTEN": "[::1]:0",
            "FAREBOX_ADMIN_KEY": "correct horse battery staple, twice",
            "FAREBOX_TLS_CERT": str(cert),
            "FAREBOX_TLS_KEY": str(key),
            "FAREBOX_TLS_CLIENT_CA": str(authority),
            "FAREBOX_MAX_BODY_BYTES": "1 KiB",
            "FAREBOX_LOG_LEVEL": "WARNING",
            "FAREBOX_LOG_FORMAT": "json",
        }
    )

    assert config == ApiConfig(
        database_url="sqlite:///books.db",
        listen=Address("::1", 0),
        admin_key="correct horse battery staple, twice",
        tls=Tls(cert, key, authority),
        max_body_bytes=1024,
        log_level="warning",
        log_format="json",
    )


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("FAREBOX_API_LISTEN", "8080"),
        ("FAREBOX_API_LISTEN", "127.0.0.1:65536"),
        ("FAREBOX_API_LISTEN", "::1:8080"),
        ("FAREBOX_ADMIN_KEY", "short"),
        ("FAREBOX_ADMIN_KEY", "a tab\tis not printable, whatever its length"),
        ("FAREBOX_ADMIN_KEY", " a key that begins with a space cannot be sent"),
        ("FAREBOX_TLS_CERT", "/nowhere/cert.pem"),
        ("FAREBOX_MAX_BODY_BYTES", "0"),
        ("FAREBOX_MAX_BODY_BYTES", "64 megs"),
        ("FAREBOX_LOG_LEVEL", "loud"),
        ("FAREBOX_LOG_FORMAT", "xml"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_variable(variable: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ApiConfig.from_environ({variable: value})

    assert str(caught.value).startswith(f"{variable}: ")
    assert "\n" not in str(caught.value)


def test_a_refused_admin_key_is_not_repeated_in_the_message() -> None:
    with pytest.raises(ConfigError) as caught:
        ApiConfig.from_environ({"FAREBOX_ADMIN_KEY": "tooshortsecret"})

    assert "tooshortsecret" not in str(caught.value)


def test_a_certificate_without_its_key_names_the_missing_variable(tmp_path: Path) -> None:
    cert = tmp_path / "cert.pem"
    cert.write_text("-")

    with pytest.raises(ConfigError, match="FAREBOX_TLS_KEY"):
        ApiConfig.from_environ({"FAREBOX_TLS_CERT": str(cert)})


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [("127.0.0.1", True), ("127.8.9.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("::", False)],
)
def test_only_this_machine_reaches_a_loopback_address(host: str, is_loopback: bool) -> None:
    assert Address(host, 1).is_loopback is is_loopback
