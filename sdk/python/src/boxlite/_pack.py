"""Files of this host as a tar stream."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator

from .errors import ConfigError, StorageError, fail

#: What is handed over at once, in bytes: small files go together, large ones in
#: pieces.
PART = 1 << 20


class Packer:
    """A file or directory as parts of a tar stream, by the rules of ``docker
    cp``. Directories are read through their descriptors, so that a link that is
    put in their place meanwhile leads nowhere."""

    def __init__(self, path: str, *, recursive: bool, follow: bool, parent: bool) -> None:
        self._path = path
        self._recursive = recursive
        self._follow = follow
        self._parent = parent
        self._first: dict[tuple[int, int], str] = {}  # name of files with several
        self._batch = bytearray()

    def parts(self) -> Iterator[bytes]:
        """The stream, piece by piece. Raises StorageError, and ConfigError for
        a directory that is not to be copied."""
        path = os.path.abspath(self._path)
        # A slash at the end asks for what a link points at.
        follow = self._follow or self._path.endswith(("/", "/."))
        try:
            st = os.stat(path) if follow else os.lstat(path)
            if stat.S_ISDIR(st.st_mode):
                yield from self._top(path)
            else:
                name = os.path.basename(path)
                yield from self._entry(os.path.realpath(path) if follow else path, None, name, st, ())
        except OSError as e:
            raise fail(StorageError, f"copy {e.filename or path}: {e.strerror or e}") from e
        self._batch += bytes(1024)  # the end of an archive
        yield bytes(self._batch)

    def _top(self, path: str) -> Iterator[bytes]:
        if not self._recursive:
            raise fail(ConfigError, f"{path} is a directory, and recursive is off")
        name = os.path.basename(path)
        if not self._parent or self._path.endswith("/.") or not name:
            name = "."
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield from self._dir(fd, name, ())
        finally:
            os.close(fd)

    def _dir(self, fd: int, name: str, above: tuple[tuple[int, int], ...]) -> Iterator[bytes]:
        st = os.fstat(fd)
        self._header(name, st, tarfile.DIRTYPE)
        above += ((st.st_dev, st.st_ino),)
        for below in sorted(os.listdir(fd)):
            try:
                entry = os.stat(below, dir_fd=fd, follow_symlinks=False)
                if self._follow and stat.S_ISLNK(entry.st_mode):
                    entry = self._followed(below, fd, entry, above)
            except FileNotFoundError:
                continue  # removed meanwhile
            yield from self._entry(below, fd, f"{name}/{below}", entry, above)

    def _followed(self, name: str, fd: int, link: os.stat_result, above: tuple[tuple[int, int], ...]) -> os.stat_result:
        """What a link points at. It stays a link when that is nothing, or the
        tree itself."""
        try:
            target = os.stat(name, dir_fd=fd)
        except OSError:
            return link
        return link if (target.st_dev, target.st_ino) in above else target

    def _entry(
        self, path: str, fd: int | None, name: str, st: os.stat_result, above: tuple[tuple[int, int], ...]
    ) -> Iterator[bytes]:
        follow = 0 if self._follow else os.O_NOFOLLOW
        if stat.S_ISDIR(st.st_mode):
            below = os.open(path, os.O_RDONLY | os.O_DIRECTORY | follow, dir_fd=fd)
            try:
                yield from self._dir(below, name, above)
            finally:
                os.close(below)
        elif stat.S_ISLNK(st.st_mode):
            self._header(name, st, tarfile.SYMTYPE, os.readlink(path, dir_fd=fd))
        elif stat.S_ISREG(st.st_mode):
            file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | follow, dir_fd=fd)
            try:
                yield from self._file(file, name)
            finally:
                os.close(file)
        # Sockets, pipes and devices mean nothing elsewhere.

    def _file(self, fd: int, name: str) -> Iterator[bytes]:
        st = os.fstat(fd)
        if st.st_nlink > 1:
            first = self._first.setdefault((st.st_dev, st.st_ino), name)
            if first != name:
                self._header(name, st, tarfile.LNKTYPE, first)
                return
        self._header(name, st, tarfile.REGTYPE)
        left = st.st_size
        while left:
            data = os.read(fd, min(left, PART))
            if not data:
                raise fail(StorageError, f"copy {name}: it became shorter while it was read")
            left -= len(data)
            self._batch += data
            if len(self._batch) >= PART:
                yield bytes(self._batch)
                self._batch.clear()
        self._batch += bytes(-st.st_size % 512)

    def _header(self, name: str, st: os.stat_result, kind: bytes, link: str = "") -> None:
        h = tarfile.TarInfo(name)
        h.type, h.linkname = kind, link
        h.mode = stat.S_IMODE(st.st_mode)
        setattr(h, "mtime", st.st_mtime)  # a fraction too, which not all type stubs know
        h.size = st.st_size if kind == tarfile.REGTYPE else 0
        self._batch += h.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
