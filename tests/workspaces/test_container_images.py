"""What image a command runs in: named, built from the repository, or refused."""

from __future__ import annotations

import asyncio
import io
import re
import subprocess
import tarfile
from pathlib import Path

import pytest

from commandcenter.core.devcontainer import Recipe
from commandcenter.core.errors import InputError, WorkspaceError
from commandcenter.core.workspace import Workspace
from commandcenter.system import container
from commandcenter.system.git import Git
from commandcenter.testing.engine import Dockerd
from commandcenter.testing.forges import write_commit
from commandcenter.testing.workspaces import Example, opened, sh
from commandcenter.workspaces.container import Container

pytestmark = pytest.mark.slow

BASE = "only-a-shell:1"
DOCKERFILE = f"""\
FROM {BASE}
ARG WHAT=nothing
RUN echo built with $WHAT > /built
COPY hello.txt /copied
ENV PATH=/own:/bin
VOLUME /data
"""


@pytest.fixture(scope="module")
def base(engine: Dockerd) -> str:
    """An image that holds a shell, and no other program."""
    archive = io.BytesIO()
    listed = subprocess.run(("ldd", "/bin/dash"), capture_output=True, check=True, text=True).stdout
    with tarfile.open(fileobj=archive, mode="w", dereference=True) as tar:
        tar.add("/bin/dash", "bin/sh")
        for path in re.findall(r"/\S+", listed):
            tar.add(path, path.lstrip("/"))
    subprocess.run(
        ("docker", "import", "-", BASE),
        input=archive.getvalue(),
        env=dict(engine.environment),
        check=True,
        capture_output=True,
    )
    return BASE


async def repository(folder: Path, **files: str) -> Example:
    git, vault = Git(), folder / "vault"
    await git.run("init", "--quiet", "--bare", str(vault), git_dir=None)
    named = {name.replace("__", "/"): text for name, text in files.items()}
    commit = await write_commit(
        git, vault, "main", {"hello.txt": "hello\n", **named}, "First", None
    )
    return Example(vault, commit)


def kind(folder: Path, engine: Dockerd, **options: object) -> Container:
    return Container(folder / "state", Git(), engine.environment, **options)  # type: ignore[arg-type]


async def said(workspace: Workspace, script: str) -> str:
    done = await workspace.run("ask", sh(script))
    assert done.ok, done
    return done.stdout.decode()


async def test_a_named_image_is_used_with_nothing_of_the_host_in_it(
    tmp_path: Path, engine: Dockerd, base: str
) -> None:
    example = await repository(tmp_path)
    async with opened(kind(tmp_path, engine, recipe=Recipe(base)), example) as workspace:
        told = await said(workspace, "read x <hello.txt; echo $x; [ -e /usr/bin/git ] || echo none")

    assert told == "hello\nnone\n"


async def test_a_dockerfile_of_the_repository_is_built_once_for_the_same_content(
    tmp_path: Path, engine: Dockerd, base: str
) -> None:
    example = await repository(tmp_path, Dockerfile=DOCKERFILE)
    mode = kind(tmp_path, engine, recipe=Recipe(dockerfile="Dockerfile"))
    script = "read x </built; echo $x; read x </copied; echo $x; echo $PATH; echo 1 >/data/x; pwd"

    async with opened(mode, example) as workspace:
        told = await said(workspace, script)
    (log,) = (tmp_path / "state" / "builds").iterdir()
    first = log.read_text()
    log.write_text("not built again")
    async with opened(mode, example):
        pass

    assert told == "built with nothing\nhello\n/own:/bin\n/work\n"
    assert f"FROM {base}" in first
    assert log.read_text() == "not built again"


async def test_a_devcontainer_file_says_what_to_build_and_what_to_set(
    tmp_path: Path, engine: Dockerd, base: str
) -> None:
    text = """{
        "build": {"dockerfile": "../Dockerfile", "context": "..", "args": {"WHAT": "care"}},
        "containerEnv": {"COLOUR": "green"}
    }"""
    example = await repository(
        tmp_path, Dockerfile=DOCKERFILE, **{".devcontainer__devcontainer.json": text}
    )
    mode = kind(tmp_path, engine, devcontainer=".devcontainer/devcontainer.json")

    async with opened(mode, example) as workspace:
        told = await said(workspace, "read x </built; echo $x; echo $COLOUR")

    assert told == "built with care\ngreen\n"


