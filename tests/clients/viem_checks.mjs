// viem 2, unchanged, against a running node.
import {
  BaseError,
  ContractFunctionRevertedError,
  createPublicClient,
  createWalletClient,
  decodeFunctionData,
  defineChain,
  encodeFunctionData,
  fromRlp,
  getAddress,
  getContract,
  http,
  InsufficientFundsError,
  keccak256,
  NonceTooLowError,
  numberToHex,
  parseEther,
  parseEventLogs,
  parseGwei,
  toRlp,
  verifyMessage,
  verifyTypedData,
  webSocket,
} from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { artifact, check, expect, expectEqual, httpUrl, receiverKey, senderKey, within, wsUrl } from "./harness.mjs";
import { verifyAccountProof } from "./proof.mjs";

const sender = privateKeyToAccount(senderKey);
const receiver = privateKeyToAccount(receiverKey);
const chainId = await createPublicClient({ transport: http(httpUrl) }).getChainId();
const chain = defineChain({
  id: chainId,
  name: "devnet",
  nativeCurrency: { name: "BWT", symbol: "BWT", decimals: 18 },
  rpcUrls: { default: { http: [httpUrl], webSocket: [wsUrl] } },
});
const client = createPublicClient({ chain, transport: http(), pollingInterval: 100, cacheTime: 0 });
const wallet = createWalletClient({ chain, account: sender, transport: http() });
const otherWallet = createWalletClient({ chain, account: receiver, transport: http() });
const SUPPLY = parseEther("1000");

async function sendAndCheck(request, type) {
  const hash = await wallet.sendTransaction(request);
  const receipt = await client.waitForTransactionReceipt({ hash });
  expectEqual([receipt.status, receipt.type], ["success", type], "status and type");
  const found = await client.getTransaction({ hash });
  expectEqual([getAddress(found.from), found.type], [sender.address, type], "transaction");
  return receipt;
}

async function deploy(name, ...args) {
  const { abi, bytecode } = artifact(name);
  const hash = await wallet.deployContract({ abi, bytecode, args });
  const { contractAddress, status } = await client.waitForTransactionReceipt({ hash });
  expectEqual(status, "success", "deployment");
  return getContract({ address: contractAddress, abi, client: { public: client, wallet } });
}

async function mined(hash) {
  const receipt = await client.waitForTransactionReceipt({ hash });
  expectEqual(receipt.status, "success", "status");
  return receipt;
}

async function refusal(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error("expected a refusal");
}

let token;
let item;

await check("chain", async () => {
  const block = await client.getBlock();
  expect(block.hash.length === 66 && block.baseFeePerGas > 0n, "the latest block has a hash and a base fee");
  const finalized = await client.getBlock({ blockTag: "finalized" });
  expect(finalized.number >= block.number, "final at once");
  return { chainId };
});

await check("balance", async () => {
  expect((await client.getBalance({ address: sender.address })) > parseEther("1"), "the sender is funded");
  expectEqual(await client.getBalance({ address: "0x00000000000000000000000000000000000000aa" }), 0n, "an unused account");
});

await check("fee-history", async () => {
  const history = await client.getFeeHistory({ blockCount: 4, rewardPercentiles: [10, 50] });
  expectEqual(history.baseFeePerGas.length, history.gasUsedRatio.length + 1, "one more base fee than blocks");
  const fees = await client.estimateFeesPerGas();
  expect(fees.maxFeePerGas >= fees.maxPriorityFeePerGas, "fees");
});

await check("transfer-legacy", async () => {
  const gasPrice = (await client.getGasPrice()) * 2n;
  await sendAndCheck({ to: receiver.address, value: 1n, type: "legacy", gasPrice }, "legacy");
});

await check("transfer-2930", async () => {
  const gasPrice = (await client.getGasPrice()) * 2n;
  const accessList = [{ address: receiver.address, storageKeys: [`0x${"00".repeat(32)}`] }];
  await sendAndCheck({ to: receiver.address, value: 1n, type: "eip2930", gasPrice, accessList }, "eip2930");
});

await check("transfer-1559", async () => {
  const before = await client.getBalance({ address: receiver.address });
  await sendAndCheck({ to: receiver.address, value: 12345n }, "eip1559");
  expectEqual((await client.getBalance({ address: receiver.address })) - before, 12345n, "what arrived");
});

