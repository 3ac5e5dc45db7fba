"""The private server of this program: ``boxlite serve`` on a unix socket.

It is started when it is first needed and ends with this program, however that
ends: it reads a pipe that only this program holds. One that was killed is
started again at the next use.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import select
import signal
import stat
import subprocess
import threading
import time
import weakref

from ._threads import in_thread
from ._wire import Address, expire, wake
from .connection import Options
from .errors import BoxliteError, ConfigError, EngineError, InvalidStateError, StoppedError, fail

#: Seconds until a server that was started must take requests. It takes some 30
#: ms; a home that was left in disorder is cleared first.
_READY = 60.0
#: Seconds that the end of this program waits for the boxes to stop. Most take a
#: tenth of one; those in which something does not want to end are given ten,
#: which the server waits without us.
_EXIT = 3.0
#: Seconds in which the kernel closes all files of a process that has ended.
_CLOSING = 0.05

_servers: weakref.WeakSet[PrivateServer] = weakref.WeakSet()


class _Fd:
    """A descriptor that is open for as long as somebody has this."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __del__(self) -> None:
        os.close(self.fd)


class _Process(subprocess.Popen[bytes]):
    """One process of a server. Whoever waits for it has it, and learns what has
    become of it also when another has taken its place meanwhile."""

    def __init__(self, home: str, registries: list[dict[str, object]]) -> None:
        self.ready = False
        self.socket = os.path.join(_socket_dir(), f"{os.getpid()}-{os.urandom(6).hex()}.sock")
        argv = [find_binary(), "--home", home]
        debug = os.environ.get("BOXLITE_DEBUG", "") not in ("", "0", "false")
        self._log = None if debug else _Fd(_scratch(self.socket + ".log"))
        self._output, output = map(_Fd, os.pipe())
        config, registry = map(_Fd, os.pipe()) if registries else (None, None)
        if config is not None:
            argv += ["--config", f"/dev/fd/{config.fd}"]
        argv += ["serve", "--socket", self.socket, "--until-eof", "--log-format", "text" if debug else "off"]
        try:
            # A session of its own: a key pressed at the terminal is for this
            # program, which decides what becomes of its boxes.
            super().__init__(
                argv,
                stdin=subprocess.PIPE,
                stdout=output.fd,
                stderr=None if self._log is None else self._log.fd,
                start_new_session=True,
                pass_fds=() if config is None else (config.fd,),
            )
        except OSError as e:
            raise fail(EngineError, f"{argv[0]}: {e.strerror or e}") from e
        if registry is not None:
            _send(os.dup(registry.fd), {"image_registries": registries})

    async def wait_ready(self) -> None:
        """Waits until the server has said where it listens. Nobody reads that,
        so the pipe tells everybody."""
        fd = os.dup(self._output.fd)  # one loop may watch a descriptor for one task
        loop = asyncio.get_running_loop()
        fut: asyncio.Future[bool] = loop.create_future()
        loop.add_reader(fd, wake, fut)
        timer = loop.call_later(_READY, expire, fut)
        try:
            said = await fut
        finally:
            timer.cancel()
            loop.remove_reader(fd)
            os.close(fd)
        if self._says(select.POLLIN):
            self.ready = True
        elif not said:
            self.kill()
            raise fail(EngineError, f"the private server was not ready in {_READY:.0f} s{self._last_words()}")
        else:
            if not self.ended():
                self.kill()
                self.wait()
            raise self.ending()

    def _says(self, event: int, seconds: float = 0) -> bool:
        poll = select.poll()
        poll.register(self._output.fd, event)
        return any(e & (event or ~0) for _, e in poll.poll(1000 * seconds))

    def ended(self) -> bool:
        """Whether the process is gone, which is asked when a line to it broke.
        The kernel closes its files, in no certain order, a moment before it can
        be waited for."""
        if self.poll() is None and self._says(0, _CLOSING):
            try:
                self.wait(1)
            except subprocess.TimeoutExpired:
                pass
        return self.returncode is not None

    def ending(self) -> BoxliteError:
        """How the process ended."""
        return fail(EngineError, f"the private server {_ending(self.returncode)}{self._last_words()}")

    def _last_words(self) -> str:
        """The end of what the server has logged."""
        if self._log is None:
            return ""
        size = os.fstat(self._log.fd).st_size
        text = os.pread(self._log.fd, 2000, max(0, size - 2000)).decode(errors="replace").strip()
        return f": {text}" if text else ""

    def hang_up(self) -> None:
        """Lets the server know that nobody needs it any more."""
        assert self.stdin is not None
        try:
            self.stdin.close()
        except OSError:
            pass

    def abandon(self) -> None:
        """Leaves it to end by itself, later than this object."""
        self.hang_up()
        if self.returncode is None:
            self.returncode = 0


