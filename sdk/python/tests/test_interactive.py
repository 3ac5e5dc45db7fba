"""InteractiveBox, with a real terminal in front of it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pathlib
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator

import boxlite
import host
import pytest

PROGRAM = """
import asyncio, boxlite

async def main():
    async with boxlite.InteractiveBox(image="alpine:latest") as box:
        pass
    print("ended", flush=True)

asyncio.run(main())
"""


class Person:
    """Somebody at a terminal in front of a program."""

    def __init__(self, code: str) -> None:
        self.master, slave = pty.openpty()
        self.resize(30, 90)
        self.before = termios.tcgetattr(slave)
        self.process = subprocess.Popen(
            [sys.executable, "-X", "dev", "-W", "error", "-c", code],
            env={**os.environ, "PYTHONPATH": str(host.SOURCES)},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        self.slave = slave
        self.seen = ""

    def resize(self, rows: int, cols: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def until(self, text: str, limit: float = 60) -> str:
        """Read until the screen shows a text, and return all before it."""
        deadline = time.monotonic() + limit
        while text not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.master], [], [], left)[0], f"no {text!r} in {self.seen!r}"
            self.seen += os.read(self.master, 4096).decode()
        before, _, self.seen = self.seen.partition(text)
        return before

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


pytestmark = pytest.mark.usefixtures("no_new_boxes")


@pytest.fixture
def person(home: pathlib.Path) -> Iterator[Person]:
    person = Person(PROGRAM)
    yield person
    person.close()


def test_a_person_at_a_shell(person: Person) -> None:
    person.until("# ")
    person.type("stty size; tty\n")
    person.until("30 90")
    person.resize(40, 120)
    person.until("# ")
    person.type("stty size\n")
    person.until("40 120")
    person.type("echo begun; sleep 9999\n")
    person.until("\r\nbegun")
    person.type("\x03")  # to the command, not to the program
    person.type("echo it is $((6 * 7)) éè\n")
    person.until("it is 42 éè")
    person.type("exit\n")
    person.until("ended")
    assert person.process.wait(60) == 0
    assert termios.tcgetattr(person.slave) == person.before


def test_the_terminal_comes_back_after_an_exception(home: pathlib.Path) -> None:
    person = Person(PROGRAM.replace("        pass", "        await asyncio.sleep(1); raise SystemExit(7)"))
    try:
        person.until("# ")
        assert person.process.wait(60) == 7
        assert termios.tcgetattr(person.slave) == person.before
    finally:
        person.close()


async def test_without_a_terminal_the_shell_only_runs(home: pathlib.Path) -> None:
    async with boxlite.InteractiveBox(image="alpine:latest", tty=False) as box:
        assert (await box.exec("ps")).stdout.count("/bin/sh") == 1


async def test_wait_returns_the_exit_code_of_the_shell(home: pathlib.Path) -> None:
    box = boxlite.InteractiveBox(image="alpine:latest", shell="/bin/true", tty=False)
    with pytest.raises(RuntimeError, match="Box not started"):
        await box.wait()
    async with box:
        assert await asyncio.wait_for(box.wait(), 60) == 0


async def test_a_shell_that_is_not_there_leaves_no_box(home: pathlib.Path) -> None:
    with pytest.raises(boxlite.ExecutionError):
        await boxlite.InteractiveBox(image="alpine:latest", shell="/bin/no-such-shell").start()


@pytest.mark.parametrize("kind", ["pipe", "file"])
def test_input_that_is_no_terminal(kind: str, home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    script = b"echo it is $((6 * 7))\nexit\n"
    (tmp_path / "script").write_bytes(script)
    with open(tmp_path / "script", "rb") as file:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM.replace('latest")', 'latest", tty=True)')],
            env={**os.environ, "PYTHONPATH": str(host.SOURCES)},
            stdin=file if kind == "file" else None,
            input=script if kind == "pipe" else None,
            capture_output=True,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr
    assert b"it is 42" in done.stdout and done.stdout.endswith(b"ended\n")


def test_interrupt_of_the_program_gives_the_terminal_back(home: pathlib.Path) -> None:
    person = Person(PROGRAM)
    try:
        person.until("# ")
        person.process.send_signal(signal.SIGINT)
        person.process.wait(60)
        assert termios.tcgetattr(person.slave) == person.before
    finally:
        person.close()
