"""Boxes, for programs without an event loop."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import TracebackType

from ..box import Box
from ..info import BoxInfo
from ..metrics import BoxMetrics
from ..options import CopyOptions, Env
from . import _loop
from ._execution import SyncExecution
from ._tunnel import SyncNetworkHandle


class SyncBox:
    """A box. See :class:`Box`."""

    def __init__(self, box: Box) -> None:
        self._box = box

    def __repr__(self) -> str:
        return f"<SyncBox {self._box!r}>"

    @property
    def id(self) -> str:
        """Its id."""
        return self._box.id

    @property
    def name(self) -> str | None:
        """Its name, if it has one."""
        return self._box.name

    def info(self) -> BoxInfo:
        """What is known of the box now."""

        async def look() -> BoxInfo:
            return await self._box.info()

        return _loop.run(look())

    def exec(
        self,
        command: str,
        args: Sequence[str] | None = None,
        env: Env | None = None,
        tty: bool = False,
        user: str | None = None,
        timeout_secs: float | None = None,
        cwd: str | None = None,
    ) -> SyncExecution:
        """Start a command, and the box if needed. See :meth:`Box.exec`."""
        started = self._box.exec(command, args, env, tty, user, timeout_secs, cwd)
        return SyncExecution(_loop.run(started))

    def attach(self, execution_id: str | None = None) -> SyncExecution:
        """Follow a command that was started earlier; without an id the main
        command of a job."""
        return SyncExecution(_loop.run(self._box.attach(execution_id)))

    def start(self) -> None:
        """Start the box. One that runs is left as it is."""
        _loop.run(self._box.start())

    def stop(self) -> None:
        """Stop the box. This object is of no use afterwards."""
        _loop.run(self._box.stop())

    def remove(self, force: bool = False) -> None:
        """Delete the box with all it wrote; with ``force`` also if it runs."""
        _loop.run(self._box.remove(force))

    def metrics(self) -> BoxMetrics:
        """What the box uses and has done. Starts a box that does not run."""
        return _loop.run(self._box.metrics())

    @property
    def network(self) -> SyncNetworkHandle:
        """The network of the box, from outside."""
        return SyncNetworkHandle(self._box.network)

    def copy_in(
        self,
        host_path: str | os.PathLike[str],
        container_dest: str,
        copy_options: CopyOptions | None = None,
    ) -> None:
        """Copy a file or directory of this host into the box."""
        _loop.run(self._box.copy_in(host_path, container_dest, copy_options))

    def copy_out(
        self,
        container_src: str,
        host_dest: str | os.PathLike[str],
        copy_options: CopyOptions | None = None,
    ) -> None:
        """Copy a file or directory of the box to this host."""
        _loop.run(self._box.copy_out(container_src, host_dest, copy_options))

    def __enter__(self) -> SyncBox:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
