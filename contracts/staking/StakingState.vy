# pragma version ==0.4.3
"""
@title What Staking keeps, and the arithmetic on it
@notice A module, not a contract: Staking and StakingAnnex both lay it out first, so the annex, which runs by
        delegatecall in Staking's storage, finds what Staking wrote. Rules: docs/staking.md.
"""

# --- Places and units ------------------------------------------------------------------------------------------

SYSTEM: constant(address) = 0xffffFFFfFFffffffffffffffFfFFFfffFFFfFFfE
ANNEX: constant(address) = 0x00000000000000000000000000000000000A5704
GOVERNANCE: constant(address) = 0x00000000000000000000000000000000000a5703
KEY_PROOFS: constant(address) = 0x00000000000000000000000000000000000A5702

SCALE: constant(uint256) = 10**18  # of the accumulators, and wei of one unit of power
RATE_SCALE: constant(uint256) = 10**9
BPS: constant(uint256) = 10_000
YEAR: constant(uint256) = 31_536_000
DAY: constant(uint256) = 86_400
RING: constant(uint256) = 16  # heights whose credits are kept
JUDGED_LAG: constant(uint256) = 8

MAX_MEMBERS: constant(uint256) = 128
MAX_OPERATORS: constant(uint256) = 256
MAX_ENTRIES: constant(uint256) = 32
MAX_SLASHES_AT_ONCE: constant(uint256) = 64
ANY_SLASHES: constant(uint256) = 1_000_000
MASK_40: constant(uint256) = 2**40 - 1
MASK_16: constant(uint256) = 2**16 - 1

DOUBLE_SIGNING: constant(uint256) = 1
DOWNTIME: constant(uint256) = 2

# --- Parameters, by id -----------------------------------------------------------------------------------------

MIN_STAKE: constant(uint256) = 0
MAX_VALIDATORS: constant(uint256) = 1
UNBONDING_MS: constant(uint256) = 2
MAX_COMMISSION_CHANGE: constant(uint256) = 3
DOWNTIME_WINDOW: constant(uint256) = 4
DOWNTIME_MIN_SIGNED: constant(uint256) = 5
DOWNTIME_SLASH: constant(uint256) = 6
DOWNTIME_JAIL_MS: constant(uint256) = 7
MAX_JAILED: constant(uint256) = 8
DOUBLE_SIGN_SLASH: constant(uint256) = 9
INFLATION_MIN: constant(uint256) = 10
INFLATION_MAX: constant(uint256) = 11
INFLATION_CHANGE: constant(uint256) = 12
BONDED_GOAL: constant(uint256) = 13
PROPOSER_SHARE: constant(uint256) = 14
BASE_FEE_SHARE: constant(uint256) = 15
MAINTENANCE_MAX: constant(uint256) = 16

# --- What is kept ----------------------------------------------------------------------------------------------

struct Validator:
    key_high: bytes32  # the compressed voting key; its first bit is always set, so zero means: not registered
    key_low: bytes32  # its last 16 bytes, on the left
    checkpoint_key_hash: bytes32
    name: String[64]
    tokens: uint256  # wei
    shares: uint256
    active: bool
    seen: uint256  # per_token when last settled
    per_share: uint256  # scaled
    commission: uint256  # wei, unpaid
    commission_bps: uint256
    commission_since: uint256  # when it was set, seconds
    jailed: bool
    tombstoned: bool
    jailed_until: uint256  # seconds
    missed: uint256
    registered_height: uint256
    maintenance_from: uint256
    maintenance_until: uint256  # the first height that it no longer covers
    slash_count: uint256
    position: uint256  # in operators
    member_stamp: uint256  # set_stamp of the latest set that it was in
    elected_stamp: uint256  # epoch + 1 of the latest election that it won
    voting_rotated: uint256  # epoch + 1 of the latest rotation
    checkpoint_rotated: uint256

struct Delegation:
    shares: uint256
    seen: uint256  # per_share when last settled
    pending: uint256  # wei

struct Liability:
    source: address
    shares: uint256
    last_epoch: uint256
    matures_at: uint256
    seen: uint256

struct Entry:
    operator: address
    amount: uint256
    matures_at: uint256
    last_epoch: uint256
    seen: uint256

struct Credit:
    height: uint256
    bitmap: uint256

struct Freeze:
    stands: bool  # until it is judged
    power: uint256  # in the set that signed
    epoch: uint256  # of that set
    evidence_hash: bytes32

struct SetRecord:
    set_hash: bytes32
    time_ms: uint256

