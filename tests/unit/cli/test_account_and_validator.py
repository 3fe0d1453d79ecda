"""The account and validator key commands: what they print, what they write, and what they never show."""

import json

import pytest
from click.testing import CliRunner
from eth_account import Account

from astralink_node.cli.account import InvalidImport, account
from astralink_node.cli.passwords import BadSecretFile, NobodyToAsk
from astralink_node.cli.validator import validator
from astralink_node.crypto import bls, bls_keystore, ml_dsa, web3_keystore
from astralink_node.crypto.addresses import InvalidAddress
from astralink_node.crypto.keystore_envelope import Scrypt, WrongPassword
from astralink_node.crypto.mnemonic import InvalidMnemonic
from astralink_node.crypto.secret_files import SecretFileExists
from astralink_node.validator.signing_history import open_history

KEY = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
ADDRESS = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
WORDS = "test test test test test test test test test test test junk"


@pytest.fixture(autouse=True)
def _quick_keystores(monkeypatch):
    for module in (web3_keystore, bls_keystore, ml_dsa):
        for function in ("encrypt_account", "encrypt_keystore", "encrypt_seed"):
            if hasattr(module, function):
                monkeypatch.setitem(getattr(module, function).__kwdefaults__, "kdf", Scrypt(n=16))
    from astralink_node.validator import keys

    for function in (keys.create_validator, keys.save_keys):
        monkeypatch.setitem(function.__kwdefaults__, "kdf", Scrypt(n=16))


@pytest.fixture
def run(tmp_path):
    def call(group, *arguments, text=None):
        result = CliRunner().invoke(group, [*arguments, "--data-dir", str(tmp_path)], input=text)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


@pytest.fixture
def password_file(tmp_path):
    path = tmp_path / "password"
    path.write_text("secret password\n")
    path.chmod(0o600)
    return str(path)


def test_a_new_account_opens_with_its_password_and_is_listed(run, password_file):
    shown = json.loads(run(account, "new", "--password-file", password_file, "--json").stdout)
    with open(shown["keystore"]) as file:
        key = Account.decrypt(json.load(file), "secret password")
    assert Account.from_key(key).address == shown["address"]
    assert json.loads(run(account, "list", "--json").stdout) == [shown]
    assert shown["address"] in run(account, "list").stdout


def test_an_imported_key_gives_its_address_and_is_imported_once(run, password_file, tmp_path):
    key_file = tmp_path / "key"
    key_file.write_text("0x" + KEY + "\n")
    key_file.chmod(0o600)
    result = run(account, "import", str(key_file), "--password-file", password_file)
    assert ADDRESS in result.stdout
    assert KEY not in result.output
    with pytest.raises(SecretFileExists, match=ADDRESS):
        run(account, "import", str(key_file), "--password-file", password_file)


def test_key_and_password_are_asked_for_hidden_and_the_password_twice(run):
    result = run(account, "import", text=f"{KEY}\npw\npw\n")
    assert ADDRESS in result.stdout
    assert KEY not in result.output
    assert "pw" not in result.output.replace("keystore", "")
    with pytest.raises(NobodyToAsk):  # a third time, since the two differ
        run(account, "new", text="one\ntwo\n")


def test_where_nobody_can_be_asked_the_flag_is_named(run):
    with pytest.raises(NobodyToAsk, match="no terminal to ask at: give --password-file"):
        run(account, "new", text="")


@pytest.mark.parametrize("text", ["xyz", "00" * 32, "ff" * 32, KEY[:-2], KEY + "00"])
def test_what_is_no_private_key_is_refused_without_being_repeated(run, text):
    with pytest.raises(InvalidImport) as caught:
        run(account, "import", text=text + "\n")
    assert text not in str(caught.value)


def test_an_empty_keystore_lists_nothing(run):
    assert json.loads(run(account, "list", "--json").stdout) == []
    assert "No accounts" in run(account, "list").stderr


def test_a_foreign_file_in_the_keystore_is_named_and_passed_over(run, password_file, tmp_path):
    run(account, "new", "--password-file", password_file)
    (tmp_path / "keystore" / "notes.txt").write_text("hello")
    result = run(account, "list")
    assert "notes.txt is passed over" in result.stderr
    assert len(result.stdout.splitlines()) == 1


