"""The build backend of the package: wheels and sdists, as PEP 517 wants them.

A wheel carries the boxlite program, one static file, so its tag names the
processor and no C library. The same files give the same bytes: times are fixed
and entries sorted.

``python backend/boxlite_build.py DIR`` writes both into DIR.
"""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import io
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
NAME = "boxlite"
# What an sdist is made of, beside its PKG-INFO.
SOURCES = ("README.md", "LICENSE", "pyproject.toml", "backend", "src", "tests")
# The program in a wheel; boxlite._server looks for it there.
PROGRAM = "boxlite/bin/boxlite"
# Processors by their number in the header of an ELF file.
MACHINES = {62: "x86_64", 183: "aarch64"}


# --- what pip calls ---------------------------------------------------------


def get_requires_for_build_wheel(config_settings: object = None) -> list[str]:
    return []


get_requires_for_build_sdist = get_requires_for_build_wheel
get_requires_for_build_editable = get_requires_for_build_wheel


def build_wheel(
    wheel_directory: str,
    config_settings: object = None,
    metadata_directory: str | None = None,
) -> str:
    """Write a wheel with the program and return its file name."""
    program = find_program()
    files = dict(package_files())
    if program is not None:
        files[PROGRAM] = program.read_bytes()
    return write_wheel(wheel_directory, files, platforms(program))


def build_editable(
    wheel_directory: str,
    config_settings: object = None,
    metadata_directory: str | None = None,
) -> str:
    """Write a wheel that points to this tree, for who works on it."""
    files = {f"__editable__.{NAME}.pth": f"{ROOT / 'src'}\n".encode()}
    return write_wheel(wheel_directory, files, ["any"])


def build_sdist(sdist_directory: str, config_settings: object = None) -> str:
    """Write an archive of the sources and return its file name."""
    base = f"{NAME}-{version()}"
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in sorted(source_files().items()):
            info = tarfile.TarInfo(f"{base}/{name}")
            info.size = len(data)
            info.mtime = timestamp()
            info.mode = 0o644
            tar.addfile(info, io.BytesIO(data))
    path = pathlib.Path(sdist_directory, base + ".tar.gz")
    path.write_bytes(gzip.compress(out.getvalue(), mtime=timestamp()))
    return path.name


# --- what goes in -----------------------------------------------------------


def find_program() -> pathlib.Path | None:
    """Return the program to carry: $BOXLITE_BINARY, or that of the checkout.

    BOXLITE_BINARY=none makes a wheel without, which uses the boxlite in PATH.
    """
    given = os.environ.get("BOXLITE_BINARY")
    if given == "none":
        return None
    found = shutil.which(given or str(ROOT.parent.parent / "bin" / "boxlite"))
    found = found or (None if given else shutil.which("boxlite"))
    if found is None:
        raise SystemExit(
            f"boxlite: no program {given or 'boxlite'} to put into the wheel; run"
            ' "make build" in a checkout, or set BOXLITE_BINARY to its path, or'
            ' to "none" to use the one in PATH'
        )
    return pathlib.Path(found)


def platforms(program: pathlib.Path | None) -> list[str]:
    """Return the platform tags of a wheel with this program.

    It is static, so it runs beside any C library; the oldest tags that pip
    knows for manylinux and musllinux say so.
    """
    if program is None:
        return ["any"]
    with program.open("rb") as f:
        head = f.read(20)
    machine = MACHINES.get(int.from_bytes(head[18:20], "little"))
    if head[:4] != b"\x7fELF" or machine is None:
        raise SystemExit(f"boxlite: {program} is no Linux program for x86_64 or aarch64")
    kinds = ("manylinux2014", "manylinux_2_17", "musllinux_1_1")
    return [f"{kind}_{machine}" for kind in kinds]


def package_files() -> dict[str, bytes]:
    """Return the files of the package by their path in the wheel."""
    src = ROOT / "src"
    return {
        path.relative_to(src).as_posix(): path.read_bytes()
        for path in src.rglob("*")
        if path.suffix == ".py" or path.name == "py.typed"
    }


def source_files() -> dict[str, bytes]:
    """Return the files of the sdist by their path in it."""
    files = {"PKG-INFO": metadata()}
    for top in SOURCES:
        path = license_file() if top == "LICENSE" else ROOT / top
        inside = [path] if path.is_file() else path.rglob("*")
        for p in inside:
            if p.is_file() and "__pycache__" not in p.parts:
                name = top if p == path else p.relative_to(ROOT).as_posix()
                files[name] = p.read_bytes()
    return files


