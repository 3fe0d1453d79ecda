// hardhat 3 with hardhat-ethers and node's test runner, unchanged, against a running devnet.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { network } from "hardhat";

const SUPPLY = 1_000n * 10n ** 18n;
const ACCOUNT = 7; // of the devnet's; no other client uses it

for (const name of ["unlocked", "keyed"]) {
  describe(`${name} accounts`, async () => {
    const { ethers, provider } = await network.create({ network: name });
    const signers = await ethers.getSigners();
    const owner = signers[name === "unlocked" ? ACCOUNT : 0];
    const other = ethers.Wallet.createRandom().address;

    it("has its accounts", () => {
      assert.equal(signers.length, name === "unlocked" ? 10 : 1);
    });

    it("deploys an ERC-20 and transfers", async () => {
      const token = await ethers.deployContract("TestToken", [SUPPLY], owner);
      await token.waitForDeployment();
      assert.equal(await token.balanceOf(owner.address), SUPPLY);
      const receipt = await (await token.transfer(other, 5n)).wait();
      assert.equal(receipt.status, 1);
      assert.equal(receipt.logs[0].fragment.name, "Transfer");
      assert.equal(await token.balanceOf(other), 5n);
      const events = await token.queryFilter(token.filters.Transfer(owner.address), receipt.blockNumber);
      assert.equal(events.length, 1);
    });

    it("deploys an ERC-721 and mints", async () => {
      const item = await ethers.deployContract("TestItem", [], owner);
      await (await item.mint(owner.address)).wait();
      assert.equal(await item.ownerOf(1n), owner.address);
    });

    it("decodes a custom error", async () => {
      const counter = await ethers.deployContract("Counter", [], owner);
      await assert.rejects(counter.increase(11n), (error) => {
        const found = error.revert ?? counter.interface.parseError(error.data ?? error.error?.data ?? "0x");
        assert.equal(found?.name, "StepTooLarge");
        return true;
      });
    });

    it("sends value and signs", async () => {
      const before = await ethers.provider.getBalance(other);
      await (await owner.sendTransaction({ to: other, value: 7n })).wait();
      assert.equal((await ethers.provider.getBalance(other)) - before, 7n);
      const signature = await owner.signMessage("hello");
      assert.equal(ethers.verifyMessage("hello", signature), owner.address);
      const domain = { name: "devnet", chainId: (await ethers.provider.getNetwork()).chainId };
      const types = { Order: [{ name: "item", type: "string" }, { name: "count", type: "uint256" }] };
      const order = { item: "eSIM", count: 2n };
      const typed = await owner.signTypedData(domain, types, order);
      assert.equal(ethers.verifyTypedData(domain, types, order, typed), owner.address);
    });

    it("is told that there are no cheats", async () => {
      for (const method of ["hardhat_mine", "evm_snapshot", "anvil_setBalance"]) {
        await assert.rejects(provider.request({ method, params: [] }), (error) => error.code === -32601);
      }
    });
  });
}
