"""The execution process as the node runs it: over real sockets, ended in every way it can end."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from astralink_node.chain.call_messages import CallAnswer, CallFailed, CallQuestion, CallRequest
from astralink_node.chain.client import ExecutionClient, ExecutionGone
from astralink_node.chain.codec import decode, encode
from astralink_node.chain.data_folder import DATABASE_NAME, GENESIS_NAME, open_database
from astralink_node.chain.frames import FrameDecoder, encode_frame
from astralink_node.chain.messages import (
    AccountsAnswer,
    AccountsQuestion,
    Answer,
    AtHeight,
    AtLatest,
    BlockAnswer,
    BlockQuestion,
    Built,
    Commit,
    Committed,
    LimitExceeded,
    Query,
    Valid,
    Validate,
)
from astralink_node.chain.new_folder import initialise_folder
from astralink_node.chain.process_config import (
    EXIT_BUG,
    EXIT_CANNOT_START,
    EXIT_CONFLICT,
    EXIT_STOPPED,
    EXIT_STORAGE,
    MODULE,
    ProcessConfig,
)
from astralink_node.chain.query_server import LONG_THREADS
from astralink_node.storage import keys
from astralink_node.types import Address
from genesis.dev_accounts import DEVNET_ACCOUNTS
from genesis.schema import GenesisAccount
from tests.support.chains import CONTRACTS, LOOPER, LocalChain, candidate, genesis_text

DEEP = Address(bytes.fromhex("d0") * 20)
"""Calls itself with all its gas, as deep as the EVM allows."""
DEEP_CODE = bytes.fromhex("5f5f5f5f5f305af100")
GENESIS = genesis_text(1, extra_alloc={**CONTRACTS, DEEP: GenesisAccount(0, 1, DEEP_CODE, ())})
PATIENCE_S = 60


class Running:
    """One execution process, its node's end of the socket, and a model chain that makes blocks for it."""

    def __init__(self, process: trio.Process, client: ExecutionClient, stream: trio.SocketStream, folder: Path) -> None:
        self.process = process
        self.client = client
        self.stream = stream
        self.folder = folder
        self.model = LocalChain(genesis=GENESIS)

    async def produce(self, *candidates: object) -> Committed:
        """Let the process build and commit; the model follows."""
        built = await self.client.build(self.model.build_request(candidates))  # type: ignore[arg-type]
        assert isinstance(built, Built), built
        certificate = self.model.certificate(built.block_hash)
        committed = await self.client.commit(Commit(built.block_hash, certificate))
        assert isinstance(committed, Committed)
        assert committed == self.model.follow(built, certificate)
        return committed

    async def ended(self) -> tuple[int, str]:
        """(exit code, stderr), once the process has ended."""
        with trio.fail_after(PATIENCE_S):
            code = await self.process.wait()
            assert self.process.stderr is not None
            text = b""
            while data := await self.process.stderr.receive_some():
                text += bytes(data)
            return code, text.decode()

    def query_path(self) -> str:
        return str(self.folder / "q.sock")


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Running]:
    """A process on an initialised folder; killed at the end if it still runs."""
    node_end, child_end = trio.socket.socketpair()
    config = ProcessConfig(
        database=str(folder / DATABASE_NAME),
        genesis_file=str(folder / GENESIS_NAME),
        node_socket=child_end.fileno(),
        query_socket=str(folder / "q.sock"),
    )
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", MODULE, config.to_json()], pass_fds=[child_end.fileno()], stderr=subprocess.PIPE
    )
    child_end.close()
    stream = trio.SocketStream(node_end)
    client = ExecutionClient(stream)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.run)
            yield Running(process, client, stream, folder)
            nursery.cancel_scope.cancel()
    finally:
        if process.returncode is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            await stream.aclose()
            assert process.stderr is not None
            await process.stderr.aclose()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "d"
    initialise_folder(path, GENESIS)
    return path


def in_process(folder: Path, body: Callable[[Running], Awaitable[None]]) -> None:
    async def main() -> None:
        with trio.fail_after(PATIENCE_S):
            async with running(folder) as execution:
                await body(execution)

    trio.run(main)


def reopened_height(folder: Path) -> int:
    with open_database(folder) as store:
        return LocalChain(store, genesis=GENESIS).execution.status().head_height


async def ask(stream: trio.SocketStream, queries: list[Query]) -> list[Answer]:
    """Send all at once; answers in the order of the queries, whatever order they come in."""
    await stream.send_all(b"".join(encode_frame(index, encode(query)) for index, query in enumerate(queries, 1)))
    decoder, found = FrameDecoder(), {}
    while len(found) < len(queries):
        for frame in decoder.feed(bytes(await stream.receive_some(1 << 20))):
            found[frame.request_id] = decode(Answer, frame.payload)
    return [found[index] for index in range(1, len(queries) + 1)]


