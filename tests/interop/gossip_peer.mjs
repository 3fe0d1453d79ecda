// js-libp2p on AstraLink's topics, told what to do by JSON lines and telling what happens by JSON lines.
// Written from docs/specification.md alone, as a second implementation of what the network adds to gossipsub:
// the message id, the envelope, direct streams and large messages in parts.
//
//   node gossip_peer.mjs ADDRESS TOPIC_PREFIX
//   in:  {"publish": "tx", "size": 10, "fill": 7}   {"direct": 3, "size": 10, "fill": 7}
//   out: {"event": "ready" | "message" | "direct" | "rejected", ...}
import { createHash } from "node:crypto";
import { createInterface } from "node:readline";
import { noise } from "@chainsafe/libp2p-noise";
import { yamux } from "@chainsafe/libp2p-yamux";
import { gossipsub } from "@libp2p/gossipsub";
import { identify } from "@libp2p/identify";
import { tcp } from "@libp2p/tcp";
import { multiaddr } from "@multiformats/multiaddr";
import { createLibp2p } from "libp2p";

const DIRECT = "/astralink/direct/1";
const PARTS = "/astralink/parts/1";
const TOPICS = ["block", "tx", "vote", "evidence"];
const PART_BYTES = 65_536;
const MAX_FRAME_BYTES = 100_002;

const [address, prefix] = process.argv.slice(2);
const sha256 = (...pieces) => pieces.reduce((hash, piece) => hash.update(piece), createHash("sha256")).digest();
const messageOf = ({ size, fill }) => Buffer.alloc(size, fill);

function tell(event) {
  console.log(JSON.stringify(event));
}

// --- Frames: an unsigned varint and that many bytes ---------------------------------------------------------------

function frame(body) {
  const length = [];
  let rest = body.length;
  for (; rest > 0x7f; rest >>>= 7) length.push((rest & 0x7f) | 0x80);
  return Buffer.concat([Buffer.from([...length, rest]), body]);
}

async function* frames(stream, maxBytes) {
  let buffer = Buffer.alloc(0);
  for await (const piece of stream) {
    buffer = Buffer.concat([buffer, piece.subarray()]);
    for (;;) {
      let length = 0;
      let at = 0;
      let isWhole = false;
      while (at < buffer.length && !isWhole) {
        length |= (buffer[at] & 0x7f) << (7 * at);
        isWhole = buffer[at] < 0x80;
        at += 1;
      }
      if (length > maxBytes) throw new Error(`expected a frame of at most ${maxBytes} bytes, found ${length}`);
      if (!isWhole || buffer.length < at + length) break;
      yield buffer.subarray(at, at + length);
      buffer = buffer.subarray(at + length);
    }
  }
}

// --- The envelope: 0 and the message, or 1, its length in 4 bytes and the SHA-256 of each part --------------------

async function open(envelope, peer) {
  if (envelope[0] === 0) return envelope.subarray(1);
  if (envelope[0] !== 1) throw new Error(`expected an envelope of kind 0 or 1, found ${envelope[0]}`);
  const announcement = envelope.subarray(1);
  const total = announcement.readUInt32BE(0);
  const root = sha256(announcement);
  const stream = await node.dialProtocol(peer, PARTS);
  const answers = frames(stream, PART_BYTES + 1);
  const parts = [];
  for (let index = 0; index * PART_BYTES < total; index += 1) {
    stream.send(frame(Buffer.concat([root, Buffer.from([index >> 8, index & 0xff])])));
    const { value: answer } = await answers.next();
    if (answer[0] !== 0) throw new Error(`part ${index} was refused: ${answer.subarray(1)}`);
    const part = answer.subarray(1);
    const expected = announcement.subarray(4 + 32 * index, 36 + 32 * index);
    if (!sha256(part).equals(expected)) throw new Error(`part ${index} has another hash than was announced`);
    parts.push(part);
  }
  await stream.close();
  const message = Buffer.concat(parts);
  if (message.length !== total) throw new Error(`expected ${total} bytes, found ${message.length}`);
  return message;
}

async function tellOfMessage(kind, topic, envelope, peer) {
  const message = await open(Buffer.from(envelope), peer);
  tell({ event: kind, topic, size: message.length, sha256: sha256(message).toString("hex"), announced: envelope[0] });
}

// --- The node ------------------------------------------------------------------------------------------------------

const node = await createLibp2p({
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: {
    identify: identify(),
    pubsub: gossipsub({
      globalSignaturePolicy: "StrictNoSign",
      msgIdFn: ({ topic, data }) => sha256(topic, data).subarray(0, 20),
    }),
  },
});
const { pubsub } = node.services;

await node.handle(DIRECT, async (stream, { remotePeer }) => {
  for await (const body of frames(stream, MAX_FRAME_BYTES)) {
    tellOfMessage("direct", body[0], body.subarray(1), remotePeer).catch(fail);
  }
});

pubsub.addEventListener("gossipsub:message", ({ detail }) => {
  const { topic, data } = detail.msg;
  tellOfMessage("message", topic.slice(prefix.length), data, detail.propagationSource).catch(fail);
});
for (const topic of TOPICS) pubsub.subscribe(prefix + topic);
const connection = await node.dial(multiaddr(address));

function fail(error) {
  console.error(error);
  process.exit(1);
}

async function untilEveryoneIsSubscribed() {
  while (!TOPICS.every((topic) => pubsub.getSubscribers(prefix + topic).length > 0)) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

await untilEveryoneIsSubscribed();
const protocol = connection.streams.map((stream) => stream.protocol).find((name) => name.startsWith("/meshsub/"));
tell({ event: "ready", peer: node.peerId.toString(), protocol });

let direct;
for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  const envelope = Buffer.concat([Buffer.from([0]), messageOf(command)]);
  if (command.publish !== undefined) {
    const { recipients } = await pubsub.publish(prefix + command.publish, envelope);
    if (recipients.length === 0) fail(new Error("the message went to nobody"));
  } else {
    direct ??= await node.dialProtocol(connection.remotePeer, DIRECT);
    direct.send(frame(Buffer.concat([Buffer.from([command.direct]), envelope])));
  }
}
await node.stop();
