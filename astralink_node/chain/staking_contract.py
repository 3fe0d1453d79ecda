"""The staking contract as the protocol uses it: typed calls and views over system calls.

Each call either holds or raises SystemCallFailed; what is to stand in the protocol log (events, failures) is noted
here in order. Views are calls as well: they change nothing, and a failing one is noted, too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from astralink_node.chain.protocol_messages import ProtocolCall, ProtocolEvent
from astralink_node.errors import AstraLinkError
from astralink_node.evm.system_calls import SystemCallResult
from astralink_node.types import Address
from consensus.block_evidence import SetRecord
from consensus.election import Candidate
from consensus.staking_params import PARAMETER_NAMES
from contracts.artifacts import AbiError, decode_result, encode_call, load
from contracts.places import STAKING

SystemCall = Callable[[Address, bytes], SystemCallResult]


class SystemCallFailed(AstraLinkError):
    """The contract did not do what it was asked; nothing of the call is left."""

    def __init__(self, name: str, failure: str) -> None:
        super().__init__(f"{name}: {failure}")
        self.name = name
        self.failure = failure


@dataclass(frozen=True, slots=True)
class BlockStart:
    """What `begin_block` answers."""

    mint_wei: int
    burn_wei: int
    judged_bitmap: int
    """Bit i: member i of the set that voted at the judged height is credited for it."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The parameters that the protocol itself applies, as they stand now: governance moves them."""

    max_validators: int
    downtime_window: int
    downtime_min_signed_bps: int
    max_jailed_per_epoch: int


class StakingContract:
    """`call` makes the system call, in the block that is executed."""

    address: Final = Address(STAKING)

    def __init__(self, call: SystemCall) -> None:
        self._call = call
        self._noted: list[ProtocolCall] = []

    def noted_calls(self) -> tuple[ProtocolCall, ...]:
        return tuple(self._noted)

    def note_failure(self, name: str, failure: str) -> None:
        """That what a call answered cannot be used."""
        self._noted.append(ProtocolCall(name, failure, ()))

    # --- What changes the state ------------------------------------------------------------------------------------

    def begin_epoch(self, epoch: int, time_ms: int) -> None:
        self._do("begin_epoch", epoch, time_ms)

    def begin_block(
        self,
        *,
        proposer: Address,
        credited: int,
        total: int,
        parent_base_fees_wei: int,
        credits: Sequence[tuple[int, int]],
        judged: int,
    ) -> BlockStart:
        """`credits`: (height, bitmap of its signers)."""
        heights, bitmaps = [height for height, _ in credits], [bitmap for _, bitmap in credits]
        mint, burn, bitmap = self._do(
            "begin_block", proposer, credited, total, parent_base_fees_wei, heights, bitmaps, judged
        )
        return BlockStart(mint, burn, bitmap)

    def note_absent(self, judged: int, operators: Sequence[Address]) -> None:
        self._do("note_absent", judged, list(operators))

    def close_window(
        self, judged: int, punished: Sequence[Address], powers: Sequence[int], members: Sequence[Address]
    ) -> None:
        self._do("close_window", judged, list(punished), list(powers), list(members))

    def slash_double_sign(self, operator: Address, power: int, epoch: int, evidence_hash: bytes) -> None:
        self._do("slash_double_sign", operator, power, epoch, evidence_hash)

    def freeze(self, operator: Address, power: int, epoch: int, evidence_hash: bytes) -> None:
        self._do("freeze", operator, power, epoch, evidence_hash)

    def elect(self, epoch: int, set_hash: bytes, operators: Sequence[Address], powers: Sequence[int]) -> None:
        self._do("elect", epoch, set_hash, list(operators), list(powers))

    # --- Views -----------------------------------------------------------------------------------------------------

    def candidates(self) -> tuple[Candidate, ...]:
        (found,) = self._do("candidates")
        return tuple(
            Candidate(one["operator"], one["voting_key"], one["checkpoint_key_hash"], one["tokens"]) for one in found
        )

    def rules(self) -> Rules:
        (values,) = self._do("parameters")
        named = dict(zip(PARAMETER_NAMES, values, strict=True))
        return Rules(
            max_validators=named["max_validators"],
            downtime_window=named["downtime_window"],
            downtime_min_signed_bps=named["downtime_min_signed_bps"],
            max_jailed_per_epoch=named["max_jailed_per_epoch"],
        )

    def missed(self, operators: Sequence[Address]) -> tuple[int, ...]:
        """Heights that each missed in the present window."""
        (found,) = self._do("missed_of", list(operators))
        return tuple(found)

    def jailed_this_epoch(self) -> int:
        (count,) = self._do("jailed_this_epoch")
        return int(count)

    def set_record(self, epoch: int) -> SetRecord:
        set_hash, time_ms = self._do("set_record", epoch)
        return SetRecord(set_hash, time_ms)

    def is_tombstoned(self, operator: Address) -> bool:
        (validator,) = self._do("validator", operator)
        return bool(validator["tombstoned"])

    def may_be_frozen(self, operator: Address, epoch: int) -> bool:
        """Not if it is tombstoned, frozen, or was acquitted of what it signed in that epoch."""
        if self.is_tombstoned(operator):
            return False
        (is_frozen,) = self._do("is_frozen", operator)
        (is_acquitted,) = self._do("is_acquitted", operator, epoch)
        return not is_frozen and not is_acquitted

    # --- The call --------------------------------------------------------------------------------------------------

    def _do(self, name: str, *arguments: Any) -> tuple[Any, ...]:  # whatever the contract's ABI says
        artifact = load("Staking")
        result = self._call(self.address, encode_call(artifact, name, arguments))
        if result.failure:
            self.note_failure(name, result.failure)
            raise SystemCallFailed(name, result.failure)
        if result.logs:
            events = tuple(ProtocolEvent(log.address, log.topics, log.data) for log in result.logs)
            self._noted.append(ProtocolCall(name, "", events))
        try:
            return decode_result(artifact, name, result.output)
        except AbiError as error:
            self.note_failure(name, str(error))
            raise SystemCallFailed(name, str(error)) from error
