"""Who may talk to the gateway: hosts, origins and the CORS answer."""

import pytest

from astralink_node.gateway.access import MAX_HOST_LENGTH, access_policy, host_name, is_loopback_origin

DEFAULT = access_policy(("localhost",), ("loopback",))


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8545", "LOCALHOST:1", "127.0.0.1:8545", "[::1]:8545", "10.0.0.7", None, ""]
)
def test_hosts_that_cannot_be_rebound_are_allowed(host: str | None) -> None:
    assert DEFAULT.host_allowed(host)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8545", "localhost.evil.example", "[::1", "127.0.0.1.evil.example", "a b"]
)
def test_other_names_are_refused(host: str) -> None:
    assert not DEFAULT.host_allowed(host)


def test_a_host_longer_than_any_name_is_refused_before_it_is_read() -> None:
    longest = "a" * (MAX_HOST_LENGTH - 5) + ":8545"
    named = access_policy((longest.removesuffix(":8545"), "a" * MAX_HOST_LENGTH), ())
    assert named.host_allowed(longest)
    assert not named.host_allowed("a" + longest)


def test_a_star_allows_every_host_and_a_name_only_itself() -> None:
    assert access_policy(("*",), ()).host_allowed("evil.example")
    named = access_policy(("rpc.example",), ())
    assert named.host_allowed("RPC.example:443")
    assert not named.host_allowed("localhost")


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost:3000",
        "https://localhost",
        "http://127.0.0.1:5173",
        "http://[::1]:80",
        "http://app.localhost:3000",
    ],
)
def test_pages_of_this_machine_may_read_answers(origin: str) -> None:
    assert is_loopback_origin(origin)
    assert (b"access-control-allow-origin", origin.encode()) in DEFAULT.cors_headers(origin)
    assert (b"vary", b"Origin") in DEFAULT.cors_headers(origin)


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example",
        "null",
        "file://",
        "http://[::1",
        "chrome-extension://abc",
    ],
)
def test_pages_of_elsewhere_may_not(origin: str) -> None:
    assert DEFAULT.cors_headers(origin) == []
    assert DEFAULT.preflight_headers(origin, private_network=True) == []


def test_no_origin_needs_no_headers() -> None:
    assert DEFAULT.cors_headers(None) == []


def test_named_origins_and_the_star_are_honoured() -> None:
    named = access_policy((), ("https://App.example/",))
    assert named.origin_allowed("https://app.example")
    assert not named.origin_allowed("http://localhost:3000")
    everyone = access_policy((), ("*",))
    assert everyone.cors_headers("https://evil.example") == [(b"access-control-allow-origin", b"*")]


def test_websockets_are_for_programs_extensions_and_allowed_pages() -> None:
    assert DEFAULT.websocket_origin_allowed(None)
    assert DEFAULT.websocket_origin_allowed("http://localhost:3000")
    assert DEFAULT.websocket_origin_allowed("chrome-extension://nkbihfbeogaeaoehlefnkodbefgpgknn")
    assert not DEFAULT.websocket_origin_allowed("https://evil.example")
    assert not DEFAULT.websocket_origin_allowed("null")


def test_a_preflight_allows_json_posts_and_the_private_network_when_asked() -> None:
    headers = dict(DEFAULT.preflight_headers("http://localhost:3000", private_network=True))
    assert headers[b"access-control-allow-headers"] == b"Content-Type"
    assert b"POST" in headers[b"access-control-allow-methods"]
    assert headers[b"access-control-allow-private-network"] == b"true"
    plain = dict(DEFAULT.preflight_headers("http://localhost:3000", private_network=False))
    assert b"access-control-allow-private-network" not in plain


def test_host_names_lose_port_and_brackets() -> None:
    assert [host_name(host) for host in ("A.b:1", "[::1]:2", "x.")] == ["a.b", "::1", "x"]
