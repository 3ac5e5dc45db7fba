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

_servers: weakref.WeakSet[PrivateServer] = weakref.WeakSet()


class PrivateServer:
    """A server over one home. It may be used from any thread, and from no
    process but the one that made it."""

    def __init__(self, options: Options) -> None:
        self.home = home_of(options)
        self._registries = [r._wire() for r in options.image_registries]
        self._mu = threading.Lock()
        self._proc: subprocess.Popen[bytes] | None = None
        self._socket = ""
        self._log = -1
        self._ready = False
        self._pid = os.getpid()
        self._closed = False
        self.generation = 0  # how often it was started
        _servers.add(self)

    def __del__(self) -> None:
        self._hang_up()
        self._reap(0)

    async def address(self) -> Address:
        """Where the server listens, which runs now."""
        proc = self._proc
        if proc is None or proc.poll() is not None or not self._ready or self._pid != os.getpid():
            proc = await in_thread(self._running)
            await self._wait_ready(proc)
        return Address(path=self._socket)

    def gone(self) -> BoxliteError | None:
        """Why the server is not there any more, if it is not."""
        proc = self._proc
        if proc is None or self._pid != os.getpid() or not _ended(proc):
            return None
        return fail(EngineError, f"the private server {_ending(proc.returncode)}{self._last_words()}")

    def _running(self) -> subprocess.Popen[bytes]:
        if self._pid != os.getpid():
            raise fail(
                InvalidStateError,
                f"this runtime belongs to process {self._pid}, of which this one is a fork; "
                "make another here, with Boxlite.default() or Boxlite(options)",
            )
        with self._mu:
            if self._closed:
                raise fail(StoppedError, "the runtime was shut down; make another")
            if self._proc is not None and self._proc.poll() is None:
                return self._proc
            self._discard()
            self._start()
            assert self._proc is not None
            return self._proc

    def _start(self) -> None:
        self._socket = os.path.join(_socket_dir(), f"{os.getpid()}-{os.urandom(6).hex()}.sock")
        argv = [find_binary(), "--home", self.home]
        debug = os.environ.get("BOXLITE_DEBUG", "") not in ("", "0", "false")
        self._log = -1 if debug else _scratch(self._socket + ".log")
        pipe = os.pipe() if self._registries else ()
        if pipe:
            argv += ["--config", f"/dev/fd/{pipe[0]}"]
        argv += ["serve", "--socket", self._socket, "--until-eof", "--log-format", "text" if debug else "off"]
        try:
            # A session of its own: a key pressed at the terminal is for this
            # program, which decides what becomes of its boxes.
            self._proc = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=None if debug else self._log,
                start_new_session=True,
                pass_fds=pipe[:1],
            )
        except OSError as e:
            for fd in pipe:
                os.close(fd)
            self._discard()
            raise fail(EngineError, f"{argv[0]}: {e.strerror or e}") from e
        if pipe:
            os.close(pipe[0])
            _send(pipe[1], {"image_registries": self._registries})
        self._ready = False
        self.generation += 1

    async def _wait_ready(self, proc: subprocess.Popen[bytes]) -> None:
        """Waits until the server has said where it listens. Nobody reads that,
        so the pipe tells everybody."""
        assert proc.stdout is not None
        fd = os.dup(proc.stdout.fileno())  # one loop may watch a descriptor for one task
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
        poll = select.poll()
        poll.register(proc.stdout.fileno(), select.POLLIN)
        events = poll.poll(0)
        if events and events[0][1] & select.POLLIN:
            self._ready = True
            return
        if not said:
            proc.kill()
            raise fail(EngineError, f"the private server was not ready in {_READY:.0f} s{self._last_words()}")
        try:
            proc.wait(1)  # its output has ended: it is about to be gone
        except subprocess.TimeoutExpired:
            proc.kill()
            proc.wait()
        raise fail(EngineError, f"the private server {_ending(proc.returncode)}{self._last_words()}")

    def _last_words(self) -> str:
        """The end of what the server has logged."""
        if self._log < 0:
            return ""
        size = os.fstat(self._log).st_size
        text = os.pread(self._log, 2000, max(0, size - 2000)).decode(errors="replace").strip()
        return f": {text}" if text else ""

    def _hang_up(self) -> None:
        """Lets the server know that nobody needs it any more."""
        if self._proc is not None and self._proc.stdin is not None:
            try:
                self._proc.stdin.close()
            except OSError:
                pass

    def _reap(self, timeout: float) -> bool:
        """Waits for the server to end. Whether it has, nothing is left open."""
        proc = self._proc
        if proc is None:
            return True
        try:
            proc.wait(timeout)
        except subprocess.TimeoutExpired:
            # It ends by itself, later than this object.
            proc.returncode = 0
            ended = False
        else:
            ended = True
        self._discard()
        return ended

    def _discard(self) -> None:
        self._hang_up()
        if self._proc is not None and self._proc.stdout is not None:
            self._proc.stdout.close()
        if self._log >= 0:
            os.close(self._log)
        if self._socket and self._pid == os.getpid():
            try:
                os.unlink(self._socket)  # one that was killed has left it
            except OSError:
                pass
        self._proc, self._log, self._ready = None, -1, False

    async def end(self, timeout: float | None) -> None:
        """Ends the server, and with it the boxes that are not detached. After
        so many seconds it is ended by force; None waits as long as it takes."""
        with self._mu:
            self._closed = True
            proc = self._proc
            self._hang_up()
        if proc is None or self._pid != os.getpid():
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
        if self._pid == os.getpid():
            self._reap(max(0, deadline - time.monotonic()))

    def forked(self) -> None:
        """Lets go, in a child process, of what belongs to its parent."""
        self._discard_inherited()

    def _discard_inherited(self) -> None:
        if self._proc is not None:
            self._proc.returncode = 0  # not ours to wait for
        self._discard()


def _ended(proc: subprocess.Popen[bytes]) -> bool:
    """Whether a server has ended. The kernel closes its files, so that lines to
    it break, a moment before it can be waited for; its output is the first."""
    if proc.poll() is None and proc.stdout is not None:
        output = select.poll()
        output.register(proc.stdout.fileno(), 0)
        if output.poll(0):
            try:
                proc.wait(1)
            except subprocess.TimeoutExpired:
                pass
    return proc.returncode is not None


@atexit.register
def _end_all() -> None:
    servers = list(_servers)
    for s in servers:
        if s._pid == os.getpid():
            s._hang_up()
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
