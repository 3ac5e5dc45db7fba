"""A WebSocket, as far as following a command needs it."""

from __future__ import annotations

import base64
import os

from ._http import CONNECT_TIMEOUT, Locate, Pool, Request, Response, send
from ._wire import Ended, Stream

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
#: The most one message may take, in bytes: the server sends at most 1 MiB.
MAX_MESSAGE = 16 << 20
#: The most that waits to be sent, in bytes, before answers to pings are left
#: out: whoever sends so many does not want them.
_MAX_OUT = 1 << 20

TEXT, BINARY, _CLOSE, _PING, _PONG = 1, 2, 8, 9, 10


class Refused(Exception):
    """The server answered, but not with a WebSocket. Close the response."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"HTTP {response.status}")
        self.response = response


async def open_socket(pool: Pool, locate: Locate, request: Request) -> WebSocket:
    """Turns a connection into a WebSocket. Raises :class:`Refused`."""
    import hashlib  # takes long to load

    key = base64.b64encode(os.urandom(16))
    request.headers.update(
        {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Key": key.decode(),
            "Sec-WebSocket-Version": "13",
        }
    )
    response = await send(pool, locate, request, CONNECT_TIMEOUT + 30)
    if response.status != 101:
        raise Refused(response)
    want = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest()).decode()
    if response.headers.get("sec-websocket-accept") != want:
        response.close()
        raise Ended("the answer to the WebSocket handshake is wrong")
    stream = response.detach()
    stream.be_patient()  # a command need not read its input
    return WebSocket(stream)


class WebSocket:
    """Messages over a stream. ``poll`` takes what has come, ``queue`` puts in
    line what is to go; the stream moves both."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.ended = False  # no more messages come
        self.clean = False  # because the other side said so
        self._parts = bytearray()  # of a message in several frames
        self._kind = 0

    def queue(self, kind: int, payload: bytes = b"") -> None:
        """Puts a message in line."""
        n = len(payload)
        if n < 126:
            head = bytes((0x80 | kind, 0x80 | n))
        elif n < 1 << 16:
            head = bytes((0x80 | kind, 0xFE)) + n.to_bytes(2, "big")
        else:
            head = bytes((0x80 | kind, 0xFF)) + n.to_bytes(8, "big")
        mask = os.urandom(4)
        self.stream.queue(head + mask + _masked(payload, mask))

    def poll(self) -> tuple[int, bytes] | None:
        """The next message that has come as a whole, and its kind. Pings are
        answered, which the next flush sends."""
        while not self.ended:
            frame = self._frame()
            if frame is None:
                if self.stream.at_end:
                    self.ended = True
                return None
            final, kind, payload = frame
            if kind >= _CLOSE:
                self._control(kind, payload)
                continue
            self._kind = kind or self._kind
            if final and not self._parts:
                return self._kind, payload
            self._parts += payload
            if len(self._parts) > MAX_MESSAGE:
                raise Ended("a message that is too large")
            if final:
                payload = bytes(self._parts)
                self._parts.clear()
                return self._kind, payload
        return None

    def _frame(self) -> tuple[bool, int, bytes] | None:
        buf = self.stream.buffer
        if len(buf) < 2:
            return None
        n, head = buf[1] & 0x7F, 2
        if buf[1] & 0x80 or buf[0] & 0x70:
            raise Ended("a frame that no server sends")
        if n >= 126:
            head = 4 if n == 126 else 10
            if len(buf) < head:
                return None
            n = int.from_bytes(buf[2:head], "big")
        if n > MAX_MESSAGE:
            raise Ended("a message that is too large")
        if len(buf) < head + n:
            return None
        first, payload = buf[0], bytes(memoryview(buf)[head : head + n])
        del buf[: head + n]
        return bool(first & 0x80), first & 0x0F, payload

    def _control(self, kind: int, payload: bytes) -> None:
        if kind == _CLOSE:
            self.ended = self.clean = True
            self.queue(_CLOSE, payload[:2])
        elif kind == _PING and len(payload) < 126 and self.stream.pending() < _MAX_OUT:
            self.queue(_PONG, payload)

    def close(self) -> None:
        """Ends it, telling the other side so if that costs no wait."""
        if not self.stream.closed:
            try:
                if not self.clean:
                    self.queue(_CLOSE, b"\x03\xe8")
                self.stream.transmit()
            except OSError:
                pass
            self.stream.close()


def _masked(payload: bytes, mask: bytes) -> bytes:
    """The payload with the mask over it. Numbers do it many bytes at a time."""
    n = len(payload)
    if not n:
        return payload
    wide = (mask * (n // 4 + 1))[:n]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(wide, "big")).to_bytes(n, "big")
