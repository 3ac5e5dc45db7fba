"""Errors that the package raises.

Every error is a :class:`BoxliteError`, and with it a :class:`RuntimeError`.
The text of an error begins with a prefix that says its class
("box not found: ...") and that programs may match.
"""

from __future__ import annotations


class BoxliteError(RuntimeError):
    """What went wrong in boxlite, or between it and this program.

    ``code`` is the word for the class of error ("not_found", ...), for
    programs; ``status`` the HTTP status that came with it, 0 if none did;
    ``retry_after`` the seconds after which another attempt makes sense, None if
    that is not known; ``request_id`` finds the request in the server's log.
    """

    prefix = ""
    code = "internal"

    def __init__(
        self,
        message: str = "",
        *,
        code: str | None = None,
        status: int = 0,
        retry_after: float | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code
        self.status = status
        self.retry_after = retry_after
        self.request_id = request_id


class EngineError(BoxliteError):
    """The machine of a box, or the server that owns it, failed or is gone."""

    prefix = "engine reported an error: "
    code = "engine_unavailable"


class ConfigError(BoxliteError):
    """A setting of this program or of the server is wrong, keys included."""

    prefix = "configuration error: "
    code = "config_error"


class StorageError(BoxliteError):
    """A file could not be read or written, in the box or on the host."""

    prefix = "storage error: "
    code = "storage_error"


class ImageError(BoxliteError):
    """An image could not be found, pulled or used."""

    prefix = "images error: "
    code = "image_pull_failed"


class PortalError(BoxliteError):
    """The server could not reach what it stands in front of."""

    prefix = "portal error: "
    code = "upstream_unavailable"


class NetworkError(BoxliteError):
    """The server could not be reached, or broke off, or made no sense."""

    prefix = "network error: "
    code = "network_unavailable"


class RpcError(BoxliteError):
    """The agent in the box and the server did not understand each other."""

    prefix = "gRPC/tonic error: "
    code = "rpc_error"


class InternalError(BoxliteError):
    """A bug of the server, or something that it has no word for."""

    prefix = "internal error: "
    code = "internal"


class ExecutionError(BoxliteError):
    """A command could not be started, or not be followed."""

    prefix = "Execution error: "
    code = "execution_failed"


class UnsupportedError(BoxliteError):
    """The server, or the engine of the box, cannot do this."""

    prefix = "unsupported: "
    code = "unsupported"


class NotFoundError(BoxliteError):
    """There is no such box, image, volume, execution or file."""

    prefix = "box not found: "
    code = "not_found"


class AlreadyExistsError(BoxliteError):
    """The name is taken, or the file is there already."""

    prefix = "already exists: "
    code = "already_exists"


class InvalidStateError(BoxliteError):
    """The box, the execution or the handle is not in a state for this."""

    prefix = "invalid state: "
    code = "invalid_state"


class DatabaseError(BoxliteError):
    """The server's list of boxes could not be read or written."""

    prefix = "database error: "
    code = "database_error"


class MetadataError(BoxliteError):
    """What the server keeps beside a box could not be read."""

    prefix = "metadata error: "
    code = "metadata_error"


class InvalidArgumentError(BoxliteError):
    """An argument or an option has a value that makes no sense."""

    prefix = "invalid argument: "
    code = "invalid_argument"


class StoppedError(BoxliteError):
    """The runtime has been shut down."""

    prefix = "stopped: "
    code = "stopped"


class ResourceExhaustedError(BoxliteError):
    """A bound of the server was met; see ``retry_after``."""

    prefix = "resource exhausted: "
    code = "resource_exhausted"


class SessionReapedError(BoxliteError):
    """The server gave up a command that nobody followed."""

    prefix = "session reaped: "
    code = "session_reaped"


class ExecError(BoxliteError):
    """A command of one of the convenience boxes failed.

    ``command`` is what ran, ``exit_code`` how it ended, ``stderr`` what it
    wrote on standard error.
    """

    code = "exec_failed"

    def __init__(self, command: str, exit_code: int, stderr: str) -> None:
        super().__init__(f"Command '{command}' failed with exit code {exit_code}: {stderr}")
        self.command = command
        self.exit_code = exit_code
        self.stderr = stderr


class TimeoutError(BoxliteError):
    """Something did not happen in the time that was given."""

    code = "timeout"


class ParseError(BoxliteError):
    """Output of a command was not what it should have been."""

    code = "parse_error"


_BY_CODE: dict[str, type[BoxliteError]] = {
    c.code: c
    for c in (
        EngineError,
        ConfigError,
        StorageError,
        ImageError,
        PortalError,
        NetworkError,
        RpcError,
        InternalError,
        ExecutionError,
        UnsupportedError,
        NotFoundError,
        AlreadyExistsError,
        InvalidStateError,
        DatabaseError,
        MetadataError,
        InvalidArgumentError,
        StoppedError,
        ResourceExhaustedError,
        SessionReapedError,
    )
}
_BY_CODE["conflict"] = InvalidStateError
_BY_CODE["payload_too_large"] = ResourceExhaustedError


def fail(kind: type[BoxliteError], message: str) -> BoxliteError:
    """The error of a kind, its prefix before the message."""
    return kind(kind.prefix + message)


def from_wire(
    status: int,
    code: str,
    message: str,
    *,
    retry_after: float | None = None,
    request_id: str | None = None,
    missing: str = NotFoundError.prefix,
) -> BoxliteError:
    """The error that a server answered with. This is the one place that knows
    which code is which class. ``missing`` is the prefix of what was not found,
    where that is no box."""
    kind = _BY_CODE.get(code)
    if message.startswith("no box "):
        missing = NotFoundError.prefix
    if kind is not None:
        text = (missing if kind is NotFoundError else kind.prefix) + message
    elif code in ("unauthenticated", "permission_denied"):
        kind, text = ConfigError, f"{ConfigError.prefix}auth: {message}"
    elif code == "timeout":
        kind, text = InternalError, f"{InternalError.prefix}server timed out: {message}"
    else:
        kind, text = InternalError, f"{InternalError.prefix}HTTP {status} {code}: {message}"
    return kind(text, code=code, status=status, retry_after=retry_after, request_id=request_id)
