"""Connections to ports of a box, for programs without an event loop."""

from __future__ import annotations

import socket

from ..tunnel import BoxTunnel, NetworkHandle
from . import _loop


class SyncNetworkHandle:
    """The network of a box, from outside."""

    def __init__(self, network: NetworkHandle) -> None:
        self._network = network

    def tunnel(self, port: int) -> SyncBoxTunnel:
        """Prepare one connection to a port of the box."""
        return SyncBoxTunnel(_loop.run(self._network.tunnel(port)))


class SyncBoxTunnel:
    """One connection to a port of a box, to be made within 30 seconds."""

    def __init__(self, tunnel: BoxTunnel) -> None:
        self._tunnel = tunnel

    def uri(self) -> str:
        """Where the tunnel begins."""
        return self._tunnel.uri()

    def endpoint(self) -> str:
        """The same as :meth:`uri`."""
        return self._tunnel.uri()

    def connect(self) -> socket.socket:
        """The connection, as a socket that blocks; it is the caller's to close.
        It can be had once."""
        connection = _loop.run(self._tunnel.connect())
        connection.setblocking(True)
        return connection
