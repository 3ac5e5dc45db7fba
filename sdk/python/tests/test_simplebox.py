"""SimpleBox and CodeBox, on real boxes."""

from __future__ import annotations

import asyncio
import os
import pathlib
import uuid

import boxlite
import host
import pytest


pytestmark = pytest.mark.usefixtures("no_new_boxes")


async def test_exec_collects_both_streams_and_never_raises_for_an_exit_code() -> None:
    async with boxlite.SimpleBox(image="alpine:latest") as box:
        result = await box.exec("sh", "-c", "echo out; echo err >&2; exit 3")
        assert result == boxlite.ExecResult(3, "out\n", "err\n")
        killed = await box.exec("sh", "-c", "kill -9 $$")
        assert killed.exit_code == 137
        big = await box.exec("sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x; head -c 3000000 /dev/zero >&2")
        assert (len(big.stdout), len(big.stderr)) == (3_000_000, 3_000_000)


async def test_exec_gives_no_input() -> None:
    async with boxlite.SimpleBox(image="alpine:latest") as box:
        assert await box.exec("sh", "-c", "cat; echo end", timeout=60) == boxlite.ExecResult(0, "end\n", "")


async def test_exec_options() -> None:
    async with boxlite.SimpleBox(image="alpine:latest", env=[("A", "1")], working_dir="/work") as box:
        result = await box.exec("sh", "-c", "echo $A $B; pwd; id -u", env={"B": "2"}, user="nobody", cwd="/tmp")
        assert result.stdout == "1 2\n/tmp\n65534\n"
        assert (await box.exec("pwd")).stdout == "/work\n"


async def test_exec_of_what_is_not_there() -> None:
    async with boxlite.SimpleBox(image="alpine:latest") as box:
        with pytest.raises(boxlite.ExecError) as e:
            await box.exec("no-such-program", "x")
        assert e.value.exit_code == 127 and "not found" in e.value.stderr
        assert e.value.command == "no-such-program x"
        with pytest.raises(boxlite.ExecError) as e:
            await box.exec("/etc/passwd")
        assert e.value.exit_code == 126


async def test_timeout_kills_the_command_and_says_so() -> None:
    async with boxlite.SimpleBox(image="alpine:latest") as box:
        with pytest.raises(boxlite.TimeoutError, match="'sleep 9999' timed out after 0.5 seconds"):
            await box.exec("sleep", "9999", timeout=0.5)
        assert "9999" not in (await box.exec("ps")).stdout


async def test_cancelled_exec_leaves_the_command_running() -> None:
    async with boxlite.SimpleBox(image="alpine:latest") as box:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(box.exec("sleep", "9999"), 1)
        assert "9999" in (await box.exec("ps")).stdout


async def test_life(program: pathlib.Path, home: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="Either 'image' or 'rootfs_path'"):
        boxlite.SimpleBox()
    box = boxlite.SimpleBox(image="alpine:latest")
    before = host.boxes(program, home)
    assert box.created is None
    for use in (lambda: box.id, box.info, lambda: box.network):
        with pytest.raises(RuntimeError, match="Box not started"):
            use()
    with pytest.raises(RuntimeError, match="Box not started"):
        await box.exec("true")
    assert await box.start() is box and await box.start() is box
    assert box.created and set(host.boxes(program, home)) - set(before) == {box.id}
    assert (await box.info()).state.running
    assert (await box.metrics()).commands_executed_total == 0
    await box.stop()
    with pytest.raises(RuntimeError, match="Box not started"):
        await box.stop()


async def test_stop_inside_the_block() -> None:
    async with boxlite.SimpleBox(image="alpine:latest") as box:
        await box.shutdown()


async def test_reuse_by_name() -> None:
    name = f"reuse-{uuid.uuid4().hex[:8]}"
    async with boxlite.SimpleBox(image="alpine:latest", name=name, auto_remove=False) as box:
        await box.exec("sh", "-c", "echo kept >/root/file")
    async with boxlite.SimpleBox(image="alpine:latest", name=name, reuse_existing=True) as box:
        assert box.created is False and box.name == name
        assert (await box.exec("cat", "/root/file")).stdout == "kept\n"
    with pytest.raises(boxlite.AlreadyExistsError):
        await boxlite.SimpleBox(image="alpine:latest", name=name).start()
    await boxlite.Boxlite.default().remove(name)


async def test_a_start_that_fails_leaves_no_box() -> None:
    with pytest.raises(boxlite.BoxliteError):
        # Port 1 of this machine: nobody listens there.
        await boxlite.SimpleBox(image="127.0.0.1:1/no/such:image").start()


async def test_a_start_that_is_cancelled_leaves_no_box() -> None:
    for patience in (0.0, 0.01, 0.05, 0.1):
        box = boxlite.SimpleBox(image="alpine:latest")
        try:
            await asyncio.wait_for(box.start(), patience)
        except asyncio.TimeoutError:
            continue
        await box.stop()


async def test_copies_are_equal(tmp_path: pathlib.Path) -> None:
    data = os.urandom(1 << 20)
    (tmp_path / "in").write_bytes(data)
    async with boxlite.SimpleBox(image="alpine:latest") as box:
        await box.copy_in(tmp_path / "in", "/srv/file")
        await box.copy_out("/srv/file", tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == data
        with pytest.raises(boxlite.BoxliteError):
            await box.copy_out("/srv/file", tmp_path / "out", overwrite=False)


async def test_tunnel() -> None:
    async with boxlite.SimpleBox(image="alpine:latest") as box:
        server = asyncio.create_task(box.exec("nc", "-l", "-p", "7000", "-e", "cat"))
        connection = None
        while connection is None:
            try:
                connection = await (await box.tunnel(7000)).connect()
            except boxlite.NetworkError:
                assert not server.done()  # it does not listen yet
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(connection, b"through")
        assert await loop.sock_recv(connection, 100) == b"through"
        connection.close()
        assert (await server).exit_code == 0


async def test_codebox(tmp_path: pathlib.Path) -> None:
    (tmp_path / "script.py").write_text("print('from a file')\n")
    async with boxlite.CodeBox() as box:
        assert await box.run("print(6 * 7)") == "42\n"
        assert await box.run_script(tmp_path / "script.py") == "from a file\n"
        with pytest.raises(boxlite.ExecError) as e:
            await box.run("print('first'); 1 / 0")
        assert e.value.exit_code == 1 and "ZeroDivisionError" in e.value.stderr
        with pytest.raises(boxlite.TimeoutError):
            await box.run("import time; time.sleep(9999)", timeout=1)


async def test_install_packages(tmp_path: pathlib.Path) -> None:
    # A package of its own: tests get nothing from the internet.
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "pyproject.toml").write_text("[project]\nname='ours'\nversion='1'\n")
    (tmp_path / "pkg" / "ours.py").write_text("answer = 42\n")
    async with boxlite.CodeBox(network=boxlite.NetworkSpec(mode="disabled")) as box:
        await box.copy_in(tmp_path / "pkg", "/srv/pkg", include_parent=False)
        said = await box.install_packages("--no-build-isolation", "/srv/pkg")
        assert "Successfully installed ours-1" in said
        assert await box.run("import ours; print(ours.answer)") == "42\n"
        with pytest.raises(boxlite.ExecError, match="failed with exit code 1"):
            await box.install_package("/srv/nothing")
