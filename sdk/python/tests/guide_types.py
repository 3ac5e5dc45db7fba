"""Check the types of the guide's examples, of ours and of the sync API, which
has them from the other: ``python3 tests/guide_types.py``.

An example may await at its top level and leave out what it takes for granted;
here it becomes the body of a function that is given that. All of mypy --strict
holds but for functions without annotations, of which the guide has some.
"""

from __future__ import annotations

import pathlib
import subprocess
import sys
import tempfile
import textwrap

HERE = pathlib.Path(__file__).resolve().parent
FRAME = """
import asyncio
import boxlite

async def example(box: boxlite.Box) -> None:
"""


def main() -> int:
    with tempfile.TemporaryDirectory() as directory:
        for example in sorted((HERE / "guide").glob("*.py")):
            body = textwrap.indent(example.read_text("utf-8"), "    ")
            pathlib.Path(directory, f"example_{example.name}").write_text(FRAME + body, "utf-8")
        return subprocess.run(
            [sys.executable, "-m", "mypy", "--config-file", HERE.parent / "pyproject.toml"]
            + ["--allow-untyped-defs", "--allow-incomplete-defs", "--allow-untyped-calls", "--check-untyped-defs"]
            + sorted(pathlib.Path(directory).iterdir())
            + sorted(HERE.parents[2].glob("examples/python/*.py"))
            + [HERE / "sync_types.py"],
            cwd=HERE.parent,
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
