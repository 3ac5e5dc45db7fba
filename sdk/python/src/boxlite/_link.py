"""The line to one command: what it writes, what it reads, and how it ends."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ._api import Api, decode, segment
from ._http import BadAnswer
from ._ws import BINARY, TEXT, WebSocket
from .errors import BoxliteError, ExecutionError, InvalidStateError, NetworkError, ResourceExhaustedError, fail
from .info import as_dict, as_int, as_str

#: Output that nobody has read yet is kept: this many bytes of each stream in
#: memory, which is what the box itself keeps, and the rest in a file.
_IN_MEMORY = 1 << 20
#: What of each stream is kept in all. A command that writes more without
#: anybody reading it does so by mistake.
_KEPT = 1 << 30
#: Seconds between attempts to find a command again whose line broke. The server
#: gives none of its output up for ten.
_AGAIN = (0.0, 0.1, 0.5, 1.0, 2.0, 4.0)

#: Seconds for which somebody who has a stream may read nothing of it, before
#: the command goes on without. A reader that asks a model about each line needs
#: some minutes; a stream that was forgotten must not hold its command for ever.
_PATIENCE = 600

STDOUT, STDERR = 1, 2


@dataclass(frozen=True)
class Exit:
    """How a command ended."""

    code: int
    signal: int = 0
    cause: str = "exited"
    message: str = ""


class Spool:
    """Output that waits for somebody to read it."""

    def __init__(self) -> None:
        self.received = 0  # bytes that have come, or are known to be lost
        # In their order: output in memory, _Stored for output in the file, and
        # _Lost for what is missing.
        self._parts: deque[bytes | _Stored | _Lost] = deque()
        self._memory = self._stored = 0
        self._fd = -1
        self._end = 0  # of the file

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def put(self, data: bytes) -> None:
        """Keeps output."""
        self.received += len(data)
        if self._memory + len(data) <= _IN_MEMORY:
            self._parts.append(data)
            self._memory += len(data)
        elif self._memory + self._stored + len(data) > _KEPT or not self._store(data):
            self._lose(len(data))

    def gap(self, size: int) -> None:
        """Notes that output is lost that the box keeps no more."""
        self.received += size
        if size > 0:
            self._lose(size)

    def _lose(self, size: int) -> None:
        if self._parts and isinstance(last := self._parts[-1], _Lost):
            last.size += size
        else:
            self._parts.append(_Lost(size))

    def _store(self, data: bytes) -> bool:
        """Puts output into the file. False when the disk takes no more."""
        try:
            if self._fd < 0:
                import tempfile  # takes long to load, and few need it

                self._fd, path = tempfile.mkstemp(prefix="boxlite-")
                os.unlink(path)
            at = 0
            while at < len(data):
                at += os.pwrite(self._fd, data[at:], self._end + at)
        except OSError:
            return False
        if not (self._parts and isinstance(last := self._parts[-1], _Stored) and last.at + last.size == self._end):
            last = _Stored(self._end)
            self._parts.append(last)
        last.size += len(data)
        self._end += len(data)
        self._stored += len(data)
        return True

    def empty(self) -> bool:
        """Whether there is nothing to take."""
        return not self._parts

    def take(self) -> bytes:
        """The next part; none if there is none. Raises once where output is
        missing."""
        if not self._parts:
            return b""
        part = self._parts[0]
        if isinstance(part, _Stored):
            return self._fetch(part)
        self._parts.popleft()
        if isinstance(part, bytes):
            self._memory -= len(part)
            return part
        raise fail(
            ResourceExhaustedError,
            f"{part.size} bytes of output are lost: nobody read them while they were kept; read on for what came after",
        )

    def _fetch(self, part: _Stored) -> bytes:
        data = os.pread(self._fd, min(_IN_MEMORY, part.size), part.at)
        part.at += len(data)
        part.size -= len(data)
        self._stored -= len(data)
        if not part.size:
            self._parts.popleft()
        if not self._stored:
            os.ftruncate(self._fd, 0)
            self._end = 0
        return data


@dataclass
class _Stored:
    at: int
    size: int = 0


@dataclass
class _Lost:
    size: int


class Link:
    """The WebSocket that follows a command. It is there while somebody needs
    it, and made again when it breaks. Whoever waits for something moves the
    bytes of all others too: there is no task in the background."""

    def __init__(self, api: Api, box: str, execution: str, name: str) -> None:
        self._api = api
        self.path = f"boxes/{segment(box)}/executions/{segment(execution)}"
        self._name = name
        self._ws: WebSocket | None = None
        self._busy: asyncio.AbstractEventLoop | None = None  # whose task moves bytes
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._tries = 0
        self._steps = 0
        self._unread = False  # something has come that no step has looked at
        self._generation = api.connector.generation
        self._pid = os.getpid()
        self._gone: BoxliteError | None = None  # what has become of the server
        self.out = {STDOUT: Spool(), STDERR: Spool()}
        self.exit: Exit | None = None
        self.failed: BoxliteError | None = None
        self.read_only = False
        self.holders = 0  # streams that somebody has

    def __del__(self) -> None:
        self.hang_up()

    @property
    def over(self) -> bool:
        """Whether nothing more comes."""
        return self.exit is not None or self.failed is not None

    def hang_up(self) -> None:
        """Lets go of the command, which goes on."""
        ws, self._ws = self._ws, None
        if ws is not None and self._pid == os.getpid():
            ws.close()  # in a fork it is the parent's; here it is only let go of

    async def until(self, done: Callable[[], bool], timeout: float | None = None) -> bool:
        """Moves bytes until something is so, or the command is over. False when
        that took too long. One task at a time does the work."""
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        while not done() and not self.over:
            self._usable(loop)
            left = None if deadline is None else deadline - loop.time()
            if left is not None and left <= 0:
                return False
            if self._busy:
                await self._wait_turn(loop, left)
                continue
            self._busy = loop
            try:
                await self._step(left)
            finally:
                self._busy = None
                self._steps += 1
                self._wake()
        return True

    def _usable(self, loop: asyncio.AbstractEventLoop) -> None:
        """Raises where the bytes are somebody else's to move."""
        if self._pid != os.getpid():
            raise fail(
                InvalidStateError,
                f"{self._name}: it is followed by process {self._pid}, of which this one is a fork; "
                "attach to it with a runtime of this process",
            )
        if self._busy is None or self._busy is loop:
            return
        if not self._busy.is_closed():
            raise fail(InvalidStateError, f"{self._name}: it is in use in another event loop; attach to it from here")
        self._busy = None  # that ended without its tasks
        self._waiting.clear()

    async def _wait_turn(self, loop: asyncio.AbstractEventLoop, timeout: float | None) -> None:
        fut: asyncio.Future[None] = loop.create_future()
        self._waiting.append(fut)
        timer = loop.call_later(timeout, _finish, fut) if timeout is not None else None
        try:
            await fut
        finally:
            if timer:
                timer.cancel()
            if fut in self._waiting:
                self._waiting.remove(fut)

    def _wake(self) -> None:
        while self._waiting:
            _finish(self._waiting.popleft())

    async def _step(self, timeout: float | None) -> None:
        """Takes what has come, or waits for more."""
        try:
            ws = self._ws
            if ws is None:
                await self._attach()
                return
            moved, self._unread = self._unread, False
            while (message := ws.poll()) is not None:
                moved = True
                self._take(*message)
                if self.exit is not None:
                    self.hang_up()
                    return
            if ws.ended:
                await self._lost(None)
                return
            waiting = ws.stream.pending()
            ws.stream.transmit()
            if moved:
                self._tries = 0
            if moved or ws.stream.pending() < waiting:
                await ws.stream.give_way()
                return
            if not ws.stream.receive():
                await ws.stream.wait(True, ws.stream.pending() > 0, timeout)
            else:
                await ws.stream.give_way()
        except OSError as e:
            await self._lost(e)

    def _take(self, kind: int, payload: bytes) -> None:
        if kind == BINARY:
            if payload and payload[0] in self.out:
                self.out[payload[0]].put(payload[1:])
            return
        if kind != TEXT:
            return
        try:
            frame = as_dict(decode(payload))
        except BadAnswer:
            return
        if frame.get("type") == "exit":
            self._finish(
                Exit(
                    as_int(frame.get("exit_code")),
                    as_int(frame.get("signal")),
                    as_str(frame.get("cause")) or "exited",
                    as_str(frame.get("message")),
                )
            )
        elif frame.get("type") == "gap":
            spool = self.out[STDERR if frame.get("stream") == "stderr" else STDOUT]
            spool.gap(max(0, as_int(frame.get("to")) - spool.received))

    def _finish(self, x: Exit) -> None:
        self.exit = x

    def _fail(self, e: BoxliteError) -> None:
        self.failed = e

    async def _attach(self) -> None:
        """Follows the command from where we are. Where that cannot be it is
        known afterwards how it ended, or what is wrong."""
        query = {"patience": str(_PATIENCE)}
        for n, name in ((STDOUT, "stdout_offset"), (STDERR, "stderr_offset")):
            if self.out[n].received:
                query[name] = str(self.out[n].received)
        if self.read_only:
            query["stdin"] = "0"
        try:
            self._ws = await self._api.socket(self.path + "/attach", query, ExecutionError.prefix)
        except InvalidStateError as e:
            if self.read_only or "attached" not in str(e):
                await self._ask(e)
            self.read_only = True  # somebody else writes: look on
        except NetworkError as e:
            await self._lost(e)
        except BoxliteError as e:
            await self._ask(e)

    async def _lost(self, cause: Exception | None) -> None:
        """Gets over a line that broke, for a while."""
        self.hang_up()
        # A server of ours that is gone is started again: a command in a detached
        # box outlives it.
        self._gone = self._api.connector.gone() or self._gone
        if self._tries >= len(_AGAIN):
            if isinstance(cause, BoxliteError):
                self._fail(cause)
            else:
                self._fail(
                    fail(NetworkError, f"{self._name}: the line to it breaks again and again: {cause or 'closed'}")
                )
            return
        pause = _AGAIN[self._tries]
        self._tries += 1
        await asyncio.sleep(pause)

    async def _ask(self, refused: BoxliteError) -> None:
        """Finds out how a command ended that cannot be followed."""
        try:
            state = as_dict(await self._api.call("GET", self.path, missing=ExecutionError.prefix))
        except NetworkError as e:
            await self._lost(e)
            return
        except BoxliteError:
            if self._gone is None and self._generation == self._api.connector.generation:
                self._fail(refused)
                return
            why = self._gone or "the private server was started again"
            self._fail(fail(ExecutionError, f"{self._name}: not known how it ended: {why}"))
            return
        if state.get("exit_code") is None and state.get("status") == "running":
            await self._lost(refused)
            return
        self._finish(
            Exit(
                as_int(state.get("exit_code"), -1),
                as_int(state.get("signal")),
                as_str(state.get("cause")) or "exited",
                as_str(state.get("error_message")),
            )
        )

    async def send(self, kind: int, payload: bytes) -> None:
        """Sends a message, and takes what comes meanwhile: a command that
        cannot write does not read either. What a broken line has not taken as
        a whole is sent again."""
        while not self.over:
            self._usable(asyncio.get_running_loop())
            await self.until(lambda: self._ws is not None)
            ws = self._ws
            if ws is None:
                continue
            await self._look(ws)
            if ws is not self._ws:
                continue
            if self.read_only:
                raise fail(InvalidStateError, f"{self._name}: another program writes to it")
            ws.queue(kind, payload)
            if self._busy:
                ws.stream.nudge()  # so that whoever waits for output waits for room too
            if await self._delivered(ws):
                return

    async def _look(self, ws: WebSocket) -> None:
        """Takes what has come, which may be the end of the line."""
        try:
            self._unread = ws.stream.receive()
            if not self._unread:
                return
        except OSError:
            pass  # the next step meets it too
        steps = self._steps
        if self._busy:
            ws.stream.nudge()
        await self.until(lambda: self._steps > steps)

    async def _delivered(self, ws: WebSocket) -> bool:
        """Waits until the kernel has all, and tells whether it took it."""
        await self.until(lambda: ws is not self._ws or not ws.stream.pending())
        return ws is self._ws or not ws.stream.pending()


def _finish(fut: asyncio.Future[None]) -> None:
    if not fut.done() and not fut.get_loop().is_closed():
        fut.set_result(None)
