"""Nodes on islands: a network namespace for each, joined by a bridge from which each can be cut off, on one machine.

An island has two links: one to the bridge, where nodes talk, and one to whoever makes the islands, for RPC, which a cut
leaves alone. A cut is silent, as one far away in the Internet is: packets vanish, and nobody is told. So that
neighbours do not notice either, every island knows the others' hardware addresses for good.

Whoever makes islands must live in a network namespace of its own: start the program with `own_namespace()` in front.
Everything is gone when that process is: a holder of an island ends with its standard input, and an island with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.network_processes import Place
from tests.support.node_process import await_that

PACKAGES = {"ip": "iproute2", "unshare": "util-linux", "nsenter": "util-linux"}
"""Program -> the Debian package that has it."""
_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
_WAYS_IN = (("unshare", "-Urn", "--"), ("unshare", "-n", "--"))
"""For everybody where the kernel lets them, and for root."""
_PROBE = ("ip", "link", "add", "probe", "type", "bridge")


class NoIslands(AssertionError):
    """This machine cannot make network namespaces; says what is missing."""


def own_namespace() -> tuple[str, ...]:
    """What to put in front of a command so that it may make islands. Raises NoIslands."""
    missing = sorted({package for program, package in PACKAGES.items() if shutil.which(program, path=_PATH) is None})
    if missing:
        raise NoIslands(f"network namespaces need the Debian packages {', '.join(missing)}: apt-get install them")
    complaints = []
    for way_in in _WAYS_IN:
        probed = subprocess.run([*way_in, *_PROBE], env=_environment(), capture_output=True, text=True, check=False)
        if probed.returncode == 0:
            return way_in
        complaints.append(f"{' '.join((*way_in, *_PROBE))}: {probed.stderr.strip()}")
    raise NoIslands(
        "network namespaces cannot be made: run as root (in a container with CAP_SYS_ADMIN and CAP_NET_ADMIN), or let "
        "users make them (sysctl kernel.unprivileged_userns_clone=1); " + "; ".join(complaints)
    )


class Islands:
    """See the module's description; made by `make_islands`."""

    def __init__(self, holders: list[subprocess.Popen[bytes]]) -> None:
        self._holders = holders
        _ip("link", "set", "lo", "up")
        _ip("link", "add", "sea", "type", "bridge")
        _ip("link", "set", "sea", "up")
        for number in range(len(holders)):
            self._connect(number)

    def _connect(self, number: int) -> None:
        holder = str(self._holders[number].pid)
        _ip("link", "add", f"port{number}", "type", "veth", "peer", "name", "sea", "netns", holder)
        _ip("link", "add", f"own{number}", "type", "veth", "peer", "name", "own", "netns", holder)
        _ip("address", "add", f"10.8.{number}.1/30", "dev", f"own{number}")
        _ip("link", "set", f"own{number}", "up")
        _ip("link", "set", f"port{number}", "master", "sea", "up")
        place = self.place(number)
        for arguments in (
            ("link", "set", "lo", "up"),
            ("link", "set", "sea", "address", _hardware_address(number)),
            ("address", "add", f"{place.p2p_host}/24", "dev", "sea"),
            ("link", "set", "sea", "up"),
            ("address", "add", f"{place.rpc_host}/30", "dev", "own"),
            ("link", "set", "own", "up"),
        ):
            _run(*place.enter, "ip", *arguments)
        for other in range(len(self._holders)):
            known = (_sea_address(other), "lladdr", _hardware_address(other), "dev", "sea", "nud", "permanent")
            _run(*place.enter, "ip", "neighbour", "replace", *known)

    def place(self, number: int) -> Place:
        holder = str(self._holders[number].pid)
        return Place(_sea_address(number), f"10.8.{number}.2", ("nsenter", "-t", holder, "-n", "--"))

    def cut(self, *numbers: int) -> None:
        """Each from everybody."""
        for number in numbers:
            _ip("link", "set", f"port{number}", "nomaster")

    def heal(self, *numbers: int) -> None:
        for number in numbers:
            _ip("link", "set", f"port{number}", "master", "sea")


@contextmanager
def make_islands(count: int) -> Iterator[Islands]:
    holders: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(count):
            holders.append(subprocess.Popen(["unshare", "-n", "--", "cat"], stdin=subprocess.PIPE, env=_environment()))
        for holder in holders:
            _await_island(holder.pid)
        yield Islands(holders)
    finally:
        for holder in holders:
            holder.communicate()


def _sea_address(number: int) -> str:
    return f"10.9.0.{number + 1}"


def _hardware_address(number: int) -> str:
    """Of those that anybody may choose."""
    return f"02:00:00:00:00:{number + 1:02x}"


def _await_island(pid: int) -> None:
    own = os.readlink("/proc/self/ns/net")
    await_that(lambda: os.readlink(f"/proc/{pid}/ns/net") != own, lambda: f"process {pid} has no namespace of its own")


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _run(*command: str) -> None:
    ran = subprocess.run(command, env=_environment(), capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        raise NoIslands(f"{' '.join(command)}: {ran.stderr.strip()}")


def _environment() -> dict[str, str]:
    """`ip` is where a user's shell does not look."""
    return {**os.environ, "PATH": _PATH}
