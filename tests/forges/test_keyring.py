"""Tokens in a keyring: the real `keyring` package, with a backend that keeps a file."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from commandcenter.core.errors import InputError, WorldError
from commandcenter.core.run import Health
from commandcenter.forges.inspection import findings
from commandcenter.forges.keyring import keyring_token
from commandcenter.forges.opening import open_remote
from commandcenter.forges.tokens import find_tokens
from commandcenter.settings import ForgeAccount, ForgeSettings
from commandcenter.system import process

TOKEN = "glpat-0123456789abcdef"
BACKEND = """
import keyring.backend, keyring.errors

class Kept(keyring.backend.KeyringBackend):
    priority = 9

    def get_password(self, service, username):
        {first}
        kept = dict(line.split("=", 1) for line in open("{kept}").read().splitlines())
        return kept.get(f"{{service}}/{{username}}")

    def set_password(self, service, username, password):
        raise NotImplementedError
"""

Prepare = Callable[..., dict[str, str]]


@pytest.fixture
def prepare(tmp_path: Path) -> Prepare:
    """Return a function that makes a keyring, as its own configuration names it."""

    def make(kept: str, first: str = "") -> dict[str, str]:
        (tmp_path / "kept").write_text(kept)
        source = BACKEND.format(kept=tmp_path / "kept", first=first)
        (tmp_path / "kept_backend.py").write_text(source)
        settings = tmp_path / "config" / "python_keyring" / "keyringrc.cfg"
        settings.parent.mkdir(parents=True)
        settings.write_text(
            f"[backend]\ndefault-keyring=kept_backend.Kept\nkeyring-path={tmp_path}\n"
        )
        home = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "HOME": str(tmp_path)}
        return {**home, "PATH": os.defpath, "SECRET": "of-another"}

    return make


async def test_the_token_of_the_host_is_found_and_no_other(prepare: Prepare) -> None:
    environ = prepare(f"commandcenter/gitlab.com={TOKEN}\nother/github.com=wrong")

    assert await keyring_token("commandcenter", "gitlab.com", environ) == TOKEN
    assert await keyring_token("commandcenter", "github.com", environ) == ""


async def test_a_variable_goes_before_the_keyring_and_that_before_gh(
    prepare: Prepare, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    environ = prepare(f"cc/gitlab.com={TOKEN}\ncc/codeberg.org=wrong\ncc/github.com=kept")
    program = tmp_path / "gh"
    program.write_text("#!/bin/sh\necho gho_0123456789abcdef0123\n")
    program.chmod(0o700)
    environ |= {"GITEA_TOKEN": "named", "PATH": f"{tmp_path}:{os.defpath}"}

    found = await find_tokens(ForgeSettings(keyring="cc"), environ)
    elsewhere = await find_tokens(ForgeSettings(keyring="another"), environ)

    assert {kind: (each.value, each.source) for kind, each in found.by_kind.items()} == {
        "gitea": ("named", "$GITEA_TOKEN"),
        "github": ("kept", "the keyring (cc)"),
        "gitlab": (TOKEN, "the keyring (cc)"),
    }
    assert elsewhere.by_kind["github"].source == "`gh auth token`"
    assert TOKEN not in caplog.text + repr(found)


async def test_it_is_not_asked_unless_the_settings_say_so(prepare: Prepare, tmp_path: Path) -> None:
    environ = prepare(f"commandcenter/gitlab.com={TOKEN}", first=f"open('{tmp_path}/asked', 'w')")

    assert (await find_tokens(ForgeSettings("gitlab"), environ)).by_kind == {}
    assert not (tmp_path / "asked").exists()
    # The control: the backend would have left a trace.
    await find_tokens(ForgeSettings("gitlab", keyring="commandcenter"), environ)
    assert (tmp_path / "asked").exists()


@pytest.mark.parametrize(
    ("first", "words"),
    [
        (f"raise keyring.errors.KeyringLocked('{TOKEN}')", "The keyring is locked."),
        (f"raise keyring.errors.InitError('{TOKEN}')", "The keyring cannot be opened."),
        (f"raise RuntimeError('{TOKEN}')", "The keyring cannot be read (RuntimeError)."),
    ],
)
async def test_a_keyring_that_does_not_open_is_told_in_our_words(
    prepare: Prepare, first: str, words: str
) -> None:
    environ = prepare("", first=first)

    with pytest.raises(WorldError) as refused:
        await keyring_token("commandcenter", "gitlab.com", environ)

    assert refused.value.message == words
    assert TOKEN not in f"{refused.value.message}{refused.value.hint}"


async def test_a_keyring_that_asks_somebody_is_left(prepare: Prepare) -> None:
    environ = prepare("", first="__import__('time').sleep(600)")

    with pytest.raises(WorldError, match="did not answer") as refused:
        await keyring_token("commandcenter", "gitlab.com", environ, timeout_s=0.2)

    assert "may be locked" in refused.value.hint


async def test_it_is_told_no_secret_of_ours(prepare: Prepare, tmp_path: Path) -> None:
    environ = prepare(
        "", first=f"open('{tmp_path}/env', 'w').write(repr(__import__('os').environ))"
    )

    await keyring_token("commandcenter", "gitlab.com", environ)

    told = (tmp_path / "env").read_text()
    assert "python_keyring" not in told
    assert str(tmp_path / "config") in told
    assert "of-another" not in told


async def test_what_is_wrong_with_it_is_said_where_a_token_is_needed(prepare: Prepare) -> None:
    environ = prepare("", first="raise keyring.errors.KeyringLocked('x')")
    chosen = ForgeSettings("gitlab", keyring="commandcenter")

    tokens = await find_tokens(chosen, environ)
    with pytest.raises(InputError, match="need a token for GitLab") as refused:
        open_remote("https://gitlab.com/acme/project", chosen, tokens)

    assert refused.value.hint.startswith("The keyring is locked. Unlock it")
    (found,) = await findings(chosen, tokens, None)
    assert (found.health, found.detail[:22]) == (Health.DEGRADED, "The keyring is locked.")


async def test_doctor_says_where_a_token_came_from(prepare: Prepare) -> None:
    environ = prepare(f"commandcenter/127.0.0.1={TOKEN}")
    accounts = {"gitlab": ForgeAccount("http://127.0.0.1:1/api/v4", "GITLAB_TOKEN")}
    chosen = ForgeSettings("gitlab", accounts, keyring="commandcenter")

    (found,) = await findings(chosen, await find_tokens(chosen, environ), None)

    assert found.health is Health.DEGRADED  # nobody answers there
    assert "token from the keyring (commandcenter)" in found.detail
    assert TOKEN not in found.detail


async def test_without_the_package_it_is_said_how_to_get_it() -> None:
    # An interpreter to which the package is not there.
    program = (
        "import asyncio, sys; sys.modules['keyring'] = None\n"
        "from commandcenter.forges.tokens import find_tokens\n"
        "from commandcenter.settings import ForgeAccount, ForgeSettings\n"
        "print(asyncio.run(find_tokens(ForgeSettings('gitlab', keyring='x'), {})).problem)\n"
    )

    said = await process.run((sys.executable, "-c", program))

    assert b"`keyring` is not installed. Install it: pip install" in said.stdout
