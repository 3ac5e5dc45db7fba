"""Connections to ports of a box, published or not."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ._guard import Unpicklable
from ._http import CONNECT_TIMEOUT
from ._wire import Address, Ended, Stream, connect
from .errors import InvalidStateError, NetworkError, fail
from .info import as_dict, as_str

if TYPE_CHECKING:
    from .box import Box

#: The most the answer to a CONNECT may take, in bytes, and seconds for it: the
#: server waits so long for the port of the box.
_MAX_HEAD, _TIMEOUT = 16 << 10, 40.0


class NetworkHandle(Unpicklable):
    """The network of a box, from outside."""

    def __init__(self, box: Box) -> None:
        self._box = box

    async def tunnel(self, port: int) -> BoxTunnel:
        """Prepares one connection to a port of the box, which is started if
        needed. ValueError for what is no port."""
        if not 1 <= port <= 65535:
            raise ValueError(f"port {port}: give 1 to 65535")
        self._box._usable()
        reply = as_dict(
            await self._box._api.call("POST", f"{self._box._path}/network/tunnel", query={"port": str(port)})
        )
        return BoxTunnel(as_str(reply.get("uri")))


class BoxTunnel(Unpicklable):
    """One connection to a port of a box, to be made within 30 seconds."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._used = False

    def uri(self) -> str:
        """Where the tunnel begins: connect there and send CONNECT."""
        return self._uri

    async def endpoint(self) -> str:
        """The same as :meth:`uri`."""
        return self._uri

    async def connect(self) -> socket.socket:
        """The connection, as a socket that does not block; it is the caller's
        to close. It can be had once. Raises NetworkError when nothing listens
        on the port."""
        if self._used:
            raise fail(InvalidStateError, "the tunnel was used; ask for another")
        self._used = True
        try:
            url = urlsplit(self._uri)
            where = Address(host=url.hostname or "", port=url.port or 0)
        except ValueError:
            where = Address()
        if not where.host or not where.port or not self._uri.isascii():
            raise fail(NetworkError, f"the server's answer makes no sense: a tunnel at {self._uri!r}")
        try:
            stream = await connect(where, CONNECT_TIMEOUT)
            try:
                stream.queue(f"CONNECT {url.netloc} HTTP/1.1\r\nHost: {url.netloc}\r\n\r\n".encode())
                await stream.flush(CONNECT_TIMEOUT)
                head = await _head(stream)
                if head.split(b" ")[1:2] != [b"200"]:
                    raise fail(NetworkError, f"tunnel: {head.splitlines()[0].decode('latin-1')}: does the port listen?")
                stream.be_patient()  # who listens need not read at once
                return socket.socket(fileno=stream.detach())
            finally:
                stream.close()
        except (OSError, asyncio.TimeoutError) as e:
            raise fail(NetworkError, f"tunnel: {e or 'no answer in time'}") from e


async def _head(stream: Stream) -> bytes:
    """The head of an answer, and nothing of what follows it: that is for
    whoever gets the connection."""
    head = bytearray()
    while not head.endswith(b"\r\n\r\n"):
        try:
            byte = os.read(stream.fileno(), 1)
        except BlockingIOError:
            if not await stream.wait(True, False, _TIMEOUT):
                raise asyncio.TimeoutError from None
            continue
        if not byte or len(head) > _MAX_HEAD:
            raise Ended("the other side gave no answer")
        head += byte
    return bytes(head)