def call(to: bytes) -> CallQuestion:
    return CallQuestion(CallRequest(bytes(20), to, None, None, None, None, 0, b"", (), None))


def test_blocks_are_made_committed_and_asked_for(folder: Path) -> None:
    async def body(execution: Running) -> None:
        client = execution.client
        assert (await client.status()).head_height == 0
        for nonce in range(3):
            committed = await execution.produce(candidate(0, nonce))
        assert await client.status() == execution.model.execution.status()
        answer = await client.query(Query(AtLatest(), BlockQuestion()))
        assert answer == BlockAnswer(committed.block)
        foreign = LocalChain(genesis=GENESIS).build()
        assert not isinstance(await client.validate(Validate(foreign.raw_block)), Valid)
        own = execution.model.build()
        assert await client.validate(Validate(own.raw_block)) == Valid(own.block_hash)
        await client.aclose()
        assert await execution.ended() == (EXIT_STOPPED, "")

    in_process(folder, body)
    assert reopened_height(folder) == 3


def test_gateways_are_served_side_by_side(folder: Path) -> None:
    async def body(execution: Running) -> None:
        await execution.produce(candidate(0, 0))
        assert oct(os.stat(execution.query_path()).st_mode)[-3:] == "600"
        question = AccountsQuestion((DEVNET_ACCOUNTS[0].address,))
        first = await trio.open_unix_socket(execution.query_path())
        second = await trio.open_unix_socket(execution.query_path())
        async with first, second:
            queries = [Query(AtHeight(height % 2), question) for height in range(200)]
            answers = await ask(first, queries)
            assert await ask(second, queries) == answers
            nonces = [answer.accounts[0].nonce for answer in answers if isinstance(answer, AccountsAnswer)]
            assert nonces == [0, 1] * 100

    in_process(folder, body)


def test_a_call_as_deep_as_the_evm_allows_is_answered(folder: Path) -> None:
    async def body(execution: Running) -> None:
        await execution.client.status()
        async with await trio.open_unix_socket(execution.query_path()) as gateway:
            (answer,) = await ask(gateway, [Query(AtLatest(), call(DEEP))])
            assert isinstance(answer, CallAnswer)
            assert answer.status == "ok"

    in_process(folder, body)


def test_queries_give_way_to_block_work_and_time_out(folder: Path) -> None:
    async def body(execution: Running) -> None:
        await execution.client.status()
        async with await trio.open_unix_socket(execution.query_path()) as gateway:
            answers: list[Answer] = []

            async def flood() -> None:
                answers.extend(await ask(gateway, [Query(AtLatest(), call(LOOPER), runs_long=True)] * LONG_THREADS))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(flood)
                for nonce in range(5):
                    with trio.fail_after(PATIENCE_S):
                        await execution.produce(candidate(0, nonce))
            assert len(answers) == LONG_THREADS
            for answer in answers:
                if isinstance(answer, CallFailed):
                    assert answer.kind == "timeout"
                else:
                    assert isinstance(answer, CallAnswer)
                    assert answer.status == "halted"

    in_process(folder, body)


def test_a_gateway_that_sends_rubbish_harms_nobody_else(folder: Path) -> None:
    async def body(execution: Running) -> None:
        await execution.client.status()
        question = Query(AtLatest(), AccountsQuestion((bytes(20),)))
        broken = await trio.open_unix_socket(execution.query_path())
        await broken.send_all(encode_frame(1, b"rubbish"))
        (frame,) = FrameDecoder().feed(bytes(await broken.receive_some(4096)))
        assert isinstance(decode(Answer, frame.payload), LimitExceeded)
        await broken.send_all(b"\xff" * 100)
        assert await broken.receive_some(10) == b""
        async with await trio.open_unix_socket(execution.query_path()) as gateway:
            assert isinstance((await ask(gateway, [question]))[0], AccountsAnswer)
        await broken.aclose()

    in_process(folder, body)


def test_sigterm_ends_it_cleanly(folder: Path) -> None:
    async def body(execution: Running) -> None:
        await execution.produce(candidate(0, 0))
        execution.process.terminate()
        assert await execution.ended() == (EXIT_STOPPED, "")
        with pytest.raises(ExecutionGone):
            await execution.client.status()

    in_process(folder, body)
    assert reopened_height(folder) == 1


