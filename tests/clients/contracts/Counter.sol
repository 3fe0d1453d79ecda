// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// The README's tour: one number, one event, one custom error. Also what EIP-7702 accounts delegate to.
contract Counter {
    error StepTooLarge(uint256 step, uint256 largest);

    event Increased(address indexed by, uint256 value);

    uint256 public value;

    function increase(uint256 step) external {
        if (step > 10) revert StepTooLarge(step, 10);
        value += step;
        emit Increased(msg.sender, value);
    }
}
