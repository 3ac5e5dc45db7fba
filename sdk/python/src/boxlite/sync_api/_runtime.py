"""Runtimes, for programs without an event loop."""

from __future__ import annotations

from types import TracebackType

from ..box import Box
from ..connection import BoxliteRestOptions, Options
from ..images import ImageHandle
from ..runtime import Boxlite
from ..volumes import VolumeHandle
from ._box import SyncBox
from ._loop import sync, sync_as


class SyncImageHandle:
    """The images that a runtime has, shared by its boxes."""

    def __init__(self, images: ImageHandle) -> None:
        self._async = images

    pull = sync(ImageHandle.pull)
    list = sync(ImageHandle.list)


class SyncVolumeHandle:
    """Named volumes: directories that outlast boxes."""

    def __init__(self, volumes: VolumeHandle) -> None:
        self._async = volumes

    create = sync(VolumeHandle.create)
    list = sync(VolumeHandle.list)
    get = sync(VolumeHandle.get)
    remove = sync(VolumeHandle.remove)


def _maybe(box: Box | None) -> SyncBox | None:
    return None if box is None else SyncBox(box)


def _made(result: tuple[Box, bool]) -> tuple[SyncBox, bool]:
    return SyncBox(result[0]), result[1]


class SyncBoxlite:
    """A home of boxes and images, for programs without an event loop, and for
    those where one runs already, such as notebooks. See :class:`Boxlite`.

    It is usable at once; ``with`` and ``start()`` are for programs that begin
    and end it in a place of their own.
    """

    def __init__(self, options: Options) -> None:
        self._async = Boxlite(options)

    def __repr__(self) -> str:
        return f"SyncBoxlite({self._async!r})"

    @staticmethod
    def _of(boxlite: Boxlite) -> SyncBoxlite:
        sync = SyncBoxlite.__new__(SyncBoxlite)
        sync._async = boxlite
        return sync

    @staticmethod
    def default() -> SyncBoxlite:
        """The runtime of this program, the same as ``Boxlite.default()``."""
        return SyncBoxlite._of(Boxlite.default())

    @staticmethod
    def init_default(options: Options) -> None:
        """Say what :meth:`default` is, before its first use."""
        Boxlite.init_default(options)

    @staticmethod
    def rest(options: BoxliteRestOptions) -> SyncBoxlite:
        """The runtime of a server. It is not connected to before it is used."""
        return SyncBoxlite._of(Boxlite.rest(options))

    @property
    def runtime(self) -> Boxlite:
        """The same runtime, for an event loop."""
        return self._async

    create = sync_as(SyncBox, Boxlite.create)
    get_or_create = sync_as(_made, Boxlite.get_or_create)
    get = sync_as(_maybe, Boxlite.get)
    get_info = sync(Boxlite.get_info)
    list_info = sync(Boxlite.list_info)
    list = sync(Boxlite.list)
    metrics = sync(Boxlite.metrics)
    remove = sync(Boxlite.remove)
    shutdown = sync(Boxlite.shutdown)

    @property
    def images(self) -> SyncImageHandle:
        """Its images."""
        return SyncImageHandle(self._async.images)

    @property
    def volumes(self) -> SyncVolumeHandle:
        """Its named volumes."""
        return SyncVolumeHandle(self._async.volumes)

    def start(self) -> SyncBoxlite:
        """Return the runtime itself, which needs no start."""
        return self

    def stop(self) -> None:
        """Do nothing: a runtime ends with its program, or with :meth:`shutdown`."""

    close = stop

    def __enter__(self) -> SyncBoxlite:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
