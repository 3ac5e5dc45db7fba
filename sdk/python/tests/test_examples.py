"""The programs of examples/python, and what documents have of Python."""

from __future__ import annotations

import ast
import asyncio
import inspect
import pathlib
import re
import sys

import boxlite
import host
import pytest

EXAMPLES = host.CHECKOUT / "examples" / "python"
DOCUMENTS = (host.CHECKOUT / "sdk" / "python" / "README.md", host.CHECKOUT / "README.md")

SAID = {
    "agent.py": "code: working\nexit code: 0\nanswer: 42\n",
    "parallel.py": "sums: 5050\nfails: exit code 1, ValueError: no\nnever ends: killed after 5 seconds\n",
    "sync.py": "hello\nexit code 3 and on standard error: trouble\n",
}


@pytest.mark.parametrize("name", sorted(p.name for p in EXAMPLES.glob("*.py")))
def test_example(name: str, no_new_boxes: None) -> None:
    assert host.run_cleanly(sys.executable, (EXAMPLES / name).read_text()) == SAID[name]


def blocks() -> list[str]:
    text = "\n".join(document.read_text("utf-8") for document in DOCUMENTS)
    return re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)


@pytest.mark.parametrize("number", range(len(blocks())))
async def test_document(
    number: int, no_new_boxes: None, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What an example says it prints, in a comment behind the print, it prints."""
    text = blocks()[number].replace('"/host/', f'"{tmp_path}/')
    for directory in ("datasets", "results"):
        (tmp_path / directory).mkdir()
    (tmp_path / "script.py").write_text("open('/workspace/output.json', 'w').write('{}')\n")
    wanted = "".join(f"{said}\n" for said in re.findall(r"print\(.*\) +# (.*)", text))
    if "asyncio.run(" in text:
        said = await asyncio.to_thread(host.run_cleanly, sys.executable, text)
    else:
        names: dict[str, object] = {"asyncio": asyncio, "boxlite": boxlite}
        options = boxlite.BoxOptions(image="python:slim", working_dir="/workspace")
        names["box"] = box = await boxlite.Boxlite.default().create(options)
        running = eval(compile(text, f"block {number}", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
        if inspect.isawaitable(running):
            await running
        await box.remove(force=True)
        said = capsys.readouterr().out
    assert said.split() == wanted.split()
