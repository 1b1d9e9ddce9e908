from __future__ import annotations

from pathlib import Path

import pytest

from farebox_collector.config import Address, CollectorConfig
from farebox_collector.errors import InvalidSetting


def test_the_defaults_listen_on_loopback_and_ask_for_a_key() -> None:
    config = CollectorConfig.from_environ({})

    assert (str(config.grpc_listen), str(config.http_listen)) == ("127.0.0.1:4317", "127.0.0.1:4318")
    assert config.default_org is None
    assert (config.spool_max_bytes, config.max_body_bytes) == (536870912, 67108864)
    assert config.spool_dir.name == "spool"


def test_everything_can_be_set() -> None:
    config = CollectorConfig.from_environ(
        {
            "FAREBOX_GRPC_LISTEN": "[::1]:0",
            "FAREBOX_HTTP_LISTEN": "localhost:14318",
            "FAREBOX_SPOOL_DIR": "/tmp/spool",
            "FAREBOX_SPOOL_MAX_BYTES": "1 GiB",
            "FAREBOX_MAX_BODY_BYTES": "1000",
            "FAREBOX_DEFAULT_ORG": "acme",
            "FAREBOX_ERROR_MESSAGES": "off",
            "FAREBOX_LOG_LEVEL": "DEBUG",
            "FAREBOX_LOG_FORMAT": "json",
            "FAREBOX_DATABASE_URL": "postgresql://host/books",
        }
    )

    assert config.grpc_listen == Address("::1", 0)
    assert config.spool_dir == Path("/tmp/spool")
    assert (config.spool_max_bytes, config.max_body_bytes) == (2**30, 1000)
    assert config.default_org == "acme"
    assert not config.keeps_error_messages
    assert (config.log_level, config.log_format) == ("debug", "json")
    assert config.database_url == "postgresql://host/books"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("FAREBOX_GRPC_LISTEN", "4317"),
        ("FAREBOX_HTTP_LISTEN", "127.0.0.1:70000"),
        ("FAREBOX_SPOOL_DIR", __file__),
        ("FAREBOX_SPOOL_MAX_BYTES", "many"),
        ("FAREBOX_MAX_BODY_BYTES", "0"),
        ("FAREBOX_DEFAULT_ORG", "Not A Slug"),
        ("FAREBOX_ERROR_MESSAGES", "maybe"),
        ("FAREBOX_TLS_CERT", "/nowhere.pem"),
        ("FAREBOX_LOG_LEVEL", "loud"),
        ("FAREBOX_LOG_FORMAT", "xml"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_variable(variable: str, value: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        CollectorConfig.from_environ({variable: value})

    assert str(caught.value).startswith(f"{variable}: expected ")
    assert repr(value) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_half_of_tls_names_the_other_half(tmp_path: Path) -> None:
    certificate = tmp_path / "cert.pem"
    certificate.write_text("x")

    with pytest.raises(InvalidSetting, match=r"^FAREBOX_TLS_KEY: "):
        CollectorConfig.from_environ({"FAREBOX_TLS_CERT": str(certificate)})


def test_senders_without_a_key_are_taken_on_loopback_only() -> None:
    public = {"FAREBOX_HTTP_LISTEN": "0.0.0.0:4318"}

    with pytest.raises(InvalidSetting, match=r"^FAREBOX_DEFAULT_ORG: .*loopback"):
        CollectorConfig.from_environ({**public, "FAREBOX_DEFAULT_ORG": "acme"})
    assert CollectorConfig.from_environ(public, default_org="default").default_org is None
    assert CollectorConfig.from_environ({}, default_org="default").default_org == "default"
