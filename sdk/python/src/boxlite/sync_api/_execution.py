"""Commands that run in a box, for programs without an event loop."""

from __future__ import annotations

from collections.abc import Iterator

from ..execution import ExecOutput, ExecStdin, Execution, ExecutionResult
from . import _loop


class SyncExecStdin:
    """Input of a command. See :class:`ExecStdin`."""

    def __init__(self, stdin: ExecStdin) -> None:
        self._stdin = stdin

    def send_input(self, data: bytes) -> None:
        """Send bytes to the command."""
        _loop.run(self._stdin.send_input(data))

    def close(self) -> None:
        """End the input."""
        _loop.run(self._stdin.close())

    def is_closed(self) -> bool:
        """Whether no more input is taken."""
        return _loop.run(self._stdin.is_closed())


class _SyncExecOutput:
    def __init__(self, output: ExecOutput) -> None:
        self._output = output
        self._items = _loop.items(output)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        return next(self._items)

    def read(self) -> str:
        """All that is left of the output, when it has ended."""
        return _loop.run(self._output.read())


class SyncExecStdout(_SyncExecOutput):
    """Standard output of a command, as an iterator. See :class:`ExecStdout`."""


class SyncExecStderr(_SyncExecOutput):
    """Standard error of a command, as an iterator. See :class:`ExecStderr`."""


class SyncExecution:
    """A command that was started in a box. See :class:`Execution`."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution

    def __repr__(self) -> str:
        return f"<SyncExecution {self._execution!r}>"

    def id(self) -> str:
        """Its id, unique in the box."""
        return self._execution.id()

    def stdin(self) -> SyncExecStdin:
        """Input of the command."""
        return SyncExecStdin(self._execution.stdin())

    def stdout(self) -> SyncExecStdout:
        """Standard output. It can be had once; then RuntimeError."""
        return SyncExecStdout(self._execution.stdout())

    def stderr(self) -> SyncExecStderr:
        """Standard error. It can be had once; then RuntimeError."""
        return SyncExecStderr(self._execution.stderr())

    def wait(self) -> ExecutionResult:
        """Wait for the end of the command. Ctrl-C ends the waiting alone."""
        return _loop.run(self._execution.wait())

    def kill(self, signal: int = 9) -> None:
        """End the command and all that it started, or send it a signal."""
        _loop.run(self._execution.kill(signal))

    def signal(self, signal: int) -> None:
        """Send a signal to the command."""
        _loop.run(self._execution.signal(signal))

    def resize_tty(self, rows: int, cols: int) -> None:
        """Set the size of the terminal, in characters."""
        _loop.run(self._execution.resize_tty(rows, cols))
