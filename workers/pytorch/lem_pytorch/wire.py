"""Lines of the protocol: fields of requests, events, and how a process ends with its parent."""
import ctypes
import json
import os
import signal
import threading

LINE_MAX = 16 << 20


class Refused(Exception):
    """Something that is answered by an `error` event."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code, self.message = code, message


def field(obj, name, kind, default=None, low=None, high=None):
    """A field of a request: absent or null has its default, one of the wrong type or out of range is refused."""
    v = obj.get(name)
    if v is None:
        v = default
    if v is None:
        raise Refused("bad_request", f"'{name}' is missing")
    number = isinstance(v, (int, float)) and not isinstance(v, bool)
    if not (number if kind is float else number and isinstance(v, int) if kind is int else isinstance(v, kind)):
        raise Refused("bad_request", f"'{name}' is of the wrong type")
    if (low is not None and v < low) or (high is not None and v > high):
        raise Refused("bad_request", f"'{name}' is out of range: {v}")
    return v


def one_of(obj, name, choices, default, code="unsupported"):
    v = field(obj, name, str, default)
    if v not in choices:
        raise Refused(code, f"'{name}' is {v}; this worker knows {', '.join(c for c in choices if c)}")
    return v


def die_with_parent():
    """The kernel ends this process when the one that started it is gone."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)


def how_it_ended(status):
    """The exit status of a child as a person reads it."""
    if status == -signal.SIGKILL:
        return "was killed by SIGKILL, which is what the kernel does when memory runs out (dmesg would say so)"
    if status < 0:
        return f"was killed by signal {-status} ({signal.strsignal(-status)})"
    return f"ended with status {status}"


class Output:
    """Events on what was standard output; whatever a library prints goes to the log instead."""

    def __init__(self, speaks):
        self.fd = os.dup(1) if speaks else -1
        self.lock = threading.Lock()
        os.dup2(2, 1)

    def event(self, *events):
        if self.fd >= 0 and events:
            self.lines(b"".join(json.dumps(e, separators=(",", ":")).encode() + b"\n" for e in events))

    def lines(self, data):
        data = memoryview(data)
        with self.lock:
            while data:
                data = data[os.write(self.fd, data):]

    def error(self, code, message, fatal, run=None):
        self.event({"event": "error", "run": run, "code": code, "message": message, "fatal": fatal})
