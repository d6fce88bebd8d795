"""Engines that are HTTP servers: a scripted server as backend openai, and as an engine that lem starts itself."""
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import ASAN, ROOT
from openai_fake import PROGRAM, Fake
from test_experiment import processes_of

COMMON = """
max_input_tokens: 32
max_output_tokens: 12
min_output_tokens: 12
prompts: {type: synthetic, count: 8, input_tokens: 32}
decoder: {preset: deterministic}
warmup: {min_prompts: 3, window_size: 3, max_prompts: 3, cv_threshold: 0.9}
baseline: {enabled: false}
random_seed: 1
"""


def fake_gpus(lem):
    """Four GPUs that are not there; the fake driver is sanitized, so lem is too."""
    for path in (ASAN / "lem", ASAN / "lem-gpuprobe"):
        if not path.exists():
            pytest.fail(f"{path} is not built: run make test")
    lem.program = str(ASAN / "lem")
    fakes = ASAN / "tests" / "fakes"
    return {"LEM_NVML_LIBRARY": str(fakes / "libnvml_fake.so"), "LEM_CUDA_LIBRARY": str(fakes / "libcuda_fake.so"),
            "LEM_FAKE_CUDA": "gpus=4;dev=*", "LEM_FAKE_NVML": "gpus=4"}


def openai(port, extra="", scheme="http"):
    return f'config_name: served\nmodel_name: fake\nbackend: openai\nopenai: {{url: "{scheme}://127.0.0.1:{port}/v1", request_timeout_sec: 3{extra}}}\n' + COMMON


def reasons(r):
    return " | ".join(r["verdict"]["reasons"])


def rows(lem):
    return json.loads(lem("results", "export", "last", "--format", "json", check=0).stdout)


# ---- a server that runs already ----

def test_offline_is_exact(lem, tmp_path):
    with Fake(tmp_path, "--per-chunk", 3) as f:
        r = lem.experiment(text=openai(f.port))
    assert r["status"] == "completed" and r["engine"]["name"] == "openai" and r["engine"]["mode"] == "offline/continuous"
    assert r["tokens"] == {"input": 8 * 32, "output": 8 * 12} and r["window"]["requests"] == 8
    assert r["engine"]["version"] == "0.0.fake" and r["engine"]["reported"]["served_model"] == "fake"
    c = r["client"]
    assert c["mode"] == "offline" and c["chunks"] == 8 * 4 and c["failures"] == {} and c["server_metrics"] is True
    assert c["schedule_lag_ms"]["n"] == 8 and c["schedule_lag_ms"]["p50"] >= 0 and c["busy"]["value"] >= 0
    # 4 chunks of 3 tokens: 3 gaps; how many tokens each holds was not told
    assert r["latency"]["itl_by_chunk_ms"]["n"] == 8 * 3 and r["latency"]["itl_ms"]["p50"] is None and "chunk" in r["latency"]["itl_ms"]["reason"]
    assert r["latency"]["tpot_ms"]["n"] == 8 and r["routing"]["path"] == "external" and r["routing"]["proved"] is False
    assert [x["output_tokens"] for x in rows(lem)] == [12] * 8


def test_tokens_of_chunks_are_told(lem, tmp_path):
    """continuous_usage_stats, asked for in extra_body: each token has its share of the gap before its chunk."""
    with Fake(tmp_path, "--per-chunk", 3, "--token-ms", 5) as f:
        text = openai(f.port, ", extra_body: {stream_options: {include_usage: true, continuous_usage_stats: true}}")
        r = lem.experiment(text=text)
    assert r["latency"]["itl_ms"]["n"] == 8 * 9 and r["latency"]["itl_by_chunk_ms"]["n"] == 8 * 3
    assert r["latency"]["itl_ms"]["p50"] * 3 == pytest.approx(r["latency"]["itl_by_chunk_ms"]["p50"], rel=0.2)


def test_document_holds_to_its_schema(lem, tmp_path):
    from jsonschema import Draft202012Validator
    schema = json.loads((ROOT / "docs" / "result-schema.json").read_text())
    with Fake(tmp_path) as f:
        r = lem.experiment(text=openai(f.port))
    assert [e.message for e in Draft202012Validator(schema).iter_errors(r)] == []


def test_same_ids_whoever_serves(lem, tmp_path):
    with Fake(tmp_path) as f:
        a, b = lem.experiment(text=openai(f.port)), lem.experiment("--seed", "2", text=openai(f.port))
    assert a["provenance"]["prompts_sha256"] != b["provenance"]["prompts_sha256"]


