"""The sync API, on real boxes: with an event loop around it and without."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import signal
import sys
import threading

import boxlite
import host
import pytest
from boxlite.sync_api import _loop


pytestmark = pytest.mark.usefixtures("no_new_boxes")


def everything(directory: pathlib.Path) -> None:
    """Use all of it once."""
    with boxlite.SyncBoxlite.default() as runtime:
        box = runtime.create(boxlite.BoxOptions(image="alpine:latest"))
        execution = box.exec("sh", ["-c", "echo one; echo two; echo err >&2; exit 4"])
        assert list(execution.stdout()) == ["one\n", "two\n"]
        assert execution.stderr().read() == "err\n"
        assert execution.wait().exit_code == 4

        cat = box.exec("cat")
        stdin = cat.stdin()
        stdin.send_input(b"through\n")
        assert next(cat.stdout()) == "through\n"
        assert not stdin.is_closed()
        stdin.close()
        assert cat.wait().exit_code == 0

        terminal = box.exec("sh", tty=True)
        terminal.resize_tty(40, 120)
        terminal.stdin().send_input(b"stty size; exit\n")
        assert "40 120" in terminal.stdout().read()

        sleep = box.exec("sleep", ["9999"])
        sleep.signal(15)
        assert sleep.wait().exit_code == 143
        sleep = box.exec("sleep", ["9999"])
        sleep.kill()
        assert box.attach(sleep.id()).wait().exit_code == 137

        (directory / "in").write_bytes(b"data")
        box.copy_in(directory / "in", "/srv/")
        box.copy_out("/srv/in", directory / "out")
        assert (directory / "out").read_bytes() == b"data"

        assert box.info().state.running and box.metrics().commands_executed_total >= 5
        fresh = runtime.create(boxlite.BoxOptions(image="alpine:latest"))
        assert fresh.metrics().memory_bytes and fresh.info().state.running
        fresh.stop()
        same = runtime.get(box.id)
        assert same is not None and same.id == box.id
        assert box.id in [i.id for i in runtime.list_info()]
        assert runtime.metrics().num_running_boxes >= 1
        assert "alpine" in str([i.reference for i in runtime.images.list()])
        box.stop()
        runtime.remove(box.id)
        assert runtime.get(box.id) is None

    with boxlite.SyncSimpleBox(image="alpine:latest", runtime=runtime) as simple:
        assert simple.exec("echo", "hello").stdout == "hello\n"
        assert simple.created and simple.info().id == simple.id
        follower = threading.Thread(target=simple.exec, args=("nc", "-l", "-p", "7000", "-e", "cat"))
        follower.start()
        connection = None
        while connection is None:
            try:
                connection = simple.tunnel(7000).connect()
            except boxlite.NetworkError:
                assert follower.is_alive()  # it does not listen yet
        with connection:
            connection.sendall(b"through")
            assert connection.recv(100) == b"through"
        follower.join()
    with boxlite.SyncCodeBox() as code:
        assert code.run("print(6 * 7)") == "42\n"
        with pytest.raises(boxlite.ExecError):
            code.run("1 / 0")


def test_without_an_event_loop(home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    everything(tmp_path)


async def test_under_a_running_event_loop(home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    assert asyncio.get_running_loop().is_running()
    everything(tmp_path)


async def test_beside_the_async_api(home: pathlib.Path) -> None:
    async with boxlite.SimpleBox(image="alpine:latest") as box:
        same = boxlite.SyncBoxlite.default().get(box.id)
        assert same is not None
        assert same.exec("echo", ["sync"]).stdout().read() == "sync\n"
        assert (await box.exec("echo", "async")).stdout == "async\n"


def test_from_many_threads(home: pathlib.Path) -> None:
    said: list[str] = []
    with boxlite.SyncSimpleBox(image="alpine:latest") as box:
        threads = [threading.Thread(target=lambda i=i: said.append(box.exec("echo", str(i)).stdout)) for i in range(16)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert sorted(said, key=int) == [f"{i}\n" for i in range(16)]
    # All of that was one thread of ours.
    assert [t.name for t in threading.enumerate()].count("boxlite") == 1


def test_lines_in_their_order(home: pathlib.Path) -> None:
    box = boxlite.SyncBoxlite.default().create(boxlite.BoxOptions(image="alpine:latest"))
    with box:
        # A line may come in two items where the machine pauses in it.
        lines = list(box.exec("seq", ["200000"]).stdout())
        assert "".join(lines) == "".join(f"{i}\n" for i in range(1, 200_001))
        assert 200_000 <= len(lines) < 200_100
        out = box.exec("sh", ["-c", "echo one; echo two; sleep 0.2; printf three"]).stdout()
        assert [next(out), out.read(), list(out)] == ["one\n", "two\nthree", []]


def test_interrupt_ends_the_waiting_alone(home: pathlib.Path) -> None:
    with boxlite.SyncSimpleBox(image="alpine:latest") as box:
        timer = threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            box.exec("sleep", "9999")
        assert "sleep 9999" in box.exec("ps").stdout


def test_an_interrupt_undoes_what_was_begun(home: pathlib.Path) -> None:
    """The start of a box is over, and undone, when it raises."""
    for delay in (0.001, 0.005, 0.02, 0.05, 0.1, 0.15):
        timer = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT))
        with contextlib.suppress(KeyboardInterrupt):
            timer.start()
            with boxlite.SyncSimpleBox(image="alpine:latest") as box:
                box.exec("sleep", "9999")
        assert boxlite.SyncBoxlite.default().list_info() == []


def test_an_interrupt_just_after_the_start(home: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The box runs, and the block of the "with" has not begun."""
    start = boxlite.SyncSimpleBox.start

    def interrupted(self: boxlite.SyncSimpleBox) -> boxlite.SyncSimpleBox:
        start(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(boxlite.SyncSimpleBox, "start", interrupted)
    with pytest.raises(KeyboardInterrupt), boxlite.SyncSimpleBox(image="alpine:latest"):
        raise AssertionError("the block was begun")
    assert boxlite.SyncBoxlite.default().list_info() == []


def test_an_interrupt_comes_at_any_moment() -> None:
    """Also before there is anything to cancel: nothing is left that Python would
    complain about."""
    code = """
import itertools, signal, sys
from boxlite.sync_api import _loop

async def nothing():
    return 1

def interrupt(*_):
    global fired
    fired = True
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
_loop.run(nothing)
interrupted = 0
for i in itertools.count(1):
    fired = False
    try:
        signal.setitimer(signal.ITIMER_REAL, 1e-6 * (i % 300 + 1))
        while not fired:
            assert _loop.run(nothing) == 1
    except KeyboardInterrupt:
        interrupted += 1
        if interrupted == 2000:
            break
print(interrupted)
"""
    assert host.run_cleanly(sys.executable, code) == "2000\n"


def test_arguments_that_do_not_fit(home: pathlib.Path) -> None:
    with pytest.raises(TypeError, match="nonsense"):
        boxlite.SyncBoxlite.default().list_info(nonsense=1)  # type: ignore[call-arg]


def test_from_its_own_loop_it_is_refused(home: pathlib.Path) -> None:
    async def inside() -> None:
        boxlite.SyncBoxlite.default().list_info()

    with pytest.raises(RuntimeError, match="use the async API there"):
        _loop.run(inside)


def test_in_a_fork(home: pathlib.Path) -> None:
    out = host.run_cleanly(
        sys.executable,
        """
import os, boxlite
runtime = boxlite.SyncBoxlite.default()
with boxlite.SyncSimpleBox(image="alpine:latest") as box:
    print(box.exec("echo", "parent").stdout, end="", flush=True)
    child = os.fork()
    if child == 0:
        try:
            box.exec("true")
        except RuntimeError as e:
            print("fork" in str(e), flush=True)
        with boxlite.SyncSimpleBox(image="alpine:latest") as own:
            print(own.exec("echo", "child").stdout, end="", flush=True)
        os._exit(0)
    else:
        print(os.waitpid(child, 0)[1])
        print(box.exec("echo", "parent").stdout, end="")
""",
    )
    assert out == "parent\nTrue\nchild\n0\nparent\n"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_with_multiprocessing(method: str, home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "work.py").write_text(
        """
import asyncio, boxlite

def work(i):
    with boxlite.SyncSimpleBox(image="alpine:latest") as box:
        said = box.exec("echo", str(i)).stdout
    async def again():
        async with boxlite.SimpleBox(image="alpine:latest") as box:
            return (await box.exec("echo", str(-i))).stdout
    return said + asyncio.run(again())
"""
    )
    out = host.run_cleanly(
        sys.executable,
        f"""
import multiprocessing
from work import work

if __name__ == "__main__":
    print(work(1).split())  # the children are made by one that has boxes itself
    with multiprocessing.get_context("{method}").Pool(2) as pool:
        print([said.split() for said in pool.map(work, [2, 3])])
        pool.close()
        pool.join()
""",
        {**os.environ, "PYTHONPATH": f"{host.SOURCES}:{tmp_path}"},
    )
    assert out == "['1', '-1']\n[['2', '-2'], ['3', '-3']]\n"
