"""Commands in real boxes."""

from __future__ import annotations

import asyncio
import re

import pytest

import boxlite


async def sh(box: boxlite.Box, script: str, **more) -> tuple[str, str, boxlite.ExecutionResult]:
    execution = await box.exec("sh", ["-c", script], **more)
    out, err = execution.stdout(), execution.stderr()
    return await out.read(), await err.read(), await execution.wait()


async def test_output_and_exit(box):
    out, err, result = await sh(box, "echo out; echo err >&2; exit 3")
    assert (out, err) == ("out\n", "err\n")
    assert (result.exit_code, result.error_message, result.timed_out) == (3, None, False)


async def test_what_a_command_is_given(box):
    out, _, _ = await sh(
        box, "pwd; id -un; echo $A $B", env=[("A", "1"), ("B", "zwei"), ("A", "2")], cwd="/usr", user="nobody"
    )
    assert out == "/usr\nnobody\n2 zwei\n"


async def test_input(box):
    execution = await box.exec("cat")
    stdin = execution.stdin()
    assert stdin is execution.stdin()
    await stdin.send_input("Zwölf Boxkämpfer\n".encode())
    await stdin.send_input(b"")
    assert not await stdin.is_closed()
    await stdin.close()
    await stdin.close()
    assert await stdin.is_closed()
    assert await execution.stdout().read() == "Zwölf Boxkämpfer\n"
    assert (await execution.wait()).exit_code == 0
    with pytest.raises(boxlite.InvalidStateError):
        await stdin.send_input(b"more")
    with pytest.raises(TypeError, match="bytes"):
        await (await box.exec("true")).stdin().send_input("text")


async def test_input_and_output_larger_than_all_buffers(box):
    """The command writes as it reads: whoever sends must take output too."""
    execution = await box.exec("cat")
    data = bytes(range(32, 127)) * 100_000  # 9.5 MB
    await execution.stdin().send_input(data)
    await execution.stdin().close()
    result = await execution.wait()
    assert result.exit_code == 0
    assert (await execution.stdout().read()).encode() == data


async def test_input_of_a_command_that_says_nothing(box):
    """Which is no reason to wait."""

    async def count(size):
        execution = await box.exec("wc", ["-c"])
        await execution.stdin().send_input(bytes(size))
        await execution.stdin().close()
        return int(await execution.stdout().read())

    for size in (0, 1, 100_000, 10_000_000):
        assert await asyncio.wait_for(count(size), 120) == size


async def test_items_are_lines(box):
    execution = await box.exec("sh", ["-c", "echo one; printf 'prompt> '; sleep 0.4; echo; printf 'a\\r\\nb\\n\\nend'"])
    items = [item async for item in execution.stdout()]
    assert items == ["one\n", "prompt> ", "\n", "a\r\n", "b\n", "\n", "end"]


async def test_characters_are_not_split(box):
    text = "äöü€😀" * 50_000
    execution = await box.exec("python", ["-c", "print('äöü€😀' * 50_000)"])
    items = [item async for item in execution.stdout()]
    assert "".join(items) == text + "\n"
    assert "\ufffd" not in "".join(items)


async def test_bytes_that_are_no_text(box):
    out, _, _ = await sh(box, "printf 'a\\377b\\303'")
    assert out == "a\ufffdb\ufffd"


async def test_streams_can_be_had_once(box):
    execution = await box.exec("true")
    execution.stdout()
    execution.stderr()
    with pytest.raises(RuntimeError, match="stdout stream not available"):
        execution.stdout()
    with pytest.raises(RuntimeError, match="stderr stream not available"):
        execution.stderr()
    await execution.wait()


async def test_wait_with_nobody_reading(box):
    """The command ends, however much it writes, and all of it is there later."""
    execution = await box.exec(
        "sh", ["-c", "head -c 20000000 /dev/zero | tr '\\0' x; head -c 3000000 /dev/zero | tr '\\0' y >&2"]
    )
    assert (await execution.wait()).exit_code == 0
    out, err = await execution.stdout().read(), await execution.stderr().read()
    assert (len(out), set(out)) == (20_000_000, {"x"})
    assert (len(err), set(err)) == (3_000_000, {"y"})


