"""Boxes and runtimes, real ones."""

from __future__ import annotations

import asyncio
import copy
import pickle
import socket
import uuid

import pytest

import boxlite


async def run(box: boxlite.Box, script: str) -> tuple[int, str]:
    execution = await box.exec("sh", ["-c", script])
    out = await execution.stdout().read()
    return (await execution.wait()).exit_code, out


def unique() -> str:
    return f"test-{uuid.uuid4().hex[:12]}"


async def test_create_starts_nothing(runtime):
    box = await runtime.create(boxlite.BoxOptions(image="alpine:latest"))
    try:
        info = box.info()
        assert (info.id, info.name, info.state.status) == (box.id, None, "configured")
        assert (info.image, info.cpus, info.memory_mib) == ("alpine:latest", 1, 512)
        assert info.health_status.state.is_none()
        assert info.network is not None and info.network.published_ports == ()
        assert await run(box, "echo started") == (0, "started\n")
        assert box.info().state.running
        now = await box.info()
        assert now.state.running and now.started_at and now.state.pid
    finally:
        await box.stop()


async def test_a_box_that_stops_is_deleted(runtime):
    """As the guide ends: stop, then remove, with nothing left to remove."""
    box = await runtime.create(boxlite.BoxOptions(image="alpine:latest"), name=unique())
    await run(box, "true")
    await box.stop()
    assert await runtime.get_info(box.id) is None
    await runtime.remove(box.id)
    await runtime.remove(box.name)
    await box.stop()  # once more: nothing
    for use in (box.exec("true"), box.start(), box.metrics(), box.copy_in(__file__, "/x"), box.copy_out("/x", "/x")):
        with pytest.raises(RuntimeError, match=r"Handle invalidated after stop\(\)\. Use runtime\.get\(\)"):
            await use


async def test_a_box_that_stays(runtime):
    name = unique()
    box = await runtime.create(boxlite.BoxOptions(image="alpine:latest", auto_remove=False), name=name)
    try:
        assert await run(box, "echo kept >/root/note; rm /bin/ls") == (0, "")
        with pytest.raises(boxlite.InvalidStateError, match="^invalid state: "):
            await runtime.remove(name)
        await box.stop()
        assert (await runtime.get_info(name)).state.status == "stopped"
        again = await runtime.get(box.id[:8])
        assert again.id == box.id
        assert await run(again, "cat /root/note; test ! -e /bin/ls") == (0, "kept\n")
    finally:
        await runtime.remove(name, force=True)
    with pytest.raises(boxlite.NotFoundError, match="^box not found: "):
        await runtime.remove(name)
    assert await runtime.get(name) is None


async def test_names(runtime):
    name = unique()
    box, made = await runtime.get_or_create(boxlite.BoxOptions(image="alpine:latest"), name=name)
    try:
        assert made and box.name == name
        same, made = await runtime.get_or_create(boxlite.BoxOptions(image="python:slim"), name=name)
        assert not made and same.id == box.id and same.info().image == "alpine:latest"
        with pytest.raises(boxlite.AlreadyExistsError, match="^already exists: "):
            await runtime.create(boxlite.BoxOptions(), name=name)
        with pytest.raises(boxlite.InvalidArgumentError):
            await runtime.create(boxlite.BoxOptions(), name="a/b")
        for nothing in ("", "..", "no such box", "a/../b", "x" * 300, name + "0"):
            assert await runtime.get(nothing) is None
        assert [b.id for b in await runtime.list_info() if b.name == name] == [box.id]
        assert box.id not in [b.id for b in await runtime.list_info("running")]
    finally:
        await box.remove()
    assert await runtime.get(name) is None


async def test_async_with(runtime):
    async with await runtime.create(boxlite.BoxOptions(image="alpine:latest")) as box:
        assert (await box.info()).state.running
    assert await runtime.get_info(box.id) is None


async def test_many_start_one_box(runtime):
    box = await runtime.create(boxlite.BoxOptions(image="alpine:latest"))
    try:
        codes = await asyncio.gather(*(run(box, f"exit {i}") for i in range(8)))
        assert [c for c, _ in codes] == list(range(8))
    finally:
        await box.stop()


async def test_a_job(runtime):
    options = boxlite.BoxOptions(
        image="alpine:latest", cmd=["sh", "-c", "sleep 0.5; echo done; exit 5"], auto_remove=False
    )
    box = await runtime.create(options)
    try:
        with pytest.raises(boxlite.InvalidStateError):
            await box.exec("true")
        await box.start()
        main = await box.attach()
        assert await main.stdout().read() == "done\n"
        assert (await main.wait()).exit_code == 5
    finally:
        await box.remove(force=True)


async def test_environment_and_directory(runtime):
    options = boxlite.BoxOptions(
        image="python:slim", env={"A": "1"}, working_dir="/made/for/this", user="nobody", hostname="here"
    )
    async with await runtime.create(options) as box:
        assert await run(box, "echo $A; pwd; id -un; hostname") == (0, "1\n/made/for/this\nnobody\nhere\n")


