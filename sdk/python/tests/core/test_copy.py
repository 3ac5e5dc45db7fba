"""Copies: tar streams, honest and hostile, and real ones."""

from __future__ import annotations

import io
import os
import random
import socket
import stat
import tarfile

import pytest

import boxlite
from boxlite._pack import Packer
from boxlite._unpack import Unpacker


def pack(path, *, recursive=True, follow=False, parent=True) -> bytes:
    return b"".join(Packer(str(path), recursive=recursive, follow=follow, parent=parent).parts())


def unpack(data: bytes, dest, *, overwrite=True, parent=True, contents=False, recursive=True, piece=1 << 20) -> None:
    u = Unpacker(str(dest), overwrite=overwrite, parent=parent, contents=contents, recursive=recursive)
    try:
        for at in range(0, len(data), piece):
            u.feed(data[at : at + piece])
        u.finish()
    finally:
        u.close()


def archive(*entries: tuple[str, dict], format: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as tar:
        for name, more in entries:
            info, data = tarfile.TarInfo(name), more.pop("data", b"")
            info.size, info.mode = len(data), 0o644
            for k, v in more.items():
                setattr(info, k, v)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


DIR, LINK, HARD = {"type": tarfile.DIRTYPE}, tarfile.SYMTYPE, tarfile.LNKTYPE


def look(top) -> dict[str, tuple]:
    """Everything below a directory, as far as copies keep it."""
    found = {}
    for path in sorted(top.rglob("*")):
        st = path.lstat()
        what = path.read_bytes() if stat.S_ISREG(st.st_mode) else os.readlink(path) if path.is_symlink() else None
        mtime = None if path.is_symlink() else st.st_mtime
        found[str(path.relative_to(top))] = (stat.S_IMODE(st.st_mode), what, mtime)
    return found


@pytest.fixture
def tree(tmp_path):
    """A directory with all that may be in one."""
    top = tmp_path / "tree"
    (top / "sub" / "empty").mkdir(parents=True)
    (top / "a").write_bytes(b"a")
    (top / "none").write_bytes(b"")
    (top / "sub" / "big").write_bytes(random.Random(1).randbytes(2_500_000))
    (top / "sub" / "hole").write_bytes(bytes(300_000) + b"x" + bytes(200_000))
    (top / "link").symlink_to("a")
    (top / "dangling").symlink_to("/no/such/file")
    os.link(top / "a", top / "hard")
    (top / ("long" * 50)).write_bytes(b"long")
    (top / "naïve €").write_bytes(b"x")
    (top / os.fsdecode(b"no \xff text")).write_bytes(b"y")
    (top / "script").write_bytes(b"#!")
    (top / "script").chmod(0o750)
    (top / "sub").chmod(0o700)
    os.mkfifo(top / "pipe")
    os.utime(top / "a", (1_000_000_000.25, 1_000_000_000.25))
    os.utime(top / "sub", (1_000_000_001, 1_000_000_001))
    return top


@pytest.mark.parametrize("piece", [1 << 20, 511])
def test_there_and_back(tree, tmp_path, piece):
    want = look(tree)
    del want["pipe"]  # means nothing elsewhere
    unpack(pack(tree), tmp_path / "out", piece=piece)
    assert look(tmp_path / "out" / "tree") == want
    assert os.stat(tmp_path / "out/tree/a").st_ino == os.stat(tmp_path / "out/tree/hard").st_ino
    assert os.stat(tmp_path / "out/tree/sub/hole").st_blocks * 512 < 400_000
    unpack(pack(tree, parent=False), tmp_path / "contents", contents=True)
    assert look(tmp_path / "contents") == want
    unpack(pack(tree), tmp_path / "stripped", parent=False)
    assert look(tmp_path / "stripped") == want
    unpack(pack(tree), tmp_path / "out", piece=piece)  # over what is there
    assert look(tmp_path / "out" / "tree") == want


def test_names_of_the_top(tree):
    def names(*args, **more):
        return tarfile.open(fileobj=io.BytesIO(pack(*args, **more))).getnames()

    assert names(tree / "a") == ["a"]
    assert "tree/sub/empty" in names(tree)
    assert "./sub/empty" in names(tree, parent=False) and "./sub/empty" in names(f"{tree}/.")
    assert names(tree / "link") == ["link"]
    assert tarfile.open(fileobj=io.BytesIO(pack(tree / "link"))).getmembers()[0].issym()


def test_links_are_followed_if_asked(tree):
    (tree / "loop").symlink_to("..")
    (tree / "dirlink").symlink_to("sub")
    with tarfile.open(fileobj=io.BytesIO(pack(tree, follow=True))) as tar:
        assert tar.getmember("tree/link").isreg() or tar.getmember("tree/link").islnk()
        assert tar.getmember("tree/dirlink").isdir() and "tree/dirlink/big" in tar.getnames()
        assert tar.getmember("tree/dangling").issym()
    with tarfile.open(fileobj=io.BytesIO(pack(tree / "link", follow=True))) as tar:
        assert tar.extractfile("link").read() == b"a"


def test_a_tree_that_holds_itself(tmp_path):
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "self").symlink_to(".")
    (tmp_path / "t" / "above").symlink_to("../t")
    with tarfile.open(fileobj=io.BytesIO(pack(tmp_path / "t", follow=True))) as tar:
        assert sorted(tar.getnames()) == ["t", "t/above", "t/self"]


