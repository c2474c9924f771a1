"""Requests of the ledger are signed, repeated only where that is harmless, and fail as the SDK's would."""

import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from azure.core.credentials import AccessToken, AccessTokenInfo
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import CredentialUnavailableError
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3 import HTTPSConnectionPool, PoolManager, ProxyManager

from functions.adapters.storage import StorageAccount
from functions.adapters.table_connection import TableConnection, TableRequest, by_account_key, by_token, pool_for
from functions.adapters.table_port import Write
from functions.adapters.tables import AzureTables, Table
from functions.core.errors import AccessRefusedError, InvalidSettingsError, LedgerUnavailableError, ThrottledError

KEY = "a2V5"
Answering = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Service:
    """Answers as it is told to, one answer after another; the last one stays."""

    url: str
    answers: list[Answering] = field(default_factory=list[Answering])
    received: list[tuple[str, str, dict[str, str]]] = field(default_factory=list[tuple[str, str, dict[str, str]]])

    connections: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])
    ended: threading.Event = field(default_factory=threading.Event)  # a connection, by whoever opened it
    server: ThreadingHTTPServer | None = None

    def over_tls(self, folder: Path) -> Path:
        """Have it speak TLS; return the certificate that it shows."""
        certificate = make_certificate(folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        assert self.server is not None
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.url = self.url.replace("http://", "https://")
        return certificate

    def table(self) -> Table:
        storage = StorageAccount(
            connection_string=f"AccountName=account;AccountKey={KEY};TableEndpoint={self.url}/account;"
        )
        return AzureTables(storage, prefix="test").table("rows")

    def verbs(self) -> list[str]:
        return [verb for verb, _, _ in self.received]


def says(status: int, text: str = "", **headers: str) -> Answering:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(text.encode())))
        handler.end_headers()
        handler.wfile.write(text.encode())

    return answer


def make_certificate(folder: Path) -> Path:
    """Return a file with a certificate of this machine, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "service")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / "service.pem"
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(secret + made.public_bytes(Encoding.PEM))
    return file


def hangs_up(handler: BaseHTTPRequestHandler) -> None:
    """Close the connection without an answer, as a kept one that has gone stale does."""
    handler.close_connection = True


@pytest.fixture
def service() -> Iterator[Service]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            running.connections.add(self.client_address)
            running.received.append((self.command, self.path, dict(self.headers)))
            answer = running.answers.pop(0) if len(running.answers) > 1 else running.answers[0]
            answer(self)

        def finish(self) -> None:
            super().finish()
            running.ended.set()

        do_GET = do_PUT = do_POST = do_DELETE = handle_one  # noqa: N815 - the names of http.server

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """Say nothing of a client that does not trust it."""

    server = Server(("127.0.0.1", 0), Handler)
    running = Service(url=f"http://127.0.0.1:{server.server_port}", server=server)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield running
    server.shutdown()
    thread.join()
    server.server_close()


ROW = '{"PartitionKey": "p", "RowKey": "k", "n": 1, "odata.etag": "v1"}'


def test_a_read_or_a_put_whose_connection_is_lost_is_repeated_once(service: Service) -> None:
    service.answers = [hangs_up, says(200, ROW)]
    row = service.table().get("p", "k")

    service.answers = [hangs_up, says(204, ETag="v2")]
    version = service.table().put("p", "k", {"n": 2})

    assert row is not None
    assert (row.values, row.version, version) == ({"n": 1}, "v1", "v2")
    assert service.verbs() == ["GET", "GET", "PUT", "PUT"]


def test_an_insert_that_may_have_been_done_is_not_repeated(service: Service) -> None:
    """Its second try would find the row of its first, and take it for another's."""
    service.answers = [hangs_up]

    with pytest.raises(LedgerUnavailableError, match="ServiceResponseError"):
        service.table().insert("p", "k", {"n": 1})

    assert service.verbs() == ["POST"]


def test_a_service_that_does_not_answer_twice_is_unavailable(service: Service) -> None:
    service.answers = [hangs_up]

    with pytest.raises(LedgerUnavailableError, match="ServiceResponseError"):
        service.table().get("p", "k")

    assert service.verbs() == ["GET", "GET"]