def test_passes_until_the_window_is_long_enough(lem, tmp_path):
    with Fake(tmp_path) as f:
        r = lem.experiment("--set", "window.min_duration_sec=1", text=openai(f.port))
    assert r["window"]["seconds"] >= 1 and r["window"]["requests"] % 8 == 0 and r["window"]["requests"] > 8
    assert r["tokens"]["output"] == 12 * r["window"]["requests"]


def test_streaming_is_one_at_a_time(lem, tmp_path):
    with Fake(tmp_path) as f:
        r = lem.experiment("--streaming", text=openai(f.port))
    assert r["engine"]["mode"] == "offline/streaming"
    q = rows(lem)
    assert all(a["last_token_ns"] <= b["sent_ns"] for a, b in zip(q, q[1:]))


def test_open_loop_follows_its_schedule(lem, tmp_path):
    with Fake(tmp_path, "--token-ms", 30) as f:
        r = lem.experiment("--set", "traffic={arrival: constant, rate: 40, duration_sec: 2, ramp_sec: 0.5}", text=openai(f.port))
    assert r["engine"]["mode"] == "server/open" and r["client"]["mode"] == "server"
    assert r["window"]["requests"] == r["window"]["requests_asked"] == 60  # 40/s from 0.5 s to 2 s
    assert r["window"]["seconds"] == pytest.approx(1.5, abs=1e-6)
    phases = [p["phase"] for p in r["phases"]]
    assert phases.index("measure") < phases.index("drain") < phases.index("stop")
    t = [x["scheduled_ns"] for x in rows(lem)]
    assert len(t) == 80 and all(b - a == pytest.approx(25e6, abs=10) for a, b in zip(t, t[1:]))
    # tokens belong to the window by their stamps, so about 60 requests' worth
    assert abs(r["tokens"]["output"] - 720) < 60


def test_poisson_has_a_seed(lem, tmp_path):
    gaps = []
    with Fake(tmp_path) as f:
        for seed in (7, 7, 8):
            lem.experiment("--set", f"traffic={{rate: 100, duration_sec: 0.5, seed: {seed}}}", text=openai(f.port))
            t = [x["scheduled_ns"] for x in rows(lem)]
            gaps.append([round((x - t[0]) / 1e3) for x in t])
    assert gaps[0] == gaps[1] != gaps[2]


def test_closed_loop_keeps_its_number_in_flight(lem, tmp_path):
    with Fake(tmp_path, "--token-ms", 3) as f:
        r = lem.experiment("--set", "traffic={concurrency: 3, duration_sec: 1}", text=openai(f.port))
    assert r["engine"]["mode"] == "server/closed" and r["window"]["requests"] > 8
    events = sorted([(x["sent_ns"], 1) for x in rows(lem)] + [(x["last_token_ns"], -1) for x in rows(lem)])
    level = most = 0
    for _, step in events:
        level += step
        most = max(most, level)
    assert most == 3


def test_recorded_arrivals(lem, tmp_path):
    (lem.folder / "t.txt").write_text("# seconds\n0\n0.05\n0.05\n0.3\n")
    with Fake(tmp_path) as f:
        r = lem.experiment("--set", "traffic={arrival: trace, trace: t.txt}", text=openai(f.port))
        bad = lem.folder / "bad.txt"
        bad.write_text("0\nsoon\n")
        done = lem("experiment", lem.config(openai(f.port)), "--set", "traffic={arrival: trace, trace: bad.txt}")
    assert r["window"]["requests"] == 4
    assert "bad.txt:2" in done.stderr and "seconds" in done.stderr


def test_chat_takes_text(lem, tmp_path):
    (lem.folder / "p.txt").write_text("one two\nthree\n")
    with Fake(tmp_path) as f:
        refused = lem("experiment", lem.config(openai(f.port, ", endpoint: chat")), check=2)
        text = openai(f.port, ", endpoint: chat").replace("{type: synthetic, count: 8, input_tokens: 32}", "{type: file, path: p.txt}")
        r = lem.experiment("--set", "save_outputs=true", text=text)
    assert "token ids" in refused.stderr and "hint:" in refused.stderr
    assert r["tokens"] == {"input": 3, "output": 24}
    assert rows(lem)[0]["text"].startswith("w0 w1 ")


