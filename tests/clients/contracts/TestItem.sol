// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {ERC721} from "@openzeppelin/contracts/token/ERC721/ERC721.sol";

/// An ERC-721 that anybody may mint from, numbered from 1.
contract TestItem is ERC721 {
    uint256 public minted;

    constructor() ERC721("Test Item", "ITM") {}

    function mint(address to) external returns (uint256 tokenId) {
        tokenId = ++minted;
        _mint(to, tokenId);
    }
}
