"""Each correction of py-libp2p 0.8.1: the fault of the stock class, and its absence in ours."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, lockstep_stream_pair, wait_all_tasks_blocked

from p2p import libp2p_patches, peer_limits
from p2p.libp2p_patches import (
    BoundedCommunicator,
    BoundedYamux,
    BoundedYamuxStream,
    StreamStalled,
    TooManyStreams,
    UnsupportedLibp2p,
    check_version,
)

# isort: split
# The line above makes `import libp2p` possible.
from libp2p.io.abc import ReadWriteCloser
from libp2p.protocol_muxer.exceptions import MultiselectCommunicatorError
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.stream_muxer.exceptions import MuxedStreamEOF, MuxedStreamError, MuxedStreamReset
from libp2p.stream_muxer.yamux.yamux import Yamux, YamuxStream

from tests.support.yamux_peers import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    HEADER,
    PING,
    RST,
    SYN,
    WINDOW,
    ByHand,
    MakeMuxer,
    Pipe,
    bounded,
    muxer_and_peer,
    stock,
)

ROOT = Path(__file__).parents[3]
WINDOW_BYTES = 256 << 10


def run(main: Callable[[], Awaitable[None]]) -> None:
    """With a clock that jumps when everything waits."""
    trio.run(main, clock=MockClock(autojump_threshold=0))


def python(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


async def accepted(muxer: Yamux) -> YamuxStream:
    stream = await muxer.accept_stream()
    assert isinstance(stream, YamuxStream)
    return stream


def aborted(muxer: Yamux) -> BoundedYamux:
    assert isinstance(muxer, BoundedYamux)
    assert muxer.event_shutting_down.is_set()
    assert muxer.streams == muxer.stream_buffers == muxer.stream_events == {}
    assert muxer.unread == 0
    return muxer


async def silent(muxer: Yamux) -> None:
    """Instead of probing the peer."""
    await trio.sleep_forever()


# Loading it.


def test_stock_does_not_load_without_a_c_compiler_and_ours_does() -> None:
    ran = python("import libp2p")
    assert ran.returncode != 0
    assert "No module named 'fastecdsa'" in ran.stderr
    ran = python("import p2p.libp2p_patches, libp2p, sys; print('fastecdsa' in sys.modules)")
    assert (ran.returncode, ran.stdout) == (0, "False\n"), ran.stderr


def test_another_version_is_refused_when_the_module_loads() -> None:
    for version in ("0.8.0", "0.8.2", "0.9.0", "1.8.1"):
        with pytest.raises(
            UnsupportedLibp2p, match=f"expected version 0.8.1, which is corrected here; found {version}"
        ):
            check_version(version)
    ran = python("import importlib.metadata as m; m.version = lambda name: '0.9.0'; import p2p.libp2p_patches")
    assert ran.returncode != 0
    assert "py-libp2p: expected version 0.8.1, which is corrected here; found 0.9.0" in ran.stderr


WITHOUT_SECIO = """
import sys, types
stand_in = types.ModuleType("secio")
stand_in.ID, stand_in.Transport = "", None
sys.modules["libp2p.security.secio.transport"] = stand_in
"""
"""What the stock library needs to load here at all."""


def test_stock_prints_a_strangers_mistakes_on_stderr() -> None:
    mistake = "import libp2p, logging; logging.getLogger('libp2p.protocol_muxer').error('a mistake')"
    assert "a mistake" in python(WITHOUT_SECIO + mistake).stderr
    assert python("import p2p.libp2p_patches\n" + mistake).stderr == ""


RSA_KEY = """
from libp2p.crypto.rsa import create_new_key_pair
from libp2p.crypto.serialization import deserialize_public_key
print(type(deserialize_public_key(create_new_key_pair(1024).public_key.serialize())).__name__)
"""


def test_stock_checks_a_strangers_rsa_key_whatever_that_costs() -> None:
    ran = python(WITHOUT_SECIO + RSA_KEY)
    assert (ran.returncode, ran.stdout) == (0, "RSAPublicKey\n"), ran.stderr
    ran = python("import p2p.libp2p_patches" + RSA_KEY)
    assert ran.returncode != 0
    assert "MissingDeserializerError" in ran.stderr


# Negotiation.


class Said(ReadWriteCloser):
    """A peer that has said everything that it will say; remembers the greatest read."""

    def __init__(self, said: bytes) -> None:
        self._said = said
        self.greatest = 0

    async def read(self, n: int | None = None) -> bytes:
        self.greatest = max(self.greatest, n or 0)
        found = self._said[: min(n or 0, 4096)]
        self._said = self._said[len(found) :]
        return found

    async def write(self, data: bytes) -> None:
        raise MuxedStreamReset("the stream was reset")

    async def close(self) -> None: ...

    def get_remote_address(self) -> None: ...


def test_stock_reads_as_much_as_a_negotiating_peer_announces() -> None:
    async def main() -> None:
        announced = b"\x80\x80\x80\x80\x04" + b"x" * 100_000  # 1 GiB
        peer = Said(announced)
        with pytest.raises(MultiselectCommunicatorError):
            await MultiselectCommunicator(peer).read()
        assert peer.greatest == 1 << 30
        peer = Said(announced)
        with pytest.raises(MultiselectCommunicatorError, match="a length of at most three bytes"):
            await BoundedCommunicator(peer).read()
        assert peer.greatest == 1
        peer = Said(b"\xff\xff\x01" + b"x" * 100_000)
        with pytest.raises(MultiselectCommunicatorError, match="expected a message of 1 to 1024 bytes, found 32767"):
            await BoundedCommunicator(peer).read()
        assert peer.greatest == 1

    run(main)


def test_stock_lets_errors_of_other_kinds_escape_from_a_negotiation() -> None:
    async def main() -> None:
        with pytest.raises(UnicodeDecodeError):
            await MultiselectCommunicator(Said(b"\x02\xff\n")).read()
        with pytest.raises(MuxedStreamReset):
            await MultiselectCommunicator(Said(b"")).write("/x/1")
        with pytest.raises(MultiselectCommunicatorError, match="expected a line of ASCII text, found ff0a"):
            await BoundedCommunicator(Said(b"\x02\xff\n")).read()
        with pytest.raises(MultiselectCommunicatorError, match="stream lost"):
            await BoundedCommunicator(Said(b"")).write("/x/1")

    run(main)


@pytest.mark.parametrize("said", [b"", b"\x00", b"\x05", b"\x05/x/1", b"\x05/x/1/", b"\x80", b"\x80\x80\x80\x01"])
def test_what_is_no_line_is_refused(said: bytes) -> None:
    async def main() -> None:
        with pytest.raises(MultiselectCommunicatorError):
            await BoundedCommunicator(Said(said)).read()

    run(main)


def test_a_line_is_read() -> None:
    async def main() -> None:
        assert await BoundedCommunicator(Said(b"\x06/x/12\n")).read() == "/x/12"
        long = "/" + "x" * 200
        assert await BoundedCommunicator(Said(b"\xca\x01" + long.encode() + b"\n")).read() == long

    run(main)


# Receiving.


def test_stock_buffers_without_bound_for_a_peer_that_ignores_its_window() -> None:
    async def flood(make: MakeMuxer) -> tuple[Yamux, int]:
        async with muxer_and_peer(make) as (muxer, peer):
            await peer.send(WINDOW, SYN, 1, 0)
            await accepted(muxer)
            for _ in range(64):
                await peer.send_data(1, b"x" * 65_536)
            await wait_all_tasks_blocked()
            return muxer, len(muxer.stream_buffers.get(1, b""))

    async def main() -> None:
        assert (await flood(stock))[1] == 4 << 20, "16 times the window"
        muxer, held = await flood(bounded)
        assert held == 0
        assert aborted(muxer).violated
        assert aborted(muxer).reason == "protocol violation: expected at most 0 bytes on a stream, found 65536"

    run(main)


def test_stock_sends_a_window_update_with_every_read_and_ours_by_half_windows() -> None:
    async def updates(make: MakeMuxer) -> int:
        async with muxer_and_peer(make) as (muxer, peer):
            await peer.send(WINDOW, SYN, 1, 0)
            stream = await accepted(muxer)
            for _ in range(100):
                await peer.send_data(1, b"x" * 1000)
                assert len(await stream.read(1000)) == 1000
            frames = await peer.receive_for(1)
            return sum(frame.kind == WINDOW and frame.flags == 0 for frame in frames)

    async def main() -> None:
        assert await updates(stock) >= 50
        assert await updates(bounded) == 0

    run(main)


def test_the_window_opens_again_as_it_is_read() -> None:
    async def main() -> None:
        async with muxer_and_peer(bounded) as (muxer, peer):
            await peer.send(WINDOW, SYN, 1, 0)
            stream = await accepted(muxer)
            allowed, sent, got = WINDOW_BYTES, 0, 0
            while sent < 20 << 20:
                count = min(allowed, 65_536)
                await peer.send_data(1, b"x" * count)
                allowed -= count
                sent += count
                got += len(await stream.read())
                if allowed == 0:
                    await wait_all_tasks_blocked()
                    frames = await peer.receive_for(0.01)
                    allowed += sum(frame.length for frame in frames if frame.kind == WINDOW)
                    assert 0 < allowed <= peer_limits.MAX_STREAM_WINDOW
            assert got == sent
            assert not muxer.event_shutting_down.is_set()

    run(main)


def test_unread_bytes_of_all_streams_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_limits, "MAX_UNREAD_BYTES", 4 * WINDOW_BYTES)

    async def main() -> None:
        async with muxer_and_peer(bounded) as (muxer, peer):
            for stream_id in range(1, 11, 2):
                await peer.send(WINDOW, SYN, stream_id, 0)
                await accepted(muxer)
                for _ in range(4):
                    await peer.send_data(stream_id, b"x" * (WINDOW_BYTES // 4))
            await wait_all_tasks_blocked()
            assert "before they are read" in aborted(muxer).reason

    run(main)


@pytest.mark.parametrize(
    ("garbage", "fault"),
    [
        (HEADER.pack(1, WINDOW, 0, 1, 0), "expected yamux version 0, found 1"),
        (HEADER.pack(0, 4, 0, 0, 0), "expected a frame of type 0 to 3, found 4"),
        (HEADER.pack(0, 0xFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF), "expected a frame of type 0 to 3, found 255"),
        (HEADER.pack(0, DATA, 0, 1, (1 << 20) + 1), "expected frames of at most 1048576 bytes, found 1048577"),
        (HEADER.pack(0, WINDOW, SYN, 2, 0), "stream 2, which is not its to open"),
        (HEADER.pack(0, WINDOW, SYN, 0, 0), "stream 0, which is not its to open"),
        (HEADER.pack(0, WINDOW, SYN, 1, 0) * 2, "stream 1, which is not its to open"),
    ],
)
def test_what_the_protocol_forbids_ends_the_connection(garbage: bytes, fault: str) -> None:
    async def main() -> None:
        async with muxer_and_peer(bounded) as (muxer, peer):
            await peer.stream.send_all(garbage)
            await wait_all_tasks_blocked()
            assert fault in aborted(muxer).reason
            assert aborted(muxer).violated

    run(main)


def test_stock_carries_on_after_frames_that_mean_nothing() -> None:
    async def main() -> None:
        async with muxer_and_peer(stock) as (muxer, peer):
            await peer.stream.send_all(HEADER.pack(1, WINDOW, 0, 1, 0) + HEADER.pack(0, 4, 0, 0, 0))
            await wait_all_tasks_blocked()
            assert not muxer.event_shutting_down.is_set()

    run(main)


def test_stock_lets_a_peer_open_streams_without_bound() -> None:
    async def flood(make: MakeMuxer) -> tuple[int, int]:
        """(streams held, streams reset)"""
        async with muxer_and_peer(make) as (muxer, peer), trio.open_nursery() as nursery:

            async def take() -> None:
                while True:
                    await muxer.accept_stream()

            nursery.start_soon(take)
            for stream_id in range(1, 1001, 2):
                await peer.send(WINDOW, SYN, stream_id, 0)
            frames = await peer.receive_for(1)
            nursery.cancel_scope.cancel()
            return len(muxer.streams), sum(frame.flags == RST for frame in frames)
        raise AssertionError

    async def main() -> None:
        assert await flood(stock) == (500, 0)
        assert await flood(bounded) == (32, 468)

    run(main)


def test_a_peer_that_never_stops_opening_streams_is_cut_off() -> None:
    async def main() -> None:
        async with muxer_and_peer(bounded) as (muxer, peer):
            for stream_id in range(1, 2300, 2):
                await peer.send(WINDOW, SYN, stream_id, 0)
            await peer.receive_for(0.1)
            assert "opened 1000 streams beyond 32" in aborted(muxer).reason

    run(main)


@pytest.mark.parametrize(
    ("frame", "count", "fault"),
    [
        (HEADER.pack(0, PING, SYN, 0, 7), 60, "flood of pings"),
        (HEADER.pack(0, DATA, 0, 99, 65_536) + bytes(65_536), 600, "flood of data for streams that are gone"),
    ],
)
def test_floods_of_what_is_answered_or_thrown_away_end_the_connection(frame: bytes, count: int, fault: str) -> None:
    async def main() -> None:
        async with muxer_and_peer(bounded) as (muxer, peer):
            for _ in range(count):
                await peer.stream.send_all(frame)
            await wait_all_tasks_blocked()
            assert fault in aborted(muxer).reason

    run(main)


def test_stock_answers_a_flood_of_pings() -> None:
    async def main() -> None:
        async with muxer_and_peer(stock) as (muxer, peer):
            await peer.stream.send_all(HEADER.pack(0, PING, SYN, 0, 7) * 1000)
            await wait_all_tasks_blocked()
            assert not muxer.event_shutting_down.is_set()

    run(main)


def test_tiny_frames_are_read_at_a_bounded_rate() -> None:
    async def seconds(make: MakeMuxer) -> float:
        async with muxer_and_peer(make) as (muxer, peer):
            began = trio.current_time()
            await peer.send(WINDOW, SYN, 1, 0)
            await peer.stream.send_all(HEADER.pack(0, WINDOW, 0, 1, 0) * 70_000)
            await peer.send_data(1, b"x")
            stream = await accepted(muxer)
            await stream.read(1)
            return trio.current_time() - began

    async def main() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(peer_limits, "MAX_MISSED_PINGS", 99)
            assert await seconds(bounded) >= 2

    run(main)


# Sending.


def test_stock_gives_a_stream_up_after_five_seconds_of_a_closed_window() -> None:
    async def late_reader(make: MakeMuxer) -> None:
        async with muxer_and_peer(make, initiator=True) as (muxer, peer), trio.open_nursery() as nursery:
            stream = await muxer.open_stream()
            nursery.start_soon(stream.write, b"x" * (WINDOW_BYTES + 10))
            await trio.sleep(7)
            nursery.start_soon(peer.receive_for, 1)
            await peer.send(WINDOW, 0, 1, 10)

    async def main() -> None:
        with pytest.raises(BaseExceptionGroup) as caught:
            await late_reader(stock)
        assert caught.group_contains(MuxedStreamError, match="after 5 seconds", depth=1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(peer_limits, "MAX_MISSED_PINGS", 99)
            await late_reader(bounded)

    run(main)


def test_a_stream_that_is_not_read_for_eight_seconds_is_stalled() -> None:
    async def main() -> None:
        async with muxer_and_peer(bounded, initiator=True) as (muxer, peer), trio.open_nursery() as nursery:
            nursery.start_soon(peer.answer_pings)
            stream = await muxer.open_stream()
            began = trio.current_time()
            with pytest.raises(StreamStalled, match="has not read for 8 s"):
                await stream.write(b"x" * (WINDOW_BYTES + 1))
            assert trio.current_time() - began == pytest.approx(8, abs=0.1)
            assert not muxer.event_shutting_down.is_set()
            nursery.cancel_scope.cancel()

    run(main)


def test_stock_waits_for_ever_for_a_peer_that_takes_nothing() -> None:
    async def write(make: MakeMuxer) -> Yamux:
        async with muxer_and_peer(make, lockstep_stream_pair, initiator=True) as (muxer, _):
            with trio.move_on_after(3600):
                stream = await muxer.open_stream()
                while True:
                    await stream.write(b"x" * 60_000)
            return muxer
        raise AssertionError

    async def main() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(peer_limits, "PING_INTERVAL_S", 1e6)
            assert not (await write(stock)).event_shutting_down.is_set()
            with pytest.raises(MuxedStreamError):
                await write(bounded)

    run(main)


def test_a_peer_that_takes_nothing_is_cut_off_after_eight_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_limits, "PING_INTERVAL_S", 1e6)

    async def main() -> None:
        async with muxer_and_peer(bounded, lockstep_stream_pair, initiator=True) as (muxer, _):
            began = trio.current_time()
            stream = await muxer.open_stream()
            with pytest.raises(MuxedStreamError):
                await stream.write(b"x" * 200_000)
            assert trio.current_time() - began == pytest.approx(8, abs=0.1)
            assert aborted(muxer).reason == "the peer took nothing for 8 s"

    run(main)


class SlowPipe(Pipe):
    """Ten bytes a second, as a socket may that has little room."""

    async def write(self, data: bytes) -> None:
        for byte in data:
            await super().write(bytes([byte]))
            await trio.sleep(0.1)


def test_stock_leaves_half_a_frame_behind_where_a_writer_is_cancelled() -> None:
    async def after_a_cancelled_writer(make: MakeMuxer) -> bytes:
        """All that the peer reads when two streams are opened, the first by a task that is cancelled half-way."""

        def slow(pipe: Pipe) -> Yamux:
            return make(SlowPipe(pipe.stream, initiator=True))

        async with muxer_and_peer(slow) as (muxer, peer):
            with trio.move_on_after(0.45):
                stream = await muxer.open_stream()
                await stream.write(b"x" * 100_000)
            await muxer.open_stream()
            await trio.sleep(5)
            return bytes(await peer.stream.receive_some(100))
        raise AssertionError

    async def main() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Yamux, "_measure_rtt_loop", silent)
            patch.setattr(BoundedYamux, "_probe", silent)
            one, two = HEADER.pack(0, WINDOW, SYN, 1, 0), HEADER.pack(0, WINDOW, SYN, 3, 0)
            assert await after_a_cancelled_writer(stock) == one[:5] + two
            data = HEADER.pack(0, DATA, 0, 1, libp2p_patches.MAX_FRAME_DATA)
            assert (await after_a_cancelled_writer(bounded)).startswith(one + data + b"x" * 5)

    run(main)


def test_stock_stalls_when_it_holds_256_streams_and_ours_says_so_at_128() -> None:
    async def main() -> None:
        async with muxer_and_peer(stock, initiator=True) as (muxer, _):
            for _ in range(256):
                await muxer.open_stream()
            with trio.move_on_after(60) as scope:
                await muxer.open_stream()
            assert scope.cancelled_caught
        async with muxer_and_peer(bounded, initiator=True) as (muxer, _):
            streams = [await muxer.open_stream() for _ in range(128)]
            with pytest.raises(TooManyStreams):
                await muxer.open_stream()
            assert isinstance(streams[0], BoundedYamuxStream)
            streams[0].abort()
            await muxer.open_stream()

    run(main)


# Life.


def test_stock_does_not_notice_a_silent_peer_and_ours_does_within_nine_seconds() -> None:
    async def main() -> None:
        async with muxer_and_peer(stock) as (muxer, _):
            await trio.sleep(3600)
            assert not muxer.event_shutting_down.is_set()
        async with muxer_and_peer(bounded) as (muxer, _):
            began = trio.current_time()
            await muxer.event_shutting_down.wait()
            assert trio.current_time() - began <= 9
            assert aborted(muxer).reason == "no answer to 2 pings"

    run(main)


def test_a_peer_that_answers_pings_or_sends_anything_is_alive() -> None:
    async def main() -> None:
        async with muxer_and_peer(bounded) as (muxer, peer), trio.open_nursery() as nursery:
            nursery.start_soon(peer.answer_pings)
            await trio.sleep(3600)
            assert not muxer.event_shutting_down.is_set()
            nursery.cancel_scope.cancel()
        async with muxer_and_peer(bounded) as (muxer, peer):
            for _ in range(1800):
                await peer.send(WINDOW, 0, 99, 0)
                await trio.sleep(2)
            assert not muxer.event_shutting_down.is_set()

    run(main)


def test_stock_leaves_an_event_behind_for_every_stream_that_ends_in_a_read() -> None:
    async def left(make: MakeMuxer) -> int:
        async with muxer_and_peer(make) as (muxer, peer):
            for stream_id in range(1, 41, 2):
                await peer.send(WINDOW, SYN, stream_id, 0)
                stream = await accepted(muxer)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(peer.send, WINDOW, RST, stream_id, 0)
                    with pytest.raises((MuxedStreamReset, MuxedStreamEOF)):
                        await stream.read()
            return len(muxer.stream_events)
        raise AssertionError

    async def main() -> None:
        assert await left(stock) == 20
        assert await left(bounded) == 0

    run(main)


def test_stock_leaks_a_stream_that_is_reset_by_a_cancelled_task() -> None:
    async def main() -> None:
        async with muxer_and_peer(stock, initiator=True) as (muxer, peer):
            stream = await muxer.open_stream()
            with trio.CancelScope() as scope:
                scope.cancel()
                await stream.reset()
            assert len(muxer.streams) == 1
        async with muxer_and_peer(bounded, initiator=True) as (muxer, peer):
            stream = await muxer.open_stream()
            assert isinstance(stream, BoundedYamuxStream)
            stream.abort()
            assert len(muxer.streams) == len(muxer.stream_buffers) == len(muxer.stream_events) == 0
            assert [frame.flags for frame in await peer.receive_for(1)] == [SYN, RST]

    run(main)


def test_goodbye_and_the_end_of_the_pipe_end_the_connection_without_blame() -> None:
    async def end(what: Callable[[ByHand], Awaitable[None]]) -> BoundedYamux:
        async with muxer_and_peer(bounded) as (muxer, peer):
            await peer.send(WINDOW, SYN, 1, 0)
            stream = await accepted(muxer)
            await what(peer)
            with pytest.raises(MuxedStreamReset):
                await stream.read()
            with pytest.raises(MuxedStreamError):
                await stream.write(b"x")
            with pytest.raises(MuxedStreamError):
                await muxer.open_stream()
            return aborted(muxer)
        raise AssertionError

    async def main() -> None:
        ended = await end(lambda peer: peer.send(GO_AWAY, 0, 0, 0))
        assert (ended.reason, ended.violated) == ("the peer said goodbye with code 0", False)
        ended = await end(lambda peer: peer.stream.aclose())
        assert not ended.violated

    run(main)


def test_data_then_the_end_are_read_in_order() -> None:
    async def main() -> None:
        async with muxer_and_peer(bounded) as (muxer, peer):
            await peer.send_data(1, b"one", flags=SYN)
            stream = await accepted(muxer)
            await peer.send_data(1, b"two", flags=FIN)
            await wait_all_tasks_blocked()
            assert await stream.read(4) == b"onet"
            assert await stream.read() == b"wo"
            with pytest.raises(MuxedStreamEOF):
                await stream.read()
            await stream.write(b"three")
            await stream.close()
            frames = await peer.receive_for(1)
            assert [(frame.kind, frame.flags) for frame in frames] == [(WINDOW, ACK), (DATA, 0), (WINDOW, FIN)]
            assert len(muxer.streams) == len(muxer.stream_events) == 0

    run(main)


def test_several_frames_travel_in_one_message_and_none_is_cut() -> None:
    async def main() -> None:
        async with muxer_and_peer(bounded, initiator=True) as (muxer, peer):
            streams = [await muxer.open_stream() for _ in range(5)]
            payload = bytes(range(256)) * 800
            async with trio.open_nursery() as nursery:
                for stream in streams:
                    nursery.start_soon(stream.write, payload)
                frames = await peer.receive_for(2)
            for stream in streams:
                sent = b"".join(frame.data for frame in frames if frame.stream_id == stream.stream_id)
                assert sent == payload
            assert max(len(frame.data) for frame in frames) <= libp2p_patches.MAX_FRAME_DATA

    run(main)