validators: HashMap[address, Validator]
delegations: HashMap[address, HashMap[address, Delegation]]  # delegator, operator
liabilities: HashMap[address, HashMap[address, Liability]]  # delegator, operator that received
entries: HashMap[address, DynArray[Entry, 32]]
slashes: HashMap[address, HashMap[uint256, uint256]]  # cut << 104 | time << 64 | epoch << 24 | bps << 8 | kind
operators: DynArray[address, 256]
used_keys: HashMap[bytes32, bool]  # keccak of every voting and checkpoint key ever registered

parameters: uint256[17]
epoch_length: uint256
rate_e9: uint256  # inflation, bps a year * 10^9
rate_since: uint256
initial_supply: uint256
minted: uint256
burned: uint256
bonded: uint256
unbonding: uint256
owed: uint256
to_burn: uint256  # slashed since the last block began
active_tokens: uint256
per_token: uint256  # scaled
last_timestamp: uint256

epoch: uint256
set_stamp: uint256  # epoch + 1 of the epoch in which the current set took over
set_hash: bytes32
elected_epoch: uint256
elected_hash: bytes32
members: DynArray[uint256, 128]  # power << 160 | operator
elected: DynArray[uint256, 128]
jailed_this_epoch: uint256
set_records: HashMap[uint256, SetRecord]
credits: Credit[16]

freezes: HashMap[address, Freeze]
acquitted: HashMap[address, HashMap[uint256, bool]]  # operator, epoch of the set that signed

# --- Events ----------------------------------------------------------------------------------------------------

event Registered:
    operator: indexed(address)
    voting_key: Bytes[48]
    checkpoint_key_hash: bytes32
    commission_bps: uint256
    name: String[64]

event Delegated:
    delegator: indexed(address)
    operator: indexed(address)
    amount: uint256
    shares: uint256

event Undelegated:
    delegator: indexed(address)
    operator: indexed(address)
    amount: uint256
    shares: uint256
    matures_at: uint256
    last_epoch: uint256

event Redelegated:
    delegator: indexed(address)
    source: indexed(address)
    operator: indexed(address)
    amount: uint256
    shares: uint256
    matures_at: uint256
    last_epoch: uint256

event Withdrawn:
    delegator: indexed(address)
    operator: indexed(address)
    amount: uint256

event Claimed:
    delegator: indexed(address)
    operator: indexed(address)
    amount: uint256

event CommissionWithdrawn:
    operator: indexed(address)
    amount: uint256

event CommissionChanged:
    operator: indexed(address)
    commission_bps: uint256

event Jailed:
    operator: indexed(address)
    until: uint256
    missed: uint256

event Unjailed:
    operator: indexed(address)

event Tombstoned:
    operator: indexed(address)
    evidence_hash: bytes32

event Slashed:
    operator: indexed(address)
    kind: uint256
    epoch: uint256
    bps: uint256
    cut: uint256

event StakeCut:
    delegator: indexed(address)
    operator: indexed(address)
    amount: uint256

event MaintenanceAnnounced:
    operator: indexed(address)
    first_height: uint256
    heights: uint256

event KeyRotated:
    operator: indexed(address)
    voting_key: Bytes[48]
    checkpoint_key_hash: bytes32

event Elected:
    epoch: indexed(uint256)
    set_hash: bytes32
    operators: DynArray[address, 128]
    powers: DynArray[uint256, 128]
    rate_e9: uint256

event EpochBegan:
    epoch: indexed(uint256)
    set_hash: bytes32
    time_ms: uint256

event ParameterChanged:
    id: indexed(uint256)
    before: uint256
    after: uint256

event Displaced:
    operator: indexed(address)

event Frozen:
    operator: indexed(address)
    power: uint256
    epoch: uint256
    evidence_hash: bytes32

event Judged:
    operator: indexed(address)
    guilty: bool
    evidence_hash: bytes32

# --- Who may ---------------------------------------------------------------------------------------------------

@internal
@view
def _check_system():
    assert msg.sender == SYSTEM, "staking: only the protocol"


@internal
@view
def _check_governance():
    assert msg.sender == GOVERNANCE, "staking: only governance"


@internal
@view
def _check_operator():
    assert self._is_registered(msg.sender), "staking: not an operator"


@internal
@view
def _check_thawed(operator: address):
    assert not self.freezes[operator].stands, "staking: frozen"


# --- Rewards ---------------------------------------------------------------------------------------------------

@internal
@view
def _due(operator: address) -> uint256:
    """What the global accumulator holds for the validator since it was last settled, commission included."""
    if not self.validators[operator].active:
        return 0
    return (self.per_token - self.validators[operator].seen) * self.validators[operator].tokens // SCALE


