"""Wrong files, folders and settings, through the real program: one line that names what is wrong, and nothing lost.

A second node on a folder, a port in use, wrong keys and wrong passwords are in test_node_process, a full disk in
test_full_disk, wrong requests in test_bad_requests.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from astralink_node.chain.check import check_database
from astralink_node.chain.data_folder import open_database
from astralink_node.chain.initialise import open_chain
from astralink_node.cli.devnet_folder import PASSWORD_FILE
from astralink_node.cli.main import run
from astralink_node.errors import EXIT_STORAGE, EXIT_USER
from astralink_node.services.data_folder import DataFolder
from astralink_node.storage.log_tail import SECTOR_BYTES
from astralink_node.storage.wal import encode_record
from genesis.fields import MAX_FILE_BYTES
from tests.support.chains import genesis_text
from tests.support.node_process import NodeProcess, run_verb

FAST = ("--block-interval-ms", "50")
EXIT_HALTED = 1

Document = dict[str, Any]


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A devnet's folder with some blocks in it, and beside it the export of its chain. Tests work on copies."""
    base = tmp_path_factory.mktemp("grown")
    arguments = ("devnet", "--dir", str(base / "net"), "--rpc-port", "0", "--json", *FAST)
    with NodeProcess(base / "log", *arguments) as node:
        node.await_ready()
        node.await_height(12)
        node.stop()
    # Opening a database moves its log into a table; the tests want what a node leaves.
    shutil.copytree(base / "net", base / "copy")
    assert run(["export", str(base / "blocks"), "--data-dir", str(base / "copy")]) == 0
    return base


@pytest.fixture
def folder(grown: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(grown / "net", tmp_path / "net"))


@pytest.fixture(scope="module")
def head(grown: Path) -> int:
    return head_of(grown / "copy")


def head_of(folder: Path) -> int:
    """The head of a database that a full check finds whole."""
    with open_database(folder) as store:
        result = check_database(store, lambda *_: None)
    assert not result.problems
    return result.head_height


