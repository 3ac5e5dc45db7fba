"""Health checks, on real boxes."""

from __future__ import annotations

import asyncio
import datetime
import pathlib
from collections.abc import Sequence

import pytest

import boxlite
from boxlite.info import box_info


def options(volumes: Sequence[tuple[str, str]] = (), **health: int) -> boxlite.BoxOptions:
    return boxlite.BoxOptions(
        image="alpine:latest",
        auto_remove=False,
        volumes=volumes,
        advanced=boxlite.AdvancedBoxOptions(health_check=boxlite.HealthCheckOptions(**health)),
    )


async def becomes(box: boxlite.Box, state: str) -> boxlite.HealthStatus:
    """Wait until a box is in a state of health."""

    async def look() -> boxlite.HealthStatus:
        while (health := (await box.info()).health_status).state.value != state:
            await asyncio.sleep(0.1)
        return health

    return await asyncio.wait_for(look(), 30)


async def test_a_box_that_does_not_answer_is_unhealthy_until_it_does(runtime, tmp_path: pathlib.Path):
    box = await runtime.create(options([(str(tmp_path), "/shared")], interval=1, timeout=1, retries=2, start_period=0))
    try:
        assert (await box.info()).health_status == boxlite.HealthStatus()
        # An agent that was stopped at once could not tell that this has started.
        hear = "hear() { until [ -e /shared/$1 ]; do sleep 0.05; done; }"
        execution = await box.exec("sh", ["-c", f"{hear}; hear stop; kill -STOP 1; hear go; kill -CONT 1"])
        health = await becomes(box, "healthy")
        assert health.state.is_healthy() and health.failures == 0 and health.last_check is not None
        checked = datetime.datetime.fromisoformat(health.last_check.rstrip("Z")[:19])
        assert abs(checked - datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)).total_seconds() < 60
        (tmp_path / "stop").touch()
        health = await becomes(box, "unhealthy")
        assert health.state.is_unhealthy() and health.failures >= 2
        assert (await box.info()).state.running
        (tmp_path / "go").touch()
        assert (await execution.wait()).exit_code == 0
        await becomes(box, "healthy")
        await box.stop()
        stopped = await runtime.get_info(box.id)
        assert stopped is not None and stopped.health_status == boxlite.HealthStatus()
    finally:
        await runtime.remove(box.id, force=True)


async def test_health_begins_at_starting(runtime):
    box = await runtime.create(options(interval=3600))
    try:
        for _ in range(2):
            await box.start()
            health = (await box.info()).health_status
            assert health == boxlite.HealthStatus(boxlite.HealthState("starting")) and health.state.is_starting()
            await box.stop()
            box = await runtime.get(box.id)
    finally:
        await runtime.remove(box.id, force=True)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"interval": 0}, "interval 0: give 1 to 86400 seconds"),
        ({"timeout": 86401}, "timeout 86401: give 1 to 86400 seconds"),
        ({"start_period": -1}, "start_period -1: give 0 to 86400 seconds"),
        ({"retries": 0}, "retries 0: give at least 1"),
        ({"retries": 101}, "retries 101: give 1 to 100"),
    ],
)
async def test_checks_that_make_no_sense(runtime, given, why):
    with pytest.raises(boxlite.InvalidArgumentError, match=f"^invalid argument: .*{why}"):
        await runtime.create(options(**given))


@pytest.mark.parametrize(
    ("told", "want"),
    [
        (None, boxlite.HealthStatus()),
        ("healthy", boxlite.HealthStatus()),
        ({"state": "well", "failures": "many", "last_check": 7}, boxlite.HealthStatus()),
        ({"state": "none", "failures": 0}, boxlite.HealthStatus()),
        (
            {"state": "unhealthy", "failures": 4, "last_check": "2026-01-02T03:04:05Z"},
            boxlite.HealthStatus(boxlite.HealthState("unhealthy"), 4, "2026-01-02T03:04:05Z"),
        ),
    ],
)
def test_what_a_server_tells(told, want):
    assert box_info({"box_id": "b", "health_status": told}).health_status == want
