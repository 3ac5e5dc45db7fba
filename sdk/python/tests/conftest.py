"""What the tests share: a copy of the program, and a home with images in it.

Run them with Debian's Python, which has pytest and pytest-asyncio:
``/usr/bin/python3 -m pytest sdk/python``.
"""

from __future__ import annotations

import atexit
import os
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Iterator

import host
import pytest

LEFT = host.Left()
DIRECTORIES: list[pathlib.Path] = []


@atexit.register
def check_left() -> None:
    """Fail the run when it left anything on the machine.

    What is registered first is called last: this module is loaded before the
    package, so the package has put its own house in order by now.
    """
    for directory in DIRECTORIES:
        try:
            left = LEFT.since(directory)
        except OSError as e:  # what an exception here says, Python does not act upon
            left = [f"not known, as the directory of the tests is gone: {e}"]
        shutil.rmtree(directory, ignore_errors=True)
        if left:
            sys.stdout.flush()
            print(
                "left behind by the tests:",
                *left,
                sep="\n",
                file=sys.stderr,
                flush=True,
            )
            os._exit(1)  # the only way to say so at this point


@pytest.fixture(scope="session")
def program() -> Iterator[pathlib.Path]:
    """The boxlite program, in a file of its own; the package uses it too."""
    # Not "boxlite...": what is called so and stays was left behind.
    directory = pathlib.Path(tempfile.mkdtemp(prefix="bxpy-"))
    (directory / "bin").mkdir()
    copy = host.copy_program(directory / "bin")
    DIRECTORIES.append(directory)
    with pytest.MonkeyPatch.context() as env:
        env.setenv("BOXLITE_BINARY", str(copy))
        env.setenv("BOXLITE_HOME", str(directory / "home"))
        env.setenv("XDG_RUNTIME_DIR", str(directory))  # of the server's sockets
        # Others who test here leave their own files in the common place.
        (directory / "tmp").mkdir()
        env.setenv("TMPDIR", str(directory / "tmp"))
        env.setattr(tempfile, "tempdir", None)
        yield copy


@pytest.fixture(scope="session")
def home(program: pathlib.Path) -> pathlib.Path:
    """A home with the images of the tests; it is that of Boxlite.default()."""
    host.need_gvisor(program)
    directory = program.parent.parent / "home"
    host.load_images(program, directory)
    return directory


@pytest.fixture
def no_new_boxes(program: pathlib.Path, home: pathlib.Path) -> Iterator[None]:
    """Fail the test when boxes are left that were not there before."""
    before = host.boxes(program, home)
    yield
    host.await_boxes(program, home, before)