await check("deploy-erc20", async () => {
  token = await deploy("TestToken", SUPPLY);
  expectEqual(await token.read.balanceOf([sender.address]), SUPPLY, "the supply");
  expectEqual([await token.read.name(), await token.read.symbol()], ["Test Token", "TST"], "name and symbol");
});

await check("erc20-transfer", async () => {
  const receipt = await mined(await token.write.transfer([receiver.address, 1_000n]));
  expectEqual(await token.read.balanceOf([receiver.address]), 1_000n, "the receiver's tokens");
  const [event] = parseEventLogs({ abi: token.abi, logs: receipt.logs });
  expectEqual([event.eventName, event.args.value], ["Transfer", 1_000n], "the decoded log");
  const { request } = await client.simulateContract({
    address: token.address,
    abi: token.abi,
    functionName: "approve",
    args: [sender.address, 400n],
    account: receiver,
  });
  await mined(await otherWallet.writeContract(request));
  await mined(await token.write.transferFrom([receiver.address, sender.address, 300n]));
  expectEqual(await token.read.allowance([receiver.address, sender.address]), 100n, "what is left of the allowance");
});

await check("deploy-erc721", async () => {
  item = await deploy("TestItem");
  await mined(await item.write.mint([sender.address]));
  await mined(await item.write.safeTransferFrom([sender.address, receiver.address, 1n]));
  expectEqual(await item.read.ownerOf([1n]), receiver.address, "the owner");
});

await check("logs", async () => {
  const transfers = await token.getEvents.Transfer({ to: receiver.address }, { fromBlock: 0n, toBlock: "latest" });
  expectEqual(transfers.length, 1, "transfers to the receiver");
  expectEqual([transfers[0].args.from, transfers[0].args.value], [sender.address, 1_000n], "arguments");
  const events = await client.getContractEvents({ address: item.address, abi: item.abi, eventName: "Transfer", fromBlock: 0n });
  expectEqual(events.length, 2, "a mint and a transfer of the item");
});

await check("filter-polling", async () => {
  const filter = await client.createContractEventFilter({ address: token.address, abi: token.abi, eventName: "Transfer" });
  await mined(await token.write.transfer([receiver.address, 33n]));
  const [event] = await client.getFilterChanges({ filter });
  expectEqual([event.args.to, event.args.value], [receiver.address, 33n], "the event's arguments");
  expectEqual((await client.getFilterChanges({ filter })).length, 0, "nothing new");
  expectEqual((await client.getFilterLogs({ filter })).length, 1, "logs since the filter was made");
  expectEqual(await client.uninstallFilter({ filter }), true, "uninstalled");
  const blocks = await client.createBlockFilter();
  const { blockHash } = await mined(await token.write.transfer([receiver.address, 1n]));
  expect((await client.getFilterChanges({ filter: blocks })).includes(blockHash), "the block's hash");
});

await check("state-override", async () => {
  const slot = numberToHex(2, { size: 32 });
  const stateOverride = [{ address: token.address, stateDiff: [{ slot, value: numberToHex(7, { size: 32 }) }] }];
  const call = { address: token.address, abi: token.abi, functionName: "totalSupply" };
  expectEqual(await client.readContract({ ...call, stateOverride }), 7n, "the overridden supply");
  expectEqual(await client.readContract(call), SUPPLY, "the supply");
  const rich = [{ address: "0x00000000000000000000000000000000000000aa", balance: parseEther("5") }];
  const spend = { account: rich[0].address, to: receiver.address, value: parseEther("4") };
  expectEqual(await client.estimateGas({ ...spend, stateOverride: rich }), 21_000n, "the gas of money that is not there");
});

