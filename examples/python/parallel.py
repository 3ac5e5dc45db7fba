"""One box for each of several agents, side by side; one of them misbehaves."""

import asyncio

import boxlite

JOBS = {
    "sums": "print(sum(range(101)))",
    "fails": "raise ValueError('no')",
    "never ends": "while True: pass",
}


async def run(name: str, code: str) -> str:
    async with boxlite.CodeBox(memory_mib=256) as box:
        try:
            return f"{name}: {(await box.run(code, timeout=5)).strip()}"
        except boxlite.ExecError as e:
            return f"{name}: exit code {e.exit_code}, {e.stderr.splitlines()[-1]}"
        except boxlite.TimeoutError:
            return f"{name}: killed after 5 seconds"


async def main() -> None:
    for line in await asyncio.gather(*(run(name, code) for name, code in JOBS.items())):
        print(line)


asyncio.run(main())
