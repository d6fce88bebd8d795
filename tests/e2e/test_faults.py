"""`lem experiment` against a worker that dies, hangs, floods and lies: the scripted one of tests/fakes."""
import contextlib
import json
import os
import signal
import sqlite3
import time

import pytest
from conftest import ASAN, QUICK

FAKE = ASAN / "tests" / "fakes" / "fake_worker"
TEXT = QUICK + "\nllamacpp: {batch_size: 4, worker: %s, load_timeout_sec: 2, request_timeout_sec: 2}\n" % FAKE
TEXT = TEXT.replace("llamacpp: {batch_size: 4}\n", "").replace(
    "warmup: {min_prompts: 3, window_size: 3, max_prompts: 5, cv_threshold: 0.5}", "warmup: {requests: 2}")
MEASURED = "run=3"  # two warm-up iterations come first


@pytest.fixture(autouse=True)
def fake_is_built():
    if not FAKE.exists():
        pytest.fail(f"{FAKE} is not built: run make test")


def run(lem, script, *args, check=None):
    return lem("experiment", lem.config(TEXT), *args, env={"LEM_FAKE_WORKER": script}, check=check, timeout=60)


def stored(lem):
    return json.loads(lem("results", "show", "last", "--json", check=0).stdout)


def no_process_left(lem):
    """The worker and its children inherit the test's folder as working directory."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            assert os.readlink(f"/proc/{pid}/cwd") != str(lem.folder), f"process {pid} was left behind"


def database_is_whole(lem, runs):
    with contextlib.closing(sqlite3.connect(lem.folder / "results" / "lem.sqlite")) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert db.execute("SELECT count(*) FROM runs").fetchone() == (runs,)


def test_exact_truth(lem):
    """The timeline is scripted: 8 requests in 2 groups, 10 ms prefill, 15 further steps of 2 ms each."""
    run(lem, "", "--json", check=0)
    r = stored(lem)
    assert r["latency"]["ttft_ms"]["p50"] == pytest.approx(10, abs=1e-6)
    assert r["latency"]["itl_ms"]["p50"] == pytest.approx(2, abs=1e-6)
    assert r["latency"]["itl_ms"]["max"] == pytest.approx(2, abs=1e-6)
    assert r["latency"]["e2e_ms"]["p99"] == pytest.approx(40, abs=1e-6)
    assert r["throughput"]["decode_tokens_per_s"]["value"] == pytest.approx(4 / 0.002, rel=1e-6)
    assert r["throughput"]["prefill_tokens_per_s"]["value"] == pytest.approx(4 * 32 / 0.010, rel=1e-6)
    assert r["tokens"] == {"input": 256, "output": 128}


DEATHS = {
    "fault=load-die": "ended while loading the model: exit status 3",
    "fault=load-vanish": "ended while loading the model",
    "fault=load-hang": "said nothing for 2.0 s while loading the model",
    "fault=load-error": "loading the model",
    "fault=load-bad-json": "not a JSON object",
    "fault=load-half-line": "ended while loading the model",
    "fault=load-protocol": "protocol 2",
    "fault=load-bare": "lacks a valid",
    "fault=load-flood-stderr": "said nothing|floods|ended while",
    f"fault=die {MEASURED}": "ended while generating: exit status 3",
    f"fault=killed {MEASURED}": "killed by signal 9",
    f"fault=hang {MEASURED}": "said nothing for 2.0 s while generating",
    f"fault=hang-hard {MEASURED}": "said nothing for 2.0 s while generating",
    f"fault=error {MEASURED}": "",
    f"fault=noise {MEASURED}": "floods its output",
    f"fault=endless-line {MEASURED}": "longer than 16 MiB",
    f"fault=flood-events {MEASURED}": "floods|keeps sending",
    f"fault=flood-steps {MEASURED}": "more steps than its work can have",
    f"fault=half-line {MEASURED}": "ended while generating",
    "fault=die run=1": "warm-up: the worker ended while generating",
}


@pytest.mark.parametrize("script", DEATHS)
def test_deaths_are_told_and_stored(lem, script):
    t = time.time()
    done = run(lem, script, check=1)
    assert time.time() - t < 30
    assert any(part in done.stderr for part in DEATHS[script].split("|")), done.stderr
    r = stored(lem)
    assert r["status"] == "failed" and r["verdict"]["level"] == "invalid" and r["error"]["what"]
    if MEASURED in script and "endless" not in script and "noise" not in script:
        assert r["window"]["requests_asked"] == 8
    no_process_left(lem)
    database_is_whole(lem, 1)


LIES = {
    "fault=lie-tokens": "claims",
    "fault=lie-input": "token ids were sent",
    "fault=missing": "never answered",
    "fault=duplicate": "twice",
    "fault=extra": "not asked for",
    "fault=short": "were forced",
    "fault=after": "ends after its run",
    "fault=wrong-prefill": "prompt tokens",
    "fault=backwards": "not in order",
    "fault=before": "not in order",
    "fault=unknown-id": "not asked for",
    "fault=missing-step": "stamps show",
}


@pytest.mark.parametrize("script", LIES)
def test_lies_make_the_verdict_invalid(lem, script):
    done = run(lem, f"{script} {MEASURED}", "--json", check=4)
    r = json.loads(done.stdout)
    assert r["status"] == "completed" and r["verdict"]["level"] == "invalid"
    assert any("contradicts itself" in reason or "not answered" in reason for reason in r["verdict"]["reasons"])
    assert any(LIES[script] in note for note in r["notes"]), r["notes"]


def test_a_flood_on_stderr_changes_nothing(lem):
    done = run(lem, f"fault=flood-stderr {MEASURED}", "--json", check=0)
    assert json.loads(done.stdout)["tokens"]["output"] == 128


def test_orphans_are_stopped(lem):
    run(lem, "orphan=1", check=0)
    no_process_left(lem)
    run(lem, f"orphan=1 fault=die {MEASURED}", check=1)
    no_process_left(lem)


def test_what_was_stored_before_survives_a_failure(lem):
    run(lem, "", check=0)
    before = stored(lem)
    run(lem, f"fault=killed {MEASURED}", check=1)
    database_is_whole(lem, 2)
    assert json.loads(lem("results", "show", before["run_id"], "--json", check=0).stdout) == before


@pytest.mark.parametrize("script, needle", [("fault=load-hang", "loading the model"), ("step_ms=200", "warming up"),
                                            (f"fault=hang-hard {MEASURED}", "measuring")])
def test_interrupt_at_any_moment(lem, script, needle):
    text = TEXT.replace("_sec: 2", "_sec: 100")
    p = lem.start("experiment", lem.config(text), env={"LEM_FAKE_WORKER": script})
    seen = ""
    while needle not in seen:
        line = p.stderr.readline()
        assert line, seen
        seen += line
    time.sleep(0.3)
    p.send_signal(signal.SIGINT)
    t = time.time()
    p.communicate(timeout=30)
    assert p.returncode == 130 and time.time() - t < 10
    assert stored(lem)["status"] == "interrupted"
    no_process_left(lem)


def test_lem_killed_takes_the_worker_along(lem):
    p = lem.start("experiment", lem.config(TEXT.replace("_sec: 2", "_sec: 100")), env={"LEM_FAKE_WORKER": f"fault=hang {MEASURED}"})
    while "measuring" not in p.stderr.readline():
        pass
    time.sleep(0.3)
    p.kill()
    p.communicate()
    time.sleep(0.5)
    no_process_left(lem)


def test_a_secret_that_the_engine_repeats_is_stored_nowhere(lem):
    worker = lem.folder / "worker"
    worker.write_text("""#!/bin/sh
read -r load  # one that ends before it was asked is another story
echo "my token is $HF_TOKEN" >&2
echo "{\\"event\\": \\"error\\", \\"run\\": null, \\"code\\": \\"model_load\\", \\"message\\": \\"403 for $HF_TOKEN\\", \\"fatal\\": true}"
""")
    worker.chmod(0o755)
    text = TEXT.replace(str(FAKE), str(worker)) + "env: {HF_TOKEN: hf_abcdefgh}\n"
    done = lem("experiment", lem.config(text), check=1)
    assert "403 for ***" in done.stderr and "hf_abcdefgh" not in done.stderr + done.stdout
    for path in (lem.folder / "results").iterdir():
        assert b"hf_abcdefgh" not in path.read_bytes(), path
