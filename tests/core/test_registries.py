"""What package managers say of where they get packages, read into hosts and variables."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commandcenter.core import registries
from commandcenter.core.egress import Allowed, Refused, decide, policy
from commandcenter.core.errors import InputError
from commandcenter.core.registries import Registries, Told

OWN = "index.test files.test\n"
SECRETS = ("someone", "hunter2", "t0ken")


def hosts(told: Told) -> list[str]:
    return [str(rule) for rule in told.rules]


def test_pip_that_is_not_configured_asks_its_own_index_and_where_its_files_are() -> None:
    told = registries.pip({}, "", OWN)

    assert told == Told("pip", told.rules)
    assert hosts(told) == ["index.test", "files.test"]


def test_pip_is_read_from_its_files_and_its_environment_goes_before_them() -> None:
    listed = (
        "global.index-url='https://global.test/simple'\n"
        "install.index-url='https://install.test/simple'\n"
        "global.extra-index-url='\\nhttps://one.test/\\nhttps://two.test:8443/a'\n"
        "download.index-url='https://download.test/simple'\n"
        ":env:.index-url='https://shown.test/simple'\n"
        "global.trusted-host='one.test'\n"
    )

    from_files = registries.pip({}, listed, OWN)
    from_both = registries.pip({"PIP_INDEX_URL": "https://env.test/simple"}, listed, OWN)

    assert hosts(from_files) == ["install.test", "one.test", "two.test:8443"]
    assert from_files.variables == {
        "PIP_INDEX_URL": "https://install.test/simple",
        "PIP_EXTRA_INDEX_URL": "https://one.test/ https://two.test:8443/a",
        "PIP_TRUSTED_HOST": "one.test",
    }
    assert hosts(from_both) == ["env.test", "one.test", "two.test:8443"]
    assert from_both.problems == from_files.problems == ()


def test_pips_own_index_by_its_name_comes_with_where_its_files_are() -> None:
    told = registries.pip({"PIP_INDEX_URL": "https://index.test/simple"}, "", OWN)
    of_uv = registries.uv({"UV_DEFAULT_INDEX": "https://index.test/simple"}, Told("pip"), OWN)

    assert hosts(told) == hosts(of_uv) == ["index.test", "files.test"]


def test_pip_without_an_index_asks_for_none() -> None:
    environ = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "https://links.test/all"}

    told = registries.pip(environ, "global.index-url='https://global.test/simple'\n", OWN)

    assert hosts(told) == ["links.test"]


@pytest.mark.parametrize(
    "standard", ["nonsense", "one two", "a.test", "a.test *.test", "a.t b.t c"]
)
def test_a_pip_that_does_not_say_what_is_its_own_adds_nothing_and_it_is_told(standard: str) -> None:
    told = registries.pip({}, "", standard)

    assert told == Told("pip", problems=("it does not say which index is its own",))


def test_uv_is_read_from_its_variables_and_names_of_indexes_are_kept() -> None:
    environ = {
        "UV_DEFAULT_INDEX": "https://default.test/simple",
        "UV_INDEX": "inner=https://a:hunter2@inner.test/simple https://plain.test/simple",
        "UV_INSECURE_HOST": "inner.test",
    }

    told = registries.uv(environ, Told("pip", variables={"PIP_INDEX_URL": "https://p.test/"}), OWN)

    assert hosts(told) == ["default.test", "inner.test", "plain.test"]
    assert told.variables == {
        "UV_DEFAULT_INDEX": "https://default.test/simple",
        "UV_INDEX": "inner=https://inner.test/simple https://plain.test/simple",
        "UV_INSECURE_HOST": "inner.test",
    }


def test_uv_that_is_told_of_no_index_asks_pips() -> None:
    pip = registries.pip({"PIP_INDEX_URL": "https://mirror.test/simple"}, "", OWN)

    told = registries.uv({}, pip, OWN)

    assert told == Told("uv", variables={"UV_DEFAULT_INDEX": "https://mirror.test/simple"})


def test_npm_is_read_from_what_it_lists_or_else_gets() -> None:
    listed = (
        '; registry = "https://user.test/" ; overridden by env\nregistry = "https://env.test/"\n'
    )

    assert registries.npm_index(listed) == "https://env.test/"
    assert registries.npm_index('; registry = "https://user.test/" ; overridden\n') == ""
    told = registries.npm("https://env.test/\n", listed)
    assert told == Told("npm", told.rules, {"npm_config_registry": "https://env.test/"})
    assert hosts(told) == ["env.test"]


def test_a_registry_that_npm_has_a_credential_for_is_told() -> None:
    listed = "//mirror.test/npm/:_authToken = (protected)\n//other.test/:_password = (protected)\n"

    told = registries.npm("https://mirror.test/npm/", listed)

    assert hosts(told) == ["mirror.test"]
    assert len(told.problems) == 1
    assert "the credential for mirror.test stays outside" in told.problems[0]


def test_go_is_read_with_what_is_between_its_proxies() -> None:
    told = registries.go("https://one.test|https://two.test/go,direct\nsum.test+a1b2+Key\n")
    off = registries.go("off\noff\n")
    of_ones_own = registries.go("https://one.test\nsum.test+a1b2+Key https://mirror.test/sum\n")

    assert hosts(told) == ["one.test", "two.test", "sum.test"]
    assert told.variables == {
        "GOPROXY": "https://one.test|https://two.test/go,direct",
        "GOSUMDB": "sum.test+a1b2+Key",
    }
    assert off == Told("go", variables={"GOPROXY": "off", "GOSUMDB": "off"})
    assert hosts(of_ones_own) == ["one.test", "mirror.test"]
    assert of_ones_own.variables["GOSUMDB"] == "sum.test+a1b2+Key https://mirror.test/sum"


def test_a_proxy_of_go_that_cannot_be_asked_inside_is_left_out_and_told() -> None:
    told = registries.go("file:///srv/go,https://one.test,10.0.0.1|\nsum.test\n")

    assert told.variables["GOPROXY"] == "https://one.test"
    assert told.problems == ("GOPROXY names what is no web address of a host with a name",)


def test_apts_sites_are_named_each_once_and_have_no_variable() -> None:
    told = registries.apt(
        "http://deb.test/debian\nhttp://deb.test/debian\nhttps://sec.test:444/s\n"
    )

    assert told == Told("apt", told.rules)
    assert hosts(told) == ["deb.test", "sec.test:444"]


def test_cargo_is_read_as_far_as_its_configuration_goes() -> None:
    configured = (
        '[source.crates-io]\nreplace-with = "ours"\n'
        '[source.ours]\nregistry = "sparse+https://crates.test/index/"\n'
        '[registries.in-house]\nindex = "sparse+https://house.test/index/"\n'
    )

    told = registries.cargo({"CARGO_REGISTRIES_X_INDEX": "https://x.test/i"}, configured)

    assert hosts(told) == ["crates.test", "house.test", "x.test"]
    assert told.variables == {
        "CARGO_REGISTRIES_IN_HOUSE_INDEX": "sparse+https://house.test/index/",
        "CARGO_REGISTRIES_X_INDEX": "https://x.test/i",
    }
    assert registries.cargo({}, "") == Told("cargo")
    assert registries.cargo({}, "[source\n").problems == ("its configuration cannot be read",)


ODD = [
    *("", "undefined", "null", "file:///srv/simple", "/srv/simple", "ftp://a.test/", "//a.test/"),
    *(
        "https://",
        "https:///simple",
        "https://10.0.0.1/",
        "https://[::1]/",
        "https://[::1",
        "http:",
    ),
    *("https://*.test/", "https://a.test:0/", "https://a.test:x/", "https://a.test:99999/"),
    *(
        "https://a.test\0/",
        "https://a\x1b.test/",
        f"https://a.test/{'a' * 2000}",
        "https://ä.test/",
    ),
    *(
        "javascript:alert(1)",
        "a.b+https://a.test/",
        "a/b=https://a.test/",
        "https://2130706433/",
        "https://a..test/",
        "none",
        "registries",
    ),
]
READERS: dict[str, Callable[[str], Told]] = {
    "pip": lambda text: registries.pip({"PIP_INDEX_URL": text or "x"}, "", OWN),
    "uv": lambda text: registries.uv({"UV_INDEX": text or "x"}, Told("pip"), OWN),
    "npm": lambda text: registries.npm(text, ""),
    "go": lambda text: registries.go(f"{text or 'x'}\nsum.test+1+K= {text or 'x'}\n"),
    "apt": lambda text: registries.apt(text or "x"),
    "cargo": lambda text: registries.cargo({"CARGO_REGISTRIES_X_INDEX": text}, ""),
}


@pytest.mark.parametrize("tool", READERS)
@pytest.mark.parametrize("text", ODD)
def test_what_is_no_address_of_a_named_host_adds_nothing_and_is_told(tool: str, text: str) -> None:
    told = READERS[tool](text)

    assert (told.rules, dict(told.variables)) == ((), {})
    assert told.problems


@pytest.mark.parametrize("tool", READERS)
@pytest.mark.parametrize(
    "address",
    [
        "https://someone:hunter2@mirror.test:8443/simple",
        "https://hunter2@mirror.test:8443/simple",
        "https://mirror.test:8443/simple?token=t0ken",
        "https://mirror.test:8443/simple#t0ken",
        "https://evil.test\\hunter2@mirror.test:8443/simple",
    ],
)
def test_a_credential_goes_nowhere_and_is_told_of(tool: str, address: str) -> None:
    told = READERS[tool](address)

    assert hosts(told) == ["mirror.test:8443"]
    assert not [secret for secret in SECRETS if secret in repr(told)]
    assert any("mirror.test:8443 stays outside" in each for each in told.problems)


@settings(deadline=None)
@given(st.text(max_size=80))
def test_whatever_is_printed_is_read_without_an_error(text: str) -> None:
    found = Registries(
        (
            registries.pip({"PIP_INDEX_URL": text}, f"global.extra-index-url={text!r}", text),
            registries.uv({"UV_INDEX": text}, Told("pip"), text),
            registries.npm(registries.npm_index(text) or text, text),
            registries.go(text),
            registries.apt(text),
            registries.cargo({"CARGO_REGISTRIES_X_INDEX": text}, text),
        )
    )

    assert all(value.isprintable() for value in found.variables.values())
    assert not any(rule.below for rule in found.rules)


def test_a_policy_that_names_registries_allows_them_once_they_are_known() -> None:
    known = Registries((registries.npm("https://mirror.test:8443/npm", ""),)).rules
    named = policy(["registries", "docs.test"], {})
    other = policy(["docs.test"], {})

    assert isinstance(decide(named, "mirror.test", 8443), Refused)
    assert decide(named.asked(known), "mirror.test", 8443) == Allowed("mirror.test", 8443)
    assert decide(named.asked(known), "docs.test", 443) == Allowed("docs.test", 443)
    assert isinstance(decide(named.asked(known), "mirror.test", 443), Refused)
    assert other.asked(known) == other
    assert not policy(["registries"], {}).asked([]).allows


def test_registries_do_not_stand_beside_none() -> None:
    with pytest.raises(InputError, match="cannot stand beside"):
        policy(["none", "registries"], {})