@internal
def _settle(operator: address, extra: uint256):
    """Credit the validator with what is due and `extra`, split into commission and its shares' part."""
    due: uint256 = self._due(operator) + extra
    self.validators[operator].seen = self.per_token
    if due == 0:
        return
    shares: uint256 = self.validators[operator].shares
    cut: uint256 = due
    if shares != 0:
        cut = due * self.validators[operator].commission_bps // BPS
        self.validators[operator].per_share += (due - cut) * SCALE // shares
    self.validators[operator].commission += cut


@internal
def _settle_delegation(delegator: address, operator: address):
    """After the validator is settled, and before the delegation's shares change."""
    per_share: uint256 = self.validators[operator].per_share
    shares: uint256 = self.delegations[delegator][operator].shares
    if shares != 0:
        earned: uint256 = (per_share - self.delegations[delegator][operator].seen) * shares // SCALE
        if earned != 0:
            self.delegations[delegator][operator].pending += earned
    self.delegations[delegator][operator].seen = per_share


# --- Stake -----------------------------------------------------------------------------------------------------

@internal
@view
def _is_registered(operator: address) -> bool:
    return self.validators[operator].key_high != empty(bytes32)


@internal
@view
def _tokens_of(operator: address, shares: uint256) -> uint256:
    total: uint256 = self.validators[operator].shares
    if total == 0:
        return 0
    return shares * self.validators[operator].tokens // total


@internal
def _add(delegator: address, operator: address, amount: uint256) -> uint256:
    """Turn `amount` into shares of a settled validator and a settled delegation."""
    assert not self.validators[operator].tombstoned, "staking: tombstoned"
    self._check_thawed(operator)
    tokens: uint256 = self.validators[operator].tokens
    total: uint256 = self.validators[operator].shares
    shares: uint256 = amount
    if total != 0:
        assert tokens != 0, "staking: slashed to nothing"
        shares = amount * total // tokens
    assert shares != 0, "staking: less than one share"
    self.validators[operator].tokens = tokens + amount
    self.validators[operator].shares = total + shares
    self.delegations[delegator][operator].shares += shares
    self.bonded += amount
    if self.validators[operator].active:
        self.active_tokens += amount
    return shares


@internal
def _remove(delegator: address, operator: address, shares: uint256) -> uint256:
    """Turn shares of a settled validator and a settled delegation into the wei that leaves."""
    amount: uint256 = self._tokens_of(operator, shares)
    self.delegations[delegator][operator].shares -= shares
    self.validators[operator].shares -= shares
    self.validators[operator].tokens -= amount
    self.bonded -= amount
    if self.validators[operator].active:
        self.active_tokens -= amount
    return amount


@internal
@view
def _after_slashes(
    operator: address, amount: uint256, seen: uint256, last_epoch: uint256, most: uint256
) -> (uint256, uint256):
    """What slashes of `operator` from number `seen` on, at most `most` of them, leave of `amount`; and how many
    are seen then. Each takes its part, rounded up, of what the ones before left."""
    end: uint256 = min(self.validators[operator].slash_count, seen + most)
    left: uint256 = amount
    for i: uint256 in range(seen, end, bound=ANY_SLASHES):
        slash: uint256 = self.slashes[operator][i]
        if (slash >> 24) & MASK_40 <= last_epoch:
            left -= (left * ((slash >> 8) & MASK_16) + BPS - 1) // BPS
    return left, end


@internal
def _apply_liability(delegator: address, operator: address) -> bool:
    """Burn what slashes of the redelegated shares' source took, at most 64 slashes; whether none is left."""
    source: address = self.liabilities[delegator][operator].source
    if source == empty(address):
        return True
    liable: uint256 = self.liabilities[delegator][operator].shares
    left: uint256 = 0
    seen: uint256 = 0
    left, seen = self._after_slashes(
        source,
        liable,
        self.liabilities[delegator][operator].seen,
        self.liabilities[delegator][operator].last_epoch,
        MAX_SLASHES_AT_ONCE,
    )
    if left != liable:
        self._settle(operator, 0)
        self._settle_delegation(delegator, operator)
        amount: uint256 = self._remove(delegator, operator, liable - left)
        self.to_burn += amount
        self.liabilities[delegator][operator].shares = left
        log StakeCut(delegator=delegator, operator=operator, amount=amount)
    self.liabilities[delegator][operator].seen = seen
    if seen != self.validators[source].slash_count:
        return False
    is_mature: bool = block.timestamp >= self.liabilities[delegator][operator].matures_at
    # A frozen source may yet be judged guilty.
    if left == 0 or (is_mature and not self.freezes[source].stands):
        self.liabilities[delegator][operator] = empty(Liability)
    return True


