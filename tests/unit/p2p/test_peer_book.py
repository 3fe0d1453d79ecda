"""The peer book: what it remembers, what it forgets, and what a damaged file does."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from p2p import peer_book
from p2p.addresses import Address
from p2p.identity import new_identity
from p2p.peer_book import MAX_ADDRESSES, BanGate, PeerBook, load_peer_book
from p2p.peer_id import PeerId

ONE, TWO, THREE = (PeerId(b"\x12\x20" + bytes([index]) * 32) for index in range(3))
HERE = Address("192.0.2.1", 30303)
THERE = Address("192.0.2.2", 30303)


def filled() -> PeerBook:
    book = PeerBook()
    book.learn(ONE, [HERE, THERE])
    book.note_seen(TWO, 1000, dialled=THERE)
    book.learn(new_identity().peer_id, [Address("2001:db8::1", 9), Address("node.example", 9)])
    book.ban(THREE, 5000, "lied")
    book.ban_ip("192.0.2.9", 5000, "flooded")
    return book


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    book, path = filled(), tmp_path / "peers.json"
    book.save(path, now_s=2000)
    loaded, warning = load_peer_book(path)
    assert warning == ""
    assert loaded.candidates(2000, 10) == book.candidates(2000, 10)
    assert loaded.get(TWO) == book.get(TWO)
    assert loaded.is_banned(THREE, 2000)
    assert loaded.is_ip_banned("192.0.2.9", 2000)
    assert [file.name for file in tmp_path.iterdir()] == ["peers.json"]


def test_no_file_is_an_empty_book(tmp_path: Path) -> None:
    book, warning = load_peer_book(tmp_path / "peers.json")
    assert (len(book), warning) == (0, "")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "7",
        "null",
        '"text"',
        "{}",
        '{"format": 2, "peers": [], "banned_peers": [], "banned_ips": []}',
        '{"format": 1, "peers": 3, "banned_peers": [], "banned_ips": []}',
        '{"format": 1, "peers": [3], "banned_peers": [], "banned_ips": []}',
        '{"format": 1, "peers": [{"peer": "x"}], "banned_peers": [], "banned_ips": []}',
        '{"format": 1, "peers": [], "banned_peers": [], "banned_ips": [{"name": "x", "until_s": 1, "reason": ""}]}',
        '{"format": 1, "peers": [], "banned_peers": [], "banned_ips": [{"name": "::2", "until_s": -1, "reason": ""}]}',
        '{"format": 1, "peers": [], "banned_peers": [], "banned_ips": [{"name": "::2", "until_s": "1", "reason": ""}]}',
        "\u00e9",
        "[" * 100_000,
    ],
)
def test_a_damaged_file_is_put_aside_with_a_warning(tmp_path: Path, text: str) -> None:
    path = tmp_path / "peers.json"
    path.write_text(text, encoding="utf-8")
    book, warning = load_peer_book(path)
    assert len(book) == 0
    assert "not a peer book" in warning
    assert (tmp_path / "peers.json.damaged").read_text(encoding="utf-8") == text
    book.save(path, now_s=0)
    assert load_peer_book(path)[1] == ""


def test_every_cut_of_the_file_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    filled().save(path, now_s=2000)
    whole = path.read_bytes()
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        assert load_peer_book(path)[1] != ""


def test_an_oversized_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    with path.open("wb") as file:
        os.truncate(file.fileno(), peer_book.MAX_FILE_BYTES + 1)
    assert "expected at most" in load_peer_book(path)[1]


def test_a_save_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "peers.json"
    filled().save(path, now_s=2000)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        PeerBook().save(path, now_s=2000)
    assert path.read_bytes() == before


def test_the_address_that_answered_comes_first() -> None:
    book = PeerBook()
    book.learn(ONE, [HERE])
    book.note_seen(ONE, 7, dialled=THERE)
    known = book.get(ONE)
    assert known is not None
    assert known.addresses == (THERE.with_peer(ONE), HERE.with_peer(ONE))
    assert known.last_seen_s == 7


def test_a_peer_cannot_be_given_addresses_without_end() -> None:
    book = PeerBook()
    book.note_seen(ONE, 7, dialled=HERE)
    for port in range(1, 50):
        book.learn(ONE, [Address("192.0.2.66", port)])
    known = book.get(ONE)
    assert known is not None
    assert len(known.addresses) == MAX_ADDRESSES
    assert known.addresses[0] == HERE.with_peer(ONE)


def test_the_most_promising_peers_are_dialled_first_and_banned_ones_not() -> None:
    book = PeerBook()
    book.note_seen(ONE, 100, dialled=HERE)
    book.note_seen(TWO, 200, dialled=HERE)
    book.note_seen(THREE, 300, dialled=HERE)
    book.note_failure(THREE)
    assert [known.peer for known in book.candidates(1000, 10)] == [TWO, ONE, THREE]
    assert [known.peer for known in book.candidates(1000, 1)] == [TWO]
    book.ban(TWO, 2000, "lied")
    assert [known.peer for known in book.candidates(1000, 10)] == [ONE, THREE]
    assert [known.peer for known in book.candidates(2000, 10)] == [TWO, ONE, THREE]


def test_a_full_book_forgets_the_least_useful_peer_but_never_the_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_book, "MAX_PEERS", 2)
    book = PeerBook()
    book.note_seen(ONE, 100, dialled=HERE)
    book.note_seen(TWO, 200, dialled=HERE)
    book.learn(THREE, [THERE])
    assert book.get(ONE) is None
    assert book.get(THREE) is not None


def test_bans_end_can_be_lifted_and_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_book, "MAX_BANS", 2)
    book = PeerBook()
    book.ban(ONE, 100, "first to end")
    book.ban(TWO, 300, "lied")
    book.ban(THREE, 200, "lied")
    assert not book.is_banned(ONE, 50)
    assert book.is_banned(THREE, 199.9)
    assert not book.is_banned(THREE, 200)
    book.lift_ban(TWO)
    assert not book.is_banned(TWO, 50)


def test_loopback_is_never_banned() -> None:
    book = PeerBook()
    for ip in ("127.0.0.1", "127.8.8.8", "::1"):
        book.ban_ip(ip, 100, "flooded")
        assert not book.is_ip_banned(ip, 0)


def test_the_gate_keeps_out_who_is_banned_now() -> None:
    now = [0.0]
    book = filled()
    gate = BanGate(book, lambda: now[0])
    assert not gate.admits_peer(THREE)
    assert not gate.admits_ip("192.0.2.9")
    assert gate.admits_peer(ONE)
    assert gate.admits_ip("192.0.2.1")
    now[0] = 5000
    assert gate.admits_peer(THREE)
    assert gate.admits_ip("192.0.2.9")


def test_ended_bans_are_not_written(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    filled().save(path, now_s=6000)
    content = json.loads(path.read_text())
    assert content["banned_peers"] == content["banned_ips"] == []
