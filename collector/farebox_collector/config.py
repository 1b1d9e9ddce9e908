"""The collector's settings: read once from the environment, frozen, passed down by `app`.

Names and defaults are those of docs/operations.md. An empty variable counts as unset. Nothing here opens anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Literal, TypeAlias, TypeVar, get_args
from urllib.parse import unquote, urlsplit

import msgspec
from platformdirs import user_state_path

from farebox_collector.errors import InvalidSetting

LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
LogFormat: TypeAlias = Literal["text", "json"]
Headers: TypeAlias = tuple[tuple[str, str], ...]

MIB: Final = 2**20
_NO_HEADERS: Final[Headers] = ()
_LISTEN: Final = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[^\s:\[\]]+)):(?P<port>\d{1,5})")
_LOOPBACK: Final = re.compile(r"localhost|127(?:\.\d{1,3}){3}|::1")
_ORGANIZATION: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_BYTES: Final = re.compile(r"(\d{1,15})\s*(KiB|MiB|GiB)?", re.IGNORECASE)
_HEADER: Final = re.compile(r"\s*(?P<name>[A-Za-z0-9!#$%&'*+.^_`|~-]+)\s*=\s*(?P<value>[!-~][ -~]*)")
_UNITS: Final = {"": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30}

_T = TypeVar("_T")


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


class Endpoint(msgspec.Struct, frozen=True):
    """Where to send OTLP over HTTP: a base URL, below which the paths of the signals stand."""

    host: str
    port: int
    path: str = ""  # without a slash at its end
    is_tls: bool = False

    @property
    def is_private(self) -> bool:
        """Say whether nobody on the way reads what is sent."""
        return self.is_tls or self.is_here

    @property
    def is_here(self) -> bool:
        """Say whether it is on this machine."""
        return _LOOPBACK.fullmatch(self.host) is not None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.is_tls else 'http'}://{host}:{self.port}{self.path}"


class TeeDestination(msgspec.Struct, frozen=True):
    """Another OTLP backend that gets the original bytes, and the headers that it asks for."""

    endpoint: Endpoint
    headers: Headers = ()


class Tls(msgspec.Struct, frozen=True):
    """Files in PEM form. With `client_ca` only clients with a certificate of that authority get in."""

    cert: Path
    key: Path
    client_ca: Path | None = None


class CollectorConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What the collector is told from outside, and the fixed bounds that only tests change."""

    database_url: str | None = None  # None: the SQLite file in the platform's data folder
    grpc_listen: Address = Address("127.0.0.1", 4317)
    http_listen: Address = Address("127.0.0.1", 4318)
    spool_dir: Path
    spool_max_bytes: int = 512 * MIB
    max_body_bytes: int = 64 * MIB
    default_org: str | None = None
    keeps_error_messages: bool = True
    tls: Tls | None = None
    gateway: Endpoint | None = None  # `farebox forward` sends there
    ingest_key: str | None = None  # `farebox forward` sends it for senders without a key
    tee: tuple[TeeDestination, ...] = ()
    log_level: LogLevel = "info"
    log_format: LogFormat = "text"

    max_connections: int = 1000  # to the HTTP port, and as many to the gRPC port
    header_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    keys_refresh_s: float = 3.0  # revocation acts within 5 s
    catalog_poll_s: float = 2.0
    drain_notice_s: float = 1.0  # from NOT_SERVING to GOAWAY, so that balancers turn away first
    grace_s: float = 5.0  # for requests in flight at the end; their senders give up after ten seconds anyway
    drain_limit_s: float = 20.0  # for booking, after that
    refused_retry_s: float = 30.0  # how often the gateway is asked anew for a key that it refuses
    tee_max_bytes: int = 256 * MIB
    tee_max_age_s: float = 24 * 3600.0

    @property
    def max_inflight_bytes(self) -> int:
        """Bytes of requests that are held in memory at one time, raw and decompressed together."""
        return max(128 * MIB, 3 * self.max_body_bytes)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], *, default_org: str | None = None) -> CollectorConfig:
        """Read the settings; `default_org` stands in for an unset FAREBOX_DEFAULT_ORG where that is safe.

        Raises:
            InvalidSetting: a value cannot be used; the message is one line and names the variable.
        """
        settings = _Settings(environ)
        grpc_listen = settings.read("FAREBOX_GRPC_LISTEN", _address, Address("127.0.0.1", 4317))
        http_listen = settings.read("FAREBOX_HTTP_LISTEN", _address, Address("127.0.0.1", 4318))
        return cls(
            database_url=settings.read("FAREBOX_DATABASE_URL", str, None),
            grpc_listen=grpc_listen,
            http_listen=http_listen,
            spool_dir=settings.read("FAREBOX_SPOOL_DIR", _folder, user_state_path("farebox") / "spool"),
            spool_max_bytes=settings.read("FAREBOX_SPOOL_MAX_BYTES", _bytes, 512 * MIB),
            max_body_bytes=settings.read("FAREBOX_MAX_BODY_BYTES", _bytes, 64 * MIB),
            default_org=_default_org(settings, default_org, grpc_listen, http_listen),
            keeps_error_messages=settings.read("FAREBOX_ERROR_MESSAGES", _error_messages, True),
            tls=_tls(settings),
            gateway=settings.read("FAREBOX_GATEWAY_ENDPOINT", _endpoint, None),
            ingest_key=settings.read("FAREBOX_INGEST_KEY", str, None),
            tee=_tee(settings),
            log_level=settings.read("FAREBOX_LOG_LEVEL", _log_level, "info"),
            log_format=settings.read("FAREBOX_LOG_FORMAT", _log_format, "text"),
        )