await check("simulate-blocks", async () => {
  const probe = "0x00000000000000000000000000000000000a11ce";
  const blocks = await client.simulateBlocks({
    blocks: [
      { calls: [{ account: sender.address, to: probe, value: parseEther("1") }] },
      {
        blockOverrides: { gasLimit: 1_000_000n },
        stateOverrides: [{ address: probe, balance: 5n }],
        calls: [{ account: sender.address, abi: token.abi, to: token.address, functionName: "balanceOf", args: [probe] }],
      },
    ],
    traceTransfers: true,
  });
  expectEqual(blocks[0].calls[0].logs.length, 1, "the transfer's log");
  expectEqual(blocks[1].parentHash, blocks[0].hash, "the chain of simulated blocks");
  expectEqual([blocks[1].gasLimit, blocks[1].calls[0].result], [1_000_000n, 0n], "the second block");
  const { assetChanges, results } = await client.simulateCalls({
    account: sender.address,
    calls: [{ to: probe, value: 5n }],
    traceAssetChanges: true,
  });
  expectEqual([results[0].status, assetChanges[0].value.diff], ["success", -5n], "the sender's loss");
});

await check("send-and-wait", async () => {
  const request = await wallet.prepareTransactionRequest({ to: receiver.address, value: 3n });
  const serializedTransaction = await wallet.signTransaction(request);
  const receipt = await client.sendRawTransactionSync({ serializedTransaction });
  expectEqual([receipt.status, receipt.to], ["success", receiver.address.toLowerCase()], "the receipt");
});

await check("trace", async () => {
  const receipt = await mined(await token.write.transfer([receiver.address, 4n]));
  const trace = (options) => client.request({ method: "debug_traceTransaction", params: [receipt.transactionHash, options] });
  const call = await trace({ tracer: "callTracer" });
  expectEqual([getAddress(call.from), BigInt(call.gasUsed)], [sender.address, receipt.gasUsed], "the call");
  const { functionName, args } = decodeFunctionData({ abi: token.abi, data: call.input });
  expectEqual([functionName, args[1]], ["transfer", 4n], "the decoded input");
  const { pre, post } = await trace({ tracer: "prestateTracer", tracerConfig: { diffMode: true } });
  const slots = [pre, post].map((state) => Object.keys(state[token.address.toLowerCase()].storage).length);
  expectEqual(slots[1], 2, `both balances were written: ${slots}`);
  const reverted = { from: sender.address, to: token.address, data: encodeFunctionData({ abi: token.abi, functionName: "transfer", args: [receiver.address, SUPPLY * 2n] }) };
  const failed = await client.request({ method: "debug_traceCall", params: [reverted, "latest", { tracer: "callTracer" }] });
  expectEqual(failed.error, "execution reverted", "the traced failure");
});

await check("unlocked-account", async () => {
  const unlocked = createWalletClient({ chain, account: sender.address, transport: http() });
  expect((await unlocked.getAddresses()).includes(sender.address), "eth_accounts");
  const receipt = await mined(await unlocked.sendTransaction({ to: receiver.address, value: 1n }));
  expectEqual(getAddress(receipt.from), sender.address, "the sender");
  const message = "hello";
  const said = await unlocked.signMessage({ message });
  expect(await verifyMessage({ address: sender.address, message, signature: said }), "who signed the message");
  const typed = {
    domain: { name: "devnet", chainId },
    types: { Order: [{ name: "item", type: "string" }, { name: "count", type: "uint256" }] },
    primaryType: "Order",
    message: { item: "eSIM", count: 2n },
  };
  const signature = await unlocked.signTypedData(typed);
  expect(await verifyTypedData({ ...typed, address: sender.address, signature }), "who signed the order");
});

await check("custom-error", async () => {
  const call = { address: token.address, abi: token.abi, functionName: "transfer", args: [receiver.address, SUPPLY * 2n], account: sender };
  for (const attempt of [client.simulateContract, client.estimateContractGas]) {
    const error = await refusal(attempt(call));
    expect(error instanceof BaseError, `a viem error, not ${error}`);
    const reverted = error.walk((inner) => inner instanceof ContractFunctionRevertedError);
    expectEqual(reverted?.data?.errorName, "ERC20InsufficientBalance", "the decoded error");
    expectEqual(reverted.data.args[2], SUPPLY * 2n, "its argument `needed`");
  }
});

