"""What is cancelled leaves nothing behind, wherever it is."""

from __future__ import annotations

import asyncio
import gc
import os
import random

import boxlite


async def everything(box: boxlite.Box, tmp_path, i: int) -> None:
    """One of each thing that waits."""
    execution = await box.exec("sh", ["-c", "echo out; cat; echo err >&2; head -c 300000 /dev/zero"])
    stdin = execution.stdin()
    await stdin.send_input(b"x" * 200_000)
    await stdin.close()
    async for _ in execution.stdout():
        pass
    await execution.wait()
    await box.copy_in(tmp_path / "tree", f"/cancel/{i}")
    await box.copy_out(f"/cancel/{i}", tmp_path / "out" / str(i))
    await box.info()
    terminal = await box.exec("sh", tty=True)
    await terminal.resize_tty(10, 20)
    await terminal.kill()
    await terminal.wait()


async def test_cancelled_anywhere(box, tmp_path):
    (tmp_path / "tree").mkdir()
    for name in "abc":
        (tmp_path / "tree" / name).write_bytes(os.urandom(400_000))
    await everything(box, tmp_path, 0)
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    rng = random.Random(3)
    for i in range(1, 13):
        tasks = [asyncio.ensure_future(everything(box, tmp_path, 100 * i + n)) for n in range(3)]
        for task in tasks:
            await asyncio.sleep(rng.random() * 0.15)
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(d is None or isinstance(d, asyncio.CancelledError) for d in done), done
    del tasks, task, done
    gc.collect()
    # The connections that are kept, of which there may be more than before.
    assert len(os.listdir("/proc/self/fd")) <= before + 32
    assert not [name for _, _, names in os.walk(tmp_path) for name in names if name.startswith(".boxlite")]
    await everything(box, tmp_path, 1)


async def test_a_cancelled_exec_harms_no_other(box):
    """Others that share the connections of a runtime get their own answers."""
    numbers = range(40)
    tasks = [asyncio.ensure_future(box.exec("sh", ["-c", f"echo {i}; exit {i}"])) for i in numbers]
    await asyncio.sleep(0.01)
    for task in tasks[::3]:
        task.cancel()
    for i, task in zip(numbers, tasks):
        try:
            execution = await task
        except asyncio.CancelledError:
            assert i % 3 == 0
            continue
        assert await execution.stdout().read() == f"{i}\n"
        assert (await execution.wait()).exit_code == i


async def test_a_cancelled_create_leaves_no_box(runtime):
    """Wherever it is, and also when it is cancelled once more meanwhile."""
    before = {b.id for b in await runtime.list_info()}
    made = 0
    for i in range(40):
        task = asyncio.ensure_future(runtime.create(boxlite.BoxOptions(image="alpine:latest")))
        await asyncio.sleep(0 if i < 10 else i * 0.0002)
        task.cancel()
        if i % 2:
            await asyncio.sleep(0)
            task.cancel()
        try:
            await (await task).remove()
            made += 1
        except asyncio.CancelledError:
            pass
    assert made < 40
    for _ in range(500):  # what was cancelled twice goes on by itself
        if {b.id for b in await runtime.list_info()} <= before:
            break
        await asyncio.sleep(0.02)
    else:
        raise AssertionError("boxes are left")


async def test_a_simple_box_that_is_cancelled_anywhere_leaves_no_box(runtime):
    async def use():
        async with boxlite.SimpleBox("alpine:latest", runtime=runtime) as box:
            await box.exec("echo", "hello")

    before = {b.id for b in await runtime.list_info()}
    rng = random.Random(5)
    for _ in range(12):
        task = asyncio.ensure_future(use())
        await asyncio.sleep(rng.random() * 0.4)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    for _ in range(1000):  # a stop that is under way goes on
        if {b.id for b in await runtime.list_info()} <= before:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("boxes are left")


async def test_a_cancelled_start_of_the_server(home):
    """The one that comes next finds it, or starts it."""
    from boxlite.runtime import _local

    _local.clear()
    runtime = boxlite.Boxlite(boxlite.Options(home_dir=str(home)))
    for delay in (0, 0.001, 0.01, 0.02):
        task = asyncio.ensure_future(runtime.list_info())
        await asyncio.sleep(delay)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)  # it may have been faster
    assert await runtime.get("nothing") is None
    await runtime.shutdown()
