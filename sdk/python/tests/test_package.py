"""The package as a whole: its names, its types, what importing it costs."""

from __future__ import annotations

import importlib
import inspect
import pathlib
import pickle
import subprocess
import sys

import boxlite
import host
import pytest
from boxlite.simplebox import MoreOptions

# What BoxLite's own package exports, as far as we have it.
NAMES = """
    AccessToken ApiKeyCredential Box BoxInfo Boxlite BoxliteRestOptions BoxMetrics BoxOptions BoxStateInfo
    CopyOptions ExecStderr ExecStdout Execution HealthCheckOptions ImageHandle ImageInfo ImagePullResult
    HealthState HealthStatus NetworkSpec ImageRegistry Options RuntimeMetrics Secret SecurityOptions Credential
    SimpleBox CodeBox ExecResult BoxliteError ExecError TimeoutError ParseError InteractiveBox
    SyncBoxlite SyncBox SyncImageHandle SyncExecution SyncExecStdout SyncExecStderr SyncSimpleBox SyncCodeBox
    AdvancedBoxOptions ContainerCapabilities ExecStdin VolumeHandle VolumeInfo
""".split()

# They come later; until then they are absent, not stubs.
ABSENT = "BrowserBox ComputerBox SkillBox SnapshotHandle CloneOptions ExportOptions SyncSkillBox".split()


def test_names() -> None:
    assert sorted(boxlite.__all__) == sorted(boxlite._MODULE_OF)
    for name in boxlite.__all__:
        value = getattr(boxlite, name)
        assert inspect.getdoc(value), f"{name} has no docstring"
    assert set(NAMES) <= set(boxlite.__all__)
    for name in ABSENT:
        assert not hasattr(boxlite, name)


def test_submodules_are_there_without_being_imported() -> None:
    for name in boxlite._MODULES:
        assert getattr(boxlite, name) is importlib.import_module(f"boxlite.{name}")


def test_public_methods_are_documented_and_typed() -> None:
    for name in boxlite.__all__:
        value = getattr(boxlite, name)
        if not inspect.isclass(value):
            continue
        for method, f in inspect.getmembers(value, inspect.isfunction):
            if method.startswith("_") or not f.__module__.startswith("boxlite"):
                continue
            assert inspect.getdoc(f), f"{name}.{method} has no docstring"
            assert "return" in f.__annotations__, f"{name}.{method} has no types"
            assert "Any" not in str(f.__annotations__), f"{name}.{method} has Any"


def test_sync_api_has_every_method_of_the_other() -> None:
    for sync, other in (
        (boxlite.SyncBox, boxlite.Box),
        (boxlite.SyncBoxlite, boxlite.Boxlite),
        (boxlite.SyncExecution, boxlite.Execution),
        (boxlite.SyncSimpleBox, boxlite.SimpleBox),
        (boxlite.SyncCodeBox, boxlite.CodeBox),
        (boxlite.SyncImageHandle, boxlite.ImageHandle),
        (boxlite.SyncVolumeHandle, boxlite.VolumeHandle),
        (boxlite.SyncNetworkHandle, boxlite.NetworkHandle),
        (boxlite.SyncBoxTunnel, boxlite.BoxTunnel),
    ):
        for name, f in inspect.getmembers(other, inspect.isfunction):
            if name.startswith("_"):
                continue
            mine = getattr(sync, name, None)
            assert mine is not None, f"{sync.__name__} has no {name}"
            want = list(inspect.signature(f).parameters)
            assert list(inspect.signature(mine).parameters) == want, f"{sync.__name__}.{name}"
            assert not inspect.iscoroutinefunction(mine), f"{sync.__name__}.{name} is asynchronous"


def test_simple_boxes_take_every_option() -> None:
    options = set(inspect.signature(boxlite.BoxOptions).parameters)
    named = set(inspect.signature(boxlite.SimpleBox).parameters)
    # "tty" is about the terminal of a main command, which these boxes have none of.
    assert set(MoreOptions.__annotations__) == options - named - {"tty"}


def test_import_loads_next_to_nothing() -> None:
    code = "import sys, boxlite; print({'asyncio', 'ssl', 'subprocess', 'dataclasses'} & set(sys.modules))"
    out = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(host.SOURCES)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    assert out == "set()\n"


def test_sources_need_nothing_newer_than_python_3_10() -> None:
    import ast

    for path in host.SOURCES.rglob("*.py"):
        ast.parse(path.read_text("utf-8"), str(path), feature_version=(3, 10))


def test_nothing_can_be_pickled_that_belongs_to_this_process(tmp_path: pathlib.Path) -> None:
    runtime = boxlite.Boxlite(boxlite.Options(home_dir=str(tmp_path)))
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(runtime)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(boxlite.SyncBoxlite(boxlite.Options(home_dir=str(tmp_path))))


def test_the_name_of_the_native_module() -> None:
    from boxlite import boxlite as native

    for name in native.__all__:
        assert getattr(native, name) is getattr(boxlite, name)
