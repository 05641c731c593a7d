from __future__ import annotations

import pytest

from commandcenter.forges import RemoteRepository, repository_of


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
    assert repository_of(url) == RemoteRepository("github.com", "acme", "my.project")


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
    ],
)
def test_another_place_is_not_taken_for_github(url: str) -> None:
    assert repository_of(url) is None
