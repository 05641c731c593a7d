from __future__ import annotations

import pytest

from commandcenter.core.errors import InputError
from commandcenter.forges import RemoteRepository, Site, repository_of
from commandcenter.forges.opening import open_remote
from commandcenter.forges.tokens import Tokens, named_tokens
from commandcenter.settings import ForgeAccount, ForgeSettings

GITHUB = Site("github", "https://api.github.com")
GITEA = Site("gitea", "https://codeberg.org/api/v1")
GITLAB = Site("gitlab", "https://gitlab.com/api/v4")
BELOW = Site("gitea", "https://git.example/forge/api/v1")
TOKENS = named_tokens(
    ForgeSettings(), {"GITHUB_TOKEN": "one", "GITEA_TOKEN": "two", "GITLAB_TOKEN": "three"}
)


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/acme/my.project",
        "https://github.com/acme/my.project.git",
        "https://github.com/acme/my.project/",
        "https://GitHub.com/acme/my.project.git",
        "https://www.github.com/acme/my.project",
        "https://someone:secret@github.com/acme/my.project.git",
        "https://github.com:443/acme/my.project.git",
        "http://github.com/acme/my.project",
        "git://github.com/acme/my.project.git",
        "ssh://git@github.com/acme/my.project.git",
        "ssh://git@ssh.github.com:443/acme/my.project.git",
        "git+ssh://git@github.com/acme/my.project.git",
        "git@github.com:acme/my.project.git",
        "github.com:acme/my.project",
        "git@github.com:/acme/my.project.git",
        "  git@github.com:acme/my.project.git\n",
    ],
)
def test_every_way_to_write_a_github_remote_is_understood(url: str) -> None:
    assert repository_of(url, [GITEA, GITHUB]) == RemoteRepository(GITHUB, "acme", "my.project")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/srv/git/github.com/acme/project.git",
        "../github.com/acme/project",
        "C:\\github.com\\acme",
        "file:///github.com/acme/project",
        "https://gitlab.com/acme/project",
        "https://github.com.evil.example/acme/project",
        "https://evil.example/github.com/acme/project",
        "https://github.com@evil.example/acme/project",
        "https://github.com/acme",
        "https://github.com/acme/",
        "https://github.com/acme/project/tree/main",
        "https://github.com/acme/..",
        "https://github.com/acme/%2e%2e",
        "https://github.com/acme/pro%2Fject",
        "https://[github.com/acme/project",
        "ext::sh -c github.com:acme/project",
        "git@github.com:acme",
        "https://github.com/acme/part/project",
    ],
)
def test_another_place_is_not_taken_for_github(url: str) -> None:
    assert repository_of(url, [GITHUB]) is None


@pytest.mark.parametrize(
    ("url", "site", "owner"),
    [
        ("https://codeberg.org/acme/project.git", GITEA, "acme"),
        ("ssh://git@codeberg.org/acme/project.git", GITEA, "acme"),
        ("git@gitlab.com:acme/project.git", GITLAB, "acme"),
        ("https://gitlab.com/group/part/team/project", GITLAB, "group/part/team"),
        ("ssh://git@altssh.gitlab.com:443/acme/project.git", GITLAB, "acme"),
        ("https://git.example/forge/acme/project.git", BELOW, "acme"),
        ("git@git.example:acme/project.git", BELOW, "acme"),
    ],
)
def test_a_repository_is_found_on_the_forge_that_has_its_host(
    url: str, site: Site, owner: str
) -> None:
    found = repository_of(url, [GITHUB, GITEA, GITLAB, BELOW])

    assert found == RemoteRepository(site, owner, "project")


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("https://github.com/acme/project", "github"),
        ("https://codeberg.org/acme/project", "gitea"),
        ("https://gitlab.com/acme/project", "gitlab"),
    ],
)
async def test_the_origin_says_which_forge_it_is(url: str, kind: str) -> None:
    forge = open_remote(url, ForgeSettings(), TOKENS)

    assert forge is not None
    assert forge.kind == kind
    await forge.aclose()


@pytest.mark.parametrize("kind", ["auto", "hub"])
def test_any_other_origin_is_the_hubs(kind: str) -> None:
    assert open_remote("/srv/git/project", ForgeSettings(kind), TOKENS) is None
    assert open_remote("https://other.example/acme/project", ForgeSettings(kind), TOKENS) is None


async def test_a_forge_of_ones_own_is_known_by_the_address_of_its_api() -> None:
    account = ForgeAccount("https://git.example/forge/api/v1", "FORGEJO_TOKEN")
    chosen = ForgeSettings("auto", {**ForgeSettings().accounts, "gitea": account})
    tokens = named_tokens(chosen, {"FORGEJO_TOKEN": "mine"})

    forge = open_remote("git@git.example:acme/project.git", chosen, tokens)

    assert forge is not None
    assert forge.kind == "gitea"
    await forge.aclose()
    # The token is that forge's: the public one gets none.
    assert open_remote("https://codeberg.org/acme/project", chosen, tokens) is None


def test_a_missing_token_is_named_and_one_in_the_address_is_not_shown() -> None:
    with pytest.raises(InputError) as refused:
        open_remote("https://me:hidden@gitlab.com/acme/project", ForgeSettings(), Tokens())

    assert "GITLAB_TOKEN" in refused.value.hint
    assert "hidden" not in refused.value.message


def test_an_origin_elsewhere_is_refused_when_a_forge_is_chosen() -> None:
    with pytest.raises(InputError, match="is no repository on GitLab") as refused:
        open_remote("https://github.com/acme/project", ForgeSettings("gitlab"), TOKENS)
    assert "gitlab_api" in refused.value.hint
