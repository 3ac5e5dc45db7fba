"""Commands that run in a box."""

from __future__ import annotations

import asyncio
import codecs
from collections import deque
from dataclasses import dataclass

from ._api import Api
from ._guard import Unpicklable
from ._link import STDERR, STDOUT, Link
from ._ws import BINARY, TEXT
from .errors import ExecutionError, InvalidArgumentError, InvalidStateError, NotFoundError, fail

#: Seconds that the beginning of a line waits for its end before it is given out
#: alone: longer than a program takes between two writes of one line, too short
#: to be felt at a prompt.
_HOLD = 0.05
#: Characters after which a line is given out in pieces.
_LONG = 64 << 10
#: Bytes of input in one message. The server takes at most 1 MiB.
_PIECE = 64 << 10


@dataclass(frozen=True)
class ExecutionResult:
    """How a command ended.

    ``exit_code`` is 128 + N when signal N ended it. ``error_message`` says why
    a command did not exit by itself, and is None if it did. ``timed_out`` is
    true when it was ended because its time was up. ``signal`` is 0 for none;
    ``cause`` is "exited", "signaled", "timeout", "oom" or "box died".
    """

    exit_code: int
    error_message: str | None = None
    timed_out: bool = False
    signal: int = 0
    cause: str = "exited"