def test_key_is_sent_and_never_kept(lem, tmp_path):
    with Fake(tmp_path, "--key", "s3cret-k3y") as f:
        text = openai(f.port, ", api_key_env: FAKE_KEY")
        unset = lem("experiment", lem.config(text), check=2)
        wrong = lem("experiment", lem.config(text), env={"FAKE_KEY": "no"}, check=1)
        lem.experiment(text=text, env={"FAKE_KEY": "s3cret-k3y"})
    assert "FAKE_KEY" in unset.stderr and "401" in wrong.stderr
    for p in (lem.folder / "results").iterdir():
        assert b"s3cret-k3y" not in p.read_bytes()


def test_metrics_are_kept_with_the_run(lem, tmp_path):
    with Fake(tmp_path) as f:
        assert lem.experiment(text=openai(f.port))["client"]["server_metrics"] is True
    with Fake(tmp_path, "--dialect", "plain") as f:
        assert lem.experiment(text=openai(f.port))["client"]["server_metrics"] is False


def test_gpus_of_this_host_are_metered_but_not_proved(lem, tmp_path):
    with Fake(tmp_path) as f:
        done = lem("experiment", lem.config(openai(f.port) + "gpus: [0]\n"), "--json", env=fake_gpus(lem))
    assert done.returncode == 0, done.stdout + done.stderr
    r = json.loads(done.stdout)
    assert r["routing"]["path"] == "external" and r["routing"]["proved"] is False
    assert r["verdict"]["level"] == "suspect" and "did not start the server" in reasons(r)
    assert len(r["gpus"]) == 1


# ---- what goes wrong ----

def test_nobody_listens(lem):
    t = time.time()
    done = lem("experiment", lem.config(openai(1)), check=1)
    assert time.time() - t < 30 and "127.0.0.1:1" in done.stderr and "hint:" in done.stderr


def test_unknown_host(lem):
    text = openai(1).replace("127.0.0.1:1", "no-such-host.invalid:80")
    done = lem("experiment", lem.config(text))
    assert done.returncode in (1, 2) and "no-such-host.invalid" in done.stderr and "hint:" in done.stderr


def test_no_tls_there(lem, tmp_path):
    with Fake(tmp_path) as f:
        done = lem("experiment", lem.config(openai(f.port, scheme="https")))
    assert done.returncode in (1, 2) and "tls" in done.stderr.lower() + "ssl" and "hint:" in done.stderr


def test_certificate_nobody_knows(lem, tmp_path):
    cert = tmp_path / "cert.pem"
    made = subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost", "-keyout",
                           str(tmp_path / "k"), "-out", str(tmp_path / "c")], capture_output=True)
    if made.returncode != 0:
        pytest.skip("needs the openssl program")
    cert.write_text((tmp_path / "k").read_text() + (tmp_path / "c").read_text())
    with Fake(tmp_path, "--cert", cert) as f:
        done = lem("experiment", lem.config(openai(f.port, scheme="https")))
        r = lem.experiment(text=openai(f.port, ", tls_verify: false", scheme="https"))
    assert done.returncode in (1, 2) and "certificate" in done.stderr and "tls_verify" in done.stderr
    assert r["tokens"]["output"] == 8 * 12


def test_another_model(lem, tmp_path):
    with Fake(tmp_path, "--model", "other") as f:
        done = lem("experiment", lem.config(openai(f.port)), check=2)
    assert "does not serve 'fake'" in done.stderr and "other" in done.stderr


def test_lengths_that_are_not_honoured_are_found_before_the_window(lem, tmp_path):
    with Fake(tmp_path, "--dialect", "bare") as f:
        done = lem("experiment", lem.config(openai(f.port)), "--json", check=4)
    assert "told no token counts for 8 requests" in reasons(json.loads(done.stdout))
    with Fake(tmp_path, "--fault", "short") as f:
        done = lem("experiment", lem.config(openai(f.port)), check=1)
    assert "gave 11 tokens where 12 were forced" in done.stderr and "extra_body" in done.stderr


WARM = ["--set", "warmup={requests: 1}"]  # one token probe, one batch of 8, then the window
FAULTY = ["--after", 9]


@pytest.mark.parametrize("fault, name", [("500", "http_5xx"), ("429", "http_429"), ("error-body", "error_body"), ("close-mid", "closed_early"),
                                         ("bad-json", "bad_body"), ("half-utf8", "bad_body"), ("redirect", "redirect"),
                                         ("error-in-stream", "error_body"), ("stall", "timeout")])