@pytest.mark.parametrize("end", ["terminate", "close"])
def test_it_ends_in_the_middle_of_a_long_build(folder: Path, end: str) -> None:
    async def body(execution: Running) -> None:
        await execution.client.status()
        request = execution.model.build_request([candidate(0, 0, to=LOOPER, gas=16_000_000)])
        await execution.stream.send_all(encode_frame(1, encode(request)))
        if end == "terminate":
            execution.process.terminate()
        else:
            await execution.client.aclose()
        with trio.fail_after(10):
            assert await execution.ended() == (EXIT_STOPPED, "")

    in_process(folder, body)
    assert reopened_height(folder) == 0


def test_ctrl_c_is_left_to_the_node(folder: Path) -> None:
    async def body(execution: Running) -> None:
        await execution.client.status()
        execution.process.send_signal(signal.SIGINT)
        await execution.produce()

    in_process(folder, body)


def test_killed_in_the_middle_of_anything_it_stands_at_a_committed_block(folder: Path) -> None:
    async def body(execution: Running) -> None:
        await execution.produce(candidate(0, 0))
        built = execution.model.build([candidate(0, 1)])
        certificate = execution.model.certificate(built.block_hash)
        await execution.client.validate(Validate(built.raw_block))
        await execution.stream.send_all(encode_frame(9, encode(Commit(built.block_hash, certificate))))
        execution.process.kill()
        await execution.process.wait()

    in_process(folder, body)
    assert reopened_height(folder) in (1, 2)


def test_two_blocks_final_at_one_height_end_it_with_a_code_of_its_own(folder: Path) -> None:
    async def body(execution: Running) -> None:
        other = LocalChain(genesis=GENESIS)
        foreign = other.build([candidate(5, 0)])
        certificate = other.certificate(foreign.block_hash)
        await execution.produce()
        with pytest.raises(ExecutionGone):
            await execution.client.commit(Commit(foreign.block_hash, certificate))
        code, stderr = await execution.ended()
        assert code == EXIT_CONFLICT
        assert stderr.startswith("astralink execution: fatal: block 0x")
        assert stderr.count("\n") == 1

    in_process(folder, body)
    assert reopened_height(folder) == 1


def test_a_node_that_breaks_the_protocol_ends_it(folder: Path) -> None:
    async def body(execution: Running) -> None:
        await execution.stream.send_all(encode_frame(1, b"rubbish"))
        code, stderr = await execution.ended()
        assert code == EXIT_BUG
        assert "the node broke the protocol" in stderr

    in_process(folder, body)


def test_a_write_that_fails_ends_it_and_loses_nothing(folder: Path) -> None:
    async def body(execution: Running) -> None:
        await execution.produce(candidate(0, 0))
        # From now on none of its files may grow: what a full disk does, with another error number.
        resource.prlimit(execution.process.pid, resource.RLIMIT_FSIZE, (1024, 1024))
        with pytest.raises(ExecutionGone):
            await execution.produce(candidate(0, 1))
        code, stderr = await execution.ended()
        assert code == EXIT_STORAGE, stderr
        assert stderr.startswith("astralink execution: ")
        assert stderr.count("\n") == 1

    in_process(folder, body)
    assert reopened_height(folder) == 1


async def fails_to_start(execution: Running) -> tuple[int, str]:
    with pytest.raises(ExecutionGone):
        await execution.client.status()
    return await execution.ended()


def test_a_locked_database_is_named(folder: Path) -> None:
    async def body(execution: Running) -> None:
        code, stderr = await fails_to_start(execution)
        assert code == EXIT_CANNOT_START
        assert "is open already" in stderr

    with open_database(folder):
        in_process(folder, body)


def test_a_damaged_database_names_the_check(folder: Path) -> None:
    async def body(execution: Running) -> None:
        code, stderr = await fails_to_start(execution)
        assert code == EXIT_STORAGE
        assert "astralink-node db check" in stderr

    with open_database(folder) as store:
        store.write({keys.header_key(0): None}, sync=True)
    in_process(folder, body)


def test_another_chains_genesis_file_is_named(folder: Path) -> None:
    async def body(execution: Running) -> None:
        code, stderr = await fails_to_start(execution)
        assert code == EXIT_CANNOT_START
        assert "holds another chain" in stderr

    (folder / GENESIS_NAME).write_bytes(genesis_text(2))
    in_process(folder, body)


@pytest.mark.parametrize("argument", ["", "[]", "{}", '{"database": 5}'])
def test_a_broken_configuration_is_named(argument: str) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", MODULE, argument], capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert finished.returncode == EXIT_CANNOT_START
    assert "configuration" in finished.stderr
    assert "Traceback" not in finished.stderr