class PrivateServer:
    """A server over one home. It may be used from any thread, and from no
    process but the one that made it."""

    def __init__(self, options: Options) -> None:
        self.home = home_of(options)
        self._registries = [r._wire() for r in options.image_registries]
        self._mu = threading.Lock()
        self._proc: _Process | None = None
        self._pid = os.getpid()
        self._closed = False
        self.generation = 0  # how often it was started
        _servers.add(self)

    def __del__(self) -> None:
        self._reap(0)

    async def address(self) -> Address:
        """Where the server listens, which runs now."""
        proc = self._proc
        if proc is None or not proc.ready or proc.poll() is not None:
            proc = await in_thread(self._running)
            await proc.wait_ready()
        return Address(path=proc.socket)

    def gone(self) -> BoxliteError | None:
        """Why the server is not there any more, if it is not."""
        proc = self._proc
        return proc.ending() if proc is not None and proc.ended() else None

    def _running(self) -> _Process:
        if self._pid != os.getpid():
            raise fail(
                InvalidStateError,
                f"this runtime belongs to process {self._pid}, of which this one is a fork; "
                "make another here, with Boxlite.default() or Boxlite(options)",
            )
        with self._mu:
            if self._closed:
                raise fail(StoppedError, "the runtime was shut down; make another")
            if self._proc is None or self._proc.poll() is not None:
                self._reap(0)
                self._proc = _Process(self.home, self._registries)
                self.generation += 1
            return self._proc

    def hang_up(self) -> None:
        """Lets the server know that nobody needs it any more."""
        if self._proc is not None:
            self._proc.hang_up()

    def _reap(self, timeout: float) -> None:
        """Waits so many seconds for the server to end, and lets go of it."""
        proc, self._proc = self._proc, None
        if proc is None:
            return
        proc.hang_up()
        try:
            proc.wait(timeout)
        except subprocess.TimeoutExpired:
            proc.abandon()
        try:
            os.unlink(proc.socket)  # one that was killed has left it
        except OSError:
            pass

    async def end(self, timeout: float | None) -> None:
        """Ends the server, and with it the boxes that are not detached. After
        so many seconds it is ended by force; None waits as long as it takes."""
        with self._mu:
            self._closed = True
            proc = self._proc
            self.hang_up()
        if proc is None:
            return
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = 0.005
        while proc.poll() is None:
            if deadline is not None and time.monotonic() > deadline:
                proc.kill()
                proc.wait()
                break
            await asyncio.sleep(pause)
            pause = min(1.5 * pause, 0.1)
        self._reap(0)

    def end_at_exit(self, deadline: float) -> None:
        """Ends the server with this program."""
        self._reap(max(0, deadline - time.monotonic()))

    def forked(self) -> None:
        """Lets go, in a child process, of what belongs to its parent."""
        proc, self._proc = self._proc, None
        if proc is not None:
            proc.abandon()


@atexit.register
def _end_all() -> None:
    servers = list(_servers)
    for s in servers:
        s.hang_up()
    deadline = time.monotonic() + _EXIT
    for s in servers:
        s.end_at_exit(deadline)


def _forked() -> None:
    for s in list(_servers):
        s.forked()


os.register_at_fork(after_in_child=_forked)


def home_of(options: Options) -> str:
    """The home that options mean."""
    home = options.home_dir or os.environ.get("BOXLITE_HOME") or os.path.join("~", ".boxlite")
    return os.path.abspath(os.path.expanduser(home))


def find_binary() -> str:
    """The program to start: what $BOXLITE_BINARY or $BOXLITE_HELPER says, the
    one that came with this package, or one in PATH."""
    for variable in ("BOXLITE_BINARY", "BOXLITE_HELPER"):
        if path := os.environ.get(variable):
            if not os.access(path, os.X_OK):
                raise fail(ConfigError, f"${variable} is {path}, which is no program")
            return path
    own = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bin", "boxlite")
    if os.access(own, os.X_OK):
        return own
    import shutil  # takes long to load, and few need it

    if found := shutil.which("boxlite"):
        return found
    raise fail(
        ConfigError,
        "no boxlite program: this package was installed without one, and there is none in PATH; "
        "install a wheel for this platform, or set BOXLITE_BINARY",
    )


def _send(pipe: int, config: dict[str, object]) -> None:
    """Sends a server its configuration, which has passwords: they go neither to
    the disk nor to the command line."""
    try:
        with os.fdopen(pipe, "wb") as f:
            f.write(json.dumps(config).encode())
    except BrokenPipeError:
        pass  # it has ended; whoever waits for it says why


def _scratch(path: str) -> int:
    """A file without a name. Not every Python has memfd_create: those made for
    all Linux systems, uv's for one, are built with a C library that lacks it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    os.unlink(path)
    return fd


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = str(-code)
    return f"was killed by {name}"


def _socket_dir() -> str:
    """A directory of this user alone for sockets, whose names are bounded to
    some hundred bytes. Sockets of programs that are gone are removed."""
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    own = 0 < len(base) < 50 and os.path.isdir(base) and os.stat(base).st_uid == os.getuid()
    path = os.path.join(base, "boxlite") if own else f"/tmp/boxlite-{os.getuid()}"
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        st = os.lstat(path)
        if not stat.S_ISDIR(st.st_mode) or st.st_uid != os.getuid() or st.st_mode & 0o077:
            raise fail(ConfigError, f"{path} is not a directory of this user alone; remove it") from None
    except OSError as e:
        raise fail(ConfigError, f"{path}: {e.strerror}; set XDG_RUNTIME_DIR") from e
    for name in os.listdir(path):
        pid = name.partition("-")[0]
        if pid.isdigit() and not os.path.exists(f"/proc/{pid}"):
            try:
                os.unlink(os.path.join(path, name))
            except OSError:
                pass
    return path
