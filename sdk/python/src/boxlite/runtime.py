"""Runtimes: where boxes are."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Sequence
from types import TracebackType

from ._api import Api, Local, Remote, segment
from ._guard import Unpicklable
from ._server import home_of
from .box import Box
from .connection import BoxliteRestOptions, Options
from .errors import (
    AlreadyExistsError,
    BoxliteError,
    InvalidStateError,
    NotFoundError,
    StoppedError,
    UnsupportedError,
    fail,
)
from .images import ImageHandle
from .info import BoxInfo, as_dict, as_list, as_str, box_info
from .metrics import RuntimeMetrics, runtime_metrics
from .options import BoxOptions
from .volumes import VolumeHandle

#: Boxes in one answer: the most the server sends.
_PAGE = "1000"
#: Seconds that a cancelled create waits for the answer of a server: making a
#: box takes some milliseconds, and a round trip.
_ANSWER = 5.0
#: Ids of boxes that delete themselves, remembered so that removing one that has
#: done so is no error.
_REMEMBERED = 100_000
#: What a box may have on our servers alone, and the word by which one says it
#: can.
_BEYOND = (("security", "security"), ("ports", "ports"), ("labels", "labels"), ("hostname", "hostname"))


class _Shared:
    """What the runtimes over one server have in common."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.stopped = False
        self.passing: dict[str, None] = {}  # ids and names of boxes that delete themselves, the oldest first


_mu = threading.Lock()
_default: Boxlite | None = None
_local: dict[str, _Shared] = {}


def _forked() -> None:
    """A child has none of its parent's runtimes."""
    global _default, _mu
    _mu = threading.Lock()
    _default = None
    _local.clear()


os.register_at_fork(after_in_child=_forked)


async def _unmake(making: asyncio.Future[Box]) -> None:
    """Deletes a box whose maker has been cancelled: the server makes it all the
    same, so its answer is taken to know which it is."""
    done, _ = await asyncio.wait([making], timeout=_ANSWER)
    if not done:
        making.cancel()
    elif not making.cancelled() and making.exception() is None:
        try:
            await making.result().remove(force=True)
        except BoxliteError:
            pass  # nobody is left to be told


