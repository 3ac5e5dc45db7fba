"""The private server, and the processes around it."""

from __future__ import annotations

import asyncio
import os
import pathlib
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading

import pytest

import boxlite
from boxlite import _server
from boxlite.connection import Options
from boxlite.runtime import _local


def python(script: str, *args: str, home=None, **env: str) -> subprocess.CompletedProcess:
    """Runs a program that uses the package, with all warnings as errors."""
    src = pathlib.Path(boxlite.__file__).parent.parent
    environment = {**os.environ, "PYTHONPATH": str(src), **env}
    if home is not None:
        environment["BOXLITE_HOME"] = str(home)
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(script), *args],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
    )
    # That something took long is no fault on a busy machine.
    told = [line for line in ended.stderr.splitlines(True) if not line.startswith("Executing <")]
    ended.stderr = "".join(told)
    return ended


def private(home) -> boxlite.Boxlite:
    """A runtime with a server of its own, whatever others there are."""
    _local.clear()
    return boxlite.Boxlite(boxlite.Options(home_dir=str(home)))


def server_of(runtime: boxlite.Boxlite) -> _server.PrivateServer:
    return runtime._shared.api.connector.server


async def test_nothing_is_started_before_it_is_needed(home):
    runtime = private(home)
    assert server_of(runtime)._proc is None
    assert await runtime.get("nothing") is None
    assert server_of(runtime)._proc is not None
    await runtime.shutdown()
    assert server_of(runtime)._proc is None


async def test_runtimes_with_the_same_options_share_a_server(home, monkeypatch):
    one = private(home)
    monkeypatch.chdir(home.parent)
    same = boxlite.Boxlite(boxlite.Options(home_dir=str(home)))
    relative = boxlite.Boxlite(boxlite.Options(home_dir="home"))
    other = boxlite.Boxlite(
        boxlite.Options(str(home), [boxlite.ImageRegistry("r.example", password="p", username="u")])
    )
    await asyncio.gather(*(r.list_info() for r in (one, same, relative, other)))
    assert server_of(one) is server_of(same) is server_of(relative)
    assert server_of(other) is not server_of(one)
    command = pathlib.Path(f"/proc/{server_of(other)._proc.pid}/cmdline").read_text()
    assert "r.example" not in command
    for r in (one, other):
        await r.shutdown()


async def test_shutdown(home):
    runtime = private(home)
    box = await runtime.create(boxlite.BoxOptions(image="alpine:latest", auto_remove=False))
    passing = await runtime.create(boxlite.BoxOptions(image="alpine:latest"))
    for b in (box, passing):
        await (await b.exec("true")).wait()
    proc = server_of(runtime)._proc
    await runtime.shutdown()
    assert proc.returncode == 0
    await runtime.shutdown()
    for use in (
        lambda: runtime.create(boxlite.BoxOptions()),
        lambda: runtime.list_info(),
        lambda: box.exec("true"),
        lambda: runtime.images.list(),
    ):
        with pytest.raises(boxlite.StoppedError, match="^stopped: "):
            await use()
    again = boxlite.Boxlite(boxlite.Options(home_dir=str(home)))
    assert (await again.get_info(box.id)).state.status == "stopped"
    assert await again.get_info(passing.id) is None
    await again.remove(box.id)
    await again.shutdown(timeout=-1)


async def test_the_default_runtime(home, monkeypatch):
    monkeypatch.setattr("boxlite.runtime._default", None)
    boxlite.Boxlite.init_default(Options(home_dir=str(home)))
    runtime = boxlite.Boxlite.default()
    assert runtime is boxlite.Boxlite.default()
    with pytest.raises(boxlite.InvalidStateError, match="init_default"):
        boxlite.Boxlite.init_default(Options())
    with runtime:
        assert await runtime.get("nothing") is None
    await runtime.shutdown()
    assert boxlite.Boxlite.default() is not runtime


async def test_a_server_that_is_killed(home):
    """Whoever waits is told how the command ended or that nobody knows; whoever
    comes next gets another server."""
    runtime = private(home)
    box = await runtime.create(boxlite.BoxOptions(image="alpine:latest", auto_remove=False))
    execution = await box.exec("sleep", ["600"])
    out = execution.stdout()
    waiting = asyncio.ensure_future(execution.wait())
    await asyncio.sleep(0.1)
    os.kill(server_of(runtime)._proc.pid, signal.SIGKILL)
    unseen = await_end(execution, out)
    for task in (waiting, unseen):
        try:
            assert (await asyncio.wait_for(task, 60)).exit_code > 128  # ended with its box, while we looked
        except boxlite.ExecutionError as e:
            assert "sleep: not known how it ended: " in str(e)
    assert (await runtime.get_info(box.id)).id == box.id
    assert (await (await box.exec("true")).wait()).exit_code == 0  # its box is started again
    await box.remove(force=True)
    await runtime.shutdown()


