"""What the tests need of this machine, and what boxes could leave on it."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import subprocess
import time
from collections.abc import Iterable

import pytest

CHECKOUT = pathlib.Path(__file__).resolve().parents[3]
SOURCES = CHECKOUT / "sdk" / "python" / "src"

# The cgroup of a box, by its id.
CGROUP = re.compile(r"boxlite-[a-z][a-z2-7]{11}")

# Names under which the images of "make images" can be used.
IMAGES = {
    "alpine:latest": "alpine.tar",
    "python:slim": "python-slim.tar",
    "node:alpine": "node-alpine.tar",
}


def missing(what: str, why: str) -> None:
    """End the test: ``what`` is not here, because of ``why``.

    The test is skipped, unless BOXLITE_TEST_REQUIRE, a list separated by
    commas, says that it may not be.
    """
    if what in os.environ.get("BOXLITE_TEST_REQUIRE", "").split(","):
        pytest.fail(f"needs {what}, which BOXLITE_TEST_REQUIRE says is here: {why}")
    pytest.skip(f"needs {what}: {why}")


def copy_program(directory: pathlib.Path) -> pathlib.Path:
    """Return a copy of the program, so that its processes are ours alone."""
    built = CHECKOUT / "bin" / "boxlite"
    if not built.exists():
        missing("program", f'{built} is not there; run "make build"')
    return pathlib.Path(shutil.copy2(built, directory / "boxlite"))


def need_gvisor(program: pathlib.Path) -> None:
    """End the test unless boxes work here."""
    out = subprocess.run(
        [program, "doctor", "--format", "json"],
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout
    for check in json.loads(out or "[]"):
        if check["name"] == "engine gvisor" and check["status"] == "ok":
            return
    missing("gvisor", out)


def load_images(program: pathlib.Path, home: pathlib.Path, names: Iterable[str] = IMAGES) -> None:
    """Load images of the tests into a home."""
    images = os.environ.get("BOXLITE_TEST_IMAGES") or CHECKOUT / "build" / "images"
    for name in names:
        path = pathlib.Path(images, IMAGES[name])
        if not path.exists():
            missing("images", f'{path} is not there; run "make images"')
        subprocess.run(
            [program, "--home", home, "load", "-i", path],
            check=True,
            capture_output=True,
            timeout=120,
        )


def processes(program: pathlib.Path) -> dict[int, str]:
    """Return the command lines of all that runs this very file, by process."""
    same = program.stat()
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            exe = (entry / "exe").stat()
            state = (entry / "stat").read_text().rpartition(") ")[2][0]
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue  # it ended while we looked
        if (exe.st_dev, exe.st_ino) == (same.st_dev, same.st_ino) and state != "Z":
            found[int(entry.name)] = line.strip()
    return found


def boxes(program: pathlib.Path, home: pathlib.Path) -> list[str]:
    """Return the ids of the boxes there are in a home."""
    out = subprocess.run(
        [program, "--home", home, "list", "-a", "-q"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    return out.split()


def await_boxes(program: pathlib.Path, home: pathlib.Path, known: Iterable[str], limit: float = 60) -> None:
    """Wait until a home has no boxes but those."""
    deadline = time.monotonic() + limit
    while more := set(boxes(program, home)) - set(known):
        assert time.monotonic() < deadline, f"boxes are left: {more}"
        time.sleep(0.05)


def run_cleanly(
    python: str | pathlib.Path, code: str, environment: dict[str, str] | None = None, limit: float = 180
) -> str:
    """Run a program of Python that must end well, and return what it prints.

    With -X dev and -W error, what it leaves open is an error.
    """
    if environment is None:
        environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    done = subprocess.run(
        [python, "-X", "dev", "-W", "error", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=limit,
    )
    # -X dev also reports steps that took 0.1 s, which a busy machine makes of any.
    said = [line for line in done.stderr.splitlines() if not line.startswith("Executing <")]
    assert (done.returncode, said) == (0, [])
    return done.stdout


class Left:
    """What is on the machine that boxes could have left there."""

    def __init__(self) -> None:
        self.before = self._look()

    @staticmethod
    def _look() -> set[str]:
        found = {f"mount {m}" for m in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()}
        for directory, _, files in os.walk("/sys/fs/cgroup"):
            if CGROUP.fullmatch(os.path.basename(directory)) and "cgroup.procs" in files:
                # One with processes is in use, by who else runs boxes here.
                try:
                    if not pathlib.Path(directory, "cgroup.procs").read_text():
                        found.add(f"cgroup {directory}")
                except OSError:
                    pass
        return found

    def since(self, directory: pathlib.Path, limit: float = 20) -> list[str]:
        """Return what is more than before, once it has had time to go.

        The directory is that of the tests, with the program, a home and
        temporary files. Of what others on this machine may have made, only what
        is there all the time counts.
        """
        program = directory / "bin" / "boxlite"
        deadline = time.monotonic() + limit
        more = self._look() - self.before
        while True:
            more &= self._look()
            left = sorted(more)
            left += [f"process {pid} {line}" for pid, line in processes(program).items()]
            left += [f"file {p}" for p in (directory / "tmp").glob("boxlite*")]
            left += [f"socket {p}" for p in (directory / "boxlite").glob("*")]
            if not left:
                left += [f"box {id}" for id in boxes(program, directory / "home")]
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(0.05)
