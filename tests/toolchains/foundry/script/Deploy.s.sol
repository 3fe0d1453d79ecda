// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {cheats} from "../src/Cheats.sol";
import {Token} from "../src/Token.sol";

/// Deploys a token and sends some of it on: two transactions.
contract Deploy {
    function run() external returns (Token token) {
        cheats.startBroadcast();
        token = new Token(1000 ether);
        token.transfer(address(0xAA), 1 ether);
        cheats.stopBroadcast();
    }
}
