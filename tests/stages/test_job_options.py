"""The options of a run, as they are stored with it."""

from __future__ import annotations

from commandcenter.core.agent import Profile
from commandcenter.stages.job import Options, profile_from_json, profile_to_json


def test_a_profiles_egress_is_stored_also_when_it_is_none_at_all() -> None:
    options = Options(
        Profile("a", "shell", egress=()),
        Profile("b", "claude", egress=("forge", "x.test"), models=("m-*",), provider="other"),
    )

    assert Options.from_json(options.to_json()) == options


def test_a_profile_that_an_older_version_stored_has_the_projects_egress() -> None:
    record = profile_to_json(Profile("a", "shell"))
    del record["egress"], record["models"]

    assert profile_from_json(record) == Profile("a", "shell")
