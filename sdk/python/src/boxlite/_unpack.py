"""Files from a tar stream of a box, which is hostile: nothing in it leads out
of the directory it is unpacked in."""

from __future__ import annotations

import os
import posixpath
import stat
import tarfile
from collections.abc import Callable, Generator

from .errors import AlreadyExistsError, BoxliteError, ConfigError, StorageError, fail

#: Bounds that no honest copy reaches.
_MAX_ENTRIES, _MAX_BYTES, _MAX_DEPTH, _MAX_NAME = 10_000_000, 1 << 40, 256, 4096
_MAX_EXTENSION = 1 << 20  # bytes of a header that extends another
_MAX_EXTENSIONS = 16  # of one entry; an honest one has two
_MAX_PADDING = 1 << 20  # bytes after the end; tar itself fills up 10 KiB
_MAX_REMEMBERED = 64 << 20  # characters of the names of all directories

_BLOCK = 512
_PIECE = 64 << 10  # that becomes a hole if it is all zeros

Feed = Generator[None, bytes, None]


def hostile(message: str) -> BoxliteError:
    """The error for what no honest box sends."""
    return fail(StorageError, f"the box sent a bad copy: {message}")


class Unpacker:
    """Takes a tar stream piece by piece, by ``send``.

    A single file becomes ``dest``, or a file in it if that is a directory or
    ends in "/". Of a directory the top goes into ``dest``, or, without
    ``parent``, what is in it. ``contents`` says that the stream has no top.
    """

    def __init__(self, dest: str, *, overwrite: bool, parent: bool, contents: bool, recursive: bool) -> None:
        self._dest = dest
        self._overwrite = overwrite
        self._parent = parent
        self._contents = contents
        self._recursive = recursive
        self._buf = bytearray()
        self._root = -1
        self._at = ("", -1)  # the directory that was opened last, and its descriptor
        self._top = self._rename = ""  # first element of the names, and what it becomes
        self._dirs: list[tuple[str, int, float]] = []
        self._remembered = self._entries = self._bytes = self._padding = 0
        self._over = False
        self._run = self._unpack()
        next(self._run)

    def feed(self, data: bytes) -> None:
        """Takes a piece of the stream."""
        if self._over:
            self._padding += len(data)
            if self._padding > _MAX_PADDING:
                raise hostile("it does not end")
        else:
            try:
                self._run.send(data)
            except StopIteration:
                self._over = True
            except OSError as e:
                raise fail(StorageError, f"copy to {self._dest}: {e.filename or ''}: {e.strerror or e}") from e

    def finish(self) -> None:
        """Sets what can be set at the end alone. Raises when the stream was not
        whole."""
        if not self._over:
            raise fail(StorageError, "the copy ended in the middle")
        try:
            if self._root < 0:
                self._open_root(self._dest)
            for name, mode, mtime in reversed(self._dirs):
                parent = self._directory(posixpath.dirname(name), make=False)
                fd = os.open(posixpath.basename(name), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
                try:
                    os.utime(fd, (mtime, mtime))
                    os.fchmod(fd, mode)
                finally:
                    os.close(fd)
        except OSError as e:
            raise fail(StorageError, f"copy to {self._dest}: {e.strerror or e}") from e

    def close(self) -> None:
        """Lets go of everything."""
        self._run.close()
        for fd in (self._at[1], self._root):
            if fd >= 0:
                os.close(fd)
        self._at, self._root = ("", -1), -1

    def _take(self, n: int) -> Generator[None, bytes, bytes]:
        while len(self._buf) < n:
            self._buf += yield
        data = bytes(memoryview(self._buf)[:n])
        del self._buf[:n]
        return data

    def _unpack(self) -> Feed:
        more: dict[str, str] = {}  # what extends the next header
        extensions = 0
        while True:
            block = yield from self._take(_BLOCK)
            if not block.strip(b"\0"):
                return
            try:
                h = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            except tarfile.TarError as e:
                raise hostile(f"a header that is none: {e}") from None
            if h.type in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
                extensions += 1
                if not 0 <= h.size <= _MAX_EXTENSION or extensions > _MAX_EXTENSIONS:
                    raise hostile(f"an extension of {h.size} bytes, the {extensions}th of its entry")
                data = yield from self._take(h.size + -h.size % _BLOCK)
                _extend(more, h.type, data[: h.size])
                continue
            _apply(h, more)
            more, extensions = {}, 0
            yield from self._entry(h)

    def _entry(self, h: tarfile.TarInfo) -> Feed:
        self._entries += 1
        if self._entries > _MAX_ENTRIES:
            raise hostile(f"more than {_MAX_ENTRIES} entries")
        if h.size < 0 or self._bytes + h.size > _MAX_BYTES:
            raise hostile(f"{h.name!r}: more than {_MAX_BYTES} bytes")
        if self._entries == 1:
            self._place(h)
        name = self._name(h.name)
        if h.isdir():
            self._make_dir(name, h)
        elif not name:
            raise hostile(f"{h.name!r} is not a directory")
        elif h.isreg():
            self._bytes += h.size
            yield from self._file(name, h)
        elif h.issym():
            self._link(name, lambda fd, as_: os.symlink(h.linkname, as_, dir_fd=fd))
        elif h.islnk():
            self._hard_link(name, self._name(h.linkname))
        else:
            raise hostile(f"{h.name!r} is a device, a pipe or of unknown type {h.type!r}")

    def _place(self, h: tarfile.TarInfo) -> None:
        """Decides by the first entry where everything goes."""
        dest = self._dest
        if self._contents or h.isdir():
            if not self._recursive:
                raise fail(ConfigError, f"{h.name} is a directory, and recursive is off")
            if not self._contents and not self._parent:
                self._top = h.name.strip("/").split("/")[0]
            if os.path.exists(dest) and not os.path.isdir(dest):
                raise fail(StorageError, f"{h.name!r} in the box is a directory, and {dest} is a file")
            self._open_root(dest)
        elif dest.endswith("/") or os.path.isdir(dest):
            self._open_root(dest)
        else:
            self._top, self._rename = h.name, os.path.basename(dest)
            self._open_root(os.path.dirname(dest) or ".")

    def _open_root(self, path: str) -> None:
        os.makedirs(path, exist_ok=True)
        self._root = os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    def _name(self, raw: str) -> str:
        """A name of the stream below the destination; empty for that itself."""
        name = posixpath.normpath(raw) if raw else ""
        if (
            not name
            or name.startswith("/")
            or name.split("/")[0] == ".."
            or "\0" in raw
            or len(raw) > _MAX_NAME
            or name.count("/") > _MAX_DEPTH
        ):
            raise hostile(f"entry {raw[:200]!r} leads out of the destination")
        if name == ".":
            return ""
        if self._top:
            first, _, rest = name.partition("/")
            if first != self._top:
                raise hostile(f"entry {raw[:200]!r} is beside {self._top!r}")
            name = posixpath.join(self._rename, rest) if self._rename and rest else self._rename or rest
        return name

    def _directory(self, name: str, make: bool = True) -> int:
        """The descriptor of a directory below the destination, which stays
        open until the next is asked for. Links are not followed."""
        if not name:
            return self._root
        if self._at[0] == name and self._at[1] >= 0:
            return self._at[1]
        fd = os.dup(self._root)
        try:
            for part in name.split("/"):
                if make:
                    try:
                        os.mkdir(part, 0o755, dir_fd=fd)
                    except FileExistsError:
                        pass
                try:
                    below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
                except NotADirectoryError:
                    raise fail(
                        StorageError, f"{name}: {part} is a file or a link, where a directory is to be"
                    ) from None
                os.close(fd)
                fd = below
        except BaseException:
            os.close(fd)
            raise
        if self._at[1] >= 0:
            os.close(self._at[1])
        self._at = (name, fd)
        return fd

    def _make_dir(self, name: str, h: tarfile.TarInfo) -> None:
        if not name:
            return  # the destination itself is the caller's
        parent = self._directory(posixpath.dirname(name))
        base = posixpath.basename(name)
        try:
            os.mkdir(base, 0o700, dir_fd=parent)  # its mode is set when it is filled
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(base, dir_fd=parent).st_mode):
                raise fail(StorageError, f"{name}: a file is there, where a directory is to be") from None
        self._remembered += len(name) + 64
        if self._remembered > _MAX_REMEMBERED:
            raise hostile("too many directories")
        self._dirs.append((name, h.mode & 0o777, h.mtime))

    def _free(self, name: str, parent: int, base: str) -> str:
        """The name to write under: beside a file that is there, which it then
        takes the place of: the old file or the new one, never half."""
        try:
            os.lstat(base, dir_fd=parent)
        except FileNotFoundError:
            return base
        if not self._overwrite:
            where = self._dest if self._rename else os.path.join(self._dest, name)
            raise fail(AlreadyExistsError, f"{where}: not replaced, as overwrite is off")
        return f".boxlite-{os.urandom(8).hex()}"

    def _file(self, name: str, h: tarfile.TarInfo) -> Feed:
        parent, base = self._directory(posixpath.dirname(name)), posixpath.basename(name)
        parent = os.dup(parent)
        as_ = ""
        try:
            as_ = self._free(name, parent, base)
            fd = os.open(as_, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600, dir_fd=parent)
            try:
                yield from self._fill(fd, h.size)
                os.fchmod(fd, h.mode & 0o777)
                os.utime(fd, (h.mtime, h.mtime))
            finally:
                os.close(fd)
            if as_ != base:
                os.rename(as_, base, src_dir_fd=parent, dst_dir_fd=parent)
            as_ = ""
            yield from self._take(-h.size % _BLOCK)
        finally:
            if as_:
                _unlink(as_, parent)
            os.close(parent)

    def _fill(self, fd: int, size: int) -> Feed:
        """Writes a file. Runs of zeros become holes."""
        left = size
        while left:
            while not self._buf:
                self._buf += yield
            n = min(left, len(self._buf), _PIECE)
            piece = bytes(memoryview(self._buf)[:n])
            del self._buf[:n]
            left -= n
            if piece.count(0) == n:
                os.lseek(fd, n, os.SEEK_CUR)
            else:
                at = 0
                while at < n:
                    at += os.write(fd, piece[at:])
        os.ftruncate(fd, size)

    def _link(self, name: str, make: Callable[[int, str], None]) -> None:
        parent, base = self._directory(posixpath.dirname(name)), posixpath.basename(name)
        as_ = self._free(name, parent, base)
        make(parent, as_)
        if as_ != base:
            try:
                os.rename(as_, base, src_dir_fd=parent, dst_dir_fd=parent)
            except OSError:
                _unlink(as_, parent)
                raise

    def _hard_link(self, name: str, to: str) -> None:
        target = os.dup(self._directory(posixpath.dirname(to), make=False))
        try:
            self._link(
                name,
                lambda fd, as_: os.link(
                    posixpath.basename(to), as_, src_dir_fd=target, dst_dir_fd=fd, follow_symlinks=False
                ),
            )
        finally:
            os.close(target)