async def test_a_devcontainer_file_that_would_run_on_the_host_is_refused_and_runs_nothing(
    tmp_path: Path, engine: Dockerd, base: str
) -> None:
    text = f'{{"image": "{base}", "initializeCommand": "touch {tmp_path}/ran"}}'
    example = await repository(tmp_path, **{"devcontainer.json": text})
    mode = kind(tmp_path, engine, devcontainer="devcontainer.json")

    with pytest.raises(WorkspaceError, match="`initializeCommand` is refused"):
        async with opened(mode, example):
            pass
    with pytest.raises(InputError, match="`initializeCommand` is refused"):
        await mode.require(example.vault, example.commit)

    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "options",
    [
        {"devcontainer": "devcontainer.json"},
        {"recipe": Recipe(dockerfile="Dockerfile")},
        {"recipe": Recipe(dockerfile="there", context="nowhere")},
    ],
)
async def test_a_commit_without_what_its_image_is_made_of_is_told_before_anything_runs(
    tmp_path: Path, engine: Dockerd, options: dict[str, object]
) -> None:
    example = await repository(tmp_path, there="FROM scratch")
    mode = kind(tmp_path, engine, **options)

    with pytest.raises(InputError, match=r"There is no .* in commit"):
        await mode.require(example.vault, example.commit)


async def test_a_commit_with_what_its_image_is_made_of_is_taken(
    tmp_path: Path, engine: Dockerd
) -> None:
    example = await repository(tmp_path, Dockerfile="FROM scratch")

    await kind(tmp_path, engine, recipe=Recipe(dockerfile="Dockerfile")).require(
        example.vault, example.commit
    )


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"Dockerfile": f"FROM {BASE}\nRUN exit 7\n"}, "returned a non-zero code: 7"),
        ({"Dockerfile": "FROM localhost:1/none\n"}, "localhost:1"),
        ({"other": ""}, "Dockerfile"),
    ],
)
async def test_a_build_that_fails_says_why(
    tmp_path: Path, engine: Dockerd, base: str, files: dict[str, str], words: str
) -> None:
    example = await repository(tmp_path, **files)
    mode = kind(tmp_path, engine, recipe=Recipe(dockerfile="Dockerfile"))

    with pytest.raises(WorkspaceError, match=re.escape(words)):
        async with opened(mode, example):
            pass


