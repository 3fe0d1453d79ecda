// The status handshake by js-libp2p, as a second implementation of it: written from docs/specification.md alone, with
// keccak and the encoding by its own code. It dials a node, asks for its status, judges it by its own genesis and then
// shows its own; what it finds, it tells by JSON lines.
//
//   node status_peer.mjs ADDRESS '{"genesis": HEX, "forks": [[HEIGHT, NAME], ...], "height": HEIGHT}'
//   out: {"event": "judged", "welcome": BOOL, "why": TEXT, "status": {...}}   {"event": "shown", "welcome", "why"}
//        {"event": "closed"}
import { noise } from "@chainsafe/libp2p-noise";
import { yamux } from "@chainsafe/libp2p-yamux";
import { identify } from "@libp2p/identify";
import { tcp } from "@libp2p/tcp";
import { multiaddr } from "@multiformats/multiaddr";
import { createLibp2p } from "libp2p";

const STATUS = "/astralink/status/1";
const VERSION = 1;
const MAX_MESSAGE_BYTES = 2_048;

const [address, chainText] = process.argv.slice(2);
const chain = JSON.parse(chainText);
const genesis = Buffer.from(chain.genesis, "hex");

class BadMessage extends Error {}

function tell(event) {
  console.log(JSON.stringify(event));
}

// --- Keccak-256 (FIPS 202's permutation, with the padding from before it) -----------------------------------------

const LANE = (1n << 64n) - 1n;
const rotate = (lane, by) => (by === 0n ? lane : ((lane << by) | (lane >> (64n - by))) & LANE);

function permute(lanes) {
  let shift = 1;
  for (let round = 0; round < 24; round += 1) {
    const columns = [0, 1, 2, 3, 4].map((x) => [0, 5, 10, 15, 20].reduce((sum, y) => sum ^ lanes[x + y], 0n));
    const mixed = lanes.map((lane, at) => lane ^ columns[(at + 4) % 5] ^ rotate(columns[(at + 1) % 5], 1n));
    const moved = [...mixed];
    for (let step = 0, x = 1, y = 0; step < 24; step += 1) {
      const from = x + 5 * y;
      [x, y] = [y, (2 * x + 3 * y) % 5];
      moved[x + 5 * y] = rotate(mixed[from], BigInt((((step + 1) * (step + 2)) / 2) % 64));
    }
    for (let at = 0; at < 25; at += 1) {
      const row = at - (at % 5);
      lanes[at] = moved[at] ^ (~moved[row + ((at + 1) % 5)] & LANE & moved[row + ((at + 2) % 5)]);
    }
    for (let bit = 0; bit < 7; bit += 1) {
      if (shift & 1) lanes[0] ^= 1n << BigInt((1 << bit) - 1);
      shift = (shift << 1) ^ (shift >> 7 ? 0x171 : 0);
    }
  }
}

function keccak256(data) {
  const rate = 136;
  const padded = Buffer.alloc(data.length + rate - (data.length % rate));
  data.copy(padded);
  padded[data.length] ^= 0x01;
  padded[padded.length - 1] ^= 0x80;
  const lanes = Array(25).fill(0n);
  for (let block = 0; block < padded.length; block += rate) {
    for (let at = 0; at < rate / 8; at += 1) lanes[at] ^= padded.readBigUInt64LE(block + 8 * at);
    permute(lanes);
  }
  const digest = Buffer.alloc(32);
  for (let at = 0; at < 4; at += 1) digest.writeBigUInt64LE(lanes[at], 8 * at);
  return digest;
}

// --- The status ----------------------------------------------------------------------------------------------------

function u64(value) {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}

const short = (text) => Buffer.concat([Buffer.from([text.length]), Buffer.from(text, "ascii")]);

function forkDigest(height) {
  const active = chain.forks.filter(([from]) => from <= height).sort(([one], [other]) => one - other);
  const entries = active.map(([from, name]) => Buffer.concat([u64(from), short(name)]));
  const tag = Buffer.alloc(16);
  tag.write("ALNK:forks/v1");
  return keccak256(Buffer.concat([tag, genesis, ...entries])).subarray(0, 4);
}