def test_sources_that_cannot_be_copied(tree):
    with pytest.raises(boxlite.StorageError, match="^storage error: copy .*no/such: No such file"):
        pack(tree / "no" / "such")
    with pytest.raises(boxlite.ConfigError, match="recursive is off"):
        pack(tree, recursive=False)


def test_where_it_goes(tmp_path):
    """As docker cp has it."""
    one = archive(("name", {"data": b"x"}))
    (tmp_path / "dir").mkdir()
    for dest, result in (
        ("dir", "dir/name"),
        ("new", "new"),
        ("deep/er/new", "deep/er/new"),
        ("slash/", "slash/name"),
    ):
        unpack(one, f"{tmp_path}/{dest}")
        assert (tmp_path / result).read_bytes() == b"x"
    tree = archive(("top", DIR), ("top/x", {"data": b"y"}))
    unpack(tree, tmp_path / "dir")
    unpack(tree, tmp_path / "missing")
    unpack(tree, tmp_path / "bare", parent=False)
    for result in ("dir/top/x", "missing/top/x", "bare/x"):
        assert (tmp_path / result).read_bytes() == b"y"
    unpack(archive(), tmp_path / "made", contents=True)
    assert (tmp_path / "made").is_dir()
    with pytest.raises(boxlite.StorageError, match="is a directory, and .*new is a file"):
        unpack(tree, tmp_path / "new")
    with pytest.raises(boxlite.ConfigError, match="recursive is off"):
        unpack(tree, tmp_path / "dir", recursive=False)


def test_what_is_there_is_replaced_whole_or_not_at_all(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"old")
    new = archive(("x", {"data": b"new" * 1000, "mode": 0o4755}))
    with pytest.raises(boxlite.AlreadyExistsError, match=f"^already exists: {file}"):
        unpack(new, file, overwrite=False)
    with pytest.raises(boxlite.StorageError, match="ended in the middle"):
        unpack(new[:2000], file)
    assert file.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]
    unpack(new, file)
    assert file.read_bytes() == b"new" * 1000
    assert stat.S_IMODE(file.stat().st_mode) == 0o755  # setuid is dropped
    target = tmp_path / "target"
    target.write_bytes(b"kept")
    file.unlink()
    file.symlink_to(target)
    unpack(new, file)  # the link is replaced, not followed
    assert target.read_bytes() == b"kept" and not file.is_symlink()


HOSTILE = {
    "above": [("../evil", {"data": b"x"})],
    "above, hidden": [("top", DIR), ("top/../../evil", {"data": b"x"})],
    "absolute": [("/tmp/evil", {"data": b"x"})],
    "dots": [("..", DIR)],
    "through a link": [
        ("top", DIR),
        ("top/l", {"type": LINK, "linkname": "{outside}"}),
        ("top/l/evil", {"data": b"x"}),
    ],
    "through a link of a link": [
        ("top", DIR),
        ("top/a", {"type": LINK, "linkname": "."}),
        ("top/a/b", {"type": LINK, "linkname": "{outside}"}),
    ],
    "a directory over a link": [("top", DIR), ("top/l", {"type": LINK, "linkname": "{outside}"}), ("top/l", DIR)],
    "a hard link out": [("top", DIR), ("top/h", {"type": HARD, "linkname": "../outside/secret"})],
    "a hard link through a link": [
        ("top", DIR),
        ("top/l", {"type": LINK, "linkname": "{outside}"}),
        ("top/h", {"type": HARD, "linkname": "top/l/secret"}),
    ],
    "a device": [("top", DIR), ("top/dev", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3})],
    "a pipe": [("top", DIR), ("top/pipe", {"type": tarfile.FIFOTYPE})],
    "of a name too long": [("top", DIR), ("top/" + "x/" * 2100, {"data": b"x"})],
    "too deep": [("top", DIR), ("top/" + "x/" * 300, {"data": b"x"})],
    "a file as a directory": [("top", DIR), ("top/f", {"data": b"x"}), ("top/f/g", {"data": b"x"})],
    "a directory as a file": [("top", DIR), ("top/d", DIR), ("top/d", {"data": b"x"})],
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_hostile_streams(tmp_path, name, format):
    outside, dest = tmp_path / "outside", tmp_path / "dest"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    before = look(outside)
    entries = [
        (n, {k: v.format(outside=outside) if isinstance(v, str) else v for k, v in more.items()})
        for n, more in HOSTILE[name]
    ]
    with pytest.raises(boxlite.StorageError):
        unpack(archive(*entries, format=format), dest)
    assert look(outside) == before
    assert os.stat(outside / "secret").st_nlink == 1
    assert {p.name for p in tmp_path.iterdir()} <= {"outside", "dest"}
    assert not os.path.exists("/tmp/evil")


