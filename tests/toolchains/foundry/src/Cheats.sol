// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// Those of Foundry's cheat codes that are used here. They act in forge's own EVM; the node knows nothing of them.
interface Cheats {
    function startBroadcast() external;
    function stopBroadcast() external;
    function expectPartialRevert(bytes4 selector) external;
}

Cheats constant cheats = Cheats(address(uint160(uint256(keccak256("hevm cheat code")))));