await check("set-code-7702", async () => {
  const counter = await deploy("Counter");
  const authority = privateKeyToAccount(generatePrivateKey()); // Owns nothing: the sender pays.
  const authorityWallet = createWalletClient({ chain, account: authority, transport: http() });
  const authorization = await authorityWallet.signAuthorization({ contractAddress: counter.address });
  const data = encodeFunctionData({ abi: counter.abi, functionName: "increase", args: [7n] });
  await sendAndCheck({ to: authority.address, data, authorizationList: [authorization] }, "eip7702");
  const code = await client.getCode({ address: authority.address });
  expectEqual(code, `0xef0100${counter.address.slice(2).toLowerCase()}`, "the delegation");
  const value = await client.readContract({ address: authority.address, abi: counter.abi, functionName: "value" });
  expectEqual(value, 7n, "the account's own storage");
  // And back: a delegation to the zero address clears the code.
  const cleared = await authorityWallet.signAuthorization({ contractAddress: `0x${"00".repeat(20)}` });
  await sendAndCheck({ to: sender.address, authorizationList: [cleared] }, "eip7702");
  expectEqual(await client.getCode({ address: authority.address }), undefined, "the cleared delegation");
});

await check("proof", async () => {
  const block = await client.getBlock();
  const library = { keccak256, decodeRlp: (raw) => fromRlp(raw, "hex"), encodeRlp: toRlp };
  const slots = [...[0, 2].map((slot) => numberToHex(slot, { size: 32 })), `0x${"ab".repeat(32)}`];
  for (const address of [token.address, sender.address]) {
    const answer = await client.request({
      method: "eth_getProof",
      params: [address, slots, numberToHex(block.number)],
    });
    verifyAccountProof(block.stateRoot, answer, library);
  }
  const proof = await client.getProof({ address: token.address, storageKeys: [slots[1]], blockNumber: block.number });
  expectEqual(proof.storageProof[0].value, SUPPLY, "slot 2 of the token is its supply");
});

await check("websocket-new-heads", async () => {
  const socket = createPublicClient({ chain, transport: webSocket(wsUrl) });
  const heads = [];
  let stop = () => {};
  const two = new Promise((resolve, reject) => {
    stop = socket.watchBlocks({ onBlock: (block) => heads.push(block.number) === 2 && resolve(), onError: reject });
  });
  try {
    await within(socket.getBlockNumber(), "the socket's first answer", 10_000);
    await sendAndCheck({ to: receiver.address, value: 1n }, "eip1559");
    await sendAndCheck({ to: receiver.address, value: 1n }, "eip1559");
    await within(two, "two heads", 20_000);
    expect(heads[1] !== heads[0], `two heads: ${heads}`); // viem fetches each block, so they may come in either order
  } finally {
    stop();
    (await socket.transport.getRpcClient()).close();
  }
});

await check("websocket-logs", async () => {
  const socket = createPublicClient({ chain, transport: webSocket(wsUrl) });
  let stop = () => {};
  const event = new Promise((resolve, reject) => {
    const filter = { address: token.address, abi: token.abi, eventName: "Transfer" };
    stop = socket.watchContractEvent({ ...filter, onLogs: (logs) => resolve(logs[0].args), onError: reject });
  });
  try {
    await within(socket.getBlockNumber(), "the socket's first answer", 10_000);
    await mined(await token.write.transfer([receiver.address, 77n]));
    const { to, value } = await within(event, "the log", 20_000);
    expectEqual([to, value], [receiver.address, 77n], "the event's arguments");
  } finally {
    stop();
    (await socket.transport.getRpcClient()).close();
  }
});

await check("refused-transaction", async () => {
  const nonce = await client.getTransactionCount({ address: sender.address });
  const used = await refusal(wallet.sendTransaction({ to: receiver.address, value: 1n, nonce: nonce - 1, gas: 21_000n }));
  expect(used.walk((inner) => inner instanceof NonceTooLowError), `viem's NonceTooLowError, found ${used}`);
  const poor = createWalletClient({ chain, account: privateKeyToAccount(generatePrivateKey()), transport: http() });
  const fee = { maxFeePerGas: parseGwei("10"), maxPriorityFeePerGas: 1n };
  const funds = await refusal(poor.sendTransaction({ to: receiver.address, value: 1n, gas: 21_000n, nonce: 0, ...fee }));
  expect(funds.walk((inner) => inner instanceof InsufficientFundsError), `viem's InsufficientFundsError, found ${funds}`);
});