async def test_volumes(runtime, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "in" / "a").write_text("from the host\n")
    options = boxlite.BoxOptions(
        image="alpine:latest",
        volumes=[
            (str(tmp_path / "in"), "/in", "ro"),
            (tmp_path / "out", "/out", "rw"),
            {"host": str(tmp_path / "in"), "guest": "/dict", "ro": True},
        ],
    )
    async with await runtime.create(options) as box:
        assert await run(box, "cat /in/a /dict/a; cp /in/a /out/b") == (0, "from the host\n" * 2)
        assert (await run(box, "echo no >/in/a"))[0] != 0
        assert (await run(box, "echo no >/dict/a"))[0] != 0
    assert (tmp_path / "out" / "b").read_text() == (tmp_path / "in" / "a").read_text() == "from the host\n"


async def test_named_volumes(runtime):
    volume = await runtime.volumes.create(unique())
    try:
        options = boxlite.BoxOptions(image="alpine:latest", volumes=[{"managed_volume": volume.name, "guest": "/data"}])
        for script, out in (("echo kept >/data/x", ""), ("cat /data/x", "kept\n")):
            async with await runtime.create(options) as box:
                assert await run(box, script) == (0, out)
        assert volume.id in [v.id for v in await runtime.volumes.list()]
        assert (await runtime.volumes.get(volume.id)).created_at == volume.created_at
        with pytest.raises(boxlite.AlreadyExistsError):
            await runtime.volumes.create(volume.name)
    finally:
        await runtime.volumes.remove(volume.id)
    with pytest.raises(boxlite.NotFoundError, match="^storage error: "):
        await runtime.volumes.get(volume.id)
    await runtime.volumes.remove(volume.id, force=True)


async def test_no_network(runtime):
    security = boxlite.SecurityOptions.maximum()
    security.network_enabled = False
    async with await runtime.create(boxlite.BoxOptions(image="alpine:latest", security=security)) as box:
        assert await run(box, "ls /sys/class/net 2>/dev/null || cut -d: -f1 -s /proc/net/dev | tr -d ' '") == (
            0,
            "lo\n",
        )
        assert (await box.info()).network.outbound.mode == "disabled"


async def test_allow_list(runtime, tmp_path):
    """What is allowed is reached, and nothing else: here two ports of this host,
    which no box reaches unless a rule names them."""

    async def greet(_, writer):
        writer.write(b"hello\n")
        writer.close()

    allowed = await asyncio.start_server(greet, "127.0.0.1", 0)
    other = await asyncio.start_server(greet, "127.0.0.1", 0)
    ports = [s.sockets[0].getsockname()[1] for s in (allowed, other)]
    network = boxlite.NetworkSpec(allow_net=[f"host.boxlite.internal:{ports[0]}"])
    options = boxlite.BoxOptions(image="python:slim", network=network)
    async with allowed, other, await runtime.create(options) as box:
        code = (
            "import socket,sys; print(socket.create_connection(('host.boxlite.internal', int(sys.argv[1])), 5).recv(9))"
        )
        reached = await box.exec("python", ["-c", code, str(ports[0])])
        assert await reached.stdout().read() == "b'hello\\n'\n", await reached.stderr().read()
        refused = await box.exec("python", ["-c", code, str(ports[1])])
        assert (await refused.wait()).exit_code != 0
        assert (await box.info()).network.outbound.allow_net


async def test_limits_hold_in_the_box(runtime):
    security = boxlite.SecurityOptions.maximum()
    security.max_open_files = 64
    security.max_file_size = 1 << 20
    async with await runtime.create(boxlite.BoxOptions(image="python:slim", security=security)) as box:
        assert await run(box, "ulimit -n; ulimit -f") == (0, "64\n2048\n")
        assert (await run(box, "head -c 2000000 /dev/zero >/tmp/x"))[0] != 0
        code, out = await run(box, "for i in $(seq 150); do sleep 30 & done 2>&1; echo over")
        assert "over" not in out or "fork" in out.lower() or "resource" in out.lower()


async def test_capabilities(runtime):
    drop = boxlite.ContainerCapabilities(drop=["chown", "CAP_NET_RAW"])
    options = boxlite.BoxOptions(image="alpine:latest", advanced=boxlite.AdvancedBoxOptions(capabilities=drop))
    async with await runtime.create(options) as box:
        assert (await run(box, "touch /x; chown 5 /x"))[0] != 0
        assert await run(box, "grep -E '^Cap(Eff|Bnd)' /proc/self/status | cut -f2") == (0, "00000000a80405fa\n" * 2)
    keep = boxlite.ContainerCapabilities(add=["CHOWN"], drop=["ALL"])
    options = boxlite.BoxOptions(image="alpine:latest", advanced=boxlite.AdvancedBoxOptions(capabilities=keep))
    async with await runtime.create(options) as box:
        assert await run(box, "touch /x; chown 5 /x; stat -c %u /x") == (0, "5\n")
        assert await run(box, "grep ^CapEff /proc/self/status | cut -f2") == (0, "0000000000000001\n")