class ExecStdin(Unpicklable):
    """Input of a command."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._closed = False

    async def send_input(self, data: bytes) -> None:
        """Sends bytes to the command, and waits until they are on their way:
        for as long as the command does not read what was sent before. Input
        for a command that has ended goes nowhere. Raises InvalidStateError
        after close()."""
        if self._closed:
            raise fail(InvalidStateError, "the input of the command was closed")
        if isinstance(data, str):
            raise TypeError("input is bytes: encode the text")
        view = memoryview(data)
        for at in range(0, len(view), _PIECE):
            await self._link.send(BINARY, bytes(view[at : at + _PIECE]))

    async def close(self) -> None:
        """Ends the input. Closing it again does nothing."""
        if not self._closed:
            self._closed = True
            await self._link.send(TEXT, b'{"type":"stdin_eof"}')

    async def is_closed(self) -> bool:
        """Whether no more input is taken."""
        return self._closed or self._link.over


class ExecOutput(Unpicklable):
    """One output of a command, as an asynchronous iterator.

    An item is a line as a ``str``, its line end kept; or, when the command
    pauses in the middle of a line, as for a prompt, what there is of the line.
    The items together are the output, decoded as UTF-8, with U+FFFD where it is
    none. On a terminal lines end with "\\r\\n".

    The reader sets the pace: the command waits when some MiB are not read. When
    nothing is read for ten minutes the command goes on, and what is lost then
    raises ResourceExhaustedError, once, in its place.
    """

    def __init__(self, link: Link, which: int) -> None:
        self._link = link
        self._spool = link.out[which]
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._lines: deque[str] = deque()
        self._rest = ""  # of a line that has not ended
        self._told = False

    def __aiter__(self) -> ExecOutput:
        return self

    async def __anext__(self) -> str:
        deadline = 0.0
        while True:
            if (line := self._line()) is not None:
                return line
            if not self._spool.empty():
                self._split(self._decoder.decode(self._spool.take()))
                continue
            if self._link.over:
                return self._last()
            if not self._rest:
                await self._link.until(self._more)
                continue
            now = asyncio.get_running_loop().time()
            deadline = deadline or now + _HOLD
            if not await self._link.until(self._more, deadline - now):
                text, self._rest = self._rest, ""
                return text

    async def read(self) -> str:
        """All that is left of the output, when it has ended."""
        parts = list(self._lines)
        parts.append(self._rest)
        self._lines.clear()
        self._rest = ""
        while True:
            while not self._spool.empty():
                parts.append(self._decoder.decode(self._spool.take()))
            if self._link.over:
                break
            await self._link.until(self._more)
        try:
            parts.append(self._last())
        except StopAsyncIteration:
            pass
        return "".join(parts)

    def _line(self) -> str | None:
        """A line that is here already. May be called from any thread."""
        try:
            return self._lines.popleft()
        except IndexError:
            return None

    def _more(self) -> bool:
        return not self._spool.empty()

    def _split(self, text: str) -> None:
        lines = (self._rest + text).split("\n")
        self._rest = lines.pop()
        self._lines.extend(line + "\n" for line in lines)
        if len(self._rest) > _LONG:
            self._lines.append(self._rest)
            self._rest = ""

    def _last(self) -> str:
        text, self._rest = self._rest + self._decoder.decode(b"", True), ""
        if text:
            return text
        if self._link.failed is not None and not self._told:
            self._told = True
            raise self._link.failed
        raise StopAsyncIteration


class ExecStdout(ExecOutput):
    """Standard output of a command; on a terminal, all its output."""


class ExecStderr(ExecOutput):
    """Standard error of a command. On a terminal it has nothing."""


class Execution(Unpicklable):
    """A command that was started in a box.

    It runs on whatever becomes of this object, and of those who wait for it.
    Output is kept until it is read, however one waits: at most 1 GiB of each
    stream, most of it in a temporary file. Nobody follows a command until its
    streams or its end are asked for; so long the box keeps 1 MiB of each
    stream, and for ten seconds the command waits rather than lose more.
    """

    def __init__(self, api: Api, box: str, execution: str, name: str, tty: bool) -> None:
        self._api = api
        self._id = execution
        self._name = name
        self._tty = tty
        self._link = Link(api, box, execution, name)
        self._stdin: ExecStdin | None = None
        self._taken: set[str] = set()
        self._waiters = 0

    def __repr__(self) -> str:
        return f"<Execution {self._id}: {self._name}>"

    def id(self) -> str:
        """Its id, unique in the box."""
        return self._id

    def stdin(self) -> ExecStdin:
        """Input of the command."""
        if self._stdin is None:
            self._stdin = ExecStdin(self._link)
            self._link.holders += 1
        return self._stdin

    def stdout(self) -> ExecStdout:
        """Standard output. It can be had once; then RuntimeError."""
        self._take("stdout")
        return ExecStdout(self._link, STDOUT)

    def stderr(self) -> ExecStderr:
        """Standard error. It can be had once; then RuntimeError."""
        self._take("stderr")
        return ExecStderr(self._link, STDERR)

    def _take(self, name: str) -> None:
        if name in self._taken:
            raise InvalidStateError(f"{name} stream not available")
        self._taken.add(name)
        self._link.holders += 1

    async def wait(self) -> ExecutionResult:
        """Waits for the end of the command. Output that nobody reads meanwhile
        is kept for later. When the wait is cancelled, the command goes on."""
        link = self._link
        self._waiters += 1
        try:
            await link.until(_never)
        finally:
            self._waiters -= 1
            if not self._waiters and not link.holders:
                link.hang_up()
        if link.exit is None:
            assert link.failed is not None
            raise link.failed
        x = link.exit
        return ExecutionResult(x.code, x.message or None, x.cause == "timeout", x.signal, x.cause)

    async def kill(self, signal: int = 9) -> None:
        """Ends the command and all that it started, at once. With another
        signal, sends that to the command. One that has ended is left alone."""
        await self.signal(signal)

    async def signal(self, signal: int) -> None:
        """Sends a signal: 1 2 3 6 9 10 12 15 18 19 20 or 28, by its number on
        Linux. 9 goes to all that the command started. Raises
        InvalidArgumentError for others."""
        if self._link.exit is not None:
            return
        try:
            await self._api.call("POST", self._link.path + "/signal", json={"signal": int(signal)})
        except NotFoundError:
            pass  # it has ended, and its box too

    async def resize_tty(self, rows: int, cols: int) -> None:
        """Sets the size of the terminal, in characters. Raises
        InvalidStateError for a command without one."""
        for name, value in (("rows", rows), ("cols", cols)):
            if not 1 <= value <= 65535:
                raise fail(InvalidArgumentError, f"{name} {value}: give 1 to 65535")
        if not self._tty:
            raise fail(InvalidStateError, f"{self._name}: runs without a terminal; start it with tty=True")
        await self._api.call(
            "POST", self._link.path + "/resize", json={"rows": rows, "cols": cols}, missing=ExecutionError.prefix
        )


def _never() -> bool:
    return False


__all__ = ["ExecOutput", "ExecStderr", "ExecStdin", "ExecStdout", "Execution", "ExecutionResult"]
