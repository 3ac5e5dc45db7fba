"""A runtime of this machine and one of a server, for the same tests."""

from __future__ import annotations

import asyncio
import pathlib
import subprocess
from collections.abc import Iterator

import pytest

import boxlite

KEY = "test-key-0123456789abcdef"


@pytest.fixture(scope="session")
def server(program: pathlib.Path, home: pathlib.Path) -> Iterator[boxlite.BoxliteRestOptions]:
    """A server on TCP over the same home, which wants a key."""
    process = subprocess.Popen(
        [
            program,
            "--home",
            home,
            "serve",
            "--port",
            "0",
            "--until-eof",
            "--log-format",
            "off",
            "--allow-host-dir",
            "/",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"BOXLITE_SERVE_API_KEY": KEY, "PATH": "/usr/bin:/bin"},
    )
    assert process.stdin and process.stdout
    with process:
        url = process.stdout.readline().split()[-1]
        yield boxlite.BoxliteRestOptions(url, boxlite.ApiKeyCredential(KEY))
        process.stdin.close()


@pytest.fixture(scope="session", params=["local", "rest"])
def runtime(request: pytest.FixtureRequest, home: pathlib.Path) -> boxlite.Boxlite:
    """The same home, through the private server and through that on TCP."""
    if request.param == "rest":
        return boxlite.Boxlite.rest(request.getfixturevalue("server"))
    return boxlite.Boxlite(boxlite.Options(home_dir=str(home)))


@pytest.fixture(scope="session")
def box(runtime: boxlite.Boxlite) -> Iterator[boxlite.Box]:
    """A box that the tests share. It is made in an event loop of its own, and
    used in those of the tests."""
    box = asyncio.run(runtime.create(boxlite.BoxOptions(image="python:slim", memory_mib=1024)))
    yield box
    asyncio.run(box.stop())
