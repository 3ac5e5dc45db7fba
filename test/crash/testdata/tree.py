"""A tree that changes by known steps, and what it looks like.

Every step is one system call that changes the tree, and doing it twice is
doing it once; so whatever moment is saved is the tree after some number of
steps. The number is in a file of its own, written after each step.
"""

import hashlib
import os
import random
import stat
import sys

ROOT, COUNT = "/tree", "/tree.count"


def path(i):
    return f"{ROOT}/d{i % 40}/f{i}"


def build(files, big):
    for d in range(40):
        os.makedirs(f"{ROOT}/d{d}", mode=0o755)
        os.chown(f"{ROOT}/d{d}", d, 1000 + d)
        os.chmod(f"{ROOT}/d{d}", 0o1700 + d)
    for i in range(files):
        with open(path(i), "wb") as f:
            f.write(b"%d\n" % i * (i % 300))
        os.chown(path(i), i % 7, i % 5)
        os.chmod(path(i), 0o4000 * (i % 3 == 0) + i % 0o777)
        if i % 11 == 0:
            os.setxattr(path(i), "user.number", b"%d" % i)
        if i % 13 == 0:
            os.link(path(i), path(i) + ".hard")
        if i % 17 == 0:
            os.symlink(path(i + 1), path(i) + ".sym")
    with open(f"{ROOT}/sparse", "wb") as f:
        f.truncate(1 << 36)
        for at in (0, 1 << 20, (1 << 35) + 4095):
            f.seek(at)
            f.write(b"here")
    r = random.Random(5)
    with open(f"{ROOT}/big", "wb") as f:
        for _ in range(big):
            f.write(r.randbytes(1 << 20))
    count(0)


def count(k):
    fd = os.open(COUNT, os.O_WRONLY | os.O_CREAT)
    os.pwrite(fd, b"%012d\n" % k, 0)
    os.close(fd)


def counted():
    with open(COUNT) as f:
        return int(f.read())


def step(k):
    """Does step k; one that has been done already changes nothing."""
    r = random.Random(k)
    a, b = path(r.randrange(900)), path(r.randrange(900))
    kind = r.randrange(11)
    try:
        if kind == 0:
            os.chmod(a, r.randrange(0o777))
        elif kind == 1:
            os.chown(a, r.randrange(9), r.randrange(9))
        elif kind == 2:
            os.rename(a, f"{ROOT}/moved{k}")
        elif kind == 3:
            os.unlink(a)
        elif kind == 4:
            os.link(a, b + f".{k}")
        elif kind == 5:
            os.symlink(a, b + f".s{k}")
        elif kind == 6:
            os.mkdir(f"{ROOT}/n{k}")
        elif kind == 7:
            os.setxattr(a, "user.step", b"%d" % k)
        elif kind == 8:
            os.truncate(a, r.randrange(20000))
        else:
            write(f"{ROOT}/big" if kind == 9 else a, r)
    except FileNotFoundError:
        pass
    except FileExistsError:
        pass


def write(name, r):
    fd = os.open(name, os.O_WRONLY)
    try:
        size = os.fstat(fd).st_size
        os.pwrite(fd, r.randbytes(r.randrange(1, 5000)), r.randrange(size + 1))
    finally:
        os.close(fd)


def run():
    k = counted()
    while True:
        k += 1
        step(k)
        count(k)
        if k % 10 == 0:
            print(k, flush=True)


def replay(upto):
    for k in range(counted() + 1, upto + 1):
        step(k)
    count(upto)


def digest():
    """Everything but times, as one line; hard links by which names share one."""
    h, inodes = hashlib.sha256(), {}
    for top, dirs, files in os.walk(ROOT):
        dirs.sort()
        for name in sorted(files + dirs):
            p = os.path.join(top, name)
            s = os.lstat(p)
            first = inodes.setdefault((s.st_dev, s.st_ino), p)
            line = [p, first, oct(s.st_mode), s.st_uid, s.st_gid]
            if stat.S_ISLNK(s.st_mode):
                line.append(os.readlink(p))
            elif stat.S_ISREG(s.st_mode):
                line += [s.st_size, s.st_nlink, content(p, s.st_size)]
                line += [(x, os.getxattr(p, x)) for x in sorted(os.listxattr(p))]
            h.update(repr(line).encode())
    print(counted(), h.hexdigest())


def content(p, size):
    h = hashlib.sha256()
    with open(p, "rb") as f:
        at = 0
        while at < size:  # holes are not read
            try:
                at = os.lseek(f.fileno(), at, os.SEEK_DATA)
            except OSError:
                break
            chunk = os.pread(f.fileno(), min(1 << 20, size - at), at)
            if chunk.strip(b"\0"):
                # In pieces of the same borders, whatever the extents are.
                for i in range(at - at % 4096, at + len(chunk), 4096):
                    piece = chunk[max(0, i - at): i + 4096 - at]
                    if piece.strip(b"\0"):
                        h.update(b"%d " % max(i, at) + piece)
            at += len(chunk)
    return h.hexdigest()


if __name__ == "__main__":
    globals()[sys.argv[1]](*map(int, sys.argv[2:]))
