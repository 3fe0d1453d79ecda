// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {cheats} from "../src/Cheats.sol";
import {Token} from "../src/Token.sol";

/// Runs in forge's EVM on the devnet's state.
contract ForkTest {
    /// The devnet's account (0).
    address constant FUNDED = 0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266;
    address constant OTHER = address(0xAA);

    function test_fork_has_the_devnets_accounts_and_chain_id() external view {
        require(block.chainid == 1095519812, "another chain");
        require(FUNDED.balance > 1 ether, "the account is not funded");
    }

    function test_a_token_deployed_on_the_fork_moves_and_refuses() external {
        Token token = new Token(100);
        token.transfer(OTHER, 60);
        require(token.balanceOf(OTHER) == 60, "not transferred");
        cheats.expectPartialRevert(IERC20Errors.ERC20InsufficientBalance.selector);
        token.transfer(OTHER, 60);
    }
}
