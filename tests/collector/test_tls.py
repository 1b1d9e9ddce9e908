from __future__ import annotations

import datetime
import http.client
import json
import socket
import ssl
import time
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from farebox_collector.config import Tls
from farebox_collector.errors import InvalidSetting
from tests.collector.emitting import calls
from tests.collector.running import PROTOBUF, Child, Forward, Running, config_for, metric, running, wait_for
from tests.collector.test_grpc import EXPORT


@pytest.fixture
def pair(tmp_path: Path) -> Tls:
    """A certificate for localhost that is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = Tls(tmp_path / "cert.pem", tmp_path / "key.pem")
    files.cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


def post(collector: Running, context: ssl.SSLContext) -> int:
    connection = http.client.HTTPSConnection("localhost", collector.http.port, timeout=10, context=context)
    try:
        connection.request("POST", "/v1/traces", calls([1]), {"content-type": PROTOBUF})
        return connection.getresponse().status
    finally:
        connection.close()


def export(collector: Running, credentials: grpc.ChannelCredentials) -> bytes:
    with grpc.secure_channel(f"localhost:{collector.collector.grpc_port}", credentials) as channel:
        return bytes(channel.unary_unary(EXPORT, None, None)(calls([2]), timeout=10))


def test_both_ports_speak_tls(tmp_path: Path, sqlite_url: str, pair: Tls) -> None:
    with running(config_for(tmp_path, database_url=sqlite_url, tls=pair)) as collector:
        assert post(collector, ssl.create_default_context(cafile=pair.cert)) == 200
        assert export(collector, grpc.ssl_channel_credentials(pair.cert.read_bytes())) == b""


def test_with_an_authority_only_its_clients_get_in(tmp_path: Path, sqlite_url: str, pair: Tls) -> None:
    tls = Tls(pair.cert, pair.key, pair.cert)
    stranger = ssl.create_default_context(cafile=pair.cert)
    client = ssl.create_default_context(cafile=pair.cert)
    client.load_cert_chain(pair.cert, pair.key)
    root, key = pair.cert.read_bytes(), pair.key.read_bytes()
    with running(config_for(tmp_path, database_url=sqlite_url, tls=tls)) as collector:
        assert post(collector, client) == 200
        with pytest.raises(OSError, match=r"certificate required|reset|EOF|alert|closed"):
            post(collector, stranger)
        assert export(collector, grpc.ssl_channel_credentials(root, key, root)) == b""
        with pytest.raises(grpc.RpcError):
            export(collector, grpc.ssl_channel_credentials(root))


def test_connections_count_and_end_before_their_handshake(tmp_path: Path, sqlite_url: str, pair: Tls) -> None:
    config = config_for(tmp_path, database_url=sqlite_url, tls=pair, max_connections=2, header_timeout_s=1.0)
    with running(config) as collector:
        trusting = ssl.create_default_context(cafile=pair.cert)
        silent = [socket.create_connection(("127.0.0.1", collector.http.port), timeout=10) for _ in range(2)]
        with socket.create_connection(("127.0.0.1", collector.http.port), timeout=10) as third:
            assert is_hung_up(third)
        started = time.monotonic()
        assert [is_hung_up(connection) for connection in silent] == [True, True]
        assert time.monotonic() - started < 5
        assert [post(collector, trusting) for _ in range(3)] == [200, 200, 200]


def test_grpc_counts_connections_before_their_handshake_too(tmp_path: Path, sqlite_url: str, pair: Tls) -> None:
    config = config_for(tmp_path, database_url=sqlite_url, tls=pair, max_connections=2)
    with running(config) as collector:
        address = ("127.0.0.1", collector.collector.grpc_port)
        silent = [socket.create_connection(address, timeout=20) for _ in range(2)]
        with socket.create_connection(address, timeout=10) as third:
            assert is_hung_up(third)
        for connection in silent:
            connection.close()
        credentials = grpc.ssl_channel_credentials(pair.cert.read_bytes())
        wait_for(lambda: is_exported(collector, credentials))


@pytest.mark.slow
def test_a_handshake_over_grpc_has_ten_seconds(tmp_path: Path, sqlite_url: str, pair: Tls) -> None:
    with running(config_for(tmp_path, database_url=sqlite_url, tls=pair)) as collector:
        started = time.monotonic()
        with socket.create_connection(("127.0.0.1", collector.collector.grpc_port), timeout=20) as silent:
            assert is_hung_up(silent)
        assert 8 < time.monotonic() - started < 15


def test_a_stop_does_not_wait_for_handshakes(tmp_path: Path, pair: Tls) -> None:
    child = Child(tmp_path, FAREBOX_TLS_CERT=str(pair.cert), FAREBOX_TLS_KEY=str(pair.key))
    http = child.started()
    with socket.create_connection(("127.0.0.1", http.port), timeout=10) as silent:
        started = time.monotonic()
        assert child.terminate() == 0
        assert is_hung_up(silent)
    assert time.monotonic() - started < 6


def test_a_request_may_come_with_the_last_words_of_its_handshake(tmp_path: Path, sqlite_url: str, pair: Tls) -> None:
    trusting = ssl.create_default_context(cafile=pair.cert)
    body = calls([1])
    request = b"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b"
    with running(config_for(tmp_path, database_url=sqlite_url, tls=pair)) as collector:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = trusting.wrap_bio(incoming, outgoing, server_hostname="localhost")
        with socket.create_connection(("127.0.0.1", collector.http.port), timeout=10) as plain:
            while not is_handshake_over(client):
                if outgoing.pending:
                    plain.sendall(outgoing.read())
                incoming.write(plain.recv(65_536))
            client.write(request % (PROTOBUF.encode(), len(body), body))
            plain.sendall(outgoing.read())  # the client's Finished and the request in one piece
            incoming.write(plain.recv(65_536))
            assert answer_of(client, incoming, plain).startswith(b"HTTP/1.1 200 OK")


def is_handshake_over(client: ssl.SSLObject) -> bool:
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def answer_of(client: ssl.SSLObject, incoming: ssl.MemoryBIO, plain: socket.socket) -> bytes:
    while True:
        try:
            return client.read(100)
        except ssl.SSLWantReadError:
            incoming.write(plain.recv(65_536))


def is_hung_up(connection: socket.socket) -> bool:
    try:
        return connection.recv(100) == b""
    except ConnectionResetError:
        return True


def is_exported(collector: Running, credentials: grpc.ChannelCredentials) -> bool:
    try:
        return export(collector, credentials) == b""
    except grpc.RpcError:
        return False


def test_files_that_are_no_pair_are_named(tmp_path: Path, sqlite_url: str, pair: Tls) -> None:
    pair.key.write_text("no key")

    with pytest.raises(InvalidSetting, match=r"^FAREBOX_TLS_CERT: .*no pair"):
        Running(config_for(tmp_path, database_url=sqlite_url, tls=pair))


def test_a_forwarder_checks_the_certificate_of_its_gateway(tmp_path: Path, sqlite_url: str, pair: Tls) -> None:
    with running(config_for(tmp_path, database_url=sqlite_url, tls=pair)) as gateway:
        endpoint = f"https://localhost:{gateway.http.port}"
        stranger = Forward(tmp_path / "stranger", 0, FAREBOX_GATEWAY_ENDPOINT=endpoint)
        forwarder = Forward(tmp_path, 0, FAREBOX_GATEWAY_ENDPOINT=endpoint, SSL_CERT_FILE=str(pair.cert))
        wary, http = stranger.started(), forwarder.started()
        assert wary.post(calls([1])).status == http.post(calls([2])).status == 200
        wait_for(lambda: metric(http, "farebox_forwarded_spans_total") == 1)
        wait_for(lambda: wary.get("/readyz").json["status"] == "degraded")
        assert wary.get("/readyz").json["pending_spans"] == 1
        assert [stranger.terminate(), forwarder.terminate()] == [0, 0]


def test_failed_handshakes_leave_the_log_as_it_is(tmp_path: Path, pair: Tls) -> None:
    child = Child(tmp_path, FAREBOX_TLS_CERT=str(pair.cert), FAREBOX_TLS_KEY=str(pair.key), FAREBOX_LOG_FORMAT="json")
    http = child.started()
    for port in (http.port, int(child.grpc_address.rpartition(":")[2])):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
            plain.recv(100)
    child.process.terminate()
    code, _, error = child.end()

    assert code == 0
    assert [json.loads(line)["level"] for line in error.splitlines()] == []