def test_a_second_top_is_refused(tmp_path):
    """A file that becomes the destination is one file."""
    with pytest.raises(boxlite.StorageError, match="is beside 'a'"):
        unpack(archive(("a", {"data": b"1"}), ("b", {"data": b"2"})), tmp_path / "x")
    with pytest.raises(boxlite.StorageError, match="is beside 'top'"):
        unpack(archive(("top", DIR), ("other", {"data": b"2"})), tmp_path / "y", parent=False)


@pytest.mark.parametrize(
    "header",
    [
        b"x" * 512,
        archive(("a", {}))[:100] + b"777" + archive(("a", {}))[103:512],
    ],
)
def test_headers_that_are_none(tmp_path, header):
    with pytest.raises(boxlite.StorageError, match="bad copy"):
        unpack(header + bytes(1024), tmp_path / "x")


@pytest.mark.parametrize(
    "records",
    [
        b"nonsense",
        b"5 a=b\n",
        b"999 path=x\n",
        b"18446744073709551616 a=b\n",
        b"9 size=x\n",
        b"12 size=-99\n",
        b"1" * 5000 + b" a=b\n",
    ],
)
def test_records_that_are_none(tmp_path, records):
    extension = tarfile.TarInfo("pax")
    extension.type, extension.size = tarfile.XHDTYPE, len(records)
    head = extension.tobuf(tarfile.USTAR_FORMAT) + records + bytes(-len(records) % 512)
    with pytest.raises(boxlite.StorageError):
        unpack(head + archive(("a", {"data": b"x"})), tmp_path / "x")


def test_an_extension_that_is_too_large(tmp_path):
    extension = tarfile.TarInfo("pax")
    extension.type, extension.size = tarfile.XHDTYPE, 1 << 30
    with pytest.raises(boxlite.StorageError, match="extension of 1073741824 bytes"):
        unpack(extension.tobuf(tarfile.USTAR_FORMAT), tmp_path / "x")


def test_extensions_without_end(tmp_path):
    """Each is small, and none is of anything."""
    data = b"13 comment=x\n"
    extension = tarfile.TarInfo("pax")
    extension.type, extension.size = tarfile.XHDTYPE, len(data)
    one = extension.tobuf(tarfile.USTAR_FORMAT) + data + bytes(512 - len(data))
    with pytest.raises(boxlite.StorageError, match="the 17th of its entry"):
        unpack(one * 100, tmp_path / "x")


def test_nothing_without_end(tmp_path):
    with pytest.raises(boxlite.StorageError, match="it does not end"):
        unpack(archive(("a", {"data": b"x"})) + bytes(3 << 20), tmp_path / "x")
    unpack(archive(("a", {"data": b"x"})) + bytes(100_000), tmp_path / "y")


def test_noise(tmp_path):
    """Whatever is changed in a stream, it ends with our error or without one,
    and outside of the destination there is nothing new."""
    good = bytearray(
        archive(
            ("top", DIR),
            ("top/a", {"data": b"x" * 700}),
            ("top/l", {"type": LINK, "linkname": "/"}),
            ("top/ü" * 30, {}),
        )
    )
    rng = random.Random(7)
    for i in range(400):
        bad = bytearray(good)
        for _ in range(rng.choice((1, 3, 20))):
            bad[rng.randrange(len(bad))] = rng.randrange(256)
        for at in range(0, len(bad), 512):  # sums are mended, so that more of it is believed
            block = bad[at : at + 512]
            if rng.random() < 0.7 and block[257:262] == b"ustar":
                block[148:156] = b" " * 8
                bad[at + 148 : at + 156] = b"%06o\0 " % sum(block)
        try:
            unpack(bytes(bad), tmp_path / "out" / str(i), piece=rng.choice((100, 1 << 20)))
        except boxlite.BoxliteError:
            pass
    assert {p.name for p in tmp_path.iterdir()} == {"out"}