def test_a_service_that_is_not_there_is_unavailable() -> None:
    table = Service(url="http://127.0.0.1:1").table()

    with pytest.raises(LedgerUnavailableError, match="ServiceRequestError"):
        table.insert("p", "k", {"n": 1})


@pytest.mark.parametrize(
    ("status", "expected"), [(500, LedgerUnavailableError), (403, AccessRefusedError), (429, ThrottledError)]
)
def test_a_refusal_means_what_its_status_says(service: Service, status: int, expected: type[Exception]) -> None:
    """And is not repeated at once: more patience is the queue's."""
    service.answers = [says(status, "no", Retry_After="7")]
    table = service.table()

    for action in (
        lambda: table.get("p", "k"),
        lambda: list(table.query("p", limit=1)),
        lambda: table.insert("p", "k", {}),
        lambda: table.write_many("p", [Write.put("a", {}), Write.put("b", {})]),
    ):
        with pytest.raises(expected) as raised:
            action()
        if isinstance(raised.value, ThrottledError):
            assert raised.value.retry_after_s == 7

    assert len(service.received) == 4


@pytest.mark.parametrize("text", ['{"PartitionKey": "p", "Row', '{"PartitionKey": "p", "RowKey": "k"}', "{}", "[]"])
def test_an_answer_that_was_mangled_on_its_way_is_no_row(service: Service, text: str) -> None:
    """Nor is one that somebody on the way has made up."""
    service.answers = [says(200, text)]
    table = service.table()

    for action in (lambda: table.get("p", "k"), lambda: list(table.query("p", limit=1))):
        with pytest.raises(LedgerUnavailableError, match="DecodeError"):
            action()


def test_a_transaction_whose_answer_misses_parts_may_have_been_done(service: Service) -> None:
    service.answers = [says(202, "HTTP/1.1 204 No Content\r\nETag: v1\r\n")]

    with pytest.raises(LedgerUnavailableError, match="DecodeError"):
        service.table().write_many("p", [Write.put("a", {}), Write.put("b", {})])


def test_a_query_follows_its_continuations_also_over_an_empty_page(service: Service) -> None:
    """The service may end a page anywhere, before its first row too."""
    more = {"x_ms_continuation_NextPartitionKey": "p", "x_ms_continuation_NextRowKey": "a%20b"}
    service.answers = [says(200, '{"value": []}', **more)]
    service.answers += [says(200, f'{{"value": [{ROW}]}}')]

    rows = list(service.table().query("p", low="a", limit=5))

    assert [row.key for row in rows] == ["k"]
    assert "NextPartitionKey=p&NextRowKey=a%2520b" in service.received[1][1]


def test_a_query_reads_no_further_than_it_is_asked_to(service: Service) -> None:
    service.answers = [says(200, f'{{"value": [{ROW}]}}', x_ms_continuation_NextPartitionKey="p")]

    assert len(list(service.table().query("p", limit=1))) == 1
    assert len(service.received) == 1
    assert "%24top=1" in service.received[0][1]


@pytest.mark.parametrize(("idle_s", "connections"), [(3.9, 1), (4.1, 2)])
def test_a_connection_is_not_used_when_the_service_may_be_closing_it(
    service: Service, monkeypatch: pytest.MonkeyPatch, idle_s: float, connections: int
) -> None:
    """It says that it keeps them for five seconds; a second before that a new one is made."""
    service.answers = [says(200, ROW, Keep_Alive="timeout=5")]
    table, began = service.table(), time.monotonic()
    monkeypatch.setattr("functions.adapters.fresh_connections.time", SimpleNamespace(monotonic=lambda: began))
    table.get("p", "k")
    monkeypatch.setattr("functions.adapters.fresh_connections.time", SimpleNamespace(monotonic=lambda: began + idle_s))

    assert table.get("p", "k") is not None
    assert len(service.connections) == connections


class Credential:
    """Gives out numbered tokens that live as long as it is told."""

    def __init__(self, *, lives_s: int) -> None:
        self.lives_s = lives_s
        self.given = 0

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        assert scopes == ("https://storage.azure.com/.default",)
        self.given += 1
        return AccessToken(f"token-{self.given}", int(time.time()) + self.lives_s)