def test_failures_are_counted_by_class(lem, tmp_path, fault, name):
    with Fake(tmp_path, "--fault", fault, "--every", 4, *FAULTY) as f:
        done = lem("experiment", lem.config(openai(f.port)), "--json", *WARM, check=4)
    r = json.loads(done.stdout)
    assert r["client"]["failures"] == {name: 2}, r["client"]
    assert r["window"]["requests"] == 6 and r["window"]["requests_asked"] == 8
    assert r["verdict"]["level"] == "invalid" and "2 of 8 requests were not answered" in reasons(r) and f"2 {name}" in reasons(r)
    assert r["status"] == "completed"


@pytest.mark.parametrize("fault, text", [("long", "another number of tokens"), ("short", "another number of tokens"),
                                         ("usage-low", "contradict"), ("cached", "prefix cache")])
def test_answers_that_are_not_what_was_asked(lem, tmp_path, fault, text):
    with Fake(tmp_path, "--fault", fault, *FAULTY) as f:
        done = lem("experiment", lem.config(openai(f.port)), "--json", *WARM)
    r = json.loads(done.stdout)
    assert text in reasons(r) + " ".join(r["notes"]), r["verdict"]
    assert done.returncode == (0 if fault == "cached" else 4) and r["verdict"]["level"] != "valid"


def test_every_request_fails(lem, tmp_path):
    with Fake(tmp_path, "--fault", "500", *FAULTY) as f:
        done = lem("experiment", lem.config(openai(f.port)), *WARM, check=1)
    assert "every request failed" in done.stderr


def test_interrupt_keeps_what_came(lem, tmp_path):
    with Fake(tmp_path, "--token-ms", 100) as f:
        p = lem.start("experiment", lem.config(openai(f.port)), "--set", "window.min_duration_sec=60", "--set", "warmup={requests: 1}")
        seen = ""
        while "measuring" not in seen:
            line = p.stderr.readline()
            assert line, seen
            seen += line
        time.sleep(2)
        p.send_signal(signal.SIGINT)
        t = time.time()
        p.communicate(timeout=30)
    assert p.returncode == 130 and time.time() - t < 10
    r = json.loads(lem("results", "show", "last", "--json", check=0).stdout)
    assert r["status"] == "interrupted" and r["tokens"]["output"] > 0 and r["client"]["failures"].get("cancelled", 0) > 0


# ---- an engine that lem starts ----

def engine(lem, name="vllm", extra=""):
    """The fake under the name that lem looks for, as the engine's own program."""
    folder = lem.folder / "bin"
    folder.mkdir(exist_ok=True)
    program = {"vllm": "vllm", "sglang": "python-sglang", "tensorrt": "trtllm-serve"}[name]
    path = folder / program
    path.write_text(f"#!/bin/sh\nexec {sys.executable} {PROGRAM} \"$@\"\n")
    path.chmod(0o755)
    section = {"vllm": f"vllm: {{load_timeout_sec: 20, request_timeout_sec: 5{extra}}}",
               "sglang": f"sglang: {{python: {path}, load_timeout_sec: 20, request_timeout_sec: 5{extra}}}",
               "tensorrt": f"tensorrt: {{load_timeout_sec: 20, request_timeout_sec: 5{extra}}}"}[name]
    return {"PATH": f"{folder}:{os.environ['PATH']}"}, \
        f"config_name: started\nmodel_name: synthetic:llama-15m\nbackend: {name}\nrunner: process\ngpus: []\n{section}\n" + COMMON


def test_started_engine_is_measured_and_stopped(lem):
    env, text = engine(lem)
    r = lem.experiment(text=text, env=env)
    assert r["engine"]["name"] == "vllm" and r["engine"]["version"] == "0.0.fake"
    assert r["tokens"] == {"input": 256, "output": 96} and r["latency"]["itl_ms"]["n"] == 8 * 11
    argv = r["engine"]["reported"]["argv"]
    assert argv[:2] == ["vllm", "serve"] and "--no-enable-prefix-caching" in argv
    assert int(argv[argv.index("--port") + 1]) > 1024
    assert r["flops"]["total"]["value"] > 0 and r["routing"]["path"] == "none"
    assert processes_of(lem.folder) == []


