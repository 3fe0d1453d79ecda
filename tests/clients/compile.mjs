// compile.mjs OUT: compile contracts/*.sol with solc's default settings (no optimizer, its newest EVM version) and
// write one {contractName, compiler, evmVersion, abi, bytecode} JSON file a contract into the folder OUT.
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const solc = createRequire(import.meta.url)("solc");
const here = dirname(fileURLToPath(import.meta.url));
const out = process.argv[2];
if (!out) {
  console.error("usage: node compile.mjs OUT");
  process.exit(2);
}

const names = readdirSync(join(here, "contracts")).filter((name) => name.endsWith(".sol")).sort();
const input = {
  language: "Solidity",
  sources: Object.fromEntries(
    names.map((name) => [name, { content: readFileSync(join(here, "contracts", name), "utf8") }]),
  ),
  settings: { outputSelection: { "*": { "*": ["abi", "evm.bytecode.object", "metadata"] } } },
};
const readImport = (path) => {
  try {
    return { contents: readFileSync(join(here, "node_modules", path), "utf8") };
  } catch (error) {
    return { error: String(error) };
  }
};
const output = JSON.parse(solc.compile(JSON.stringify(input), { import: readImport }));
const problems = (output.errors ?? []).filter((entry) => entry.severity === "error");
if (problems.length > 0) {
  for (const problem of problems) console.error(problem.formattedMessage);
  process.exit(1);
}

mkdirSync(out, { recursive: true });
for (const file of names) {
  const contractName = file.replace(/\.sol$/, "");
  const contract = output.contracts[file][contractName];
  const artifact = {
    contractName,
    compiler: solc.version(),
    evmVersion: JSON.parse(contract.metadata).settings.evmVersion,
    abi: contract.abi,
    bytecode: `0x${contract.evm.bytecode.object}`,
  };
  writeFileSync(join(out, `${contractName}.json`), `${JSON.stringify(artifact, null, 1)}\n`);
}
console.log(JSON.stringify({ compiled: names.length, compiler: solc.version() }));