@pytest.mark.parametrize("content", [b"", b"\nsecond line", b"\xff\xfe", b"x" * 5000])
def test_a_password_file_without_a_password_is_refused(run, tmp_path, content):
    path = tmp_path / "bad"
    path.write_bytes(content)
    with pytest.raises(BadSecretFile, match="bad"):
        run(account, "new", "--password-file", str(path))


def test_a_password_file_that_others_can_read_is_warned_of(run, tmp_path):
    path = tmp_path / "open"
    path.write_text("pw")
    path.chmod(0o644)
    assert "can be read by other users" in run(account, "new", "--password-file", str(path)).stderr


@pytest.mark.parametrize("flag", ["--password", "--private-key", "--mnemonic-words"])
def test_no_secret_is_taken_as_a_flag(run, flag):
    for group, command in ((account, ["new"]), (account, ["import"]), (validator, ["key", "new"])):
        assert run(group, *command, flag, "x").exit_code == 2


def test_new_validator_keys_are_shown_and_prove_their_possession(run, password_file, tmp_path):
    shown = json.loads(
        run(validator, "key", "new", "--operator", ADDRESS, "--password-file", password_file, "--json").stdout
    )
    entry = shown["genesisEntry"]
    assert set(entry) == {"operator", "votingKey", "proofOfPossession", "checkpointKey"}
    key, proof = (bytes.fromhex(entry[name][2:]) for name in ("votingKey", "proofOfPossession"))
    assert bls.verify_possession(key, proof)
    assert entry["operator"] == ADDRESS
    assert shown["checkpointKeyHash"] == "0x" + ml_dsa.key_hash(bytes.fromhex(entry["checkpointKey"][2:])).hex()
    assert json.loads(run(validator, "key", "show", "--json").stdout) == shown
    text = run(validator, "key", "show").stdout
    assert entry["votingKey"] in text
    assert ADDRESS in text
    assert "Both keystores open" in run(validator, "key", "verify", "--password-file", password_file).stdout
    with pytest.raises(WrongPassword):
        run(validator, "key", "verify", text="wrong\n")
    with open_history(tmp_path / "signing", key) as history:
        assert history.chain(bytes(32)).floor == 1
    with pytest.raises(SecretFileExists):
        run(validator, "key", "new", "--password-file", password_file)


def test_a_phrase_is_shown_once_and_restores_the_same_keys_with_a_waiting_history(run, password_file, tmp_path):
    made = run(validator, "key", "new", "--mnemonic", "--password-file", password_file, "--json")
    words = max(made.stderr.splitlines(), key=len).strip()
    assert len(words.split()) == 24
    assert words not in made.stdout
    phrase_file = tmp_path / "words"
    phrase_file.write_text(words)
    phrase_file.chmod(0o600)
    for name in ("validator", "signing"):
        (tmp_path / name).rename(tmp_path / f"old-{name}")
    restored = run(
        validator, "key", "new", "--restore", "--mnemonic-file", str(phrase_file),
        "--password-file", password_file, "--json",
    )  # fmt: skip
    assert restored.stdout == made.stdout
    key = bytes.fromhex(json.loads(restored.stdout)["genesisEntry"]["votingKey"][2:])
    with open_history(tmp_path / "signing", key) as history:
        assert history.chain(bytes(32)).floor is None


def test_wrong_words_and_addresses_are_refused(run, password_file):
    with pytest.raises(InvalidMnemonic):
        run(validator, "key", "new", "--restore", "--password-file", password_file, text=WORDS + " extra\n")
    with pytest.raises(InvalidAddress):
        run(validator, "key", "new", "--operator", "0x12", "--password-file", password_file)


@pytest.mark.parametrize("flags", [["--mnemonic", "--restore"], ["--index", "1"], ["--mnemonic-file", "/dev/null"]])
def test_flags_that_contradict_one_another_are_refused(run, flags):
    assert run(validator, "key", "new", *flags).exit_code == 2
