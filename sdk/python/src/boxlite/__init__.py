"""Sandboxes for AI agents: boxes that run commands, each behind a boundary of
its own.

    runtime = boxlite.Boxlite.default()
    box = await runtime.create(boxlite.BoxOptions(image="python:slim"))
    execution = await box.exec("python", ["-c", "print(6 * 7)"])
    result = await execution.wait()
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .box import Box
    from .codebox import CodeBox
    from .connection import AccessToken, ApiKeyCredential, BoxliteRestOptions, Credential, ImageRegistry, Options
    from .errors import (
        AlreadyExistsError,
        BoxliteError,
        ConfigError,
        DatabaseError,
        EngineError,
        ExecError,
        ExecutionError,
        ImageError,
        InternalError,
        InvalidArgumentError,
        InvalidStateError,
        MetadataError,
        NetworkError,
        NotFoundError,
        ParseError,
        PortalError,
        ResourceExhaustedError,
        RpcError,
        SessionReapedError,
        StoppedError,
        StorageError,
        TimeoutError,
        UnsupportedError,
    )
    from .execution import ExecStderr, ExecStdin, ExecStdout, Execution, ExecutionResult
    from .images import ImageHandle
    from .info import (
        BoxInfo,
        BoxStateInfo,
        HealthState,
        HealthStatus,
        ImageInfo,
        ImagePullResult,
        LiveBoxInfo,
        NetworkDirectionInfo,
        NetworkInfo,
        PublishedPort,
        VolumeInfo,
    )
    from .interactivebox import InteractiveBox
    from .metrics import BoxMetrics, RuntimeMetrics
    from .network import NetworkDirection, NetworkSpec, Secret
    from .options import BoxOptions, CopyOptions
    from .runtime import Boxlite
    from .security import AdvancedBoxOptions, ContainerCapabilities, HealthCheckOptions, SecurityOptions
    from .simplebox import ExecResult, SimpleBox
    from .sync_api import (
        SyncBox,
        SyncBoxTunnel,
        SyncBoxlite,
        SyncCodeBox,
        SyncExecStderr,
        SyncExecStdin,
        SyncExecStdout,
        SyncExecution,
        SyncImageHandle,
        SyncNetworkHandle,
        SyncSimpleBox,
        SyncVolumeHandle,
    )
    from .tunnel import BoxTunnel, NetworkHandle
    from .volumes import VolumeHandle

#: Which module has which names. They are loaded when they are first used, so
#: that a program which may need a box does not wait for what it may need.
_MODULES = {
    "box": "Box",
    "codebox": "CodeBox",
    "connection": "AccessToken ApiKeyCredential BoxliteRestOptions Credential ImageRegistry Options",
    "errors": (
        "AlreadyExistsError BoxliteError ConfigError DatabaseError EngineError ExecError ExecutionError "
        "ImageError InternalError InvalidArgumentError InvalidStateError MetadataError NetworkError "
        "NotFoundError ParseError PortalError ResourceExhaustedError RpcError SessionReapedError "
        "StoppedError StorageError TimeoutError UnsupportedError"
    ),
    "execution": "ExecStderr ExecStdin ExecStdout Execution ExecutionResult",
    "images": "ImageHandle",
    "info": (
        "BoxInfo BoxStateInfo HealthState HealthStatus ImageInfo ImagePullResult LiveBoxInfo "
        "NetworkDirectionInfo NetworkInfo PublishedPort VolumeInfo"
    ),
    "interactivebox": "InteractiveBox",
    "metrics": "BoxMetrics RuntimeMetrics",
    "network": "NetworkDirection NetworkSpec Secret",
    "options": "BoxOptions CopyOptions",
    "runtime": "Boxlite",
    "security": "AdvancedBoxOptions ContainerCapabilities HealthCheckOptions SecurityOptions",
    "simplebox": "ExecResult SimpleBox",
    "sync_api": (
        "SyncBox SyncBoxTunnel SyncBoxlite SyncCodeBox SyncExecStderr SyncExecStdin SyncExecStdout "
        "SyncExecution SyncImageHandle SyncNetworkHandle SyncSimpleBox SyncVolumeHandle"
    ),
    "tunnel": "BoxTunnel NetworkHandle",
    "volumes": "VolumeHandle",
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names.split()}

#: The version of the package.
__version__: str


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name == "__version__":
        value: object = _version()
    elif name in _MODULE_OF:
        value = getattr(import_module("." + _MODULE_OF[name], __name__), name)
    elif name in _MODULES:
        value = import_module("." + name, __name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("boxlite")
    except metadata.PackageNotFoundError:  # run from its sources
        return "0.0.0+dev"


__all__ = [
    "AccessToken",
    "AdvancedBoxOptions",
    "AlreadyExistsError",
    "ApiKeyCredential",
    "Box",
    "BoxInfo",
    "BoxMetrics",
    "BoxOptions",
    "BoxStateInfo",
    "BoxTunnel",
    "Boxlite",
    "BoxliteError",
    "BoxliteRestOptions",
    "CodeBox",
    "ConfigError",
    "ContainerCapabilities",
    "CopyOptions",
    "Credential",
    "DatabaseError",
    "EngineError",
    "ExecError",
    "ExecResult",
    "ExecStderr",
    "ExecStdin",
    "ExecStdout",
    "Execution",
    "ExecutionError",
    "ExecutionResult",
    "HealthCheckOptions",
    "HealthState",
    "HealthStatus",
    "ImageError",
    "ImageHandle",
    "ImageInfo",
    "ImagePullResult",
    "ImageRegistry",
    "InteractiveBox",
    "InternalError",
    "InvalidArgumentError",
    "InvalidStateError",
    "LiveBoxInfo",
    "MetadataError",
    "NetworkDirection",
    "NetworkDirectionInfo",
    "NetworkError",
    "NetworkHandle",
    "NetworkInfo",
    "NetworkSpec",
    "NotFoundError",
    "Options",
    "ParseError",
    "PortalError",
    "PublishedPort",
    "ResourceExhaustedError",
    "RpcError",
    "RuntimeMetrics",
    "Secret",
    "SecurityOptions",
    "SessionReapedError",
    "SimpleBox",
    "StoppedError",
    "StorageError",
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
    "TimeoutError",
    "UnsupportedError",
    "VolumeHandle",
    "VolumeInfo",
]
