# pragma version 0.4.3
"""
@title A number that anybody may increase
@notice The contract of the README's tour.
"""

event Increased:
    by: indexed(address)
    value: uint256

LARGEST_STEP: constant(uint256) = 10

value: public(uint256)


@external
def increase(step: uint256):
    """
    @notice Add to the number.
    @param step How much; at most 10.
    """
    assert step <= LARGEST_STEP, "Counter: step too large"
    self.value += step
    log Increased(by=msg.sender, value=self.value)