def license_file() -> pathlib.Path:
    """Return the licence: in an sdist beside us, in a checkout at its top."""
    here = ROOT / "LICENSE"
    return here if here.exists() else ROOT.parent.parent / "LICENSE"


@functools.cache
def version() -> str:
    """Return the version: of the sdist this is, else $BOXLITE_VERSION, else git's."""
    info = ROOT / "PKG-INFO"
    if info.exists():
        found = re.search(r"^Version: (.*)$", info.read_text("utf-8"), re.M)
        if found:
            return found[1]
    described = os.environ.get("BOXLITE_VERSION", "")
    if not described:
        try:
            described = subprocess.run(
                ["git", "-C", str(ROOT), "describe", "--tags", "--always", "--dirty"],
                capture_output=True,
                text=True,
                check=True,
            ).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            described = "unknown"
    return public_version(described)


def public_version(described: str) -> str:
    """Turn what git describe says into a version as PEP 440 has it.

    v1.2.3 is 1.2.3; v1.2.3-4-gabc is four commits later, 1.2.3.post4+gabc; a
    bare commit, before the first release, is 0.0.0+gabc.
    """
    dirty = ".dirty" if described.endswith("-dirty") else ""
    described = described.removesuffix("-dirty")
    tag = re.fullmatch(r"v?(\d+(?:\.\d+)*)(?:-(\d+)-(g[0-9a-f]+))?", described)
    if tag and "." in tag[1]:
        after = f".post{tag[2]}+{tag[3]}{dirty}" if tag[2] else dirty and "+dirty"
        return tag[1] + after
    if re.fullmatch(r"[0-9a-f]{7,40}", described):
        return f"0.0.0+g{described}{dirty}"
    return "0.0.0+dev"


def project(field: str) -> str:
    """Return a field of pyproject.toml; Python reads TOML only from 3.11 on."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    found = re.search(rf'^{field} = "(.*)"$', text, re.M)
    if not found:
        raise SystemExit(f"boxlite: pyproject.toml has no {field}")
    return found[1]


def metadata() -> bytes:
    """Return METADATA of the wheel, which is PKG-INFO of the sdist."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    lines = re.search(r"^classifiers = \[\n(.*?)^\]", text, re.M | re.S)
    classifiers = re.findall(r'"(.*)"', lines[1] if lines else "")
    head = [
        "Metadata-Version: 2.1",
        f"Name: {NAME}",
        f"Version: {version()}",
        f"Summary: {project('description')}",
        "License: Apache-2.0",
        *(f"Classifier: {c}" for c in classifiers),
        f"Requires-Python: {project('requires-python')}",
        "Provides-Extra: sync",
        "Description-Content-Type: text/markdown",
    ]
    readme = (ROOT / "README.md").read_text("utf-8")
    return ("\n".join(head) + "\n\n" + readme).encode()


# --- how it is written ------------------------------------------------------


def write_wheel(directory: str, files: dict[str, bytes], tags: list[str]) -> str:
    info = f"{NAME}-{version()}.dist-info"
    wheel = ["Wheel-Version: 1.0", "Generator: boxlite_build"]
    wheel += [f"Root-Is-Purelib: {'true' if tags == ['any'] else 'false'}"]
    wheel += [f"Tag: py3-none-{tag}" for tag in tags]
    files = files | {
        f"{info}/METADATA": metadata(),
        f"{info}/WHEEL": ("\n".join(wheel) + "\n").encode(),
        f"{info}/LICENSE": license_file().read_bytes(),
    }
    record = "".join(f"{name},sha256={digest(data)},{len(data)}\n" for name, data in sorted(files.items()))
    files[f"{info}/RECORD"] = (record + f"{info}/RECORD,,\n").encode()
    path = pathlib.Path(directory, f"{NAME}-{version()}-py3-none-{'.'.join(tags)}.whl")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        for name in sorted(files, key=lambda n: (".dist-info/" in n, n)):
            z.writestr(entry(name), files[name])
    return path.name


def entry(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, time.gmtime(timestamp())[:6])
    info.compress_type = zipfile.ZIP_DEFLATED
    info.create_system = 3  # Unix: the mode below counts
    info.external_attr = (0o755 if name == PROGRAM else 0o644) | 0o100000
    info.external_attr <<= 16
    return info


def digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


def timestamp() -> int:
    """Return the time of every entry, $SOURCE_DATE_EPOCH or the first zip knows."""
    return max(int(os.environ.get("SOURCE_DATE_EPOCH", "0")), 315532800)


def main() -> None:
    directory = sys.argv[1]
    os.makedirs(directory, exist_ok=True)
    for name in (build_wheel(directory), build_sdist(directory)):
        print(pathlib.Path(directory, name))


if __name__ == "__main__":
    main()