def test_no_descriptor_is_left(tmp_path, tree):
    before = len(os.listdir("/proc/self/fd"))
    for data in (pack(tree), pack(tree)[:100_000], archive(("../x", {}))):
        for overwrite in (True, False):
            try:
                unpack(data, tmp_path / "out", overwrite=overwrite)
            except boxlite.BoxliteError:
                pass
    assert len(os.listdir("/proc/self/fd")) == before


async def test_with_a_box(box, tree, tmp_path):
    want = look(tree)
    del want["pipe"]
    await box.copy_in(tree, "/copy")
    await box.copy_out("/copy/tree", tmp_path / "out")
    assert look(tmp_path / "out" / "tree") == want
    await box.copy_in(tree, "/bare", boxlite.CopyOptions(include_parent=False))
    await box.copy_out("/bare", tmp_path / "bare", boxlite.CopyOptions(include_parent=False))
    await box.copy_out("/bare/.", tmp_path / "dot")
    assert look(tmp_path / "bare") == look(tmp_path / "dot") == want
    await box.copy_in(tree / "a", "/single/renamed.txt")
    await box.copy_out("/single/renamed.txt", tmp_path / "back.txt")
    assert (tmp_path / "back.txt").read_bytes() == b"a"
    await box.copy_out("/single", tmp_path / "only")  # a directory with one file is no file
    assert (tmp_path / "only" / "single" / "renamed.txt").read_bytes() == b"a"
    await box.copy_out("/single", tmp_path / "only2", boxlite.CopyOptions(include_parent=False))
    assert (tmp_path / "only2" / "renamed.txt").read_bytes() == b"a"


async def test_what_is_refused(box, tree, tmp_path):
    await box.copy_in(tree / "a", "/there/a")
    careful = boxlite.CopyOptions(overwrite=False)
    with pytest.raises(boxlite.AlreadyExistsError, match="^already exists: "):
        await box.copy_in(tree / "script", "/there/a", careful)
    with pytest.raises(boxlite.AlreadyExistsError, match="^already exists: "):
        await box.copy_out("/there/a", tree / "a", careful)
    with pytest.raises(boxlite.NotFoundError, match="^storage error: .*no/such"):
        await box.copy_out("/no/such", tmp_path / "x")
    with pytest.raises(boxlite.StorageError, match="^storage error: "):
        await box.copy_in("/no/such/file", "/x")
    with pytest.raises(boxlite.ConfigError, match="^configuration error: "):
        await box.copy_in(tree, "/x", boxlite.CopyOptions(recursive=False))
    with pytest.raises(boxlite.ConfigError, match="^configuration error: "):
        await box.copy_out("/there", tmp_path / "x", boxlite.CopyOptions(recursive=False))
    with pytest.raises(boxlite.InvalidArgumentError):
        await box.copy_in(tree, "")
    assert not (tmp_path / "x").exists()
    out = await box.exec("cat", ["/there/a"])
    assert await out.stdout().read() == "a"


async def test_a_large_file_is_the_same_byte_for_byte(box, tmp_path):
    (tmp_path / "in").write_bytes(os.urandom(30_000_001))
    await box.copy_in(tmp_path / "in", "/large")
    await box.copy_out("/large", tmp_path / "out")
    assert (tmp_path / "in").read_bytes() == (tmp_path / "out").read_bytes()


async def test_a_source_that_shrinks_is_an_error(box, tmp_path, monkeypatch):
    (tmp_path / "in").write_bytes(bytes(5 << 20))
    real = os.read

    def read(fd, n):
        if n == 1 << 20:
            os.truncate(tmp_path / "in", 10)
        return real(fd, n)

    monkeypatch.setattr("boxlite._pack.os.read", read)
    with pytest.raises(boxlite.StorageError, match="became shorter"):
        await box.copy_in(tmp_path / "in", "/shrinks")


def test_sockets_are_left_out(tmp_path):
    (tmp_path / "d").mkdir()
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(tmp_path / "d" / "s"))
        assert tarfile.open(fileobj=io.BytesIO(pack(tmp_path / "d"))).getnames() == ["d"]
