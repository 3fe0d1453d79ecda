# pragma version ==0.4.3
"""
@title Staking
@notice Who votes, what they earn, how they are punished. Holders use it with a wallet; only the protocol elects,
        mints and slashes, by system calls. Installed by genesis: no constructor. Rules: docs/staking.md.
        Views, and what is seldom called, stand in StakingAnnex, to which every other selector is passed.
"""

import StakingState as state

initializes: state

interface KeyProofs:
    def voting_key(key: Bytes[128], possession: Bytes[256]) -> Bytes[48]: view
    def checkpoint_key(operator: address, key: Bytes[1952], possession: Bytes[3309]) -> bytes32: view

struct GenesisValidator:
    operator: address
    voting_key: Bytes[48]
    checkpoint_key_hash: bytes32
    stake: uint256

MAX_ANSWER: constant(uint256) = 66_048  # bytes: candidates() of 256 validators

# --- Stake -----------------------------------------------------------------------------------------------------

@external
@payable
def create_validator(
    voting_key: Bytes[128],
    possession: Bytes[256],
    checkpoint_key: Bytes[1952],
    checkpoint_possession: Bytes[3309],
    commission_bps: uint256,
    name: String[64],
):
    """
    @notice Register the caller as operator of a validator, with the value sent as its own stake
    @param voting_key G1 point as EIP-2537 writes it
    @param possession G2 point: the suite's proof of possession over the compressed key
    @param checkpoint_possession ML-DSA-65 signature on what KeyProofs.checkpoint_message gives
    @param commission_bps Part of its delegators' rewards that the operator keeps, in ten thousandths
    """
    assert not state._is_registered(msg.sender), "staking: registered already"
    assert commission_bps <= state.BPS, "staking: commission above all"
    assert msg.value >= state.parameters[state.MIN_STAKE], "staking: below the least stake"
    if len(state.operators) == state.MAX_OPERATORS:
        self._make_room(msg.value)
    key: Bytes[48] = staticcall KeyProofs(state.KEY_PROOFS).voting_key(voting_key, possession)
    checkpoint_key_hash: bytes32 = staticcall KeyProofs(state.KEY_PROOFS).checkpoint_key(
        msg.sender, checkpoint_key, checkpoint_possession
    )
    self._register(msg.sender, key, checkpoint_key_hash, commission_bps, name)
    self._delegate(msg.sender, msg.value)


@external
@payable
def delegate(operator: address) -> uint256:
    """
    @notice Bond the value sent to a validator
    @return The shares that it bought
    """
    return self._delegate(operator, msg.value)


@external
def undelegate(operator: address, shares: uint256) -> uint256:
    """
    @notice Begin to take stake out: it stops earning now, and can be withdrawn once the unbonding time has passed
    @return The wei that leaves
    """
    self._touch_all(operator)
    self._check_free(operator, shares)
    assert len(state.entries[msg.sender]) < state.MAX_ENTRIES, "staking: 32 entries already"
    amount: uint256 = state._remove(msg.sender, operator, shares)
    assert amount != 0, "staking: worth nothing"
    state.unbonding += amount
    matures_at: uint256 = block.timestamp + state.parameters[state.UNBONDING_MS] // 1000
    last_epoch: uint256 = state._last_epoch()
    state.entries[msg.sender].append(
        state.Entry(
            operator=operator,
            amount=amount,
            matures_at=matures_at,
            last_epoch=last_epoch,
            seen=state.validators[operator].slash_count,
        )
    )
    log state.Undelegated(
        delegator=msg.sender,
        operator=operator,
        amount=amount,
        shares=shares,
        matures_at=matures_at,
        last_epoch=last_epoch,
    )
    return amount


