"""A local endpoint that speaks the chat-completions protocol.

It is a real HTTP server around a classifier of texts, for tutorials, tests and
benchmarks without an account. Like a real endpoint it fails now and then
(status 500), limits the rate (429 with `Retry-After`), declines some texts,
answers others with no class, and counts what it charges for. A request with an
`Idempotency-Key` that it has answered is answered again without a charge.
"""

import hashlib
import http.server
import json
import math
import random
import re
import sys
import threading

OPTION = re.compile(r"^(\S): (.+)$", re.MULTILINE)
TEXT = re.compile(r"\n\nText: (.*)\n\nClass:$", re.DOTALL)


class ChatEndpoint:
    """Serves a classifier as a chat model; a context manager.

    Args:
        classify: function from a text to a dict of class name to probability.
        errors: float, share of requests that get status 500.
        rate_limited: float, share of requests that get status 429.
        declined: float, share of texts that are declined.
        outside: float, share of texts whose answer is no class.
        logprobs: bool. `False` leaves log-probabilities out.
        quota: int, charged texts after which every request gets status 429
            with the code `insufficient_quota`; `None` for no limit.
        key: str, the bearer token that requests must have; `None` for any.
        seed: int.

    Attributes:
        url: str, the base of the protocol's paths.
        counts: dict of the requests, by what became of them.
        charges: dict of text to how often it was charged.
    """

    def __init__(
        self,
        classify,
        errors=0.0,
        rate_limited=0.0,
        declined=0.0,
        outside=0.0,
        logprobs=True,
        quota=None,
        key=None,
        seed=0,
    ):
        self.classify = classify
        self.errors, self.rate_limited = errors, rate_limited
        self.declined, self.outside = declined, outside
        self.logprobs, self.quota, self.key = logprobs, quota, key
        self.counts = dict.fromkeys(
            ("requests", "errors", "rate_limited", "charged", "repeated"), 0
        )
        self.charges = {}
        self.most_at_a_time = self._at_a_time = 0
        self._answers = {}
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"endpoint": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True
        )

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def fate_of(self, text):
        """`"declined"`, `"outside"` or `"answered"`, always the same."""
        digest = hashlib.sha256(text.encode()).digest()
        number = int.from_bytes(digest[:8], "big") / 2**64
        if number < self.declined:
            return "declined"
        if number < self.declined + self.outside:
            return "outside"
        return "answered"

    def answer(self, body, name, token):
        """Returns `(status, headers, body)` of a request."""
        with self._lock:
            self._at_a_time += 1
            self.most_at_a_time = max(self.most_at_a_time, self._at_a_time)
            try:
                return self._answer(body, name, token)
            finally:
                self._at_a_time -= 1

    def _answer(self, body, name, token):
        self.counts["requests"] += 1
        if self.key is not None and token != f"Bearer {self.key}":
            return _error(401, "invalid_api_key", "wrong key")
        chance = self._random.random()
        if chance < self.errors:
            self.counts["errors"] += 1
            return _error(500, "server_error", "try again")
        if chance < self.errors + self.rate_limited:
            self.counts["rate_limited"] += 1
            status, headers, answer = _error(429, "rate_limit", "too fast")
            return status, {**headers, "Retry-After": "0.01"}, answer
        if name in self._answers:
            self.counts["repeated"] += 1
            return 200, {}, self._answers[name]
        if self.quota is not None and self.counts["charged"] >= self.quota:
            return _error(429, "insufficient_quota", "the quota is used up")
        prompt = body["messages"][-1]["content"]
        options = dict(OPTION.findall(prompt))
        text = TEXT.search(prompt)[1]
        answer = {
            "object": "chat.completion",
            "model": body["model"],
            "choices": [
                self._choice(body, options, text)
                for _ in range(body.get("n", 1))
            ],
            "usage": {
                "prompt_tokens": len(prompt.split()),
                "completion_tokens": body.get("n", 1),
            },
        }
        self.counts["charged"] += 1
        self.charges[text] = self.charges.get(text, 0) + 1
        if name:
            self._answers[name] = answer
        return 200, {}, answer

    def _choice(self, body, options, text):
        fate = self.fate_of(text)
        message = {"role": "assistant", "content": None}
        choice = {"message": message, "finish_reason": "stop"}
        if fate == "declined":
            message["refusal"] = "I cannot help with that."
            return choice
        if fate == "outside":
            message["content"] = "Sorry"
            shares = {"Sorry": 0.9, "Hmm": 0.1}
        else:
            shares = self.classify(text)
            shares = {one: shares[name] for one, name in options.items()}
            if body.get("temperature", 1) == 0:
                message["content"] = max(shares, key=shares.get)
            else:
                (message["content"],) = self._random.choices(
                    list(shares), list(shares.values())
                )
        if body.get("logprobs") and self.logprobs:
            top = sorted(shares.items(), key=lambda pair: -pair[1])
            top = [
                {"token": token, "logprob": math.log(max(share, 1e-30))}
                for token, share in top[: body.get("top_logprobs", 0)]
            ]
            choice["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
        return choice


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """Reports errors, but not a client that is gone."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    request_queue_size = 128


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    endpoint = None

    def do_POST(self):
        length = int(self.headers["Content-Length"])
        content = self.rfile.read(length)
        if len(content) < length:  # the client is gone
            self.close_connection = True
            return
        body = json.loads(content)
        status, headers, answer = self.endpoint.answer(
            body,
            self.headers.get("Idempotency-Key"),
            self.headers.get("Authorization"),
        )
        content = json.dumps(answer).encode()
        self.send_response(status)
        headers = {
            **headers,
            "Content-Type": "application/json",
            "Content-Length": str(len(content)),
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        """Writes nothing."""


def _error(status, code, message):
    return status, {}, {"error": {"code": code, "message": message}}
