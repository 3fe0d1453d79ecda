// A hardhat project on a running devnet: its unlocked accounts, or a key of its own. Compiles with the solc of
// package.json, so that nothing is fetched.
import hardhatEthers from "@nomicfoundation/hardhat-ethers";
import hardhatNodeTestRunner from "@nomicfoundation/hardhat-node-test-runner";
import { createRequire } from "node:module";
import { defineConfig } from "hardhat/config";

const { DEVNET_URL: url = "http://127.0.0.1:8545", DEVNET_KEY: key } = process.env;
const soljson = createRequire(import.meta.url).resolve("solc/soljson.js");

export default defineConfig({
  plugins: [hardhatEthers, hardhatNodeTestRunner],
  solidity: { version: "0.8.37", path: soljson },
  paths: { sources: "./contracts", tests: "./hardhat", artifacts: "./artifacts/hardhat", cache: "./artifacts/hardhat-cache" },
  networks: {
    unlocked: { type: "http", chainType: "l1", url, accounts: "remote" },
    keyed: { type: "http", chainType: "l1", url, accounts: key ? [key] : [] },
  },
});
