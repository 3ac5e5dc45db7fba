"""Commits the same number to a file, to SQLite and to git, in this order."""

import os
import sqlite3
import subprocess
import sys

HOME = "/commits"


def git(*args):
    return subprocess.run(["git", "-C", HOME, *args], check=True, capture_output=True, text=True).stdout


def database():
    db = sqlite3.connect(f"{HOME}/db.sqlite")
    db.execute("pragma journal_mode = wal")
    return db


def setup():
    os.makedirs(HOME)
    git("init", "-q")
    git("config", "user.name", "box")
    git("config", "user.email", "box@example.com")
    git("config", "gc.auto", "0")
    db = database()
    db.execute("create table n (i integer primary key, pad text)")
    db.commit()


def commit(i):
    git("add", "log")
    git("commit", "-q", "-m", str(i))


def subjects():
    return git("log", "--format=%s").split() if git("branch", "--list").strip() else []


def head():
    return int((subjects() or [0])[0])


def run():
    for stale in (".git/index.lock", ".git/HEAD.lock", ".git/refs/heads/master.lock"):
        if os.path.exists(f"{HOME}/{stale}"):  # as anybody would after a power cut
            os.remove(f"{HOME}/{stale}")
    db = database()
    i = db.execute("select coalesce(max(i), 0) from n").fetchone()[0]
    if i % 5 == 0 and i != head():
        commit(i)
    while True:
        i += 1
        with open(f"{HOME}/log", "a") as f:
            f.write(f"{i}\n")
        with db:
            db.execute("insert into n values (?, ?)", (i, "x" * (i % 3000)))
        if i % 5 == 0:
            commit(i)
        print(i, flush=True)


def check():
    """Says the last number of each, after looking at all there is."""
    db = database()
    assert db.execute("pragma integrity_check").fetchone()[0] == "ok"
    n, top = db.execute("select count(*), coalesce(max(i), 0) from n").fetchone()
    assert n == top, f"{n} rows up to {top}"
    git("fsck", "--full", "--strict")
    heads = subjects()
    assert heads == [str(i) for i in range(5 * len(heads), 0, -5)], heads[:9]
    with open(f"{HOME}/log") as f:
        last = [int(line) for line in f][-1]
    print(last, top, 5 * len(heads))


if __name__ == "__main__":
    globals()[sys.argv[1]]()
