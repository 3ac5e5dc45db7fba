"""Requests to a server of boxlite, local or not, and what its answers mean."""

from __future__ import annotations

import asyncio
import json as jsonlib
import os
import re
from collections.abc import Mapping
from typing import NoReturn, Protocol
from urllib.parse import quote, urlencode, urlsplit

from ._http import BadAnswer, Body, Pool, Request, Response, send
from ._server import PrivateServer
from ._wire import Address
from ._ws import Refused, WebSocket, open_socket
from .connection import BoxliteRestOptions, Credential, Options
from .errors import BoxliteError, ConfigError, InvalidStateError, NetworkError, NotFoundError, fail, from_wire
from .info import as_dict, as_list, as_str

#: Seconds for the answer to a question that changes nothing.
QUICK = 60.0
#: The most an error may take, in bytes.
_MAX_ERROR = 1 << 20
_URLS = "give http://HOST[:PORT], https://HOST[:PORT] or unix:///PATH"
_VISIBLE = re.compile("[!-~]*").fullmatch


class Connector(Protocol):
    """Where a server is, and what stands before /v1 there."""

    local: bool
    base: str

    @property
    def generation(self) -> int:
        """How often it was started again, as far as is known."""

    async def address(self) -> Address:
        """Where it listens now."""

    def gone(self) -> BoxliteError | None:
        """Why it is not there any more, if that is known."""


class Remote:
    """A server that somebody else runs."""

    local = False
    base = ""
    generation = 0

    def __init__(self, options: BoxliteRestOptions) -> None:
        try:
            url = urlsplit(options.url)
            port = url.port
            host = (url.hostname or "").encode("idna").decode()
        except ValueError:
            raise fail(ConfigError, f"url: {_URLS}") from None  # not the url: there may be a key in it
        if "@" in url.netloc:
            raise fail(ConfigError, f"url: it has a user in it; give a credential, and {_URLS}")
        known = url.scheme == "unix" and not url.netloc and url.path or url.scheme in ("http", "https") and host
        if not known or url.query or url.fragment:
            raise fail(ConfigError, f"url {options.url!r}: {_URLS}")
        if url.scheme == "unix":
            self._address = Address(path=url.path)
            return
        self.base = _printable("url", url.path).rstrip("/")
        tls = None
        if url.scheme == "https":
            import ssl

            tls = options.ssl_context or ssl.create_default_context()
        self._address = Address(host=host, port=port or (443 if tls else 80), tls=tls)

    async def address(self) -> Address:
        return self._address

    def gone(self) -> BoxliteError | None:
        return None


class Local:
    """The private server of this program."""

    local = True
    base = ""

    def __init__(self, options: Options) -> None:
        self.server = PrivateServer(options)

    @property
    def generation(self) -> int:
        return self.server.generation

    async def address(self) -> Address:
        return await self.server.address()

    def gone(self) -> BoxliteError | None:
        return self.server.gone()