@external
@nonreentrant
def withdraw(index: uint256) -> uint256:
    """
    @notice Take out an unbonding entry that is mature, less what slashes took; the last entry gets its index
    @return The wei paid
    """
    assert index < len(state.entries[msg.sender]), "staking: no such entry"
    entry: state.Entry = state.entries[msg.sender][index]
    state._check_thawed(entry.operator)
    assert block.timestamp >= entry.matures_at, "staking: not mature yet"
    left: uint256 = 0
    seen: uint256 = 0
    left, seen = state._after_slashes(
        entry.operator, entry.amount, entry.seen, entry.last_epoch, state.MAX_SLASHES_AT_ONCE
    )
    assert seen == state.validators[entry.operator].slash_count, "staking: slashes left, poke first"
    last: state.Entry = state.entries[msg.sender].pop()
    if index < len(state.entries[msg.sender]):
        state.entries[msg.sender][index] = last
    self._cut_entry(msg.sender, entry.operator, entry.amount - left)
    state.unbonding -= left
    log state.Withdrawn(delegator=msg.sender, operator=entry.operator, amount=left)
    self._pay(left)
    return left


@external
def redelegate(source: address, target: address, shares: uint256) -> uint256:
    """
    @notice Move stake to another validator at once; until the unbonding time has passed it stays liable for what
            the first one did
    @return The shares that it bought
    """
    assert source != target, "staking: the same validator"
    self._touch_all(source)
    self._touch_all(target)
    assert state.liabilities[msg.sender][target].source == empty(address), "staking: liable already"
    self._check_free(source, shares)
    amount: uint256 = state._remove(msg.sender, source, shares)
    bought: uint256 = state._add(msg.sender, target, amount)
    matures_at: uint256 = block.timestamp + state.parameters[state.UNBONDING_MS] // 1000
    last_epoch: uint256 = state._last_epoch()
    state.liabilities[msg.sender][target] = state.Liability(
        source=source,
        shares=bought,
        last_epoch=last_epoch,
        matures_at=matures_at,
        seen=state.validators[source].slash_count,
    )
    log state.Redelegated(
        delegator=msg.sender,
        source=source,
        operator=target,
        amount=amount,
        shares=bought,
        matures_at=matures_at,
        last_epoch=last_epoch,
    )
    return bought


@external
def poke(delegator: address, operator: address):
    """
    @notice Apply to a delegation, and to the delegator's unbonding entries from that validator, up to 64 slashes
            each that they have not felt yet; anybody may
    """
    assert state._is_registered(operator), "staking: no such validator"
    state._apply_liability(delegator, operator)
    for i: uint256 in range(len(state.entries[delegator]), bound=state.MAX_ENTRIES):
        if state.entries[delegator][i].operator == operator:
            amount: uint256 = state.entries[delegator][i].amount
            left: uint256 = 0
            seen: uint256 = 0
            left, seen = state._after_slashes(
                operator,
                amount,
                state.entries[delegator][i].seen,
                state.entries[delegator][i].last_epoch,
                state.MAX_SLASHES_AT_ONCE,
            )
            state.entries[delegator][i].amount = left
            state.entries[delegator][i].seen = seen
            self._cut_entry(delegator, operator, amount - left)


# --- Earnings --------------------------------------------------------------------------------------------------

@external
@nonreentrant
def claim(operator: address) -> uint256:
    """
    @notice Pay out what the caller's delegation has earned
    @return The wei paid
    """
    state._touch(msg.sender, operator)
    amount: uint256 = state.delegations[msg.sender][operator].pending
    state.delegations[msg.sender][operator].pending = 0
    state.owed -= amount
    log state.Claimed(delegator=msg.sender, operator=operator, amount=amount)
    self._pay(amount)
    return amount


@external
@nonreentrant
def withdraw_commission() -> uint256:
    """
    @notice Pay out the commission that the caller's validator has earned
    @return The wei paid
    """
    state._check_operator()
    state._settle(msg.sender, 0)
    amount: uint256 = state.validators[msg.sender].commission
    state.validators[msg.sender].commission = 0
    state.owed -= amount
    log state.CommissionWithdrawn(operator=msg.sender, amount=amount)
    self._pay(amount)
    return amount


# --- An operator's keys ----------------------------------------------------------------------------------------

