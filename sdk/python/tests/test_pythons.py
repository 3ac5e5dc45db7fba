"""The package on every Python it is for, as far as this machine has them."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess

import host
import pytest

PROGRAM = """
import asyncio, sys
import boxlite

async def main():
    async with boxlite.SimpleBox(image="alpine:latest") as box:
        results = await asyncio.gather(*(box.exec("echo", str(i)) for i in range(20)))
        assert [r.stdout for r in results] == [f"{i}\\n" for i in range(20)]
        execution = await (await boxlite.Boxlite.default().get(box.id)).exec("sh", tty=True)
        await execution.resize_tty(40, 120)
        await execution.stdin().send_input(b"stty size; exit\\n")
        assert "40 120" in await execution.stdout().read()

asyncio.run(main())
with boxlite.SyncSimpleBox(image="alpine:latest") as box:
    print(box.exec("echo", "done").stdout, end="")
"""


def interpreter(version: str) -> str | None:
    """Return a Python of this version: the system's, one of pyenv's, or that of
    tools/python.sh."""
    installed = pathlib.Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    fetched = host.CHECKOUT / "build" / "cache" / f"python{version}" / "bin" / f"python{version}"
    found = [shutil.which(f"python{version}"), *installed.glob(f"{version}.*/bin/python{version}"), fetched]
    for path in found:
        if path and os.access(path, os.X_OK) and subprocess.run([path, "-c", ""], capture_output=True).returncode == 0:
            return str(path)
    return None


@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13", "3.14"])
def test_on(version: str, no_new_boxes: None) -> None:
    python = interpreter(version)
    if python is None:
        host.missing(f"python{version}", "no such interpreter in PATH, of pyenv, or in build/cache")
    assert host.run_cleanly(python, PROGRAM) == "done\n"
