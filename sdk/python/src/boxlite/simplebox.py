"""A box that is made, started and stopped by ``async with``."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, TypedDict, TypeVar

from .box import Box
from .errors import BoxliteError, ExecError, ExecutionError, TimeoutError
from .execution import Execution
from .info import LiveBoxInfo
from .metrics import BoxMetrics
from .network import NetworkSpec, Secret
from .options import BoxOptions, CopyOptions, Env, Port, Volume
from .runtime import Boxlite
from .security import AdvancedBoxOptions, SecurityOptions
from .tunnel import BoxTunnel, NetworkHandle

if TYPE_CHECKING:
    from typing_extensions import Unpack  # known to type checkers; never imported

_Self = TypeVar("_Self", bound="SimpleBox")


class MoreOptions(TypedDict, total=False):
    """What :class:`BoxOptions` takes beside what the boxes here name themselves."""

    disk_size_gb: int | None
    working_dir: str | None
    env: Env
    volumes: Sequence[Volume]
    network: NetworkSpec | None
    ports: Sequence[Port]
    detach: bool | None
    entrypoint: Sequence[str] | None
    cmd: Sequence[str] | None
    user: str | None
    advanced: AdvancedBoxOptions | None
    secrets: Sequence[Secret]
    auto_stop: int | None
    auto_delete: int | None
    auto_resume: bool | None
    security: SecurityOptions | None
    labels: Mapping[str, str] | None
    hostname: str | None


class KeywordOptions(MoreOptions, total=False):
    """What :class:`SimpleBox` takes, but for what its kin name themselves."""

    name: str | None
    auto_remove: bool
    reuse_existing: bool


@dataclass(frozen=True)
class ExecResult:
    """How a command ended, and all it wrote.

    ``exit_code`` is the command's own, 128+N after signal N, and -1 if it could
    not be learned; ``error_message`` says why then, or why the command was
    ended, or that output is missing.
    """

    exit_code: int
    stdout: str
    stderr: str
    timed_out: bool = False
    error_message: str | None = None


class SimpleBox:
    """A box for the time of an ``async with``::

        async with SimpleBox(image="python:slim") as box:
            result = await box.exec("python", "-c", "print(6*7)")

    Nothing is made before ``async with`` or :meth:`start`. One of ``image`` and
    ``rootfs_path`` must be given, else ValueError; ``runtime`` is
    ``Boxlite.default()`` if left out. With ``reuse_existing`` a box that has
    this ``name`` already is used as it is, and :attr:`created` is False. The
    box is stopped at the end, and then deleted unless ``auto_remove`` is False.
    The other arguments are those of :class:`BoxOptions`.
    """

    def __init__(
        self,
        image: str | None = None,
        rootfs_path: str | None = None,
        memory_mib: int | None = None,
        cpus: int | None = None,
        runtime: Boxlite | None = None,
        name: str | None = None,
        auto_remove: bool = True,
        reuse_existing: bool = False,
        **options: Unpack[MoreOptions],
    ) -> None:
        if not image and not rootfs_path:
            raise ValueError("Either 'image' or 'rootfs_path' must be provided")
        self._runtime = Boxlite.default() if runtime is None else runtime
        self._options = BoxOptions(
            image=image,
            rootfs_path=rootfs_path,
            memory_mib=memory_mib,
            cpus=cpus,
            auto_remove=auto_remove,
            **options,
        )
        self._name = name
        self._reuse = reuse_existing
        self._handle: Box | None = None
        self._created: bool | None = None

    @property
    def _box(self) -> Box:
        if self._handle is None:
            raise RuntimeError(
                f"Box not started. Use 'async with {type(self).__name__}(...) as box:'"
                " or call 'await box.start()' first."
            )
        return self._handle

    @property
    def id(self) -> str:
        """Id of the box. RuntimeError before it was started."""
        return self._box.id

    @property
    def name(self) -> str | None:
        """Name of the box, None if it has none."""
        return self._name

    @property
    def created(self) -> bool | None:
        """Whether the box was made, or found by its name; None before the start."""
        return self._created

    async def start(self: _Self) -> _Self:
        """Make the box, or find it, and start it. Once it runs, do nothing."""
        if self._handle is not None:
            return self
        box, created = await self._make()
        try:
            await box.start()
        except BaseException:
            # Nobody has a handle to it: what was made here must not stay.
            if created:
                await asyncio.shield(self._discard(box))
            raise
        self._handle, self._created = box, created
        return self

    async def _make(self) -> tuple[Box, bool]:
        if self._reuse:
            return await self._runtime.get_or_create(self._options, name=self._name)
        return await self._runtime.create(self._options, name=self._name), True

    async def _discard(self, box: Box) -> None:
        try:
            await box.remove(force=True)
        except BoxliteError:
            pass  # the error of the start says more

    async def stop(self) -> None:
        """Stop the box; it is deleted unless it was made with
        ``auto_remove=False``. RuntimeError if it does not run."""
        box = self._box
        self._handle = None
        await box.stop()

    async def shutdown(self) -> None:
        """The same as :meth:`stop`."""
        await self.stop()

    async def __aenter__(self: _Self) -> _Self:
        return await self.start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._handle is not None:
            await self.stop()

    def info(self) -> LiveBoxInfo:
        """What this program last heard of the box; ``await`` it for what is
        known now."""
        return self._box.info()

    async def metrics(self) -> BoxMetrics:
        """What the box uses and has used."""
        return await self._box.metrics()

    @property
    def network(self) -> NetworkHandle:
        """The network of the box, from outside."""
        return self._box.network

    async def tunnel(self, port: int) -> BoxTunnel:
        """The same as ``network.tunnel(port)``: a connection to a port."""
        return await self.network.tunnel(port)

    async def exec(
        self,
        cmd: str,
        *args: str,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        timeout: float | None = None,
        cwd: str | None = None,
    ) -> ExecResult:
        """Run a command without input and return how it ended, whatever its exit code.

        ``env`` is added to the box's; ``user`` is a name or uid, optionally with
        ":group". After ``timeout`` seconds the command and all it started are
        killed, and TimeoutError is raised. A command that cannot be started
        raises ExecError with exit code 127 (not found) or 126. Cancelling this
        leaves the command running.
        """
        words = " ".join([cmd, *args])
        try:
            execution = await self._box._exec(
                cmd,
                list(args),
                list(env.items()) if env else None,
                user=user,
                timeout_secs=timeout,
                cwd=cwd,
                stdin="",
            )
        except ExecutionError as e:
            code = 127 if "not found" in str(e) else 126
            raise ExecError(words, code, str(e)) from e
        result = await _follow(execution)
        if result.timed_out:
            after = f" after {timeout:g} seconds" if timeout is not None else ""
            raise TimeoutError(f"Command '{words}' timed out{after}")
        return result

    async def copy_in(
        self,
        host_path: str | os.PathLike[str],
        container_dest: str,
        *,
        overwrite: bool = True,
        follow_symlinks: bool = False,
        include_parent: bool = True,
    ) -> None:
        """Copy a file or directory of the host into the box; see CopyOptions."""
        options = CopyOptions(True, overwrite, follow_symlinks, include_parent)
        await self._box.copy_in(host_path, container_dest, options)

    async def copy_out(
        self,
        container_src: str,
        host_dest: str | os.PathLike[str],
        *,
        overwrite: bool = True,
        follow_symlinks: bool = False,
        include_parent: bool = True,
    ) -> None:
        """Copy a file or directory of the box to the host; see CopyOptions."""
        options = CopyOptions(True, overwrite, follow_symlinks, include_parent)
        await self._box.copy_out(container_src, host_dest, options)


async def _follow(execution: Execution) -> ExecResult:
    """Collect what a command writes, until it has ended."""
    # Both at once: a command waits when one of them is full.
    read = await asyncio.gather(execution.stdout().read(), execution.stderr().read(), return_exceptions=True)
    stdout, stderr = (text if isinstance(text, str) else "" for text in read)
    lost = next((e for e in read if isinstance(e, BaseException)), None)
    if lost is not None and not isinstance(lost, BoxliteError):
        raise lost
    try:
        result = await execution.wait()
    except BoxliteError as e:
        return ExecResult(-1, stdout, stderr, error_message=str(e))
    message = result.error_message or (None if lost is None else str(lost))
    return ExecResult(result.exit_code, stdout, stderr, result.timed_out, message)