@external
def rotate_voting_key(voting_key: Bytes[128], possession: Bytes[256]):
    """
    @notice Vote with another key from the next election on; once an epoch
    """
    state._check_operator()
    stamp: uint256 = state.epoch + 1
    assert state.validators[msg.sender].voting_rotated != stamp, "staking: once an epoch"
    state.validators[msg.sender].voting_rotated = stamp
    key: Bytes[48] = staticcall KeyProofs(state.KEY_PROOFS).voting_key(voting_key, possession)
    self._set_voting_key(msg.sender, key)
    log state.KeyRotated(
        operator=msg.sender,
        voting_key=key,
        checkpoint_key_hash=state.validators[msg.sender].checkpoint_key_hash,
    )


@external
def rotate_checkpoint_key(checkpoint_key: Bytes[1952], checkpoint_possession: Bytes[3309]):
    """
    @notice Sign checkpoints with another key from the next election on; once an epoch
    """
    state._check_operator()
    stamp: uint256 = state.epoch + 1
    assert state.validators[msg.sender].checkpoint_rotated != stamp, "staking: once an epoch"
    state.validators[msg.sender].checkpoint_rotated = stamp
    key_hash: bytes32 = staticcall KeyProofs(state.KEY_PROOFS).checkpoint_key(
        msg.sender, checkpoint_key, checkpoint_possession
    )
    self._set_checkpoint_key(msg.sender, key_hash)
    log state.KeyRotated(
        operator=msg.sender,
        voting_key=self._voting_key(msg.sender),
        checkpoint_key_hash=key_hash,
    )


# --- What the protocol calls -----------------------------------------------------------------------------------