def refused(result: "subprocess.CompletedProcess[str]", code: int) -> str:
    """The one line that a refused verb says."""
    assert "Traceback" not in result.stderr, result.stderr
    assert result.returncode == code, result.stderr
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def refused_here(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> str:
    """As `refused`, of a verb that is run in this process: the same program, without a second of imports."""
    capsys.readouterr()
    returned = run(list(arguments))
    captured = capsys.readouterr()
    return refused(subprocess.CompletedProcess(arguments, returned, captured.out, captured.err), code)


def starting(folder: Path, tmp_path: Path, *arguments: str) -> NodeProcess:
    password = () if "--password-file" in arguments else ("--password-file", str(folder / PASSWORD_FILE))
    return NodeProcess(
        tmp_path / "log",
        "start",
        "--data-dir",
        str(folder),
        "--rpc-port",
        "0",
        "--no-p2p",
        "--json",
        *FAST,
        *password,
        *arguments,
    )


def not_started(folder: Path, tmp_path: Path, code: int, *arguments: str) -> str:
    """The line with which `start` gives up, whether before it serves or when it meets the damage."""
    with starting(folder, tmp_path, *arguments) as node:
        assert node.await_exit() == code, node.said()
        said = node.said()
    assert "Traceback" not in said
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, said
    assert said.splitlines()[-1] == lines[0]
    return lines[0]


def goes_on(folder: Path, tmp_path: Path, height: int, *arguments: str) -> str:
    """A start that comes back at or above a height and makes blocks; what it said."""
    with starting(folder, tmp_path, *arguments) as node:
        node.await_ready()
        assert node.ready["headHeight"] >= height
        node.await_height(node.ready["headHeight"] + 2)
        node.stop()
        return node.said()


def damage(path: Path, change: Callable[[bytearray], object]) -> None:
    content = bytearray(path.read_bytes())
    change(content)
    path.write_bytes(content)


def flip_all_over(content: bytearray) -> None:
    """A bit in every 500 bytes of the middle: whatever block is read, it is hit."""
    for position in range(len(content) // 10, 9 * len(content) // 10, 500):
        content[position] ^= 0x10


# --- A broken genesis --------------------------------------------------------------------------------------------


def with_value(*path: str | int, value: object) -> Callable[[Document], str]:
    def edit(document: Document) -> str:
        place: Any = document
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
        return json.dumps(document)

    return edit


def without(name: str) -> Callable[[Document], str]:
    return lambda document: json.dumps({key: value for key, value in document.items() if key != name})


def with_text(old: str, new: str) -> Callable[[Document], str]:
    return lambda document: json.dumps(document).replace(old, new, 1)


VALIDATOR = ("astralink", "validators", 0)

BROKEN_GENESES: dict[str, tuple[Callable[[Document], str], str]] = {
    "a missing section": (without("astralink"), "astralink: expected a value, found nothing"),
    "an unknown key": (
        with_value("astralink", "epochLenght", value=5),
        "astralink.epochLenght: expected one of .*unknown key .did you mean epochLength",
    ),
    "a proof of another key": (
        with_value(*VALIDATOR, "proofOfPossession", value="0x" + "c0" + "00" * 95),
        r"astralink\.validators\[0\]\.proofOfPossession: expected a proof of possession",
    ),
    "a short key": (
        with_value(*VALIDATOR, "votingKey", value="0x" + "11" * 47),
        r"astralink\.validators\[0\]\.votingKey: expected 48 bytes as 0x hex, found 47",
    ),
    "a key off the curve": (
        with_value(*VALIDATOR, "votingKey", value="0x" + "11" * 48),
        r"validators\[0\]\.votingKey: expected a compressed point",
    ),
    "a key twice": (with_text('"timestamp"', '"coinbase": 1, "coinbase": 2, "timestamp"'), "the key 'coinbase' twice"),
    "no JSON": (lambda _: "genesis: yes", "expected JSON, found .* at line 1 column 1"),
    "deep nesting": (lambda _: "[" * 100_000, "expected JSON nested at most 32 deep"),
    "a negative number": (with_value("timestamp", value=-1), "timestamp: expected a whole number from 0 to .*found -1"),
    "a fraction": (with_value("baseFeePerGas", value=1.5), "baseFeePerGas: expected whole numbers only, found 1.5"),
    "a number without end": (
        with_text('"chainId": ', '"chainId": ' + "9" * 5000),
        r"config\.chainId: expected numbers of at most 80 digits, found one of 50",
    ),
    "bad hex": (with_value("mixHash", value="0xzz"), "mixHash: expected 32 bytes as 0x hex"),
    "a gas target above the ceiling": (
        with_value("astralink", "fees", "gasTarget", "maximum", value=10**9),
        r"astralink\.fees\.gasTarget\.maximum: expected at most",
    ),
    "more wei than a word holds": (
        with_value("alloc", "0x" + "01" * 20, value={"balance": str(2**256)}),
        r"alloc\.0x0101.*\.balance: expected a whole number",
    ),
    "a key that breaks the line": (with_value("alloc", "a\nb", value={}), r"alloc\.a\\nb: expected 20 bytes"),
    "a name that a terminal would obey": (
        with_value("astralink", "networkName", value="x\x1b[2J"),
        r"astralink\.networkName: expected printable characters",
    ),
}


@pytest.mark.parametrize("case", BROKEN_GENESES)
def test_broken_genesis_names_the_field_and_leaves_no_folder(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    breaking, complaint = BROKEN_GENESES[case]
    document = json.loads(genesis_text())
    path, folder = tmp_path / "genesis.json", tmp_path / "net"
    path.write_text(breaking(document))
    line = refused_here(capsys, EXIT_USER, "init", str(path), "--data-dir", str(folder))
    assert f"{path}: " in line
    assert re.search(complaint, line), line
    assert len(line) < 1000
    assert not folder.exists()


def test_genesis_verify_says_the_same_as_init(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "genesis.json"
    for breaking, complaint in BROKEN_GENESES.values():
        path.write_text(breaking(json.loads(genesis_text())))
        assert run(["genesis", "verify", str(path)]) == EXIT_USER
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{path}: " in line
        assert re.search(complaint, line), line


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b" " * (MAX_FILE_BYTES + 1), f"expected a file of at most {MAX_FILE_BYTES} bytes"),
        (b"\xff\xfe", "expected a JSON file in UTF-8"),
        ("{}".encode("utf-16"), "expected a JSON file in UTF-8"),
        (b"", "expected JSON, found Expecting value at line 1 column 1"),
    ],
)
def test_file_that_is_no_genesis_at_all_is_told_as_such(
    content: bytes, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "genesis.json").write_bytes(content)
    assert run(["init", str(tmp_path / "genesis.json"), "--data-dir", str(tmp_path / "net")]) == EXIT_USER
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "net").exists()


