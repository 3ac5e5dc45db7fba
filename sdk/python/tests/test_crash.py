"""What is left when a program ends in any way: nothing but detached boxes."""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import host
import pytest

BEGIN = """
import asyncio, os, signal, sys, threading
import boxlite

async def main():
    runtime = boxlite.Boxlite.default()
    box = await runtime.create(boxlite.BoxOptions(image="alpine:latest"))
"""

# What a program is killed in the middle of. Each says "go" when it begins.
OPERATIONS = {
    "create": """
    print("go", flush=True)
    while True:
        await runtime.create(boxlite.BoxOptions(image="alpine:latest"))
""",
    "start": """
    print("go", flush=True)
    while True:
        other = await runtime.create(boxlite.BoxOptions(image="alpine:latest"))
        await other.start()
        await other.stop()
""",
    "exec": """
    await box.start()
    print("go", flush=True)
    while True:
        execution = await box.exec("sh", ["-c", "setsid sleep 9999 & sleep 0.1"])
        await execution.wait()
""",
    "copy_in": """
    await box.start()
    print("go", flush=True)
    while True:
        await box.copy_in(os.environ["BIG"], "/srv/big")
""",
    "copy_out": """
    await box.copy_in(os.environ["BIG"], "/srv/big")
    print("go", flush=True)
    while True:
        await box.copy_out("/srv/big", os.environ["BIG"] + ".out")
""",
    "stop": """
    await box.exec("sh", ["-c", "trap '' TERM; sleep 9999"])
    print("go", flush=True)
    await box.stop()
""",
}


class World:
    """A home, and a program, that nobody else uses."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.left = host.Left()
        for name in ("bin", "tmp"):
            (directory / name).mkdir()
        self.program = host.copy_program(directory / "bin")
        self.home = directory / "home"
        self.environment = {
            **os.environ,
            "BOXLITE_BINARY": str(self.program),
            "BOXLITE_HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(directory),
            "TMPDIR": str(directory / "tmp"),
            "PYTHONPATH": str(host.SOURCES),
            "BIG": str(directory / "big"),
        }
        (directory / "big").write_bytes(os.urandom(1 << 20) * 32)

    def start(self, code: str) -> subprocess.Popen[str]:
        """Start a program of Python, and wait until it says "go"."""
        process = subprocess.Popen(
            [sys.executable, "-X", "dev", "-W", "error", "-c", code],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # so that a signal can be sent as a terminal does
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        if line != "go\n":
            pytest.fail(f"it said {line!r}: {process.communicate(timeout=60)}")
        return process

    def nothing(self) -> None:
        """Fail if anything is left."""
        left = self.left.since(self.directory, 60)
        assert left == []


@pytest.fixture(scope="module")
def world(home: pathlib.Path) -> Iterator[World]:
    directory = pathlib.Path(tempfile.mkdtemp(prefix="bxpy-", dir="/tmp"))
    world = World(directory)
    host.load_images(world.program, world.home, ["alpine:latest"])
    yield world
    shutil.rmtree(directory)  # each test has seen to it that nothing is left


@pytest.mark.parametrize("operation", OPERATIONS)
def test_sigkill_in_the_middle(operation: str, world: World) -> None:
    # Seconds: at its beginning, in it, in one of the next. A stop has no next,
    # and its ten seconds of grace go on without the program.
    for delay in (0.03,) if operation == "stop" else (0, 0.03, 0.3):
        process = world.start(BEGIN + OPERATIONS[operation] + "asyncio.run(main())")
        time.sleep(delay)
        process.kill()
        process.communicate(timeout=60)
        world.nothing()


FINALLY = """
    try:
        await box.exec("sleep", ["9999"])
        print("go", flush=True)
        await asyncio.sleep(9999)
    finally:
        await box.stop()
        await runtime.remove(box.id)
        print("stopped", flush=True)
asyncio.run(main())
"""


def test_interrupt_at_the_terminal_runs_what_the_program_has_for_it(world: World) -> None:
    process = world.start(BEGIN + FINALLY)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (out, err.splitlines()[-1]) == ("stopped\n", "KeyboardInterrupt")
    world.nothing()


def test_interrupt_of_the_sync_api(world: World) -> None:
    process = world.start(
        """
import boxlite, threading
with boxlite.SyncSimpleBox(image="alpine:latest") as box:
    threading.Timer(1, print, ["go"], {"flush": True}).start()  # in the middle of exec
    box.exec("sleep", "9999")
"""
    )
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert err.splitlines()[-1] == "KeyboardInterrupt"
    world.nothing()


# Programs that end without a word to their boxes. None may complain.
ENDS = {
    "returns": "    return",
    "exits": "    sys.exit()",
    "with output nobody read": "    e = await box.exec('seq', ['100000']); e.stdout(); e.stdin(); return",
    "while a command is waited for": """
    e = await box.exec("sleep", ["9999"])
    task = asyncio.create_task(e.wait())
    await asyncio.sleep(0.1)
""",
    "in the middle of a line of output": """
    e = await box.exec("sh", ["-c", "printf begun; sleep 9999"])
    async for text in e.stdout():
        break
""",
    "after the runtime was shut down": "    await runtime.shutdown()",
    "with a second loop": """
    e = await box.exec("echo", ["one"])
    await e.wait()
def again():
    async def other():
        box = (await boxlite.Boxlite.default().list_info())[0]
        e = await (await boxlite.Boxlite.default().get(box.id)).exec("echo", ["two"])
        assert await e.stdout().read() == "two\\n"
    asyncio.run(other())
