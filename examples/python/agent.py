"""Runs Python that a model wrote, which nobody has read: no network, a limit on
its time, and only what it was asked for taken out."""

import asyncio
import json
import pathlib
import tempfile

import boxlite

CODE = """
import json
print("working")
json.dump({"answer": 6 * 7}, open("/workspace/out.json", "w"))
"""


async def main() -> None:
    security = boxlite.SecurityOptions.maximum()
    security.network_enabled = False
    runtime = boxlite.Boxlite.default()
    box = await runtime.create(
        boxlite.BoxOptions(image="python:slim", memory_mib=512, working_dir="/workspace", security=security)
    )
    async with box:
        # After ten seconds the box ends it, and all it has started.
        execution = await box.exec("python", ["-c", CODE], timeout_secs=10)
        async for line in execution.stdout():
            print("code:", line, end="")
        result = await execution.wait()
        print("exit code:", result.exit_code)
        with tempfile.TemporaryDirectory() as directory:
            out = pathlib.Path(directory, "out.json")
            await box.copy_out("/workspace/out.json", out)
            print("answer:", json.loads(out.read_text())["answer"])


asyncio.run(main())
