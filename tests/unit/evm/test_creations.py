"""CREATE and CREATE2 where two rules meet."""

import pytest

from astralink_node.evm.transactions import MAX_INITCODE_BYTES, U64_MAX
from tests.support.evm_worlds import World, address

CONTRACT = address(1)
CREATIONS = {"CREATE": ("", "f0"), "CREATE2": ("5f", "f5")}


def creating(opcode: str, size: int, value: int) -> str:
    """Creates from `size` zero bytes, keeps 1 in slot 0 whatever came of it."""
    salt, code = CREATIONS[opcode]
    return f"{salt}62{size:06x}5f62{value:06x}{code}50" + "60015f55"


@pytest.mark.parametrize("opcode", CREATIONS)
@pytest.mark.parametrize(
    ("value", "nonce"), [(0, 1), (1, 1), (0, U64_MAX)], ids=["nothing", "too little balance", "the last nonce"]
)
def test_too_long_initcode_ends_the_call_whatever_else_forbids_the_creation(
    opcode: str, value: int, nonce: int
) -> None:
    for size, succeeds in ((MAX_INITCODE_BYTES, True), (MAX_INITCODE_BYTES + 1, False)):
        contract = {"code": "0x" + creating(opcode, size, value), "nonce": nonce, "balance": 0}
        world = World(alloc={"0x" + CONTRACT.hex(): contract})
        assert world.send(CONTRACT) is succeeds
        assert world.overlay.get_storage(CONTRACT, 0) == succeeds
        assert (world.gas_used == 1_000_000) is not succeeds
