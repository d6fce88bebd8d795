"""Servers that answer badly, end, or are not who they should be: through `lem experiment`, to the words that a user reads."""
import contextlib
import json
import os
import shutil
import socket
import subprocess
import threading
import time

import pytest
from openai_fake import Fake, certificate
from test_experiment import processes_of
from test_faults import TEXT as WORKER
from test_http import FAULTY, WARM, engine, openai, reasons, rows


def stored(lem):
    return json.loads(lem("results", "show", "last", "--json", check=0).stdout)


def first_failure(r):
    return next((n for n in r["notes"] if n.startswith("the first failure: ")), "")


# ---- what comes back is not an answer ----

IN_WINDOW = {
    "500": ("http_5xx", "status 500", "own log"),
    "404": ("http_4xx", "status 404", "model_name"),
    "429": ("http_429", "status 429", "traffic.rate"),
    "redirect": ("redirect", "status 302", "follows no redirects"),
    "html": ("bad_body", "stream of events", "curl"),
    "error-body": ("error_body", "as told", "own log"),
    "error-in-stream": ("error_body", "as told", "own log"),
    "bad-json": ("bad_body", "not the JSON", "curl"),
    "half-utf8": ("bad_body", "not UTF-8", "curl"),
    "cut-chunk": ("closed_early", "before the answer was complete", "log"),
    "close-mid": ("closed_early", "before the answer was complete", "log"),
    "reset-mid": ("reset", "reset by peer", "log"),
    "flood": ("too_long", "longer than any answer", "max_tokens"),
    "endless": ("timeout", "time limit", "request_timeout_sec (now 3.0 s)"),
    "never-ends": ("timeout", "time limit", "request_timeout_sec (now 3.0 s)"),
    "stall": ("timeout", "time limit", "request_timeout_sec (now 3.0 s)"),
    "empty": ("empty", "without a single token", "min_output_tokens"),
}


@pytest.mark.parametrize("fault", IN_WINDOW)
def test_two_of_eight_fail(lem, tmp_path, fault):
    """Those that were answered are kept and counted, those that failed are by class, and the first is told in words with a way out."""
    name, words, way_out = IN_WINDOW[fault]
    with Fake(tmp_path, "--fault", fault, "--every", 4, *FAULTY) as f:
        done = lem("experiment", lem.config(openai(f.port)), "--json", *WARM, check=4)
    for r in (json.loads(done.stdout), stored(lem)):
        assert r["status"] == "completed" and r["verdict"]["level"] == "invalid"
        assert r["client"]["failures"] == {name: 2} and r["window"]["requests"] == 6 and r["window"]["requests_asked"] == 8
        told = 8 if fault == "never-ends" else 6  # it had said all, usage too, but for its end
        assert r["tokens"] == {"input": told * 32, "output": told * 12}
        assert "2 of 8 requests were not answered" in reasons(r) and words in first_failure(r) and way_out in first_failure(r)
    assert [x["output_tokens"] for x in rows(lem) if x["finish"] != "error"] == [12] * 6 and len(rows(lem)) == 8


def test_what_came_before_a_fault_is_kept(lem, tmp_path):
    """Passes are repeated until one has a fault; those before are whole, and the chunks of the broken answer have their stamps."""
    with Fake(tmp_path, "--fault", "close-mid", "--every", 1000, "--after", 9 + 24, "--per-chunk", 4) as f:
        done = lem("experiment", lem.config(openai(f.port)), "--json", "--set", "window={min_duration_sec: 0.2}", *WARM)
    r = json.loads(done.stdout)
    assert done.returncode == 4 and r["client"]["failures"] == {"closed_early": 1} and r["window"]["requests"] >= 24
    broken = next(x for x in rows(lem) if x["finish"] == "error")
    assert broken["first_token_ns"] and broken["sent_ns"] < broken["first_token_ns"]


@pytest.mark.parametrize("fault", ["500", "html", "redirect", "stall", "cut-chunk", "reset-mid", "flood", "empty", "404"])
def test_nothing_is_measured_of_a_server_that_never_answers_well(lem, tmp_path, fault):
    with Fake(tmp_path, "--fault", fault) as f:
        t = time.time()
        done = lem("experiment", lem.config(openai(f.port)), check=1)
    assert time.time() - t < 30
    assert "asking the server: the request failed" in done.stderr and f":{f.port}/v1/completions" in done.stderr and "hint:" in done.stderr


@pytest.mark.parametrize("fault, way_out", [("500", "own log"), ("429", "traffic.rate"), ("close-mid", "proxy")])
def test_every_request_fails(lem, tmp_path, fault, way_out):
    with Fake(tmp_path, "--fault", fault, *FAULTY) as f:
        done = lem("experiment", lem.config(openai(f.port)), *WARM, check=1)
    r = stored(lem)
    assert "every request failed while generating" in done.stderr and way_out in done.stderr
    assert r["status"] == "failed" and sum(r["client"]["failures"].values()) == 8 and r["verdict"]["level"] == "invalid"
    assert r["window"]["requests"] == 0 and r["efficiency"]["j_per_output_token"]["value"] is None


def test_idle_connections_that_are_closed_cost_nothing_but_a_second_try(lem, tmp_path):
    with Fake(tmp_path, "--fault", "drop-idle") as f:
        r = lem.experiment("--set", "traffic={concurrency: 1, duration_sec: 1}", text=openai(f.port))
    assert r["client"]["failures"] == {} and r["client"]["retried"] >= 3 and r["window"]["requests"] > 3
    assert r["tokens"]["output"] >= 12 * (r["window"]["requests"] - 1)


