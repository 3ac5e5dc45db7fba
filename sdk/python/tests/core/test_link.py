"""Output that waits to be read, and who may read it."""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import threading

import pytest

import boxlite
import host
from boxlite import _link
from boxlite._link import Spool


def all_of(spool: Spool) -> bytes:
    return b"".join(iter(spool.take, b""))


def test_output_that_does_not_fit_into_memory():
    """It is in a file meanwhile, in its order, and the file is used again."""
    spool, parts = Spool(), [os.urandom(300_000) for _ in range(20)]
    for _ in range(3):
        for part in parts[:10]:
            spool.put(part)
        first = spool.take()
        for part in parts[10:]:
            spool.put(part)
        assert first + all_of(spool) == b"".join(parts)
        assert spool.empty() and os.fstat(spool._fd).st_size == 0


def test_more_output_than_is_kept(monkeypatch):
    monkeypatch.setattr(_link, "_KEPT", 3 << 20)
    spool = Spool()
    for i in range(5):
        spool.put(bytes([i]) * (1 << 20))
    got = [spool.take() for _ in range(3)]
    assert got == [bytes([i]) * (1 << 20) for i in range(3)]
    with pytest.raises(boxlite.ResourceExhaustedError, match="2097152 bytes of output are lost"):
        spool.take()
    spool.put(b"after")
    assert all_of(spool) == b"after"


def test_a_disk_that_is_full():
    """What it does not take is lost, and that is told; what comes is counted, so
    that nothing comes twice."""
    spool = Spool()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        for i in range(4):
            spool.put(bytes([i]) * (1 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert spool.received == 4 << 20
    assert spool.take() + spool.take() == bytes(1 << 20) + b"\1" * (1 << 20)
    with pytest.raises(boxlite.ResourceExhaustedError, match="2097152 bytes of output are lost"):
        spool.take()
    spool.put(b"after")
    assert all_of(spool) == b"after"


async def test_two_event_loops_at_once(box):
    """The second is told; it can follow the command by itself."""
    execution = await box.exec("sh", ["-c", "echo one; read x; echo two"])
    out = execution.stdout()
    assert await out.__anext__() == "one\n"
    waiting = asyncio.ensure_future(execution.wait())
    await asyncio.sleep(0)
    raised: list[BaseException] = []

    def elsewhere():
        for use in (execution.wait, out.__anext__, lambda: execution.stdin().send_input(b"x")):
            try:
                asyncio.run(asyncio.wait_for(use(), 30))
            except boxlite.InvalidStateError as e:
                raised.append(e)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    await asyncio.get_running_loop().run_in_executor(None, thread.join)
    assert len(raised) == 3 and all("in use in another event loop" in str(e) for e in raised)
    await execution.stdin().send_input(b"x\n")
    assert (await waiting).exit_code == 0
    assert await out.read() == "two\n"


def test_an_event_loop_that_ended_without_its_tasks(box):
    """The next is not kept waiting for them."""
    loop = asyncio.new_event_loop()
    execution = loop.run_until_complete(box.exec("sh", ["-c", "echo one; read x; echo two"]))
    tasks = [loop.create_task(execution.wait()) for _ in range(3)]
    loop.run_until_complete(asyncio.sleep(0.2))
    loop.close()

    async def again():
        await execution.stdin().send_input(b"x\n")
        return (await execution.wait()).exit_code, await execution.stdout().read()

    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(asyncio.wait_for(again(), 60)) == (0, "one\ntwo\n")
    loop.close()
    for task in tasks:
        task._log_destroy_pending = False  # as intended


@pytest.mark.usefixtures("home")
def test_a_fork_does_not_take_its_parents_output():
    out = host.run_cleanly(
        sys.executable,
        """
import asyncio, gc, os, boxlite

async def main():
    runtime = boxlite.Boxlite.default()
    box = await runtime.create(boxlite.BoxOptions(image="alpine:latest"))
    execution = await box.exec("sh", ["-c", "echo one; read x; echo two"])
    stdin, stdout = execution.stdin(), execution.stdout()
    assert await stdout.__anext__() == "one\\n"
    waiting = asyncio.ensure_future(execution.wait())
    await asyncio.sleep(0.1)
    return box, execution, stdin, stdout, waiting

loop = asyncio.new_event_loop()
box, execution, stdin, stdout, waiting = loop.run_until_complete(main())
link = execution._link
line = link._ws
child = os.fork()
if child == 0:
    for use in (execution.wait, stdout.__anext__, lambda: stdin.send_input(b"child\\n")):
        try:
            asyncio.run(use())
        except boxlite.InvalidStateError as e:
            print("of which this one is a fork" in str(e), flush=True)
    link.hang_up()
    del line, execution, stdin, stdout, link
    gc.collect()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
loop.run_until_complete(stdin.send_input(b"x\\n"))
print(loop.run_until_complete(waiting).exit_code, loop.run_until_complete(stdout.read()), end="")
print(link._tries == 0)  # the line is the one there was
loop.run_until_complete(box.stop())
loop.close()
""",
    )
    assert out == "True\n" * 3 + "0 two\nTrue\n"
