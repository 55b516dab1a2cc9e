"""Requests of several callers to one Prefect server."""

from __future__ import annotations

import http.server
import itertools
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlsplit

from flows.service.keeper import ask
from flows.service.state import State

CALLERS = 3


class OneTokenEach(http.server.BaseHTTPRequestHandler):
    """A server that keeps one token a client, as Prefect does; a newer one voids the older.

    No caller gets its token before all have asked for one.
    """

    tokens: dict[str, str] = {}  # noqa: RUF012
    number = itertools.count()
    all_have_asked = threading.Barrier(CALLERS, timeout=30)

    def do_GET(self) -> None:
        """Give out a token."""
        (client,) = parse_qs(urlsplit(self.path).query)["client"]
        token = self.tokens[client] = str(next(self.number))
        self.all_have_asked.wait()
        self.answer(200, {"token": token})

    def do_POST(self) -> None:
        """Accept a request that comes with the client's token."""
        client, token = (self.headers[f"Prefect-Csrf-{name}"] for name in ("Client", "Token"))
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(200 if self.tokens[client] == token else 403, {"token": token})

    def answer(self, code: int, value: object) -> None:
        """Send an answer."""
        text = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


def test_callers_do_not_void_the_tokens_of_others() -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), OneTokenEach) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        api = f"http://127.0.0.1:{server.server_address[1]}/api"
        state = State(phase="up", pid=0, api=api, database="sqlite", auth="drp:secret")
        with ThreadPoolExecutor(CALLERS) as pool:
            answers = list(pool.map(lambda _: ask(state, "flow_runs/count", {}), range(CALLERS)))
        server.shutdown()
    assert len({answer["token"] for answer in answers}) == CALLERS