def test_init_on_a_folder_of_another_chain_changes_nothing(
    folder: Path, tmp_path: Path, head: int, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (folder / "genesis.json").read_bytes()
    (tmp_path / "other.json").write_bytes(genesis_text())
    line = refused(run_verb("init", str(tmp_path / "other.json"), "--data-dir", str(folder)), EXIT_USER)
    assert "the data folder holds another chain" in line
    assert (folder / "genesis.json").read_bytes() == before
    (folder / "genesis.json").unlink()
    line = refused_here(capsys, EXIT_USER, "init", str(tmp_path / "other.json"), "--data-dir", str(folder))
    assert "the data folder holds another chain" in line
    assert not (folder / "genesis.json").exists()
    assert head_of(folder) == head


def test_interrupted_creation_of_a_database_is_no_damage(tmp_path: Path) -> None:
    """LevelDB writes MANIFEST, then CURRENT: a kill between them leaves nothing that could be lost."""
    (tmp_path / "genesis.json").write_bytes(genesis_text())
    database = DataFolder(tmp_path / "net").database
    database.mkdir(parents=True)
    (database / "MANIFEST-000001").write_bytes(b"torn")
    assert run(["init", str(tmp_path / "genesis.json"), "--data-dir", str(tmp_path / "net")]) == 0


# --- Settings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("[rpc]\nprot = 1", "config.toml: unknown setting rpc.prot; did you mean port?"),
        ("[rpc]\nport = 'x'", "rpc.port: expected a whole number from 0 to 65535, found 'x' (file "),
        ("port = 1", "config.toml: unknown table [port]"),
        ("what is this", "config.toml: not TOML"),
    ],
)
def test_wrong_settings_file_is_named(folder: Path, tmp_path: Path, content: str, complaint: str) -> None:
    (folder / "config.toml").write_text(content)
    result = run_verb("start", "--data-dir", str(folder), "--password-file", str(folder / PASSWORD_FILE))
    assert complaint in refused(result, EXIT_USER)


def test_unknown_variable_stops_the_start(folder: Path, tmp_path: Path) -> None:
    with NodeProcess(
        tmp_path / "log", "start", "--data-dir", str(folder), environment={"ASTRALINK_RPC_PROT": "1"}
    ) as node:
        assert node.await_exit() == EXIT_USER
        assert "unknown variable ASTRALINK_RPC_PROT; did you mean ASTRALINK_RPC_PORT?" in node.said()


def test_address_of_another_machine_is_refused(folder: Path, tmp_path: Path) -> None:
    line = not_started(folder, tmp_path, EXIT_USER, "--rpc-host", "192.0.2.1")
    assert "cannot listen on port 0 of 192.0.2.1" in line


# --- Keys and what they signed -----------------------------------------------------------------------------------


