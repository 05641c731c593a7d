"""The token that `gh` keeps, asked of a program of that name."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

import pytest

from commandcenter.forges.gh import gh_token
from commandcenter.forges.tokens import Token, find_tokens
from commandcenter.settings import AppAccount, ForgeSettings

TOKEN = "gho_" + "0123456789abcdef" * 2


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"PATH": f"{tmp_path}:{os.defpath}", "HOME": str(tmp_path), "SECRET": "of-another"}


def _gh(tmp_path: Path, script: str) -> None:
    program = tmp_path / "gh"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


async def test_the_token_of_the_host_is_asked_for(tmp_path: Path, environ: dict[str, str]) -> None:
    _gh(tmp_path, f'[ "$*" = "auth token --hostname ghe.example" ] && echo {TOKEN}')

    assert await gh_token("ghe.example", environ) == TOKEN
    assert await gh_token("github.com", environ) == ""


@pytest.mark.parametrize(
    "script",
    [
        "echo no oauth token found for github.com >&2; exit 1",
        f"echo {TOKEN}; exit 1",
        "echo You are not logged in.",
        f"echo {TOKEN}; echo and more",
        "true",
        "yes | head -c 1000000",
    ],
)
async def test_what_is_no_token_is_none(
    tmp_path: Path, environ: dict[str, str], script: str
) -> None:
    _gh(tmp_path, script)

    assert await gh_token("github.com", environ) == ""


async def test_one_that_hangs_is_ended(tmp_path: Path, environ: dict[str, str]) -> None:
    _gh(tmp_path, "sleep 600")

    assert await gh_token("github.com", environ, timeout_s=0.2) == ""


async def test_no_program_is_no_token() -> None:
    assert await gh_token("github.com", {"PATH": "/nonexistent"}) == ""
    assert await gh_token("github.com", {}) == ""


async def test_it_is_told_no_secret_of_ours(tmp_path: Path, environ: dict[str, str]) -> None:
    _gh(tmp_path, f"env > {tmp_path}/env; echo {TOKEN}")

    await gh_token("github.com", environ)

    told = (tmp_path / "env").read_text()
    assert f"HOME={tmp_path}" in told
    assert "of-another" not in told


async def test_it_is_asked_only_where_it_is_needed(
    tmp_path: Path, environ: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    _gh(tmp_path, f"echo {TOKEN}; echo {TOKEN} >&2")

    found = await find_tokens(ForgeSettings(), environ)

    assert found.by_kind == {"github": Token(TOKEN, "`gh auth token`")}
    assert (await find_tokens(ForgeSettings("gitlab"), environ)).by_kind == {}
    named = await find_tokens(ForgeSettings(), {**environ, "GITHUB_TOKEN": "set"})
    assert named.by_kind == {"github": Token("set", "$GITHUB_TOKEN")}
    as_app = await find_tokens(ForgeSettings(app=AppAccount("1")), environ)
    assert as_app.by_kind == {}
    assert TOKEN not in caplog.text + repr(found)