class _Settings:
    """Reads variables with a parser each; a parser's ValueError says what was expected."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def read(self, variable: str, parse: Callable[[str], _T], default: _T) -> _T:
        value = self._environ.get(variable, "").strip()
        if not value:
            return default
        try:
            return parse(value)
        except ValueError as error:
            raise InvalidSetting(variable, f"{error}, got {value!r}") from None

    def secret(self, variable: str, parse: Callable[[str], _T], default: _T) -> _T:
        """Read a variable whose value must not be shown, not even when it is wrong."""
        value = self._environ.get(variable, "").strip()
        if not value:
            return default
        try:
            return parse(value)
        except ValueError as error:
            raise InvalidSetting(variable, str(error)) from None


def _default_org(settings: _Settings, fallback: str | None, *listens: Address) -> str | None:
    """Senders without a key are taken on loopback alone: anywhere else they would write into somebody's bill."""
    public = next((listen for listen in listens if not listen.is_loopback), None)
    given = settings.read("FAREBOX_DEFAULT_ORG", _organization, None)
    if public is None:
        return given or fallback
    if given is not None:
        raise InvalidSetting(
            "FAREBOX_DEFAULT_ORG",
            f"senders without a key are accepted on loopback only, but the collector listens on {public}; "
            "unset it and give each sender a key (farebox keys create --scope ingest)",
        )
    return None


def _address(value: str) -> Address:
    match = _LISTEN.fullmatch(value)
    if match is None or int(match["port"]) > 65535:
        raise ValueError("expected HOST:PORT such as 127.0.0.1:4318")
    return Address(match["v6"] or match["host"], int(match["port"]))


def _folder(value: str) -> Path:
    folder = Path(value).expanduser()
    if folder.exists() and not folder.is_dir():
        raise ValueError("expected a folder")
    return folder


def _organization(value: str) -> str | None:
    if not _ORGANIZATION.fullmatch(value):
        raise ValueError("expected 1 to 64 of a-z, 0-9 and inner '.', '_', '-'")
    return value


