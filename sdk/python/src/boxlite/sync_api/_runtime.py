"""Runtimes, for programs without an event loop."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from ..connection import BoxliteRestOptions, Options
from ..images import ImageHandle
from ..info import BoxInfo, ImageInfo, ImagePullResult, VolumeInfo
from ..metrics import RuntimeMetrics
from ..options import BoxOptions
from ..runtime import Boxlite
from ..volumes import VolumeHandle
from . import _loop
from ._box import SyncBox


class SyncImageHandle:
    """The images that a runtime has, shared by its boxes."""

    def __init__(self, images: ImageHandle) -> None:
        self._images = images

    def pull(self, reference: str) -> ImagePullResult:
        """Get an image from its registry. ImageError if it cannot be had."""
        return _loop.run(self._images.pull(reference))

    def list(self) -> list[ImageInfo]:
        """The images that are here."""
        return _loop.run(self._images.list())


class SyncVolumeHandle:
    """Named volumes: directories that outlast boxes."""

    def __init__(self, volumes: VolumeHandle) -> None:
        self._volumes = volumes

    def create(self, name: str | None = None) -> VolumeInfo:
        """Make a volume; without a name one is chosen."""
        return _loop.run(self._volumes.create(name))

    def list(self) -> list[VolumeInfo]:
        """The volumes there are."""
        return _loop.run(self._volumes.list())

    def get(self, id: str) -> VolumeInfo:
        """One volume. NotFoundError if there is none."""
        return _loop.run(self._volumes.get(id))

    def remove(self, id: str, force: bool = False) -> None:
        """Delete a volume that no box has."""
        _loop.run(self._volumes.remove(id, force))


class SyncBoxlite:
    """A home of boxes and images, for programs without an event loop, and for
    those where one runs already, such as notebooks. See :class:`Boxlite`.

    It is usable at once; ``with`` and ``start()`` are for programs that begin
    and end it in a place of their own.
    """

    def __init__(self, options: Options) -> None:
        self._boxlite = Boxlite(options)

    def __repr__(self) -> str:
        return f"SyncBoxlite({self._boxlite!r})"

    @staticmethod
    def _of(boxlite: Boxlite) -> SyncBoxlite:
        sync = SyncBoxlite.__new__(SyncBoxlite)
        sync._boxlite = boxlite
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
        return self._boxlite

    def create(self, options: BoxOptions, name: str | None = None) -> SyncBox:
        """Make a box. Nothing is pulled or started before it is used."""
        return SyncBox(_loop.run(self._boxlite.create(options, name)))

    def get_or_create(self, options: BoxOptions, name: str | None = None) -> tuple[SyncBox, bool]:
        """The box of a name, and whether it was made just now."""
        box, created = _loop.run(self._boxlite.get_or_create(options, name))
        return SyncBox(box), created

    def get(self, id_or_name: str) -> SyncBox | None:
        """The box of an id, a name, or the beginning of an id; None if there is
        none."""
        box = _loop.run(self._boxlite.get(id_or_name))
        return None if box is None else SyncBox(box)

    def get_info(self, id_or_name: str) -> BoxInfo | None:
        """What is known of a box; None if there is none."""
        return _loop.run(self._boxlite.get_info(id_or_name))

    def list_info(self, _state: str | None = None) -> Sequence[BoxInfo]:
        """All boxes, the oldest first; or those in one state, as "running"."""
        return _loop.run(self._boxlite.list_info(_state))

    def list(self) -> Sequence[BoxInfo]:
        """The same as :meth:`list_info`, by its older name."""
        return self.list_info()

    def metrics(self) -> RuntimeMetrics:
        """What the runtime has done."""
        return _loop.run(self._boxlite.metrics())

    def remove(self, id_or_name: str, force: bool = False) -> None:
        """Delete a box with all it wrote; with ``force`` also if it runs."""
        _loop.run(self._boxlite.remove(id_or_name, force))

    def shutdown(self, timeout: int | None = None) -> None:
        """End a local runtime: see :meth:`Boxlite.shutdown`."""
        _loop.run(self._boxlite.shutdown(timeout))

    @property
    def images(self) -> SyncImageHandle:
        """Its images."""
        return SyncImageHandle(self._boxlite.images)

    @property
    def volumes(self) -> SyncVolumeHandle:
        """Its named volumes."""
        return SyncVolumeHandle(self._boxlite.volumes)

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
