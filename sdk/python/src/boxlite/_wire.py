"""Bytes to and from a server, without a transport of asyncio.

A stream is a descriptor and what is buffered of it. It belongs to no event loop
until somebody waits, so a connection that is kept outlives the loop it was made
in, and nothing of it is left for a loop that closes. Reading takes bytes from
the kernel only when they go into the buffer at once: a cancelled wait loses
none.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl

#: How much is asked of the kernel at once: what the agent sends in one frame.
CHUNK = 256 << 10
#: How often in a row a stream may go on without letting others run. A chunk
#: takes some 0.1 ms, so that others wait a few milliseconds at most.
_BURST = 16


class Ended(ConnectionError):
    """The other side closed the connection in the middle."""


@dataclass(frozen=True)
class Address:
    """Where a server listens: a unix socket, or host and port."""

    path: str = ""
    host: str = ""
    port: int = 0
    tls: ssl.SSLContext | None = None

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


class Stream:
    """A connection. Of the tasks that use it one at a time may wait for it to
    become readable, and one for writable."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._tls: _Tls | None = None
        self._out = bytearray()
        self._waits: set[asyncio.Future[bool]] = set()
        self._turns = 0
        self.buffer = bytearray()  # received, not yet used
        self.at_end = False
        self.tcp = False

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @property
    def closed(self) -> bool:
        """Whether close was called."""
        return self._fd < 0

    def close(self) -> None:
        """Ends the connection. Whoever waits for it gets :class:`Ended`."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        for fut in self._waits:
            loop = fut.get_loop()
            if not loop.is_closed():
                loop.remove_reader(fd)
                loop.remove_writer(fd)
                if not fut.done():
                    fut.set_exception(Ended("the connection was closed"))
        os.close(fd)

    def fileno(self) -> int:
        """The descriptor."""
        return self._fd

    def be_patient(self) -> None:
        """Lets the other side take as long as it likes to read what was sent."""
        if self.tcp:
            with socket.socket(fileno=os.dup(self._fd)) as sock:
                _set_user_timeout(sock, 0)

    def detach(self) -> int:
        """The descriptor, which is the caller's from now on."""
        fd, self._fd = self._fd, -1
        return fd

    def idle(self) -> bool:
        """Whether a connection that is kept can be used again: nothing may have
        come meanwhile, not even its end."""
        try:
            return not (self._fd < 0 or self.at_end or self.buffer or self._out or self.receive())
        except OSError:
            return False

    def receive(self) -> bool:
        """Takes what is there into the buffer. False when nothing is; at the
        end at_end is set. To ask the kernel whether there is something would
        not do: with TLS that may be for the protocol alone."""
        if self._fd < 0:
            raise Ended("the connection is closed")
        try:
            data = self._tls.receive(self) if self._tls else os.read(self._fd, CHUNK)
        except (BlockingIOError, InterruptedError):
            return False
        if data:
            self.buffer += data
        else:
            self.at_end = True
        return True

    def queue(self, data: bytes) -> None:
        """Puts data in line to be sent."""
        self._out += self._tls.seal(data) if self._tls else data

    def pending(self) -> int:
        """How many bytes wait to be sent."""
        return len(self._out)

    def transmit(self) -> bool:
        """Sends what the kernel takes now. True when nothing is left."""
        if self._fd < 0:
            raise Ended("the connection is closed")
        while self._out:
            try:
                with memoryview(self._out) as view:
                    n = os.write(self._fd, view[:CHUNK])
            except (BlockingIOError, InterruptedError):
                return False
            del self._out[:n]
        return True

    async def wait(self, read: bool, write: bool, timeout: float | None = None) -> bool:
        """Waits until the connection is readable or writable, as asked for.
        False when it is not in time."""
        if self._fd < 0:
            raise Ended("the connection is closed")
        fd, loop = self._fd, asyncio.get_running_loop()
        fut: asyncio.Future[bool] = loop.create_future()
        self._waits.add(fut)
        if read:
            loop.add_reader(fd, wake, fut)
        if write:
            loop.add_writer(fd, wake, fut)
        timer = loop.call_later(timeout, expire, fut) if timeout is not None else None
        try:
            return await fut
        finally:
            self._waits.discard(fut)
            if timer:
                timer.cancel()
            if self._fd == fd:
                if read:
                    loop.remove_reader(fd)
                if write:
                    loop.remove_writer(fd)

    async def fill(self, timeout: float | None = None) -> None:
        """Waits for more in the buffer. Raises :class:`Ended` at the end, and
        TimeoutError after so many seconds."""
        await self.give_way()
        while not self.receive():
            self._turns = 0
            if not await self.wait(True, False, timeout):
                raise asyncio.TimeoutError
        if self.at_end:
            raise Ended("the other side closed the connection")

    async def flush(self, timeout: float | None = None) -> None:
        """Waits until all that is in line has been sent."""
        await self.give_way()
        while not self.transmit():
            self._turns = 0
            if not await self.wait(False, True, timeout):
                raise asyncio.TimeoutError

    def nudge(self) -> None:
        """Makes whoever waits look again."""
        for fut in self._waits:
            wake(fut)

    async def give_way(self) -> None:
        """Lets others run now and then, however fast the other side is."""
        self._turns += 1
        if self._turns >= _BURST:
            self._turns = 0
            await asyncio.sleep(0)


