"""HTTP and WebSocket, against servers that do as the tests say."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import socket
import ssl
import subprocess

import pytest

import boxlite
from boxlite import _http
from boxlite._api import Api, Remote, segment
from boxlite._link import Link
from boxlite._wire import Address, connect
from boxlite._ws import _masked
from boxlite.info import box_info


class Server:
    """Answers each request on a connection with the next of some answers."""

    def __init__(self, *answers: bytes, close: bool = False) -> None:
        self.answers = list(answers)
        self.close = close
        self.connections = 0
        self.requests: list[bytes] = []
        self.ended = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = [int(h.split(b":")[1]) for h in head.split(b"\r\n") if h.lower().startswith(b"content-length")]
                self.requests.append(head + await reader.readexactly(size[0] if size else 0))
                if not self.answers:
                    break
                writer.write(self.answers.pop(0))
                await writer.drain()
                if self.close:
                    break
        self.ended.set()
        writer.close()


@contextlib.asynccontextmanager
async def serving(serve, tls=None):
    """A server, and its port. Its connections have ended in the end."""
    tasks = []

    async def note(reader, writer):
        tasks.append(asyncio.current_task())
        await serve(reader, writer)
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()

    async with await asyncio.start_server(note, "127.0.0.1", 0, ssl=tls) as server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.sleep(0)
        await asyncio.gather(*tasks)


@contextlib.asynccontextmanager
async def api_of(serve, **options):
    async with serving(serve) as port:
        api = Api(Remote(boxlite.BoxliteRestOptions(f"http://127.0.0.1:{port}")), **options)
        yield api
        api.close()


def answer(body: bytes, status: str = "200 OK", more: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode() + body


async def test_connections_are_kept():
    server = Server(answer(b'{"a":1}'), answer(b"", "204 No Content"), answer(b'{"a":2}'))
    async with api_of(server.serve, credential=boxlite.ApiKeyCredential("secret-key"), prefix="/acme/team/") as api:
        assert await api.call("POST", "boxes", json={"x": "ü"}, query={"q": "a b&c"}) == {"a": 1}
        assert await api.call("DELETE", "boxes/" + segment("a/b")) is None
        assert await api.call("GET", "boxes/" + segment("..")) == {"a": 2}
    assert server.connections == 1
    assert server.requests[0].startswith(b"POST /v1/acme/team/boxes?q=a+b%26c HTTP/1.1\r\n")
    assert b"Authorization: Bearer secret-key\r\n" in server.requests[0]
    assert server.requests[0].endswith(b'\r\n\r\n{"x": "\\u00fc"}')
    assert server.requests[1].startswith(b"DELETE /v1/acme/team/boxes/a%2Fb HTTP/1.1\r\n")
    assert server.requests[2].startswith(b"GET /v1/acme/team/boxes/%2E%2E HTTP/1.1\r\n")


@pytest.mark.parametrize("path", ["", "/", "/behind/a%20proxy", "/behind/"])
async def test_a_server_behind_a_path(path):
    server = Server(answer(b'{"extensions": ["security"]}'), answer(b'{"boxes": []}'))
    async with serving(server.serve) as port:
        runtime = boxlite.Boxlite.rest(boxlite.BoxliteRestOptions(f"http://127.0.0.1:{port}{path}", path_prefix="acme"))
        assert await runtime._api.extensions() == {"security"}
        assert await runtime.list_info() == []
        runtime._api.close()
    base = path.rstrip("/").encode()
    assert server.requests[0].startswith(b"GET " + base + b"/v1/config HTTP/1.1\r\n")
    assert server.requests[1].startswith(b"GET " + base + b"/v1/acme/boxes?")


async def test_a_server_on_ipv6():
    server = Server(answer(b"{}"))
    try:
        listener = await asyncio.start_server(server.serve, "::1", 0)
    except OSError as e:
        pytest.skip(f"needs IPv6: {e}")
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        api = Api(Remote(boxlite.BoxliteRestOptions(f"http://[::1]:{port}/")))
        assert await api.call("GET", "x") == {}
        api.close()
        await server.ended.wait()
    assert f"Host: [::1]:{port}\r\n".encode() in server.requests[0]


async def test_a_token_that_is_none():
    """It goes nowhere, and is not shown either."""

    class Broken:
        def get_token(self):
            return boxlite.AccessToken("secret\r\nX: y")

    boxlite.Credential.register(Broken)
    async with api_of(Server().serve, credential=Broken()) as api:
        with pytest.raises(boxlite.ConfigError, match="the token of the credential") as e:
            await api.call("GET", "x")
    assert "secret" not in str(e.value)


async def test_a_connection_that_was_closed_meanwhile_is_not_used():
    server = Server(*[answer(b"{}")] * 3, close=True)
    async with api_of(server.serve) as api:
        for _ in range(3):
            await api.call("POST", "x")
            await server.ended.wait()
            await asyncio.sleep(0)
    assert server.connections == 3


async def test_questions_are_asked_again_and_orders_are_not():
    """A kept connection that ends under a request: only what changes nothing
    may be sent twice."""
    for method, asked in (("GET", 3), ("POST", 2)):
        server = Server(answer(b"{}"))

        async def serve(reader, writer, server=server):
            await server.serve(reader, writer)
            server.answers.append(answer(b"{}"))

        async with api_of(serve) as api:
            await api.call("GET", "first")
            if method == "GET":
                assert await api.call(method, "second") == {}
            else:
                with pytest.raises(boxlite.NetworkError, match="^network error: "):
                    await api.call(method, "second")
        assert len(server.requests) == asked


async def test_errors_of_the_server():
    envelope = b'{"error":{"message":"no such thing","type":"X","code":"not_found","request_id":"r1"}}'
    server = Server(
        answer(envelope, "404 Not Found"),
        answer(b'{"error":{"message":"full","code":"resource_exhausted"}}', "429 Too Many", "Retry-After: 5\r\n"),
        answer(b"<h1>Bad Gateway</h1>", "502 Bad Gateway"),
        answer(b"no JSON"),
    )
    async with api_of(server.serve) as api:
        with pytest.raises(boxlite.NotFoundError, match="^box not found: no such thing$") as e:
            await api.call("GET", "x")
        assert e.value.request_id == "r1"
        with pytest.raises(boxlite.ResourceExhaustedError) as e:
            await api.call("GET", "x")
        assert e.value.retry_after == 5
        with pytest.raises(boxlite.NetworkError, match=r"upstream returned HTTP 502 Bad Gateway \(no error envelope"):
            await api.call("GET", "x")
        with pytest.raises(boxlite.NetworkError):
            await api.call("GET", "x")


@pytest.mark.parametrize(
    "raw",
    [
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{"a\r\n4;x=y\r\n":1}\r\n0\r\nTrailer: x\r\n\r\n',
        b'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\ncontent-length:7\n\n{"a":1}',
        b'HTTP/1.0 200 OK\r\n\r\n{"a":1}',
    ],
)
async def test_forms_of_answers(raw):
    server = Server(raw, close=True)
    async with api_of(server.serve) as api:
        assert await api.call("GET", "x") == {"a": 1}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n" + b"x" * 1000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
        b"HTTP/1.1 \xb2\xb2\xb2 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: \xb2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"1" * 5000 + b"\r\n\r\n",
        b"HTTP/1.1 429 Wait\r\nRetry-After: \xb2\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 302 Found\r\nLocation: https://elsewhere/\r\nContent-Length: 0\r\n\r\n",
        answer(b"<html>", "200 OK"),
        answer(b"[" * 200_000),
        answer(b"[" * 200_000, "500 Oops"),
        answer(b'{"error": [1]}', "500 Oops"),
    ],
)
async def test_answers_that_make_no_sense(raw):
    server = Server(raw, close=True)
    async with api_of(server.serve) as api:
        with pytest.raises(boxlite.NetworkError, match="^network error: "):
            await api.call("POST", "x")


@pytest.mark.parametrize(
    "body",
    [
        b"null",
        b"[]",
        b"{}",
        b'{"box_id": 7}',
        b'{"box_id": {"a": 1}, "boxes": 1, "images": {}, "volumes": "x", "execution_id": []}',
        b'{"uri": "nonsense"}',
        b'{"uri": "http://[::1"}',
        b'{"uri": "http://h\xc3\xbc:99999"}',
    ],
)
async def test_answers_without_what_was_asked_for(body):
    """Whatever a server answers, one gets an error of ours or something that
    can be used."""
    server = Server(*[answer(body)] * 12)
    async with serving(server.serve) as port:
        runtime = boxlite.Boxlite.rest(boxlite.BoxliteRestOptions(f"http://127.0.0.1:{port}"))
        with pytest.raises(boxlite.NetworkError, match="makes no sense: a box without an id"):
            await runtime.create(boxlite.BoxOptions())
        with pytest.raises(boxlite.NetworkError, match="makes no sense: a box without an id"):
            await runtime.get("x")
        box = boxlite.Box(runtime, runtime._api, box_info({"box_id": "x"}))
        with pytest.raises(boxlite.NetworkError, match="makes no sense: a command without an id"):
            await box.exec("x")
        with pytest.raises(boxlite.NetworkError, match="makes no sense: a tunnel at"):
            await (await box.network.tunnel(1)).connect()
        assert await runtime.list_info() == await runtime.images.list() == await runtime.volumes.list() == []
        assert (await runtime.metrics()).num_running_boxes == (await box.metrics()).commands_executed_total == 0
        runtime._api.close()


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-1e999", "1e30", "true", '"1"', "null", "[]"])
async def test_numbers_that_are_none(number):
    text = '{"box_id":"x","cpus":N,"memory_mib":N,"auto_stop":N,"num_running_boxes":N,"cpu_percent":N,"boot_timing":N}'
    server = Server(*[answer(text.replace("N", number).encode())] * 5)
    async with serving(server.serve) as port:
        runtime = boxlite.Boxlite.rest(boxlite.BoxliteRestOptions(f"http://127.0.0.1:{port}"))
        box = await runtime.get("x")
        assert (box.info().cpus, box.info().memory_mib, box.info().auto_stop) == (0, 0, 0)
        assert (await runtime.metrics()).num_running_boxes == 0
        assert (await box.metrics()).commands_executed_total == 0
        runtime._api.close()


async def test_an_answer_that_never_ends(monkeypatch):
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(bytes(1 << 20))
                await writer.drain()
        writer.close()

    monkeypatch.setattr(_http.Response.read, "__defaults__", (8 << 20, None))
    async with api_of(serve) as api:
        with pytest.raises(boxlite.NetworkError, match="more than 8388608 bytes"):
            await api.call("POST", "x")


async def test_nobody_listens(tmp_path):
    for url in ("http://127.0.0.1:9", f"unix://{tmp_path}/none.sock"):
        with pytest.raises(boxlite.NetworkError, match="^network error: the connection to the server failed"):
            await boxlite.Boxlite.rest(boxlite.BoxliteRestOptions(url)).list_info()


async def test_a_cancelled_request_ends_its_connection():
    asked, ended = asyncio.Event(), asyncio.Event()

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        assert await reader.read() == b""  # the end of the connection
        writer.close()
        ended.set()

    async with api_of(serve) as api:
        task = asyncio.ensure_future(api.call("POST", "x"))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(ended.wait(), 10)


class Zeros:
    """A body of so many MiB, which counts what was taken of it."""

    def __init__(self, n: int) -> None:
        self.left = self.n = n

    async def read_some(self) -> bytes:
        if not self.left:
            return b""
        self.left -= 1
        return bytes(1 << 20)


class Taker:
    """A server that takes one upload, and counts it."""

    def __init__(self) -> None:
        self.got = 0

    async def serve(self, reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        while size := int(await reader.readline(), 16):
            self.got += len(await reader.readexactly(size))
            await reader.readline()
        await reader.readline()
        writer.write(answer(b"{}"))
        await reader.read()
        writer.close()


async def test_an_upload():
    taker = Taker()
    async with api_of(taker.serve) as api:
        async with await api.open("PUT", "files", body=Zeros(20)) as response:
            assert await response.read() == b"{}"
    assert taker.got == 20 << 20


@pytest.mark.parametrize("stays", [False, True])
async def test_an_upload_that_is_refused_half_way(stays):
    """The reason is read, though not all was sent; and no more is sent, be it
    that the server hangs up or that it does nothing more."""

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(100_000)
        writer.write(answer(b'{"error":{"message":"too large","code":"payload_too_large"}}', "413 Too Large"))
        await writer.drain()
        if not stays:
            writer.write_eof()
        await told.wait()
        writer.close()

    body, told = Zeros(2000), asyncio.Event()
    async with api_of(serve) as api:
        with pytest.raises(boxlite.ResourceExhaustedError, match="too large"):
            await asyncio.wait_for(api.open("PUT", "files", body=body), 60)
        told.set()
    assert body.left > 1900


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """What a server of the name localhost needs, and a client of it."""
    key, cert = (tmp_path_factory.mktemp("tls") / name for name in ("key", "cert"))
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    subprocess.run([*command.split(), "-keyout", key, "-out", cert], check=True, capture_output=True)
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(cert, key)
    return theirs, ssl.create_default_context(cafile=str(cert))


async def test_tls(tls):
    theirs, ours = tls
    big = os.urandom(3 << 20).hex().encode()
    fake = Server(answer(b'"' + big + b'"'), answer(b"2"))
    async with serving(fake.serve, theirs) as port:
        url = f"https://localhost:{port}"
        api = Api(Remote(boxlite.BoxliteRestOptions(url, ssl_context=ours)))
        assert await api.call("POST", "x", json=big.decode()) == big.decode()
        assert await api.call("GET", "x") == 2
        assert fake.connections == 1
        api.close()
        with pytest.raises(boxlite.NetworkError, match="certificate verify failed"):
            await Api(Remote(boxlite.BoxliteRestOptions(url))).call("GET", "x")


async def test_an_upload_over_tls(tls):
    """A server may speak of its own accord, about the sessions of TLS: that is
    no answer."""
    theirs, ours = tls
    taker = Taker()
    async with serving(taker.serve, theirs) as port:
        api = Api(Remote(boxlite.BoxliteRestOptions(f"https://localhost:{port}", ssl_context=ours)))
        async with await asyncio.wait_for(api.open("PUT", "files", body=Zeros(20)), 60) as response:
            assert await response.read() == b"{}"
        api.close()
    assert taker.got == 20 << 20


def frame(kind: int, payload: bytes, final: bool = True) -> bytes:
    n = len(payload)
    size = bytes([n]) if n < 126 else b"\x7e" + n.to_bytes(2, "big") if n < 1 << 16 else b"\x7f" + n.to_bytes(8, "big")
    return bytes([kind | (0x80 if final else 0)]) + size + payload


EXIT = frame(1, b'{"type":"exit","exit_code":0,"cause":"exited"}') + frame(8, b"\x03\xe8")


class Sockets:
    """A server that upgrades, plays its frames one after the other in small
    pieces, and keeps what comes."""

    def __init__(self, *plays: bytes, piece: int = 1 << 20, waits: bool = False) -> None:
        self.plays = list(plays)
        self.piece = piece
        self.waits = waits  # for the end of the connection, after its play
        self.heard = asyncio.Event()
        self.targets: list[str] = []
        self.ended = asyncio.Event()
        self.got = bytearray()

    async def serve(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.targets.append(head.split()[1])
        key = next(h.split(": ")[1] for h in head.split("\r\n") if h.startswith("Sec-WebSocket-Key"))
        accept = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())
        writer.write(b"HTTP/1.1 101 Switching\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n")
        play = self.plays.pop(0)
        with contextlib.suppress(ConnectionError):
            for at in range(0, len(play), self.piece):
                writer.write(play[at : at + self.piece])
                await writer.drain()
                await asyncio.sleep(0)
            if self.waits or play.endswith(EXIT):
                while data := await reader.read(1 << 16):
                    self.got += data
                    self.heard.set()
                self.ended.set()
        writer.close()


@contextlib.asynccontextmanager
async def link_to(sockets):
    async with api_of(sockets.serve) as api:
        link = Link(api, "box", "exec", "sh")
        yield link
        link.hang_up()


def user_timeout(stream):
    with socket.socket(fileno=os.dup(stream.fileno())) as s:
        return s.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)


async def test_who_is_waited_for():
    """A network that takes no request is given up; a command that does not read
    its input is not."""
    async with api_of(Server(answer(b"{}")).serve) as api:
        await api.call("GET", "x")
        assert user_timeout(api._pool._idle[0][2]) == 60_000
    async with link_to(Sockets(frame(2, b"\x01out") + EXIT)) as link:
        await link.until(lambda: link._ws is not None)
        assert user_timeout(link._ws.stream) == 0


async def test_frames_of_all_sizes_in_pieces():
    parts = [os.urandom(n) for n in (0, 1, 125, 126, 127, 65535, 65536, 200_000)]
    play = b"".join(frame(2, b"\x01" + p) for p in parts)
    play += frame(2, b"\x02first ", final=False) + frame(9, b"ping") + frame(0, b"second", final=True)
    for piece in (977, 1 << 20):
        sockets = Sockets(play + EXIT, piece=piece)
        async with link_to(sockets) as link:
            await link.until(lambda: False)
            assert link.exit is not None and link.exit.code == 0
            out = b""
            while not link.out[1].empty():
                out += link.out[1].take()
            assert out == b"".join(parts)
            assert link.out[2].take() == b"first second"
        await sockets.ended.wait()
        assert sockets.got[0] == 0x8A and sockets.got[1] == 0x84  # a masked pong of four bytes
        assert _masked(bytes(sockets.got[6:10]), bytes(sockets.got[2:6])) == b"ping"


async def test_a_line_that_breaks_is_made_again_where_it_was():
    out = frame(2, b"\x01one") + frame(2, b"\x02err")
    sockets = Sockets(out, out + frame(2, b"\x01half")[:3], frame(2, b"\x01three") + EXIT)
    async with link_to(sockets) as link:
        await link.until(lambda: False)
        assert link.exit is not None
        assert b"".join(iter(link.out[1].take, b"")) == b"oneonethree"
    assert sockets.targets == [
        "/v1/boxes/box/executions/exec/attach?patience=600",
        "/v1/boxes/box/executions/exec/attach?patience=600&stdout_offset=3&stderr_offset=3",
        "/v1/boxes/box/executions/exec/attach?patience=600&stdout_offset=6&stderr_offset=6",
    ]


async def test_input_goes_to_no_line_that_has_ended():
    """The kernel would take it, and nobody get it."""
    sockets = Sockets(b"", EXIT)
    async with link_to(sockets) as link:
        await link.until(lambda: link._ws is not None)
        assert await link._ws.stream.wait(True, False, 60)  # its end has come
        await link.send(2, b"input")
        await link.until(lambda: False)
    await sockets.ended.wait()
    assert len(sockets.targets) == 2


@pytest.mark.parametrize("said", [b"", frame(9, b"ping"), frame(2, b"\x01out"), frame(2, b"\x01out")[:3]])
async def test_input_waits_for_no_output(said):
    """Whatever the server has said before."""
    sockets = Sockets(said, waits=True)
    async with link_to(sockets) as link:
        await link.until(lambda: link._ws is not None)
        stream = link._ws.stream
        assert not said or stream.buffer or await stream.wait(True, False, 60)
        await asyncio.wait_for(link.send(2, b"input"), 60)
        await sockets.heard.wait()


async def test_output_that_is_lost_is_told():
    gap = frame(1, b'{"type":"gap","stream":"stdout","from":3,"to":900}')
    sockets = Sockets(frame(2, b"\x01one") + gap + frame(2, b"\x01two") + EXIT)
    async with link_to(sockets) as link:
        await link.until(lambda: False)
        spool = link.out[1]
        assert spool.received == 903
        assert spool.take() == b"one"
        with pytest.raises(boxlite.ResourceExhaustedError, match="897 bytes of output are lost"):
            spool.take()
        assert spool.take() == b"two"


async def test_texts_that_are_none():
    """They are left out."""
    texts = [b"{", b"[" * 200_000, b"null", b'{"type":"exit","exit_code":NaN', b'{"type":"gap","to":1e999}', b"\xff"]
    play = b"".join(frame(1, t) for t in texts) + frame(2, b"\x01out") + frame(2, b"") + frame(2, b"\x07out")
    async with link_to(Sockets(play + EXIT)) as link:
        await link.until(lambda: False)
        assert (link.exit.code, link.out[1].take(), link.out[1].empty()) == (0, b"out", True)


@pytest.mark.parametrize("bad", [b"\x82\x81abcde", b"\xf2\x01a", b"\x82\x7f" + (1 << 40).to_bytes(8, "big")])
async def test_frames_that_make_no_sense(bad, monkeypatch):
    monkeypatch.setattr("boxlite._link._AGAIN", (0.0,))
    sockets = Sockets(bad, bad, bad)
    async with link_to(sockets) as link:
        await link.until(lambda: False)
        assert isinstance(link.failed, boxlite.NetworkError)


async def test_masks():
    for n in (0, 1, 3, 4, 5, 1000):
        data, mask = os.urandom(n), os.urandom(4)
        assert _masked(data, mask) == bytes(b ^ mask[i % 4] for i, b in enumerate(data))


async def test_a_queue_that_is_full(tmp_path):
    """A unix socket whose server does not accept: that ends with the timeout."""
    import socket

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen(1)
        streams = []
        with pytest.raises(asyncio.TimeoutError):
            for _ in range(20):
                streams.append(await connect(Address(path=str(tmp_path / "s")), 0.1))
        for s in streams:
            s.close()
