// Runs a command while there is a chain with Registry.sol on it. The command finds the chain's
// JSON-RPC in TEST_CHAIN_URL, and the contract's address in TEST_CHAIN_CONTRACT.
//
//   node run.mjs COMMAND [ARGUMENT…]

import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { constants } from "node:os";
import ganache from "ganache";
import solc from "solc";

function compile(file, contract) {
  const input = {
    language: "Solidity",
    sources: { [file]: { content: readFileSync(new URL(file, import.meta.url), "utf8") } },
    settings: {
      // The newest that ganache knows.
      evmVersion: "shanghai",
      outputSelection: { "*": { "*": ["evm.bytecode.object"] } },
    },
  };
  const output = JSON.parse(solc.compile(JSON.stringify(input)));
  if (output.errors) throw new Error(output.errors.map((e) => e.formattedMessage).join("\n"));
  return `0x${output.contracts[file][contract].evm.bytecode.object}`;
}

const server = ganache.server({
  chain: { chainId: 31337, hardfork: "shanghai" },
  logging: { quiet: true },
});
await server.listen(0, "127.0.0.1");
const request = (method, ...params) => server.provider.request({ method, params });

const [from] = await request("eth_accounts");
const data = compile("Registry.sol", "Registry");
const transaction = await request("eth_sendTransaction", { from, data, gas: "0x4c4b40" });
const { status, contractAddress } = await request("eth_getTransactionReceipt", transaction);
if (status !== "0x1") throw new Error("the contract was not deployed");

const [command, ...args] = process.argv.slice(2);
const child = spawn(command, args, {
  stdio: "inherit",
  env: {
    ...process.env,
    TEST_CHAIN_URL: `http://127.0.0.1:${server.address().port}`,
    TEST_CHAIN_CONTRACT: contractAddress,
  },
});
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
child.on("error", (error) => {
  console.error(`${command}: ${error.message}`);
  process.exit(127);
});
// As a shell does, a command that died of a signal is told by 128 and the signal's number.
child.on("exit", (code, signal) => process.exit(code ?? 128 + constants.signals[signal]));
