"""The API for programs without an event loop: the same names, without await.

It also works where an event loop runs already, as in a notebook; that stands
still during a call.
"""

from ._box import SyncBox, SyncBoxTunnel, SyncNetworkHandle
from ._execution import SyncExecStderr, SyncExecStdin, SyncExecStdout, SyncExecution
from ._runtime import SyncBoxlite, SyncImageHandle, SyncVolumeHandle
from ._simplebox import SyncCodeBox, SyncSimpleBox

__all__ = [
    "SyncBox",
    "SyncBoxTunnel",
    "SyncBoxlite",
    "SyncCodeBox",
    "SyncExecStderr",
    "SyncExecStdin",
    "SyncExecStdout",
    "SyncExecution",
    "SyncImageHandle",
    "SyncNetworkHandle",
    "SyncSimpleBox",
    "SyncVolumeHandle",
]
