"""Sandboxes for AI agents: boxes that run commands, each behind a boundary of
its own.

    runtime = boxlite.Boxlite.default()
    box = await runtime.create(boxlite.BoxOptions(image="python:slim"))
    execution = await box.exec("python", ["-c", "print(6 * 7)"])
    result = await execution.wait()
"""

from __future__ import annotations

from .box import Box
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
from .metrics import BoxMetrics, RuntimeMetrics
from .network import NetworkDirection, NetworkSpec, Secret
from .options import BoxOptions, CopyOptions
from .runtime import Boxlite
from .security import AdvancedBoxOptions, ContainerCapabilities, HealthCheckOptions, SecurityOptions
from .tunnel import BoxTunnel, NetworkHandle
from .volumes import VolumeHandle

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
    "ConfigError",
    "ContainerCapabilities",
    "CopyOptions",
    "Credential",
    "DatabaseError",
    "EngineError",
    "ExecError",
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
    "StoppedError",
    "StorageError",
    "TimeoutError",
    "UnsupportedError",
    "VolumeHandle",
    "VolumeInfo",
]
