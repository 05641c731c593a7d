"""Acting as a GitHub App, against a far side that looks at every signature, claim and token."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from commandcenter.core.errors import ForgeError, GitError, InputError, Refusal
from commandcenter.core.forge import Decision, Forge, Review
from commandcenter.core.pull_request import RepositoryName
from commandcenter.core.run import Health
from commandcenter.forges import repository_of
from commandcenter.forges.github import GitHub
from commandcenter.forges.github_app import NEEDED, App, missing, narrowed, read_key
from commandcenter.forges.inspection import findings
from commandcenter.forges.opening import open_app, open_remote
from commandcenter.forges.tokens import Token, Tokens
from commandcenter.hub import HubRepository, create_hub
from commandcenter.settings import AppAccount, ForgeAccount, ForgeSettings
from commandcenter.store.database import open_engine, sqlite_url
from commandcenter.store.hub import HubStore
from commandcenter.system.git import Git
from commandcenter.system.repository import inspect_repository
from commandcenter.testing.forges import served, write_commit
from commandcenter.testing.github_apps import LIFE_S, GitHubApps, Installed
from commandcenter.testing.github_contract import Checked, Contract

PROJECT_PARTS = ("acme", "project")
PROJECT = RepositoryName(*PROJECT_PARTS)
HUB_TOKEN = "the-hubs-token-of-the-app"
BOT = "night-shift[bot]"
GRANTED = {**NEEDED, "checks": "read", "issues": "write"}


@pytest.fixture(scope="module")
def key() -> RSAPrivateKey:
    return generate_rsa(65537, 2048)


@pytest.fixture
def key_file(tmp_path: Path, key: RSAPrivateKey) -> Path:
    return written(tmp_path / "app.pem", pem(key))


def pem(key: RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def written(file: Path, content: bytes, mode: int = 0o600) -> Path:
    file.write_bytes(content)
    file.chmod(mode)
    return file


@dataclass
class Far:
    """GitHub as an App sees it, and how to come there."""

    apps: GitHubApps
    url: str
    key_file: Path
    git_dir: Path
    client: httpx.AsyncClient
    wrong: list[str]
    """What does not fit GitHub's description."""
    ticks_s: float = 0.0

    @property
    def remote(self) -> str:
        """Give the address of the repository for git."""
        return f"{self.url}/acme/project.git"

    def app(
        self,
        *,
        installation: int = 0,
        key_file: Path | None = None,
        now_s: Callable[[], float] = time.time,
        app_id: str = "",
    ) -> App:
        """Return the App with another key, clock or id."""
        account = AppAccount(
            app_id or self.apps.app_id, key_file or self.key_file, installation=installation
        )
        return App(
            *(account, self.url, {}),
            client=self.client,
            now_s=now_s,
            ticks_s=lambda: self.ticks_s,
        )

    def forge(self, app: App) -> Forge:
        """Return the adapter for the repository."""
        remote = repository_of(self.remote, [app.site])
        assert remote is not None
        return GitHub(self.url, *PROJECT_PARTS, app.sign_in(remote), client=self.client)

    def chosen(self, account: AppAccount) -> ForgeSettings:
        """Return settings by which this is GitHub."""
        accounts = {**ForgeSettings().accounts, "github": ForgeAccount(self.url, "GITHUB_TOKEN")}
        return ForgeSettings("github", accounts, account)

    def minted(self) -> int:
        """Return how many tokens were asked for."""
        return sum(each.endswith("/access_tokens") for each in self.apps.asked)


@pytest.fixture
async def far(
    tmp_path: Path,
    template: Path,
    key: RSAPrivateKey,
    key_file: Path,
    contract: Contract | None,
) -> AsyncIterator[Far]:
    folder = tmp_path / "hub"
    shutil.copytree(template, folder)
    repository = HubRepository("acme", "project", folder / "project.git")
    engine = open_engine(sqlite_url(folder / "hub.db"))
    repositories = {("acme", "project"): repository}
    logins = {HUB_TOKEN: BOT, "of-a-person": "person"}
    hub = create_hub(HubStore(engine), lambda *name: repositories.get(name), Git(), logins)
    installed = Installed(7, [PROJECT, RepositoryName("acme", "other")], dict(GRANTED))
    apps = GitHubApps(hub, key.public_key(), HUB_TOKEN, installations=[installed])
    apps.git_dirs[PROJECT] = repository.git_dir
    checked = Checked(apps, contract) if contract else None
    async with (
        served(checked or apps) as url,
        httpx.AsyncClient(trust_env=False, verify=False) as client,
    ):
        wrong = checked.findings if checked else []
        yield Far(apps, url, key_file, repository.git_dir, client, wrong)
    engine.dispose()
    assert wrong == []


