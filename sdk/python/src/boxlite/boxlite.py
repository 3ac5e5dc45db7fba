"""The names that BoxLite's package has in its native module, for programs that
import them from there."""

from __future__ import annotations

from .box import Box
from .connection import AccessToken, BoxliteRestOptions, ImageRegistry, Options
from .execution import ExecStderr, ExecStdin, ExecStdout, Execution
from .images import ImageHandle
from .info import BoxInfo, BoxStateInfo, HealthState, HealthStatus, ImageInfo, ImagePullResult, VolumeInfo
from .metrics import BoxMetrics, RuntimeMetrics
from .network import NetworkSpec, Secret
from .options import BoxOptions, CopyOptions
from .runtime import Boxlite
from .security import AdvancedBoxOptions, ContainerCapabilities, HealthCheckOptions, SecurityOptions
from .tunnel import BoxTunnel, NetworkHandle
from .volumes import VolumeHandle

__all__ = [
    "AccessToken",
    "AdvancedBoxOptions",
    "Box",
    "BoxInfo",
    "BoxMetrics",
    "BoxOptions",
    "BoxStateInfo",
    "BoxTunnel",
    "Boxlite",
    "BoxliteRestOptions",
    "ContainerCapabilities",
    "CopyOptions",
    "ExecStderr",
    "ExecStdin",
    "ExecStdout",
    "Execution",
    "HealthCheckOptions",
    "HealthState",
    "HealthStatus",
    "ImageHandle",
    "ImageInfo",
    "ImagePullResult",
    "ImageRegistry",
    "NetworkHandle",
    "NetworkSpec",
    "Options",
    "RuntimeMetrics",
    "Secret",
    "SecurityOptions",
    "VolumeHandle",
    "VolumeInfo",
]
