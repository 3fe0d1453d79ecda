"""The opcode that Osaka adds to Prague, which py-evm lacks: CLZ (EIP-7939)."""

from eth import constants
from eth.abc import ComputationAPI, OpcodeAPI
from eth.vm.opcode import as_opcode

CLZ = 0x1E


def clz(computation: ComputationAPI) -> None:
    """How many leading zero bits the word on the stack has; 256 for zero."""
    value = computation.stack_pop1_int()
    computation.stack_push_int(256 - value.bit_length())


OSAKA_OPCODES: dict[int, OpcodeAPI] = {
    CLZ: as_opcode(logic_fn=clz, mnemonic="CLZ", gas_cost=constants.GAS_LOW),
}
