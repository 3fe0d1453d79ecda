// ethers 6, unchanged, against a running node.
import {
  Contract,
  ContractFactory,
  JsonRpcProvider,
  Wallet,
  WebSocketProvider,
  decodeRlp,
  encodeRlp,
  keccak256,
  parseEther,
  parseUnits,
  verifyMessage,
  verifyTypedData,
  zeroPadValue,
} from "ethers";
import { artifact, check, expect, expectEqual, httpUrl, receiverKey, senderKey, within, wsUrl } from "./harness.mjs";
import { verifyAccountProof } from "./proof.mjs";

const provider = new JsonRpcProvider(httpUrl, undefined, { pollingInterval: 100, cacheTimeout: -1 });
const sender = new Wallet(senderKey, provider);
const receiver = new Wallet(receiverKey, provider);
const SUPPLY = parseEther("1000");

async function sendAndCheck(request, type) {
  const sent = await sender.sendTransaction(request);
  const receipt = await sent.wait();
  expectEqual([receipt.status, receipt.type, sent.type], [1, type, type], "status and types");
  const found = await provider.getTransaction(sent.hash);
  expectEqual([found.from, found.type, found.blockNumber], [sender.address, type, receipt.blockNumber], "transaction");
  return { gasUsed: receipt.gasUsed };
}

async function deploy(name, ...parameters) {
  const { abi, bytecode } = artifact(name);
  const contract = await new ContractFactory(abi, bytecode, sender).deploy(...parameters);
  await contract.waitForDeployment();
  expect((await provider.getCode(await contract.getAddress())).length > 2, "no code at the new contract");
  return contract;
}

async function refusal(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error("expected a revert");
}

let token;
let item;

await check("chain", async () => {
  const network = await provider.getNetwork();
  const block = await provider.getBlock("latest");
  expect(block.hash.length === 66 && block.baseFeePerGas > 0n, "the latest block has a hash and a base fee");
  return { chainId: network.chainId };
});

await check("balance", async () => {
  expect((await provider.getBalance(sender.address)) > parseEther("1"), "the sender is funded");
  expectEqual(await provider.getBalance("0x00000000000000000000000000000000000000aa"), 0n, "an unused account");
});

await check("fee-history", async () => {
  const history = await provider.send("eth_feeHistory", ["0x4", "latest", [10, 50]]);
  expectEqual(history.baseFeePerGas.length, history.gasUsedRatio.length + 1, "one more base fee than blocks");
  const fees = await provider.getFeeData();
  expect(fees.maxFeePerGas >= fees.maxPriorityFeePerGas, "fee data");
});

await check("transfer-legacy", async () => {
  const { gasPrice } = await provider.getFeeData();
  return sendAndCheck({ to: receiver.address, value: 1n, type: 0, gasPrice: gasPrice * 2n }, 0);
});

await check("transfer-2930", async () => {
  const { gasPrice } = await provider.getFeeData();
  const accessList = [{ address: receiver.address, storageKeys: [`0x${"00".repeat(32)}`] }];
  return sendAndCheck({ to: receiver.address, value: 1n, type: 1, gasPrice: gasPrice * 2n, accessList }, 1);
});

await check("transfer-1559", async () => {
  const before = await provider.getBalance(receiver.address);
  await sendAndCheck({ to: receiver.address, value: 12345n }, 2);
  expectEqual((await provider.getBalance(receiver.address)) - before, 12345n, "what arrived");
});

await check("deploy-erc20", async () => {
  token = await deploy("TestToken", SUPPLY);
  expectEqual(await token.balanceOf(sender.address), SUPPLY, "the supply");
  expectEqual([await token.name(), await token.symbol()], ["Test Token", "TST"], "name and symbol");
});

await check("erc20-transfer", async () => {
  const receipt = await (await token.transfer(receiver.address, 1_000n)).wait();
  expectEqual(await token.balanceOf(receiver.address), 1_000n, "the receiver's tokens");
  expectEqual(receipt.logs[0].fragment.name, "Transfer", "the decoded log");
  await (await token.connect(receiver).approve(sender.address, 400n)).wait();
  await (await token.transferFrom(receiver.address, sender.address, 300n)).wait();
  expectEqual(await token.allowance(receiver.address, sender.address), 100n, "what is left of the allowance");
});

await check("deploy-erc721", async () => {
  item = await deploy("TestItem");
  await (await item.mint(sender.address)).wait();
  await (await item["safeTransferFrom(address,address,uint256)"](sender.address, receiver.address, 1n)).wait();
  expectEqual(await item.ownerOf(1n), receiver.address, "the owner");
});

