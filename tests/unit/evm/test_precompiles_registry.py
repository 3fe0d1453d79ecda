"""The registry through py-evm's calling convention."""

import pytest
from eth.exceptions import OutOfGas, VMError
from eth.vm.forks.prague.computation import PragueComputation
from eth.vm.gas_meter import GasMeter

from astralink_node.evm.fork_rules import OSAKA as OSAKA_RULES
from astralink_node.evm.fork_rules import PRAGUE as PRAGUE_RULES
from astralink_node.evm.precompiles.call_data import PrecompileFailure
from astralink_node.evm.precompiles.registry import NATIVE, OSAKA, PRAGUE, Precompile, precompiles_for
from astralink_node.evm.vm import computation_class


class Message:
    def __init__(self, data):
        self.data = data

    @property
    def data_as_bytes(self):
        return bytes(self.data)


class Call:
    """What a precompile sees of a computation, with py-evm's own gas meter."""

    def __init__(self, data, gas):
        self.msg = Message(data)
        self.meter = GasMeter(gas)
        self.consume_gas = self.meter.consume_gas
        self.output = b""


def address(number):
    return number.to_bytes(20, "big")


def test_prague_has_the_addresses_of_py_evm_and_osaka_adds_p256verify():
    assert set(precompiles_for(osaka=False)) == set(PragueComputation._precompiles)
    assert set(precompiles_for(osaka=True)) == set(PragueComputation._precompiles) | {address(0x100)}


def test_modexp_changes_its_price_with_osaka():
    data = b"".join(length.to_bytes(32, "big") for length in (1, 1, 1)) + b"\x03\x02\x07"
    for osaka, price in ((False, 200), (True, 500)):
        call = Call(data, 1000)
        precompiles_for(osaka)[address(5)](call)
        assert call.meter.gas_remaining == 1000 - price
        assert call.output == b"\x02"


def test_a_call_without_the_gas_fails_before_any_work():
    def work(data):
        raise AssertionError("worked without pay")

    entry = Precompile(address(0x1000), "EXPENSIVE", lambda data: 10, work)
    with pytest.raises(OutOfGas):
        precompiles_for(True, native=[entry])[entry.address](Call(b"", 9))


def test_input_may_be_a_view_of_memory():
    call = Call(memoryview(b"abc"), 100)
    precompiles_for(True)[address(4)](call)
    assert call.output == b"abc"


@pytest.mark.parametrize("broken", ["gas", "run"])
def test_a_failure_becomes_a_vm_error_that_burns_the_gas_and_keeps_its_words(broken):
    def fail(data):
        raise PrecompileFailure("bad input")

    works = {"gas": lambda data: 1, "run": lambda data: b""}
    entry = Precompile(address(0x1000), "NAMED", **(works | {broken: fail}))
    with pytest.raises(VMError, match=r"^bad input$") as raised:
        precompiles_for(True, native=[entry])[entry.address](Call(b"", 100))
    assert raised.value.burns_gas


def test_a_native_precompile_answers_from_its_activation_height_on():
    entry = Precompile(address(0x1000), "LATER", lambda data: 1, lambda data: b"now", active_from=10)
    assert entry.address not in precompiles_for(True, native=[entry], height=9)
    call = Call(b"", 1)
    precompiles_for(True, native=[entry], height=10)[entry.address](call)
    assert call.output == b"now"


def test_a_native_precompile_must_not_take_an_address_in_use():
    entry = Precompile(address(1), "TAKEN", lambda data: 1, lambda data: b"")
    with pytest.raises(ValueError, match="TAKEN"):
        precompiles_for(True, native=[entry])


def test_names_and_addresses_are_unique_in_each_fork():
    for entries in (PRAGUE, OSAKA):
        assert len({entry.address for entry in entries}) == len({entry.name for entry in entries}) == len(entries)


def test_the_chains_own_precompiles_are_no_part_of_plain_ethereum():
    assert [entry.address for entry in NATIVE] == [address(0x0A5165)]
    for fork in (PRAGUE_RULES, OSAKA_RULES):
        plain = computation_class(fork, native_precompiles=False).get_precompiles()
        own = computation_class(fork, native_precompiles=True).get_precompiles()
        assert set(own) - set(plain) == {address(0x0A5165)}
