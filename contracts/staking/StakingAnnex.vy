# pragma version ==0.4.3
"""
@title Staking's other half: what is seldom called, and the views
@notice Staking passes every selector that it does not know here, by delegatecall: call these at Staking's address.
        By itself this contract is empty. Apart only because both together exceed the limit of EIP-170.
"""

import StakingState as state

initializes: state

struct ValidatorView:
    operator: address
    voting_key: Bytes[48]
    checkpoint_key_hash: bytes32
    name: String[64]
    tokens: uint256
    shares: uint256
    commission_bps: uint256
    commission_wei: uint256
    active: bool
    jailed: bool
    tombstoned: bool
    jailed_until: uint256
    missed: uint256
    power: uint256
    registered_height: uint256
    maintenance_from: uint256
    maintenance_until: uint256
    slash_count: uint256

struct Candidate:
    operator: address
    voting_key: Bytes[48]
    checkpoint_key_hash: bytes32
    tokens: uint256

struct Unbonding:
    operator: address
    amount: uint256
    value_now: uint256
    matures_at: uint256
    last_epoch: uint256

# --- What operators call ---------------------------------------------------------------------------------------

@external
def set_commission(bps: uint256):
    """
    @notice Change the caller's commission, once a day and by no more than maxCommissionChangeBps
    """
    state._check_operator()
    before: uint256 = state.validators[msg.sender].commission_bps
    assert bps <= state.BPS, "staking: commission above all"
    change: uint256 = max(bps, before) - min(bps, before)
    assert change <= state.parameters[state.MAX_COMMISSION_CHANGE], "staking: too great a change"
    assert block.timestamp >= state.validators[msg.sender].commission_since + state.DAY, "staking: once a day"
    state._settle(msg.sender, 0)
    state.validators[msg.sender].commission_bps = bps
    state.validators[msg.sender].commission_since = block.timestamp
    log state.CommissionChanged(operator=msg.sender, commission_bps=bps)


@external
def unjail():
    """
    @notice Stand for election again, once the jail time is over
    """
    state._check_operator()
    assert state.validators[msg.sender].jailed, "staking: not jailed"
    assert not state.validators[msg.sender].tombstoned, "staking: tombstoned"
    state._check_thawed(msg.sender)
    assert block.timestamp >= state.validators[msg.sender].jailed_until, "staking: jailed for longer"
    state.validators[msg.sender].jailed = False
    log state.Unjailed(operator=msg.sender)


@external
def announce_maintenance(first_height: uint256, heights: uint256):
    """
    @notice Say in advance which heights the caller's validator will be absent from, without punishment. At least a
            downtime window ahead; the next one may begin 10 times its length after its end, and be announced once
            this one is over and judged
    """
    state._check_operator()
    assert heights != 0 and heights <= state.parameters[state.MAINTENANCE_MAX], "staking: maintenance length"
    assert first_height < 2**63, "staking: no such height"
    assert first_height >= block.number + state.parameters[state.DOWNTIME_WINDOW], "staking: announced too late"
    until: uint256 = state.validators[msg.sender].maintenance_until
    if until != 0:
        assert block.number >= until + state.JUDGED_LAG, "staking: maintenance not over"
        length: uint256 = until - state.validators[msg.sender].maintenance_from
        assert first_height >= until + 10 * length, "staking: maintenance too soon"
    state.validators[msg.sender].maintenance_from = first_height
    state.validators[msg.sender].maintenance_until = first_height + heights
    log state.MaintenanceAnnounced(operator=msg.sender, first_height=first_height, heights=heights)


# --- What anybody calls ----------------------------------------------------------------------------------------

@external
def displace(operator: address):
    """
    @notice Take a validator off the full list that cannot be elected and is in no set; its stake stays
    """
    assert len(state.operators) == state.MAX_OPERATORS, "staking: there is room"
    assert state._is_listed(operator), "staking: not on the list"
    assert not state._is_seated(operator), "staking: in the set"
    assert (
        state.validators[operator].tombstoned
        or state.validators[operator].tokens < state.parameters[state.MIN_STAKE]
    ), "staking: could be elected"
    state._displace(operator)


# --- Frozen until judged ---------------------------------------------------------------------------------------

@external
def freeze(operator: address, power: uint256, epoch: uint256, evidence_hash: bytes32):
    """
    @notice Hold a validator whose key signed a header that this chain lacks, with all its stake, until it is judged
    @param power Its power in the set that signed
    @param epoch That set's
    """
    state._check_system()
    assert state._is_registered(operator), "staking: no such validator"
    assert not state.validators[operator].tombstoned, "staking: tombstoned"
    state._check_thawed(operator)
    assert not state.acquitted[operator][epoch], "staking: acquitted"
    state._deactivate(operator)
    state.validators[operator].jailed = True
    state.freezes[operator] = state.Freeze(stands=True, power=power, epoch=epoch, evidence_hash=evidence_hash)
    log state.Frozen(operator=operator, power=power, epoch=epoch, evidence_hash=evidence_hash)


