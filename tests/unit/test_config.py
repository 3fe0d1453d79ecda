"""Settings: which layer wins, and that every mistake is named with its place."""

from pathlib import Path

import pytest

from astralink_node.config import (
    ConfigError,
    NodeConfig,
    TlsAddress,
    UnixAddress,
    load_config,
    values_of,
    variable_of,
)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return path


def test_nothing_given_means_the_defaults() -> None:
    loaded = load_config(None, {}, {})
    assert loaded.config == NodeConfig()
    assert set(loaded.sources.values()) == {"default"}
    assert set(loaded.sources) == set(values_of(loaded.config))


def test_later_layers_win_and_are_named_as_the_source(tmp_path: Path) -> None:
    path = write(tmp_path, '[rpc]\nport = 1\nhost = "0.0.0.0"\n[blocks]\ninterval_ms = 5\n')
    environment = {"ASTRALINK_RPC_PORT": "2", "ASTRALINK_BLOCKS_INTERVAL_MS": "6", "HOME": "/"}
    loaded = load_config(path, environment, {"rpc.port": 3}, defaults={"blocks.on_demand": True, "rpc.port": 4})
    assert (loaded.config.rpc.host, loaded.config.rpc.port) == ("0.0.0.0", 3)
    assert (loaded.config.blocks.interval_ms, loaded.config.blocks.on_demand) == (6, True)
    assert loaded.sources["rpc.host"] == f"file {path}"
    assert loaded.sources["blocks.interval_ms"] == "environment ASTRALINK_BLOCKS_INTERVAL_MS"
    assert loaded.sources["rpc.port"] == "flag --rpc-port"
    assert loaded.sources["blocks.on_demand"] == "default"


def test_flag_out_of_range_is_named_as_the_user_wrote_it() -> None:
    with pytest.raises(ConfigError, match=r"found -1 \(flag --block-interval-ms\)"):
        load_config(None, {}, {"blocks.interval_ms": -1})


@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("No", False), ("false", False)])
def test_variables_spell_booleans_as_people_do(text: str, value: bool) -> None:
    assert load_config(None, {"ASTRALINK_HISTORY_ARCHIVE": text}, {}).config.history.archive is value


def test_variables_separate_lists_by_commas() -> None:
    assert load_config(None, {"ASTRALINK_RPC_API": "eth, net"}, {}).config.rpc.api == ("eth", "net")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[rpx]\nport = 1", r"unknown table \[rpx\]; did you mean rpc\?"),
        ("[rpc]\nprot = 1", r"unknown setting rpc.prot; did you mean port\?"),
        ("[rpc]\nqqqqq = 1", "unknown setting rpc.qqqqq; known are host, port, api"),
        ("rpc = 1", r"rpc: expected a table \[rpc\]"),
        ("[rpc]\nport = '1'", r"rpc.port: expected a whole number from 0 to 65535, found '1' \(file "),
        ("[rpc]\nport = true", "rpc.port: expected a whole number"),
        ("[rpc]\nport = 65536", "rpc.port: expected a whole number from 0 to 65535, found 65536"),
        ("[rpc]\nport = -1", "rpc.port: expected a whole number"),
        ("[rpc]\nhost = 1", "rpc.host: expected a text"),
        ("[rpc]\napi = 'eth'", "rpc.api: expected a list of texts"),
        ("[rpc]\napi = ['eth', 'etch']", r"rpc.api: unknown 'etch'; did you mean eth\?"),
        ("[history]\narchive = 1", "history.archive: expected true or false, found 1"),
        ("[log]\nlevel = 'loud'", "log.level: expected one of debug, info, warning, error"),
        ("[blocks]\nfee_recipient = '0x12'", "blocks.fee_recipient: expected an address"),
        ("[rpc]\nhost = ''", "rpc.host: expected a host name or an IP address, found ''"),
        ("[rpc]\nhost = 'a b'", "rpc.host: expected a host name"),
        ("[rpc", "not TOML"),
        ("[rpc]\nport = " + "9" * 5000, "not TOML"),
        ("x = " + "[" * 100_000, "not TOML"),
    ],
)
def test_mistake_in_the_file_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        load_config(write(tmp_path, text), {}, {})


def test_unknown_variable_is_named_with_a_suggestion() -> None:
    with pytest.raises(ConfigError, match=r"ASTRALINK_RPC_PROT; did you mean ASTRALINK_RPC_PORT\?"):
        load_config(None, {"ASTRALINK_RPC_PROT": "1"}, {})


def test_variable_of_the_wrong_kind_is_named() -> None:
    with pytest.raises(ConfigError, match=r"rpc.port: .*found 'x' \(environment ASTRALINK_RPC_PORT\)"):
        load_config(None, {"ASTRALINK_RPC_PORT": "x"}, {})


def test_data_folder_variable_is_no_setting() -> None:
    assert load_config(None, {"ASTRALINK_DATA_DIR": "/x"}, {}).config == NodeConfig()


def test_missing_file_matters_only_where_it_was_asked_for(tmp_path: Path) -> None:
    missing = tmp_path / "none.toml"
    assert load_config(missing, {}, {}).config == NodeConfig()
    with pytest.raises(ConfigError, match="No such file"):
        load_config(missing, {}, {}, file_must_exist=True)


def test_interval_of_zero_means_on_demand() -> None:
    assert load_config(None, {}, {"blocks.interval_ms": 0}).config.blocks.builds_on_demand
    assert not load_config(None, {}, {}).config.blocks.builds_on_demand


def test_every_setting_has_a_variable_of_its_own() -> None:
    names = values_of(NodeConfig())
    assert len({variable_of(name) for name in names}) == len(names)


def test_signer_addresses_are_unix_paths_or_tls_hosts() -> None:
    assert load_config(None, {}, {}).config.signer.endpoint is None
    for text, endpoint in {
        "unix:/run/signer.sock": UnixAddress("/run/signer.sock"),
        "tls:signer.example:7000": TlsAddress("signer.example", 7000),
        "tls:[::1]:0": TlsAddress("::1", 0),
    }.items():
        config = load_config(None, {"ASTRALINK_SIGNER_ADDRESS": text}, {}).config
        assert config.signer.endpoint == endpoint
        assert str(endpoint) == text


@pytest.mark.parametrize("text", ["unix:", "tcp:host:1", "tls:host", "tls::1", "tls:host:70000", "tls:host:-1", "/x"])
def test_other_signer_addresses_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"signer.address: expected unix:PATH or tls:HOST:PORT, found"):
        load_config(None, {}, {"signer.address": text})
