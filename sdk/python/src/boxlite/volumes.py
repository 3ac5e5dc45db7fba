"""Named volumes of a runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._api import segment
from ._guard import Unpicklable
from .info import VolumeInfo, as_dict, as_list, volume_info

if TYPE_CHECKING:
    from .runtime import Boxlite

_MISSING = "storage error: "


class VolumeHandle(Unpicklable):
    """Named volumes: directories that outlast boxes. A box gets one by
    ``volumes=[{"managed_volume": name, "guest": "/data"}]``."""

    def __init__(self, runtime: Boxlite) -> None:
        self._runtime = runtime

    async def create(self, name: str | None = None) -> VolumeInfo:
        """Makes a volume; without a name one is chosen. Raises
        AlreadyExistsError when there is one of the name."""
        return volume_info(await self._runtime._api.call("POST", "volumes", json={"name": name} if name else {}))

    async def list(self) -> list[VolumeInfo]:
        """The volumes there are."""
        reply = as_dict(await self._runtime._api.call("GET", "volumes"))
        return [volume_info(v) for v in as_list(reply.get("volumes"))]

    async def get(self, id: str) -> VolumeInfo:
        """One volume. Raises NotFoundError if there is none."""
        return volume_info(await self._runtime._api.call("GET", "volumes/" + segment(id), missing=_MISSING))

    async def remove(self, id: str, force: bool = False) -> None:
        """Deletes a volume that no box has. With ``force`` it need not be
        there."""
        query = {"force": "true"} if force else None
        await self._runtime._api.call("DELETE", "volumes/" + segment(id), query=query, missing=_MISSING)
