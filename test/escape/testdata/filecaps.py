"""Tries, by every call there is for it, to give a program capabilities. Prints
GIVEN for each that worked."""

import ctypes
import errno
import os
import shutil
import struct
import sys
import threading

libc = ctypes.CDLL(None, use_errno=True)
NAME = b"security.capability"
VALUE = struct.pack("<IIIII", 0x02000001, 0xC1, 0, 0, 0)  # CHOWN, SETGID, SETUID
PROGRAM = f"/tmp/program-{os.getuid()}"

shutil.copy("/bin/true", PROGRAM)
os.symlink(PROGRAM, PROGRAM + ".link")
fd = os.open(PROGRAM, os.O_RDWR)
os.chdir("/tmp")


def has():
    try:
        return os.getxattr(PROGRAM, NAME)
    except OSError:
        return None


def attempt(what, call):
    try:
        call()
    except OSError:
        pass
    if has():
        print("GIVEN", what, flush=True)
        os.removexattr(PROGRAM, NAME)


def in_a_user_namespace():
    if os.fork() == 0:
        libc.unshare(0x10000000)
        try:
            for f, text in (("setgroups", "deny"), ("uid_map", f"0 {os.getuid()} 1"), ("gid_map", f"0 {os.getgid()} 1")):
                with open(f"/proc/self/{f}", "w") as file:
                    file.write(text)
            os.setxattr(PROGRAM, NAME, VALUE)
        except OSError:
            pass
        os._exit(0)
    os.wait()


def by_changing_the_name():
    sys.setswitchinterval(1e-4)  # or the other thread runs for 5 ms at a time
    name = ctypes.create_string_buffer(NAME)
    done = False

    def flip():
        while not done:
            name.raw = b"user.no_capability\0\0"
            name.raw = NAME + b"\0"

    thread = threading.Thread(target=flip)
    thread.start()
    for _ in range(200):
        libc.setxattr(PROGRAM.encode(), name, VALUE, len(VALUE), 0)
    done = True
    thread.join()


attempt("path", lambda: os.setxattr(PROGRAM, NAME, VALUE))
attempt("relative", lambda: os.setxattr(os.path.basename(PROGRAM), NAME, VALUE))
attempt("link", lambda: os.setxattr(PROGRAM + ".link", NAME, VALUE))
attempt("no-follow", lambda: os.setxattr(PROGRAM, NAME, VALUE, follow_symlinks=False))
attempt("descriptor", lambda: os.setxattr(fd, NAME, VALUE))
attempt("namespace", in_a_user_namespace)
attempt("race", by_changing_the_name)

# What is not about capabilities goes on as it was.
os.setxattr(PROGRAM, "user.note", b"kept", os.XATTR_CREATE)
assert os.getxattr(PROGRAM, "user.note") == b"kept"
os.setxattr(fd, "user.empty", b"")
for name, flags, want in (
    ("user.note", os.XATTR_CREATE, "EEXIST"),
    ("user.other", os.XATTR_REPLACE, "ENODATA"),
    ("user.note", 4, "EINVAL"),
    ("x" * 256, 0, "ERANGE"),
    ("", 0, "ERANGE"),
    ("security.other", 0, "ENOTSUP"),
):
    try:
        os.setxattr(PROGRAM, name, b"x", flags)
        print("ODD", name, "was set")
    except OSError as e:
        if errno.errorcode[e.errno] != want:
            print("ODD", name, e, want)
for path in ("", "/no/such/file", PROGRAM + "/x"):
    try:
        os.setxattr(path, "user.note", b"x")
        print("ODD", path)
    except (FileNotFoundError, NotADirectoryError):
        pass
assert libc.fsetxattr(-1, b"user.x", b"x", 1, 0) == -1 and ctypes.get_errno() == 9
assert libc.setxattr(PROGRAM.encode(), b"user.x", None, 1, 0) == -1 and ctypes.get_errno() == 14
print("done")