@internal
def _touch(delegator: address, operator: address) -> bool:
    """Settle all that a delegation's next change rests on; whether every pending slash is applied."""
    assert self._is_registered(operator), "staking: no such validator"
    is_whole: bool = self._apply_liability(delegator, operator)
    self._settle(operator, 0)
    self._settle_delegation(delegator, operator)
    return is_whole


@internal
@view
def _last_epoch() -> uint256:
    """The last epoch for which stake that leaves now was counted."""
    return max(self.epoch, self.elected_epoch)


# --- Punishment ------------------------------------------------------------------------------------------------

@internal
def _deactivate(operator: address):
    if self.validators[operator].active:
        self._settle(operator, 0)
        self.active_tokens -= self.validators[operator].tokens
        self.validators[operator].active = False


@internal
def _slash(operator: address, bps: uint256, power: uint256, epoch: uint256, kind: uint256):
    """Cut the validator's tokens, as far as they are still those that voted; it no longer is active."""
    self._deactivate(operator)
    tokens: uint256 = self.validators[operator].tokens
    cut: uint256 = min(tokens, power * SCALE) * bps // BPS
    self.validators[operator].tokens = tokens - cut
    self.bonded -= cut
    self.to_burn += cut
    count: uint256 = self.validators[operator].slash_count
    # One slot: a call may slash every member. Epochs and seconds keep below 2^40, bps below 2^16.
    assert epoch <= MASK_40, "staking: no such epoch"
    self.slashes[operator][count] = (cut << 104) | (block.timestamp << 64) | (epoch << 24) | (bps << 8) | kind
    self.validators[operator].slash_count = count + 1
    self.validators[operator].jailed = True
    log Slashed(operator=operator, kind=kind, epoch=epoch, bps=bps, cut=cut)


@internal
def _slash_double_sign(operator: address, power: uint256, epoch: uint256, evidence_hash: bytes32):
    self._slash(operator, self.parameters[DOUBLE_SIGN_SLASH], power, epoch, DOUBLE_SIGNING)
    self.validators[operator].tombstoned = True
    log Tombstoned(operator=operator, evidence_hash=evidence_hash)


# --- Sets and parameters ---------------------------------------------------------------------------------------

@internal
@pure
def _pack(operator: address, power: uint256) -> uint256:
    return (power << 160) | convert(operator, uint256)


@internal
@pure
def _operator_of(member: uint256) -> address:
    return convert(convert(member & convert(max_value(uint160), uint256), uint160), address)


@internal
@view
def _is_seated(operator: address) -> bool:
    """Whether it votes in this epoch or will in the next."""
    return (
        self.validators[operator].member_stamp == self.set_stamp
        or self.validators[operator].elected_stamp > self.epoch + 1
    )


@internal
@view
def _is_eligible(operator: address) -> bool:
    return (
        not self.validators[operator].jailed
        and not self.validators[operator].tombstoned
        and self.validators[operator].tokens >= self.parameters[MIN_STAKE]
    )


@internal
def _set_parameter(id: uint256, chosen: uint256):
    """Within the bounds of docs/staking.md."""
    low: uint256 = 0
    high: uint256 = BPS
    if id == MIN_STAKE:
        low = 10**18
        high = 10**27
    elif id == MAX_VALIDATORS or id == MAX_JAILED:
        low = 1
        high = MAX_MEMBERS
    elif id == UNBONDING_MS:
        high = 2**53
    elif id == DOWNTIME_WINDOW:
        low = 8
        high = min(self.epoch_length, 100_000)
    elif id == DOWNTIME_MIN_SIGNED:
        high = 9_500
    elif id == DOWNTIME_SLASH:
        high = 1_000
    elif id == DOWNTIME_JAIL_MS:
        low = 1_000
        high = 2**40
    elif id == DOUBLE_SIGN_SLASH or id == BONDED_GOAL:
        low = 100
    elif id == INFLATION_MIN:
        high = self.parameters[INFLATION_MAX]
    elif id == INFLATION_MAX:
        low = self.parameters[INFLATION_MIN]
        high = 5_000
    elif id == PROPOSER_SHARE:
        high = 5_000
    elif id == MAINTENANCE_MAX:
        high = 100_000
    assert low <= chosen and chosen <= high, "staking: outside its bounds"
    self.parameters[id] = chosen


# --- The list of validators ------------------------------------------------------------------------------------

@internal
@view
def _is_listed(operator: address) -> bool:
    position: uint256 = self.validators[operator].position
    return position < len(self.operators) and self.operators[position] == operator


@internal
def _displace(operator: address):
    position: uint256 = self.validators[operator].position
    last: address = self.operators.pop()
    if last != operator:
        self.operators[position] = last
        self.validators[last].position = position
    log Displaced(operator=operator)
