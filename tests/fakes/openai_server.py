#!/usr/bin/env python3
"""openai_server.py [OPTION…] : a server that speaks OpenAI's completions and chat, honestly or not.

It counts tokens like an engine that was asked: N tokens for max_tokens N when ignore_eos is set, fewer otherwise, prompts by
their ids. Words of the answer are "w0 w1 …". With --fault one thing goes wrong, for every request or for each --every-th.

Dialects: vllm (continuous usage, /version, /metrics, /tokenize), llama (as plain, with llama-server's /tokenize), plain (usage only
at the end, when asked for), bare (no usage at all, no ignore_eos). Its tokenizer: a beginning-of-sequence token 1, then one id a word. It also takes the command lines that lem builds for real engines (serve MODEL …, -m MODULE …, --model-path M), of
which only --host, --port and the model's name are used; what it was started with is told at /argv.
"""
import argparse
import contextlib
import http.server
import json
import os
import signal
import socket
import socketserver
import struct
import sys
import threading
import time
import zlib

FAULTS = ["none", "health", "slow-start", "die-at-start", "die-in-worker", "die-mid", "500", "429", "404", "empty", "error-body", "bad-json", "half-utf8",
          "close-mid", "stall", "short", "long", "usage-low", "redirect", "no-done", "cached", "error-in-stream", "cut-chunk", "flood", "endless",
          "never-ends", "reset-mid", "html", "kill-mid", "port-taken", "hog", "drop-idle", "tokenize-404", "tokenize-500", "tokenize-junk",
          "tokenize-late"]
state = {"requests": 0, "tokenized": 0, "prompts": [], "prompt": 0, "generated": 0, "lock": threading.Lock(), "born": time.time()}


def options(argv):
    p = argparse.ArgumentParser(allow_abbrev=False)
    p.add_argument("--host", default="127.0.0.1")
    p.add_argument("--port", type=int, default=0)
    p.add_argument("--model", "--model-path", default="fake")
    p.add_argument("--dialect", choices=["vllm", "llama", "plain", "bare"], default="vllm")
    p.add_argument("--fault", choices=FAULTS, default="none")
    p.add_argument("--every", type=int, default=1)
    p.add_argument("--after", type=int, default=0, help="the first so many requests are served well")
    p.add_argument("--per-chunk", type=int, default=1, help="tokens in one chunk")
    p.add_argument("--token-ms", type=float, default=1)
    p.add_argument("--first-ms", type=float, default=2)
    p.add_argument("--slots", type=int, default=0, help="requests answered at a time, the others wait; 0: all")
    p.add_argument("--start-s", type=float, default=0)
    p.add_argument("--chatter", type=int, default=0, help="bytes printed for each request")
    p.add_argument("--key", help="Bearer token that must come")
    p.add_argument("--cert", help="PEM with certificate and key: speak TLS")
    p.add_argument("--port-file", help="the port is written here")
    o, rest = p.parse_known_args(argv)
    words = [w for w in rest if not w.startswith("-")]
    if "serve" in words and words.index("serve") + 1 < len(words):
        o.model = words[words.index("serve") + 1]
    for name in ("fault", "dialect"):
        setattr(o, name, os.environ.get("FAKE_" + name.upper(), getattr(o, name)))
    for name in ("after", "every", "per_chunk", "chatter", "slots"):
        setattr(o, name, int(os.environ.get("FAKE_" + name.upper(), getattr(o, name))))
    for name in ("start_s", "token_ms"):
        setattr(o, name, float(os.environ.get("FAKE_" + name.upper(), getattr(o, name))))
    return o