async def await_end(execution, out):
    await out.read()
    return await execution.wait()


async def test_a_command_in_a_detached_box_outlives_the_server(home):
    runtime = private(home)
    options = boxlite.BoxOptions(image="alpine:latest", auto_remove=False, detach=True)
    box = await runtime.create(options)
    try:
        execution = await box.exec("sh", ["-c", "echo before; read x; echo $x; exit 4"])
        out = execution.stdout()
        assert await out.__anext__() == "before\n"
        os.kill(server_of(runtime)._proc.pid, signal.SIGKILL)
        server_of(runtime)._proc.wait()  # what it has taken and not passed on is lost
        await execution.stdin().send_input(b"after\n")
        assert [item async for item in out] == ["after\n"]
        assert (await execution.wait()).exit_code == 4
    finally:
        await runtime.remove(box.id, force=True)
        await runtime.shutdown()


async def test_a_server_that_is_killed_in_the_middle_of_a_copy(home, tmp_path):
    """No half of a file is left, and the reason is told."""
    runtime = private(home)
    box = await runtime.create(boxlite.BoxOptions(image="alpine:latest"))
    await (await box.exec("sh", ["-c", "head -c 200000000 /dev/zero >/big"])).wait()
    copying = asyncio.ensure_future(box.copy_out("/big", tmp_path / "big"))
    while not copying.done() and not (tmp_path / "big").exists():
        await asyncio.sleep(0.01)
    os.kill(server_of(runtime)._proc.pid, signal.SIGKILL)
    with pytest.raises(boxlite.EngineError, match="the private server was killed by SIGKILL"):
        await asyncio.wait_for(copying, 60)
    assert list(tmp_path.iterdir()) == []
    await runtime.shutdown()


async def test_a_server_that_is_killed_between_two_calls(home):
    runtime = private(home)
    await runtime.list_info()
    os.kill(server_of(runtime)._proc.pid, signal.SIGKILL)
    server_of(runtime)._proc.wait()
    assert await runtime.get("nothing") is None
    await runtime.shutdown()


async def test_threads(home):
    """A runtime may be used from any of them, each with its event loop."""
    runtime = private(home)
    answers = []

    def use():
        answers.append(asyncio.run(runtime.get("nothing")))

    threads = [threading.Thread(target=use) for _ in range(8)]
    for t in threads:
        t.start()
    await runtime.list_info()
    for t in threads:
        await asyncio.get_running_loop().run_in_executor(None, t.join)
    assert answers == [None] * 8
    await runtime.shutdown()


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("#!/bin/sh\necho it is broken >&2; exit 3\n", "ended with exit code 3: it is broken"),
        ("#!/bin/sh\nkill -9 $$\n", "was killed by SIGKILL"),
        ("no program at all", "Exec format error"),
    ],
)
async def test_a_program_that_does_not_serve(tmp_path, monkeypatch, script, why):
    program = tmp_path / "program"
    program.write_text(script)
    program.chmod(0o700)
    monkeypatch.setenv("BOXLITE_BINARY", str(program))
    runtime = private(tmp_path)
    for _ in range(2):
        with pytest.raises(boxlite.EngineError, match=f"^engine reported an error: .*{why}"):
            await runtime.list_info()
    # Some find a server that others have found to be gone already.
    for _ in range(10):
        all_at_once = await asyncio.gather(*(runtime.list_info() for _ in range(20)), return_exceptions=True)
        for e in all_at_once:
            assert isinstance(e, boxlite.EngineError) and why in str(e), repr(e)


async def test_a_server_that_does_not_answer(tmp_path, monkeypatch):
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexec cat\n")
    program.chmod(0o700)
    monkeypatch.setenv("BOXLITE_BINARY", str(program))
    monkeypatch.setattr(_server, "_READY", 0.3)
    runtime = private(tmp_path)
    with pytest.raises(boxlite.EngineError, match="not ready"):
        await runtime.list_info()
    await runtime.shutdown()


