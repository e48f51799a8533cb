"""The service behind the proxy: it answers with the request as it came, and counts it.

    upstream.py FOLDER

writes its address to FOLDER/upstream.addr, and one line for each request to FOLDER/passed.
"""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

folder = Path(sys.argv[1])


class Echo(BaseHTTPRequestHandler):
    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with (folder / "passed").open("a") as passed:
            passed.write(f"{self.requestline}\n")
        came = f"{self.requestline}\n{self.headers}".encode() + body
        self.send_response(200)
        self.send_header("Content-Length", str(len(came)))
        self.end_headers()
        self.wfile.write(came)

    do_GET = do_POST = answer

    def log_message(self, *_: object) -> None:
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
(folder / "passed").touch()
(folder / "upstream.addr").write_text(f"127.0.0.1:{server.server_port}")
server.serve_forever()