""",
}


@pytest.mark.parametrize("end", ENDS)
def test_ends_cleanly(end: str, world: World) -> None:
    code = BEGIN.replace("    box = ", "    box = box_ = ") + "    await box.start()\n" + ENDS[end]
    code += "\nasyncio.run(main())\n" + ("again()\n" if "def again" in code else "")
    assert host.run_cleanly(sys.executable, code, world.environment) == ""
    world.nothing()


def test_a_detached_box_stays(world: World) -> None:
    code = """
import boxlite
runtime = boxlite.SyncBoxlite.default()
box = runtime.create(boxlite.BoxOptions(image="alpine:latest", detach=True, auto_remove=False))
box.exec("sleep", ["9999"])
print(box.id)
"""
    id = host.run_cleanly(sys.executable, code, world.environment).strip()
    code = f"""
import boxlite
box = boxlite.SyncBoxlite.default().get("{id}")
print("sleep 9999" in box.exec("ps").stdout().read())
box.remove(force=True)
"""
    assert host.run_cleanly(sys.executable, code, world.environment) == "True\n"
    world.nothing()


def test_the_health_of_a_detached_box_is_asked_when_its_maker_was_killed(world: World) -> None:
    process = world.start(
        """
import boxlite, signal
often = boxlite.AdvancedBoxOptions(health_check=boxlite.HealthCheckOptions(interval=1))
options = boxlite.BoxOptions(image="alpine:latest", detach=True, auto_remove=False, advanced=often)
box = boxlite.SyncBoxlite.default().create(options, name="asked")
box.start()
assert not box.info().health_status.state.is_none()
print("go", flush=True)
signal.pause()
"""
    )
    with process:
        process.kill()
    code = """
import time, boxlite
box = boxlite.SyncBoxlite.default().get("asked")
before, end = box.info().health_status.last_check, time.monotonic() + 30
while (health := box.info().health_status).last_check == before and time.monotonic() < end:
    time.sleep(0.1)
print(health.state.value, health.last_check != before)
box.remove(force=True)
"""
    assert host.run_cleanly(sys.executable, code, world.environment) == "healthy True\n"
    world.nothing()


KILL_SERVER = """
def kill_server():
    "Kill the private server as the kernel would, were memory short."
    from boxlite import _server
    [server] = [s for s in _server._servers if s._proc is not None]
    server._proc.kill()
    server._proc.wait()
"""


def test_after_the_private_server_was_killed_calls_do_not_hang(world: World) -> None:
    code = (
        KILL_SERVER
        + BEGIN
        + """
    execution = await box.exec("sleep", ["9999"])
    waiting = asyncio.create_task(execution.wait())
    await asyncio.sleep(0.1)
    await asyncio.to_thread(kill_server)
    try:
        await asyncio.wait_for(waiting, 60)
    except boxlite.BoxliteError as e:  # that it was killed, or that nobody knows the command
        print("wait:", type(e).__name__)
    try:
        await asyncio.wait_for(box.exec("true"), 60)
    except boxlite.BoxliteError as e:
        print("old box:", type(e).__name__)
    # Another server has taken its place.
    box = await runtime.create(boxlite.BoxOptions(image="alpine:latest"))
    execution = await box.exec("echo", ["again"])
    print(await execution.stdout().read(), end="")
    await box.stop()

asyncio.run(main())
"""
    )
    assert (
        host.run_cleanly(sys.executable, code, world.environment)
        == "wait: ExecutionError\nold box: NotFoundError\nagain\n"
    )
    world.nothing()


def test_a_simple_box_whose_server_was_killed(world: World) -> None:
    code = (
        KILL_SERVER
        + """
import asyncio, boxlite
async def main():
    async with boxlite.SimpleBox(image="alpine:latest") as box:
        running = asyncio.create_task(box.exec("sleep", "9999"))
        await asyncio.sleep(0.2)
        await asyncio.to_thread(kill_server)
        result = await asyncio.wait_for(running, 60)
        print(result.exit_code, "killed" in result.error_message)

asyncio.run(main())
"""
    )
    assert host.run_cleanly(sys.executable, code, world.environment) == "-1 True\n"
    world.nothing()


def test_a_fork_that_lives_on_does_not_keep_the_server(world: World) -> None:
    process = world.start(
        """
import os, time, boxlite
box = boxlite.SyncBoxlite.default().create(boxlite.BoxOptions(image="alpine:latest"))
box.start()
if os.fork() == 0:
    time.sleep(9999)
print("go", flush=True)
time.sleep(9999)
"""
    )
    group = process.pid
    process.kill()
    process.wait(60)
    try:
        world.nothing()
    finally:
        os.killpg(group, signal.SIGKILL)  # the fork
        process.communicate(timeout=60)


def test_two_programs_on_one_home(world: World) -> None:
    first = world.start(
        BEGIN + "    await box.start()\n    print('go', flush=True)\n    await asyncio.sleep(9999)\nasyncio.run(main())"
    )
    code = BEGIN + "    print(len(await runtime.list_info()))\n    await box.stop()\nasyncio.run(main())"
    assert host.run_cleanly(sys.executable, code, world.environment) == "2\n"
    # The end of one has left the box of the other alone.
    [id] = host.boxes(world.program, world.home)
    first.kill()
    first.communicate(timeout=60)
    world.nothing()