@external
def initialise(
    validators: DynArray[GenesisValidator, 128],
    parameters: uint256[17],
    inflation_initial_bps: uint256,
    supply: uint256,
    genesis_time_ms: uint256,
    set_hash: bytes32,
    epoch_length: uint256,
):
    """
    @notice Once, when genesis is built: the first set, its stakes, the parameters
    @param supply Wei of all accounts at genesis, this contract included
    """
    state._check_system()
    assert state.set_stamp == 0, "staking: initialised already"
    state.epoch_length = epoch_length
    state.parameters[state.INFLATION_MAX] = max_value(uint256)  # until its turn comes, which compares it to the least
    for id: uint256 in range(17):
        state._set_parameter(id, parameters[id])
    assert (
        parameters[state.INFLATION_MIN] <= inflation_initial_bps
        and inflation_initial_bps <= parameters[state.INFLATION_MAX]
    ), "staking: outside its bounds"
    state.rate_e9 = inflation_initial_bps * state.RATE_SCALE
    state.initial_supply = supply
    state.last_timestamp = genesis_time_ms // 1000
    state.rate_since = genesis_time_ms // 1000
    state.set_stamp = 1
    state.set_hash = set_hash
    state.set_records[0] = state.SetRecord(set_hash=set_hash, time_ms=genesis_time_ms)
    for validator: GenesisValidator in validators:
        operator: address = validator.operator
        assert not state._is_registered(operator), "staking: registered already"
        self._register(operator, validator.voting_key, validator.checkpoint_key_hash, 0, "")
        state._add(operator, operator, validator.stake)
        log state.Delegated(
            delegator=operator, operator=operator, amount=validator.stake, shares=validator.stake
        )
        state.members.append(state._pack(operator, validator.stake // state.SCALE))
        state.validators[operator].member_stamp = 1
        state.validators[operator].elected_stamp = 1
        state.validators[operator].active = True
        state.active_tokens += validator.stake


@external
def begin_epoch(epoch: uint256, time_ms: uint256):
    """
    @notice The elected set takes over; without an election the current one stays
    """
    state._check_system()
    before: uint256 = state.epoch
    assert epoch > before, "staking: epoch begun already"
    state.epoch = epoch
    state.jailed_this_epoch = 0
    if state.elected_epoch > before:
        stamp: uint256 = epoch + 1
        state.set_stamp = stamp
        state.set_hash = state.elected_hash
        for member: uint256 in state.elected:
            state.validators[state._operator_of(member)].member_stamp = stamp
        for member: uint256 in state.members:
            operator: address = state._operator_of(member)
            if state.validators[operator].member_stamp != stamp:
                state._deactivate(operator)
        state.members = state.elected
    for member: uint256 in state.members:
        operator: address = state._operator_of(member)
        if not state.validators[operator].active and not state.validators[operator].jailed:
            state._settle(operator, 0)
            state.validators[operator].active = True
            state.active_tokens += state.validators[operator].tokens
    state.set_records[epoch] = state.SetRecord(set_hash=state.set_hash, time_ms=time_ms)
    log state.EpochBegan(epoch=epoch, set_hash=state.set_hash, time_ms=time_ms)


@external
def begin_block(
    proposer: address,
    credited: uint256,
    total: uint256,
    parent_base_fees: uint256,
    heights: DynArray[uint256, 8],
    bitmaps: DynArray[uint256, 8],
    judged: uint256,
) -> (uint256, uint256, uint256):
    """
    @notice Pay what the parent block earned, and note who signed
    @return Wei to add to this contract's balance, wei to take from it, who is credited for height `judged`
    """
    state._check_system()
    assert len(heights) == len(bitmaps), "staking: a bitmap a height"
    assert credited <= total and total != 0, "staking: credited above total"
    for i: uint256 in range(len(heights), bound=8):
        slot: uint256 = heights[i] % state.RING
        if state.credits[slot].height == heights[i]:
            state.credits[slot].bitmap |= bitmaps[i]
        else:
            state.credits[slot] = state.Credit(height=heights[i], bitmap=bitmaps[i])
    share: uint256 = 0
    mint: uint256 = 0
    share, mint = self._reward(proposer, credited, total, parent_base_fees)
    share = min(share, mint)
    burn: uint256 = state.to_burn
    state.to_burn = 0
    state.minted += mint - share
    state.burned += parent_base_fees - share + burn
    state.owed += mint
    state.last_timestamp = block.timestamp
    judged_bitmap: uint256 = 0
    if judged != 0 and state.credits[judged % state.RING].height == judged:
        judged_bitmap = state.credits[judged % state.RING].bitmap
    return mint, burn, judged_bitmap


@external
def note_absent(judged: uint256, operators: DynArray[address, 128]):
    """
    @notice Count a missed height, except in announced maintenance and in jail
    """
    state._check_system()
    for operator: address in operators:
        if state.validators[operator].jailed:
            continue
        first: uint256 = state.validators[operator].maintenance_from
        if first <= judged and judged < state.validators[operator].maintenance_until:
            continue
        state.validators[operator].missed += 1


@external
def close_window(
    judged: uint256,
    punished: DynArray[address, 128],
    powers: DynArray[uint256, 128],
    members: DynArray[address, 128],
):
    """
    @notice Slash and jail those that missed too much of a downtime window, and count anew for all its members
    """
    state._check_system()
    assert len(punished) == len(powers), "staking: a power an operator"
    until: uint256 = block.timestamp + state.parameters[state.DOWNTIME_JAIL_MS] // 1000
    epoch: uint256 = judged // state.epoch_length
    for i: uint256 in range(len(punished), bound=state.MAX_MEMBERS):
        operator: address = punished[i]
        assert state._is_registered(operator), "staking: no such validator"
        if state.validators[operator].jailed:
            continue
        assert state.jailed_this_epoch < state.parameters[state.MAX_JAILED], "staking: jailed enough"
        state.jailed_this_epoch += 1
        state._slash(operator, state.parameters[state.DOWNTIME_SLASH], powers[i], epoch, state.DOWNTIME)
        state.validators[operator].jailed_until = until
        log state.Jailed(operator=operator, until=until, missed=state.validators[operator].missed)
    for operator: address in members:
        state.validators[operator].missed = 0


@external
def slash_double_sign(operator: address, power: uint256, epoch: uint256, evidence_hash: bytes32):
    """
    @notice Slash a validator that signed twice, and exclude it for ever
    """
    state._check_system()
    assert state._is_registered(operator), "staking: no such validator"
    assert not state.validators[operator].tombstoned, "staking: tombstoned"
    state._slash_double_sign(operator, power, epoch, evidence_hash)


@external
def elect(
    epoch: uint256, set_hash: bytes32, operators: DynArray[address, 128], powers: DynArray[uint256, 128]
):
    """
    @notice Keep the set that votes from the first height of `epoch` on, and move the inflation rate
    """
    state._check_system()
    assert epoch == state.epoch + 1, "staking: not the next epoch"
    assert state.elected_epoch != epoch, "staking: elected already"
    assert len(operators) == len(powers), "staking: a power an operator"
    assert len(operators) != 0, "staking: nobody is elected"
    assert len(operators) <= state.parameters[state.MAX_VALIDATORS], "staking: too many members"
    state.elected_epoch = epoch
    state.elected_hash = set_hash
    state.elected = []
    for i: uint256 in range(len(operators), bound=state.MAX_MEMBERS):
        operator: address = operators[i]
        assert state._is_registered(operator), "staking: no such validator"
        assert state.validators[operator].elected_stamp != epoch + 1, "staking: elected twice"
        assert powers[i] != 0 and powers[i] < 2**60, "staking: power out of range"
        state.validators[operator].elected_stamp = epoch + 1
        state.elected.append(state._pack(operator, powers[i]))
    self._move_rate()
    log state.Elected(
        epoch=epoch, set_hash=set_hash, operators=operators, powers=powers, rate_e9=state.rate_e9
    )


@external
def set_parameter(id: uint256, chosen: uint256):
    """
    @notice Change a parameter at once, by the vote that Governance counted
    """
    state._check_governance()
    assert id < 17, "staking: no such parameter"
    assert id != state.UNBONDING_MS, "staking: fixed"
    log state.ParameterChanged(id=id, before=state.parameters[id], after=chosen)
    state._set_parameter(id, chosen)


@external
@raw_return
def __default__() -> Bytes[MAX_ANSWER]:
    """
    @notice Whatever StakingAnnex answers, which runs in this contract's storage
    """
    return raw_call(state.ANNEX, msg.data, max_outsize=MAX_ANSWER, is_delegate_call=True)


# --- Who may ---------------------------------------------------------------------------------------------------

@internal
@view
def _check_free(operator: address, shares: uint256):
    """Liable shares stay where they are: elsewhere no slash of their source would find them. So do a frozen
    validator's, until it is judged."""
    state._check_thawed(operator)
    assert shares != 0, "staking: no shares"
    held: uint256 = state.delegations[msg.sender][operator].shares
    assert shares <= held, "staking: more shares than held"
    assert shares <= held - state.liabilities[msg.sender][operator].shares, "staking: shares are liable"


@internal
def _touch_all(operator: address):
    assert state._touch(msg.sender, operator), "staking: slashes left, poke first"


# --- Stake and keys --------------------------------------------------------------------------------------------

@internal
def _delegate(operator: address, amount: uint256) -> uint256:
    assert amount != 0, "staking: no value"
    self._touch_all(operator)
    shares: uint256 = state._add(msg.sender, operator, amount)
    log state.Delegated(delegator=msg.sender, operator=operator, amount=amount, shares=shares)
    return shares


@internal
def _cut_entry(delegator: address, operator: address, loss: uint256):
    if loss != 0:
        state.unbonding -= loss
        state.to_burn += loss
        log state.StakeCut(delegator=delegator, operator=operator, amount=loss)


@internal
def _pay(amount: uint256):
    if amount != 0:
        raw_call(msg.sender, b"", value=amount)


@internal
def _register(
    operator: address,
    voting_key: Bytes[48],
    checkpoint_key_hash: bytes32,
    commission_bps: uint256,
    name: String[64],
):
    self._set_voting_key(operator, voting_key)
    self._set_checkpoint_key(operator, checkpoint_key_hash)
    state.validators[operator].name = name
    state.validators[operator].commission_bps = commission_bps
    state.validators[operator].commission_since = block.timestamp
    state.validators[operator].registered_height = block.number
    state.validators[operator].seen = state.per_token
    state.validators[operator].position = len(state.operators)
    state.operators.append(operator)
    log state.Registered(
        operator=operator,
        voting_key=voting_key,
        checkpoint_key_hash=checkpoint_key_hash,
        commission_bps=commission_bps,
        name=name,
    )


@internal
def _set_voting_key(operator: address, key: Bytes[48]):
    assert len(key) == 48, "staking: key length"
    self._use_key(keccak256(key))
    state.validators[operator].key_high = extract32(key, 0)
    # The last 16 bytes of the word that ends with the key.
    state.validators[operator].key_low = convert(convert(extract32(key, 16), uint256) << 128, bytes32)


@internal
def _set_checkpoint_key(operator: address, key_hash: bytes32):
    self._use_key(key_hash)
    state.validators[operator].checkpoint_key_hash = key_hash


@internal
def _use_key(key_hash: bytes32):
    assert not state.used_keys[key_hash], "staking: key used before"
    state.used_keys[key_hash] = True


@internal
@view
def _voting_key(operator: address) -> Bytes[48]:
    return slice(concat(state.validators[operator].key_high, state.validators[operator].key_low), 0, 48)


# --- The list of validators ------------------------------------------------------------------------------------

@internal
def _make_room(stake: uint256):
    """Displace the least of those in no set, if `stake` is more than it has."""
    least: address = empty(address)
    least_tokens: uint256 = stake
    for operator: address in state.operators:
        if not state._is_seated(operator) and state.validators[operator].tokens < least_tokens:
            least = operator
            least_tokens = state.validators[operator].tokens
    assert least != empty(address), "staking: no room for this stake"
    state._displace(least)


# --- Money -----------------------------------------------------------------------------------------------------

@internal
def _reward(
    proposer: address, credited: uint256, total: uint256, parent_base_fees: uint256
) -> (uint256, uint256):
    """The stakers' part of the base fees, and all that is minted for them and the proposer."""
    share: uint256 = parent_base_fees * state.parameters[state.BASE_FEE_SHARE] // state.BPS
    active_tokens: uint256 = state.active_tokens
    if active_tokens == 0:
        return share, 0
    elapsed: uint256 = block.timestamp - state.last_timestamp
    reward: uint256 = share + (
        self._supply() * state.rate_e9 * elapsed // (state.BPS * state.RATE_SCALE * state.YEAR)
    )
    proposing: uint256 = reward * state.parameters[state.PROPOSER_SHARE] // state.BPS
    rest: uint256 = reward - proposing
    state.per_token += rest * state.SCALE // active_tokens
    if not state.validators[proposer].active:
        return share, rest
    for_proposer: uint256 = proposing * credited // total
    if for_proposer != 0:
        state._settle(proposer, for_proposer)
    return share, rest + for_proposer


@internal
@view
def _supply() -> uint256:
    return state.initial_supply + state.minted - state.burned


@internal
def _move_rate():
    """Up while less than the goal is bonded, down while more; rounded down also below zero."""
    bonded_bps: uint256 = state.bonded * state.BPS // self._supply()
    part: uint256 = bonded_bps * state.BPS // state.parameters[state.BONDED_GOAL]
    elapsed: uint256 = block.timestamp - state.rate_since
    state.rate_since = block.timestamp
    factor: uint256 = state.parameters[state.INFLATION_CHANGE] * elapsed * state.RATE_SCALE
    divisor: uint256 = state.BPS * state.YEAR
    rate: uint256 = state.rate_e9
    if part <= state.BPS:
        rate += (state.BPS - part) * factor // divisor
    else:
        fall: uint256 = ((part - state.BPS) * factor + divisor - 1) // divisor
        rate -= min(rate, fall)
    rate = max(rate, state.parameters[state.INFLATION_MIN] * state.RATE_SCALE)
    state.rate_e9 = min(rate, state.parameters[state.INFLATION_MAX] * state.RATE_SCALE)