def _bytes(value: str) -> int:
    match = _BYTES.fullmatch(value)
    if match is None or int(match[1]) == 0:
        raise ValueError("expected a whole number of bytes above 0, such as 536870912 or 512MiB")
    return int(match[1]) * _UNITS[(match[2] or "").lower()]


def _error_messages(value: str) -> bool:
    if value.lower() not in ("scrubbed", "off"):
        raise ValueError("expected scrubbed or off")
    return value.lower() == "scrubbed"


def _tls(settings: _Settings) -> Tls | None:
    cert, key, client_ca = (settings.read(f"FAREBOX_TLS_{part}", _file, None) for part in ("CERT", "KEY", "CLIENT_CA"))
    if cert is None and key is None and client_ca is None:
        return None
    if cert is None or key is None:
        missing = "FAREBOX_TLS_CERT" if cert is None else "FAREBOX_TLS_KEY"
        raise InvalidSetting(missing, "TLS needs both FAREBOX_TLS_CERT and FAREBOX_TLS_KEY")
    return Tls(cert, key, client_ca)


def _endpoint(value: str) -> Endpoint | None:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("expected a base URL such as http://gateway:4318")
    if parts.username is not None:
        raise ValueError("expected a URL without a user")
    path = parts.path.rstrip("/")
    if path.endswith(("/v1/traces", "/v1/logs", "/v1/metrics")):
        raise ValueError("expected a base URL, to which /v1/traces is added")
    is_tls = parts.scheme == "https"
    return Endpoint(parts.hostname, parts.port or (443 if is_tls else 80), path, is_tls)


def _tee(settings: _Settings) -> tuple[TeeDestination, ...]:
    """One group of headers for each endpoint, in order: what one vendor is told is nothing for the next."""
    endpoints = settings.read("FAREBOX_TEE_ENDPOINTS", _endpoints, tuple[Endpoint, ...]())
    groups = settings.secret("FAREBOX_TEE_HEADERS", _header_groups, tuple(_NO_HEADERS for _ in endpoints))
    if len(groups) != len(endpoints):
        raise InvalidSetting(
            "FAREBOX_TEE_HEADERS",
            "expected one group of headers for each of FAREBOX_TEE_ENDPOINTS, separated by ';' (a group may be empty): "
            f"{len(endpoints)} endpoints, {len(groups)} groups",
        )
    return tuple(map(TeeDestination, endpoints, groups))


def _endpoints(value: str) -> tuple[Endpoint, ...]:
    endpoints = tuple(dict.fromkeys(endpoint for part in value.split(",") if (endpoint := _endpoint(part.strip()))))
    if len(endpoints) != value.count(",") + 1:
        raise ValueError("expected each endpoint once")
    return endpoints


def _header_groups(value: str) -> tuple[Headers, ...]:
    return tuple(
        tuple(_header(item) for item in group.split(",")) if group.strip() else _NO_HEADERS
        for group in value.split(";")
    )


def _header(item: str) -> tuple[str, str]:
    match = _HEADER.fullmatch(item.strip())
    if match is None:
        raise ValueError("expected NAME=VALUE, several separated by ',', values percent-encoded where needed")
    value = unquote(match["value"])
    if not value.isascii() or not value.isprintable():
        raise ValueError("expected values of printable ASCII")
    return match["name"].lower(), value


def _file(value: str) -> Path | None:
    path = Path(value).expanduser()
    if not path.is_file():
        raise ValueError("expected a file that exists")
    return path


def _log_level(value: str) -> LogLevel:
    for level in get_args(LogLevel):
        if value.lower() == level:
            return level  # type: ignore[no-any-return]
    raise ValueError(f"expected one of {', '.join(get_args(LogLevel))}")


def _log_format(value: str) -> LogFormat:
    for name in get_args(LogFormat):
        if value.lower() == name:
            return name  # type: ignore[no-any-return]
    raise ValueError(f"expected one of {', '.join(get_args(LogFormat))}")
