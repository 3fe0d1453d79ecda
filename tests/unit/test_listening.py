"""A port that cannot be had is named, with what to change."""

import socket

import pytest

from astralink_node.listening import CannotListen, listen_tcp


def test_a_port_in_use_is_named_with_the_flag_that_chooses_another_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen) as refused:
            listen_tcp("127.0.0.1", port, "--rpc-port")
    assert str(refused.value) == (
        f"port {port} on 127.0.0.1 is already in use; stop what uses it, or choose another one with --rpc-port"
    )


def test_an_address_of_another_machine_is_no_matter_of_the_port() -> None:
    with pytest.raises(CannotListen, match=r"cannot listen on port 0 of 192\.0\.2\.1: "):
        listen_tcp("192.0.2.1", 0, "--rpc-port")
