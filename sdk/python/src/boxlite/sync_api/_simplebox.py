"""Boxes for the time of a ``with``, for programs without an event loop."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from ..codebox import CodeBox
from ..info import BoxInfo
from ..metrics import BoxMetrics
from ..simplebox import ExecResult, MoreOptions, SimpleBox
from . import _loop
from ._runtime import SyncBoxlite
from ._tunnel import SyncBoxTunnel, SyncNetworkHandle

if TYPE_CHECKING:
    from typing_extensions import Unpack  # known to type checkers; never imported

_Self = TypeVar("_Self", bound="SyncSimpleBox")


class SyncSimpleBox:
    """A box for the time of a ``with``. See :class:`SimpleBox`::

    with SyncSimpleBox(image="python:slim") as box:
        result = box.exec("python", "-c", "print(6*7)")
    """

    _box: SimpleBox

    def __init__(
        self,
        image: str | None = None,
        rootfs_path: str | None = None,
        memory_mib: int | None = None,
        cpus: int | None = None,
        runtime: SyncBoxlite | None = None,
        name: str | None = None,
        auto_remove: bool = True,
        reuse_existing: bool = False,
        **options: Unpack[MoreOptions],
    ) -> None:
        self._box = SimpleBox(
            image=image,
            rootfs_path=rootfs_path,
            memory_mib=memory_mib,
            cpus=cpus,
            runtime=None if runtime is None else runtime.runtime,
            name=name,
            auto_remove=auto_remove,
            reuse_existing=reuse_existing,
            **options,
        )

    @property
    def id(self) -> str:
        """Id of the box. RuntimeError before it was started."""
        return self._box.id

    @property
    def name(self) -> str | None:
        """Name of the box, None if it has none."""
        return self._box.name

    @property
    def created(self) -> bool | None:
        """Whether the box was made, or found by its name; None before the start."""
        return self._box.created

    def start(self: _Self) -> _Self:
        """Make the box, or find it, and start it. Once it runs, do nothing."""
        _loop.run(self._box.start())
        return self

    def stop(self) -> None:
        """Stop the box; it is deleted unless made with ``auto_remove=False``."""
        _loop.run(self._box.stop())

    def shutdown(self) -> None:
        """The same as :meth:`stop`."""
        self.stop()

    def __enter__(self: _Self) -> _Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _loop.run(self._box.__aexit__(kind, error, trace))

    def info(self) -> BoxInfo:
        """What is known of the box now."""

        async def look() -> BoxInfo:
            return await self._box.info()

        return _loop.run(look())

    def metrics(self) -> BoxMetrics:
        """What the box uses and has used."""
        return _loop.run(self._box.metrics())

    @property
    def network(self) -> SyncNetworkHandle:
        """The network of the box, from outside."""
        return SyncNetworkHandle(self._box.network)

    def tunnel(self, port: int) -> SyncBoxTunnel:
        """The same as ``network.tunnel(port)``: a connection to a port."""
        return self.network.tunnel(port)

    def exec(
        self,
        cmd: str,
        *args: str,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        timeout: float | None = None,
        cwd: str | None = None,
    ) -> ExecResult:
        """Run a command and return how it ended. See :meth:`SimpleBox.exec`."""
        return _loop.run(self._box.exec(cmd, *args, env=env, user=user, timeout=timeout, cwd=cwd))

    def copy_in(
        self,
        host_path: str | os.PathLike[str],
        container_dest: str,
        *,
        overwrite: bool = True,
        follow_symlinks: bool = False,
        include_parent: bool = True,
    ) -> None:
        """Copy a file or directory of the host into the box; see CopyOptions."""
        _loop.run(
            self._box.copy_in(
                host_path,
                container_dest,
                overwrite=overwrite,
                follow_symlinks=follow_symlinks,
                include_parent=include_parent,
            )
        )

    def copy_out(
        self,
        container_src: str,
        host_dest: str | os.PathLike[str],
        *,
        overwrite: bool = True,
        follow_symlinks: bool = False,
        include_parent: bool = True,
    ) -> None:
        """Copy a file or directory of the box to the host; see CopyOptions."""
        _loop.run(
            self._box.copy_out(
                container_src,
                host_dest,
                overwrite=overwrite,
                follow_symlinks=follow_symlinks,
                include_parent=include_parent,
            )
        )


class SyncCodeBox(SyncSimpleBox):
    """A box that runs Python code, for the time of a ``with``. See
    :class:`CodeBox`."""

    _box: CodeBox

    def __init__(
        self,
        image: str = "python:slim",
        memory_mib: int | None = None,
        cpus: int | None = None,
        runtime: SyncBoxlite | None = None,
        name: str | None = None,
        auto_remove: bool = True,
        reuse_existing: bool = False,
        rootfs_path: str | None = None,
        **options: Unpack[MoreOptions],
    ) -> None:
        self._box = CodeBox(
            image=image,
            rootfs_path=rootfs_path,
            memory_mib=memory_mib,
            cpus=cpus,
            runtime=None if runtime is None else runtime.runtime,
            name=name,
            auto_remove=auto_remove,
            reuse_existing=reuse_existing,
            **options,
        )

    def run(self, code: str, timeout: float | None = None) -> str:
        """Run Python code and return what it wrote on standard output."""
        return _loop.run(self._box.run(code, timeout))

    def run_script(self, script_path: str | os.PathLike[str], timeout: float | None = None) -> str:
        """Run a Python file of the host, as :meth:`run` runs code."""
        return _loop.run(self._box.run_script(script_path, timeout))

    def install_package(self, package: str) -> str:
        """Install a package with pip, and return what that wrote."""
        return _loop.run(self._box.install_package(package))

    def install_packages(self, *packages: str) -> str:
        """Install packages with pip, and return what that wrote."""
        return _loop.run(self._box.install_packages(*packages))
