"""Counters of a runtime and of a box."""

from __future__ import annotations

from dataclasses import dataclass

from .info import as_dict, as_int, maybe_int


@dataclass(frozen=True)
class RuntimeMetrics:
    """What a runtime has done since its server started."""

    boxes_created_total: int = 0
    boxes_failed_total: int = 0
    boxes_stopped_total: int = 0
    num_running_boxes: int = 0
    total_commands_executed: int = 0
    total_exec_errors: int = 0


@dataclass(frozen=True)
class BoxMetrics:
    """What a box uses and has done. None is not known to the server.
    ``cpu_percent`` is of one processor, since the last question; durations are
    milliseconds."""

    commands_executed_total: int = 0
    exec_errors_total: int = 0
    bytes_sent_total: int = 0
    bytes_received_total: int = 0
    total_create_duration_ms: int | None = None
    guest_boot_duration_ms: int | None = None
    cpu_percent: float | None = None
    memory_bytes: int | None = None
    network_bytes_sent: int | None = None
    network_bytes_received: int | None = None
    network_tcp_connections: int | None = None
    network_tcp_errors: int | None = None
    stage_filesystem_setup_ms: int | None = None
    stage_image_prepare_ms: int | None = None
    stage_guest_rootfs_ms: int | None = None
    stage_box_config_ms: int | None = None
    stage_box_spawn_ms: int | None = None
    stage_container_init_ms: int | None = None


def runtime_metrics(v: object) -> RuntimeMetrics:
    """Counters of the wire."""
    w = as_dict(v)
    return RuntimeMetrics(**{name: as_int(w.get(name)) for name in RuntimeMetrics.__dataclass_fields__})


_SAME = (
    "memory_bytes",
    "network_bytes_sent",
    "network_bytes_received",
    "network_tcp_connections",
    "network_tcp_errors",
)
_TIMING = {
    "total_create_duration_ms": "total_create_ms",
    "guest_boot_duration_ms": "guest_boot_ms",
    "stage_filesystem_setup_ms": "filesystem_setup_ms",
    "stage_image_prepare_ms": "image_prepare_ms",
    "stage_guest_rootfs_ms": "guest_rootfs_ms",
    "stage_box_config_ms": "box_config_ms",
    "stage_box_spawn_ms": "box_spawn_ms",
    "stage_container_init_ms": "container_init_ms",
}


def box_metrics(v: object) -> BoxMetrics:
    """Counters of the wire."""
    w = as_dict(v)
    timing = as_dict(w.get("boot_timing"))
    cpu = w.get("cpu_percent")
    known: dict[str, int | None] = {name: maybe_int(w.get(name)) for name in _SAME}
    known.update({name: maybe_int(timing.get(theirs)) for name, theirs in _TIMING.items()})
    return BoxMetrics(
        commands_executed_total=as_int(w.get("commands_executed_total")),
        exec_errors_total=as_int(w.get("exec_errors_total")),
        bytes_sent_total=as_int(w.get("bytes_sent_total")),
        bytes_received_total=as_int(w.get("bytes_received_total")),
        cpu_percent=float(cpu) if isinstance(cpu, (int, float)) else None,
        **known,
    )