SECURE = TableRequest("GET", "https://account.table.core.windows.net/rows", {})


@pytest.mark.parametrize(("lives_s", "last"), [(3600, "Bearer token-1"), (200, "Bearer token-3")])
def test_a_token_is_kept_until_shortly_before_it_expires(lives_s: int, last: str) -> None:
    sign = by_token(Credential(lives_s=lives_s))

    assert [sign(SECURE) for _ in range(3)][-1] == last


def test_a_token_never_goes_over_a_connection_that_others_can_read() -> None:
    with pytest.raises(ValueError, match="https only"):
        by_token(Credential(lives_s=3600))(TableRequest("GET", "http://account.table.core.windows.net/rows", {}))


def test_a_token_that_was_not_accepted_is_not_used_again() -> None:
    class Refusing(HTTPSConnectionPool):
        def urlopen(self, method: str, url: str, *_: Any, **options: Any) -> Any:
            sent.append(options["headers"]["Authorization"])
            return SimpleNamespace(status=401, headers={}, data=b"")

    sent: list[str] = []
    pool = PoolManager()
    pool.pool_classes_by_scheme = {"https": Refusing}
    connection = TableConnection("https://account.table.core.windows.net", pool, by_token(Credential(lives_s=3600)))

    assert [connection.send(SECURE).status for _ in range(2)] == [401, 401]
    assert sent == ["Bearer token-1", "Bearer token-2"]


def test_a_credential_that_is_refused_says_so() -> None:
    class NoIdentity:
        def get_token(self, *_: str, **__: Any) -> AccessToken:
            raise ClientAuthenticationError("no identity")

    with pytest.raises(ClientAuthenticationError):
        TableConnection("https://account", PoolManager(), by_token(NoIdentity())).send(SECURE)


