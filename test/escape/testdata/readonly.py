"""Tries everything that would change the files of its arguments, or the
directories they lie in. What does not fail is printed."""

import ctypes
import errno
import mmap
import os
import shutil
import socket
import subprocess
import sys

libc = ctypes.CDLL(None, use_errno=True)


def attempt(what, f):
    try:
        f()
    except (OSError, ValueError, subprocess.CalledProcessError):
        return
    print(what)


def call(name, *args):
    if libc[name](*args) == -1:
        e = ctypes.get_errno()
        raise OSError(e, os.strerror(e))


def through(path, flags, f):
    fd = os.open(path, flags)
    try:
        f(fd)
    finally:
        os.close(fd)


def on_file(p):
    b = p.encode()
    for mode in ("w", "a", "r+", "x"):
        attempt(f"open {p} {mode}", lambda: open(p, mode).write("x"))
    attempt(f"O_TRUNC {p}", lambda: os.close(os.open(p, os.O_RDONLY | os.O_TRUNC)))
    attempt(f"truncate {p}", lambda: os.truncate(p, 0))
    attempt(f"chmod {p}", lambda: os.chmod(p, 0o777))
    attempt(f"suid {p}", lambda: os.chmod(p, 0o6777))
    attempt(f"chown {p}", lambda: os.chown(p, 1, 1))
    attempt(f"lchown {p}", lambda: os.lchown(p, 1, 1))
    attempt(f"utime {p}", lambda: os.utime(p, (1, 1)))
    attempt(f"touch {p}", lambda: os.utime(p))
    attempt(f"setxattr {p}", lambda: os.setxattr(p, "user.mine", b"2"))
    attempt(f"new xattr {p}", lambda: os.setxattr(p, "user.new", b"2"))
    attempt(f"capability {p}", lambda: os.setxattr(p, "security.capability", b"x" * 20))
    attempt(f"trusted {p}", lambda: os.setxattr(p, "trusted.x", b"x"))
    attempt(f"removexattr {p}", lambda: os.removexattr(p, "user.mine"))
    attempt(f"unlink {p}", lambda: os.unlink(p))
    attempt(f"link {p} out", lambda: os.link(p, "/tmp/linked"))
    attempt(f"rename {p} out", lambda: os.rename(p, "/tmp/moved"))
    attempt(f"exchange {p}", lambda: call("renameat2", -100, b, -100, b"/tmp/other", 2))
    attempt(f"swapon {p}", lambda: call("swapon", b, 0))
    attempt(f"acct {p}", lambda: call("acct", b))
    through(p, os.O_RDONLY, lambda fd: on_descriptor(p, fd))


def on_descriptor(p, fd):
    self = f"/proc/self/fd/{fd}"
    attempt(f"write {p}", lambda: os.write(fd, b"x"))
    attempt(f"pwrite {p}", lambda: os.pwrite(fd, b"x", 0))
    attempt(f"ftruncate {p}", lambda: os.ftruncate(fd, 0))
    attempt(f"fchmod {p}", lambda: os.fchmod(fd, 0o777))
    attempt(f"fchown {p}", lambda: os.fchown(fd, 1, 1))
    attempt(f"futimens {p}", lambda: os.utime(fd, (1, 1)))
    attempt(f"fsetxattr {p}", lambda: os.setxattr(fd, "user.mine", b"2"))
    attempt(f"fallocate {p}", lambda: os.posix_fallocate(fd, 0, 1 << 20))
    attempt(f"punch {p}", lambda: call("fallocate", fd, 3, 0, 16))
    attempt(f"reopen {p}", lambda: os.open(self, os.O_RDWR))
    attempt(f"reopen {p} to truncate", lambda: os.open(self, os.O_WRONLY | os.O_TRUNC))
    attempt(f"chmod {p} through self", lambda: os.chmod(self, 0o777))
    attempt(f"truncate {p} through self", lambda: os.truncate(self, 0))
    attempt(f"utime {p} through self", lambda: os.utime(self, (1, 1)))
    attempt(f"link {p} by descriptor", lambda: call("linkat", fd, b"", -100, b"/tmp/linked", 0x1000))
    attempt(f"map {p}", lambda: mmap.mmap(fd, 16, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE).__setitem__(0, 0))
    m = mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ)
    address = ctypes.addressof(ctypes.c_char.from_buffer_copy(m[:1]))
    libc.mmap.restype = ctypes.c_void_p
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    at = libc.mmap(None, 4096, 1, 1, fd, 0)
    attempt(f"mprotect {p}", lambda: call("mprotect", at, 4096, 3))
    attempt(f"write the memory of a mapping of {p}", lambda: poke(at))
    with open("/tmp/source", "wb") as w:
        w.write(b"y" * 64)
    with open("/tmp/source", "rb") as r:
        attempt(f"sendfile to {p}", lambda: os.sendfile(fd, r.fileno(), 0, 16))
        attempt(f"copy_file_range to {p}", lambda: os.copy_file_range(r.fileno(), fd, 16))
    flags = ctypes.c_long(0x10)  # immutable
    attempt(f"FS_IOC_SETFLAGS {p}", lambda: call("ioctl", fd, 0x40086602, ctypes.byref(flags)))
    attempt(f"FICLONE {p}", lambda: call("ioctl", fd, 0x40049409, fd))


