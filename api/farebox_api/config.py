"""The API's settings: read once from the environment by `commands`, passed down from there.

Names, meanings and defaults are those of the operations guide. Nothing below this module looks at the environment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

import msgspec

from farebox_api.errors import ConfigError
from farebox_ledger.catalog.download import checked_origin
from farebox_ledger.errors import InvalidInput
from farebox_ledger.price_schedule import INTERVAL_VARIABLE, interval_s
from farebox_ledger.price_sync import DEFAULT_URL, URL_VARIABLE

LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
LogFormat: TypeAlias = Literal["text", "json"]

MIN_ADMIN_KEY_LENGTH: Final = 32

_LISTEN: Final = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[^\s:\[\]]+)):(?P<port>\d{1,5})")
_BYTES: Final = re.compile(r"(\d{1,15})\s*(KiB|MiB|GiB)?", re.IGNORECASE | re.ASCII)
_UNITS: Final = {"": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_LOOPBACK: Final = re.compile(r"localhost|127(?:\.\d{1,3}){3}|::1")


class Address(msgspec.Struct, frozen=True):
    """Where to listen. Port 0 lets the system choose a free one."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Say whether only this machine reaches it."""
        return _LOOPBACK.fullmatch(self.host) is not None

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Tls(msgspec.Struct, frozen=True):
    """Files in PEM form. With `client_ca` only clients with a certificate of that authority get in."""

    cert: Path
    key: Path
    client_ca: Path | None = None


class ApiConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What the API is told from outside; every field has its variable in `from_environ`."""

    database_url: str | None = None  # None: the SQLite file in the platform's data folder
    listen: Address = Address("127.0.0.1", 8080)
    admin_key: str | None = None
    tls: Tls | None = None
    max_body_bytes: int = 64 * 1024 * 1024
    price_sync_url: str = DEFAULT_URL
    price_sync_interval_s: int | None = None  # None: prices are synced on demand alone
    requests_per_minute: int | None = None  # None: keys without a limit of their own have none
    log_level: LogLevel = "info"
    log_format: LogFormat = "text"

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> ApiConfig:
        """Read the settings; an empty variable counts as absent.

        Raises:
            ConfigError: a value cannot be used; names the variable.
        """
        given = {name: value for name, value in environ.items() if name.startswith("FAREBOX_") and value.strip()}
        defaults = cls()
        return cls(
            database_url=given.get("FAREBOX_DATABASE_URL"),
            listen=_address("FAREBOX_API_LISTEN", given.get("FAREBOX_API_LISTEN")) or defaults.listen,
            admin_key=_admin_key("FAREBOX_ADMIN_KEY", given.get("FAREBOX_ADMIN_KEY")),
            tls=_tls(given),
            max_body_bytes=_bytes("FAREBOX_MAX_BODY_BYTES", given.get("FAREBOX_MAX_BODY_BYTES"))
            or defaults.max_body_bytes,
            price_sync_url=_price_sync_url(given.get(URL_VARIABLE, defaults.price_sync_url)),
            price_sync_interval_s=_price_sync_interval(given.get(INTERVAL_VARIABLE)),
            requests_per_minute=_requests_per_minute("FAREBOX_RATE_LIMIT", given.get("FAREBOX_RATE_LIMIT")),
            log_level=_log_level(given.get("FAREBOX_LOG_LEVEL", defaults.log_level)),
            log_format=_log_format(given.get("FAREBOX_LOG_FORMAT", defaults.log_format)),
        )


def _address(variable: str, value: str | None) -> Address | None:
    if value is None:
        return None
    match = _LISTEN.fullmatch(value)
    if match is None or int(match["port"]) > 65535:
        raise ConfigError(variable, f"expected HOST:PORT such as 127.0.0.1:8080, got {value!r}")
    return Address(match["v6"] or match["host"], int(match["port"]))


def _admin_key(variable: str, value: str | None) -> str | None:
    if value is None:
        return None
    if len(value) < MIN_ADMIN_KEY_LENGTH or not value.isprintable() or value != value.strip():
        raise ConfigError(
            variable, f"expected at least {MIN_ADMIN_KEY_LENGTH} printable characters without spaces around them"
        )
    return value


def _tls(given: Mapping[str, str]) -> Tls | None:
    cert, key, client_ca = (_file(f"FAREBOX_TLS_{part}", given) for part in ("CERT", "KEY", "CLIENT_CA"))
    if cert is None and key is None and client_ca is None:
        return None
    if cert is None or key is None:
        missing = "FAREBOX_TLS_CERT" if cert is None else "FAREBOX_TLS_KEY"
        raise ConfigError(missing, "TLS needs both FAREBOX_TLS_CERT and FAREBOX_TLS_KEY")
    return Tls(cert, key, client_ca)


def _file(variable: str, given: Mapping[str, str]) -> Path | None:
    if variable not in given:
        return None
    path = Path(given[variable]).expanduser()
    if not path.is_file():
        raise ConfigError(variable, f"there is no file {given[variable]!r}")
    return path


def _bytes(variable: str, value: str | None) -> int | None:
    if value is None:
        return None
    match = _BYTES.fullmatch(value)
    if match is None or int(match[1]) == 0:
        raise ConfigError(variable, f"expected a whole number of bytes above 0, such as 1048576 or 1MiB, got {value!r}")
    return int(match[1]) * _UNITS[(match[2] or "").lower()]


def _requests_per_minute(variable: str, value: str | None) -> int | None:
    if value is None:
        return None
    if not re.fullmatch(r"[1-9]\d{0,8}", value.strip(), re.ASCII):
        raise ConfigError(variable, f"expected a whole number of requests a minute above 0, got {value!r}")
    return int(value)


def _price_sync_url(value: str) -> str:
    try:
        return checked_origin(value)
    except InvalidInput as error:
        raise ConfigError(URL_VARIABLE, error.detail) from None


def _price_sync_interval(value: str | None) -> int | None:
    try:
        return None if value is None else interval_s(value)
    except InvalidInput as error:
        raise ConfigError(INTERVAL_VARIABLE, error.detail) from None


def _log_level(value: str) -> LogLevel:
    for level in get_args(LogLevel):
        if value.lower() == level:
            return level  # type: ignore[no-any-return]
    raise ConfigError("FAREBOX_LOG_LEVEL", f"expected one of {', '.join(get_args(LogLevel))}, got {value!r}")


def _log_format(value: str) -> LogFormat:
    for name in get_args(LogFormat):
        if value.lower() == name:
            return name  # type: ignore[no-any-return]
    raise ConfigError("FAREBOX_LOG_FORMAT", f"expected one of {', '.join(get_args(LogFormat))}, got {value!r}")
