"""What may be reached of the network, by name and by where a name leads."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commandcenter.core.egress import (
    PRESETS,
    Allowed,
    Decision,
    Refused,
    Target,
    Vetted,
    decide,
    policy,
    refusals,
    refused_words,
    target,
    vet,
)
from commandcenter.core.errors import InputError

POLICY = policy(["pypi.test", "*.example.test", "mirror.test:8443"], {})


@pytest.mark.parametrize(
    ("host", "port", "known_as"),
    [
        ("pypi.test", 443, "pypi.test"),
        ("pypi.test", 80, "pypi.test"),
        ("PyPI.Test", 443, "pypi.test"),
        ("pypi.test.", 443, "pypi.test"),
        ("a.example.test", 443, "a.example.test"),
        ("a.b.example.test", 443, "a.b.example.test"),
        ("mirror.test", 8443, "mirror.test"),
    ],
)
def test_what_is_named_is_allowed(host: str, port: int, known_as: str) -> None:
    assert decide(POLICY, host, port) == Allowed(known_as, port)


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("evil.test", 443),
        ("pypi.test", 22),
        ("pypi.test", 8443),
        ("mirror.test", 443),
        ("example.test", 443),
        ("xexample.test", 443),
        ("pypi.test.evil.test", 443),
        ("evil-pypi.test", 443),
        ("a.pypi.test", 443),
        ("pypi.test..", 443),
        (".pypi.test", 443),
        ("..example.test", 443),
        ("pypi.test\0.evil.test", 443),
        ("evil.test\0.example.test", 443),
        ("evil.test%00.example.test", 443),
        ("evil.test/.example.test", 443),
        ("evil.test#.example.test", 443),
        ("evil.test\\.example.test", 443),
        ("evil.test@a.example.test", 443),
        ("evil.test:80.example.test", 443),
        ("evil.test a.example.test", 443),
        ("evil.test\r\na.example.test", 443),
        ("pypi。test", 443),
        ("pypı.test", 443),
        ("*.example.test", 443),
        ("", 443),
        (".", 443),
        ("a" * 64 + ".example.test", 443),
        ("a." * 125 + "example.test", 443),
    ],
)
def test_what_only_looks_like_it_is_refused(host: str, port: int) -> None:
    assert isinstance(decide(POLICY, host, port), Refused)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1", "127.0.0.1.", "0", "2130706433", "0x7f000001", "0x7f.1", "0x"),
        *("017700000001", "0177.0.0.1", "169.254.169.254", "2852039166", "[::1]", "::1"),
        *("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "fe80::1%eth0", "1.2.3.4"),
    ],
)
def test_an_address_is_no_name_in_whatever_spelling(host: str) -> None:
    ruling = decide(POLICY, host, 443)

    assert ruling == Refused("it is no name of a host; addresses are never allowed")


@pytest.mark.parametrize("word", ["1.2.3.4", "0x7f.1", "[::1]", "127.1:80", "2130706433"])
def test_an_address_cannot_be_allowed(word: str) -> None:
    with pytest.raises(InputError, match="no host that can be allowed"):
        policy([word], {})


@pytest.mark.parametrize(
    "word",
    ["", "*", "*.", "a.*.test", "https://pypi.test", "pypi.test:0", "pypi.test:99999", "a@b.test"],
)
def test_what_is_no_host_cannot_be_allowed(word: str) -> None:
    with pytest.raises(InputError, match="no host that can be allowed"):
        policy([word], {})


def test_nothing_is_allowed_by_default() -> None:
    assert not policy([], {}).allows
    assert not policy(["none"], {}).allows
    assert isinstance(decide(policy(["none"], {}), "example.org", 443), Refused)


def test_the_model_is_no_host_and_adds_nothing() -> None:
    assert not policy(["model"], {}).allows
    assert policy(["model", "forge"], {}) == policy(["forge"], {})


def test_none_stands_alone() -> None:
    with pytest.raises(InputError, match="cannot stand beside"):
        policy(["none", "pypi.test"], {})


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_is_its_hosts(name: str) -> None:
    allowing = policy([name], {})

    rulings = [decide(allowing, host, 443) for host in PRESETS[name]]

    assert rulings == [Allowed(host, 443) for host in PRESETS[name]]
    assert isinstance(decide(allowing, "example.org", 443), Refused)


_LABEL = st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)


@given(labels=st.lists(_LABEL, min_size=1, max_size=4), suffix=st.text(max_size=12))
def test_whatever_follows_or_precedes_a_name_without_a_dot_is_another_name(
    labels: list[str], suffix: str
) -> None:
    host = ".".join(labels)
    only = policy([host], {})

    for other in (host + suffix, suffix + host, f"{host}.{suffix}", f"{suffix}.{host}"):
        ruling = decide(only, other, 443)
        same = other.lower().removesuffix(".") == host
        assert isinstance(ruling, Allowed) == same


@given(st.text(max_size=40))
def test_what_is_allowed_below_a_name_ends_with_it(host: str) -> None:
    ruling = decide(POLICY, f"{host}.example.test", 443)

    assert isinstance(ruling, Refused) or ruling.host.endswith(".example.test")
    if isinstance(ruling, Allowed):
        assert not set(ruling.host) - set("abcdefghijklmnopqrstuvwxyz0123456789._-")


PUBLIC = ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"]


def test_public_addresses_are_vetted_each_once() -> None:
    assert vet([*PUBLIC, PUBLIC[0]]) == Vetted(tuple(PUBLIC))


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.8.8", "::1", "0.0.0.0", "::", "0.1.2.3"),
        *("169.254.169.254", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "168.63.129.16"),
        *("10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "fc00::1"),
        *("100.100.100.200", "192.0.0.192", "192.0.2.1", "198.18.0.1", "203.0.113.9"),
        *("224.0.0.1", "239.1.1.1", "ff02::1", "ff0e::1", "240.0.0.1", "255.255.255.255"),
        *("::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "::7f00:1", "fec0::1"),
        *("64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1", "2002:7f00:1::", "2001::1"),
        *("192.88.99.1", "2001:db8::1", "not an address", "", "8.8.8.8 "),
    ],
)
def test_an_address_that_is_not_the_internets_refuses_its_name(address: str) -> None:
    assert isinstance(vet([address]), Refused)
    assert isinstance(vet([PUBLIC[0], address]), Refused)


def test_a_name_that_leads_nowhere_is_refused() -> None:
    assert vet([]) == Refused("its name leads nowhere")


@given(st.ip_addresses())
def test_what_is_vetted_is_global(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    found = vet([str(address)])

    assert isinstance(found, Refused) or address.is_global
    assert isinstance(found, Refused) or not address.is_multicast


@given(st.ip_addresses(v=4))
def test_no_ipv4_address_hides_in_an_ipv6_one(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    hidden = [
        ipaddress.IPv6Address(number),
        ipaddress.IPv6Address((0xFFFF << 32) | number),
        ipaddress.IPv6Address((0x64FF9B << 96) | number),
        ipaddress.IPv6Address((0x2002 << 112) | (number << 80)),
    ]

    assert all(isinstance(vet([str(each)]), Refused) for each in hidden)


def test_a_host_can_be_at_a_private_address_that_a_person_names() -> None:
    made = policy(["mirror.test"], {"Mirror.Test.": "10.1.2.3"})

    assert dict(made.addresses) == {"mirror.test": "10.1.2.3"}


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("mirror.test", "169.254.169.254"),
        ("mirror.test", "168.63.129.16"),
        ("mirror.test", "224.0.0.1"),
        ("mirror.test", "0.0.0.0"),
        ("mirror.test", "::ffff:169.254.169.254"),
        ("mirror.test", "elsewhere.test"),
        ("10.1.2.3", "10.1.2.3"),
    ],
)
def test_no_host_can_be_where_clouds_keep_secrets_or_nowhere(host: str, address: str) -> None:
    with pytest.raises(InputError, match="cannot be at"):
        policy([], {host: address})


@pytest.mark.parametrize(
    ("method", "text", "named", "going"),
    [
        ("CONNECT", "pypi.test:443", ["pypi.test:443"], Target("pypi.test", 443, None)),
        ("GET", "http://pypi.test", ["pypi.test"], Target("pypi.test", 80, "/")),
        ("GET", "HTTP://pypi.test/a?b=c", ["PyPI.test"], Target("pypi.test", 80, "/a?b=c")),
        ("GET", "http://pypi.test?b", ["pypi.test."], Target("pypi.test", 80, "/?b")),
        ("GET", "http://pypi.test:81/", ["pypi.test:81"], Target("pypi.test", 81, "/")),
        ("GET", "http://pypi.test/", [], Target("pypi.test", 80, "/")),
    ],
)
def test_where_a_request_goes(method: str, text: str, named: list[str], going: Target) -> None:
    assert target(method, text, named) == going


@pytest.mark.parametrize(
    ("method", "text", "named"),
    [
        ("CONNECT", "pypi.test", []),
        ("CONNECT", "pypi.test:", []),
        ("CONNECT", "pypi.test:443@evil.test:443", []),
        ("CONNECT", "evil.test@pypi.test:443", []),
        ("CONNECT", "[::1]:443", []),
        ("CONNECT", "pypi.test:99999", []),
        ("CONNECT", "pypi.test:0", []),
        ("CONNECT", "pypi.test:+443", []),
        ("CONNECT", "http://pypi.test:443/", []),
        ("GET", "/simple", ["pypi.test"]),
        ("GET", "//pypi.test/simple", ["pypi.test"]),
        ("GET", "https://pypi.test/", ["pypi.test"]),
        ("GET", "ftp://pypi.test/", ["pypi.test"]),
        ("GET", "http://pypi.test@evil.test/", ["evil.test"]),
        ("GET", "http://evil.test\\@pypi.test/", ["pypi.test"]),
        ("GET", "http://[::1]/", ["pypi.test"]),
        ("GET", "http:///simple", ["pypi.test"]),
        ("GET", "http://pypi.test:x/", ["pypi.test"]),
        ("GET", "http://pypi.test/", ["evil.test"]),
        ("GET", "http://pypi.test/", ["pypi.test", "evil.test"]),
        ("GET", "http://pypi.test/", ["pypi.test:81"]),
        ("GET", "http://pypi.test/#x", ["pypi.test"]),
        ("OPTIONS", "*", ["pypi.test"]),
    ],
)
def test_what_goes_nowhere_plain_is_refused(method: str, text: str, named: list[str]) -> None:
    assert isinstance(target(method, text, named), Refused)


def test_what_was_refused_is_read_back_from_what_was_logged() -> None:
    decisions = [
        Decision(1, "allowed", "CONNECT", "pypi.test", 443, address="93.184.215.14"),
        Decision(2, "refused", "CONNECT", "evil.test", 443, why="no"),
        Decision(3, "refused", "GET", "evil.test", 443, why="no"),
        Decision(4, "refused", "", "a malformed request", 0, why="no"),
        Decision(5, "failed", "GET", "pypi.test", 80, why="away"),
    ]
    lines = [each.to_line() for each in decisions]

    found = refusals([*lines, b'{"schema": 1, "verdict": "refu', b"[]\n", b'{"schema": 99}\n'])

    assert found == {"evil.test:443": 2, "a malformed request": 1}
    assert refused_words(found) == "a malformed request, evil.test:443 (2 times)"


def test_a_logged_decision_is_one_line_whatever_was_asked_for() -> None:
    line = Decision(1, "refused", "GET", "evil\n.test" * 1000, 80, why="no\nline").to_line()

    assert line.count(b"\n") == 1
    assert len(line) < 1000


def test_many_refusals_are_told_in_a_bounded_number_of_words() -> None:
    words = refused_words({f"{n:03}.test:443": 1 for n in range(100)})

    assert words.endswith("019.test:443, 80 more")
