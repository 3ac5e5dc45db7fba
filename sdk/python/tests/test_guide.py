"""The examples of the integration guide, run as they stand.

tests/guide has each of them. The runner supplies what an example takes for
granted, a box and an event loop for instance, and host paths below "/host/" are
below a temporary directory. BOXLITE_GUIDE_DIR may name a directory with other
copies of the same files, which then run too.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import pathlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

import boxlite
import host
import pytest

OURS = pathlib.Path(__file__).parent / "guide"
THEIRS = os.environ.get("BOXLITE_GUIDE_DIR")

SLEEPING = ["-c", "import subprocess; subprocess.run(['setsid', 'sleep', '9999'])"]


@pytest.fixture(params=["ours"] + ["theirs"] * bool(THEIRS))
def snippets(request: pytest.FixtureRequest) -> pathlib.Path:
    """The directory of the examples."""
    return pathlib.Path(str(THEIRS)) if request.param == "theirs" else OURS


def test_other_copies_are_the_same() -> None:
    if not THEIRS:
        host.missing("guide", "BOXLITE_GUIDE_DIR names no directory with other copies of the examples")
    for path in sorted(OURS.glob("*.py")):
        assert pathlib.Path(str(THEIRS), path.name).read_bytes() == path.read_bytes()


class Guide:
    """Runs examples. ``host`` is where they find the directories of the host."""

    def __init__(self, snippets: pathlib.Path, directory: pathlib.Path) -> None:
        self.snippets = snippets
        self.host = directory

    def text(self, name: str) -> str:
        """An example, with the paths of the host in the temporary directory."""
        path = self.snippets / f"{name}.py"
        return path.read_text("utf-8").replace('"/host/', f'"{self.host}/')

    async def run(self, name: str, given: dict[str, object] | None = None) -> dict[str, object]:
        """Run an example here and return what it has defined."""
        names = {"asyncio": asyncio, "boxlite": boxlite} if given is None else given
        code = compile(self.text(name), name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        awaitable = eval(code, names)
        if inspect.isawaitable(awaitable):
            await awaitable
        return names

    def program(self, name: str, end: str = "") -> str:
        """Run an example as a program of its own and return what it prints."""
        return host.run_cleanly(sys.executable, self.text(name) + end)


@pytest.fixture
def guide(snippets: pathlib.Path, no_new_boxes: None, tmp_path: pathlib.Path) -> Guide:
    return Guide(snippets, tmp_path)


Make = Callable[[object], Awaitable[boxlite.Box]]


@pytest.fixture
async def make(home: pathlib.Path) -> AsyncIterator[Make]:
    """Make boxes that are gone when the test ends."""
    runtime = boxlite.Boxlite.default()
    made: list[boxlite.Box] = []

    async def make(options: object) -> boxlite.Box:
        assert isinstance(options, boxlite.BoxOptions)
        made.append(await runtime.create(options))
        return made[-1]

    yield make
    for box in made:
        await runtime.remove(box.id, force=True)


async def sh(box: boxlite.Box, script: str) -> tuple[str, int]:
    """Run a script and return what it wrote and its exit code."""
    execution = await box.exec("sh", ["-c", f"exec 2>&1\n{script}"])
    out = "".join([chunk async for chunk in execution.stdout()])
    return out, (await execution.wait()).exit_code


async def python(box: boxlite.Box, code: str) -> tuple[str, int]:
    """The same for Python."""
    execution = await box.exec("python", ["-c", code])
    out = "".join([chunk async for chunk in execution.stdout()])
    return out, (await execution.wait()).exit_code


async def processes(box: boxlite.Box) -> str:
    """Return the command lines of all processes in a box."""
    out, _ = await sh(box, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    return out


async def test_01_starter_options(guide: Guide, make: Make) -> None:
    names = await guide.run("01_starter_options")
    box = await make(names["options"])
    assert await sh(box, "pwd; nproc; ulimit -n") == ("/workspace\n2\n1024\n", 0)
    assert (await box.info()).memory_mib == 1024


async def test_02_security_preset(guide: Guide, make: Make) -> None:
    names = await guide.run("02_security_preset")
    security = names["security"]
    assert isinstance(security, boxlite.SecurityOptions)
    box = await make(boxlite.BoxOptions(image="alpine:latest", security=security))
    assert await sh(box, "ulimit -n; ulimit -f; cut -d: -sf1 /proc/net/dev") == (
        "2048\n2097152\n    lo\n",  # 1 GiB in blocks of 512 bytes
        0,
    )


async def test_03_one_box_many_execs(guide: Guide) -> None:
    out = await asyncio.to_thread(guide.program, "03_one_box_many_execs", "\nasyncio.run(main())\n")
    assert out == "Exit code: 0\n" * 3


async def test_04_one_box_per_agent(guide: Guide) -> None:
    names = await guide.run("04_one_box_per_agent")
    run = names["run_isolated_agent"]
    assert callable(run)
    first, second, third = await asyncio.gather(
        run("print('agent 1')"),
        run("print('agent 2')", image="node:alpine"),
        run("print('agent 3')"),
        return_exceptions=True,
    )
    assert (first, third) == ("agent 1\n", "agent 3\n")
    # The image has no Python, whoever made it; that is said, not swallowed.
    assert isinstance(second, boxlite.ExecError)
    assert second.exit_code == 127 and "not found" in second.stderr


async def test_04_as_a_program_leaves_nothing_though_one_agent_fails(guide: Guide) -> None:
    end = """
