"""What waits for a disk or for the kernel, away from the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_thread(f: Callable[[], T]) -> T:
    """Does it in a thread of the loop's. When the caller is cancelled it is
    waited for nevertheless: what it uses is still in use."""
    work = asyncio.get_running_loop().run_in_executor(None, f)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        if not work.cancelled():
            work.exception()  # nobody else will ask for it
        raise