async def test_a_pull_request_is_opened_reviewed_and_merged_as_the_app(far: Far) -> None:
    head = await write_commit(Git(), far.git_dir, "task", {"a.txt": "a\n"}, "A", await tip(far))
    forge = far.forge(far.app())

    made = await forge.propose(head_branch="task", base_branch="main", title="A task", body="A")
    said = await forge.review(made.number, Review(head, Decision.APPROVE, "Good.", ()))
    await forge.comment(made.number, "Once.")
    await forge.comment(made.number, "Once.")
    await forge.merge(made.number, head=head)

    assert made.author == BOT
    assert said == "comment"  # its own pull request
    comments = await read(far, f"issues/{made.number}/comments")
    assert [each["body"] for each in comments] == ["Once."]
    assert far.minted() == 1


async def test_the_settings_lead_to_the_app_and_not_to_a_token(far: Far) -> None:
    chosen = far.chosen(far.app().account)
    app = open_app(chosen, {})
    assert app is not None

    forge = open_remote(far.remote, chosen, Tokens({"github": Token("wrong", "$X")}), app)

    assert forge is not None
    assert await forge.proposals() == []
    await forge.aclose()
    await app.aclose()


async def test_calls_at_the_same_time_share_one_token(far: Far) -> None:
    app = far.app()
    forges = [far.forge(app) for _ in range(8)]

    await asyncio.gather(*(forge.proposals() for forge in forges))

    assert far.minted() == 1


async def test_a_token_is_good_for_its_repository_and_for_what_is_needed_only(far: Far) -> None:
    await far.forge(far.app()).proposals()

    (issued,) = far.apps.issued.values()
    assert issued.repositories == [PROJECT]
    assert issued.permissions == {**NEEDED, "checks": "read"}


async def test_a_token_is_renewed_before_it_ends(far: Far) -> None:
    forge = far.forge(far.app())
    await forge.proposals()

    far.ticks_s = LIFE_S - 400
    await forge.proposals()
    before = far.minted()
    far.ticks_s = LIFE_S - 200
    await forge.proposals()

    assert (before, far.minted()) == (1, 2)


async def test_a_token_that_ends_in_the_middle_of_a_run_is_renewed_once(far: Far) -> None:
    app = far.app()
    forge = far.forge(app)
    await forge.proposals()

    far.apps.revoke_all()
    await asyncio.gather(*(far.forge(app).proposals() for _ in range(4)))

    assert far.minted() == 2


async def test_a_forge_that_takes_no_token_is_not_asked_for_ever(far: Far) -> None:
    forge = far.forge(far.app())
    far.apps.life_s = 0

    with pytest.raises(ForgeError) as refused:
        await forge.proposals()

    assert refused.value.refusal is Refusal.TOKEN
    assert far.minted() == 2


@pytest.mark.parametrize("ahead_s", [50, 3600, -3600])
async def test_a_clock_that_is_wrong_is_found_out(far: Far, ahead_s: int) -> None:
    forge = far.forge(far.app(now_s=lambda: time.time() + ahead_s))

    await forge.proposals()
    far.ticks_s = LIFE_S - 400
    await forge.proposals()

    assert far.minted() == 1


async def test_an_installation_that_is_named_is_used(far: Far) -> None:
    await far.forge(far.app(installation=7)).proposals()

    assert "GET /app/installations/7" in far.apps.asked


async def test_a_key_of_another_app_says_what_to_do(far: Far, tmp_path: Path) -> None:
    other = written(tmp_path / "other.pem", pem(generate_rsa(65537, 2048)))

    for app in (far.app(key_file=other), far.app(app_id="Iv1.another")):
        with pytest.raises(ForgeError, match="does not take the key of the App") as refused:
            await far.forge(app).proposals()
        assert refused.value.refusal is Refusal.TOKEN
        assert "github_app_id and the private key" in refused.value.hint


@pytest.mark.parametrize("installation", [0, 8])
async def test_an_app_that_is_not_installed_names_the_page_to_do_it(
    far: Far, installation: int
) -> None:
    far.apps.installations[0].repositories = [RepositoryName("acme", "other")]

    with pytest.raises(ForgeError, match="is not installed on acme/project") as refused:
        await far.forge(far.app(installation=installation)).proposals()

    assert refused.value.refusal is Refusal.ABSENT
    assert "https://github.example/apps/night-shift/installations/new" in refused.value.hint


