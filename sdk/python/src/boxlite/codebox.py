"""A box for running Python code."""

from __future__ import annotations

import os
import pathlib
from typing import TYPE_CHECKING

from .errors import ExecError
from .runtime import Boxlite
from .simplebox import KeywordOptions, SimpleBox

if TYPE_CHECKING:
    from typing_extensions import Unpack  # known to type checkers; never imported


class CodeBox(SimpleBox):
    """A box that runs Python code, for the time of an ``async with``::

        async with CodeBox() as box:
            print(await box.run("print(6*7)"))

    ``image`` must have a ``python`` and, to install packages, a ``pip``. See
    :class:`SimpleBox` for the rest.
    """

    def __init__(
        self,
        image: str = "python:slim",
        memory_mib: int | None = None,
        cpus: int | None = None,
        runtime: Boxlite | None = None,
        *,
        rootfs_path: str | None = None,
        **options: Unpack[KeywordOptions],
    ) -> None:
        super().__init__(image, rootfs_path, memory_mib, cpus, runtime, **options)

    async def run(self, code: str, timeout: float | None = None) -> str:
        """Run Python code and return what it wrote on standard output.

        Code that fails raises ExecError, whose ``stderr`` has the traceback;
        code that takes longer than ``timeout`` seconds is killed, and raises
        TimeoutError. Use :meth:`exec` to have both streams and the exit code.
        """
        result = await self.exec("python", "-c", code, timeout=timeout)
        if result.exit_code != 0:
            reason = result.stderr or result.error_message or ""
            raise ExecError("python -c ...", result.exit_code, reason)
        return result.stdout

    async def run_script(self, script_path: str | os.PathLike[str], timeout: float | None = None) -> str:
        """Run a Python file of the host, as :meth:`run` runs code."""
        return await self.run(pathlib.Path(script_path).read_text("utf-8"), timeout)

    async def install_package(self, package: str) -> str:
        """Install a package with pip, in any form that pip takes.

        Returns what pip wrote. ExecError if it failed.
        """
        return await self.install_packages(package)

    async def install_packages(self, *packages: str) -> str:
        """Install packages with pip; see :meth:`install_package`."""
        result = await self.exec("pip", "install", *packages)
        if result.exit_code != 0:
            command = " ".join(["pip", "install", *packages])
            raise ExecError(command, result.exit_code, result.stderr)
        return result.stdout + result.stderr