def _unlink(name: str, parent: int) -> None:
    try:
        os.unlink(name, dir_fd=parent)
    except OSError:
        pass


def _extend(more: dict[str, str], kind: bytes, data: bytes) -> None:
    """Reads a header that extends the next."""
    if kind == tarfile.GNUTYPE_LONGNAME:
        more["path"] = data.rstrip(b"\0").decode("utf-8", "surrogateescape")
    elif kind == tarfile.GNUTYPE_LONGLINK:
        more["linkpath"] = data.rstrip(b"\0").decode("utf-8", "surrogateescape")
    elif kind == tarfile.XHDTYPE:
        while data:
            size, _, _ = data.partition(b" ")
            if (
                not size.isdigit()
                or len(size) > 8
                or not 4 < int(size) <= len(data)
                or data[int(size) - 1 : int(size)] != b"\n"
            ):
                raise hostile("a record that is none")
            record, data = data[len(size) + 1 : int(size) - 1], data[int(size) :]
            key, _, value = record.partition(b"=")
            more[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")


def _apply(h: tarfile.TarInfo, more: dict[str, str]) -> None:
    h.name = more.get("path", h.name)
    h.linkname = more.get("linkpath", h.linkname)
    try:
        h.size = int(more.get("size", h.size))
        setattr(h, "mtime", float(more.get("mtime", h.mtime)))  # not all type stubs know of fractions
    except ValueError:
        raise hostile(f"{h.name[:200]!r}: a number that is none") from None
    if not 0 <= h.mtime < 1 << 40:
        h.mtime = 0  # a time that not every file system has
    if not (h.isreg() or h.issparse()):
        h.size = 0