def test_missing_password_file_is_named(folder: Path, tmp_path: Path) -> None:
    missing = str(tmp_path / "nothing")
    result = run_verb("start", "--data-dir", str(folder), "--password-file", missing)
    assert result.returncode == EXIT_USER
    assert f"File '{missing}' does not exist" in result.stderr
    (folder / "config.toml").write_text(f"[validator]\npassword_file = '{missing}'\n")
    result = run_verb("start", "--data-dir", str(folder))
    assert f"{missing}: No such file or directory" in refused(result, EXIT_USER)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "No such file or directory"),
        (b"{", "not JSON"),
        (b"{}", "version: expected a whole number, found nothing"),
    ],
    ids=["missing", "cut short", "of another format"],
)
def test_keystore_that_cannot_be_read_is_named(
    folder: Path, tmp_path: Path, content: bytes | None, complaint: str
) -> None:
    keystore = folder / "validator" / "voting-keystore.json"
    if content is None:
        keystore.unlink()
    else:
        keystore.write_bytes(content)
    line = not_started(folder, tmp_path, EXIT_USER)
    assert str(keystore) in line
    assert complaint in line


def history_in(folder: Path) -> Path:
    (path,) = (folder / "signing").glob("*.history")
    return path


def test_torn_end_of_the_signing_history_is_cut_off(folder: Path, tmp_path: Path, head: int) -> None:
    path = history_in(folder)
    damage(path, lambda content: content.__delitem__(slice(-5, None)))
    assert "the signing history's torn end was cut off" in goes_on(folder, tmp_path, head)


def test_damaged_signing_history_signs_nothing_until_the_operator_says_so(
    folder: Path, tmp_path: Path, head: int
) -> None:
    path = history_in(folder)
    damage(path, flip_all_over)
    content = path.read_bytes()
    line = not_started(folder, tmp_path, EXIT_USER)
    assert str(path) in line
    assert "--new-signing-history" in line
    assert path.read_bytes() == content
    assert head_of(folder) >= head
    path.rename(tmp_path / "set aside")
    goes_on(folder, tmp_path, head, "--new-signing-history")


# --- A damaged database ------------------------------------------------------------------------------------------


def compacted(folder: Path) -> Path:
    """The folder's database with everything in tables; the largest of them."""
    assert run(["db", "compact", "--data-dir", str(folder)]) == 0
    return max(DataFolder(folder).database.glob("*.ldb"), key=lambda path: path.stat().st_size)


