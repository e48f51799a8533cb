// A shop that agents order from. Only requests that are signed, fresh and no replay reach it.

import express from "express";
import { Onceguard } from "onceguard";
import { requireSignature } from "onceguard/express";

const { API_URL, API_TOKEN, SHOP_PORT } = process.env;
const client = new Onceguard({ baseUrl: API_URL, token: API_TOKEN });
const orders = [];

const app = express();
app.use(requireSignature({ client, origin: `http://127.0.0.1:${SHOP_PORT}` }));
app.use(express.json());
app.post("/orders", (req, res) => {
  orders.push(req.body.item);
  console.log(`  shop: ${req.verdict.did.slice(0, 24)}… ordered ${req.body.item}`);
  res.json({ orders: orders.length });
});
app.listen(Number(SHOP_PORT), "127.0.0.1");
