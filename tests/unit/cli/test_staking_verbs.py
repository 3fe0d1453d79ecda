"""The staking verbs on a real chain in this process: what they do, say, refuse and never show."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from astralink_node.cli import main, staking_calls, staking_session
from astralink_node.cli.rpc_client import RequestFailed
from astralink_node.crypto import bls_keystore, ml_dsa, web3_keystore
from astralink_node.crypto.addresses import checksum_address
from astralink_node.crypto.keystore_envelope import Scrypt
from astralink_node.crypto.secret_files import create_json_file
from astralink_node.crypto.web3_keystore import encrypt_account
from astralink_node.validator import keys as key_files
from astralink_node.validator.key_proofs import prove_keys
from astralink_node.validator.keys import ValidatorKeys, create_validator, keys_of, load_public_keys, random_keys
from genesis.dev_accounts import DEVNET_ACCOUNTS
from genesis.devnet_terms import DEVNET_CHAIN_ID
from tests.support.chains import checkpoint_seed, voting_secret
from tests.support.gateways import hexed
from tests.support.staking_gateways import (
    BOB,
    BWT,
    EPOCH_LENGTH,
    FIRST_OPERATOR,
    PARAMS,
    SECOND_OPERATOR,
    GatewayRpc,
    StakingNode,
    fifth_keys,
)

FIRST, SECOND = checksum_address(FIRST_OPERATOR), checksum_address(SECOND_OPERATOR)
QUICK = Scrypt(n=16)
PASSWORD = "a very secret password"


@pytest.fixture(autouse=True)
def _quick_keystores(monkeypatch: pytest.MonkeyPatch) -> None:
    for function in (
        web3_keystore.encrypt_account,
        bls_keystore.encrypt_keystore,
        ml_dsa.encrypt_seed,
        key_files.create_validator,
        key_files.save_keys,
    ):
        monkeypatch.setitem(function.__kwdefaults__, "kdf", QUICK)


class Verbs:
    """Runs verbs as one of the developers' accounts, each of which has a data folder."""

    def __init__(self, node: StakingNode, rpc: GatewayRpc, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.node = node
        self.rpc = rpc
        self.home = home
        self._capsys = capsys
        self.password_file = home / "password"
        self.password_file.write_text(PASSWORD + "\n")
        self.password_file.chmod(0o600)

    def folder(self, account: int) -> Path:
        folder = self.home / f"account{account}"
        if not folder.exists():
            keystore = encrypt_account(DEVNET_ACCOUNTS[account].private_key, PASSWORD, kdf=QUICK)
            create_json_file(folder / "keystore" / "UTC--test", keystore)
        return folder

    def keys(self, account: int) -> Path:
        """Makes validator keys in an account's folder."""
        folder = self.folder(account)
        keys = random_keys(DEVNET_ACCOUNTS[account].address)
        create_validator(folder / "validator", folder / "signing", keys, PASSWORD, key_is_new=True, kdf=QUICK)
        return folder

    def __call__(self, account: int, *verb: str, sends: bool = True) -> tuple[int, str, str]:
        """(exit code, stdout, stderr)."""
        folder = ["--data-dir", str(self.folder(account))]
        sending = ["--password-file", str(self.password_file), "--yes"] if sends else []
        code = main.run([*verb, *folder, *sending])
        shown = self._capsys.readouterr()
        return code, shown.out, shown.err

    def looks(self, *verb: str) -> str:
        """A verb that knows no folder."""
        assert main.run(list(verb)) == 0
        return self._capsys.readouterr().out

    def does(self, account: int, *verb: str, sends: bool = True) -> str:
        code, out, err = self(account, *verb, sends=sends)
        assert code == 0, err
        return out

    def refuses(self, account: int, *verb: str, sends: bool = True) -> str:
        """What it says; nothing may have been sent."""
        sent = self.rpc.asked.count("eth_sendRawTransaction")
        code, out, err = self(account, *verb, sends=sends)
        assert code != 0
        assert out == ""
        assert self.rpc.asked.count("eth_sendRawTransaction") == sent
        return err


@pytest.fixture
def verbs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Verbs]:
    node = StakingNode()
    node.produce()
    with GatewayRpc(node) as rpc:
        for module in ("staking_session", "stake", "validator_staking"):
            monkeypatch.setattr(f"astralink_node.cli.{module}.RpcClient", lambda _url: rpc)
        yield Verbs(node, rpc, tmp_path, capsys)


