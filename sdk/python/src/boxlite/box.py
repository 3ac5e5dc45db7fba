"""Boxes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING

from ._api import Api, segment
from ._guard import Unpicklable
from .errors import InvalidStateError, NetworkError, NotFoundError, fail
from .execution import Execution
from .info import BoxInfo, BoxStateInfo, LiveBoxInfo, as_dict, as_str, box_info, live_info
from .metrics import BoxMetrics, box_metrics
from .options import CopyOptions, Env, env_wire
from .tunnel import NetworkHandle

if TYPE_CHECKING:
    from .runtime import Boxlite


class Box(Unpicklable):
    """A box. It is made by :meth:`Boxlite.create` and the like.

    Nothing is pulled or started before the box is used: by ``start()``,
    ``exec()``, a copy, ``metrics()``, or ``async with``, which stops it at its end. A job, a
    box with a main command, is started by ``start()`` alone.
    """

    def __init__(self, runtime: Boxlite, api: Api, info: BoxInfo) -> None:
        self._runtime = runtime
        self._api = api
        self._info = info
        self._path = "boxes/" + segment(info.id)
        self._dead = False

    def __repr__(self) -> str:
        return f"<Box {self.id} {self._info.image} {self._info.state.status}>"

    @property
    def id(self) -> str:
        """Its id."""
        return self._info.id

    @property
    def name(self) -> str | None:
        """Its name, if it has one."""
        return self._info.name

    @property
    def network(self) -> NetworkHandle:
        """Its network: connections to its ports."""
        return NetworkHandle(self)

    def info(self) -> LiveBoxInfo:
        """What this program last heard of the box, at once. ``await box.info()``
        asks for what is known now."""
        return live_info(self._info, self._look)

    async def _look(self) -> BoxInfo:
        self._info = box_info(await self._api.call("GET", self._path))
        return self._info

    def _usable(self) -> None:
        if self._dead:
            raise fail(
                InvalidStateError,
                "Handle invalidated after stop(). Use runtime.get() to get a new handle.",
            )
        self._runtime._usable()

    def _runs(self) -> None:
        if not self._info.state.running:
            self._info = replace(self._info, state=BoxStateInfo("running", True))

    async def exec(
        self,
        command: str,
        args: Sequence[str] | None = None,
        env: Env | None = None,
        tty: bool = False,
        user: str | None = None,
        timeout_secs: float | None = None,
        cwd: str | None = None,
    ) -> Execution:
        """Starts a command, and the box if needed.

        ``command`` is looked up in the PATH of the box; no shell is involved.
        ``env`` is added to the environment of the box. With ``tty`` the command
        runs on a terminal of its own. After ``timeout_secs`` (at least 0.1) the
        box ends it, and all it started. ``cwd`` is the directory it runs in.

        Raises ExecutionError when the command cannot be started, ImageError
        when the image cannot be had, InvalidStateError for a job that was not
        started.
        """
        return await self._exec(command, args, env, tty, user, timeout_secs, cwd)

    async def _exec(
        self,
        command: str,
        args: Sequence[str] | None = None,
        env: Env | None = None,
        tty: bool = False,
        user: str | None = None,
        timeout_secs: float | None = None,
        cwd: str | None = None,
        stdin: str | None = None,
    ) -> Execution:
        """exec, with input that is all the command gets unless it is None."""
        self._usable()
        if isinstance(args, str):
            raise TypeError("args: give a list of strings, not one string")
        body: dict[str, object] = {"command": command, "args": [str(a) for a in args or ()]}
        if env:
            body["env"] = env_wire(env)
        if tty:
            body["tty"] = True
        if user:
            body["user"] = user
        if timeout_secs is not None:
            body["timeout_seconds"] = float(timeout_secs)
        if cwd:
            body["working_dir"] = cwd
        if stdin is not None:
            body["stdin"] = stdin
        reply = as_dict(await self._api.call("POST", self._path + "/exec", json=body))
        self._runs()
        execution = as_str(reply.get("execution_id"))
        if not execution:
            raise fail(NetworkError, "the server's answer makes no sense: a command without an id")
        return Execution(self._api, self.id, execution, command, tty)

    async def attach(self, execution_id: str | None = None) -> Execution:
        """Follows a command that was started earlier, by whomever; without an
        id the main command of a job. Raises NotFoundError if there is none."""
        self._usable()
        execution = execution_id or "main"
        path = f"{self._path}/executions/{segment(execution)}"
        state = as_dict(await self._api.call("GET", path, missing="Execution error: "))
        args = state.get("args")
        name = as_str(args[0]) if isinstance(args, list) and args else execution
        return Execution(self._api, self.id, execution, name, bool(state.get("tty")))

    async def start(self) -> None:
        """Starts the box. One that runs is left as it is."""
        self._usable()
        self._info = box_info(await self._api.call("POST", self._path + "/start"))

    async def stop(self) -> None:
        """Stops the box: its commands get ten seconds to end. What it wrote is
        saved, or the box is deleted if it was made so. This object is of no use
        afterwards. Stopping again does nothing."""
        if self._dead:
            return
        self._usable()
        try:
            self._info = box_info(await self._api.call("POST", self._path + "/stop"))
        except NotFoundError:
            self._info = replace(self._info, state=BoxStateInfo("stopped", False))
        self._dead = True

    async def remove(self, force: bool = False) -> None:
        """Deletes the box with all it wrote; with ``force`` also if it runs."""
        await self._runtime.remove(self.id, force)
        self._dead = True

    async def metrics(self) -> BoxMetrics:
        """What the box uses and has done. As :meth:`exec` does, this starts a
        box that does not run. Raises what exec() raises when it cannot."""
        self._usable()
        metrics = await self._measure()
        if metrics.memory_bytes is None:  # it does not run
            await self._api.call("POST", self._path + "/start", query={"implied": "true"})
            self._runs()
            metrics = await self._measure()
        return metrics

    async def _measure(self) -> BoxMetrics:
        return box_metrics(await self._api.call("GET", self._path + "/metrics"))

    async def copy_in(
        self, host_path: str | os.PathLike[str], container_dest: str, copy_options: CopyOptions | None = None
    ) -> None:
        """Copies a file or directory of this host into the box.

        A file becomes ``container_dest``, or a file in it if that is a
        directory or ends in "/". A directory is put into ``container_dest``;
        with ``include_parent=False`` what is in it is. Missing directories are
        made. Sockets, pipes and devices are left out.

        Raises StorageError when a file cannot be read, AlreadyExistsError when
        one is in the way and must not be replaced.
        """
        self._usable()
        from ._copy import copy_in

        await copy_in(self._api, self._path, host_path, container_dest, copy_options or CopyOptions())
        self._runs()

    async def copy_out(
        self, container_src: str, host_dest: str | os.PathLike[str], copy_options: CopyOptions | None = None
    ) -> None:
        """Copies a file or directory of the box to this host, by the rules of
        :meth:`copy_in`. Nothing is written outside ``host_dest``, whatever the
        box sends; setuid bits are dropped.

        Raises NotFoundError when there is no such file in the box,
        AlreadyExistsError and StorageError as :meth:`copy_in`.
        """
        self._usable()
        from ._copy import copy_out

        await copy_out(self._api, self._path, container_src, host_dest, copy_options or CopyOptions())
        self._runs()

    async def __aenter__(self) -> Box:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.stop()


__all__ = ["Box"]
