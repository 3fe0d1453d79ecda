"""The node key's file: made once, private, and refused when it is damaged or others may read it."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from p2p.addresses import parse_peer_id, peer_id_text
from p2p.identity import Identity, UnusableNodeKey, load_or_create_identity, new_identity
from tests.support.hosts import run, running_host


def test_first_use_makes_a_private_key_and_later_uses_find_it(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    first = load_or_create_identity(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_or_create_identity(path) == first
    assert [file.name for file in tmp_path.iterdir()] == ["node.key"]


def test_two_that_make_the_key_at_once_get_the_same_one(tmp_path: Path) -> None:
    found: list[Identity] = []
    start = threading.Barrier(2)

    def make() -> None:
        start.wait()
        found.append(load_or_create_identity(tmp_path / "node.key"))

    threads = [threading.Thread(target=make) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] == found[1]


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    load_or_create_identity(path)
    path.chmod(0o640)
    with pytest.raises(UnusableNodeKey, match="expected mode 600, found 640"):
        load_or_create_identity(path)


@pytest.mark.parametrize("text", ["", "00" * 31, "00" * 33, "zz" * 32, "00 " * 32, "\u00e9" * 64])
def test_a_damaged_key_is_refused_and_left_as_it_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / "node.key"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    with pytest.raises(UnusableNodeKey, match="expected a node key of 64 hex digits"):
        load_or_create_identity(path)
    assert path.read_text(encoding="utf-8") == text


def test_the_name_follows_from_the_key_and_the_key_is_not_shown() -> None:
    identity = Identity(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))
    assert identity.public_key.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    """RFC 8032, section 7.1, test 1."""
    assert identity.peer_id.hex() == "002408011220" + identity.public_key.hex()
    assert peer_id_text(identity.peer_id).startswith("12D3KooW")
    assert parse_peer_id(peer_id_text(identity.peer_id)) == identity.peer_id
    assert identity.seed.hex() not in repr(identity)


def test_the_host_has_the_name_that_its_identity_says() -> None:
    async def main() -> None:
        identity = new_identity()
        async with running_host(identity) as host, running_host() as other:
            assert host.own_id == identity.peer_id
            assert [(listener.peer, listener.port != 0) for listener in host.listen_addresses] == [(host.own_id, True)]
            connection = await other.dial(host.listen_addresses)
            assert connection.peer == identity.peer_id

    run(main)
