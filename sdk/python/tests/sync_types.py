"""What a type checker makes of the sync API. It is never run: where a type is
another, or a wrong call is taken, mypy says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import boxlite

if TYPE_CHECKING:
    from typing_extensions import assert_type

    def use(runtime: boxlite.SyncBoxlite, code: boxlite.SyncCodeBox) -> None:
        box = runtime.create(boxlite.BoxOptions(image="alpine:latest"), name="x")
        assert_type(box, boxlite.SyncBox)
        assert_type(runtime.get("x"), "boxlite.SyncBox | None")
        assert_type(runtime.get_or_create(boxlite.BoxOptions()), tuple[boxlite.SyncBox, bool])
        execution = box.exec("sh", ["-c", "true"], tty=True, timeout_secs=1)
        assert_type(execution, boxlite.SyncExecution)
        assert_type(execution.wait(), boxlite.ExecutionResult)
        assert_type(execution.stdout().read(), str)
        assert_type(box.network.tunnel(80), boxlite.SyncBoxTunnel)
        assert_type(code.exec("a", "b", env={"A": "B"}, timeout=1.5), boxlite.ExecResult)
        assert_type(code.run("print()", timeout=1), str)
        assert_type(code.stop(), None)
        with boxlite.SyncSimpleBox("alpine:latest", name="x", labels={"a": "b"}) as simple:
            assert_type(simple, boxlite.SyncSimpleBox)
        with code as same:
            assert_type(same, boxlite.SyncCodeBox)
        # Each of these is wrong, and has to be said to be so.
        box.exec(1)  # type: ignore[arg-type]
        box.exec("true", nonsense=1)  # type: ignore[call-arg]
        code.run()  # type: ignore[call-arg]
        execution.kill("9")  # type: ignore[arg-type]
        boxlite.SyncCodeBox(nonsense=1)  # type: ignore[call-arg]