async def test_wait_twice_and_after_the_end(box):
    execution = await box.exec("sh", ["-c", "echo hello; exit 7"])
    first, second = await asyncio.gather(execution.wait(), execution.wait())
    assert first == second == await execution.wait()
    assert [item async for item in execution.stdout()] == ["hello\n"]


async def test_output_of_a_command_that_ended_before_anybody_asked(box):
    execution = await box.exec("sh", ["-c", "echo early; exit 5"])
    await (await box.exec("sleep", ["0.5"])).wait()
    assert await execution.stdout().read() == "early\n"
    assert (await execution.wait()).exit_code == 5


async def test_output_and_end_in_several_tasks(box):
    execution = await box.exec("sh", ["-c", "for i in 1 2 3 4 5; do echo $i; echo $i >&2; sleep 0.05; done; exit 9"])

    async def collect(stream):
        return [item async for item in stream]

    result, out, err = await asyncio.gather(execution.wait(), collect(execution.stdout()), collect(execution.stderr()))
    assert result.exit_code == 9
    assert out == err == [f"{i}\n" for i in range(1, 6)]


async def test_a_hundred_at_once(box):
    executions = await asyncio.gather(*(box.exec("sh", ["-c", f"echo {i}; exit {i}"]) for i in range(100)))
    results = await asyncio.gather(*(e.wait() for e in executions))
    assert [r.exit_code for r in results] == list(range(100))
    outs = await asyncio.gather(*(e.stdout().read() for e in executions))
    assert outs == [f"{i}\n" for i in range(100)]


async def test_a_signal_is_128_and_its_number(box):
    execution = await box.exec("sleep", ["600"])
    await execution.signal(15)
    result = await execution.wait()
    assert (result.exit_code, result.signal) == (143, 15)
    assert result.error_message


async def test_kill_ends_all_that_was_started(box):
    execution = await box.exec("sh", ["-c", "setsid sleep 4711 & echo $!; sleep 4711"])
    out = execution.stdout()
    assert re.fullmatch(r"\d+\n", await out.__anext__())
    await execution.kill()
    assert (await execution.wait()).exit_code == 137
    await execution.kill()  # of what has ended: no error
    listing, _, _ = await sh(box, "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline; echo; done")
    assert "sleep 4711" not in listing


async def test_kill_with_a_signal(box):
    execution = await box.exec(
        "sh", ["-c", "trap 'echo got it; exit 4' USR1; echo ready; while :; do sleep 0.05; done"]
    )
    out = execution.stdout()
    assert await out.__anext__() == "ready\n"
    await execution.kill(10)
    assert (await execution.wait()).exit_code == 4
    assert await out.read() == "got it\n"
    with pytest.raises(boxlite.InvalidArgumentError, match="signal 99"):
        await (await box.exec("sleep", ["1"])).kill(99)


async def test_a_cancelled_wait_leaves_the_command_alone(box):
    execution = await box.exec("sh", ["-c", "sleep 1; echo still here; exit 6"])
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(execution.wait(), timeout=0.1)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(execution.wait(), timeout=0.1)
    assert (await execution.wait()).exit_code == 6
    assert await execution.stdout().read() == "still here\n"


async def test_a_cancelled_reader_loses_nothing(box):
    """What has come while it was cancelled is there for the next."""
    execution = await box.exec("sh", ["-c", "i=0; while [ $i -lt 300 ]; do echo $i; i=$((i+1)); sleep 0.003; done"])
    out, got = execution.stdout(), []
    while True:
        try:
            got.append(await asyncio.wait_for(out.__anext__(), timeout=0.002))
        except asyncio.TimeoutError:
            continue
        except StopAsyncIteration:
            break
    assert "".join(got) == "".join(f"{i}\n" for i in range(300))


async def test_one_reader_is_cancelled_while_others_wait(box):
    """Somebody else moves the bytes from then on."""
    execution = await box.exec("sh", ["-c", "sleep 0.5; echo out; echo err >&2"])
    out, err = execution.stdout(), execution.stderr()
    first = asyncio.ensure_future(out.__anext__())
    await asyncio.sleep(0.1)
    second = asyncio.ensure_future(err.__anext__())
    third = asyncio.ensure_future(execution.wait())
    await asyncio.sleep(0.1)
    first.cancel()
    assert await second == "err\n"
    assert (await third).exit_code == 0
    assert await out.__anext__() == "out\n"


