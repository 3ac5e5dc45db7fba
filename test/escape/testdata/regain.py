"""Tries to get back what the box has dropped, by every way to a user namespace
and by file capabilities. What must fail prints REGAINED when it does not."""

import ctypes
import os
import platform
import struct

libc = ctypes.CDLL(None, use_errno=True)
NEWUSER = 0x10000000
CLONE, UNSHARE = {"x86_64": (56, 272), "aarch64": (220, 97)}[platform.machine()]
CLONE3 = 435
SIGCHLD = 17


def by_unshare():
    libc.unshare(NEWUSER)


def by_unshare_with_more():
    libc.unshare(NEWUSER | 0x20000)


def by_upper_bits():
    libc.syscall(UNSHARE, ctypes.c_ulong(1 << 32 | NEWUSER))


def by_another_abi():
    libc.syscall(0x40000000 | UNSHARE, NEWUSER)  # that of x32, where there is one


def by_clone():
    # As fork does, in a namespace of its own.
    if libc.syscall(CLONE, NEWUSER | SIGCHLD, 0, 0, 0, 0) > 0:
        os.wait()
        os._exit(0)


def by_clone3():
    args = struct.pack("11Q", NEWUSER, 0, 0, 0, SIGCHLD, 0, 0, 0, 0, 0, 0)
    if libc.syscall(CLONE3, args, len(args)) > 0:
        os.wait()
        os._exit(0)


def attempt(way):
    """Makes a child that enters a namespace, in which the parent, who has
    CAP_SETUID, maps all users."""
    entered, enter = os.pipe()
    mapped, mark = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(mark)
        way()
        os.write(enter, b"%d\n" % os.getpid())
        os.read(mapped, 1)
        with open("/proc/self/status") as status:
            bounds = next(line.split()[1] for line in status if line.startswith("CapBnd"))
        try:
            os.chown("/owned", 5, 5)
            print("REGAINED: chown", way.__name__, flush=True)
        except OSError:
            pass
        if bounds != BOUNDS:
            print("REGAINED: bounding set", bounds, way.__name__, flush=True)
        os._exit(0)
    os.close(enter)
    with os.fdopen(entered) as f:
        pid = f.readline().strip()
    for file in ("uid_map", "gid_map"):
        try:
            with open(f"/proc/{pid}/{file}", "w") as f:
                f.write("0 0 65536")
        except OSError:
            pass
    os.close(mark)
    os.waitpid(child, 0)


with open("/proc/self/status") as status:
    BOUNDS = next(line.split()[1] for line in status if line.startswith("CapBnd"))
open("/owned", "w").close()
for way in (by_unshare, by_unshare_with_more, by_upper_bits, by_another_abi, by_clone, by_clone3):
    attempt(way)

# A program with capabilities of its own: CHOWN, permitted and effective.
os.system("cp /bin/chown /own-chown")
try:
    os.setxattr("/own-chown", "security.capability", struct.pack("<IIIII", 0x02000001, 1, 0, 0, 0))
    print("attempted")
except OSError as e:
    print("attempted:", e)
if os.system("/own-chown 5 /owned 2>/dev/null") == 0:
    print("REGAINED: by file capabilities")
