"""Where a runtime is, and who one is there."""

from __future__ import annotations

import os
import ssl
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from .errors import ConfigError, fail


class ImageRegistry:
    """How to talk to one registry of images.

    ``transport`` is "https" or "http"; ``search`` says that it is asked for
    images whose reference names no registry. A bearer token goes before a
    username and password. Settings that make no sense raise ConfigError.
    """

    def __init__(
        self,
        host: str,
        transport: str = "https",
        skip_verify: bool = False,
        search: bool = False,
        username: str | None = None,
        password: str | None = None,
        bearer_token: str | None = None,
    ) -> None:
        if not host:
            raise ConfigError("image registry host is required")
        if "/" in host:
            raise ConfigError(f"image registry host must be host[:port], not a URL: {host}")
        if transport not in ("https", "http", ""):
            raise ConfigError(f"unsupported registry transport: {transport}")
        if (username is None) != (password is None):
            raise ConfigError("registry username and password must be provided together")
        self.host = host
        self.transport = transport or "https"
        self.skip_verify = skip_verify
        self.search = search
        self.username = username
        self.password = password
        self.bearer_token = bearer_token

    def __repr__(self) -> str:
        auth = "bearer" if self.bearer_token else "basic" if self.username else "anonymous"
        return f"ImageRegistry(host={self.host!r}, transport={self.transport!r}, search={self.search}, auth={auth})"

    def _wire(self) -> dict[str, object]:
        wire: dict[str, object] = {
            "host": self.host,
            "transport": self.transport,
            "skip_verify": self.skip_verify,
            "search": self.search,
        }
        if self.bearer_token:
            wire["auth"] = {"type": "bearer", "token": self.bearer_token}
        elif self.username:
            wire["auth"] = {"type": "basic", "username": self.username, "password": self.password}
        return wire


@dataclass
class Options:
    """Where a local runtime keeps its boxes and where images come from.

    ``home_dir`` None is ``$BOXLITE_HOME``, or ``~/.boxlite``. Any number of
    runtimes and programs may use one home at once.
    """

    home_dir: str | None = None
    image_registries: list[ImageRegistry] = field(default_factory=list)


@dataclass(frozen=True)
class AccessToken:
    """What a server is shown. ``expires_at`` is in seconds since 1970, or None
    for never."""

    token: str = field(repr=False)
    expires_at: float | None = None


class Credential(ABC):
    """Who gives the token for each request. Subclass it, or register a class
    that has ``get_token``."""

    @abstractmethod
    def get_token(self) -> AccessToken:
        """The token to show now. It is asked for before each request, from the
        event loop: keep it, and do not wait for anything."""


class ApiKeyCredential(Credential):
    """A key that stays the same."""

    def __init__(self, key: str) -> None:
        if not key or key != key.strip() or any(not " " < c <= "~" for c in key):
            raise fail(ConfigError, "an API key is printable characters without spaces")
        self._key = key

    @staticmethod
    def from_env() -> ApiKeyCredential | None:
        """The key in ``$BOXLITE_API_KEY``; None if there is none."""
        key = os.environ.get("BOXLITE_API_KEY")
        return ApiKeyCredential(key) if key else None

    def get_token(self) -> AccessToken:
        """The key."""
        return AccessToken(self._key)

    def __repr__(self) -> str:
        return "ApiKeyCredential(****)"


class BoxliteRestOptions:
    """Where a server is.

    ``url`` is "http://host:port" or "https://host:port", with a path where the
    server is behind one, or "unix:///path" for a server of this user on this
    machine. ``path_prefix`` stands between /v1
    and the rest of each path. ``ssl_context`` replaces the default one, for
    servers whose certificate this machine does not know.
    """

    def __init__(
        self,
        url: str,
        credential: Credential | None = None,
        path_prefix: str | None = None,
        *,
        prefix: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        if not url:
            raise fail(ConfigError, "the url of the server is missing")
        self.url = url
        self.credential = credential
        self.path_prefix = path_prefix or prefix
        self.ssl_context = ssl_context

    @staticmethod
    def from_env() -> BoxliteRestOptions:
        """From ``$BOXLITE_REST_URL``, which must be there, ``$BOXLITE_API_KEY``
        and ``$BOXLITE_REST_PATH_PREFIX``."""
        url = os.environ.get("BOXLITE_REST_URL")
        if not url:
            raise fail(ConfigError, "BOXLITE_REST_URL is not set")
        prefix = os.environ.get("BOXLITE_REST_PATH_PREFIX") or os.environ.get("BOXLITE_REST_PREFIX")
        return BoxliteRestOptions(url, ApiKeyCredential.from_env(), prefix or None)

    def __repr__(self) -> str:
        return f"BoxliteRestOptions(url={self.url!r}, credential={self.credential!r}, path_prefix={self.path_prefix!r})"
