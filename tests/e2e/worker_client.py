"""Drives a worker by workers/PROTOCOL.md: the other side of the contract, in few lines."""
import json
import os
import select
import signal
import subprocess
import time

WAIT_S = 300


class Worker:
    """A running worker. Every wait is bounded; leaving the `with` block kills what is left."""

    def __init__(self, argv, stderr=subprocess.DEVNULL, env=None):
        self.proc = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr,
                                     env={**os.environ, **(env or {})})
        self.pending = b""
        self.runs = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.proc.poll() is None:
            self.proc.kill()
        self.proc.wait()
        for f in (self.proc.stdin, self.proc.stdout):
            try:
                f.close()
            except OSError:
                pass

    def send_raw(self, data):
        self.proc.stdin.write(data)
        self.proc.stdin.flush()

    def send(self, obj):
        self.send_raw(json.dumps(obj).encode() + b"\n")

    def line(self, wait_s=WAIT_S):
        """The next line, or None at the end of the output."""
        end = time.monotonic() + wait_s
        while b"\n" not in self.pending:
            left = end - time.monotonic()
            assert left > 0, "the worker is silent"
            if not select.select([self.proc.stdout], [], [], left)[0]:
                continue
            got = os.read(self.proc.stdout.fileno(), 1 << 16)
            if not got:
                return None
            self.pending += got
        line, self.pending = self.pending.split(b"\n", 1)
        return line

    def event(self, wait_s=WAIT_S):
        line = self.line(wait_s)
        return None if line is None else json.loads(line)

    def ask(self, obj):
        """The answer to a request, and the steps that came before it."""
        self.send(obj)
        steps = []
        while True:
            e = self.event()
            assert e is not None, "the worker ended"
            if e["event"] != "tokens":
                return e, steps
            steps.append(e)

    def load(self, model, **fields):
        e, _ = self.ask({"op": "load", "protocol": 1, "model": str(model), "threads": 2, "threads_batch": 2,
                         "max_total_tokens": 192, **fields})
        return e

    def run(self, requests, **fields):
        self.runs += 1
        return self.ask({"op": "run", "run": self.runs, "batching": "static", "requests": requests, **fields})

    def stop(self):
        e, _ = self.ask({"op": "stop"})
        assert e["event"] == "stopped"
        return self.end()

    def end(self, wait_s=30):
        """Exit status; negative for a signal."""
        return self.proc.wait(wait_s)

    def terminate(self):
        self.proc.send_signal(signal.SIGTERM)


def requests(prompts, out, at_least=None, first=0):
    """One request for each text or list of token ids."""
    return [{"id": first + i, ("text" if isinstance(p, str) else "tokens"): p, "max_output_tokens": out,
             "min_output_tokens": out if at_least is None else at_least} for i, p in enumerate(prompts)]
