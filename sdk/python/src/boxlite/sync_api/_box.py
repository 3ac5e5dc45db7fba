"""Boxes and their networks, for programs without an event loop."""

from __future__ import annotations

import socket
from types import TracebackType

from ..box import Box
from ..info import BoxInfo
from ..tunnel import BoxTunnel, NetworkHandle
from ._execution import SyncExecution
from ._loop import run, sync, sync_as


class SyncBoxTunnel:
    """One connection to a port of a box, to be made within 30 seconds."""

    def __init__(self, tunnel: BoxTunnel) -> None:
        self._async = tunnel

    def uri(self) -> str:
        """Where the tunnel begins."""
        return self._async.uri()

    endpoint = sync(BoxTunnel.endpoint)

    def connect(self) -> socket.socket:
        """The connection, as a socket that blocks; it is the caller's to close.
        It can be had once."""
        connection = run(self._async.connect)
        connection.setblocking(True)
        return connection


class SyncNetworkHandle:
    """The network of a box, from outside."""

    def __init__(self, network: NetworkHandle) -> None:
        self._async = network

    tunnel = sync_as(SyncBoxTunnel, NetworkHandle.tunnel)


class SyncBox:
    """A box. See :class:`Box`."""

    def __init__(self, box: Box) -> None:
        self._async = box

    def __repr__(self) -> str:
        return f"<SyncBox {self._async!r}>"

    @property
    def id(self) -> str:
        """Its id."""
        return self._async.id

    @property
    def name(self) -> str | None:
        """Its name, if it has one."""
        return self._async.name

    @property
    def network(self) -> SyncNetworkHandle:
        """The network of the box, from outside."""
        return SyncNetworkHandle(self._async.network)

    def info(self) -> BoxInfo:
        """What is known of the box now."""
        return run(self._async._look)

    exec = sync_as(SyncExecution, Box.exec)
    attach = sync_as(SyncExecution, Box.attach)
    start = sync(Box.start)
    stop = sync(Box.stop)
    remove = sync(Box.remove)
    metrics = sync(Box.metrics)
    copy_in = sync(Box.copy_in)
    copy_out = sync(Box.copy_out)

    def __enter__(self) -> SyncBox:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