try:
    asyncio.run(main())
except boxlite.ExecError as e:
    print(e.exit_code)
"""
    assert await asyncio.to_thread(guide.program, "04_one_box_per_agent", end) == "127\n"


async def test_05_timeout_without_kill(guide: Guide, make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    box = await make(boxlite.BoxOptions(image="python:slim"))
    names: dict[str, object] = {"asyncio": asyncio, "box": box}
    await guide.run("05_timeout_without_kill", names)
    assert capsys.readouterr().out == "Timed out\n"
    assert "time.sleep(9999)" in await processes(box)
    execution = names["execution"]
    assert isinstance(execution, boxlite.Execution)
    await execution.kill()
    assert (await execution.wait()).exit_code == 137
    assert "9999" not in await processes(box)


@pytest.mark.parametrize(
    "example, function",
    [("06_exec_with_timeout", "exec_with_timeout"), ("07_safe_exec", "safe_exec")],
)
async def test_kill_after_timeout_leaves_no_process(guide: Guide, make: Make, example: str, function: str) -> None:
    names = await guide.run(example)
    run = names[function]
    assert callable(run)
    box = await make(boxlite.BoxOptions(image="python:slim"))
    assert (await run(box, "true")).exit_code == 0
    assert (await run(box, "sh", ["-c", "exit 3"])).exit_code == 3
    with pytest.raises(asyncio.TimeoutError):
        await run(box, "python", SLEEPING, timeout=1)
    assert "9999" not in await processes(box)


async def test_08_read_only_volumes(guide: Guide, make: Make) -> None:
    for name in ("datasets", "config"):
        (guide.host / name).mkdir()
        (guide.host / name / "file").write_text(f"in {name}\n")
    names = await guide.run("08_read_only_volumes")
    box = await make(names["options"])
    assert await sh(box, "cat /mnt/data/file /etc/app/config/file") == ("in datasets\nin config\n", 0)
    for directory in ("/mnt/data", "/etc/app/config"):
        for attempt in ("echo x >D/file", "touch D/new", "rm D/file", "mount -o remount,rw D"):
            out, code = await sh(box, attempt.replace("D", directory))
            assert code != 0, f"{attempt} in {directory} was allowed"
    for name in ("datasets", "config"):
        assert [p.read_text() for p in (guide.host / name).iterdir()] == [f"in {name}\n"]


async def test_09_network_isolation(guide: Guide, make: Make) -> None:
    names = await guide.run("09_network_isolation")
    box = await make(names["options"])
    out, code = await python(
        box,
        """
import errno, socket
print([i for _, i in socket.if_nameindex()])
for address in ("192.0.2.1", "169.254.169.254", "10.0.0.1"):
    try:
        socket.create_connection((address, 80), timeout=5)
    except OSError as e:
        print(errno.errorcode.get(e.errno, e))
