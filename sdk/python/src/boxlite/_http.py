"""Requests and answers of HTTP/1.1."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Protocol

from ._wire import CHUNK, Address, Ended, Stream, connect

#: The most the head of an answer may take, in bytes.
MAX_HEAD = 64 << 10
#: The most an answer that is read as a whole may take, in bytes: a thousand
#: boxes are some 2 MiB.
MAX_BODY = 64 << 20
#: Seconds to connect in, handshake included.
CONNECT_TIMEOUT = 10.0
#: Answers that announce another: no server sends more than one or two.
_MAX_INTERIM = 16
#: Connections that are kept, and seconds for how long. The server ends them
#: after two minutes.
_MAX_IDLE, _IDLE = 32, 60.0


_STATUS = re.compile("[1-5][0-9][0-9]").fullmatch


class BadAnswer(ConnectionError):
    """What came is no answer of HTTP, or too large."""


class Body(Protocol):
    """What is sent with a request."""

    async def read_some(self) -> bytes:
        """The next part; none when there are no more."""


class Pool:
    """Connections to one server that are kept for the next request. It may be
    used from any thread."""

    def __init__(self) -> None:
        self._mu = threading.Lock()
        self._idle: list[tuple[float, Address, Stream]] = []

    def get(self, address: Address) -> Stream | None:
        """A connection that is still good. Others are closed."""
        with self._mu:
            while self._idle:
                since, where, stream = self._idle.pop()
                if where == address and time.monotonic() - since < _IDLE and stream.idle():
                    return stream
                stream.close()
        return None

    def put(self, address: Address, stream: Stream) -> None:
        """Keeps a connection."""
        with self._mu:
            if len(self._idle) < _MAX_IDLE:
                self._idle.append((time.monotonic(), address, stream))
                return
        stream.close()

    def clear(self) -> None:
        """Closes all that are kept."""
        with self._mu:
            idle, self._idle = self._idle, []
        for _, _, stream in idle:
            stream.close()


class Response:
    """An answer whose body is still to come. Close it."""

    def __init__(self, stream: Stream, release: Callable[[Stream], None]) -> None:
        self._stream = stream
        self._release = release
        self._left: int | None = None  # of the body, or of its chunk; None: until the end
        self._chunked = False
        self._done = False
        self._keep = True
        self.status = 0
        self.reason = ""
        self.headers: dict[str, str] = {}

    async def __aenter__(self) -> Response:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Keeps the connection if all of the answer was read, or ends it."""
        if self._done and self._keep and not self._stream.buffer:
            self._release(self._stream)
        else:
            self._stream.close()

    def detach(self) -> Stream:
        """The connection, which is HTTP no more."""
        return self._stream

    async def _line(self, limit: int, timeout: float | None = None) -> bytes:
        buf, seen = self._stream.buffer, 0
        while True:
            end = buf.find(b"\n", seen)
            if end >= 0:
                line = bytes(buf[:end])
                del buf[: end + 1]
                return line.rstrip(b"\r")
            if (seen := len(buf)) > limit:
                raise BadAnswer(f"a line of more than {limit} bytes")
            await self._stream.fill(timeout)

    async def read_head(self, method: str, timeout: float | None) -> None:
        """Reads status and headers."""
        for _ in range(_MAX_INTERIM):
            await self._read_status(timeout)
            if self.status == 101 or not 100 <= self.status < 200:
                break
        else:
            raise BadAnswer("it announces an answer again and again")
        h = self.headers
        self._keep = h.get("connection", "").lower() != "close"
        if method == "HEAD" or self.status in (101, 204, 304):
            self._done = True
        elif "chunked" in h.get("transfer-encoding", "").lower():
            self._chunked, self._left = True, 0
        elif "content-length" in h:
            length = h["content-length"]
            if not length.isdecimal() or len(length) > 18:
                raise BadAnswer(f"Content-Length {length[:40]!r}")
            self._left = int(length)
            self._done = self._left == 0
        else:
            self._keep = False

    async def _read_status(self, timeout: float | None) -> None:
        parts = (await self._line(MAX_HEAD, timeout)).decode("latin-1").split(" ", 2)
        if not parts[0].startswith("HTTP/1.") or len(parts) < 2 or not _STATUS(parts[1]):
            raise BadAnswer("the other side does not speak HTTP")
        self.status, self.reason = int(parts[1]), parts[2] if len(parts) > 2 else ""
        self.headers = await self._fields(timeout)

    async def _fields(self, timeout: float | None) -> dict[str, str]:
        """Headers, or trailers."""
        fields: dict[str, str] = {}
        size = 0
        while line := await self._line(MAX_HEAD, timeout):
            if (size := size + len(line)) > MAX_HEAD:
                raise BadAnswer(f"a head of more than {MAX_HEAD} bytes")
            key, colon, value = line.decode("latin-1").partition(":")
            if not colon:
                raise BadAnswer("a header without a colon")
            fields[key.strip().lower()] = value.strip()
        return fields

    async def read_some(self, timeout: float | None = None) -> bytes:
        """The next part of the body; none at its end. Raises :class:`Ended` if
        the connection breaks off before."""
        if self._done:
            return b""
        if self._chunked and self._left == 0 and not await self._next_chunk(timeout):
            return b""
        buf = self._stream.buffer
        if not buf:
            try:
                await self._stream.fill(timeout)
            except Ended:
                if self._left is None:
                    self._done = True
                    return b""
                raise
        n = min(len(buf), CHUNK if self._left is None else self._left)
        part = bytes(memoryview(buf)[:n])
        del buf[:n]
        if self._left is not None:
            self._left -= n
            if self._left == 0 and self._chunked:
                await self._line(2, timeout)
            elif self._left == 0:
                self._done = True
        return part

    async def _next_chunk(self, timeout: float | None) -> bool:
        size = (await self._line(1024, timeout)).split(b";")[0].strip()
        try:
            self._left = int(size, 16)
        except ValueError:
            raise BadAnswer(f"a chunk of size {size[:40]!r}") from None
        if self._left < 0:
            raise BadAnswer("a chunk of negative size")
        if self._left:
            return True
        await self._fields(timeout)
        self._done = True
        return False

    async def read(self, limit: int = MAX_BODY, timeout: float | None = None) -> bytes:
        """All of the body."""
        parts, size = [], 0
        while part := await self.read_some(timeout):
            if (size := size + len(part)) > limit:
                raise BadAnswer(f"an answer of more than {limit} bytes")
            parts.append(part)
        return b"".join(parts)