async def test_a_named_installation_without_the_repository_is_not_taken(far: Far) -> None:
    far.apps.installations[0].repositories = [RepositoryName("acme", "other")]

    with pytest.raises(ForgeError, match="is not installed on acme/project"):
        await far.forge(far.app(installation=7)).proposals()


async def test_a_submission_is_told_so_by_git_already(far: Far) -> None:
    far.apps.installations[0].repositories = [RepositoryName("acme", "other")]

    with pytest.raises(ForgeError, match="is not installed on acme/project"):
        await inspect_repository(Git(sign_in=far.app()), far.remote)


async def test_a_suspended_installation_is_named(far: Far) -> None:
    far.apps.installations[0].suspended = True

    with pytest.raises(ForgeError, match="is suspended") as refused:
        await far.forge(far.app()).proposals()

    assert "https://github.example/settings/installations/7" in refused.value.hint


async def test_what_an_app_may_not_do_is_named(far: Far) -> None:
    far.apps.installations[0].permissions = {"contents": "read", "pull_requests": "write"}

    with pytest.raises(ForgeError, match="contents: write, statuses: write") as refused:
        await far.forge(far.app()).proposals()

    assert "accept them" in refused.value.hint


def test_no_more_is_asked_for_than_is_granted_and_used() -> None:
    granted = {"contents": "write", "checks": "read", "administration": "write"}

    assert narrowed(granted) == {"contents": "write", "checks": "read"}
    assert missing(granted) == ("pull_requests: write", "statuses: write")
    assert missing({**NEEDED, "contents": "admin"}) == ()


async def test_git_pushes_as_the_app_and_the_token_is_in_no_argument(far: Far) -> None:
    git = Git(sign_in=far.app())

    await push(git, far, "one")
    # The control: nobody else may.
    with pytest.raises(GitError, match="could not read Username"):
        await push(Git(), far, "two")

    assert (await branches(far)) == ["main", "one"]


async def test_a_push_whose_token_ended_is_made_with_a_new_one(far: Far) -> None:
    git = Git(sign_in=far.app())
    await push(git, far, "one")

    far.apps.revoke_all()
    await push(git, far, "two")

    assert await branches(far) == ["main", "one", "two"]
    assert far.minted() == 2


async def test_git_and_the_adapter_share_one_token(far: Far) -> None:
    app = far.app()

    await asyncio.gather(push(Git(sign_in=app), far, "one"), far.forge(app).proposals())

    assert far.minted() == 1


async def test_helpers_of_the_user_are_neither_asked_nor_told(far: Far, tmp_path: Path) -> None:
    told = tmp_path / "told"
    helper = written(tmp_path / "helper", f"#!/bin/sh\necho $1 >>{told}\n".encode(), 0o700)
    config = tmp_path / "gitconfig"
    config.write_text(
        f'[credential]\n\thelper = {helper}\n[credential "{far.url}"]\n\thelper = {helper}\n'
        f"[core]\n\taskPass = {helper}\n"
    )
    user = {"GIT_CONFIG_GLOBAL": str(config), "PATH": os.defpath}

    await push(Git(user=user, sign_in=far.app()), far, "one")
    far.apps.life_s = 0
    with pytest.raises(GitError):
        await push(Git(user=user, sign_in=far.app()), far, "two")
    asked = told.exists()
    # The control: without an App they are.
    with pytest.raises(GitError):
        await push(Git(user=user), far, "three")

    assert not asked
    assert "get" in told.read_text()


@pytest.mark.parametrize(
    "address",
    [
        "https://other.example/acme/project",
        "http://github.example/acme/project",
        "git@127.0.0.1:acme/project.git",
        "https://127.0.0.1.other.example/acme/project",
        "/srv/git/project",
    ],
)
async def test_a_remote_elsewhere_gets_no_token(far: Far, address: str) -> None:
    assert await far.app().environment(address) == {}
    assert far.minted() == 0


async def test_the_token_is_in_no_error_log_or_representation(
    far: Far, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    app = far.app()
    git = Git(sign_in=app)
    await push(git, far, "one")
    (token,) = far.apps.issued
    remote = repository_of(far.remote, [app.site])
    assert remote is not None
    sign_in = app.sign_in(remote)
    assert await sign_in.token() == token

    with pytest.raises(GitError) as refused:
        await git.run("push", far.remote, "no-such-branch", git_dir=far.git_dir, network=True)
    shown = [repr(app), repr(sign_in), repr(vars(sign_in)), repr(app.account), caplog.text]
    shown += [str(refused.value), refused.value.stderr]

    assert not [each for each in shown if token in each or "BEGIN" in each]


async def test_an_answer_that_is_odd_is_told_without_the_token_in_it(far: Far) -> None:
    far.apps.odd = {"expires_at": ["never"]}

    with pytest.raises(ForgeError, match="something else than expected") as refused:
        await far.forge(far.app()).proposals()

    (token,) = far.apps.issued
    assert token not in f"{refused.value.message}{refused.value.__cause__}"
    far.wrong.clear()  # it was meant to be


def protected(key: RSAPrivateKey) -> bytes:
    locked = BestAvailableEncryption(b"a password")
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked)