async def test_timeout_in_the_box(box):
    execution = await box.exec("sh", ["-c", "sleep 600 & sleep 600"], timeout_secs=0.3)
    result = await execution.wait()
    assert result.timed_out
    assert result.exit_code != 0
    assert result.error_message


async def test_a_missing_program(box):
    with pytest.raises(RuntimeError, match="^Execution error: .*no-such-program.*not found") as e:
        await box.exec("no-such-program")
    assert isinstance(e.value, boxlite.ExecutionError)
    assert e.value.code == "execution_failed"


async def test_a_missing_directory_and_user(box):
    with pytest.raises(boxlite.BoxliteError):
        await box.exec("true", cwd="/no/such/directory/of/this/box\0")
    with pytest.raises(boxlite.BoxliteError, match="no-such-user"):
        await box.exec("true", user="no-such-user")


async def test_arguments_that_make_no_sense(box):
    with pytest.raises(TypeError, match="list of strings"):
        await box.exec("echo", "text")
    with pytest.raises(boxlite.InvalidArgumentError):
        await box.exec("")
    with pytest.raises(boxlite.InvalidArgumentError, match="timeout_seconds"):
        await box.exec("true", timeout_secs=0.01)
    with pytest.raises(boxlite.InvalidArgumentError, match="env"):
        await box.exec("true", env=[("A=B", "1")])


async def test_terminal(box):
    execution = await box.exec("sh", tty=True)
    await execution.resize_tty(40, 120)
    stdin = execution.stdin()
    await stdin.send_input(b"stty size; echo err >&2; exit 3\n")
    text = "".join([item async for item in execution.stdout()])
    assert "40 120\r\n" in text
    assert "err\r\n" in text
    assert [item async for item in execution.stderr()] == []
    assert (await execution.wait()).exit_code == 3


async def test_resize_without_a_terminal(box):
    execution = await box.exec("sleep", ["600"])
    with pytest.raises(RuntimeError, match="without a terminal"):
        await execution.resize_tty(40, 120)
    with pytest.raises(boxlite.InvalidArgumentError, match="rows 0"):
        await execution.resize_tty(0, 120)
    await execution.kill()


async def test_attach(box):
    execution = await box.exec("sh", ["-c", "echo before; read line; echo $line; exit 2"])
    other = await box.attach(execution.id())
    await other.stdin().send_input(b"from the other\n")
    out = other.stdout()
    assert await out.read() == "before\nfrom the other\n"
    assert (await other.wait()).exit_code == 2
    assert (await execution.wait()).exit_code == 2
    assert await execution.stdout().read() == "before\nfrom the other\n"
    with pytest.raises(boxlite.NotFoundError):
        await box.attach("nosuchexecution")


async def test_two_that_follow_one_command(box):
    """The one that comes second looks on, as long as the first is there."""
    execution = await box.exec("sh", ["-c", "echo one; read x; echo two"])
    out, stdin = execution.stdout(), execution.stdin()
    assert await out.__anext__() == "one\n"
    following = asyncio.ensure_future(execution.wait())
    other = await box.attach(execution.id())
    watching = other.stdout()
    assert await watching.__anext__() == "one\n"
    with pytest.raises(boxlite.InvalidStateError, match="another program writes"):
        await other.stdin().send_input(b"x\n")
    await stdin.send_input(b"x\n")
    assert await out.read() == await watching.read() == "two\n"
    assert (await following).exit_code == 0


async def test_used_from_several_event_loops(box):
    """Connections belong to no loop; neither do boxes and commands."""
    execution = await box.exec("sh", ["-c", "sleep 0.3; echo done; exit 8"])

    def elsewhere():
        async def use():
            result = await execution.wait()
            return result.exit_code, (await (await box.exec("true")).wait()).exit_code

        return asyncio.run(use())

    loop = asyncio.get_running_loop()
    assert await loop.run_in_executor(None, elsewhere) == (8, 0)
    assert await execution.stdout().read() == "done\n"