try:
    socket.getaddrinfo("example.com", 80)
except socket.gaierror:
    print("no names")
""",
    )
    assert (out, code) == ("['lo']\n" + "ENETUNREACH\n" * 3 + "no names\n", 0)


async def test_10_resource_limits(guide: Guide, make: Make) -> None:
    names = await guide.run("10_resource_limits")
    box = await make(names["options"])
    assert await sh(box, "nproc") == ("1\n", 0)
    execution = await box.exec("python", ["-c", "b = bytearray(1 << 30); print(len(b))"])
    result = await execution.wait()
    assert result.exit_code == 137
    assert "".join([chunk async for chunk in execution.stdout()]) == ""


async def test_11_copy_in_copy_out(guide: Guide, home: pathlib.Path) -> None:
    (guide.host / "script.py").write_text(
        "import os\nopen('/workspace/output.json', 'wb').write(bytes(range(256)) * 4096)\n"
    )
    names = await guide.run("11_copy_in_copy_out")
    result = names["result"]
    assert isinstance(result, boxlite.ExecResult) or getattr(result, "exit_code") == 0
    assert (guide.host / "output.json").read_bytes() == bytes(range(256)) * 4096


async def test_12_inline_data(guide: Guide, make: Make) -> None:
    box = await make(boxlite.BoxOptions(image="python:slim", working_dir="/workspace"))
    names = await guide.run("12_inline_data", {"box": box})
    execution = names["execution"]
    assert isinstance(execution, boxlite.Execution)
    assert "".join([chunk async for chunk in execution.stdout()]) == "hello from transferred script\n"
    assert getattr(names["result"], "exit_code") == 0


async def test_13_volume_mounts(guide: Guide, make: Make) -> None:
    for name in ("datasets", "results"):
        (guide.host / name).mkdir()
    (guide.host / "datasets" / "in").write_bytes(bytes(range(256)))
    names = await guide.run("13_volume_mounts")
    box = await make(names["options"])
    assert await sh(box, "cp /mnt/data/in /mnt/results/out") == ("", 0)
    assert (guide.host / "results" / "out").read_bytes() == bytes(range(256))
    assert (await sh(box, "touch /mnt/data/new"))[1] != 0


async def test_14_terminal_resizing(guide: Guide) -> None:
    printed: list[str] = []
    news = asyncio.Event()

    def note(text: str) -> None:
        printed.append(text)
        news.set()

    async def until(text: str) -> None:
        while text not in "".join(printed):
            assert not example.done(), f"it ended after {printed}: {example}"
            news.clear()
            await asyncio.wait_for(news.wait(), 60)

    names: dict[str, object] = {"boxlite": boxlite, "print": note}
    example = asyncio.create_task(guide.run("14_terminal_resizing", names))
    example.add_done_callback(lambda _: news.set())
    await until("proc")  # of "ls -la"
    stdin, box = names["stdin"], names["box"]
    assert isinstance(box, boxlite.Box)
    await stdin.send_input(b"stty size\n")  # type: ignore[attr-defined]
    await until("40 120")
    await stdin.send_input(b"exit\n")  # type: ignore[attr-defined]
    await asyncio.wait_for(example, 60)  # the example ends with the shell
    await box.stop()


async def test_14_resize_without_terminal_is_an_error(guide: Guide, make: Make) -> None:
    box = await make(boxlite.BoxOptions(image="alpine:latest"))
    execution = await box.exec("sleep", ["60"])
    with pytest.raises(RuntimeError):
        await execution.resize_tty(40, 120)
    await execution.kill()


async def test_15_complete_example(guide: Guide) -> None:
    (guide.host / "datasets").mkdir()
    (guide.host / "datasets" / "in").write_bytes(bytes(range(256)))
    (guide.host / "analysis.py").write_text(
        "data = open('/mnt/data/in', 'rb').read()\n"
        "open('results.json', 'wb').write(data[::-1])\n"  # in the working directory
    )
    out = await asyncio.to_thread(guide.program, "15_complete_example")
    assert out == "Exit code: 0\nTask 0 exit code: 0\nTask 1 exit code: 0\n"
    assert (guide.host / "results.json").read_bytes() == bytes(range(256))[::-1]
