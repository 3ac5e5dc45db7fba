"""Commands that run in a box, for programs without an event loop."""

from __future__ import annotations

from collections.abc import Iterator

from ..execution import ExecOutput, ExecStdin, Execution
from ._loop import items, sync


class SyncExecStdin:
    """Input of a command. See :class:`ExecStdin`."""

    def __init__(self, stdin: ExecStdin) -> None:
        self._async = stdin

    send_input = sync(ExecStdin.send_input)
    close = sync(ExecStdin.close)
    is_closed = sync(ExecStdin.is_closed)


class _SyncExecOutput:
    def __init__(self, output: ExecOutput) -> None:
        self._async = output
        self._items = items(output)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        # To ask the loop's thread for each line would take a hundred times as long.
        line = self._async._line()
        return next(self._items) if line is None else line

    read = sync(ExecOutput.read)


class SyncExecStdout(_SyncExecOutput):
    """Standard output of a command, as an iterator. See :class:`ExecStdout`."""


class SyncExecStderr(_SyncExecOutput):
    """Standard error of a command, as an iterator. See :class:`ExecStderr`."""


class SyncExecution:
    """A command that was started in a box. See :class:`Execution`. Ctrl-C in
    ``wait()`` ends the waiting alone."""

    def __init__(self, execution: Execution) -> None:
        self._async = execution

    def __repr__(self) -> str:
        return f"<SyncExecution {self._async!r}>"

    def id(self) -> str:
        """Its id, unique in the box."""
        return self._async.id()

    def stdin(self) -> SyncExecStdin:
        """Input of the command."""
        return SyncExecStdin(self._async.stdin())

    def stdout(self) -> SyncExecStdout:
        """Standard output. It can be had once; then RuntimeError."""
        return SyncExecStdout(self._async.stdout())

    def stderr(self) -> SyncExecStderr:
        """Standard error. It can be had once; then RuntimeError."""
        return SyncExecStderr(self._async.stderr())

    wait = sync(Execution.wait)
    kill = sync(Execution.kill)
    signal = sync(Execution.signal)
    resize_tty = sync(Execution.resize_tty)