async def test_a_link_in_the_repository_gives_a_build_nothing_of_the_host(
    tmp_path: Path, engine: Dockerd, base: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(f"FROM {base}\n")
    example = await repository(tmp_path)
    git = Git()
    blob = await git.run(
        "hash-object", "-w", "--stdin", git_dir=example.vault, stdin=str(secret).encode()
    )
    tree = await git.run(
        "mktree", git_dir=example.vault, stdin=f"120000 blob {blob.text}\tDockerfile\n".encode()
    )
    commit = await git.run(
        *("-c", "user.name=A", "-c", "user.email=a@example.org"),
        *("commit-tree", "-m", "link", tree.text),
        git_dir=example.vault,
    )
    mode = kind(tmp_path, engine, recipe=Recipe(dockerfile="Dockerfile"))

    with pytest.raises(WorkspaceError, match="not a plain file"):
        async with opened(mode, Example(example.vault, commit.text)):
            pass


async def test_an_unknown_image_is_refused_by_its_name(tmp_path: Path, engine: Dockerd) -> None:
    strength = await kind(tmp_path, engine, recipe=Recipe("localhost:1/no-such-image")).probe()

    assert not strength.ok
    assert "There is no image localhost:1/no-such-image" in " ".join(strength.problems)
    assert "docker pull localhost:1/no-such-image" in strength.hint


def test_the_default_image_is_the_same_archive_for_the_same_user() -> None:
    assert container.skeleton(64000) == container.skeleton(64000)
    assert container.skeleton(64000) != container.skeleton(1000)


async def test_an_image_that_was_built_can_be_removed_and_is_built_again(
    tmp_path: Path, engine: Dockerd, base: str
) -> None:
    example = await repository(tmp_path, Dockerfile=DOCKERFILE)
    mode = kind(tmp_path, engine, recipe=Recipe(dockerfile="Dockerfile"))
    async with opened(mode, example):
        pass
    (built,) = [image for image in await mode.images() if not image.current]

    problem = await mode.remove_image(built)
    left = await mode.images()
    async with opened(mode, example) as workspace:
        told = await said(workspace, "read x </copied; echo $x")

    assert built.size_bytes > 0
    assert problem == ""
    assert built.tag not in {image.tag for image in left}
    assert told == "hello\n"


async def test_images_of_other_data_folders_are_neither_listed_nor_lost(
    tmp_path: Path, engine: Dockerd, base: str
) -> None:
    example = await repository(tmp_path, Dockerfile=DOCKERFILE)
    recipe = Recipe(dockerfile="Dockerfile")
    ours, theirs = (kind(tmp_path / name, engine, recipe=recipe) for name in ("a", "b"))
    for mode in (ours, theirs):
        async with opened(mode, example):
            pass
    before = await theirs.images()

    for image in await ours.images():
        assert await ours.remove_image(image) == ""

    assert await ours.images() == ()
    assert await theirs.images() == before
    assert len(before) == 2


async def test_an_image_that_was_used_again_meanwhile_stays(
    tmp_path: Path, engine: Dockerd, base: str
) -> None:
    example = await repository(tmp_path, Dockerfile=DOCKERFILE)
    mode = kind(tmp_path, engine, recipe=Recipe(dockerfile="Dockerfile"))
    async with opened(mode, example):
        pass
    (looked_at,) = [image for image in await mode.images() if not image.current]
    async with opened(mode, example):
        pass

    assert await mode.remove_image(looked_at) == "it was used meanwhile"
    assert looked_at.tag in {image.tag for image in await mode.images()}


async def test_an_image_that_a_command_runs_in_stays(
    tmp_path: Path, engine: Dockerd, base: str
) -> None:
    # Of an image with another name besides, only this one would go.
    alone = f"{DOCKERFILE}RUN echo {tmp_path}\n"
    example = await repository(tmp_path, Dockerfile=alone)
    mode = kind(tmp_path, engine, recipe=Recipe(dockerfile="Dockerfile"))
    started = asyncio.Event()
    async with opened(mode, example) as workspace:
        running = asyncio.create_task(
            workspace.run(
                "wait",
                sh("echo started; until [ -e go ]; do :; done; echo went on"),
                on_line=lambda _: started.set(),
            )
        )
        await started.wait()
        (built,) = [image for image in await mode.images() if not image.current]
        problem = await mode.remove_image(built)
        (tree,) = (tmp_path / "state" / "ws").glob("*/tree")
        (tree / "go").touch()
        done = await running

    assert "is using its referenced image" in problem
    assert (done.ok, done.stdout) == (True, b"started\nwent on\n")


async def test_the_log_of_a_build_that_failed_can_be_removed(
    tmp_path: Path, engine: Dockerd, base: str
) -> None:
    example = await repository(tmp_path, Dockerfile=f"FROM {BASE}\nRUN exit 7\n")
    mode = kind(tmp_path, engine, recipe=Recipe(dockerfile="Dockerfile"))
    with pytest.raises(WorkspaceError):
        async with opened(mode, example):
            pass
    (failed,) = [image for image in await mode.images() if not image.current]

    problem = await mode.remove_image(failed)

    assert failed.name.startswith("log of a build")
    assert problem == ""
    assert list((tmp_path / "state" / "builds").iterdir()) == []


async def test_images_are_not_said_to_be_none_when_the_engine_does_not_answer(
    tmp_path: Path, engine: Dockerd
) -> None:
    assert (await kind(tmp_path, engine).probe()).ok
    elsewhere = {**engine.environment, "DOCKER_HOST": f"unix://{tmp_path}/nobody"}

    with pytest.raises(WorkspaceError):
        await Container(tmp_path / "state", Git(), elsewhere, engine="docker").images()