class Counted:
    """A lock that counts who has come to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counting = threading.Lock()
        self.came = 0

    def __enter__(self) -> None:
        with self._counting:
            self.came += 1
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_threads_that_wait_for_a_token_fail_with_the_one_that_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """An identity that answers nobody takes its time to say so; sixteen threads must not hear it one by one."""
    lock = Counted()
    monkeypatch.setattr("functions.adapters.table_connection.threading", SimpleNamespace(Lock=lambda: lock))

    class Silent:
        asked = 0

        def get_token(self, *_: str, **__: Any) -> AccessToken:
            self.asked += 1
            deadline = time.monotonic() + 30
            while lock.came < 16:
                assert time.monotonic() < deadline
                time.sleep(0.001)
            raise ClientAuthenticationError("no identity")

    credential = Silent()
    sign = by_token(credential)
    with ThreadPoolExecutor(16) as pool:
        errors = [future.exception() for future in [pool.submit(sign, SECURE) for _ in range(16)]]

    assert {type(error) for error in errors} == {ClientAuthenticationError}
    assert credential.asked == 1
    with pytest.raises(ClientAuthenticationError):
        sign(SECURE)
    assert credential.asked == 2


class Renewing:
    """Gives out numbered tokens that it wants to be asked to renew at once, and fails when told to."""

    def __init__(self, *, refresh_in_s: int) -> None:
        self.refresh_in_s = refresh_in_s
        self.given = 0
        self.asked = 0
        self.fails = False

    def get_token(self, *_: str, **__: Any) -> AccessToken:
        raise NotImplementedError

    def get_token_info(self, *scopes: str, options: Any = None) -> AccessTokenInfo:
        assert (scopes, options) == (("https://storage.azure.com/.default",), None)
        self.asked += 1
        if self.fails:
            raise CredentialUnavailableError("scripted")
        self.given += 1
        now = int(time.time())
        return AccessTokenInfo(f"token-{self.given}", now + 3600, refresh_on=now + self.refresh_in_s)


def test_a_token_is_renewed_when_its_issuer_recommends_it() -> None:
    early, late = by_token(Renewing(refresh_in_s=0)), by_token(Renewing(refresh_in_s=1800))

    assert [early(SECURE) for _ in range(2)] == ["Bearer token-1", "Bearer token-2"]
    assert [late(SECURE) for _ in range(2)] == ["Bearer token-1", "Bearer token-1"]


def test_a_token_that_cannot_be_renewed_yet_is_used_while_it_lives() -> None:
    credential = Renewing(refresh_in_s=0)
    sign = by_token(credential)
    sign(SECURE)
    credential.fails = True

    assert [sign(SECURE) for _ in range(3)] == ["Bearer token-1"] * 3
    assert credential.asked == 2  # and not again for a while


def test_the_key_signs_date_account_and_path_and_is_not_sent() -> None:
    request = TableRequest("GET", "http://host/account/rows()?$top=1", {"x-ms-date": "Mon, 30 Nov 2026 12:00:00 GMT"})
    sign = by_account_key("account", KEY)

    signed = sign(request)

    assert signed == "SharedKeyLite account:h0VQXuEhLJY9xzJC+fsG+SSDVjfgdt2+pFzFqUF5oCc="
    assert KEY not in signed


def test_a_proxy_of_the_machine_is_used_except_where_it_is_not_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    url = "https://account.table.core.windows.net"
    assert not isinstance(pool_for(url, size=1), ProxyManager)

    monkeypatch.setenv("https_proxy", "http://user:word@proxy.example:3128")
    pool = pool_for(url, size=1)
    assert isinstance(pool, ProxyManager)
    assert (pool.proxy.host if pool.proxy else None) == "proxy.example"
    assert pool.proxy_headers == {"proxy-authorization": "Basic dXNlcjp3b3Jk"}

    monkeypatch.setenv("no_proxy", "core.windows.net")
    assert not isinstance(pool_for(url, size=1), ProxyManager)


@pytest.mark.parametrize(
    ("name", "proxy", "got"),
    [
        ("https_proxy", "socks5://user:word@proxy.example:1080", "'socks5://proxy.example:1080'"),
        ("all_proxy", "socks5h://user:word@proxy.example:1080/", "'socks5h://proxy.example:1080'"),
        ("https_proxy", "ftp://proxy.example", "'ftp://proxy.example'"),
        ("https_proxy", "http://user:word@proxy.example:port", "'http://proxy.example:port'"),
        ("https_proxy", "http://user:wo@rd@proxy.example:99999999", "'http://proxy.example:99999999'"),
        ("https_proxy", "http://user:wo/rd@proxy.example:3128", "'http://proxy.example:3128'"),
        ("https_proxy", "http://user:word@[::1", "'http://[::1'"),
        ("https_proxy", "user:word@proxy .example:1", "'proxy .example:1'"),
        ("https_proxy", "http://user:word@", "'http://'"),
        ("https_proxy", "http:///?word", "'http://'"),
        ("https_proxy", "//proxy.example:3128", "'//proxy.example:3128'"),
    ],
)
def test_a_proxy_that_nothing_can_go_through_is_a_mistake_in_the_settings(
    monkeypatch: pytest.MonkeyPatch, name: str, proxy: str, got: str
) -> None:
    """It was an error that nobody knew, raised at the first request; what it may hold of a password is not shown."""
    for variable in ("https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.upper(), raising=False)
    monkeypatch.setenv(name, proxy)

    with pytest.raises(InvalidSettingsError) as refused:
        pool_for("https://account.table.core.windows.net", size=1)

    (problem,) = refused.value.problems
    assert (problem.place, problem.got) == (name.upper(), got)
    assert problem.expected.startswith("http://<host>:<port> or https://<host>:<port>")
    assert "NO_PROXY" in problem.expected
    assert refused.value.__context__ is None  # which would show it


def test_a_proxy_without_a_scheme_is_one_of_http_and_is_told_who_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("https_proxy", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.upper(), raising=False)
    monkeypatch.setenv("https_proxy", "user:word@proxy.example:3128")

    pool = pool_for("https://account.table.core.windows.net", size=1)

    assert isinstance(pool, ProxyManager)
    assert pool.proxy is not None
    assert (pool.proxy.scheme, pool.proxy.host, pool.proxy.port) == ("http", "proxy.example", 3128)
    assert pool.proxy_headers == {"proxy-authorization": "Basic dXNlcjp3b3Jk"}


def test_a_request_through_a_proxy_names_its_host(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of plain connections cannot know it otherwise; the service itself is told the path only."""
    for name in ("NO_PROXY", "no_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    service.answers = [says(200, ROW)]
    service.table().get("p", "k")
    monkeypatch.setenv("http_proxy", service.url)

    Service(url="http://storage.example").table().get("p", "k")

    path = "/account/testrows(PartitionKey='p',RowKey='k')"
    assert [place for _, place, _ in service.received] == [path, f"http://storage.example{path}"]


def test_authorities_are_those_that_the_machine_trusts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    url = "https://account.table.core.windows.net"
    assert pool_for(url, size=1).connection_pool_kw["ca_certs"] == DEFAULT_CA_BUNDLE_PATH

    bundle = tmp_path / "bundle.pem"
    bundle.touch()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    assert pool_for(url, size=1).connection_pool_kw["ca_certs"] == str(bundle)

    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path))
    assert pool_for(url, size=1).connection_pool_kw["ca_cert_dir"] == str(tmp_path)


