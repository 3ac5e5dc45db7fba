"""Runs the loops of a race, each in a process of its own, until it is killed.
Arguments: the race, and a directory of the host beside the volume, which holds
a canary. The volume is at /v and at /w, a directory of it also at /v/a."""

import os
import sys

race, outside = sys.argv[1:]
content = "a canary of the host"


def attempt(f, *args):
    try:
        return f(*args)
    except OSError:
        return None


def write(path):
    with open(path, "w") as f:
        f.write("x")


def read(path):
    with open(path, errors="replace") as f:
        if content in f.read():
            print(f"read {content} at {path}", flush=True)


def harm(path):
    """Whatever can be done to a file by its path."""
    attempt(read, path)
    attempt(write, path)
    attempt(os.chmod, path, 0o777)
    attempt(os.truncate, path, 0)
    attempt(os.utime, path, (1, 1))
    attempt(os.setxattr, path, "user.x", b"1")
    attempt(os.rename, path, "stolen")
    attempt(os.rename, "stolen", path)
    attempt(os.link, path, "linked")
    attempt(os.unlink, "linked")
    attempt(os.unlink, path)


def swap_directory():
    for target in ("../outside", outside, "/proc/self/root" + outside, ".."):
        attempt(os.rename, "dir", "aside")
        attempt(os.symlink, target, "dir")
        attempt(os.unlink, "dir")
        attempt(os.rename, "aside", "dir")


def use_directory():
    harm("dir/canary")
    attempt(os.mkdir, "dir/made")
    attempt(os.rmdir, "dir/made")
    attempt(os.rename, "f", "dir/f")
    attempt(os.rename, "dir/f", "f")


def use_open_directory():
    fd = attempt(os.open, "dir", os.O_RDONLY | os.O_DIRECTORY)
    if fd is None:
        return
    for name in ("canary", "../outside/canary", "../../outside/canary"):
        flags = os.O_RDWR | os.O_CREAT
        f = attempt(lambda: os.open(name, flags, 0o666, dir_fd=fd))
        if f is not None:
            attempt(os.write, f, b"x")
            os.close(f)
        attempt(lambda: os.unlink(name, dir_fd=fd))
    os.close(fd)


def swap_file():
    attempt(write, "t")
    attempt(os.unlink, "t")
    for target in ("../outside/canary", outside + "/canary"):
        attempt(os.symlink, target, "t2")
        attempt(os.rename, "t2", "t")
        attempt(os.unlink, "t")


def use_file():
    harm("t")


def move_about():
    attempt(os.rename, "a/b/c", "c")
    attempt(os.rename, "c", "a/b/c")
    attempt(os.rename, "a/b", "b")
    attempt(os.rename, "b", "a/b")


def walk_up():
    if attempt(lambda: os.chdir("a/b/c") or True):
        for up in ("..", "../..", "../../..", "../../../..", "../../../../.."):
            attempt(read, up + "/outside/canary")
            attempt(write, up + "/outside/canary")
            attempt(os.mkdir, up + "/outside/made")
        os.chdir(os.environ["HERE"])


def link_about():
    attempt(os.link, "f", "dir/hard")
    attempt(os.rename, "dir/hard", "t")
    attempt(os.symlink, "../outside/canary", "dir/hard")
    attempt(lambda: os.link("dir/hard", "dir/hard2", follow_symlinks=True))
    attempt(lambda: os.link("dir/hard", "dir/hard3", follow_symlinks=False))
    for name in ("dir/hard", "dir/hard2", "dir/hard3"):
        harm(name)


loops = {
    "directory": (swap_directory, use_directory, use_open_directory, use_directory),
    "file": (swap_file, use_file, swap_file, use_file),
    "moves": (move_about, walk_up, walk_up, move_about),
    "links": (link_about, swap_file, use_file, link_about),
}
for i, loop in enumerate(loops[race]):
    if os.fork() == 0:
        os.environ["HERE"] = "/" + "vw"[i % 2]
        os.chdir(os.environ["HERE"])
        n = 0
        while True:
            loop()
            n += 1
            if n % 100 == 0:
                # How much was raced, for people.
                with open(f"/tmp/{loop.__name__}{i}", "w") as f:
                    f.write(str(n))
os.wait()
