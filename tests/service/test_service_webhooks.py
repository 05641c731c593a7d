"""Webhooks as a service hears them: proven, remembered over restarts, never more than a look."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from commandcenter.core.errors import InputError
from commandcenter.core.run import Health
from commandcenter.core.webhook import Heard, place
from commandcenter.service.webhooks import Webhooks, finding, webhook_secret
from commandcenter.settings import ForgeSettings
from commandcenter.store import database, deliveries, schema

SECRET = "a secret of more than 16 characters"
BODY = b'{"repository": {"full_name": "acme/project"}}'
RUN = {
    **dict.fromkeys(("id", "plan", "plan_path", "title", "repository", "target"), "x"),
    "upstream": "https://github.com/acme/project",
    "landed_on": "",
    "mode": "local",
    "options": "{}",
    "notes": "[]",
    "schema": 1,
    "created_ms": 1,
    "ended_ms": 0,
}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    database.prepare_sqlite(tmp_path / "cc.sqlite")
    engine = database.open_engine(database.sqlite_url(tmp_path / "cc.sqlite"))
    database.migrate(engine)
    with engine.begin() as connection:
        connection.execute(sa.insert(schema.runs).values(RUN))
    yield engine
    engine.dispose()


class Ears:
    """Webhooks that note when there was a look, by a clock that is set."""

    def __init__(self, engine: sa.Engine, secret: str = SECRET) -> None:
        self.looks = 0
        self.now_ms = 1_700_000_000_000
        of = {"https://github.com/acme/project": place("github", "acme/project")}
        self.webhooks = Webhooks(
            *(secret, database.Database(engine), of.__getitem__, lambda: self.now_ms), self.look
        )

    def look(self) -> None:
        self.looks += 1

    async def hear(
        self,
        body: bytes = BODY,
        *,
        id_: str = "1",
        event: str = "pull_request",
        signature: str = "",
    ) -> Heard:
        signature = signature or hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        headers = {
            "x-hub-signature-256": f"sha256={signature}",
            "x-github-event": event,
            "x-github-delivery": id_,
        }
        return await self.webhooks.hear("github", headers, body)


@pytest.fixture
def ears(engine: sa.Engine) -> Ears:
    return Ears(engine)


async def test_a_webhook_has_the_forge_asked(ears: Ears) -> None:
    assert await ears.hear() is Heard.LOOKING
    assert ears.looks == 1


async def test_one_that_is_forged_is_told_to_the_log_and_has_nothing_done(
    ears: Ears, caplog: pytest.LogCaptureFixture
) -> None:
    forged = await ears.hear(signature="0")

    assert (forged, ears.looks) == (Heard.FORGED, 0)
    assert "has no valid signature" in caplog.text
    # And is not remembered: else a stranger could keep the real one out.
    assert await ears.hear() is Heard.LOOKING


async def test_one_that_is_sent_again_is_ignored_also_after_a_restart(
    ears: Ears, engine: sa.Engine
) -> None:
    other = BODY.replace(b"}}", b'}, "n": 1}')
    first = await ears.hear()
    again = Ears(engine)

    assert first is Heard.LOOKING
    assert await again.hear() is Heard.IGNORED
    assert await again.hear(id_="2") is Heard.IGNORED
    assert await again.hear(other, id_="1") is Heard.IGNORED
    assert await again.hear(other, id_="3") is Heard.IGNORED
    assert await again.hear(BODY + b" ", id_="4") is Heard.LOOKING
    assert again.looks == 1


@pytest.mark.parametrize(
    ("body", "event"),
    [(BODY, "ping"), (BODY.replace(b"acme", b"other"), "pull_request"), (b"{}", "push")],
)
async def test_what_is_about_no_run_of_ours_is_ignored(ears: Ears, body: bytes, event: str) -> None:
    assert await ears.hear(body, event=event) is Heard.IGNORED
    assert ears.looks == 0


async def test_a_run_that_has_ended_is_not_looked_at(ears: Ears, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sa.update(schema.runs).values(ended_ms=2))

    assert await ears.hear() is Heard.IGNORED


async def test_without_a_secret_and_for_other_forges_there_are_none(engine: sa.Engine) -> None:
    assert await Ears(engine, secret="").hear() is Heard.OFF
    assert await Ears(engine).webhooks.hear("bitbucket", {}, BODY) is Heard.OFF


def test_what_came_is_remembered_for_a_bounded_time_and_number(engine: sa.Engine) -> None:
    with Session(engine) as session:
        assert deliveries.note(session, ["a", "b"], 1)
        assert not deliveries.note(session, ["b", "c"], deliveries.WINDOW_MS)
        # Out of the window; `c` came later.
        assert deliveries.note(session, ["a"], deliveries.WINDOW_MS + 2)
        assert not deliveries.note(session, ["c"], deliveries.WINDOW_MS + 2)
        for number in range(10):
            deliveries.note(session, [f"n{number}"], deliveries.WINDOW_MS + 3, rows_max=4)
        kept = session.scalars(sa.select(schema.deliveries.c.mark)).all()

    assert sorted(kept) == ["n6", "n7", "n8", "n9"]


def test_the_secret_is_in_a_variable_or_a_file_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    file.chmod(0o600)
    chosen = ForgeSettings(webhook_secret_file=file)
    named = {"COMMANDCENTER_WEBHOOK_SECRET": "of the variable, long"}

    assert webhook_secret(ForgeSettings(), {}) == ""
    assert webhook_secret(ForgeSettings(), named) == "of the variable, long"
    assert webhook_secret(chosen, named) == SECRET
    file.chmod(0o604)
    with pytest.raises(InputError, match="Others can reach the secret"):
        webhook_secret(chosen, {})


@pytest.mark.parametrize("content", ["", "short", "\n"])
def test_a_secret_that_can_be_guessed_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "secret"
    file.write_text(content)
    file.chmod(0o600)

    with pytest.raises(InputError) as refused:
        webhook_secret(ForgeSettings(webhook_secret_file=file), {})

    assert "openssl rand" in refused.value.hint


def test_doctor_tells_where_they_are_received(tmp_path: Path) -> None:
    named = {"COMMANDCENTER_WEBHOOK_SECRET": SECRET}
    on, off = finding(ForgeSettings(), named), finding(ForgeSettings(), {})
    wrong = finding(ForgeSettings(webhook_secret_file=tmp_path / "none"), {})

    assert "/webhooks/github" in on.detail
    assert on.detail.endswith("secret from $COMMANDCENTER_WEBHOOK_SECRET")
    assert "none are received" in off.detail
    assert (on.health, off.health, wrong.health) == (Health.OK, Health.OK, Health.MISSING)


def test_the_secret_is_in_no_representation(ears: Ears, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    assert SECRET not in repr(ears.webhooks) + caplog.text