def wake(fut: asyncio.Future[bool]) -> None:
    """Ends a wait: what was waited for is there."""
    if not fut.done() and not fut.get_loop().is_closed():
        fut.set_result(True)


def expire(fut: asyncio.Future[bool]) -> None:
    """Ends a wait: its time is over."""
    if not fut.done():
        fut.set_result(False)


class _Tls:
    """Encryption between a stream and its buffers."""

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        import ssl

        self._ssl = ssl
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._obj = context.wrap_bio(self._in, self._out, server_hostname=host)

    async def handshake(self, stream: Stream, timeout: float) -> None:
        while True:
            try:
                self._obj.do_handshake()
            except self._ssl.SSLWantReadError:
                stream._out += self._out.read()
                await stream.flush(timeout)
                await self._more(stream, timeout)
                continue
            stream._out += self._out.read()
            await stream.flush(timeout)
            return

    async def _more(self, stream: Stream, timeout: float) -> None:
        while True:
            try:
                data = os.read(stream._fd, CHUNK)
            except (BlockingIOError, InterruptedError):
                if not await stream.wait(True, False, timeout):
                    raise asyncio.TimeoutError from None
                continue
            if not data:
                raise Ended("the other side closed the connection during the handshake")
            self._in.write(data)
            return

    def receive(self, stream: Stream) -> bytes:
        while True:
            try:
                data = self._obj.read(CHUNK)
            except self._ssl.SSLWantReadError:
                if self._out.pending:  # an answer to the protocol itself
                    stream._out += self._out.read()
                    stream.transmit()
                raw = os.read(stream._fd, CHUNK)
                self._in.write(raw) if raw else self._in.write_eof()
                continue
            except (self._ssl.SSLZeroReturnError, self._ssl.SSLEOFError):
                return b""
            return data

    def seal(self, data: bytes) -> bytes:
        self._obj.write(data)
        return self._out.read()


async def connect(address: Address, timeout: float) -> Stream:
    """Connects, within so many seconds. Raises OSError or TimeoutError."""
    if address.path:
        return await _connect_unix(address.path, timeout)
    loop = asyncio.get_running_loop()
    found = await asyncio.wait_for(loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM), timeout)
    failed: Exception = OSError(f"{address.host}: no address")
    for family, kind, proto, _, where in found:
        try:
            stream = await _connect_tcp(socket.socket(family, kind, proto), where, timeout)
        except (OSError, asyncio.TimeoutError) as e:
            failed = e
            continue
        if address.tls is not None:
            try:
                tls = _Tls(address.tls, address.host)
                await tls.handshake(stream, timeout)
            except BaseException:
                stream.close()
                raise
            stream._tls = tls
        return stream
    raise failed


async def _connect_tcp(sock: socket.socket, where: object, timeout: float) -> Stream:
    with sock:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _keep_alive(sock)
        code = sock.connect_ex(where)  # type: ignore[arg-type]  # as getaddrinfo gave it
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))
        waiting = Stream(os.dup(sock.fileno()))
        try:
            if not await waiting.wait(False, True, timeout):
                raise asyncio.TimeoutError
        except BaseException:
            waiting.close()
            raise
        if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            waiting.close()
            raise OSError(code, os.strerror(code))
        waiting.tcp = True
        return waiting


def _set_user_timeout(sock: socket.socket, seconds: int) -> None:
    if (option := getattr(socket, "TCP_USER_TIMEOUT", None)) is not None:
        sock.setsockopt(socket.IPPROTO_TCP, option, 1000 * seconds)


def _keep_alive(sock: socket.socket) -> None:
    """Finds out within about a minute that the other side is gone, also in the
    middle of an answer that takes long, or of a request that does not get
    through, where the kernel would try for a quarter of an hour."""
    _set_user_timeout(sock, 60)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if (option := getattr(socket, name, None)) is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


async def _connect_unix(path: str, timeout: float) -> Stream:
    loop = asyncio.get_running_loop()
    deadline, pause = loop.time() + timeout, 0.001
    while True:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.setblocking(False)
            try:
                sock.connect(path)
            except BlockingIOError:
                # The queue of the server is full. The kernel tells nobody when
                # it is not any more.
                if loop.time() > deadline:
                    raise asyncio.TimeoutError from None
            else:
                return Stream(sock.detach())
        await asyncio.sleep(pause)
        pause = min(2 * pause, 0.05)
