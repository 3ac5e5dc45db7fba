"""Files to and from a box."""

from __future__ import annotations

import asyncio
import os
import posixpath
from collections.abc import Iterator

from ._api import Api
from ._http import STALL
from ._pack import Packer
from ._threads import in_thread
from ._unpack import Unpacker
from .errors import InvalidArgumentError, fail
from .options import CopyOptions

#: Bytes of a copy that are written to disk at once.
_BATCH = 1 << 20
_MISSING = "storage error: "


async def copy_in(api: Api, box: str, src: str | os.PathLike[str], dest: str, o: CopyOptions) -> None:
    """Copies from this host into a box."""
    query = {"path": _guest_path(dest)}
    if not o.overwrite:
        query["overwrite"] = "false"
    packer = Packer(os.fspath(src), recursive=o.recursive, follow=o.follow_symlinks, parent=o.include_parent)
    body = _Parts(packer.parts())
    # What is wrong with the source is found out before anything is sent.
    body.first = await in_thread(body.advance)
    headers = {"Content-Type": "application/x-tar"}
    response = await api.open("PUT", f"{box}/files", query=query, headers=headers, body=body, missing=_MISSING)
    async with response:
        try:
            await response.read(timeout=STALL)
        except (OSError, asyncio.TimeoutError) as e:
            api.lost(e, f"copy {os.fspath(src)}: the transfer broke off")


class _Parts:
    """An iterator that blocks, as the body of a request."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self.first = b""

    def advance(self) -> bytes:
        """The next part; none at the end."""
        return next(self._parts, b"")

    async def read_some(self) -> bytes:
        """Implements Body."""
        if self.first:
            part, self.first = self.first, b""
            return part
        return await in_thread(self.advance)


async def copy_out(api: Api, box: str, src: str, dest: str | os.PathLike[str], o: CopyOptions) -> None:
    """Copies from a box to this host."""
    path, parent = _guest_path(src), o.include_parent
    if path.endswith("/."):
        path, parent = path[:-2] or "/", False
    contents = posixpath.normpath(path) == "/"
    query = {"path": path}
    if o.follow_symlinks:
        query["follow_symlinks"] = "true"
    target = os.fspath(dest)
    unpacker = Unpacker(target, overwrite=o.overwrite, parent=parent, contents=contents, recursive=o.recursive)
    try:
        headers = {"Accept": "application/x-tar"}
        response = await api.open("GET", f"{box}/files", query=query, headers=headers, missing=_MISSING)
        async with response:
            batch: list[bytes] = []
            size = 0
            while True:
                try:
                    part = await response.read_some(STALL)
                except (OSError, asyncio.TimeoutError) as e:
                    api.lost(e, f"copy {src}: the transfer broke off")
                if part:
                    batch.append(part)
                    size += len(part)
                if size >= _BATCH or (size and not part):
                    data = b"".join(batch)
                    await in_thread(lambda: unpacker.feed(data))
                    batch, size = [], 0
                if not part:
                    break
        await in_thread(unpacker.finish)
    finally:
        unpacker.close()


def _guest_path(path: str) -> str:
    if not path:
        raise fail(InvalidArgumentError, "the path in the box is missing")
    return path