def test_an_insert_through_a_proxy_that_may_have_been_done_is_not_repeated(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """urllib3 forgets, when the connection closes, that it had reached the proxy, and blames the proxy."""
    for name in ("NO_PROXY", "no_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", service.url)
    service.answers = [hangs_up]

    with pytest.raises(LedgerUnavailableError, match="ServiceResponseError"):
        Service(url="http://storage.example").table().insert("p", "k", {"n": 1})

    assert service.verbs() == ["POST"]


def test_a_proxy_that_is_not_there_is_a_request_that_was_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")

    with pytest.raises(LedgerUnavailableError, match="ServiceRequestError"):
        Service(url="http://storage.example").table().insert("p", "k", {"n": 1})


def garbles(handler: BaseHTTPRequestHandler) -> None:
    """Answer with bytes that are no TLS, as a network that breaks a connection in the middle may."""
    os.write(handler.connection.fileno(), b"no record of TLS")
    handler.close_connection = True


def test_an_insert_whose_answer_is_no_tls_is_not_repeated(
    service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Not every error of TLS is one of the handshake."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(service.over_tls(tmp_path)))
    service.answers = [garbles]

    with pytest.raises(LedgerUnavailableError, match="ServiceResponseError"):
        service.table().insert("p", "k", {"n": 1})

    assert service.verbs() == ["POST"]


def test_a_service_that_cannot_be_trusted_is_told_nothing(
    service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    service.over_tls(tmp_path)
    service.answers = [says(204)]

    with pytest.raises(LedgerUnavailableError, match="ServiceRequestError"):
        service.table().insert("p", "k", {"n": 1})

    assert service.received == []


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "DefaultEndpointsProtocol=https;EndpointSuffix=core.chinacloudapi.cn",
        "DefaultEndpointsProtocol=http;EndpointSuffix=core.windows.net\n",
        "DefaultEndpointsProtocol=http",
        "defaultendpointsprotocol=HTTPS;endpointsuffix=core.windows.net",
        "TableEndpoint=http://[::1]:10002/account/",
        "tableendpoint=http://127.0.0.1:10002/account",
        "TableEndpoint=HTTPS://account.table.core.windows.net/?sv=2026&sig=secret",
        "TableEndpoint=https://account.table.example;TableSecondaryEndpoint=https://account-secondary.table.example",
        "TableEndpoint=account.table.example",
    ],
)
def test_the_account_is_where_the_sdk_finds_it(rest: str) -> None:
    storage = StorageAccount(connection_string=f"AccountName=account;AccountKey={KEY};{rest}")

    assert storage.table_connection.url == storage.tables.url


def test_connections_that_are_closed_are_closed_and_may_be_opened_again(service: Service) -> None:
    storage = StorageAccount(
        connection_string=f"AccountName=account;AccountKey={KEY};TableEndpoint={service.url}/account"
    )
    service.answers = [says(200, ROW)]
    table = AzureTables(storage, prefix="test").table("rows")
    table.get("p", "k")

    storage.close()

    assert service.ended.wait(30)
    assert table.get("p", "k") is not None
    assert len(service.connections) == 2
