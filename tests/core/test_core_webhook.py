"""Whether a forge sent a webhook: the proofs of each, and what does not pass for one."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping

import pytest

from commandcenter.core.webhook import AGE_MAX_S, Delivery, delivered, place

SECRET = "a secret of more than 16 characters"
NOW_S = 1_700_000_000.0
BODY = b'{"action": "closed", "repository": {"full_name": "Acme/Project"}}'
LAB_BODY = b'{"object_kind": "merge_request", "project": {"path_with_namespace": "a/b/c"}}'


def digest(body: bytes = BODY, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def hub(body: bytes = BODY, event: str = "pull_request", id_: str = "one") -> dict[str, str]:
    signed = {"x-hub-signature-256": f"sha256={digest(body)}", "x-github-event": event}
    return {**signed, "x-github-delivery": id_}


def lab(
    body: bytes = LAB_BODY, *, at_s: float = NOW_S, key: bytes = SECRET.encode(), id_: str = "1"
) -> dict[str, str]:
    """Sign as GitLab does, which is how Standard Webhooks has it."""
    signed = f"{id_}.{at_s:.0f}.".encode() + body
    proof = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return {
        "webhook-id": id_,
        "webhook-timestamp": f"{at_s:.0f}",
        "webhook-signature": f"v1,{proof}",
        "x-gitlab-event": "Merge Request Hook",
    }


def heard(
    forge: str, headers: Mapping[str, str], body: bytes = BODY, secret: str = SECRET
) -> Delivery | None:
    return delivered(forge, headers, body, secret, NOW_S)


def test_githubs_own_example_is_proven() -> None:
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    headers = {"x-hub-signature-256": signature}

    assert heard("github", headers, b"Hello, World!", "It's a Secret to Everybody") is not None
    assert heard("github", headers, b"Hello, World?", "It's a Secret to Everybody") is None


def test_what_it_is_about_is_read() -> None:
    found = heard("github", hub())

    assert found is not None
    assert found.place == place("github", "acme/project")
    assert found.of_interest


@pytest.mark.parametrize(
    ("forge", "headers"),
    [
        ("github", hub()),
        ("gitea", {"x-gitea-signature": digest()}),
        ("gitea", {"x-forgejo-signature": digest()}),
        ("gitea", {"x-hub-signature-256": f"sha256={digest()}"}),
        ("gitlab", {"x-gitlab-token": SECRET}),
        ("gitlab", lab(BODY)),
    ],
)
def test_each_way_to_prove_it_is_taken_and_no_other_secret_or_body(
    forge: str, headers: dict[str, str]
) -> None:
    assert heard(forge, headers) is not None
    assert heard(forge, headers, secret=f"{SECRET}.") is None


@pytest.mark.parametrize(
    ("forge", "headers"),
    [
        ("github", {}),
        ("github", {"x-hub-signature-256": ""}),
        ("github", {"x-hub-signature-256": digest()}),
        ("github", {"x-hub-signature-256": f"sha256={digest(b'another')}"}),
        ("github", {"x-hub-signature-256": f"sha256={digest().upper()}"}),
        ("github", {"x-hub-signature": hmac.new(SECRET.encode(), BODY, hashlib.sha1).hexdigest()}),
        ("github", {"x-gitea-signature": digest()}),
        ("github", {"x-gitlab-token": SECRET}),
        ("github", {"x-hub-signature-256": "sha256=\udcff"}),
        ("gitea", {"x-gitea-signature": f"sha256={digest()}"}),
        ("gitea", {"x-gitlab-token": SECRET}),
        ("gitlab", {"x-gitlab-token": ""}),
        ("gitlab", hub()),
        ("gitlab", lab(b"another")),
        ("gitlab", {**lab(BODY), "webhook-id": "2"}),
        ("gitlab", {**lab(BODY), "webhook-timestamp": f"{NOW_S + 1:.0f}"}),
        ("gitlab", {**lab(BODY), "webhook-timestamp": "never"}),
    ],
)
def test_what_is_not_proven_is_none(forge: str, headers: dict[str, str]) -> None:
    assert heard(forge, headers) is None


@pytest.mark.parametrize(
    ("off_s", "taken"), [(-290, True), (290, True), (-310, False), (310, False)]
)
def test_a_signed_time_must_be_now(off_s: int, taken: bool) -> None:
    assert AGE_MAX_S == 300
    assert (heard("gitlab", lab(BODY, at_s=NOW_S + off_s)) is not None) is taken


def test_a_signing_token_is_no_password() -> None:
    key = hashlib.sha256(b"x").digest()
    secret = f"whsec_{base64.b64encode(key).decode()}"

    assert heard("gitlab", lab(BODY, key=key), secret=secret) is not None
    # Whoever learnt it could otherwise leave the signature away.
    assert heard("gitlab", {"x-gitlab-token": secret}, secret=secret) is None


def test_several_signatures_are_looked_at_while_a_key_changes() -> None:
    signed = lab(BODY)
    both = {**signed, "webhook-signature": f"v1,b2xk {signed['webhook-signature']}"}

    assert heard("gitlab", both) is not None


@pytest.mark.parametrize(
    ("event", "of_interest"),
    [
        ("pull_request", True),
        ("pull_request_review", True),
        ("push", True),
        ("check_suite", True),
        ("status", True),
        ("ping", False),
        ("star", False),
        ("a_kind_that_is_new", False),
        ("", False),
    ],
)
def test_only_what_can_change_a_pull_request_is_of_interest(event: str, of_interest: bool) -> None:
    found = heard("github", hub(event=event))

    assert found is not None
    assert found.of_interest is of_interest


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[1]", b"{", b"\xff", b'{"repository": 7}', b"[" * 100_000]
)
def test_a_body_that_says_nothing_is_about_nothing(body: bytes) -> None:
    found = heard("github", hub(body), body)

    assert found is not None
    assert found.place == place("github", "")


def test_it_is_known_again_by_its_id_and_by_its_content() -> None:
    first, renamed = heard("github", hub()), heard("github", hub(id_="two"))
    other = heard("github", hub(b"{}"), b"{}")
    elsewhere = heard("gitea", hub())

    assert first is not None
    assert renamed is not None
    assert other is not None
    assert elsewhere is not None
    assert len(set(first.marks) & set(renamed.marks)) == 1
    assert len(set(first.marks) & set(other.marks)) == 1
    assert not set(first.marks) & set(elsewhere.marks)


def test_gitlabs_project_is_the_place() -> None:
    found = heard("gitlab", {**lab(), "x-gitlab-event": "Merge Request Hook"}, LAB_BODY)

    assert found is not None
    assert (found.place, found.of_interest) == (place("gitlab", "a/b/c"), True)
