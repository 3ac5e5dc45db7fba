"""The same without asyncio: for scripts, and for notebooks, where an event loop
runs already."""

import boxlite

with boxlite.SyncSimpleBox(image="alpine:latest") as box:
    print(box.exec("echo", "hello").stdout, end="")
    result = box.exec("sh", "-c", "echo trouble >&2; exit 3")
    print("exit code", result.exit_code, "and on standard error:", result.stderr, end="")
