"""Images of a runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._guard import Unpicklable
from .info import ImageInfo, ImagePullResult, as_dict, as_int, as_list, as_str, image_info

if TYPE_CHECKING:
    from .runtime import Boxlite


class ImageHandle(Unpicklable):
    """The images that a runtime has, shared by its boxes."""

    def __init__(self, runtime: Boxlite) -> None:
        self._runtime = runtime

    async def pull(self, reference: str) -> ImagePullResult:
        """Gets an image from its registry. Raises ImageError if it cannot be
        had."""
        reply = as_dict(await self._runtime._api.call("POST", "images/pull", json={"reference": reference}))
        return ImagePullResult(
            as_str(reply.get("reference"), reference), as_str(reply.get("id")), as_int(reply.get("layers"))
        )

    async def list(self) -> list[ImageInfo]:
        """The images that are here."""
        reply = as_dict(await self._runtime._api.call("GET", "images"))
        return [image_info(i) for i in as_list(reply.get("images"))]
