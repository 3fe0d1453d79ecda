// What the client scripts share: their arguments, one JSON line a check, and a bound on how long each may take.
import { readFileSync } from "node:fs";
import { join } from "node:path";

const CHECK_TIMEOUT_MS = 60_000;

const [httpUrl, wsUrl, artifactsFolder, senderKey, receiverKey] = process.argv.slice(2);
if (!receiverKey) {
  console.error("usage: node SCRIPT HTTP_URL WS_URL ARTIFACTS SENDER_KEY RECEIVER_KEY");
  process.exit(2);
}
export { httpUrl, wsUrl, senderKey, receiverKey };

export function artifact(name) {
  return JSON.parse(readFileSync(join(artifactsFolder, `${name}.json`), "utf8"));
}

export function within(promise, what, timeoutMs = CHECK_TIMEOUT_MS) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing within ${timeoutMs} ms`)), timeoutMs);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// Runs the body and prints {check, ok, detail}. A failed check does not stop the later ones.
export async function check(name, body) {
  try {
    const detail = await within(body(), name);
    console.log(JSON.stringify({ check: name, ok: true, detail: detail ?? null }, bigintAsText));
  } catch (error) {
    console.log(JSON.stringify({ check: name, ok: false, detail: String(error?.stack ?? error) }));
    process.exitCode = 1;
  }
}

export function expectEqual(found, expected, what) {
  const [foundText, expectedText] = [found, expected].map((value) => JSON.stringify(value, bigintAsText));
  if (foundText !== expectedText) throw new Error(`${what}: expected ${expectedText}, found ${foundText}`);
}

export function expect(condition, what) {
  if (!condition) throw new Error(what);
}

function bigintAsText(_, value) {
  return typeof value === "bigint" ? value.toString() : value;
}
