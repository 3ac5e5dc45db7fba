"""The event loop behind the sync API: one, in a thread of its own.

So the sync API works wherever it is called, under a running event loop too, as
in a notebook; that loop stands still meanwhile, as in any call that blocks.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import TypeVar

T = TypeVar("T")

_mu = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_thread: threading.Thread | None = None
_of_parent: list[object] = []  # loops that a fork inherited: not ours to close


def run(coroutine: Coroutine[object, object, T]) -> T:
    """Run a coroutine to its end and return what it returns.

    What interrupts the caller, such as KeyboardInterrupt, cancels it.
    """
    if threading.current_thread() is _thread:
        coroutine.close()
        raise RuntimeError("the sync API was called from its own event loop; use the async API there")
    future = asyncio.run_coroutine_threadsafe(coroutine, _running())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def items(stream: AsyncIterator[T]) -> Iterator[T]:
    """Yield what an async iterator yields."""

    async def following() -> tuple[T] | None:
        try:
            return (await stream.__anext__(),)
        except StopAsyncIteration:  # cannot travel through a future
            return None

    while (item := run(following())) is not None:
        yield item[0]


def _running() -> asyncio.AbstractEventLoop:
    global _loop, _thread
    with _mu:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            _thread = threading.Thread(target=_serve, args=(_loop,), name="boxlite", daemon=True)
            _thread.start()
        return _loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()


@atexit.register
def _end() -> None:
    """End the thread and close the loop, when the program ends."""
    global _loop
    with _mu:
        loop, _loop = _loop, None
    if loop is None or _thread is None:
        return
    asyncio.run_coroutine_threadsafe(_cancel_all(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    _thread.join()
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


async def _cancel_all() -> None:
    mine = asyncio.current_task()
    tasks = [t for t in asyncio.all_tasks() if t is not mine]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _forked() -> None:
    """Begin anew in a fork: threads do not live through it, and the lock may
    have been held by one of them."""
    global _mu, _loop, _thread
    _of_parent.append(_loop)
    _mu, _loop, _thread = threading.Lock(), None, None


os.register_at_fork(after_in_child=_forked)
