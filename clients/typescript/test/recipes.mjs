// Writes the recipes of docs/namespaces.md to test/recipes, each block as a module that is named by
// its function, so that the tests compile and run what the chapter shows.

import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";

const chapter = new URL("../../../docs/namespaces.md", import.meta.url);
const folder = new URL("./recipes/", import.meta.url);

rmSync(folder, { recursive: true, force: true });
mkdirSync(folder);
for (const [, block] of readFileSync(chapter, "utf8").matchAll(/^```ts\n(.*?)^```$/gms)) {
  const [, name] = /^export async function (\w+)/m.exec(block);
  const module = block.replace('from "onceguard"', 'from "../../src/index.js"');
  writeFileSync(new URL(`${name}.ts`, folder), module);
}
