"""What bounds the commands of a box."""

from __future__ import annotations

from dataclasses import dataclass, field

from .errors import InvalidArgumentError, fail

_LIMITS = ("max_open_files", "max_file_size", "max_processes", "max_memory", "max_cpu_time")


@dataclass
class SecurityOptions:
    """Limits of what runs in a box, and whether it has a network.

    The limits hold for each command in the box and all that it starts, root
    included; None is no limit of its own. They may be changed until the box is
    created.

    ``jailer_enabled``, ``seccomp_enabled`` and ``close_fds`` are there for
    programs written for BoxLite: the process that carries a box is always
    confined, filtered and given no descriptors, whatever they say.
    """

    jailer_enabled: bool = False
    seccomp_enabled: bool = False
    max_open_files: int | None = None
    """Descriptors a process may have open."""
    max_file_size: int | None = None
    """Bytes of the largest file that may be written."""
    max_processes: int | None = None
    """Processes and threads of one command."""
    max_memory: int | None = None
    """Bytes of address space of one process."""
    max_cpu_time: int | None = None
    """Seconds of processor time of one process."""
    network_enabled: bool = True
    """False leaves the box its loopback device alone, on every platform."""
    close_fds: bool = True

    @staticmethod
    def development() -> SecurityOptions:
        """No limits: to find out whether one is in the way."""
        return SecurityOptions(close_fds=False)

    @staticmethod
    def standard() -> SecurityOptions:
        """The boundary of the box, without limits per command."""
        return SecurityOptions(jailer_enabled=True, seccomp_enabled=True)

    @staticmethod
    def maximum() -> SecurityOptions:
        """For code that nobody trusts: 1024 open files, files of at most 1 GiB,
        100 processes."""
        return SecurityOptions(
            jailer_enabled=True,
            seccomp_enabled=True,
            max_open_files=1024,
            max_file_size=1 << 30,
            max_processes=100,
        )

    def _wire(self) -> dict[str, object]:
        wire: dict[str, object] = {}
        for name in _LIMITS:
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
                raise fail(InvalidArgumentError, f"security.{name} {value!r}: give a whole number above 0, or None")
            wire[name] = value
        if not self.network_enabled:
            wire["network_enabled"] = False
        return wire


@dataclass
class HealthCheckOptions:
    """How a running box is asked whether it is well: whether what runs its
    commands answers. All times are whole seconds, at most 86400.

    What comes of it is in :attr:`BoxInfo.health_status`, and nothing else: the
    box is neither restarted nor stopped. A box that is silent for about a minute
    fails, with these options or without; to see it unhealthy before that,
    ``retries`` intervals and timeouts must be shorter.
    """

    interval: int = 30
    """Time from the start to the first check, and from each to the next; at
    least 1."""
    timeout: int = 10
    """Time that an answer may take, at least 1."""
    retries: int = 3
    """Failures in a row that make a box unhealthy, 1 to 100."""
    start_period: int = 60
    """Time after the start in which failures do not count, until a check has
    succeeded; 0 for none."""

    def _wire(self) -> dict[str, object]:
        wire: dict[str, object] = {}
        for name in ("interval", "timeout", "retries", "start_period"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise fail(InvalidArgumentError, f"advanced.health_check.{name} {value!r}: give a whole number")
            wire[name] = value
        return wire


@dataclass
class ContainerCapabilities:
    """Linux capabilities of root in a box, by name: with or without "CAP_", in
    any case. A box begins with those that Docker gives.

    What is in ``drop``, or "ALL", no command of the box has, whoever it runs
    as; such a box has no user namespaces. ``add`` names what is kept where
    ``drop`` says "ALL"; creating a box with others than Docker's raises
    UnsupportedError, one with a name that is none InvalidArgumentError.
    """

    add: list[str] = field(default_factory=list)
    drop: list[str] = field(default_factory=list)

    def _wire(self) -> dict[str, object]:
        return {"add": list(self.add), "drop": list(self.drop)}


@dataclass
class AdvancedBoxOptions:
    """Options that few boxes need. ``security`` may as well be given to
    :class:`BoxOptions` itself."""

    security: SecurityOptions | None = None
    health_check: HealthCheckOptions | None = None
    capabilities: ContainerCapabilities | None = None