await check("logs", async () => {
  const transfers = await token.queryFilter(token.filters.Transfer(null, receiver.address), 0, "latest");
  expectEqual(transfers.length, 1, "transfers to the receiver");
  expectEqual([transfers[0].args.from, transfers[0].args.value], [sender.address, 1_000n], "arguments");
  const minted = await item.queryFilter(item.filters.Transfer(), 0, "latest");
  expectEqual(minted.length, 2, "a mint and a transfer of the item");
});

await check("filter-polling", async () => {
  // Over HTTP ethers listens through eth_newFilter and eth_getFilterChanges.
  const event = new Promise((resolve, reject) => {
    token.once("Transfer", (from, to, value) => resolve(value)).catch(reject);
  });
  await (await token.transfer(receiver.address, 33n)).wait();
  expectEqual(await within(event, "the event", 20_000), 33n, "the event's value");
  const blocks = await provider.send("eth_newBlockFilter", []);
  const { hash } = await (await token.transfer(receiver.address, 1n)).wait();
  const { blockHash } = await provider.getTransactionReceipt(hash);
  expect((await provider.send("eth_getFilterChanges", [blocks])).includes(blockHash), "the block's hash");
  expectEqual(await provider.send("eth_uninstallFilter", [blocks]), true, "uninstalled");
});

await check("state-override", async () => {
  const call = { to: await token.getAddress(), data: token.interface.encodeFunctionData("totalSupply") };
  const override = { [call.to]: { stateDiff: { [zeroPadValue("0x02", 32)]: zeroPadValue("0x07", 32) } } };
  expectEqual(BigInt(await provider.send("eth_call", [call, "latest", override])), 7n, "the overridden supply");
  expectEqual(await token.totalSupply(), SUPPLY, "the supply");
});

await check("simulate-blocks", async () => {
  const [from, to] = [sender.address, await token.getAddress()];
  const spend = token.interface.encodeFunctionData("transfer", [receiver.address, 7n]);
  const ask = token.interface.encodeFunctionData("balanceOf", [receiver.address]);
  const before = await token.balanceOf(receiver.address);
  const [first, second] = await provider.send("eth_simulateV1", [
    { blockStateCalls: [{ calls: [{ from, to, input: spend }] }, { calls: [{ from, to, input: ask }] }] },
    "latest",
  ]);
  expectEqual(token.interface.parseLog(first.calls[0].logs[0]).args.value, 7n, "the simulated Transfer");
  expectEqual(BigInt(second.calls[0].returnData), before + 7n, "the balance in the next block");
  expectEqual(await token.balanceOf(receiver.address), before, "the balance itself");
});

await check("send-and-wait", async () => {
  const request = await sender.populateTransaction({ to: receiver.address, value: 3n });
  const receipt = await provider.send("eth_sendRawTransactionSync", [await sender.signTransaction(request)]);
  expectEqual([receipt.status, receipt.to], ["0x1", receiver.address.toLowerCase()], "the receipt");
});

await check("trace", async () => {
  const receipt = await (await token.transfer(receiver.address, 4n)).wait();
  const call = await provider.send("debug_traceTransaction", [receipt.hash, { tracer: "callTracer", tracerConfig: { withLog: true } }]);
  const [from, to] = [sender.address, await token.getAddress()].map((address) => address.toLowerCase());
  expectEqual([call.type, call.from, call.to, BigInt(call.gasUsed)], ["CALL", from, to, receipt.gasUsed], "the call");
  expectEqual(token.interface.parseLog(call.logs[0]).args.value, 4n, "the traced Transfer");
  const steps = await provider.send("debug_traceTransaction", [receipt.hash]);
  expectEqual([steps.failed, BigInt(steps.gas)], [false, receipt.gasUsed], "the struct logger's result");
  expectEqual(steps.structLogs[0].op, "PUSH1", "the first step");
  const before = await provider.send("debug_traceTransaction", [receipt.hash, { tracer: "prestateTracer" }]);
  expect(from in before && to in before, "the accounts that were touched");
});

await check("unlocked-account", async () => {
  const unlocked = await provider.getSigner(sender.address);
  const receipt = await (await unlocked.sendTransaction({ to: receiver.address, value: 1n })).wait();
  expectEqual([receipt.status, receipt.from], [1, sender.address], "status and sender");
  expectEqual(verifyMessage("hello", await unlocked.signMessage("hello")), sender.address, "who signed the message");
  const domain = { name: "devnet", chainId: (await provider.getNetwork()).chainId };
  const types = { Order: [{ name: "item", type: "string" }, { name: "count", type: "uint256" }] };
  const order = { item: "eSIM", count: 2n };
  const signature = await unlocked.signTypedData(domain, types, order);
  expectEqual(verifyTypedData(domain, types, order, signature), sender.address, "who signed the order");
  const mined = await (await token.connect(unlocked).transfer(receiver.address, 2n)).wait();
  expectEqual(mined.logs[0].fragment.name, "Transfer", "the decoded log");
});