async def test_tunnel(runtime):
    async with await runtime.create(boxlite.BoxOptions(image="python:slim")) as box:
        code = "import socket; s = socket.create_server(('', 8000)); c = s.accept()[0]; c.sendall(c.recv(9).upper())"
        await box.exec("python", ["-c", code])
        loop = asyncio.get_running_loop()
        for _ in range(200):
            try:
                connection = await (await box.network.tunnel(8000)).connect()
                break
            except boxlite.NetworkError:
                await asyncio.sleep(0.02)  # it does not listen yet
        with connection:
            await loop.sock_sendall(connection, b"hello")
            assert await loop.sock_recv(connection, 9) == b"HELLO"
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0
        with pytest.raises(ValueError):
            await box.network.tunnel(0)
        with pytest.raises(boxlite.NetworkError, match="does the port listen"):
            await (await box.network.tunnel(9)).connect()


async def test_metrics(runtime):
    async with await runtime.create(boxlite.BoxOptions(image="alpine:latest")) as box:
        await run(box, "true")
        with pytest.raises(boxlite.ExecutionError):
            await box.exec("nothing-of-the-kind")
        metrics = await box.metrics()
        assert (metrics.commands_executed_total, metrics.exec_errors_total) == (1, 1)
        assert metrics.memory_bytes and metrics.total_create_duration_ms
        total = await runtime.metrics()
        assert total.boxes_created_total >= total.num_running_boxes >= 1
        assert total.total_commands_executed >= 1 <= total.total_exec_errors


async def test_metrics_start_a_box(runtime):
    box = await runtime.create(boxlite.BoxOptions(image="alpine:latest", auto_remove=False))
    try:
        before = await runtime.metrics()
        assert not (await box.info()).state.running, "the runtime's metrics start nothing"
        metrics = await box.metrics()
        assert metrics.memory_bytes and metrics.commands_executed_total == 0
        assert box.info().state.running and (await box.info()).state.running
        assert (await runtime.metrics()).num_running_boxes > before.num_running_boxes
        await box.stop()
        again = await runtime.get(box.id)
        assert (await again.metrics()).memory_bytes and (await again.info()).state.running
    finally:
        await runtime.remove(box.id, force=True)


async def test_metrics_start_no_job(runtime):
    box = await runtime.create(boxlite.BoxOptions(image="alpine:latest", cmd=["sleep", "1000"]))
    with pytest.raises(boxlite.InvalidStateError, match="has a main command and is configured; start it first"):
        await box.metrics()
    await box.start()
    assert (await box.metrics()).memory_bytes
    await box.stop()
    tired = boxlite.BoxOptions(image="alpine:latest", auto_remove=False, auto_resume=False)
    box = await runtime.create(tired)
    assert (await box.metrics()).memory_bytes
    await box.stop()
    with pytest.raises(boxlite.InvalidStateError, match="auto_resume false; start it first"):
        await (await runtime.get(box.id)).metrics()
    await runtime.remove(box.id)


async def test_images(runtime):
    images = {i.reference.removeprefix("docker.io/library/"): i for i in await runtime.images.list()}
    assert images["alpine:latest"].tag == "latest"
    assert images["alpine:latest"].id.startswith("sha256:") and images["alpine:latest"].size_bytes


async def test_an_image_that_cannot_be_had(runtime):
    box = await runtime.create(boxlite.BoxOptions(image="127.0.0.1:9/no/such:image"))
    try:
        with pytest.raises(boxlite.ImageError, match="^images error: "):
            await box.exec("true")
        with pytest.raises(boxlite.BoxliteError):
            await runtime.images.pull("127.0.0.1:9/no/such:image")
    finally:
        await box.remove()


async def test_refused_when_created(runtime):
    create = lambda **o: runtime.create(boxlite.BoxOptions(**o))  # noqa: E731
    with pytest.raises(RuntimeError, match="remove-on-stop is incompatible with detach=true"):
        await create(detach=True)
    with pytest.raises(boxlite.InvalidArgumentError, match="ports require network.outbound.mode"):
        await create(ports=[(8080, 80)], network=boxlite.NetworkSpec("disabled"))
    with pytest.raises(boxlite.InvalidArgumentError, match="^invalid argument: .*cpus"):
        await create(cpus=100_000)
    advanced = boxlite.AdvancedBoxOptions(capabilities=boxlite.ContainerCapabilities(add=["SYS_ADMIN"]))
    with pytest.raises(boxlite.UnsupportedError, match="^unsupported: .*CAP_SYS_ADMIN cannot be added"):
        await create(advanced=advanced)
    advanced = boxlite.AdvancedBoxOptions(capabilities=boxlite.ContainerCapabilities(drop=["CHMOD"]))
    with pytest.raises(boxlite.InvalidArgumentError, match='unknown capability "CHMOD"'):
        await create(advanced=advanced)
    with pytest.raises(boxlite.InvalidArgumentError, match="max_processes"):
        await create(security=boxlite.SecurityOptions(max_processes=-1))


async def test_neither_pickled_nor_copied(runtime, box):
    execution = await box.exec("true")
    for thing in (runtime, box, execution, execution.stdout(), execution.stdin(), runtime.images, runtime.volumes):
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(thing)
        with pytest.raises(TypeError, match="cannot be pickled"):
            copy.copy(thing)
    await execution.wait()
