"""A server elsewhere: over TLS, on IPv6, with a key; and what becomes of those
who use it when it is killed and comes back."""

from __future__ import annotations

import asyncio
import os
import pathlib
import socket
import ssl
import subprocess

import pytest

import boxlite


KEY = "test-key-0123456789abcdef"


class Served:
    """A server that can be killed and started again where it was."""

    def __init__(self, program: pathlib.Path, home: pathlib.Path, directory: pathlib.Path) -> None:
        command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=x -addext subjectAltName=IP:::1"
        self.key, self.cert = directory / "key", directory / "cert"
        subprocess.run([*command.split(), "-keyout", self.key, "-out", self.cert], check=True, capture_output=True)
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as free:
            self.port = free.getsockname()[1]
        self.command = [program, "--home", home, "serve", "--host", "::1", "--port", str(self.port), "--until-eof"]
        self.command += ["--log-format", "off", "--tls-cert", self.cert, "--tls-key", self.key]
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"BOXLITE_SERVE_API_KEY": KEY, "PATH": "/usr/bin:/bin"},
        )
        assert self.process.stdout and self.process.stdout.readline()

    def end(self, kill: bool = False) -> None:
        if kill:
            self.process.kill()
        self.process.communicate(timeout=60)

    def runtime(self, key: str = KEY, trusted: bool = True) -> boxlite.Boxlite:
        context = ssl.create_default_context(cafile=str(self.cert) if trusted else None)
        credential = boxlite.ApiKeyCredential(key)
        url = f"https://[::1]:{self.port}/"
        return boxlite.Boxlite.rest(boxlite.BoxliteRestOptions(url, credential, ssl_context=context))


@pytest.fixture(scope="module")
def served(program, home, tmp_path_factory):
    if not socket.has_ipv6:
        pytest.skip("needs IPv6")
    served = Served(program, home, tmp_path_factory.mktemp("served"))
    yield served
    served.end()


async def test_everything_over_tls(served, tmp_path):
    (tmp_path / "in").write_bytes(os.urandom(5_000_000))
    async with boxlite.SimpleBox("alpine:latest", runtime=served.runtime()) as box:
        assert (await box.exec("echo", "hello")).stdout == "hello\n"
        await box.copy_in(tmp_path / "in", "/srv/file")
        await box.copy_out("/srv/file", tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == (tmp_path / "in").read_bytes()
        same = await served.runtime().get(box.id)
        execution = await same.exec("wc", ["-c"])
        await execution.stdin().send_input(bytes(3_000_000))
        await execution.stdin().close()
        assert await execution.stdout().read() == "3000000\n"


async def test_who_may_not(served):
    with pytest.raises(boxlite.NetworkError, match="certificate verify failed"):
        await served.runtime(trusted=False).list_info()
    with pytest.raises(boxlite.ConfigError, match="^configuration error: auth: "):
        await served.runtime(key="another-key-0123456789abcdef").list_info()


async def test_a_server_that_comes_back(served):
    """A command in a detached box is followed on; all else is an error."""
    runtime = served.runtime()
    options = boxlite.BoxOptions(image="alpine:latest", auto_remove=False, detach=True)
    box = await runtime.create(options)
    try:
        execution = await box.exec("sh", ["-c", "echo before; read x; echo $x; exit 4"])
        out = execution.stdout()
        assert await out.__anext__() == "before\n"
        waiting = asyncio.ensure_future(execution.wait())
        await asyncio.sleep(0)
        served.end(kill=True)
        with pytest.raises(boxlite.NetworkError):
            await runtime.list_info()
        served.start()
        await asyncio.wait_for(execution.stdin().send_input(b"after\n"), 60)
        assert (await asyncio.wait_for(waiting, 60)).exit_code == 4
        assert await out.read() == "after\n"
        assert (await box.info()).state.running
    finally:
        await runtime.remove(box.id, force=True)
        runtime._api.close()
