"""Images come from a registry that wants to know who asks."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import os
import pathlib
import tarfile
import threading
from collections.abc import Iterator

import boxlite
import host
import pytest

PASSWORD, TOKEN = "correct-horse", "a-token-of-some-length"
ALLOWED = {"Basic " + base64.b64encode(f"me:{PASSWORD}".encode()).decode(), f"Bearer {TOKEN}"}
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def image_of(archive: pathlib.Path) -> tuple[bytes, dict[str, bytes]]:
    """The manifest and the blobs of an archive, as a registry has them."""
    with tarfile.open(archive) as tar:
        files = {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}  # type: ignore[union-attr]
    (described,) = json.loads(files["manifest.json"])
    blobs: dict[str, bytes] = {}

    def blob(name: str, media: str) -> dict[str, object]:
        digest = "sha256:" + hashlib.sha256(files[name]).hexdigest()
        blobs[digest] = files[name]
        return {"mediaType": media, "digest": digest, "size": len(files[name])}

    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": blob(described["Config"], "application/vnd.docker.container.image.v1+json"),
        "layers": [blob(n, "application/vnd.docker.image.rootfs.diff.tar.gzip") for n in described["Layers"]],
    }
    return json.dumps(manifest).encode(), blobs


@pytest.fixture(scope="module")
def registry() -> Iterator[str]:
    """The address of a registry that has every name and tag, all one image."""
    images = os.environ.get("BOXLITE_TEST_IMAGES") or host.CHECKOUT / "build" / "images"
    archive = pathlib.Path(images, "alpine.tar")
    if not archive.exists():
        host.missing("images", f'{archive} is not there; run "make images"')
    manifest, blobs = image_of(archive)

    class Registry(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.headers.get("Authorization") in ALLOWED
            what = self.path.rpartition("/")[2]
            body = b""
            if known:
                body = blobs.get(what, manifest) if "/v2/" != self.path else b"{}"
            self.send_response(200 if known else 401)
            self.send_header("WWW-Authenticate", 'Basic realm="test"')
            self.send_header("Content-Type", MANIFEST if "/manifests/" in self.path else "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "credential", [{"username": "me", "password": PASSWORD}, {"bearer_token": TOKEN}], ids=["password", "token"]
)
async def test_pull(registry: str, home: pathlib.Path, tmp_path: pathlib.Path, credential: dict[str, str]) -> None:
    options = boxlite.Options(str(tmp_path / "home"), [boxlite.ImageRegistry(registry, "http", **credential)])
    runtime = boxlite.Boxlite(options)
    pulled = await runtime.images.pull(f"{registry}/private/tool:1")
    assert (pulled.reference, pulled.layer_count) == (f"{registry}/private/tool:1", 1)
    assert [i.repository for i in await runtime.images.list()] == [f"{registry}/private/tool"]
    box = await runtime.create(boxlite.BoxOptions(image=f"{registry}/private/tool:1"))
    assert await (await box.exec("echo", ["pulled"])).stdout().read() == "pulled\n"
    await runtime.shutdown()


async def test_short_names_are_searched(registry: str, home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    known = boxlite.ImageRegistry(registry, "http", search=True, username="me", password=PASSWORD)
    runtime = boxlite.Boxlite(boxlite.Options(str(tmp_path / "home"), [known]))
    box = await runtime.create(boxlite.BoxOptions(image="tool:2"))
    assert (await (await box.exec("true")).wait()).exit_code == 0
    await runtime.shutdown()


async def test_refused(registry: str, home: pathlib.Path, tmp_path: pathlib.Path) -> None:
    stranger = boxlite.ImageRegistry(registry, "http", username="me", password="wrong-password")
    runtime = boxlite.Boxlite(boxlite.Options(str(tmp_path / "home"), [stranger]))
    with pytest.raises(boxlite.ImageError) as refused:
        await runtime.images.pull(f"{registry}/private/tool:1")
    assert registry in str(refused.value) and "wrong-password" not in str(refused.value)
    box = await runtime.create(boxlite.BoxOptions(image=f"{registry}/private/tool:1"))
    with pytest.raises(boxlite.ImageError, match=registry):
        await box.exec("true")
    await runtime.remove(box.id)
    await runtime.shutdown()
