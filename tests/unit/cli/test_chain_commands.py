"""The commands around a chain that does not run: genesis, init, export, import, db."""

import json
from pathlib import Path

import pytest

from astralink_node.chain.data_folder import open_database
from astralink_node.chain.new_folder import initialise_folder
from astralink_node.cli.main import run
from astralink_node.storage import keys
from tests.support.chains import CONTRACTS, COUNTER, LOGGER, LocalChain, candidate, genesis_text, genesis_validator

GENESIS = genesis_text(1, extra_alloc=CONTRACTS)


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """(exit code, stdout, stderr)."""
    capsys.readouterr()
    code = run([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder at height 5."""
    path = tmp_path / "data"
    initialise_folder(path, GENESIS)
    with open_database(path) as store:
        chain = LocalChain(store, genesis=GENESIS)
        for nonce in range(5):
            chain.produce(
                [
                    candidate(0, nonce),
                    candidate(1, nonce, to=COUNTER, gas=60_000),
                    candidate(2, nonce, to=LOGGER, gas=60_000, data=bytes(32)),
                ]
            )
    return path


@pytest.fixture
def genesis_file(tmp_path: Path) -> Path:
    path = tmp_path / "genesis.json"
    path.write_bytes(GENESIS)
    return path


def head_of(folder: Path) -> tuple[int, bytes]:
    with open_database(folder) as store:
        status = LocalChain(store, genesis=GENESIS).execution.status()
        return status.head_height, status.head_hash


# --- genesis ---------------------------------------------------------------------------------------------------


def validator_file(tmp_path: Path, number: int) -> Path:
    validator = genesis_validator(number)
    entry = {
        "operator": f"0x{validator.operator.hex()}",
        "votingKey": f"0x{validator.voting_key.hex()}",
        "proofOfPossession": f"0x{validator.proof_of_possession.hex()}",
        "checkpointKey": f"0x{validator.checkpoint_key.hex()}",
    }
    path = tmp_path / f"validator-{number}.json"
    path.write_text(json.dumps({"genesisEntry": entry, "keystores": "elsewhere"} if number else entry))
    return path


def test_a_new_genesis_file_is_valid_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new.json"
    address = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
    arguments = ("--network-name", "lab", "--chain-id", 777_001, "--fund", f"{address}=5", "--output", path)
    validators = [part for number in (0, 1) for part in ("--validator", validator_file(tmp_path, number))]
    code, out, err = command(capsys, "genesis", "new", *arguments, *validators)
    assert (code, out) == (0, "")
    code, out, _ = command(capsys, "genesis", "verify", path, "--json")
    assert code == 0
    genesis_hash = json.loads(out)["genesisHash"]
    assert genesis_hash in err
    code, out, _ = command(capsys, "genesis", "show", path, "--json")
    shown = json.loads(out)
    assert (code, shown["chainId"], shown["genesisHash"], len(shown["validators"])) == (0, 777_001, genesis_hash, 2)
    code, out, _ = command(capsys, "genesis", "show", path)
    assert genesis_hash in out
    assert "5 BWT" in out
    code, _, err = command(capsys, "genesis", "new", *arguments, *validators)
    assert code == 2
    assert "exists already" in err


@pytest.mark.parametrize("fund", ["0x70997970C51812dc3A010C7d01b50e0d17dc79C8", "0x12=5", "=5", "x"])
def test_nonsense_in_fund_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], fund: str) -> None:
    validator = validator_file(tmp_path, 0)
    code, _, err = command(
        capsys, "genesis", "new", "--network-name", "x", "--chain-id", 5, "--validator", validator, "--fund", fund
    )
    assert code == 2
    assert "expected" in err


def test_a_broken_validator_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "v.json"
    path.write_text('{"votingKey": "0x00"}')
    code, _, err = command(capsys, "genesis", "new", "--network-name", "x", "--chain-id", 5, "--validator", path)
    assert code == 2
    assert "v.json: operator: expected a value, found nothing" in err


def test_a_genesis_file_with_staking_is_sealed_again_after_it_was_edited(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, edited = tmp_path / "staking.json", tmp_path / "edited.json"
    validator = ("--validator", validator_file(tmp_path, 0))
    network = ("--network-name", "mine", "--chain-id", 777_002, "--epoch-length", 50, "--staking")
    code, _, _ = command(capsys, "genesis", "new", *network, *validator, "--output", path)
    assert code == 0
    code, out, _ = command(capsys, "genesis", "show", path, "--json")
    assert json.loads(out)["staking"]["downtimeWindow"] == 50
    code, out, _ = command(capsys, "genesis", "show", path)
    assert "Staking:       64 seats" in out
    assert "Accounts:      0, holding 0 BWT" in out
    document = json.loads(path.read_text())
    document["astralink"]["staking"]["maxValidators"] = 7
    edited.write_text(json.dumps(document))
    code, _, err = command(capsys, "genesis", "verify", edited)
    assert code != 0
    assert "`genesis seal` puts it there" in err
    sealed = tmp_path / "sealed.json"
    code, _, err = command(capsys, "genesis", "seal", edited, "--output", sealed)
    assert code == 0
    code, out, _ = command(capsys, "genesis", "verify", sealed, "--json")
    assert code == 0
    assert json.loads(out)["genesisHash"] in err
    # A file without staking is as it was.
    plain = tmp_path / "plain.json"
    command(capsys, "genesis", "new", "--network-name", "x", "--chain-id", 5, *validator, "--output", plain)
    code, out, _ = command(capsys, "genesis", "seal", plain)
    assert (code, out) == (0, plain.read_text())


def test_a_broken_genesis_file_names_its_field(
    genesis_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.json"
    broken.write_bytes(GENESIS.replace(b'"epochLength": 100', b'"epochLength": "soon"'))
    for verb in (("genesis", "verify", broken), ("genesis", "show", broken), ("init", broken)):
        code, _, err = command(capsys, *verb, *(("--data-dir", tmp_path / "d") if verb[0] == "init" else ()))
        assert code == 2
        assert 'astralink.epochLength: expected a whole number from 3 to 9223372036854775807, found "soon"' in err
    code, _, err = command(capsys, "genesis", "diff", genesis_file, broken)
    assert code == 2
    assert "broken.json" in err
    code, _, err = command(capsys, "genesis", "verify", genesis_file, "--hash", "0x00")
    assert code == 2
    assert "expected genesis hash 0x00" in err


def test_diff_names_the_fields_that_differ(
    genesis_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.json"
    other.write_bytes(GENESIS.replace(b'"epochLength": 100', b'"epochLength": 50'))
    code, out, _ = command(capsys, "genesis", "diff", genesis_file, other)
    assert code == 1
    assert "astralink.epochLength:\n  - 100\n  + 50\n" in out
    code, out, _ = command(capsys, "genesis", "diff", genesis_file, other, "--json")
    assert code == 1
    assert [item["path"] for item in json.loads(out)["differences"]] == ["astralink.epochLength"]
    respelled = tmp_path / "respelled.json"
    respelled.write_text(json.dumps(json.loads(GENESIS)))
    code, out, _ = command(capsys, "genesis", "diff", genesis_file, respelled)
    assert code == 0
    assert "same chain" in out


# --- init ------------------------------------------------------------------------------------------------------


def test_init_makes_a_folder_once(genesis_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "made"
    for _ in range(2):
        code, out, _ = command(capsys, "init", genesis_file, "--data-dir", folder, "--json")
        assert code == 0
        assert json.loads(out)["dataDir"] == str(folder)
    other = tmp_path / "other.json"
    other.write_bytes(genesis_text(2))
    code, _, err = command(capsys, "init", other, "--data-dir", folder)
    assert code == 2
    assert "holds another chain" in err


# --- export and import -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["blocks", "blocks.gz"])
def test_exported_blocks_are_imported_elsewhere(
    folder: Path, tmp_path: Path, genesis_file: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    file, other = tmp_path / name, tmp_path / "other"
    code, out, _ = command(capsys, "export", file, "--data-dir", folder, "--json")
    assert (code, json.loads(out)["blocks"]) == (0, 5)
    command(capsys, "init", genesis_file, "--data-dir", other)
    code, out, _ = command(capsys, "import", file, "--data-dir", other, "--json")
    assert (code, json.loads(out)) == (0, {"imported": 5, "skipped": 0, "head": 5})
    assert head_of(other) == head_of(folder)
    code, out, _ = command(capsys, "import", file, "--data-dir", other, "--json")
    assert (code, json.loads(out)) == (0, {"imported": 0, "skipped": 5, "head": 5})


def test_an_import_goes_on_where_it_stopped(
    folder: Path, tmp_path: Path, genesis_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, cut, other = tmp_path / "whole", tmp_path / "cut", tmp_path / "other"
    command(capsys, "export", whole, "--data-dir", folder)
    data = whole.read_bytes()
    cut.write_bytes(data[: len(data) * 3 // 5])
    command(capsys, "init", genesis_file, "--data-dir", other)
    code, _, err = command(capsys, "import", cut, "--data-dir", other)
    assert code == 2
    assert "the file ends after" in err
    assert 0 < head_of(other)[0] < 5
    assert command(capsys, "import", whole, "--data-dir", other)[0] == 0
    assert head_of(other) == head_of(folder)


def test_a_part_of_the_chain_is_imported_only_where_it_fits(
    folder: Path, tmp_path: Path, genesis_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, other = tmp_path / "part", tmp_path / "other"
    assert command(capsys, "export", file, "--data-dir", folder, "--from", 3, "--to", 4)[0] == 0
    command(capsys, "init", genesis_file, "--data-dir", other)
    code, _, err = command(capsys, "import", file, "--data-dir", other)
    assert code == 2
    assert "the file goes on with block 3, but the head is 0" in err


def test_a_block_that_was_tampered_with_is_named_and_those_before_it_stay(
    folder: Path, tmp_path: Path, genesis_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, other = tmp_path / "blocks", tmp_path / "other"
    command(capsys, "export", file, "--data-dir", folder)
    transaction = candidate(0, 2).raw_transaction
    file.write_bytes(file.read_bytes().replace(transaction, transaction[:-1] + bytes((transaction[-1] ^ 1,))))
    command(capsys, "init", genesis_file, "--data-dir", other)
    code, _, err = command(capsys, "import", file, "--data-dir", other)
    assert code == 2
    assert "block 3 is not valid: transactions root" in err
    assert head_of(other)[0] == 2


def test_a_certificate_that_was_tampered_with_commits_nothing(
    folder: Path, tmp_path: Path, genesis_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, other = tmp_path / "blocks", tmp_path / "other"
    command(capsys, "export", file, "--data-dir", folder, "--to", 1)
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    command(capsys, "init", genesis_file, "--data-dir", other)
    code, _, err = command(capsys, "import", file, "--data-dir", other)
    assert code == 2
    assert "certificate" in err
    assert head_of(other)[0] == 0


def test_blocks_of_another_chain_are_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, other = tmp_path / "blocks", tmp_path / "other"
    command(capsys, "export", file, "--data-dir", folder)
    initialise_folder(other, genesis_text(2))
    code, _, err = command(capsys, "import", file, "--data-dir", other)
    assert code == 2
    assert "blocks of another chain" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("--to", 6), "the head is at height 5"), (("--from", 6), "nothing to export")],
)
def test_an_export_beyond_the_chain_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[object, ...], message: str
) -> None:
    code, _, err = command(capsys, "export", tmp_path / "x", "--data-dir", folder, *arguments)
    assert code == 2
    assert message in err
    assert not (tmp_path / "x").exists()


def test_what_is_no_block_file_is_refused(folder: Path, genesis_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = command(capsys, "import", genesis_file, "--data-dir", folder)
    assert code == 2
    assert "not a file of blocks" in err


# --- db --------------------------------------------------------------------------------------------------------


def test_check_says_that_a_database_is_whole(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = command(capsys, "db", "check", "--data-dir", folder, "--json")
    result = json.loads(out)
    assert (code, result["whole"], result["blocks"], result["transactions"]) == (0, True, 6, 15)
    code, out, _ = command(capsys, "db", "check", "--data-dir", folder, "--state-only")
    assert code == 0
    assert "the database is whole" in out


def test_check_finds_damage_and_a_rollback_mends_what_it_can(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_database(folder) as store:
        store.write({keys.receipts_key(5): b"\xc0"}, sync=True)
    code, out, _ = command(capsys, "db", "check", "--data-dir", folder)
    assert code == 1
    assert "problem: block 5: its receipts do not have the header's root" in out
    code, _, err = command(capsys, "db", "rollback", "--to", 4, "--yes", "--data-dir", folder)
    assert code == 0
    assert "the head is at height 4" in err


def test_rollback_prune_compact_and_stats(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = command(capsys, "db", "rollback", "--to", 3, "--yes", "--data-dir", folder, "--json")
    assert (code, json.loads(out)["undone"], json.loads(out)["head"]) == (0, 2, 3)
    code, out, _ = command(capsys, "db", "prune", "--keep", 1, "--data-dir", folder, "--json")
    assert (code, json.loads(out)) == (0, {"pruned": 2, "oldestState": 2, "head": 3})
    code, out, _ = command(capsys, "db", "prune", "--keep", 2, "--data-dir", folder, "--json")
    assert (code, json.loads(out)["pruned"]) == (0, 0)
    assert command(capsys, "db", "compact", "--data-dir", folder, "--json")[0] == 0
    code, out, _ = command(capsys, "db", "stats", "--count", "--data-dir", folder, "--json")
    stats = json.loads(out)
    assert (code, stats["head"], stats["oldestState"]) == (0, 3, 2)
    assert stats["tables"]["headers"]["entries"] == 4
    assert command(capsys, "db", "stats", "--data-dir", folder)[0] == 0
    assert command(capsys, "db", "check", "--data-dir", folder)[0] == 0


@pytest.mark.parametrize("target", [0, 9])
def test_a_rollback_beyond_what_is_kept_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], target: int
) -> None:
    command(capsys, "db", "prune", "--keep", 2, "--data-dir", folder)
    code, _, err = command(capsys, "db", "rollback", "--to", target, "--yes", "--data-dir", folder)
    assert code == 2
    assert f"expected a height from 3 to 5, found {target}" in err


@pytest.mark.parametrize(
    "verb", [("check",), ("stats",), ("compact",), ("prune", "--keep", 1), ("rollback", "--to", 1)]
)
def test_a_folder_without_a_chain_is_said_to_have_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: tuple[object, ...]
) -> None:
    code, _, err = command(capsys, "db", *verb, "--data-dir", tmp_path / "nothing")
    assert code == 2
    assert "astralink-node init" in err


def test_a_database_in_use_is_left_alone(
    folder: Path, tmp_path: Path, genesis_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "blocks"
    command(capsys, "export", file, "--data-dir", folder)
    with open_database(folder):
        for arguments in (
            ("db", "check"),
            ("db", "stats"),
            ("db", "compact"),
            ("db", "prune", "--keep", 1),
            ("db", "rollback", "--to", 1, "--yes"),
            ("export", tmp_path / "again"),
            ("import", file),
            ("init", genesis_file),
        ):
            code, _, err = command(capsys, *arguments, "--data-dir", folder)
            assert code == 2
            assert "is locked: a node or another command is running on it" in err
