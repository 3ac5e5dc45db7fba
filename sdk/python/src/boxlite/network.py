"""What a box may reach, and what it may use without seeing it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .errors import InvalidArgumentError, fail

_MODES = ("enabled", "disabled")


@dataclass
class NetworkDirection:
    """One direction of the network of a box.

    ``mode`` is "enabled" or "disabled". Where ``allow_net`` has names,
    addresses or networks ("api.example.com", "*.example.com", "10.1.0.0/16"),
    nothing else is reached; ``deny_net`` goes before it.
    """

    mode: str = "enabled"
    allow_net: Sequence[str] = ()
    deny_net: Sequence[str] = ()

    def _wire(self, name: str) -> dict[str, object]:
        if self.mode not in _MODES:
            raise fail(InvalidArgumentError, f'network.{name}.mode {self.mode!r}: give "enabled" or "disabled"')
        wire: dict[str, object] = {"mode": self.mode}
        for field_name, rules in (("allow_net", self.allow_net), ("deny_net", self.deny_net)):
            if isinstance(rules, str):
                raise TypeError(f"network.{name}.{field_name}: give a list of strings, not one string")
            if not rules:
                continue
            if self.mode == "disabled":
                raise fail(InvalidArgumentError, f'network.{name}.mode="disabled" is incompatible with {field_name}')
            wire[field_name] = list(rules)
        return wire


class NetworkSpec:
    """What a box may reach.

    Without one a box reaches the public internet, and nothing of the host and
    its networks. ``mode="disabled"`` leaves it the loopback device alone.
    Either give ``mode`` and ``allow_net``, which concern what goes out, or
    ``outbound`` and ``inbound``.
    """

    def __init__(
        self,
        mode: str | None = None,
        allow_net: Sequence[str] = (),
        *,
        deny_net: Sequence[str] = (),
        outbound: NetworkDirection | None = None,
        inbound: NetworkDirection | None = None,
    ) -> None:
        if outbound is not None and (mode is not None or allow_net or deny_net):
            raise fail(InvalidArgumentError, "network: give outbound, or mode and allow_net, not both")
        if inbound is not None and (inbound.allow_net or inbound.deny_net):
            raise fail(InvalidArgumentError, "network.inbound.allow_net: must be empty")
        self.outbound = outbound or NetworkDirection(mode or "enabled", allow_net, deny_net)
        self.inbound = inbound
        self._wire()  # what is wrong is said where it was written

    @property
    def mode(self) -> str:
        """Mode of what goes out."""
        return self.outbound.mode

    @property
    def allow_net(self) -> list[str]:
        """What may be reached; empty is no list, so all but private addresses."""
        return list(self.outbound.allow_net)

    def __repr__(self) -> str:
        return f"NetworkSpec(outbound={self.outbound!r}, inbound={self.inbound!r})"

    def _wire(self) -> dict[str, object]:
        wire: dict[str, object] = {"outbound": self.outbound._wire("outbound")}
        if self.inbound is not None:
            wire["inbound"] = self.inbound._wire("inbound")
        return wire


@dataclass
class Secret:
    """A value that a box may use without seeing it.

    The box finds ``placeholder`` in the variable ``BOXLITE_SECRET_<NAME>``. In
    requests over TLS to one of ``hosts`` it is replaced by ``value``, outside
    the box.
    """

    name: str
    value: str = field(repr=False)
    hosts: list[str] = field(default_factory=list)
    placeholder: str | None = None

    def get_placeholder(self) -> str:
        """What stands for the value in the box."""
        return self.placeholder or f"<BOXLITE_SECRET:{self.name}>"

    def __repr__(self) -> str:
        return f"Secret(name={self.name!r}, value=<redacted>, hosts={self.hosts!r}, placeholder={self.placeholder!r})"

    def _wire(self) -> dict[str, object]:
        return {
            "name": self.name,
            "value": self.value,
            "hosts": list(self.hosts),
            "placeholder": self.get_placeholder(),
        }
