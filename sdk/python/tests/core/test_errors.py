"""Errors: one class and one prefix for each word of the wire."""

from __future__ import annotations

import pytest

import boxlite
from boxlite.errors import from_wire


@pytest.mark.parametrize(
    ("code", "kind", "text"),
    [
        ("invalid_argument", boxlite.InvalidArgumentError, "invalid argument: x"),
        ("unsupported", boxlite.UnsupportedError, "unsupported: x"),
        ("unauthenticated", boxlite.ConfigError, "configuration error: auth: x"),
        ("permission_denied", boxlite.ConfigError, "configuration error: auth: x"),
        ("not_found", boxlite.NotFoundError, "box not found: x"),
        ("already_exists", boxlite.AlreadyExistsError, "already exists: x"),
        ("invalid_state", boxlite.InvalidStateError, "invalid state: x"),
        ("conflict", boxlite.InvalidStateError, "invalid state: x"),
        ("stopped", boxlite.StoppedError, "stopped: x"),
        ("session_reaped", boxlite.SessionReapedError, "session reaped: x"),
        ("payload_too_large", boxlite.ResourceExhaustedError, "resource exhausted: x"),
        ("image_pull_failed", boxlite.ImageError, "images error: x"),
        ("execution_failed", boxlite.ExecutionError, "Execution error: x"),
        ("resource_exhausted", boxlite.ResourceExhaustedError, "resource exhausted: x"),
        ("network_unavailable", boxlite.NetworkError, "network error: x"),
        ("upstream_unavailable", boxlite.PortalError, "portal error: x"),
        ("engine_unavailable", boxlite.EngineError, "engine reported an error: x"),
        ("storage_error", boxlite.StorageError, "storage error: x"),
        ("database_error", boxlite.DatabaseError, "database error: x"),
        ("metadata_error", boxlite.MetadataError, "metadata error: x"),
        ("config_error", boxlite.ConfigError, "configuration error: x"),
        ("internal", boxlite.InternalError, "internal error: x"),
        ("timeout", boxlite.InternalError, "internal error: server timed out: x"),
        ("teapot", boxlite.InternalError, "internal error: HTTP 418 teapot: x"),
    ],
)
def test_codes(code, kind, text):
    e = from_wire(418, code, "x", retry_after=3, request_id="r")
    assert type(e) is kind and str(e) == e.message == text
    assert isinstance(e, boxlite.BoxliteError) and isinstance(e, RuntimeError)
    assert (e.code, e.status, e.retry_after, e.request_id) == (code, 418, 3, "r")


def test_what_is_not_found_is_not_always_a_box():
    assert str(from_wire(404, "not_found", "no file", missing="storage error: ")) == "storage error: no file"
    assert str(from_wire(404, "not_found", 'no box "a"', missing="storage error: ")) == 'box not found: no box "a"'


def test_exec_error():
    e = boxlite.ExecError("ls /x", 2, "no such file")
    assert str(e) == "Command 'ls /x' failed with exit code 2: no such file"
    assert (e.command, e.exit_code, e.stderr) == ("ls /x", 2, "no such file")
    assert isinstance(e, RuntimeError)
