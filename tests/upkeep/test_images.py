"""What `gc` does with the images that a container engine holds for a data folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from commandcenter.core.upkeep import Item, Thing
from commandcenter.settings import Keep
from commandcenter.system import container
from commandcenter.testing.engine import Dockerd
from commandcenter.testing.yard import Yard

pytestmark = pytest.mark.slow

BRIEF = Keep(logs_days=0, salvage_days=0, images_days=0)


def images(items: dict[tuple[Thing, str], Item]) -> dict[str, Item]:
    return {item.name: item for item in items.values() if item.what is Thing.IMAGE}


async def test_an_image_goes_after_the_last_run_and_the_present_one_stays(
    tmp_path: Path, engine: Dockerd
) -> None:
    async with Yard.open(tmp_path, BRIEF, engine.environment) as yard:
        mode = yard.equipment.workspaces["container"]
        assert (await mode.probe()).ok
        (present,) = await mode.images()
        owner = present.tag.removeprefix("commandcenter-host-").partition(":")[0]
        old = container.build_tag(owner, "0123456789abcdef")
        engine.docker("tag", present.tag, old)
        job = await yard.begin("exec_1")

        during = images(await yard.gc())
        await yard.fail(job)
        after = images(await yard.gc())
        left = await mode.images()

    assert not any(item.free for item in during.values())
    assert "may need it" in during[f"docker {old}"].why
    assert after[f"docker {old}"].free
    assert after[present.name].why == "commands run in it"
    assert left == (present,)


async def test_an_engine_that_does_not_answer_is_named_and_the_rest_is_collected(
    tmp_path: Path, engine: Dockerd
) -> None:
    async with Yard.open(tmp_path, BRIEF, engine.environment) as yard:
        assert (await yard.equipment.workspaces["container"].probe()).ok
    nobody = {"DOCKER_HOST": f"unix://{tmp_path}/nobody"}
    async with Yard.open(
        tmp_path / "again", BRIEF, {**nobody, "COMMANDCENTER_DATA_DIR": f"{tmp_path / 'data'}"}
    ) as yard:
        found = images(await yard.gc())

    (item,) = found.values()
    assert (item.name, item.free) == ("all of container", False)
    assert "cannot be asked" in item.why
