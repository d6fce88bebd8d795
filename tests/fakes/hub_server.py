#!/usr/bin/env python3
"""A model hub for tests, on 127.0.0.1, that also misbehaves. Standard library only.

usage: hub_server.py FILE     prints the ports of the hub and of its store (another origin), one line.

How it behaves is chosen by the repository: /acme/BEHAVIOUR/resolve/main/NAME gives FILE's bytes in that way, and
/api/models/acme/LISTING a listing. GET /log gives every request so far as JSON and forgets them.
"""
import hashlib
import json
import re
import socket
import struct
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DATA = open(sys.argv[1], "rb").read()
OTHER = bytes(b ^ 0x55 for b in DATA)  # another version of the same length
SHA = hashlib.sha256(DATA).hexdigest()
HALF = len(DATA) // 2
LISTINGS = {
    "one": {"siblings": [{"rfilename": "README.md"}, {"rfilename": "model.gguf"}]},
    "several": {"siblings": [{"rfilename": "a-Q4_0.gguf"}, {"rfilename": "a-Q8_0.gguf"}]},
    "none": {"siblings": [{"rfilename": "README.md"}]},
    "odd": {"siblings": [7, None, {"rfilename": 7}, {"rfilename": "../../x.gguf"}, {"rfilename": "ok.gguf"}]},
    "nothing": {"id": "acme/nothing"},
}

log, counts, lock = [], {}, threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def log_message(self, *args):
        pass

    def nth(self, what):
        """How often `what` was asked before."""
        with lock:
            counts[what] = counts.get(what, 0) + 1
            return counts[what] - 1

    def note(self):
        keep = {k.lower(): v for k, v in self.headers.items()}
        with lock:
            log.append({"port": self.server.server_port, "method": self.command, "path": self.path, "headers": keep})

    def head(self, status, length, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def body(self, data):
        if self.command != "HEAD":
            self.wfile.write(data)

    def small(self, status, text="", **headers):
        data = text.encode()
        self.head(status, len(data), **headers)
        self.body(data)

    def begin(self):
        """First byte asked for."""
        m = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        return int(m.group(1)) if m else 0

    def ranged(self, data, etag, stop=None, lie=0):
        """The rest of data as HTTP wants it; stop: reset the connection after that many bytes of it."""
        at = self.begin()
        if at and self.headers.get("If-Range", etag) != etag:
            at = 0
        if at > len(data) or (at and at == len(data)):
            return self.small(416, Content_Range=f"bytes */{len(data)}")
        rest = data[at:]
        headers = {"ETag": etag, "Accept-Ranges": "bytes"}
        if at:
            headers["Content-Range"] = f"bytes {at + lie}-{len(data) - 1}/{len(data)}"
        self.head(206 if at else 200, len(rest), **headers)
        self.body(rest if stop is None else rest[:stop])
        if stop is not None and self.command == "GET":
            self.reset()

    def reset(self):
        self.wfile.flush()
        time.sleep(0.05)  # a reset throws away what the other side has not read yet
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def do_GET(self):
        if self.path == "/log":
            with lock:
                text = json.dumps(log)
                log.clear()
                counts.clear()
            return self.small(200, text)
        self.note()
        parts = self.path.strip("/").split("/")
        try:
            if parts[:2] == ["api", "models"]:
                return self.listing(parts[3])
            if parts[0] == "store":
                return self.ranged(DATA, '"of-the-store"')
            if len(parts) >= 5 and parts[0] == "acme":
                return getattr(self, "do_" + parts[1])()
        except (BrokenPipeError, ConnectionResetError):
            return None
        except AttributeError:
            pass
        return self.small(404, "not here")

    do_HEAD = do_GET

    def listing(self, name):
        if name == "notjson":
            return self.small(200, "<html>maintenance</html>")
        if name == "flood":
            self.send_response(200)
            self.end_headers()
            self.close_connection = True
            while True:
                self.wfile.write(b" " * 65536)
        if name in LISTINGS:
            return self.small(200, json.dumps(LISTINGS[name]))
        return self.small(404, "no such repository")

    def to_store(self, sha=SHA, size=len(DATA)):
        where = f"http://127.0.0.1:{store.server_port}/store/{sha}"
        self.small(302, Location=where, X_Linked_Etag=f'"{sha}"', X_Linked_Size=str(size), ETag='"of-the-hub"')

    do_one = do_good = to_store

    def do_direct(self):
        self.ranged(DATA, '"v1"')

    def do_renamed(self):
        self.small(307, Location=self.path.replace("/renamed/", "/good/"))

    def do_loop(self):
        self.small(302, Location=self.path)

    def do_wrongsum(self):
        self.to_store(sha=hashlib.sha256(b"other").hexdigest())

    def do_gated(self):
        if self.headers.get("Authorization") != "Bearer secret-token":
            return self.small(401, "gated")
        return self.to_store()

    def do_busy(self):
        """Turned away twice, with and without a word on when to come back."""
        n = self.nth(self.command)
        if n == 0:
            return self.small(503, "busy")
        if n == 1:
            return self.small(429, "slower", Retry_After="1")
        return self.to_store()

    def do_down(self):
        self.small(500, "down")

    def do_resets(self):
        """Every connection breaks after a fifth of the file."""
        self.ranged(DATA, '"v1"', stop=len(DATA) // 5)

    def do_refuses(self):
        """Closes before an answer."""
        self.reset()

    def do_norange(self):
        """Knows no ranges, and breaks once in the middle."""
        self.head(200, len(DATA), ETag='"v1"')
        first = self.command == "GET" and self.nth("norange") == 0
        self.body(DATA[:HALF] if first else DATA)
        if first:
            self.reset()

    def do_neverwhole(self):
        """Knows no ranges, and always breaks in the middle."""
        self.head(200, len(DATA), ETag='"v1"')
        self.body(DATA[:HALF])
        self.close_connection = True

    def do_changed(self):
        """Breaks in the middle of one version; then there is another one."""
        if self.command == "GET" and self.nth("changed") == 0:
            return self.ranged(OTHER, '"v0"', stop=HALF)
        return self.ranged(DATA, '"v1"')

    def do_badrange(self):
        """Breaks once, then continues from a place that was not asked for."""
        first = self.command == "GET" and self.nth("badrange") == 0
        self.ranged(DATA, '"v1"', stop=HALF if first else None, lie=0 if first else 7)

    def do_short(self):
        """Names the whole size, sends less and calls it complete."""
        self.ranged(DATA if self.command == "HEAD" else DATA[:-1000], '"v1"')

    def do_long(self):
        self.ranged(DATA if self.command == "HEAD" else DATA + bytes(100000), '"v1"')

    def do_stall(self):
        self.head(200, len(DATA), ETag='"v1"')
        self.body(DATA[:1000])
        if self.command == "GET":
            threading.Event().wait(20)

    def do_errorflood(self):
        self.send_response(500)
        self.end_headers()
        self.close_connection = True
        while self.command == "GET":
            self.wfile.write(b"e" * 65536)

    def do_text(self):
        self.small(200, "hello")


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass  # clients that go away are what the tests are about


hub, store = Server(("127.0.0.1", 0), Handler), Server(("127.0.0.1", 0), Handler)
threading.Thread(target=store.serve_forever, daemon=True).start()
print(hub.server_port, store.server_port, flush=True)
# whoever started this holds our stdin: when it goes, so do we
threading.Thread(target=hub.serve_forever, daemon=True).start()
sys.stdin.read()
