"""Boxes for the time of a ``with``, for programs without an event loop."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from ..codebox import CodeBox
from ..info import BoxInfo
from ..runtime import Boxlite
from ..simplebox import KeywordOptions, SimpleBox
from ._box import SyncBoxTunnel, SyncNetworkHandle
from ._loop import run, sync, sync_as
from ._runtime import SyncBoxlite

if TYPE_CHECKING:
    from typing_extensions import Unpack  # known to type checkers; never imported

_Self = TypeVar("_Self", bound="SyncSimpleBox")


def _async(runtime: SyncBoxlite | None) -> Boxlite | None:
    return None if runtime is None else runtime.runtime


class SyncSimpleBox:
    """A box for the time of a ``with``. See :class:`SimpleBox`::

    with SyncSimpleBox(image="python:slim") as box:
        result = box.exec("python", "-c", "print(6*7)")
    """

    _async: SimpleBox

    def __init__(
        self,
        image: str | None = None,
        rootfs_path: str | None = None,
        memory_mib: int | None = None,
        cpus: int | None = None,
        runtime: SyncBoxlite | None = None,
        **options: Unpack[KeywordOptions],
    ) -> None:
        self._async = SimpleBox(image, rootfs_path, memory_mib, cpus, _async(runtime), **options)

    @property
    def id(self) -> str:
        """Id of the box. RuntimeError before it was started."""
        return self._async.id

    @property
    def name(self) -> str | None:
        """Name of the box, None if it has none."""
        return self._async.name

    @property
    def created(self) -> bool | None:
        """Whether the box was made, or found by its name; None before the start."""
        return self._async.created

    @property
    def network(self) -> SyncNetworkHandle:
        """The network of the box, from outside."""
        return SyncNetworkHandle(self._async.network)

    def info(self) -> BoxInfo:
        """What is known of the box now."""
        return run(self._async._box._look)

    def start(self: _Self) -> _Self:
        """Make the box, or find it, and start it. Once it runs, do nothing."""
        run(self._async.start)
        return self

    stop = sync(SimpleBox.stop)
    shutdown = sync(SimpleBox.shutdown)
    metrics = sync(SimpleBox.metrics)
    tunnel = sync_as(SyncBoxTunnel, SimpleBox.tunnel)
    exec = sync(SimpleBox.exec)
    copy_in = sync(SimpleBox.copy_in)
    copy_out = sync(SimpleBox.copy_out)

    def __enter__(self: _Self) -> _Self:
        try:
            return self.start()
        except BaseException:  # an interrupt may come when the box has just started
            self.__exit__(None, None, None)
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        run(lambda: self._async.__aexit__(kind, error, trace))


class SyncCodeBox(SyncSimpleBox):
    """A box that runs Python code, for the time of a ``with``. See
    :class:`CodeBox`."""

    _async: CodeBox

    def __init__(
        self,
        image: str = "python:slim",
        memory_mib: int | None = None,
        cpus: int | None = None,
        runtime: SyncBoxlite | None = None,
        *,
        rootfs_path: str | None = None,
        **options: Unpack[KeywordOptions],
    ) -> None:
        self._async = CodeBox(image, memory_mib, cpus, _async(runtime), rootfs_path=rootfs_path, **options)

    run = sync(CodeBox.run)
    run_script = sync(CodeBox.run_script)
    install_package = sync(CodeBox.install_package)
    install_packages = sync(CodeBox.install_packages)