class Request:
    """What is asked of a server."""

    def __init__(self, method: str, target: str, headers: dict[str, str], body: bytes | Body | None = None) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.body = body

    def head(self, host: str) -> bytes:
        """The head as it is sent."""
        lines = [f"{self.method} {self.target} HTTP/1.1", f"Host: {host}"]
        lines += [f"{k}: {v}" for k, v in self.headers.items()]
        if isinstance(self.body, bytes):
            lines.append(f"Content-Length: {len(self.body)}")
        elif self.body is not None:
            lines.append("Transfer-Encoding: chunked")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


Locate = Callable[[], Awaitable[Address]]


async def send(pool: Pool, locate: Locate, request: Request, timeout: float | None, fresh: bool = False) -> Response:
    """Sends a request and reads the head of the answer. A connection that was
    kept may have ended just now: what changes nothing is then asked once more.
    A cancelled request ends its connection."""
    address = await locate()
    stream = None if fresh else pool.get(address)
    kept = stream is not None
    if stream is None:
        stream = await connect(address, CONNECT_TIMEOUT)
    try:
        return await _exchange(stream, lambda s: pool.put(address, s), request, address, timeout)
    except (Ended, BrokenPipeError, ConnectionResetError):
        stream.close()
        if not kept or request.method not in ("GET", "HEAD"):
            raise
        return await send(pool, locate, request, timeout, fresh=True)
    except BaseException:
        stream.close()
        raise


def _host(address: Address) -> str:
    if address.path:
        return "localhost"
    name = f"[{address.host}]" if ":" in address.host else address.host
    return f"{name}:{address.port}"


async def _exchange(
    stream: Stream, release: Callable[[Stream], None], request: Request, address: Address, timeout: float | None
) -> Response:
    response = Response(stream, release)
    stream.queue(request.head(_host(address)))
    try:
        if isinstance(request.body, bytes):
            stream.queue(request.body)
        elif request.body is not None:
            response._keep = await _upload(stream, request.body)
        if response._keep:
            await stream.flush(timeout)
    except (BrokenPipeError, ConnectionResetError, Ended):
        # The server may have said why before it hung up.
        response._keep = False
        if not stream.buffer and not _more(stream):
            raise
    keep = response._keep
    await response.read_head(request.method, timeout)
    response._keep = response._keep and keep
    return response


def _more(stream: Stream) -> bool:
    try:
        return stream.receive() and not stream.at_end
    except OSError:
        return False


#: Seconds for which a transfer may stand still: a little more than the server
#: allows, so that it is the one to say so.
STALL = 90.0


async def _upload(stream: Stream, body: Body) -> bool:
    """Sends a body of unknown length. False when the server answers before it
    has all: it does not want it."""
    while True:
        part = await body.read_some()
        stream.queue(b"%x\r\n%b\r\n" % (len(part), part))
        while not stream.transmit():
            if not await stream.wait(True, True, STALL):
                raise asyncio.TimeoutError
            if stream.receive():
                break
        if part and (stream.buffer or stream.at_end or stream.receive()):
            return False
        await stream.give_way()
        if not part:
            return True
