"""The transport below the SDK, against servers that say exactly what a test wants."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import random
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from service.upstream.transport import Transport
from tests.support.redis import free_port
from tests.support.talking import END, HEAD, asking, body_of, chunk, serving
from tests.support.waiting import eventually_async


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with asking() as client:
        yield client


async def says_hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + chunk(b"hello ") + chunk(b"world") + END)


async def test_a_connection_is_kept_for_the_next_request(client: httpx.AsyncClient) -> None:
    async with serving(says_hello) as server:
        for _ in range(3):
            assert (await client.get(server.url)).text == "hello world"
        assert server.connections == 1


async def test_a_kept_connection_that_ends_before_an_answer_is_replaced_at_once(
    client: httpx.AsyncClient,
) -> None:
    """The server closes it while the next request is on its way: the commonest fault there is."""
    asked: list[asyncio.StreamWriter] = []

    async def only_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        again = writer in asked
        asked.append(writer)
        if again:
            writer.transport.abort()
        else:
            await says_hello(reader, writer)

    async with serving(only_once) as server:
        for _ in range(2):
            assert (await client.get(server.url)).text == "hello world"
        assert (server.connections, len(asked)) == (2, 3)


@pytest.mark.parametrize("beginning", [b"HTTP/1.1 2", HEAD + chunk(b"hel")], ids=["a byte", "a part"])
async def test_nothing_is_asked_twice_once_a_byte_came(client: httpx.AsyncClient, beginning: bytes) -> None:
    asked: list[asyncio.StreamWriter] = []

    async def then_breaks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        again = writer in asked
        asked.append(writer)
        if again:
            writer.write(beginning)
            await writer.drain()
            writer.close()
        else:
            await says_hello(reader, writer)

    async with serving(then_breaks) as server:
        assert (await client.get(server.url)).text == "hello world"
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(server.url)
        assert len(asked) == 2


async def test_no_more_connections_are_kept_than_allowed(client: httpx.AsyncClient) -> None:
    async with serving(says_hello) as server:
        await asyncio.gather(*(client.get(server.url) for _ in range(9)))
        await eventually_async(lambda: server.open == 4)


async def test_a_response_that_is_not_read_to_its_end_takes_its_connection_with_it(
    client: httpx.AsyncClient,
) -> None:
    async def starts(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + chunk(b"hello"))

    async with serving(starts) as server:
        async with client.stream("GET", server.url) as response:
            assert await body_of(response).read() == b"hello"
        await eventually_async(lambda: server.open == 0, within=2)


async def test_one_that_is_known_to_be_complete_keeps_it_though_its_end_comes_later(
    client: httpx.AsyncClient,
) -> None:
    end = asyncio.Event()

    async def dawdles(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + chunk(b"[DONE]"))
        await end.wait()
        writer.write(END)
        await writer.drain()
        end.clear()

    async with serving(dawdles) as server:
        for _ in range(2):
            async with client.stream("GET", server.url) as response:
                assert await body_of(response).read() == b"[DONE]"
                body_of(response).let_go()
            end.set()
            await eventually_async(lambda: not end.is_set())
            await asyncio.sleep(0.05)  # the end has to travel
        assert server.connections == 1


async def test_a_cut_is_an_error_and_never_a_clean_end(client: httpx.AsyncClient) -> None:
    async def cuts(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + chunk(b"hello"))
        writer.close()

    async with serving(cuts) as server, client.stream("GET", server.url) as response:
        body = body_of(response)
        assert await body.read() == b"hello"
        with pytest.raises(httpx.RemoteProtocolError):
            await body.read()


@pytest.mark.alone
def test_connects_that_are_given_up_touch_no_other_connection() -> None:
    """uvloop closes a connection whose maker was cancelled without telling its protocol."""
    outcomes: set[str] = set()

    async def asks(transport: Transport, url: str, patience: float) -> None:
        try:
            async with asyncio.timeout(patience):
                response = await transport.handle_async_request(httpx.Request("GET", url))
                await response.aread()
                await response.aclose()
        except (TimeoutError, httpx.TransportError) as error:
            outcomes.add(type(error).__name__)
        else:
            outcomes.add("answered")

    async def many() -> None:
        chance = random.Random(1)
        transport = Transport(keepalive_connections=1, keepalive_seconds=0.001)
        async with serving(says_hello) as server:
            for _ in range(50):
                await asyncio.gather(
                    *(asks(transport, server.url, chance.random() * 0.01) for _ in range(20))
                )
        await transport.aclose()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(many())
    assert outcomes == {"answered", "TimeoutError"}


async def test_no_answer_at_all_is_an_error(client: httpx.AsyncClient) -> None:
    async def leaves(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with serving(leaves) as server:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(server.url)


async def test_nonsense_is_an_error(client: httpx.AsyncClient) -> None:
    async def raves(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")

    async with serving(raves) as server:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(server.url)


async def test_nobody_there_is_a_connect_error(client: httpx.AsyncClient) -> None:
    with pytest.raises(httpx.ConnectError):
        await client.get(f"http://127.0.0.1:{free_port()}/")


async def test_a_response_without_length_ends_with_its_connection(client: httpx.AsyncClient) -> None:
    async def old(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nhello")
        writer.close()

    async with serving(old) as server:
        assert (await client.get(server.url)).text == "hello"


async def test_interim_answers_are_passed_over(client: httpx.AsyncClient) -> None:
    async def hints(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
        await says_hello(reader, writer)

    async with serving(hints) as server:
        response = await client.get(server.url)
        assert (response.status_code, response.text) == (200, "hello world")
        assert "link" not in response.headers


async def paused_collects(client: httpx.AsyncClient, context: ssl.SSLContext | None = None) -> None:
    go_on, said = asyncio.Event(), asyncio.Event()

    async def counts(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + chunk(b"0"))
        await go_on.wait()
        for place in range(1, 10):
            writer.write(chunk(b"%d" % place))
            await writer.drain()
            await asyncio.sleep(0)
        said.set()

    async with serving(counts, context) as server, client.stream("GET", server.url) as response:
        body = body_of(response)
        assert await body.read() == b"0"
        body.pause()
        go_on.set()
        reading = asyncio.ensure_future(body.read())
        await said.wait()
        await asyncio.sleep(0.05)  # nothing is to happen meanwhile
        assert not reading.done()
        body.resume()
        assert await reading == b"123456789"


async def test_what_comes_while_paused_is_one_read_later(client: httpx.AsyncClient) -> None:
    await paused_collects(client)


async def test_the_end_is_noticed_while_paused(client: httpx.AsyncClient) -> None:
    async def cuts(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + chunk(b"hello"))
        await writer.drain()
        await reader.read(1)

    async with serving(cuts) as server, client.stream("GET", server.url) as response:
        body = body_of(response)
        assert await body.read() == b"hello"
        body.pause()
        await body.aclose()
        await eventually_async(lambda: server.open == 0, within=2)


async def test_an_answer_that_nobody_reads_waits_at_its_server(client: httpx.AsyncClient) -> None:
    sent = 0

    async def floods(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(HEAD)
        for _ in range(640):
            writer.write(chunk(b"x" * 65_536))
            await writer.drain()
            sent += 65_536
        writer.write(END)

    async with serving(floods) as server, client.stream("GET", server.url) as response:
        await asyncio.sleep(0.3)  # all the time it needs to send all of it
        assert sent < 20_000_000
        total = 0
        while data := await body_of(response).read():
            total += len(data)
        assert total == 640 * 65_536


def certificate(directory: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    address = ipaddress.ip_address("127.0.0.1")
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(address)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    cert_path, key_path = directory / "cert.pem", directory / "key.pem"
    cert_path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return cert_path, key_path


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    cert, key = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    return context


async def test_tls_works_the_same_and_pauses_too(client: httpx.AsyncClient, context: ssl.SSLContext) -> None:
    async with serving(says_hello, context) as server:
        for _ in range(2):
            assert (await client.get(server.url)).text == "hello world"
        assert server.connections == 1
    await paused_collects(client, context)


async def test_an_unknown_certificate_is_a_connect_error(
    client: httpx.AsyncClient, context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    async with serving(says_hello, context) as server:
        with pytest.raises(httpx.ConnectError):
            await client.get(server.url)