class Boxlite(Unpicklable):
    """A home of boxes and images, on this machine or on a server.

    A local one is served by a process of its own, which is started when it is
    first needed and ends with this program, however that ends, and with it the
    boxes that are not detached. Runtimes with the same options share it. Any
    number of programs may use one home at once.

    It may be used from any event loop and any thread, but not in a fork: make
    another there.
    """

    def __init__(self, options: Options) -> None:
        key = f"{home_of(options)!r} {[r._wire() for r in options.image_registries]!r}"
        with _mu:
            shared = _local.get(key)
            if shared is None or shared.stopped:
                shared = _local[key] = _Shared(Api(Local(options)))
        self._shared = shared

    @property
    def _api(self) -> Api:
        self._usable()
        return self._shared.api

    def _usable(self) -> None:
        if self._shared.stopped:
            raise fail(StoppedError, "the runtime was shut down; make another")

    @staticmethod
    def default() -> Boxlite:
        """The runtime of this program, over ``$BOXLITE_HOME`` or ``~/.boxlite``
        unless :meth:`init_default` said otherwise. One that was shut down is
        replaced by another."""
        global _default
        with _mu:
            runtime = _default
        if runtime is None or runtime._shared.stopped:
            runtime = Boxlite(Options())
            with _mu:
                _default = runtime
        return runtime

    @staticmethod
    def init_default(options: Options) -> None:
        """Says what :meth:`default` is. Raises InvalidStateError when that was
        used already."""
        global _default
        with _mu:
            used = _default is not None and not _default._shared.stopped
        if used:
            raise fail(InvalidStateError, "the default runtime was used already; call init_default first")
        runtime = Boxlite(options)
        with _mu:
            _default = runtime

    @staticmethod
    def rest(options: BoxliteRestOptions) -> Boxlite:
        """The runtime of a server. It is not connected to before it is used."""
        runtime = Boxlite.__new__(Boxlite)
        runtime._shared = _Shared(Api(Remote(options), options.credential, options.path_prefix))
        return runtime

    async def create(self, options: BoxOptions, name: str | None = None) -> Box:
        """Makes a box. Nothing is pulled or started before it is used. When this
        is cancelled there is no box. Raises AlreadyExistsError when there is one
        of the name."""
        making = asyncio.ensure_future(self._create(options, name))
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            await asyncio.shield(_unmake(making))
            raise

    async def _create(self, options: BoxOptions, name: str | None) -> Box:
        api = self._api
        body = options._wire(local=api.connector.local)
        if name is not None:
            body["name"] = name
        if not api.connector.local:
            await self._adapt(body)
        info = box_info(await api.call("POST", "boxes", json=body))
        if options.removes_on_stop:
            for key in (info.id, info.name):
                if key:
                    self._shared.passing[key] = None
            while len(self._shared.passing) > _REMEMBERED:
                self._shared.passing.pop(next(iter(self._shared.passing)))
        return Box(self, api, info)

    async def _adapt(self, body: dict[str, object]) -> None:
        """Leaves out what only servers of ours know, and refuses what must not
        be left out."""
        known = await self._shared.api.extensions()
        if "auto_remove" not in known:
            body.pop("auto_remove", None)
        for field, extension in _BEYOND:
            if field in body and extension not in known:
                raise fail(UnsupportedError, f"{field}: this server does not support it")
        volumes = body.get("volumes")
        if isinstance(volumes, list) and "host_volumes" not in known and any("host_path" in v for v in volumes):
            raise fail(UnsupportedError, "volumes: this server mounts managed volumes alone")

    async def get_or_create(self, options: BoxOptions, name: str | None = None) -> tuple[Box, bool]:
        """The box of a name, and whether it was made just now. The options of
        one that is there already are not looked at."""
        if name is not None:
            if (box := await self.get(name)) is not None:
                return box, False
            try:
                return await self.create(options, name), True
            except AlreadyExistsError:  # somebody was faster
                if (box := await self.get(name)) is not None:
                    return box, False
                raise
        return await self.create(options), True

    async def get(self, id_or_name: str) -> Box | None:
        """The box of an id, a name, or the beginning of an id that no other has;
        None if there is none."""
        info = await self.get_info(id_or_name)
        return None if info is None else Box(self, self._api, info)

    async def get_info(self, id_or_name: str) -> BoxInfo | None:
        """What is known of a box, found as by :meth:`get`."""
        try:
            return box_info(await self._api.call("GET", "boxes/" + segment(id_or_name)))
        except NotFoundError:
            return None

    async def list_info(self, _state: str | None = None) -> list[BoxInfo]:
        """All boxes, the oldest first; or those in one state, as "running"."""
        query = {"pageSize": _PAGE}
        if _state:
            query["status"] = _state
        boxes: list[BoxInfo] = []
        while True:
            reply = as_dict(await self._api.call("GET", "boxes", query=query))
            boxes += [box_info(b) for b in as_list(reply.get("boxes"))]
            token = as_str(reply.get("next_page_token"))
            if not token:
                return boxes
            query["pageToken"] = token

    async def list(self) -> Sequence[BoxInfo]:
        """The same as :meth:`list_info`, by its older name."""
        return await self.list_info()

    async def metrics(self) -> RuntimeMetrics:
        """What the runtime has done."""
        return runtime_metrics(await self._api.call("GET", "metrics"))

    async def remove(self, id_or_name: str, force: bool = False) -> None:
        """Deletes a box with all it wrote; with ``force`` also if it runs. One
        that was made to delete itself may have done so already. Raises
        NotFoundError if there is none, InvalidStateError if it runs."""
        try:
            await self._api.call("DELETE", "boxes/" + segment(id_or_name), query={"force": "true"} if force else None)
        except NotFoundError:
            if id_or_name not in self._shared.passing:
                raise

    async def shutdown(self, timeout: int | None = None) -> None:
        """Ends a local runtime: stops the boxes that this program started,
        except detached ones, within so many seconds (10; -1 waits as long as it
        takes). Boxes of a server are left alone. Shutting down again does
        nothing; all else raises StoppedError from then on."""
        shared = self._shared
        if shared.stopped:
            return
        shared.stopped = True
        connector = shared.api.connector
        if isinstance(connector, Local):
            await connector.server.end(10.0 if timeout is None else None if timeout < 0 else float(timeout))
        shared.api.close()

    @property
    def images(self) -> ImageHandle:
        """Its images."""
        return ImageHandle(self)

    @property
    def volumes(self) -> VolumeHandle:
        """Its named volumes."""
        return VolumeHandle(self)

    def close(self) -> None:
        """Does nothing: what a runtime has open ends with this program, or with
        :meth:`shutdown`."""

    def __enter__(self) -> Boxlite:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