class Api:
    """One server, asked in its own words. May be used from any event loop."""

    def __init__(self, connector: Connector, credential: Credential | None = None, prefix: str | None = None) -> None:
        self.connector = connector
        self._credential = credential
        prefix = _printable("path_prefix", prefix or "").strip("/")
        self._base = f"{connector.base}/v1/" + (prefix + "/" if prefix else "")
        self._prefixed = prefix != ""
        self._pool = Pool()
        self._pid = os.getpid()
        self._extensions: frozenset[str] | None = None

    def close(self) -> None:
        """Closes the connections that are kept."""
        self._pool.clear()

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        json: object = None,
        missing: str = NotFoundError.prefix,
    ) -> object:
        """Sends a request and returns the JSON of the answer, None if it has
        none. Raises what the server says is wrong."""
        headers: dict[str, str] = {}
        body: bytes | None = None
        if json is not None:
            headers["Content-Type"] = "application/json"
            body = jsonlib.dumps(json).encode()
        elif method in ("POST", "PUT"):
            body = b""
        timeout = QUICK if method == "GET" else None
        response = await self.open(
            method, path, query=query, headers=headers, body=body, missing=missing, timeout=timeout
        )
        async with response:
            try:
                raw = await response.read(timeout=QUICK)
                return decode(raw) if raw else None
            except (OSError, asyncio.TimeoutError) as e:
                self.lost(e)

    async def open(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | Body | None = None,
        missing: str = NotFoundError.prefix,
        timeout: float | None = None,
    ) -> Response:
        """Sends a request and returns the answer, whose body is to be read. The
        timeout is for its beginning."""
        request = self._request(method, path, query, headers, body)
        try:
            response = await send(self._pool, self.connector.address, request, timeout)
        except (OSError, asyncio.TimeoutError) as e:
            self.lost(e)
        if not 200 <= response.status < 300:
            async with response:
                raise await self._refusal(response, missing)
        return response

    async def socket(self, path: str, query: Mapping[str, str], missing: str) -> WebSocket:
        """Opens a WebSocket."""
        try:
            return await open_socket(self._pool, self.connector.address, self._request("GET", path, query, None, None))
        except Refused as e:
            async with e.response:
                raise await self._refusal(e.response, missing) from None
        except (OSError, asyncio.TimeoutError) as e:
            self.lost(e)

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        headers: Mapping[str, str] | None,
        body: bytes | Body | None,
    ) -> Request:
        if self._pid != os.getpid():
            self._pool = Pool()  # the connections are the parent's
            if not self.connector.local:
                raise fail(
                    InvalidStateError,
                    f"this runtime belongs to process {self._pid}, of which this one is a fork; make another here",
                )
        target = self._base + path
        if query:
            target += "?" + urlencode(query)
        all_headers = {"Accept": "*/*", **(headers or {})}
        if self._credential is not None:
            token = self._credential.get_token().token
            if not _VISIBLE(token):
                raise fail(ConfigError, "the token of the credential: a token is printable ASCII without spaces")
            all_headers["Authorization"] = "Bearer " + token
        return Request(method, target, all_headers, body)

    def lost(self, e: Exception, what: str = "the connection to the server failed") -> NoReturn:
        """Says what a broken connection means."""
        if isinstance(e, BoxliteError):
            raise e
        gone = self.connector.gone()
        if gone is not None:
            raise gone from e
        if isinstance(e, asyncio.TimeoutError):
            raise fail(NetworkError, "the server did not answer in time") from e
        if isinstance(e, BadAnswer):
            raise fail(NetworkError, f"the server's answer makes no sense: {e}") from e
        raise fail(NetworkError, f"{what}: {e}") from e

    async def _refusal(self, response: Response, missing: str) -> BoxliteError:
        try:
            raw = await response.read(_MAX_ERROR, QUICK)
        except (OSError, asyncio.TimeoutError):
            raw = b""
        try:
            error = as_dict(as_dict(decode(raw)).get("error"))
            code, message = str(error["code"]), str(error["message"])
        except (BadAnswer, KeyError):
            to = response.headers.get("location")
            return NetworkError(
                f"{NetworkError.prefix}upstream returned HTTP {response.status} {response.reason} "
                f"(no error envelope; {raw[:200].decode(errors='replace')!r})"
                + (f"; it sends us to {to!r}: give the url of the server itself" if to else ""),
                status=response.status,
            )
        after = response.headers.get("retry-after", "")
        return from_wire(
            response.status,
            code,
            message,
            missing=missing,
            retry_after=float(after) if after.isdecimal() else None,
            request_id=as_str(error.get("request_id")) or response.headers.get("x-request-id"),
        )

    async def extensions(self) -> frozenset[str]:
        """What the server can do beyond BoxLite's own. A server of another
        make can do none of it."""
        if self._extensions is None:
            config = (
                await Api(self.connector).call("GET", "config") if self._prefixed else await self.call("GET", "config")
            )
            self._extensions = frozenset(map(str, as_list(as_dict(config).get("extensions"))))
        return self._extensions


def _printable(name: str, text: str) -> str:
    """A part of a path that goes into requests as it is."""
    if not _VISIBLE(text) or "?" in text or "#" in text:
        raise fail(ConfigError, f"{name} {text!r}: a path is printable ASCII; write other characters as %XX")
    return text


def decode(raw: bytes) -> object:
    """What JSON says. Raises BadAnswer for what is none, and for lists in lists
    without end."""
    try:
        return jsonlib.loads(raw)
    except (ValueError, RecursionError) as e:
        raise BadAnswer(f"{e}: {raw[:100].decode(errors='replace')!r}") from None


def segment(text: str) -> str:
    """A text as one element of a path."""
    if text in (".", ".."):
        return text.replace(".", "%2E")
    return quote(text, safe="")