@pytest.mark.parametrize(
    "change", [lambda content: content.__delitem__(slice(len(content) // 2, None)), flip_all_over], ids=["cut", "flips"]
)
def test_damaged_table_stops_the_node_with_advice(
    folder: Path, tmp_path: Path, head: int, change: Callable[[bytearray], object]
) -> None:
    table = compacted(folder)
    content = table.read_bytes()
    damage(table, change)
    line = not_started(folder, tmp_path, EXIT_STORAGE)
    assert f"the database at {DataFolder(folder).database} is damaged" in line
    assert all(words in line for words in ("astralink-node db check", "db rollback", "`init` again", "`import`"))
    checked = run_verb("db", "check", "--data-dir", str(folder))
    assert checked.returncode in (1, EXIT_STORAGE)
    assert "is damaged" in checked.stdout + checked.stderr
    assert "Traceback" not in checked.stderr
    if table.exists():  # LevelDB may have begun to replace it, from what it could read
        table.write_bytes(content)
        assert head_of(folder) >= head


def test_flipped_byte_in_the_log_is_damage_and_not_a_shorter_chain(folder: Path, tmp_path: Path, head: int) -> None:
    (log,) = DataFolder(folder).database.glob("*.log")
    content = log.read_bytes()
    damage(log, flip_all_over)
    assert "is damaged" in not_started(folder, tmp_path, EXIT_STORAGE)
    assert "is damaged" in refused(run_verb("db", "check", "--data-dir", str(folder)), EXIT_STORAGE)
    log.write_bytes(content)
    assert head_of(folder) == head


def test_write_that_a_power_failure_cut_short_is_repaired_and_other_damage_is_not(
    grown: Path, folder: Path, tmp_path: Path, head: int, capsys: pytest.CaptureFixture[str]
) -> None:
    (log,) = DataFolder(folder).database.glob("*.log")
    whole = log.read_bytes()
    # What reached the disk of the newest block ends somewhere within its record.
    begin = len(whole) // SECTOR_BYTES * SECTOR_BYTES - SECTOR_BYTES
    damaged = whole[:begin] + bytes(len(whole) - begin)
    log.write_bytes(damaged)
    assert "after a power failure try `astralink-node db repair`" in not_started(folder, tmp_path, EXIT_STORAGE)
    assert run(["db", "repair", "--data-dir", str(folder), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["head"] == head - 1
    assert report["removedBytes"] > SECTOR_BYTES
    assert (folder / f"chain-{log.name}.damaged").read_bytes() == damaged
    assert run(["db", "repair", "--data-dir", str(folder)]) == 0
    assert f"nothing to repair; the head is at height {head - 1}" in capsys.readouterr().out
    assert run(["import", str(grown / "blocks"), "--data-dir", str(folder)]) == 0
    goes_on(folder, tmp_path, head)


def test_repair_leaves_other_damage_as_it_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (log,) = DataFolder(folder).database.glob("*.log")
    damage(log, flip_all_over)
    damaged = log.read_bytes()
    assert run(["db", "repair", "--data-dir", str(folder)]) == EXIT_STORAGE
    assert "That is not what a power failure leaves, so nothing was changed" in capsys.readouterr().err
    assert log.read_bytes() == damaged


def test_database_that_lost_its_end_signs_nothing_and_is_mended_by_an_import(
    grown: Path, folder: Path, tmp_path: Path, head: int
) -> None:
    """Not what a crash does, since every commit is synced; what a copy of an open folder or a bad disk does."""
    (log,) = DataFolder(folder).database.glob("*.log")
    damage(log, lambda content: content.__delitem__(slice(len(content) // 2, None)))
    shorter = head_of(folder)
    assert shorter < head
    (folder / "consensus" / "wal").write_bytes(encode_record(b"\x02" + (head + 1).to_bytes(8, "big")))
    line = not_started(folder, tmp_path, EXIT_HALTED)
    assert f"the consensus log is of height {head + 1}" in line
    assert "`import` the blocks between" in line
    assert head_of(folder) == shorter
    (folder / "consensus" / "wal").write_bytes(b"")
    assert run(["import", str(grown / "blocks"), "--data-dir", str(folder)]) == 0
    assert head_of(folder) == head
    shutil.copy(grown / "net" / "consensus" / "wal", folder / "consensus" / "wal")
    goes_on(folder, tmp_path, head)


def test_lost_database_is_told_apart_from_a_folder_without_a_chain(folder: Path, tmp_path: Path) -> None:
    database = DataFolder(folder).database
    database.rename(tmp_path / "aside")
    line = not_started(folder, tmp_path, EXIT_USER)
    assert f"{database} is missing, though {folder / 'genesis.json'} says that there was a chain" in line
    assert not database.exists()


def test_reset_spares_a_chain_that_cannot_be_told_for_a_devnet(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    (tmp_path / "genesis.json").write_bytes(genesis_text())
    assert run(["init", str(tmp_path / "genesis.json"), "--data-dir", str(folder)]) == 0
    (folder / "genesis.json").write_text("{ torn")
    result = run_verb("devnet", "--dir", str(folder), "--reset")
    assert "not a devnet: it is not reset" in refused(result, EXIT_USER)
    assert head_of(folder) == 0
    assert "the keys of a devnet" in refused(run_verb("devnet", "--dir", str(folder)), EXIT_USER)
    assert not (folder / "validator").exists()


# --- The consensus log -------------------------------------------------------------------------------------------


def test_torn_end_of_the_consensus_log_is_cut_off(folder: Path, tmp_path: Path, head: int) -> None:
    with (folder / "consensus" / "wal").open("ab") as log:
        log.write(encode_record(bytes(5000))[:3000])
    assert "the consensus log's torn end was cut off bytes=3000" in goes_on(folder, tmp_path, head)


def test_consensus_log_of_another_version_is_refused(folder: Path, tmp_path: Path, head: int) -> None:
    (folder / "consensus" / "wal").write_bytes(encode_record(b"\x07 what a later version writes"))
    assert "expected a record of this version" in not_started(folder, tmp_path, EXIT_HALTED)
    assert head_of(folder) == head


def test_block_that_was_signed_and_lost_is_not_signed_anew(folder: Path, tmp_path: Path, head: int) -> None:
    """The history knows the block at this height, and neither log nor database have it any more."""
    assert run(["db", "rollback", "--to", str(head - 1), "--yes", "--data-dir", str(folder)]) == 0
    (folder / "consensus" / "wal").write_bytes(os.urandom(700))
    line = not_started(folder, tmp_path, EXIT_HALTED)
    assert f"height {head}" in line
    assert "--new-signing-history" in line
    assert head_of(folder) == head - 1
    history_in(folder).rename(tmp_path / "set aside")
    goes_on(folder, tmp_path, head - 1, "--new-signing-history")


# --- Blocks in files ---------------------------------------------------------------------------------------------


@pytest.fixture
def empty(grown: Path, tmp_path: Path) -> Path:
    """A second data folder at the genesis of the grown one."""
    folder = tmp_path / "second"
    assert run(["init", str(grown / "net" / "genesis.json"), "--data-dir", str(folder)]) == 0
    return folder


def test_export_and_import_give_a_second_folder_the_same_head(grown: Path, empty: Path, tmp_path: Path) -> None:
    packed = tmp_path / "blocks.gz"
    assert run_verb("export", str(packed), "--data-dir", str(grown / "copy")).returncode == 0
    assert run_verb("import", str(packed), "--data-dir", str(empty)).returncode == 0
    heads = []
    for folder in (grown / "copy", empty):
        with open_database(folder) as store:
            heads.append(open_chain(store).head)
    assert heads[0] == heads[1]
    assert head_of(empty) == heads[0].height


def record_ends(content: bytes) -> list[int]:
    """Where each block of an uncompressed export ends."""
    ends = [40]
    while ends[-1] < len(content):
        ends.append(ends[-1] + 4 + int.from_bytes(content[ends[-1] : ends[-1] + 4], "big"))
    return ends


@pytest.mark.parametrize("case", ["cut", "a flip in the block", "a flip in the certificate", "a flip in the length"])
def test_damaged_export_is_imported_up_to_the_damage(
    grown: Path, empty: Path, tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    content = bytearray((grown / "blocks").read_bytes())
    ends = record_ends(content)
    match case:
        case "cut":
            del content[ends[7] + 100 :]
        case "a flip in the block":
            content[ends[7] + 100] ^= 1
        case "a flip in the certificate":
            content[ends[8] - 10] ^= 1
        case _:
            content[ends[7]] ^= 0x80
    (tmp_path / "blocks").write_bytes(content)
    line = refused_here(capsys, EXIT_USER, "import", str(tmp_path / "blocks"), "--data-dir", str(empty))
    assert "block 8" in line
    assert "7 blocks were imported, the head is 7" in line
    assert head_of(empty) == 7
    assert run(["import", str(grown / "blocks"), "--data-dir", str(empty)]) == 0
    assert head_of(empty) == len(ends) - 1


def test_blocks_of_another_chain_are_not_imported(
    grown: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "genesis.json").write_bytes(genesis_text())
    assert run(["init", str(tmp_path / "genesis.json"), "--data-dir", str(tmp_path / "net")]) == 0
    line = refused_here(capsys, EXIT_USER, "import", str(grown / "blocks"), "--data-dir", str(tmp_path / "net"))
    assert "holds blocks of another chain" in line
    assert run(["import", str(tmp_path / "genesis.json"), "--data-dir", str(tmp_path / "net")]) == EXIT_USER
    assert "not a file of blocks" in capsys.readouterr().err
    assert head_of(tmp_path / "net") == 0
