// An agent that orders a lamp; and a thief who copies its request, and sends it again.

import { Key, signedFetch, signRequest } from "onceguard";

const url = `http://127.0.0.1:${process.env.SHOP_PORT}/orders`;
const key = await Key.generate();
console.log(`agent: I am ${key.did}`);

async function show(who, answer) {
  const { code = "accepted" } = await answer.json();
  console.log(`${who}: ${answer.status} ${code}`);
}

function order(item, headers = {}) {
  const body = JSON.stringify({ item });
  return { method: "POST", headers: { "Content-Type": "application/json", ...headers }, body };
}

// Each request has a signature of its own.
const agent = signedFetch(key);
await show("agent", await agent(url, order("lamp")));
await show("agent", await agent(url, order("lamp")));

// The same, by hand, so that the thief has something to copy.
const { headers, body, method } = order("sofa");
const bytes = new TextEncoder().encode(body);
const signed = await signRequest(key, {
  method,
  url,
  headers: Object.entries(headers),
  body: bytes,
});
await show("agent", await fetch(url, order("sofa", signed)));
await show("thief", await fetch(url, order("sofa", signed)));
await show("thief", await fetch(url, order("yacht", signed)));
await show("thief", await fetch(url, order("yacht")));