class Handler(http.server.BaseHTTPRequestHandler):
    slots = contextlib.nullcontext()
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    o = None

    def log_message(self, *args):
        pass

    def send(self, status, body, kind="application/json", **headers):
        data = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for k, v in headers.items():
            self.send_header(k, v)
        self.end_headers()
        self.wfile.write(data)

    def allowed(self):
        if not self.o.key or self.headers.get("Authorization") == "Bearer " + self.o.key:
            return True
        self.send(401, {"error": {"message": "no key"}})
        return False

    def do_GET(self):
        young = time.time() - state["born"] < self.o.start_s
        if self.path == "/prompts":
            self.send(200, state["prompts"])
        elif self.path == "/health":
            self.send(503 if young or self.o.fault == "health" else 200, "")
        elif self.path == "/argv":
            self.send(200, sys.argv)
        elif not self.allowed():
            pass
        elif self.path == "/v1/models":
            self.send(200, {"object": "list", "data": [{"id": self.o.model, "object": "model", "max_model_len": 4096}]})
        elif self.path == "/version" and self.o.dialect == "vllm":
            self.send(200, {"version": "0.0.fake"})
        elif self.path == "/metrics" and self.o.dialect == "vllm":
            with state["lock"]:
                self.send(200, f"# TYPE vllm:prompt_tokens_total counter\nvllm:prompt_tokens_total {state['prompt']}\n"
                               f"vllm:generation_tokens_total {state['generated']}\n", "text/plain")
        else:
            self.send(404, {"error": {"message": "no such path"}})

    def ids_of(self, text, special):
        return ([1] if special else []) + [256 + zlib.crc32(w.encode()) % 700 for w in text.split()]

    def tokenize(self, q):
        fault = self.o.fault
        text, special = (q.get("content"), q.get("add_special")) if self.o.dialect == "llama" else (q.get("prompt"), q.get("add_special_tokens", True))
        with state["lock"]:
            state["tokenized"] += 1
        if self.o.dialect in ("plain", "bare") or fault == "tokenize-404":
            self.send(404, {"error": {"message": "no such path"}})
        elif fault == "tokenize-500" or (fault == "tokenize-late" and state["tokenized"] > 2):
            self.send(500, {"error": {"message": "the tokenizer broke"}})
        elif fault == "tokenize-junk":
            self.send(200, {"tokens": [1, "two", 3]})
        elif text is None:  # llama-server takes it as nothing, vLLM and SGLang refuse it
            self.send(200 if self.o.dialect == "llama" else 400, {"tokens": []})
        else:
            ids = self.ids_of(text, special)
            self.send(200, {"tokens": ids} if self.o.dialect == "llama" else {"count": len(ids), "max_model_len": 4096, "tokens": ids, "token_strs": None})

    def chunk(self, data, last=False):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data) + (b"0\r\n\r\n" if last else b""))
        self.wfile.flush()

    def event(self, obj):
        self.chunk(b"data: " + json.dumps(obj).encode() + b"\n\n")

    def fault(self):
        with state["lock"]:
            state["requests"] += 1
            n = state["requests"] - 1 - self.o.after
        return self.o.fault if n >= 0 and n % self.o.every == 0 else "none"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self.allowed():
            return
        if self.o.chatter:
            sys.stdout.write("x" * self.o.chatter + "\n")
            sys.stdout.flush()
        if self.path.endswith("/tokenize"):
            return self.tokenize(json.loads(body))
        fault = self.fault()
        try:
            q = json.loads(body)
        except ValueError:
            return self.send(400, {"error": {"message": "not JSON"}})
        state["prompts"].append(q.get("prompt"))
        if fault == "drop-idle" and getattr(self, "served", False):
            self.close_connection = True
            return self.connection.shutdown(socket.SHUT_RDWR)
        self.served = True
        if q.get("model") != self.o.model:
            return self.send(404, {"error": {"message": f"The model {q.get('model')} does not exist."}})
        if fault == "die-mid":
            print("RuntimeError: the fake engine lost its mind", file=sys.stderr, flush=True)
            os._exit(3)
        if fault == "kill-mid":
            print("the fake engine works as ever", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "hog":
            hog()
        if fault == "html":
            return self.send(200, "<html>It works!</html>", "text/html")
        if fault in ("500", "429", "404"):
            return self.send(int(fault), {"error": {"message": "as told"}})
        if fault == "redirect":
            return self.send(302, "", Location="http://127.0.0.1:1/")
        if fault == "error-body":
            return self.send(200, {"error": {"message": "as told", "code": 500}})
        with self.slots:
            self.answer(q, fault)

    def tokens_of(self, q, fault):
        n = q.get("max_tokens", 16)
        if not q.get("ignore_eos") or self.o.dialect == "bare":
            n = max(n // 2, 1)
        return {"short": max(n - 1, 1), "long": n + 3, "empty": 0}.get(fault, n)

    def usage(self, n_in, n_out, fault):
        if fault == "usage-low":
            n_out = 1
        u = {"prompt_tokens": n_in, "completion_tokens": n_out, "total_tokens": n_in + n_out}
        if fault == "cached":
            u["prompt_tokens_details"] = {"cached_tokens": n_in - 1}
        return u

    def answer(self, q, fault):
        chat = self.path.endswith("/chat/completions")
        prompt = q["messages"][-1]["content"] if chat else q["prompt"]
        n_in = len(prompt) if isinstance(prompt, list) else len(prompt.split())
        n_out = self.tokens_of(q, fault)
        so = q.get("stream_options") or {}
        continuous = so.get("continuous_usage_stats") and self.o.dialect == "vllm"
        head = {"id": "x", "object": "chat.completion.chunk" if chat else "text_completion", "model": self.o.model}

        def piece(text, finish):
            return {"index": 0, "delta": {"content": text}, "finish_reason": finish} if chat else {"index": 0, "text": text, "finish_reason": finish}

        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        time.sleep(self.o.first_ms / 1000)
        for k in range(0, n_out, self.o.per_chunk):
            upto = min(k + self.o.per_chunk, n_out)
            e = dict(head, choices=[piece("".join(f"w{i} " for i in range(k, upto)), "length" if upto == n_out else None)])
            if continuous:
                e["usage"] = self.usage(n_in, upto, fault)
            if fault == "bad-json" and k:
                return self.chunk(b"data: {\"choices\": [\n\n", last=True)
            if fault == "half-utf8" and k:
                return self.chunk(b"data: {\"choices\": [{\"text\": \"\xe2\x82\"}]}\n\n", last=True)
            if fault == "close-mid" and k:
                self.close_connection = True
                return self.connection.close()
            if fault == "cut-chunk" and k:
                self.wfile.write(b"400\r\ndata: {")
                self.close_connection = True
                return self.connection.shutdown(socket.SHUT_RDWR)
            if fault == "reset-mid" and k:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True
                return self.connection.close()
            while fault in ("flood", "endless") and k:
                self.event(dict(e, choices=[piece("x" * (60000 if fault == "flood" else 1), None)]))
                time.sleep(0 if fault == "flood" else 0.02)
            if fault == "error-in-stream" and k:
                return self.chunk(b'data: {"error": {"message": "as told"}}\n\n', last=True)
            self.event(e)
            time.sleep((3600 if fault == "stall" and k else self.o.token_ms / 1000))
        if so.get("include_usage") and self.o.dialect != "bare":
            self.event(dict(head, choices=[], usage=self.usage(n_in, n_out, fault)))
        if fault == "never-ends":
            time.sleep(3600)
        with state["lock"]:
            state["prompt"] += n_in
            state["generated"] += n_out
        if fault != "no-done":
            self.chunk(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 1024

    def handle_error(self, *_):
        pass  # a client that goes away is no news


def hog():
    """Memory until the kernel ends it, or 4 GiB."""
    kept = []
    for _ in range(256):
        kept.append(b"\1" * (16 << 20))
    print("nobody stopped the fake engine from taking 4 GiB", file=sys.stderr, flush=True)
    os._exit(4)


def taken_once(o):
    """The first start finds its port taken, as when somebody came between its choice and its use; FAKE_ONCE names a file that remembers."""
    mark = os.environ.get("FAKE_ONCE")
    if not mark or not os.path.exists(mark):
        if mark:
            open(mark, "w").close()
        print(f"ERROR:    [Errno 98] error while attempting to bind on address ('{o.host}', {o.port}): address already in use", file=sys.stderr)
        sys.exit(1)


def main():
    o = Handler.o = options(sys.argv[1:])
    if o.fault == "port-taken":
        taken_once(o)
    if o.fault == "die-at-start":
        print("ValueError: Free memory on device cuda:0 (1.0/80.0 GiB) on startup is less than desired GPU memory utilization (0.9)", file=sys.stderr)
        sys.exit(1)
    if o.fault == "die-in-worker":  # as vLLM tells the end of one of its processes
        print("AttributeError: '_C' has no attribute 'init_cpu_memory_env'\nTraceback (most recent call last):\n  File \"core.py\", line 1\n"
              "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}", file=sys.stderr)
        sys.exit(1)
    if o.slots:
        Handler.slots = threading.Semaphore(o.slots)
    signal.signal(signal.SIGTERM, lambda *a: os._exit(0))
    server = Server((o.host, o.port), Handler)
    if o.cert:
        import ssl
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(o.cert)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    if o.port_file:
        with open(o.port_file + ".new", "w") as f:
            f.write(str(server.server_address[1]))
        os.rename(o.port_file + ".new", o.port_file)
    server.serve_forever()


if __name__ == "__main__":
    main()