# --- A holder ----------------------------------------------------------------------------------------------------


def test_a_holder_delegates_earns_leaves_and_is_paid(verbs: Verbs) -> None:
    assert f"delegated 12.5 BWT to {FIRST}" in verbs.does(0, "stake", "delegate", FIRST, "12.5")
    verbs.node.to(6)
    listed = verbs.does(0, "stake", "list", sends=False)
    assert f"{FIRST}" in listed
    assert "delegated  12.5 BWT" in listed
    assert f"of {FIRST}" in verbs.does(0, "stake", "claim")
    left = verbs.does(0, "stake", "undelegate", FIRST, "2.25")
    assert f"2.25 BWT leaves {FIRST}; withdraw it from 20" in left
    assert "nothing is mature yet; the next is on 20" in verbs.refuses(0, "stake", "withdraw")
    assert "entry 0 can be withdrawn from 20" in verbs.refuses(0, "stake", "withdraw", "0")
    assert "there is no entry 7" in verbs.refuses(0, "stake", "withdraw", "7")
    assert "unbonding 0: 2.25 BWT" in verbs.does(0, "stake", "list", sends=False)
    verbs.node.pass_time(PARAMS.unbonding_ms // 1000)
    assert "can be withdrawn" in verbs.does(0, "stake", "list", sends=False)
    assert f"withdrew 2.25 BWT that had left {FIRST}" in verbs.does(0, "stake", "withdraw")
    assert "nothing is unbonding" in verbs.refuses(0, "stake", "withdraw")


def test_several_mature_entries_are_withdrawn_from_the_last_to_the_first(verbs: Verbs) -> None:
    verbs.does(0, "stake", "delegate", FIRST, "10")
    for amount in ("1", "2", "3"):
        verbs.does(0, "stake", "undelegate", FIRST, amount)
    verbs.node.pass_time(PARAMS.unbonding_ms // 1000)
    out = verbs.does(0, "stake", "withdraw")
    assert [line.split()[1] for line in out.splitlines() if line.startswith("withdrew")] == ["3", "2", "1"]


def test_everything_leaves_with_all(verbs: Verbs) -> None:
    verbs.does(0, "stake", "delegate", FIRST, "3wei")
    assert "0.000000000000000003 BWT leaves" in verbs.does(0, "stake", "undelegate", FIRST, "--all")
    assert "has delegated nothing to" in verbs.refuses(0, "stake", "undelegate", SECOND, "--all")


def test_nothing_leaves_where_all_was_taken_out(verbs: Verbs) -> None:
    verbs.node.calls((1, staking_calls.create_validator(fifth_keys(), 500, "Fifth", 40 * BWT)))
    verbs.node.to(EPOCH_LENGTH + 2)
    operator, own = checksum_address(BOB), ("validator", "unstake")
    verbs.does(1, *own, "--all")
    verbs.node.to(2 * EPOCH_LENGTH)
    nothing = f"error: {operator} has delegated nothing to {operator}\n"
    for verb in (
        [*own, "--all"],
        [*own, "1"],
        ["stake", "undelegate", operator, "--all"],
        ["stake", "undelegate", operator, "1"],
        ["stake", "redelegate", operator, FIRST, "--all"],
    ):
        assert verbs(1, *verb) == (2, "", nothing)


def test_what_is_left_of_a_delegation_without_shares_is_claimed(verbs: Verbs) -> None:
    verbs.does(0, "stake", "delegate", FIRST, "5")
    verbs.node.to(6)
    verbs.does(0, "stake", "undelegate", FIRST, "--all")
    assert verbs(0, "stake", "undelegate", FIRST, "--all")[0] == 2
    assert f"of {FIRST}" in verbs.does(0, "stake", "claim", FIRST)


def test_stake_that_moved_is_liable_and_a_refusal_says_what_to_do(verbs: Verbs) -> None:
    verbs.does(0, "stake", "delegate", FIRST, "5")
    moved = verbs.does(0, "stake", "redelegate", FIRST, SECOND, "2")
    assert f"moved 2 BWT from {FIRST} to {SECOND}; liable for the first until 20" in moved
    assert "liable" in verbs.does(0, "stake", "list", sends=False)
    refusal = verbs.refuses(0, "stake", "redelegate", SECOND, FIRST, "1")
    assert "is refused: staking: shares are liable: stake that moved from another validator stays liable" in refusal
    again = verbs.refuses(0, "stake", "redelegate", FIRST, SECOND, "1")
    assert "staking: liable already: an earlier redelegation to this validator is still liable" in again
    assert "SOURCE and TARGET are one validator" in verbs.refuses(0, "stake", "redelegate", FIRST, FIRST, "1")


def test_json_has_transactions_with_their_decoded_events(verbs: Verbs) -> None:
    shown = json.loads(verbs.does(0, "stake", "delegate", FIRST, "12.5", "--json"))
    (sent,) = shown["transactions"]
    assert set(sent) == {"purpose", "transactionHash", "blockNumber", "gasUsed", "feeWei", "events"}
    assert (sent["purpose"], sent["blockNumber"]) == (f"delegating 12.5 BWT to {FIRST}", "0x2")
    (event,) = sent["events"]
    assert event == {
        "event": "Delegated",
        "delegator": hexed(DEVNET_ACCOUNTS[0].address),
        "operator": hexed(FIRST_OPERATOR),
        "amount": hex(12 * BWT + BWT // 2),
        "shares": hex(12 * BWT + BWT // 2),
    }
    listed = json.loads(verbs.does(0, "stake", "list", "--json", sends=False))
    assert {"delegations", "unbondings", "commissionWei", "totalRewardsWei"} <= set(listed)


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        (["stake", "delegate", FIRST, "1000000"], "expected at least 1,000,000 BWT"),
        (["stake", "delegate", checksum_address(BOB), "1"], "no validator of operator"),
        (["stake", "delegate", FIRST, "1.5.5"], "expected BWT as 12.5"),
        (["stake", "delegate", FIRST, "0"], "more than nothing"),
        (["stake", "delegate", FIRST, "-1"], "expected BWT as 12.5, or wei as 12500wei, found '-1'"),
        (["stake", "undelegate", FIRST, "-.5"], "expected BWT as 12.5, or wei as 12500wei, found '-.5'"),
        (["stake", "redelegate", FIRST, SECOND, "-1wei"], "expected BWT as 12.5, or wei as 12500wei, found '-1wei'"),
        (["validator", "stake", "-1"], "expected BWT as 12.5, or wei as 12500wei, found '-1'"),
        (["validator", "unstake", "-1"], "expected BWT as 12.5, or wei as 12500wei, found '-1'"),
        (["stake", "delegate", FIRST, "1", "-x"], "No such option"),
        (["stake", "delegate", FIRST[:2] + FIRST[2:].swapcase(), "1"], "address"),
        (["stake", "undelegate", FIRST, "1"], "has delegated nothing to"),
        (["stake", "undelegate", FIRST], "give either an AMOUNT or --all"),
        (["stake", "undelegate", FIRST, "1", "--all"], "give either an AMOUNT or --all"),
        (["stake", "claim"], "there is nothing to claim"),
        (["stake", "poke", checksum_address(BOB)], "staking: no such validator"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_signed(verbs: Verbs, verb: list[str], words: str) -> None:
    assert words in verbs.refuses(0, *verb)


def test_nothing_is_sent_unasked(verbs: Verbs, monkeypatch: pytest.MonkeyPatch) -> None:
    verb = ("stake", "delegate", FIRST, "1", "--password-file", str(verbs.password_file))
    assert "nobody is there to confirm: give --yes" in verbs.refuses(0, *verb, sends=False)
    monkeypatch.setattr(staking_session.sys.stdin, "isatty", lambda: True)
    asked: list[str] = []

    def declines(question: str, **_options: Any) -> bool:
        asked.append(question)
        raise staking_session.click.Abort

    monkeypatch.setattr(staking_session.click, "confirm", declines)
    assert "Aborted" in verbs.refuses(0, *verb, sends=False)
    assert asked[0].startswith("Send this (about 0.0")


def test_no_secret_is_shown(verbs: Verbs) -> None:
    """Neither in what a run says, nor when the password is wrong."""
    secrets = [PASSWORD, DEVNET_ACCOUNTS[0].private_key.hex()]
    _, out, err = verbs(0, "stake", "delegate", FIRST, "1")
    wrong = verbs.home / "wrong"
    wrong.write_text("another secret\n")
    wrong.chmod(0o600)
    refusal = verbs.refuses(0, "stake", "delegate", FIRST, "1", "--yes", "--password-file", str(wrong), sends=False)
    assert "wrong password" in refusal
    for secret in [*secrets, "another secret"]:
        assert secret not in out + err + refusal


def test_the_account_must_be_clear(verbs: Verbs) -> None:
    folder = verbs.folder(0)
    create_json_file(
        folder / "keystore" / "UTC--two", encrypt_account(DEVNET_ACCOUNTS[1].private_key, PASSWORD, kdf=QUICK)
    )
    assert "say with --from which account" in verbs.refuses(0, "stake", "delegate", FIRST, "1")
    verbs.does(0, "stake", "delegate", FIRST, "1", "--from", checksum_address(BOB))
    missing = checksum_address(DEVNET_ACCOUNTS[5].address)
    assert "has no keystore" in verbs.refuses(0, "stake", "delegate", FIRST, "1", "--from", missing)
    file = str(folder / "keystore" / "UTC--two")
    verbs.does(0, "stake", "delegate", FIRST, "1", "--keystore", file)
    assert "is of" in verbs.refuses(0, "stake", "delegate", FIRST, "1", "--keystore", file, "--from", missing)


def test_stake_with_a_validator_that_does_not_vote_is_warned_of(verbs: Verbs) -> None:
    verbs.node.calls((1, staking_calls.create_validator(fifth_keys(), 500, "Fifth", 32 * BWT)))
    _, _, err = verbs(0, "stake", "delegate", checksum_address(BOB), "1")
    when = "at the earliest from height 20 on, by the election at height 18"
    assert f"warning: {checksum_address(BOB)} does not vote: this earns nothing until it is elected; {when}\n" in err
    verbs.does(1, "validator", "unstake", "12")
    _, _, err = verbs(0, "stake", "delegate", checksum_address(BOB), "1")
    assert "is below the least stake of 32 BWT and remains so: this earns nothing until it has that; at the" in err
    _, _, err = verbs(0, "stake", "redelegate", checksum_address(BOB), FIRST, "1")
    assert "warning" not in err
    _, _, err = verbs(0, "stake", "delegate", checksum_address(BOB), "20")
    assert "does not vote: this earns nothing until it is elected" in err
    verbs.node.to(17)
    _, _, err = verbs(0, "stake", "delegate", checksum_address(BOB), "1")
    assert when in err
    _, _, err = verbs(0, "stake", "redelegate", FIRST, checksum_address(BOB), "1")
    assert "at the earliest from height 40 on, by the election at height 38" in err
    verbs.node.to(EPOCH_LENGTH)
    _, _, err = verbs(0, "stake", "delegate", checksum_address(BOB), "1")
    assert "warning" not in err


# --- An operator -------------------------------------------------------------------------------------------------


def create(verbs: Verbs, *more: str) -> list[str]:
    return [
        "validator",
        "create",
        "--name",
        "Mine",
        "--stake",
        "40",
        "--keys-password-file",
        str(verbs.password_file),
        *more,
    ]


def test_an_operator_registers_its_keys_and_is_elected(verbs: Verbs) -> None:
    folder = verbs.keys(1)
    out = verbs.does(1, *create(verbs))
    assert f"registered 'Mine', commission 5 %, operator {checksum_address(BOB)}" in out
    assert f"It stands for the election at height 18, with effect from height {EPOCH_LENGTH} on." in out
    code, shown, _ = verbs(1, "validator", "status", sends=False)
    assert (code, "waiting" in shown, "0 now, 40 if elected now" in shown) == (1, True, True)
    assert "waiting                    40 BWT  commission     5 %  Mine" in verbs.looks("validator", "list")
    listed = json.loads(verbs.looks("validator", "list", "--json"))
    assert [each["name"] for each in listed] == ["", "", "", "", "Mine"]
    assert "has registered a validator already" in verbs.refuses(1, *create(verbs))
    (folder / "validator").rename(folder / "elsewhere")
    assert "has registered a validator already" in verbs.refuses(1, *create(verbs))
    assert "validator.json" in verbs.refuses(2, *create(verbs))


def test_who_cannot_be_asked_is_told_before_keys_are_opened_or_made(
    verbs: Verbs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The password file holds another password, which would be what is complained about."""
    folder = verbs.keys(1)
    wrong = verbs.home / "wrong"
    wrong.write_text("another secret\n")
    wrong.chmod(0o600)
    keys = ["--keys-password-file", str(wrong)]
    assert verbs.refuses(1, *create(verbs, *keys), sends=False) == "error: nobody is there to confirm: give --yes\n"
    verbs.does(1, *create(verbs))
    rotate = ["validator", "rotate-key", *keys]
    assert verbs.refuses(1, *rotate, sends=False) == "error: nobody is there to confirm: give --yes\n"
    assert not (folder / "validator-next").exists()
    monkeypatch.setattr(staking_session.sys.stdin, "isatty", lambda: True)
    assert "wrong password" in verbs.refuses(1, *rotate, sends=False)


def test_what_create_checks_by_itself(verbs: Verbs) -> None:
    verbs.keys(1)
    assert "--stake: expected at least 32 BWT, found 31 BWT" in verbs.refuses(1, *create(verbs, "--stake", "31"))
    assert "expected at most 100" in verbs.refuses(1, *create(verbs, "--commission", "101"))
    assert "--name: expected 1 to 64 bytes" in verbs.refuses(1, *create(verbs, "--name", "ß" * 33))
    folder = verbs.folder(2)
    (verbs.folder(1) / "validator").rename(folder / "validator")
    assert "the keys were made for operator" in verbs.refuses(2, *create(verbs))


def test_proofs_from_another_machine_register_its_keys(verbs: Verbs) -> None:
    verbs.keys(1)
    owner = checksum_address(BOB)
    prove = ["validator", "key", "prove", "--password-file", str(verbs.password_file), "--operator", owner]
    file = verbs.home / "proofs.json"
    file.write_text(verbs.does(1, *prove, "--chain-id", "7", sends=False))
    (verbs.folder(1) / "validator").rename(verbs.home / "the other machine")
    assert "expected proofs for chain 1095519812" in verbs.refuses(1, *create(verbs, "--proofs", str(file)))
    (verbs.home / "the other machine").rename(verbs.folder(1) / "validator")
    file.write_text(verbs.does(1, *prove, "--chain-id", "1095519812", sends=False))
    (verbs.folder(1) / "validator").rename(verbs.home / "the other machine")
    good = json.loads(file.read_text())
    bad = verbs.home / "bad.json"
    for spoilt, said in (
        ({"chainId": "7"}, "chainId: expected a whole number, found str"),
        ({"chainId": 0}, "chainId: expected 1 to 2^256 - 1, found 0"),
        ({"votingKey": "0x12"}, "votingKey: expected 48 bytes, found 1"),
        ({"possession": "0x" + "00" * 96}, ""),
    ):
        bad.write_text(json.dumps({**good, **spoilt}))
        refusal = verbs.refuses(1, *create(verbs, "--proofs", str(bad)))
        assert f"error: {bad}: key proofs: {said}" in refusal
        assert "keystore" not in refusal
    assert "registered 'Mine'" in verbs.does(1, *create(verbs, "--proofs", str(file)))


def test_an_operator_moves_its_own_stake_and_commission(verbs: Verbs) -> None:
    verbs.keys(1)
    verbs.does(1, *create(verbs))
    assert "delegated 2 BWT" in verbs.does(1, "validator", "stake", "2")
    code, out, err = verbs(1, "validator", "unstake", "11")
    assert (code, "31 BWT will be left, less than 32 BWT" in err, "11 BWT leaves" in out) == (0, True, True)
    assert "moves by at most 1 %" in verbs.refuses(1, "validator", "commission", "7")
    early = verbs.refuses(1, "validator", "commission", "5.5")
    assert "staking: once a day: the commission was changed less than a day ago" in early
    verbs.node.pass_time(86_400)
    assert "the commission is 5.5 % from now on" in verbs.does(1, "validator", "commission", "5.5")


def test_maintenance_is_announced_a_window_ahead(verbs: Verbs) -> None:
    verbs.keys(1)
    verbs.does(1, *create(verbs))
    assert "expected at most 200 blocks, found 201" in verbs.refuses(1, "validator", "maintenance", "201")
    assert "expected at least 11" in verbs.refuses(1, "validator", "maintenance", "5", "--from-height", "10")
    assert "absence from height 21 to 25 is announced" in verbs.does(1, "validator", "maintenance", "5")
    assert "staking: maintenance not over" in verbs.refuses(1, "validator", "maintenance", "5")


def test_keys_are_rotated_beside_the_old_ones(verbs: Verbs) -> None:
    folder = verbs.keys(1)
    verbs.does(1, *create(verbs))
    before = load_public_keys(folder / "validator")
    rotate = ["validator", "rotate-key", "--keys-password-file", str(verbs.password_file)]
    shown = json.loads(verbs.does(1, *rotate, "--json"))
    after = load_public_keys(folder / "validator-next")
    assert [event["event"] for sent in shown["transactions"] for event in sent["events"]] == ["KeyRotated"] * 2
    assert shown["effectiveHeight"] == hex(EPOCH_LENGTH)
    assert shown["transactions"][1]["events"][0]["votingKey"] == hexed(after.voting_key)
    assert shown["transactions"][1]["events"][0]["checkpointKeyHash"] == hexed(after.checkpoint_key_hash)
    assert load_public_keys(folder / "validator") == before
    assert "these keys are registered already" in verbs.refuses(1, *rotate)
    (folder / "validator-next").rename(folder / "used")
    assert "staking: once an epoch" in verbs.refuses(1, *rotate)


def test_rotating_says_what_to_do_and_when(verbs: Verbs) -> None:
    folder = verbs.keys(1)
    verbs.does(1, *create(verbs))
    out = verbs.does(1, "validator", "rotate-key", "--keys-password-file", str(verbs.password_file))
    assert "The new keys are those of the election at height 18, with effect from height 20 on." in out
    assert f"mv {folder / 'validator'} {folder / 'validator-until-20'}" in out


def test_status_shows_which_key_votes_and_which_will(verbs: Verbs) -> None:
    """Also when it is rotated after the election: the last block of an epoch is too late for the next one."""
    first, second, third = (keys_of(voting_secret(each), checkpoint_seed(each), BOB) for each in (4, 5, 6))
    verbs.node.chain.validators = 7
    verbs.node.calls((1, staking_calls.create_validator(fifth_keys(), 500, "Fifth", 40 * BWT)))

    def key_line() -> str:
        out = verbs(1, "validator", "status", sends=False)[1]
        return next(line.split(None, 1)[1] for line in out.splitlines() if line.startswith("Key"))

    def rotate(keys: ValidatorKeys) -> None:
        proofs = prove_keys(keys, DEVNET_CHAIN_ID, BOB)
        verbs.node.calls((1, staking_calls.rotate_voting_key(proofs)))

    old, new, last = (f"{hexed(keys.public.voting_key)[:18]}.." for keys in (first, second, third))
    assert key_line() == old
    verbs.node.to(EPOCH_LENGTH)
    assert key_line() == old
    rotate(second)
    assert key_line() == f"{old} votes; from height 40 on {new}"
    shown = json.loads(verbs.does(1, "validator", "status", "--json", sends=False))
    assert shown["votingKeyInSet"] == hexed(first.public.voting_key)
    assert shown["validator"]["votingKey"] == hexed(second.public.voting_key)
    verbs.node.to(38)
    assert key_line() == f"{old} votes; from height 40 on {new}"
    verbs.node.to(39)
    assert key_line() == new
    verbs.node.to(58)
    rotate(third)
    assert key_line() == f"{new} votes; from height 80 on {last}"


def test_who_is_not_jailed_or_not_registered_is_told(verbs: Verbs) -> None:
    assert "no validator of operator" in verbs.refuses(1, "validator", "unjail")
    verbs.keys(1)
    verbs.does(1, *create(verbs))
    assert "is not jailed: it is waiting" in verbs.refuses(1, "validator", "unjail")
    code, _, err = verbs(3, "validator", "status", sends=False)
    assert (code, "no validator of operator" in err) == (2, True)


def test_a_jailed_validator_is_unjailed_once_its_time_is_over(verbs: Verbs) -> None:
    """The fifth member, whose operator is Bob, signs nothing for a downtime window."""
    node = verbs.node
    node.calls((1, staking_calls.create_validator(fifth_keys(), 500, "Fifth", 40 * BWT)))
    node.to(EPOCH_LENGTH)
    members = node.chain.execution.context.voting_set.validators
    present = [index for index, member in enumerate(members) if member.operator != BOB]
    while node.execution.status().head_height < EPOCH_LENGTH + 16:
        node.produce_signed_by(*present)
    assert "jailed; `validator unjail` from 20" in verbs(1, "validator", "status", sends=False)[1]
    _, _, err = verbs(0, "stake", "delegate", checksum_address(BOB), "1")
    assert "is jailed: it earns nothing until it is unjailed" in err
    assert "can be unjailed from 20" in verbs.refuses(1, "validator", "unjail")
    node.pass_time(PARAMS.downtime_jail_ms // 1000)
    out = verbs.does(1, "validator", "unjail")
    assert "unjailed: it stands for election again" in out
    assert "It stands for the election at height 58, with effect from height 60 on." in out


@pytest.mark.parametrize("verb", [["stake", "list", FIRST], ["stake", "claim"]])
def test_what_a_node_answers_with_an_error_is_told_in_its_words(
    verbs: Verbs, monkeypatch: pytest.MonkeyPatch, verb: list[str]
) -> None:
    def refuses(method: str, *_params: object) -> None:
        raise RequestFailed("http://node", method, -32000, "this chain has no staking: read the genesis file", None)

    monkeypatch.setattr(verbs.rpc, "call", refuses)
    code, out, err = verbs(0, *verb, sends=verb[1] == "claim")
    assert (code, out, err) == (2, "", "error: this chain has no staking: read the genesis file\n")


def test_a_chain_without_staking_says_so(verbs: Verbs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verbs.rpc, "call", lambda _method, *_params: {"registered": None})
    assert "this chain has no staking" in verbs.refuses(0, "stake", "delegate", FIRST, "1")