@external
def judge(operator: address, guilty: bool):
    """
    @notice End a freeze by the vote that Governance counted: slashed and excluded for ever, or free to unjail, and
            not to be frozen again for what it signed in that epoch
    """
    state._check_governance()
    freeze: state.Freeze = state.freezes[operator]
    assert freeze.stands, "staking: not frozen"
    state.freezes[operator] = empty(state.Freeze)
    log state.Judged(operator=operator, guilty=guilty, evidence_hash=freeze.evidence_hash)
    if not guilty:
        state.acquitted[operator][freeze.epoch] = True
        return
    state._slash_double_sign(operator, freeze.power, freeze.epoch, freeze.evidence_hash)


@external
@view
def is_frozen(operator: address) -> bool:
    """
    @return Whether it waits for judgement: jailed, and its stake held
    """
    return state.freezes[operator].stands


@external
@view
def freeze_of(operator: address) -> (uint256, uint256, bytes32):
    """
    @return Power and epoch that it will answer for, and the evidence's hash; zeros if it is not frozen
    """
    return state.freezes[operator].power, state.freezes[operator].epoch, state.freezes[operator].evidence_hash


@external
@view
def is_acquitted(operator: address, epoch: uint256) -> bool:
    """
    @return Whether it was judged not guilty of what it signed in the epoch, and cannot be frozen for that again
    """
    return state.acquitted[operator][epoch]


# --- Validators ------------------------------------------------------------------------------------------------

@external
@view
def validator(operator: address) -> ValidatorView:
    """
    @notice All about one validator; `power` is 0 outside the current set, `commission_wei` is what it could
            withdraw now, maintenance ends before `maintenance_until`
    """
    assert state._is_registered(operator), "staking: no such validator"
    commission: uint256 = 0
    per_share: uint256 = 0
    commission, per_share = self._settled(operator)
    power: uint256 = 0
    if state.validators[operator].member_stamp == state.set_stamp:
        for member: uint256 in state.members:
            if state._operator_of(member) == operator:
                power = member >> 160
    return ValidatorView(
        operator=operator,
        voting_key=self._voting_key(operator),
        checkpoint_key_hash=state.validators[operator].checkpoint_key_hash,
        name=state.validators[operator].name,
        tokens=state.validators[operator].tokens,
        shares=state.validators[operator].shares,
        commission_bps=state.validators[operator].commission_bps,
        commission_wei=commission,
        active=state.validators[operator].active,
        jailed=state.validators[operator].jailed,
        tombstoned=state.validators[operator].tombstoned,
        jailed_until=state.validators[operator].jailed_until,
        missed=state.validators[operator].missed,
        power=power,
        registered_height=state.validators[operator].registered_height,
        maintenance_from=state.validators[operator].maintenance_from,
        maintenance_until=state.validators[operator].maintenance_until,
        slash_count=state.validators[operator].slash_count,
    )


@external
@view
def operators() -> DynArray[address, 256]:
    """
    @notice Every registered validator that was not displaced
    """
    return state.operators


@external
@view
def candidates() -> DynArray[Candidate, 256]:
    """
    @notice Who can be elected: not jailed, not tombstoned, with at least minStakeWei
    """
    found: DynArray[Candidate, 256] = []
    for operator: address in state.operators:
        if state._is_eligible(operator):
            found.append(
                Candidate(
                    operator=operator,
                    voting_key=self._voting_key(operator),
                    checkpoint_key_hash=state.validators[operator].checkpoint_key_hash,
                    tokens=state.validators[operator].tokens,
                )
            )
    return found


@external
@view
def missed_of(operators: DynArray[address, 128]) -> DynArray[uint256, 128]:
    """
    @notice Heights that each has missed in the current downtime window
    """
    missed: DynArray[uint256, 128] = []
    for operator: address in operators:
        missed.append(state.validators[operator].missed)
    return missed


@external
@view
def slash_record(operator: address, index: uint256) -> (uint256, uint256, uint256, uint256, uint256):
    """
    @return Epoch, bps, time in seconds, kind (1 double signing, 2 downtime) and the wei cut from the validator
    """
    assert index < state.validators[operator].slash_count, "staking: no such slash"
    slash: uint256 = state.slashes[operator][index]
    return (
        (slash >> 24) & state.MASK_40,
        (slash >> 8) & state.MASK_16,
        (slash >> 64) & state.MASK_40,
        slash & 255,
        slash >> 104,
    )