def test_nothing_is_sent_twice_to_a_server_that_behaves(lem, tmp_path):
    with Fake(tmp_path) as f:
        r = lem.experiment("--set", "traffic={concurrency: 2, duration_sec: 1}", text=openai(f.port))
    assert r["client"]["retried"] == 0


# ---- it is not who it should be ----

def test_somebody_who_speaks_no_http(lem):
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as s:
        def banner():
            with contextlib.suppress(OSError):
                while True:
                    c, _ = s.accept()
                    c.sendall(b"220 mail ESMTP\r\n")
                    c.close()
        threading.Thread(target=banner, daemon=True).start()
        done = lem("experiment", lem.config(openai(s.getsockname()[1])))
        s.shutdown(socket.SHUT_RDWR)
    assert done.returncode == 1 and "does not answer" in done.stderr and "hint:" in done.stderr


@pytest.fixture
def trusted(tmp_path):
    """A CA of the test's own in place of the host's, for lem alone: in a mount namespace."""
    bundle = "/etc/ssl/certs/ca-certificates.crt"
    if not shutil.which("openssl") or not shutil.which("unshare") or not os.path.exists(bundle):
        pytest.skip("needs the programs openssl and unshare, and the host's CA bundle")
    ca = certificate(tmp_path / "ca")
    if subprocess.run(["unshare", "-m", "mount", "--bind", ca, bundle], capture_output=True).returncode:
        pytest.skip("needs a mount namespace (root)")

    def run(lem, text, *args, **kw):
        script = f'mount --bind {ca} {bundle} && exec {lem.program} "$@"'
        return lem("-m", "sh", "-c", script, "sh", "experiment", lem.config(text), *args, program="unshare", env={"SSL_CERT_FILE": str(ca)}, **kw)

    return ca, run


def test_a_certificate_that_is_good(lem, tmp_path, trusted):
    ca, run = trusted
    with Fake(tmp_path, "--cert", certificate(tmp_path / "good", ca=ca)) as f:
        done = run(lem, openai(f.port, scheme="https"), "--json", check=0)
    assert json.loads(done.stdout)["tokens"]["output"] == 8 * 12


@pytest.mark.parametrize("made, needle", [({"days": -1}, "expired"), ({"name": "other.example"}, "127.0.0.1")])
def test_a_certificate_that_is_not(lem, tmp_path, trusted, made, needle):
    ca, run = trusted
    with Fake(tmp_path, "--cert", certificate(tmp_path / "bad", ca=ca, **made)) as f:
        done = run(lem, openai(f.port, scheme="https"))
        r = lem.experiment(text=openai(f.port, ", tls_verify: false", scheme="https"))
    assert done.returncode == 2 and "ertificate" in done.stderr and needle in done.stderr and "tls_verify" in done.stderr
    assert r["tokens"]["output"] == 8 * 12


# ---- an engine that lem starts ----

def test_a_port_taken_meanwhile_is_left_for_another(lem):
    """The engine says so and ends; lem starts it again elsewhere."""
    env, text = engine(lem)
    r = lem.experiment(text=text, env={**env, "FAKE_FAULT": "port-taken", "FAKE_ONCE": str(lem.folder / "once")})
    assert r["status"] == "completed" and r["tokens"]["output"] == 8 * 12
    assert any("was taken by somebody else" in n and "started again" in n for n in r["notes"])
    assert processes_of(lem.folder) == []


def test_ports_that_are_always_taken_are_explained(lem):
    env, text = engine(lem)
    t = time.time()
    done = lem("experiment", lem.config(text), env={**env, "FAKE_FAULT": "port-taken"}, check=1)
    assert time.time() - t < 20 and "X07" in done.stderr and "address already in use" in done.stderr and "ss -ltnp" in done.stderr
    assert sum("was taken by somebody else" in n for n in stored(lem)["notes"]) == 2, "three ports are tried"
    assert processes_of(lem.folder) == []


def test_killed_in_the_window(lem):
    """SIGKILL by somebody: what was measured is kept and marked, and that it was not the OOM killer is said where the kernel counts."""
    env, text = engine(lem)
    done = lem("experiment", lem.config(text), "--set", "warmup={requests: 1}", "--set", "window.min_duration_sec=30",
               env={**env, "FAKE_FAULT": "kill-mid", "FAKE_AFTER": "45"}, check=1)
    r = stored(lem)
    assert "the engine ended while generating: killed by signal 9" in done.stderr and "works as ever" in done.stderr
    assert "memory ran out" not in done.stderr and "X02" not in done.stderr
    assert r["status"] == "failed" and r["verdict"]["level"] == "invalid" and r["tokens"]["output"] >= 4 * 96
    assert "the run failed before its window was complete" in reasons(r) and sum(r["client"]["failures"].values()) > 0
    assert processes_of(lem.folder) == []


def test_a_worker_killed_in_the_window(lem):
    """The same of an engine that speaks lem's own protocol: two passes are whole, in the third it is killed."""
    done = lem("experiment", lem.config(WORKER), "--set", "window.min_duration_sec=60", env={"LEM_FAKE_WORKER": "fault=killed run=5"}, check=1)
    r = stored(lem)
    assert "the worker ended while generating: killed by signal 9" in done.stderr and "memory ran out" not in done.stderr
    assert r["status"] == "failed" and r["tokens"]["output"] >= 2 * 8 * 16 and r["window"]["requests"] == 16
    assert r["window"]["requests_asked"] == 24 and r["verdict"]["level"] == "invalid"
    assert processes_of(lem.folder) == []
