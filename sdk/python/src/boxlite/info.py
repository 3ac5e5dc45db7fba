"""What is known of boxes, images and volumes at one moment."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, field
from typing import cast

from .errors import NetworkError, fail

_Json = dict[str, object]


def as_str(v: object, default: str = "") -> str:
    """A text of the wire."""
    return v if isinstance(v, str) else default


def as_int(v: object, default: int = 0) -> int:
    """A whole number of the wire."""
    if isinstance(v, bool) or not isinstance(v, (int, float)) or not -(1 << 63) <= v < 1 << 63:
        return default  # among them what is infinite, or no number
    return int(v)


def maybe_int(v: object) -> int | None:
    """A whole number of the wire that may be missing."""
    return None if v is None else as_int(v)


def as_dict(v: object) -> _Json:
    """An object of the wire."""
    return cast(_Json, v) if isinstance(v, dict) else {}


def as_list(v: object) -> list[object]:
    """A list of the wire."""
    return cast("list[object]", v) if isinstance(v, list) else []


@dataclass(frozen=True)
class BoxStateInfo:
    """State of a box. ``status`` is "configured", "running", "paused",
    "stopping", "stopped", "failed" or "unknown"; ``pid`` is of the process of
    the host that owns it."""

    status: str
    running: bool
    pid: int | None = None


@dataclass(frozen=True)
class HealthState:
    """Whether a box is well: "starting", "healthy" or "unhealthy"; "none" when
    nobody asks, or the box does not run."""

    value: str = "none"

    def is_healthy(self) -> bool:
        """Whether it has answered, and has not failed too often since."""
        return self.value == "healthy"

    def is_unhealthy(self) -> bool:
        """Whether the last checks failed, ``retries`` of them or more."""
        return self.value == "unhealthy"

    def is_starting(self) -> bool:
        """Whether it has not answered yet, nor failed too often."""
        return self.value == "starting"

    def is_none(self) -> bool:
        """Whether nobody asks, or the box does not run."""
        return self.value == "none"


@dataclass(frozen=True)
class HealthStatus:
    """Health of a box. ``failures`` are those in a row, ``last_check`` is a time
    as in RFC 3339."""

    state: HealthState = field(default_factory=HealthState)
    failures: int = 0
    last_check: str | None = None


@dataclass(frozen=True)
class NetworkDirectionInfo:
    """One direction of the network of a box."""

    mode: str
    allow_net: tuple[str, ...] = ()
    deny_net: tuple[str, ...] = ()


@dataclass(frozen=True)
class PublishedPort:
    """A port of a box on the host. ``host_port`` is 0 until the host has chosen
    one, when the box starts."""

    guest_port: int
    host_port: int
    host_ip: str = "127.0.0.1"
    protocol: str = "tcp"


@dataclass(frozen=True)
class NetworkInfo:
    """What a box may reach, and where it is reached. ``published_ports`` is
    None when that is not known."""

    outbound: NetworkDirectionInfo
    inbound: NetworkDirectionInfo
    published_ports: tuple[PublishedPort, ...] | None = None


@dataclass(frozen=True)
class BoxInfo:
    """What is known of a box. Times are as in RFC 3339, in UTC; ``auto_stop``
    and ``auto_delete`` are seconds, 0 for never; ``exit_code`` is of the main
    command of a job; ``reason`` says why a box failed."""

    id: str
    name: str | None
    state: BoxStateInfo
    created_at: str
    image: str
    cpus: int
    memory_mib: int
    started_at: str | None = None
    network: NetworkInfo | None = None
    auto_stop: int = 0
    auto_delete: int = 0
    auto_resume: bool = True
    health_status: HealthStatus = field(default_factory=HealthStatus)
    exit_code: int | None = None
    labels: dict[str, str] = field(default_factory=dict)
    detach: bool = False
    auto_remove: bool = False
    reason: str | None = None


@dataclass(frozen=True)
class LiveBoxInfo(BoxInfo):
    """What this program last heard of a box. ``await`` it for what is known
    now."""

    _look: Callable[[], Awaitable[BoxInfo]] | None = field(default=None, repr=False, compare=False)

    def __await__(self) -> Generator[object, None, BoxInfo]:
        assert self._look is not None
        return self._look().__await__()


@dataclass(frozen=True)
class ImageInfo:
    """An image that is here. ``id`` is the digest of its configuration,
    ``cached_at`` a time as in RFC 3339."""

    reference: str
    repository: str
    tag: str
    id: str
    cached_at: str
    size_bytes: int | None = None


@dataclass(frozen=True)
class ImagePullResult:
    """An image that was pulled."""

    reference: str
    config_digest: str
    layer_count: int


@dataclass(frozen=True)
class VolumeInfo:
    """A named volume. ``created_at`` is as in RFC 3339."""

    id: str
    name: str
    created_at: str
    size_bytes: int | None = None


def box_info(v: object) -> BoxInfo:
    """A box of the wire."""
    w = as_dict(v)
    id = as_str(w.get("box_id"))
    if not id:
        raise fail(NetworkError, "the server's answer makes no sense: a box without an id")
    status = as_str(w.get("status"), "unknown")
    return BoxInfo(
        id=id,
        name=as_str(w.get("name")) or None,
        state=BoxStateInfo(status, status == "running", maybe_int(w.get("pid"))),
        created_at=as_str(w.get("created_at")),
        image=as_str(w.get("image")),
        cpus=as_int(w.get("cpus")),
        memory_mib=as_int(w.get("memory_mib")),
        started_at=as_str(w.get("started_at")) or None,
        network=_network(w.get("network")),
        auto_stop=as_int(w.get("auto_stop")),
        auto_delete=as_int(w.get("auto_delete")),
        auto_resume=w.get("auto_resume") is not False,
        health_status=_health(w.get("health_status")),
        exit_code=maybe_int(w.get("exit_code")),
        labels={k: as_str(x) for k, x in as_dict(w.get("labels")).items()},
        detach=bool(w.get("detach")),
        auto_remove=bool(w.get("auto_remove")),
        reason=as_str(w.get("reason")) or None,
    )


def _health(v: object) -> HealthStatus:
    w = as_dict(v)
    state = as_str(w.get("state"))
    return HealthStatus(
        state=HealthState(state if state in ("starting", "healthy", "unhealthy") else "none"),
        failures=as_int(w.get("failures")),
        last_check=as_str(w.get("last_check")) or None,
    )


def _network(v: object) -> NetworkInfo | None:
    if not isinstance(v, dict):
        return None
    w = as_dict(v)
    ports = w.get("published_ports")
    return NetworkInfo(
        outbound=_direction(w.get("outbound")),
        inbound=_direction(w.get("inbound")),
        published_ports=None if ports is None else tuple(_published(p) for p in as_list(ports)),
    )


def _direction(v: object) -> NetworkDirectionInfo:
    w = as_dict(v)
    return NetworkDirectionInfo(
        mode=as_str(w.get("mode"), "enabled"),
        allow_net=tuple(as_str(r) for r in as_list(w.get("allow_net"))),
        deny_net=tuple(as_str(r) for r in as_list(w.get("deny_net"))),
    )


def _published(v: object) -> PublishedPort:
    w = as_dict(v)
    return PublishedPort(
        guest_port=as_int(w.get("guest_port")),
        host_port=as_int(w.get("host_port")),
        host_ip=as_str(w.get("host_ip")) or "127.0.0.1",
        protocol=as_str(w.get("protocol")) or "tcp",
    )


def live_info(info: BoxInfo, look: Callable[[], Awaitable[BoxInfo]]) -> LiveBoxInfo:
    """What is known of a box, with the way to know more."""
    live = LiveBoxInfo.__new__(LiveBoxInfo)
    vars(live).update(vars(info), _look=look)
    return live


def image_info(v: object) -> ImageInfo:
    """An image of the wire."""
    w = as_dict(v)
    return ImageInfo(
        reference=as_str(w.get("reference")),
        repository=as_str(w.get("repository")),
        tag=as_str(w.get("tag")),
        id=as_str(w.get("id")),
        cached_at=as_str(w.get("cached_at")),
        size_bytes=maybe_int(w.get("size_bytes")),
    )


def volume_info(v: object) -> VolumeInfo:
    """A volume of the wire."""
    w = as_dict(v)
    return VolumeInfo(
        id=as_str(w.get("id")),
        name=as_str(w.get("name")),
        created_at=as_str(w.get("created_at")),
        size_bytes=maybe_int(w.get("size_bytes")),
    )