def test_which_program(tmp_path, monkeypatch):
    for name in ("BOXLITE_BINARY", "BOXLITE_HELPER"):
        monkeypatch.setenv(name, "/no/such/program")
        with pytest.raises(boxlite.ConfigError, match=f"{name} is /no/such/program"):
            _server.find_binary()
        monkeypatch.delenv(name)
    own = pathlib.Path(boxlite.__file__).parent / "bin" / "boxlite"
    monkeypatch.setenv("PATH", str(tmp_path))
    if not own.exists():
        with pytest.raises(boxlite.ConfigError, match="set BOXLITE_BINARY"):
            _server.find_binary()
        program = tmp_path / "boxlite"
        program.write_text("")
        program.chmod(0o700)
        assert _server.find_binary() == str(program)


def test_where_sockets_are(monkeypatch):
    runtime_dir = tempfile.mkdtemp(prefix="test-")  # short: a socket's name is bounded
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime_dir)
    directory = pathlib.Path(_server._socket_dir())
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    stale = directory / f"{2**22 + 1}-abc.sock"  # no process has that number
    stale.touch()
    mine = directory / f"{os.getpid()}-abc.sock"
    mine.touch()
    _server._socket_dir()
    assert not stale.exists() and mine.exists()
    mine.unlink()
    directory.chmod(0o755)
    with pytest.raises(boxlite.ConfigError, match="not a directory of this user alone"):
        _server._socket_dir()
    shutil.rmtree(runtime_dir)


def test_a_fork(home):
    """It may not use what its parent has, is told so, and can have its own. The
    server does not live on for its sake."""
    ended = python(
        """
        import asyncio, os, signal, boxlite
        runtime = boxlite.Boxlite.default()
        remote = boxlite.Boxlite.rest(boxlite.BoxliteRestOptions("http://127.0.0.1:9"))
        asyncio.run(runtime.list_info())
        server = runtime._shared.api.connector.server._proc
        there, here = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(there)
            for r in (runtime, remote):
                try:
                    asyncio.run(r.list_info())
                except boxlite.InvalidStateError as e:
                    print(e)
            asyncio.run(boxlite.Boxlite.default().list_info())
            print("a runtime of its own", flush=True)
            os.write(here, b"x")
            signal.pause()  # it outlives the server of its parent
        os.read(there, 1)
        asyncio.run(runtime.list_info())
        asyncio.run(runtime.shutdown())
        print("server ended", server.returncode, flush=True)
        os.kill(pid, 9)
        os.wait()
        """,
        home=home,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("of which this one is a fork") == 2
    assert "a runtime of its own\nserver ended 0\n" in ended.stdout
    assert ended.stderr == ""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_program_ends_cleanly(home, loop):
    """With everything left open that may be: no warning of any kind, in the
    development mode of Python, and no wait."""
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    ended = python(
        """
        import asyncio, sys, boxlite
        if sys.argv[1] == "uvloop":
            import uvloop
            uvloop.install()
        async def main():
            runtime = boxlite.Boxlite.default()
            box = await runtime.create(boxlite.BoxOptions(image="python:slim"))
            shell = await box.exec("sh", tty=True)
            await shell.resize_tty(40, 120)
            stdin, stdout = shell.stdin(), shell.stdout()
            await stdin.send_input(b"stty size\\n")
            async for line in stdout:
                if "40 120" in line:
                    break
            results = await asyncio.gather(*(box.exec("echo", [str(i)]) for i in range(20)))
            assert [await r.stdout().read() for r in results] == [f"{i}\\n" for i in range(20)]
            data = b"x" * 5_000_000
            cat = await box.exec("cat")
            await cat.stdin().send_input(data)
            await cat.stdin().close()
            assert len(await cat.stdout().read()) == len(data)
            await box.copy_in(sys.executable, "/copy")
            global kept
            kept = await box.exec("sh", ["-c", "echo x; sleep 600"]), shell, box, asyncio.ensure_future(shell.wait())
            out = kept[0].stdout()
            print(await out.__anext__())
            cycle = [out]
            cycle.append(cycle)
            with_loop = asyncio.get_running_loop()
            print(type(with_loop).__module__)
        asyncio.run(main())
        """,
        loop,
        home=home,
    )
    assert ended.stderr == ""
    assert ended.returncode == 0
    assert ended.stdout.split() == ["x", "asyncio.unix_events" if loop == "asyncio" else "uvloop"]
