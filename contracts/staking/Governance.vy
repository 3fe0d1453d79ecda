# pragma version ==0.4.3
"""
@title Governance
@notice Changes one staking parameter, or judges one frozen validator, by more than two thirds of the power that
        votes on blocks. Installed by genesis: no constructor. Bounds are Staking's.
"""

interface Staking:
    def members() -> (DynArray[address, 128], DynArray[uint256, 128]): view
    def is_frozen(operator: address) -> bool: view
    def freeze_of(operator: address) -> (uint256, uint256, bytes32): view
    def set_parameter(id: uint256, chosen: uint256): nonpayable
    def judge(operator: address, guilty: bool): nonpayable

struct Proposal:
    id: uint256  # of a parameter; JUDGEMENT otherwise
    chosen: uint256  # of a judgement: 1 is guilty, 0 is not
    proposer: address
    deadline: uint256  # seconds
    executed: bool
    accused: address  # of a judgement
    evidence_hash: bytes32  # of the freeze that is judged: a later one takes other votes

event Proposed:
    proposal: indexed(uint256)
    operator: indexed(address)
    id: uint256
    chosen: uint256
    deadline: uint256

event JudgementProposed:
    proposal: indexed(uint256)
    operator: indexed(address)
    accused: indexed(address)
    guilty: bool
    evidence_hash: bytes32
    deadline: uint256

event Voted:
    proposal: indexed(uint256)
    operator: indexed(address)

event Executed:
    proposal: indexed(uint256)
    id: uint256
    chosen: uint256
    yes_power: uint256
    total_power: uint256

event JudgementExecuted:
    proposal: indexed(uint256)
    accused: indexed(address)
    guilty: bool
    yes_power: uint256
    total_power: uint256

STAKING: constant(address) = 0x00000000000000000000000000000000000a5701
VOTING_SECONDS: constant(uint256) = 604_800
PARAMETERS: constant(uint256) = 17
JUDGEMENT: constant(uint256) = max_value(uint256)

count: uint256
proposals: HashMap[uint256, Proposal]
voted: HashMap[uint256, HashMap[address, bool]]


@external
def propose(id: uint256, chosen: uint256) -> uint256:
    """
    @notice Ask the set to give a parameter another value; the caller, a member, votes for it by that
    @return The proposal's number, from 0
    """
    assert id < PARAMETERS, "governance: no such parameter"
    self._check_member()
    proposal: uint256 = self.count
    deadline: uint256 = block.timestamp + VOTING_SECONDS
    log Proposed(proposal=proposal, operator=msg.sender, id=id, chosen=chosen, deadline=deadline)
    self._open(
        Proposal(
            id=id,
            chosen=chosen,
            proposer=msg.sender,
            deadline=deadline,
            executed=False,
            accused=empty(address),
            evidence_hash=empty(bytes32),
        )
    )
    return proposal


@external
def propose_judgement(operator: address, guilty: bool) -> uint256:
    """
    @notice Ask the set to judge a frozen validator; the caller, a member, votes for it by that
    @return The proposal's number, counted together with those of parameters
    """
    assert staticcall Staking(STAKING).is_frozen(operator), "governance: not frozen"
    self._check_member()
    proposal: uint256 = self.count
    deadline: uint256 = block.timestamp + VOTING_SECONDS
    evidence_hash: bytes32 = self._evidence_against(operator)
    log JudgementProposed(
        proposal=proposal,
        operator=msg.sender,
        accused=operator,
        guilty=guilty,
        evidence_hash=evidence_hash,
        deadline=deadline,
    )
    self._open(
        Proposal(
            id=JUDGEMENT,
            chosen=convert(guilty, uint256),
            proposer=msg.sender,
            deadline=deadline,
            executed=False,
            accused=operator,
            evidence_hash=evidence_hash,
        )
    )
    return proposal


@external
def vote(proposal: uint256):
    """
    @notice Vote for a proposal; there is no other vote, and none is taken back
    """
    self._check_open(proposal)
    self._check_member()
    assert not self.voted[proposal][msg.sender], "governance: voted already"
    self._vote(proposal)


@external
def execute(proposal: uint256):
    """
    @notice Make the change, or pass the judgement, once those who voted for it hold more than two thirds of the current set's power
    """
    self._check_open(proposal)
    yes: uint256 = 0
    total: uint256 = 0
    yes, total = self._count(proposal)
    assert yes * 3 > total * 2, "governance: not enough power"
    self.proposals[proposal].executed = True
    id: uint256 = self.proposals[proposal].id
    chosen: uint256 = self.proposals[proposal].chosen
    if id == JUDGEMENT:
        accused: address = self.proposals[proposal].accused
        assert (
            staticcall Staking(STAKING).is_frozen(accused)
            and self._evidence_against(accused) == self.proposals[proposal].evidence_hash
        ), "governance: judged already"
        log JudgementExecuted(
            proposal=proposal, accused=accused, guilty=chosen == 1, yes_power=yes, total_power=total
        )
        extcall Staking(STAKING).judge(accused, chosen == 1)
        return
    log Executed(proposal=proposal, id=id, chosen=chosen, yes_power=yes, total_power=total)
    extcall Staking(STAKING).set_parameter(id, chosen)


@external
@view
def proposal(number: uint256) -> (Proposal, uint256, uint256):
    """
    @return What is proposed, the power that voted for it as it stands now, and the power of the whole set
    """
    assert number < self.count, "governance: no such proposal"
    yes: uint256 = 0
    total: uint256 = 0
    yes, total = self._count(number)
    return self.proposals[number], yes, total


@external
@view
def proposal_count() -> uint256:
    """
    @return How many there have ever been
    """
    return self.count


@external
@view
def has_voted(proposal: uint256, operator: address) -> bool:
    """
    @return Whether the operator voted for the proposal
    """
    return self.voted[proposal][operator]


@internal
def _open(proposal: Proposal):
    self.proposals[self.count] = proposal
    self.count += 1
    self._vote(self.count - 1)


@internal
@view
def _evidence_against(operator: address) -> bytes32:
    power: uint256 = 0
    epoch: uint256 = 0
    evidence_hash: bytes32 = empty(bytes32)
    power, epoch, evidence_hash = staticcall Staking(STAKING).freeze_of(operator)
    return evidence_hash


@internal
def _vote(proposal: uint256):
    self.voted[proposal][msg.sender] = True
    log Voted(proposal=proposal, operator=msg.sender)


@internal
@view
def _check_open(proposal: uint256):
    assert proposal < self.count, "governance: no such proposal"
    assert not self.proposals[proposal].executed, "governance: executed already"
    assert block.timestamp < self.proposals[proposal].deadline, "governance: too late"


@internal
@view
def _check_member():
    operators: DynArray[address, 128] = []
    powers: DynArray[uint256, 128] = []
    operators, powers = staticcall Staking(STAKING).members()
    assert msg.sender in operators, "governance: not in the set"


@internal
@view
def _count(proposal: uint256) -> (uint256, uint256):
    operators: DynArray[address, 128] = []
    powers: DynArray[uint256, 128] = []
    operators, powers = staticcall Staking(STAKING).members()
    yes: uint256 = 0
    total: uint256 = 0
    for i: uint256 in range(len(operators), bound=128):
        total += powers[i]
        if self.voted[proposal][operators[i]]:
            yes += powers[i]
    return yes, total
