"""The wheel and the sdist, as pip installs them: without a network."""

from __future__ import annotations

import hashlib
import os
import pathlib
import subprocess
import sys
import venv
import zipfile

import host
import pytest

PYTHON = host.CHECKOUT / "sdk" / "python"

FIRST = """
import asyncio
import boxlite

async def main():
    async with boxlite.SimpleBox(image="python:slim") as box:
        result = await box.exec("python", "-c", "print(6*7)")
        print(result.stdout, end="")

asyncio.run(main())
print(boxlite.__version__)
"""


def build(program: pathlib.Path, directory: pathlib.Path) -> list[pathlib.Path]:
    """Build the wheel and the sdist into a directory."""
    out = subprocess.run(
        [sys.executable, PYTHON / "backend" / "boxlite_build.py", directory],
        env={**os.environ, "BOXLITE_BINARY": str(program), "BOXLITE_VERSION": "v1.2.3"},
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout
    return [pathlib.Path(line) for line in out.splitlines()]


def install(env: pathlib.Path, what: pathlib.Path, **variables: str) -> None:
    """Install into a new virtual environment, from nothing but that file."""
    venv.create(env, with_pip=True)
    subprocess.run(
        [env / "bin" / "pip", "install", "-q", "--no-index", "--no-cache-dir", what],
        env={**bare_environment(), **variables},
        check=True,
        timeout=120,
    )


def bare_environment() -> dict[str, str]:
    """Return an environment in which nothing says where the program is."""
    ours = ("BOXLITE_", "PYTHON", "PIP_")
    return {k: v for k, v in os.environ.items() if not k.startswith(ours)} | {"PATH": "/usr/bin:/bin"}


@pytest.fixture(scope="module")
def built(program: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> list[pathlib.Path]:
    return build(program, tmp_path_factory.mktemp("dist"))


def test_build_is_reproducible(program: pathlib.Path, built: list[pathlib.Path], tmp_path: pathlib.Path) -> None:
    def digests(files: list[pathlib.Path]) -> dict[str, str]:
        return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}

    assert digests(build(program, tmp_path)) == digests(built)


def test_wheel_has_package_types_and_program(built: list[pathlib.Path]) -> None:
    wheel = built[0]
    assert wheel.name.startswith("boxlite-1.2.3-py3-none-manylinux")
    with zipfile.ZipFile(wheel) as z:
        assert z.testzip() is None
        names = z.namelist()
        assert "boxlite/py.typed" in names
        # Programs for BoxLite's sync API ask for "boxlite[sync]".
        assert b"\nProvides-Extra: sync\n" in z.read("boxlite-1.2.3.dist-info/METADATA")
        assert not [n for n in names if "test" in n or "__pycache__" in n]
        assert z.getinfo("boxlite/bin/boxlite").external_attr >> 16 & 0o777 == 0o755


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_installs_without_network_and_runs_the_first_example(
    kind: str,
    program: pathlib.Path,
    built: list[pathlib.Path],
    home: pathlib.Path,
    tmp_path: pathlib.Path,
) -> None:
    env = tmp_path / "venv"
    if kind == "wheel":
        install(env, built[0])
    else:
        install(env, built[1], BOXLITE_BINARY=str(program))
    variables = {**bare_environment(), "BOXLITE_HOME": str(home)}
    assert host.run_cleanly(env / "bin" / "python", FIRST, variables) == "42\n1.2.3\n"
    installed = next(env.glob("lib/python*/site-packages/boxlite/bin/boxlite"))
    assert host.processes(installed) == {}


def test_without_a_program_the_build_says_what_to_do(tmp_path: pathlib.Path) -> None:
    done = subprocess.run(
        [sys.executable, PYTHON / "backend" / "boxlite_build.py", tmp_path],
        env={**os.environ, "BOXLITE_BINARY": str(tmp_path / "nothing")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert 'run "make build"' in done.stderr