def poke(at):
    """Root may write to read-only memory this way; then it must be a copy."""
    with open("/proc/self/mem", "r+b", buffering=0) as m:
        m.seek(at)
        if m.write(b"poked") == 5:
            raise OSError(errno.EPERM, "a private copy at best: the host is looked at")


def on_directory(d):
    b = d.encode()
    attempt(f"create in {d}", lambda: open(d + "/n", "w"))
    attempt(f"O_TMPFILE in {d}", lambda: os.open(d, os.O_TMPFILE | os.O_RDWR))
    attempt(f"mkdir in {d}", lambda: os.mkdir(d + "/n"))
    attempt(f"mknod in {d}", lambda: os.mknod(d + "/n"))
    attempt(f"mkfifo in {d}", lambda: os.mkfifo(d + "/n"))
    attempt(f"device in {d}", lambda: os.mknod(d + "/n", 0o20666, os.makedev(1, 3)))
    attempt(f"socket in {d}", lambda: socket.socket(socket.AF_UNIX).bind(d + "/n"))
    attempt(f"symlink in {d}", lambda: os.symlink("x", d + "/n"))
    attempt(f"chmod {d}", lambda: os.chmod(d, 0o700))
    attempt(f"utime {d}", lambda: os.utime(d, (1, 1)))
    attempt(f"setxattr {d}", lambda: os.setxattr(d, "user.new", b"1"))
    attempt(f"rename {d}", lambda: os.rename(d, d + "2"))
    attempt(f"rename into {d}", lambda: os.rename("/tmp/other", d + "/n"))
    attempt(f"link into {d}", lambda: os.link("/tmp/other", d + "/n"))
    attempt(f"rmtree {d}", lambda: shutil.rmtree(d))
    attempt(f"mount over {d}", lambda: call("mount", b"none", b, b"tmpfs", 0, None))
    attempt(f"remount {d}", lambda: call("mount", b"none", b, None, 0x20, None))  # MS_REMOUNT
    attempt(f"remount bind {d}", lambda: call("mount", b"none", b, None, 0x20 | 0x1000, None))
    attempt(f"umount {d}", lambda: call("umount2", b, 2))
    for name in os.listdir(d):
        p = os.path.join(d, name)
        if os.path.islink(p):
            attempt(f"unlink {p}", lambda: os.unlink(p))
            attempt(f"utime {p}", lambda: os.utime(p, (1, 1), follow_symlinks=False))
            attempt(f"lchown {p}", lambda: os.lchown(p, 1, 1))
        elif os.path.isdir(p):
            attempt(f"rmdir {p}", lambda: os.rmdir(p))


open("/tmp/other", "w").close()
for path in sys.argv[1:]:
    on_file(path)
    if path.startswith("/ro/"):
        on_directory(os.path.dirname(path))
print("tried")
