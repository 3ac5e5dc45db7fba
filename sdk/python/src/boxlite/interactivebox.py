"""A box with a shell at the terminal of this program."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import termios
import tty as terminal
from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, TextIO, TypeVar

from .errors import BoxliteError
from .execution import Execution
from .runtime import Boxlite
from .simplebox import KeywordOptions, SimpleBox

if TYPE_CHECKING:
    from typing_extensions import Unpack  # known to type checkers; never imported

_Self = TypeVar("_Self", bound="InteractiveBox")

#: Bytes read from the terminal at once: more than a person types or pastes in
#: one go, and what a kernel's terminal keeps.
_CHUNK = 4096


class InteractiveBox(SimpleBox):
    """A box with a shell on a terminal, for the time of an ``async with``::

        async with InteractiveBox(image="alpine:latest") as box:
            await box.wait()  # until the person types "exit"

    ``tty`` True puts the terminal of this program into raw mode and connects it
    with the shell; False leaves both alone, so that the shell only runs; None
    does the former if standard input is a terminal. See :class:`SimpleBox` for
    the rest. At the end of the block a shell that a terminal is connected with
    is waited for, unless an exception ends the block.
    """

    def __init__(
        self,
        image: str,
        shell: str = "/bin/sh",
        tty: bool | None = None,
        memory_mib: int | None = None,
        cpus: int | None = None,
        runtime: Boxlite | None = None,
        **options: Unpack[KeywordOptions],
    ) -> None:
        super().__init__(image, None, memory_mib, cpus, runtime, **options)
        self._shell = shell
        self._forward = sys.stdin.isatty() if tty is None else tty
        self._execution: Execution | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._mode: list[int | list[bytes | int]] | None = None

    async def start(self: _Self) -> _Self:
        """Make and start the box, and the shell in it."""
        if self._execution is not None:
            return self
        await super().start()
        try:
            self._execution = await self._box.exec(self._shell, tty=True)
            if self._forward:
                await self._connect(self._execution)
        except BaseException:
            await asyncio.shield(self.stop())
            raise
        return self

    async def wait(self) -> int:
        """Wait until the shell has ended, and return its exit code."""
        if self._execution is None:
            self._box  # says that it was not started
            raise RuntimeError("the shell has ended with its box")
        result = await self._execution.wait()
        if self._tasks:
            await asyncio.wait(self._tasks[:1])  # what it wrote last
        return result.exit_code

    async def stop(self) -> None:
        """Give the terminal back and stop the box."""
        execution, self._execution = self._execution, None
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._restore()
        if execution is not None:
            try:
                # As when a terminal is closed: shells take no notice of SIGTERM,
                # and would use up the time that a stop gives.
                await execution.signal(signal.SIGHUP)
            except BoxliteError:
                pass  # then the stop is what ends it
        await super().stop()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None and self._tasks:
                await self.wait()
        finally:
            await super().__aexit__(kind, error, trace)

    async def _connect(self, execution: Execution) -> None:
        """Connect the terminal of this program with the shell's."""
        loop = asyncio.get_running_loop()
        await self._resize(execution)
        self._raw()
        self._tasks = [
            loop.create_task(_show(execution.stdout(), sys.stdout)),
            loop.create_task(self._type(execution)),
            loop.create_task(self._follow_size(execution)),
        ]

    def _raw(self) -> None:
        fd = sys.stdin.fileno()
        if os.isatty(fd):
            self._mode = termios.tcgetattr(fd)
            terminal.setraw(fd, termios.TCSANOW)

    def _restore(self) -> None:
        if self._mode is not None:
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, self._mode)
            self._mode = None

    async def _type(self, execution: Execution) -> None:
        """Send what is typed, to its end."""
        stdin = execution.stdin()
        async for data in _chunks(sys.stdin.fileno()):
            await stdin.send_input(data)
        await stdin.close()

    async def _follow_size(self, execution: Execution) -> None:
        """Give the shell's terminal the size of ours, whenever that changes."""
        changed = asyncio.Event()
        loop = asyncio.get_running_loop()
        try:
            loop.add_signal_handler(signal.SIGWINCH, changed.set)
        except (ValueError, RuntimeError, NotImplementedError):
            return  # only the main thread hears of signals
        try:
            while await changed.wait():
                changed.clear()
                await self._resize(execution)
        finally:
            loop.remove_signal_handler(signal.SIGWINCH)

    async def _resize(self, execution: Execution) -> None:
        try:
            size = os.get_terminal_size(sys.stdout.fileno())
            await execution.resize_tty(size.lines, size.columns)
        except (OSError, BoxliteError):
            pass  # no terminal here, or no shell any more


async def _chunks(fd: int) -> AsyncIterator[bytes]:
    """What comes from a file, as it comes. Nothing waits for it but this."""
    loop = asyncio.get_running_loop()
    while True:
        ready = asyncio.Event()
        try:
            loop.add_reader(fd, ready.set)
        except PermissionError:  # a plain file, which is always ready
            ready.set()
        else:
            try:
                await ready.wait()
            finally:
                loop.remove_reader(fd)
        data = os.read(fd, _CHUNK)
        if not data:
            return
        yield data


async def _show(chunks: AsyncIterator[str], out: TextIO) -> None:
    """Write what the shell writes, in a thread: a terminal may be stopped."""
    loop = asyncio.get_running_loop()
    async for text in chunks:
        await loop.run_in_executor(None, _write, out, text)


def _write(out: TextIO, text: str) -> None:
    out.write(text)
    out.flush()