# --- The set ---------------------------------------------------------------------------------------------------

@external
@view
def members() -> (DynArray[address, 128], DynArray[uint256, 128]):
    """
    @return Operators and powers of the current set
    """
    return self._unpack(state.members)


@external
@view
def elected() -> (uint256, DynArray[address, 128], DynArray[uint256, 128]):
    """
    @return The epoch of the latest election, its operators and powers; epoch 0 and nobody before the first
    """
    operators: DynArray[address, 128] = []
    powers: DynArray[uint256, 128] = []
    operators, powers = self._unpack(state.elected)
    return state.elected_epoch, operators, powers


@external
@view
def set_record(epoch: uint256) -> (bytes32, uint256):
    """
    @return Hash of the set that votes in the epoch, and the time before its first block in milliseconds; zeros if
            the epoch has not begun
    """
    return state.set_records[epoch].set_hash, state.set_records[epoch].time_ms


@external
@view
def jailed_this_epoch() -> uint256:
    """
    @return How many were jailed for downtime since the epoch began
    """
    return state.jailed_this_epoch


# --- Holders ---------------------------------------------------------------------------------------------------

@external
@view
def delegation(delegator: address, operator: address) -> (uint256, uint256, uint256, state.Liability):
    """
    @return Shares, their worth in wei now, wei to claim, and the liability of what was redelegated, if any. Slashes
            that the liable shares have not felt yet are not taken off: `poke` does that
    """
    commission: uint256 = 0
    per_share: uint256 = 0
    commission, per_share = self._settled(operator)
    held: state.Delegation = state.delegations[delegator][operator]
    pending: uint256 = held.pending
    if held.shares != 0:
        pending += (per_share - held.seen) * held.shares // state.SCALE
    return held.shares, state._tokens_of(operator, held.shares), pending, state.liabilities[delegator][operator]


@external
@view
def unbondings(delegator: address) -> DynArray[Unbonding, 32]:
    """
    @notice Unbonding entries by index; `value_now` is what is left of `amount` after all slashes so far
    """
    found: DynArray[Unbonding, 32] = []
    for entry: state.Entry in state.entries[delegator]:
        left: uint256 = 0
        seen: uint256 = 0
        left, seen = state._after_slashes(
            entry.operator, entry.amount, entry.seen, entry.last_epoch, state.ANY_SLASHES
        )
        found.append(
            Unbonding(
                operator=entry.operator,
                amount=entry.amount,
                value_now=left,
                matures_at=entry.matures_at,
                last_epoch=entry.last_epoch,
            )
        )
    return found


# --- The whole -------------------------------------------------------------------------------------------------

@external
@view
def totals() -> (uint256, uint256, uint256, uint256, uint256, uint256, uint256, uint256, uint256):
    """
    @return bonded, unbonding, owed, minted, burned, supply (all wei), rate (bps a year * 10^9), active tokens, epoch
    """
    return (
        state.bonded,
        state.unbonding,
        state.owed,
        state.minted,
        state.burned,
        state.initial_supply + state.minted - state.burned,
        state.rate_e9,
        state.active_tokens,
        state.epoch,
    )


@external
@view
def pending_burn() -> uint256:
    """
    @return Wei slashed since the last block began, which the next one burns
    """
    return state.to_burn


@external
@view
def parameters() -> uint256[17]:
    """
    @return By id
    """
    return state.parameters


# --- Helpers ---------------------------------------------------------------------------------------------------

@internal
@view
def _settled(operator: address) -> (uint256, uint256):
    """Commission and per_share as if the validator were settled now."""
    due: uint256 = state._due(operator)
    shares: uint256 = state.validators[operator].shares
    cut: uint256 = due
    per_share: uint256 = state.validators[operator].per_share
    if shares != 0:
        cut = due * state.validators[operator].commission_bps // state.BPS
        per_share += (due - cut) * state.SCALE // shares
    return state.validators[operator].commission + cut, per_share


@internal
@view
def _voting_key(operator: address) -> Bytes[48]:
    return slice(concat(state.validators[operator].key_high, state.validators[operator].key_low), 0, 48)


@internal
@pure
def _unpack(packed: DynArray[uint256, 128]) -> (DynArray[address, 128], DynArray[uint256, 128]):
    operators: DynArray[address, 128] = []
    powers: DynArray[uint256, 128] = []
    for member: uint256 in packed:
        operators.append(state._operator_of(member))
        powers.append(member >> 160)
    return operators, powers