def public(key: RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def of_another_kind(_key: RSAPrivateKey) -> bytes:
    other = generate_private_key(SECP256R1())
    return other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    "content",
    [
        protected,
        public,
        of_another_kind,
        lambda key: pem(key)[:300],
        lambda key: b"",
        lambda key: b"\xff" * 5000,
    ],
)
def test_what_is_no_key_of_an_app_is_refused_without_being_shown(
    tmp_path: Path, key: RSAPrivateKey, content: Callable[[RSAPrivateKey], bytes]
) -> None:
    file = written(tmp_path / "key.pem", content(key))

    with pytest.raises(InputError, match="is no private key of a GitHub App") as refused:
        read_key(AppAccount("1", file), {})

    assert str(file) in refused.value.message
    assert "BEGIN" not in f"{refused.value.message}{refused.value.hint}"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o601])
def test_a_key_that_others_can_reach_is_refused(
    tmp_path: Path, key: RSAPrivateKey, mode: int
) -> None:
    file = written(tmp_path / "key.pem", pem(key), mode)

    with pytest.raises(InputError, match="Others can reach") as refused:
        read_key(AppAccount("1", file), {})

    assert refused.value.hint == f"chmod 600 {file}"


def test_a_key_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_key(AppAccount("1", tmp_path / "none.pem"), {})
    with pytest.raises(InputError, match="has no private key") as refused:
        read_key(AppAccount("1"), {})

    assert "GITHUB_APP_PRIVATE_KEY" in refused.value.hint


def test_a_key_may_be_in_a_variable_of_one_line(key: RSAPrivateKey) -> None:
    one_line = pem(key).decode().replace("\n", "\\n")

    found = read_key(AppAccount("1"), {"GITHUB_APP_PRIVATE_KEY": one_line})

    assert found.private_numbers() == key.private_numbers()


async def test_doctor_tells_what_the_app_may_do(far: Far) -> None:
    app = far.app()

    (found,) = await findings(far.chosen(app.account), Tokens(), app)

    assert found.health is Health.OK
    assert "as the App Iv23liExample (`night-shift`)" in found.detail
    assert f"key from {far.key_file}" in found.detail
    assert "contents: write" in found.detail


async def test_doctor_tells_what_the_app_lacks(far: Far) -> None:
    far.apps.installations[0].permissions = {"contents": "write"}
    app = far.app()

    (found,) = await findings(far.chosen(app.account), Tokens(), app)

    assert found.health is Health.MISSING
    assert found.hint.endswith("pull_requests: write, statuses: write")


async def test_doctor_tells_of_a_key_that_is_wrong(far: Far, tmp_path: Path) -> None:
    other = written(tmp_path / "other.pem", pem(generate_rsa(65537, 2048)))
    for file, words in ((other, "does not take the key"), (tmp_path / "none", "cannot be read")):
        app = far.app(key_file=file)

        (found,) = await findings(far.chosen(app.account), Tokens(), app)

        assert (found.health, words in found.detail) == (Health.MISSING, True)


async def tip(far: Far) -> str:
    return (await Git().run("rev-parse", "main", git_dir=far.git_dir)).text


async def branches(far: Far) -> list[str]:
    listed = await Git().run(
        "for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads", git_dir=far.git_dir
    )
    return listed.text.split("\n")


async def push(git: Git, far: Far, branch: str) -> None:
    """Push a branch over HTTP; the other side is the same repository."""
    where = ("push", "--quiet", far.remote, f"main:refs/heads/{branch}")
    await git.run(*where, git_dir=far.git_dir, network=True)


async def read(far: Far, path: str) -> list[dict[str, str]]:
    """Return what the hub shows to the App."""
    (token,) = far.apps.issued
    answer = await far.client.get(
        f"{far.url}/repos/acme/project/{path}", headers={"Authorization": f"Bearer {token}"}
    )
    listed: list[dict[str, str]] = answer.raise_for_status().json()
    return listed
