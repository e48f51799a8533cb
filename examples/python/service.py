"""A shop that agents order from. Only requests that are signed, fresh and no replay reach it."""

import json
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import make_server

from onceguard import Onceguard
from onceguard.wsgi import RequireSignature, verdict

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

orders: list[str] = []


def shop(environ: dict[str, Any], start_response: "StartResponse") -> Iterable[bytes]:
    """The application: it need not know of signatures."""
    order = json.loads(environ["wsgi.input"].read())
    orders.append(order["item"])
    print(f"  shop: {verdict(environ).did[:24]}… ordered {order['item']}", flush=True)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"orders": len(orders)}).encode()]


client = Onceguard(base_url=os.environ["API_URL"], token=os.environ["API_TOKEN"])
port = int(os.environ["SHOP_PORT"])
guarded = RequireSignature(shop, client=client, origin=f"http://127.0.0.1:{port}")
with make_server("127.0.0.1", port, guarded) as server:
    server.RequestHandlerClass.log_message = lambda *_: None  # type: ignore[attr-defined]
    server.serve_forever()