def test_server_mode_on_a_started_engine(lem):
    env, text = engine(lem)
    r = lem.experiment("--set", "traffic={rate: 50, duration_sec: 1}", text=text, env=env)
    assert r["engine"]["mode"] == "server/open" and r["window"]["requests"] > 20
    assert processes_of(lem.folder) == []


def test_a_chatty_server_is_not_held_up(lem):
    """64 KiB and more a request on stdout: a pipe that nobody reads would stop the server for good."""
    env, text = engine(lem)
    r = lem.experiment(text=text, env={**env, "FAKE_CHATTER": "200000"})
    assert r["status"] == "completed" and r["window"]["requests"] == 8


def test_slow_start_is_awaited(lem):
    env, text = engine(lem)
    r = lem.experiment(text=text, env={**env, "FAKE_START_S": "2"})
    load = next(p for p in r["phases"] if p["phase"] == "load")
    assert r["status"] == "completed" and load["end_ns"] - load["start_ns"] > 2e9


def test_never_ready(lem):
    env, text = engine(lem)
    t = time.time()
    done = lem("experiment", lem.config(text.replace("load_timeout_sec: 20", "load_timeout_sec: 3")), env={**env, "FAKE_FAULT": "health"}, check=1)
    assert "was not ready within" in done.stderr and "503" in done.stderr and "load_timeout_sec" in done.stderr
    assert time.time() - t < 20 and processes_of(lem.folder) == []


def test_death_at_start_is_noticed_and_explained(lem):
    env, text = engine(lem)
    t = time.time()
    done = lem("experiment", lem.config(text), env={**env, "FAKE_FAULT": "die-at-start"}, check=1)
    assert time.time() - t < 10, "its end must be seen at once, not at the deadline"
    assert "exit status 1" in done.stderr and "R26" in done.stderr and "hint:" in done.stderr


def test_the_root_cause_is_told_not_the_line_that_points_at_it(lem):
    env, text = engine(lem)
    done = lem("experiment", lem.config(text), env={**env, "FAKE_FAULT": "die-in-worker"}, check=1)
    assert "its last words: AttributeError: '_C' has no attribute" in done.stderr


def test_death_in_the_window_keeps_what_was_measured(lem):
    env, text = engine(lem)
    t = time.time()
    done = lem("experiment", lem.config(text), "--json", "--set", "warmup={requests: 1}", "--set", "window.min_duration_sec=30",
               env={**env, "FAKE_FAULT": "die-mid", "FAKE_AFTER": "45"}, check=1)
    assert time.time() - t < 20
    r = json.loads(lem("results", "show", "last", "--json", check=0).stdout)
    assert "exit status 3" in done.stderr and "lost its mind" in done.stderr
    assert r["status"] == "failed" and r["tokens"]["output"] >= 4 * 96 and r["verdict"]["level"] == "invalid"
    assert processes_of(lem.folder) == []


def test_program_that_is_not_there(lem):
    _, text = engine(lem)
    done = lem("experiment", lem.config(text), env={"PATH": "/usr/bin:/bin"}, check=1)
    assert "vllm" in done.stderr and "No such file" in done.stderr


@pytest.mark.parametrize("name", ["sglang", "tensorrt"])
def test_dialects(lem, name):
    env, text = engine(lem, name)
    env.update(fake_gpus(lem))
    done = lem("experiment", lem.config(text.replace("gpus: []", "gpus: [2]")), "--json",
               env={**env, "FAKE_DIALECT": "vllm" if name == "sglang" else "plain"})
    assert done.returncode == 0, done.stdout + done.stderr
    r = json.loads(done.stdout)
    assert r["tokens"] == {"input": 256, "output": 96} and r["engine"]["name"] == name
    assert r["routing"]["proved"] is True and r["routing"]["path"] == "process" and r["gpus"][0]["index"] == 2
    assert r["latency"]["itl_ms"]["n"] == 8 * 11, "one token a chunk"
    assert processes_of(lem.folder) == []


def test_workers_are_not_driven_by_traffic(lem):
    done = lem("experiment", lem.config(), "--set", "traffic={rate: 1}", check=2)
    assert "llamacpp" in done.stderr and "traffic" in done.stderr


def test_dry_run_of_a_server_that_runs_already(lem):
    done = lem("experiment", lem.config(openai(1)), "--dry-run", check=0)
    plan = json.loads(lem("experiment", lem.config(openai(1)), "--dry-run", "--json", check=0).stdout)
    assert "external" in done.stdout + json.dumps(plan) and not (lem.folder / "results").exists()