await check("custom-error", async () => {
  const tooMuch = SUPPLY * 2n;
  const called = await refusal(token.transfer.staticCall(receiver.address, tooMuch));
  expectEqual([called.code, called.revert?.name], ["CALL_EXCEPTION", "ERC20InsufficientBalance"], "the decoded error");
  expectEqual(called.revert.args[2], tooMuch, "its argument `needed`");
  // For an estimate ethers passes the revert data on without decoding it.
  const estimated = await refusal(token.transfer.estimateGas(receiver.address, tooMuch));
  expectEqual(estimated.code, "CALL_EXCEPTION", "the estimate's error");
  expectEqual(token.interface.parseError(estimated.data)?.name, "ERC20InsufficientBalance", "the estimate's revert data");
});

await check("set-code-7702", async () => {
  const counter = await deploy("Counter");
  const target = await counter.getAddress();
  const authority = Wallet.createRandom().connect(provider); // Owns nothing: the sender pays.
  const authorization = await authority.authorize({ address: target });
  const data = counter.interface.encodeFunctionData("increase", [7n]);
  await sendAndCheck({ type: 4, to: authority.address, data, authorizationList: [authorization] }, 4);
  expectEqual(await provider.getCode(authority.address), `0xef0100${target.slice(2).toLowerCase()}`, "the delegation");
  expectEqual(await new Contract(authority.address, counter.interface, provider).value(), 7n, "the account's own storage");
  expectEqual(await counter.value(), 0n, "the contract's storage");
  // And back: a delegation to the zero address clears the code.
  const cleared = await authority.authorize({ address: `0x${"00".repeat(20)}` });
  await sendAndCheck({ type: 4, to: sender.address, authorizationList: [cleared] }, 4);
  expectEqual(await provider.getCode(authority.address), "0x", "the cleared delegation");
});

await check("proof", async () => {
  const number = await provider.getBlockNumber();
  const { stateRoot } = await provider.getBlock(number);
  const library = { keccak256, decodeRlp, encodeRlp };
  const slots = [zeroPadValue("0x00", 32), zeroPadValue("0x02", 32), `0x${"ab".repeat(32)}`];
  for (const address of [await token.getAddress(), sender.address, "0x00000000000000000000000000000000000000aa"]) {
    const answer = await provider.send("eth_getProof", [address, slots, `0x${number.toString(16)}`]);
    if (address.endsWith("aa")) {
      expectEqual([answer.balance, answer.nonce], ["0x0", "0x0"], "an account that does not exist");
    } else {
      verifyAccountProof(stateRoot, answer, library);
    }
  }
  const supply = await provider.send("eth_getProof", [await token.getAddress(), [slots[1]], `0x${number.toString(16)}`]);
  expectEqual(BigInt(supply.storageProof[0].value), SUPPLY, "slot 2 of the token is its supply");
});

await check("websocket-new-heads", async () => {
  const socket = new WebSocketProvider(wsUrl);
  try {
    const heads = [];
    const two = new Promise((resolve) => socket.on("block", (number) => heads.push(number) === 2 && resolve()));
    await within(socket.getBlockNumber(), "the socket's first answer", 10_000);
    await sendAndCheck({ to: receiver.address, value: 1n }, 2);
    await sendAndCheck({ to: receiver.address, value: 1n }, 2);
    await within(two, "two heads", 20_000);
    expect(heads[1] > heads[0], `heads rise: ${heads}`);
  } finally {
    await socket.destroy();
  }
});

await check("websocket-logs", async () => {
  const socket = new WebSocketProvider(wsUrl);
  try {
    const heard = new Contract(await token.getAddress(), token.interface, socket);
    const event = new Promise((resolve) => heard.on("Transfer", (from, to, value) => resolve({ from, to, value })));
    await within(socket.send("eth_blockNumber", []), "the socket's first answer", 10_000);
    await (await token.transfer(receiver.address, 77n)).wait();
    const { to, value } = await within(event, "the log", 20_000);
    expectEqual([to, value], [receiver.address, 77n], "the event's arguments");
  } finally {
    await socket.destroy();
  }
});

await check("refused-transaction", async () => {
  const nonce = await provider.getTransactionCount(sender.address);
  const tooLow = await refusal(sender.sendTransaction({ to: receiver.address, value: 1n, nonce: nonce - 1, gasLimit: 21_000n }));
  expectEqual(tooLow.code, "NONCE_EXPIRED", "ethers' name for a used nonce");
  const poor = Wallet.createRandom().connect(provider);
  const fee = { maxFeePerGas: parseUnits("10", "gwei"), maxPriorityFeePerGas: 1n };
  const funds = await refusal(poor.sendTransaction({ to: receiver.address, value: 1n, gasLimit: 21_000n, ...fee }));
  expectEqual(funds.code, "INSUFFICIENT_FUNDS", "ethers' name for a poor sender");
});

provider.destroy();
