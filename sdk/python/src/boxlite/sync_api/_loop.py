"""The event loop behind the sync API: one, in a thread of its own.

So the sync API works wherever it is called, under a running event loop too, as
in a notebook; that loop stands still meanwhile, as in any call that blocks.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Concatenate, Generic, ParamSpec, Protocol, TypeVar, cast

T = TypeVar("T")
R = TypeVar("R")
A = TypeVar("A")
A_co = TypeVar("A_co", covariant=True)
P = ParamSpec("P")

#: Seconds that an interrupted call is given to undo what it has begun: a box
#: whose start is cancelled is removed.
_UNDO = 10.0

_mu = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_thread: threading.Thread | None = None
_of_parent: list[object] = []  # loops that a fork inherited: not ours to close


class Wrapper(Protocol[A_co]):
    """What does without an event loop what something else does with one."""

    @property
    def _async(self) -> A_co:
        ...


def sync(method: Callable[Concatenate[A, P], Coroutine[object, object, T]]) -> Callable[Concatenate[Wrapper[A], P], T]:
    """The method of a wrapper that does what this one does of what it wraps."""

    @functools.wraps(method)
    def call(self: Wrapper[A], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return run(lambda: method(self._async, *args, **kwargs))

    return call


def sync_as(
    wrap: Callable[[T], R], method: Callable[Concatenate[A, P], Coroutine[object, object, T]]
) -> Callable[Concatenate[Wrapper[A], P], R]:
    """The same, with a result that is wrapped in turn."""

    @functools.wraps(method)
    def call(self: Wrapper[A], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return wrap(run(lambda: method(self._async, *args, **kwargs)))

    if isinstance(wrap, type):
        call.__annotations__ = {**method.__annotations__, "return": wrap.__name__}
    return call


def run(make: Callable[[], Coroutine[object, object, T]]) -> T:
    """Run a coroutine to its end and return what it returns.

    What interrupts the caller, such as KeyboardInterrupt, cancels it, and waits
    for its end for a while.
    """
    if threading.current_thread() is _thread:
        raise RuntimeError("the sync API was called from its own event loop; use the async API there")
    loop = _running()
    call = _Call(make)
    try:
        loop.call_soon_threadsafe(call.begin)
        call.wait()
        return call.result()
    except BaseException:
        if not call.over:
            loop.call_soon_threadsafe(call.cancel)
            call.wait(_UNDO)
        raise
    finally:
        del call  # which an exception in it refers to


class _Call(Generic[T]):
    """A coroutine that is made, run and cancelled by the thread of the loop, so
    that the caller may be interrupted at any point. For the same reason a bare
    lock is waited for: one that is written in Python stays locked when it is
    interrupted at the wrong moment."""

    def __init__(self, make: Callable[[], Coroutine[object, object, T]]) -> None:
        self._make = make
        self._task: asyncio.Task[T] | None = None
        self._running = threading.Lock()
        self._running.acquire()
        self._result: T | None = None
        self._error: BaseException | None = None
        self.over = False

    def begin(self) -> None:
        if self.over:
            return
        try:
            self._task = asyncio.get_running_loop().create_task(self._make())
        except Exception as e:  # of arguments that do not fit
            self._end(None, e)
        else:
            self._task.add_done_callback(self._done)

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
        elif not self.over:
            self._end(None, asyncio.CancelledError())  # an interrupt was faster than it

    def _done(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self._end(None, asyncio.CancelledError())
        elif (e := task.exception()) is not None:
            self._end(None, e)
        else:
            self._end(task.result(), None)

    def _end(self, result: T | None, error: BaseException | None) -> None:
        self._task = None  # gone here, where no interrupt gets lost in it
        self._result, self._error, self.over = result, error, True
        self._running.release()

    def wait(self, seconds: float = -1) -> None:
        """Wait until it is over, or so long."""
        if not self.over:
            self._running.acquire(timeout=seconds)

    def result(self) -> T:
        """What came out of it."""
        try:
            if self._error is not None:
                raise self._error
            return cast(T, self._result)
        finally:
            del self._error  # which refers to this


def items(stream: AsyncIterator[T]) -> Iterator[T]:
    """Yield what an async iterator yields."""

    async def following() -> tuple[T] | None:
        try:
            return (await stream.__anext__(),)
        except StopAsyncIteration:  # cannot travel through a future
            return None

    while (item := run(following)) is not None:
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