function ownStatus() {
  return Buffer.concat([
    Buffer.from([VERSION]),
    genesis,
    forkDigest(chain.height),
    u64(chain.height),
    keccak256(Buffer.from("a head")),
    u64(Date.now()),
    short("status_peer.mjs"),
    Buffer.from([1]),
    short("/ip4/192.0.2.7/tcp/30400"),
  ]);
}

function decode(data) {
  let at = 0;
  const take = (length) => {
    if (at + length > data.length) throw new BadMessage(`expected ${length} bytes at ${at}, found ${data.length - at}`);
    at += length;
    return data.subarray(at - length, at);
  };
  const text = () => take(take(1)[0]).toString("ascii");
  const version = take(1)[0];
  if (version !== VERSION) throw new BadMessage(`expected version ${VERSION}, found ${version}`);
  const status = {
    genesis: take(32).toString("hex"),
    forkDigest: take(4).toString("hex"),
    height: Number(take(8).readBigUInt64BE()),
    head: take(32).toString("hex"),
    timeMs: Number(take(8).readBigUInt64BE()),
    client: text(),
    addresses: Array.from({ length: take(1)[0] }, text),
  };
  if (at !== data.length) throw new BadMessage(`expected the end, found ${data.length - at} bytes more`);
  return status;
}

function problemOf(status) {
  if (status.genesis !== chain.genesis) return `its genesis is ${status.genesis}, mine is ${chain.genesis}`;
  const expected = forkDigest(status.height).toString("hex");
  if (status.forkDigest !== expected) return `its rules are ${status.forkDigest}, mine are ${expected}`;
  return "";
}

function judge(kind, data) {
  const status = decode(data);
  const why = problemOf(status);
  tell({ event: kind, welcome: why === "", why, status });
}

// --- Messages: an unsigned varint and that many bytes; an answer is a status byte (0) and what was asked for -------

function frame(body) {
  const length = body.length < 0x80 ? [body.length] : [(body.length & 0x7f) | 0x80, body.length >> 7];
  return Buffer.concat([Buffer.from(length), body]);
}

async function* messages(stream) {
  let buffer = Buffer.alloc(0);
  for await (const piece of stream) {
    buffer = Buffer.concat([buffer, piece.subarray()]);
    for (;;) {
      const width = buffer[0] < 0x80 ? 1 : 2;
      if (buffer.length < width) break;
      const length = width === 1 ? buffer[0] : (buffer[0] & 0x7f) | (buffer[1] << 7);
      if (length > MAX_MESSAGE_BYTES) throw new BadMessage(`expected at most ${MAX_MESSAGE_BYTES} bytes, found ${length}`);
      if (buffer.length < width + length) break;
      yield buffer.subarray(width, width + length);
      buffer = buffer.subarray(width + length);
    }
  }
}

// --- The node ------------------------------------------------------------------------------------------------------

const node = await createLibp2p({
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: { identify: identify() },
});

function fail(error) {
  console.error(error);
  process.exit(1);
}

let hasJudged;
const judged = new Promise((resolve) => (hasJudged = resolve));

await node.handle(STATUS, async (stream) => {
  try {
    for await (const request of messages(stream)) {
      await judged; // a node lets strangers go as soon as it knows them: mine learns first whom it has met
      judge("shown", request);
      stream.send(frame(Buffer.concat([Buffer.from([0]), ownStatus()])));
    }
  } catch (error) {
    if (error instanceof BadMessage) fail(error); // else the node has closed the connection
  }
});

node.addEventListener("peer:disconnect", () => tell({ event: "closed" }));
const connection = await node.dial(multiaddr(address));
const stream = await connection.newStream(STATUS);
stream.send(frame(ownStatus()));
for await (const answer of messages(stream)) {
  if (answer[0] !== 0) fail(new Error(`the request was refused with ${answer[0]}: ${answer.subarray(1)}`));
  judge("judged", answer.subarray(1));
  break;
}
hasJudged();

for await (const _ of process.stdin);
await node.stop();
