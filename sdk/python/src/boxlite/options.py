"""Options of boxes and of copies."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Union

from .errors import InvalidArgumentError, fail
from .network import NetworkSpec, Secret
from .security import AdvancedBoxOptions, SecurityOptions

if TYPE_CHECKING:
    from typing import TypeAlias

#: ``(host, guest)``, ``(host, guest, read_only)`` with "ro", "rw" or a bool, or
#: a dict with ``host`` (or ``host_path``, or ``managed_volume``), ``guest`` (or
#: ``guest_path``) and ``read_only`` (or ``ro``).
Volume: TypeAlias = Union[
    "tuple[str | os.PathLike[str], str]",
    "tuple[str | os.PathLike[str], str, str | bool]",
    "Mapping[str, object]",
]
#: ``(host, guest)``, ``(host, guest, protocol)``, ``(host, guest, protocol,
#: host_ip)``, or a dict with ``guest_port`` (or ``guest``), ``host_port`` (or
#: ``host``; none lets the host choose), ``protocol`` and ``host_ip``.
Port: TypeAlias = Union["tuple[int, int]", "tuple[int, int, str]", "tuple[int, int, str, str]", "Mapping[str, object]"]
#: Variables, as ``[(key, value), ...]`` or as a dict.
Env: TypeAlias = Union["Sequence[tuple[str, str]]", "Mapping[str, str]"]


@dataclass(kw_only=True, eq=False, repr=False)
class BoxOptions:
    """What box to create. Everything may be left out.

    ``image`` is a reference as docker takes it ("alpine:latest" if left out);
    it is pulled when the box is first used. ``rootfs_path`` is a directory or
    archive of the host used instead. ``cpus`` (1), ``memory_mib`` (512) and
    ``disk_size_gb`` (10, in 1e9 bytes) are the most the box may use.
    ``working_dir`` is where commands run, made if missing; ``env`` is added to
    the image's; ``user`` is a name or uid, optionally with ":group".

    ``volumes`` and ``ports`` give the box directories and ports of the host:
    see :data:`Volume` and :data:`Port`. Ports are published on 127.0.0.1 unless
    ``host_ip`` says otherwise.

    ``auto_remove`` (true unless said otherwise) deletes the box, with all it
    wrote, when it stops. ``auto_delete`` replaces it: 0 keeps the box, more
    removes it: at its stop, or on a server that many seconds after it.
    ``auto_stop`` stops a box that many seconds after its last use. ``detach``
    lets the box outlive this program, and needs ``auto_remove=False``.
    ``auto_resume=False`` makes use of a stopped box an error, instead of
    starting it again.

    With ``entrypoint`` or ``cmd`` the box is a job: its main command runs from
    ``start()`` on, on a terminal with ``tty``, and the box stops when that
    ends.

    ``security`` bounds what runs in the box; it may also be in ``advanced``,
    beside what few boxes need: see :class:`AdvancedBoxOptions`.

    Raises InvalidArgumentError for what makes no sense, here or when the box is
    created.
    """

    image: str | None = None
    rootfs_path: str | None = None
    cpus: int | None = None
    memory_mib: int | None = None
    disk_size_gb: int | None = None
    working_dir: str | None = None
    env: Env = ()
    volumes: Sequence[Volume] = ()
    network: NetworkSpec | None = None
    ports: Sequence[Port] = ()
    auto_remove: bool | None = None
    detach: bool | None = None
    entrypoint: Sequence[str] | None = None
    cmd: Sequence[str] | None = None
    user: str | None = None
    advanced: AdvancedBoxOptions | None = None
    secrets: Sequence[Secret] = ()
    auto_stop: int | None = None
    auto_delete: int | None = None
    auto_resume: bool | None = None
    tty: bool = False
    security: SecurityOptions | None = None
    labels: Mapping[str, str] | None = None
    hostname: str | None = None

    def __post_init__(self) -> None:
        if self.network is not None and not isinstance(self.network, NetworkSpec):
            raise TypeError(f"network: give a NetworkSpec, not {type(self.network).__name__}")
        # What is wrong is said where it was written.
        self.volumes = [_volume(v) for v in self.volumes]
        self.ports = [_port(p) for p in self.ports]

    def __repr__(self) -> str:
        given = {k: v for k, v in vars(self).items() if v not in (None, (), [], False)}
        return f"BoxOptions({', '.join(f'{k}={v!r}' for k, v in given.items())})"

    @property
    def removes_on_stop(self) -> bool:
        """Whether the box is deleted when it stops."""
        if self.auto_delete is not None:
            return self.auto_delete > 0
        return self.auto_remove is not False

    def _wire(self, *, local: bool) -> dict[str, object]:
        """The body of the request that creates the box. A local box whose
        ``auto_delete`` is more than 0 goes when it stops; a server counts."""
        wire: dict[str, object] = {}
        # rootfs_path goes before image, so that a default image does no harm.
        for name in ("cpus", "memory_mib", "disk_size_gb", "working_dir", "user", "hostname"):
            if getattr(self, name) is not None:
                wire[name] = getattr(self, name)
        if self.rootfs_path:
            wire["rootfs_path"] = os.path.abspath(self.rootfs_path) if local else self.rootfs_path
        elif self.image:
            wire["image"] = self.image
        for name in ("entrypoint", "cmd"):
            if getattr(self, name):
                wire[name] = _strings(name, getattr(self, name))
        if self.env:
            wire["env"] = env_wire(self.env)
        if self.tty:
            wire["tty"] = True
        if self.labels:
            wire["labels"] = dict(self.labels)
        if self.volumes:
            wire["volumes"] = [_located(_volume(v)) if local else _volume(v) for v in self.volumes]
        if self.secrets:
            wire["secrets"] = [s._wire() for s in self.secrets]
        self._lifetime(wire, local)
        self._confine(wire)
        self._connect(wire)
        return wire

    def _lifetime(self, wire: dict[str, object], local: bool) -> None:
        if self.auto_stop is not None and self.auto_stop < 0:
            raise fail(InvalidArgumentError, f"auto_stop {self.auto_stop}: give seconds, or 0 for never")
        if self.detach and self.removes_on_stop:
            raise fail(
                InvalidArgumentError,
                "remove-on-stop is incompatible with detach=true. Set auto_remove=False to keep the box",
            )
        wire["detach"] = bool(self.detach)
        if self.auto_stop:
            wire["auto_stop"] = self.auto_stop
        if self.auto_resume is not None:
            wire["auto_resume"] = self.auto_resume
        if self.auto_delete and not local:
            wire["auto_delete"] = self.auto_delete
        elif self.removes_on_stop:
            wire["auto_remove"] = True

    def _confine(self, wire: dict[str, object]) -> None:
        security = self.security
        if self.advanced is not None:
            if security is not None and self.advanced.security is not None:
                raise fail(InvalidArgumentError, "security and advanced.security: give one")
            security = security or self.advanced.security
            advanced: dict[str, object] = {}
            if self.advanced.health_check is not None:
                advanced["health_check"] = self.advanced.health_check._wire()
            if self.advanced.capabilities is not None:
                advanced["capabilities"] = self.advanced.capabilities._wire()
            if advanced:
                wire["advanced"] = advanced
        if security is not None and (limits := security._wire()):
            wire["security"] = limits

    def _connect(self, wire: dict[str, object]) -> None:
        if self.network is not None:
            wire["network"] = self.network._wire()
            if self.network.mode == "disabled" and self.ports:
                raise fail(InvalidArgumentError, 'ports require network.outbound.mode="enabled"')
        if self.ports:
            wire["ports"] = [_port(p) for p in self.ports]


@dataclass
class CopyOptions:
    """How to copy. The defaults are those of ``docker cp``.

    ``recursive`` False refuses directories; ``overwrite`` False fails rather
    than replace a file; ``follow_symlinks`` copies what links of the source
    point at; ``include_parent`` False copies what is in a directory instead of
    the directory itself.
    """

    recursive: bool = True
    overwrite: bool = True
    follow_symlinks: bool = False
    include_parent: bool = True


def env_wire(env: Env) -> dict[str, str]:
    """Variables as the wire has them. The last of several with one name wins."""
    pairs = env.items() if isinstance(env, Mapping) else env
    wire: dict[str, str] = {}
    for pair in pairs:
        if isinstance(pair, str) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise fail(InvalidArgumentError, f"env {pair!r}: give (key, value), both strings")
        key, value = pair
        if not key or "=" in key or "\0" in key + value:
            raise fail(
                InvalidArgumentError, f"env {key!r}: a key is not empty and has no '='; neither part has a zero byte"
            )
        wire[key] = value
    return wire


def _strings(name: str, values: Sequence[str]) -> list[str]:
    if isinstance(values, str):
        raise TypeError(f"{name}: give a list of strings, not one string")
    return list(values)


_ACCESS: dict[object, bool] = {"ro": True, "rw": False, True: True, False: False}


def _volume(v: Volume) -> dict[str, object]:
    """A volume as the wire has it, whichever way it was given."""
    if isinstance(v, Mapping):
        known = {"host", "host_path", "managed_volume", "guest", "guest_path", "read_only", "ro"}
        if unknown := set(v) - known:
            raise fail(InvalidArgumentError, f"volume {v!r}: unknown key {sorted(unknown)[0]!r}")
        host, guest = v.get("host", v.get("host_path")), v.get("guest", v.get("guest_path"))
        managed, access = v.get("managed_volume"), v.get("read_only", v.get("ro", False))
        if (host is None) == (managed is None):
            raise fail(InvalidArgumentError, f"volume {v!r}: give one of host and managed_volume")
    elif isinstance(v, (tuple, list)) and len(v) in (2, 3):
        parts: list[object] = [*v, False]
        host, guest, managed, access = parts[0], parts[1], None, parts[2]
    else:
        raise fail(InvalidArgumentError, f"volume {v!r}: give (host, guest), (host, guest, 'ro' or 'rw'), or a dict")
    if not isinstance(access, (str, bool)) or access not in _ACCESS:
        raise fail(InvalidArgumentError, f"volume {v!r}: {access!r} is neither 'ro' nor 'rw' nor a bool")
    if not isinstance(guest, str):
        raise fail(InvalidArgumentError, f"volume {v!r}: the path in the box is missing")
    wire: dict[str, object] = {"guest_path": guest, "read_only": _ACCESS[access]}
    if managed is not None:
        wire["managed_volume"] = str(managed)
    elif isinstance(host, (str, os.PathLike)):
        wire["host_path"] = os.fspath(host)
    else:
        raise fail(InvalidArgumentError, f"volume {v!r}: {host!r} is no path")
    return wire


def _located(v: dict[str, object]) -> dict[str, object]:
    """A volume with its host path made absolute: here it means this host."""
    if "host_path" not in v:
        return v
    return {**v, "host_path": os.path.abspath(str(v["host_path"]))}


def _port(p: Port) -> dict[str, object]:
    """A port as the wire has it, whichever way it was given."""
    if isinstance(p, Mapping):
        known = {"guest", "guest_port", "host", "host_port", "protocol", "host_ip"}
        if unknown := set(p) - known:
            raise fail(InvalidArgumentError, f"port {p!r}: unknown key {sorted(unknown)[0]!r}")
        guest, host = p.get("guest_port", p.get("guest")), p.get("host_port", p.get("host"))
        protocol, ip = p.get("protocol"), p.get("host_ip")
    elif isinstance(p, (tuple, list)) and 2 <= len(p) <= 4:
        host, guest, protocol, ip = (*p, None, None)[:4]
    else:
        raise fail(InvalidArgumentError, f"port {p!r}: give (host, guest), (host, guest, protocol, host_ip), or a dict")
    wire: dict[str, object] = {"guest_port": _number(p, guest, 1), "host_port": _number(p, host or 0, 0)}
    if protocol is not None:
        if protocol not in ("tcp", "udp"):
            raise fail(InvalidArgumentError, f"port {p!r}: protocol {protocol!r}: give 'tcp' or 'udp'")
        wire["protocol"] = protocol
    if ip is not None:
        wire["host_ip"] = str(ip)
    return wire


def _number(p: Port, value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= 65535:
        raise fail(InvalidArgumentError, f"port {p!r}: {value!r} is no port number")
    return value
