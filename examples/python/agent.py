"""An agent that orders a lamp; and a thief who copies its request, and sends it again."""

import os

import httpx

from onceguard import HttpxSignature, Key, sign_request

url = f"http://127.0.0.1:{os.environ['SHOP_PORT']}/orders"
key = Key.generate()
print(f"agent: I am {key.did}")


def show(who: str, answer: httpx.Response) -> None:
    print(f"{who}: {answer.status_code} {answer.json().get('code', 'accepted')}", flush=True)


# Each request has a signature of its own.
agent = httpx.Client(auth=HttpxSignature(key))
show("agent", agent.post(url, json={"item": "lamp"}))
show("agent", agent.post(url, json={"item": "lamp"}))

# The same, by hand, so that the thief has something to copy.
body = b'{"item": "sofa"}'
headers = {"Content-Type": "application/json"}
headers |= sign_request(key, method="POST", url=url, headers=headers, body=body)
show("agent", httpx.post(url, content=body, headers=headers))
show("thief", httpx.post(url, content=body, headers=headers))
show("thief", httpx.post(url, content=b'{"item": "yacht"}', headers=headers))
show("thief", httpx.post(url, json={"item": "yacht"}))
