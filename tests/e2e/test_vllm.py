"""A real vLLM, on the CPU, started by lem: `LEM_VLLM_PYTHON` names the interpreter of its environment (setup --engines makes one)."""
import json
import os
import pathlib

import pytest
from conftest import CACHE
from test_experiment import processes_of

TEXT = """
config_name: vllm-cpu
model_name: synthetic:llama-15m
backend: vllm
runner: process
gpus: []
fp_precision: bfloat16
vllm: {python: %s, max_num_seqs: 16, enforce_eager: true, load_timeout_sec: 300}
env: {VLLM_CPU_KVCACHE_SPACE: 1}
max_input_tokens: 48
max_output_tokens: 24
min_output_tokens: 24
prompts: {type: synthetic, count: 16, input_tokens: 48}
decoder: {preset: deterministic}
warmup: {min_prompts: 3, window_size: 3, max_prompts: 4, cv_threshold: 0.9}
baseline: {enabled: false}
random_seed: 1
"""


def find_python():
    named = os.environ.get("LEM_VLLM_PYTHON")
    if named:
        return named
    made = sorted(pathlib.Path(CACHE).glob("engines/vllm-cpu-*/bin/python"))
    return str(made[-1]) if made else None


@pytest.fixture
def text():
    python = find_python()
    if not python or not os.access(python, os.X_OK):
        pytest.skip("needs a real vLLM: LEM_VLLM_PYTHON, or setup --engines")
    return TEXT % python


def test_offline_forced_lengths_are_exact(lem, text):
    r = lem.experiment(text=text, timeout=400)
    assert r["status"] == "completed" and r["engine"]["name"] == "vllm" and r["engine"]["version"]
    assert r["tokens"] == {"input": 16 * 48, "output": 16 * 24} and r["window"]["requests"] == 16
    assert r["client"]["failures"] == {} and r["client"]["lengths_differ"] == 0 and r["client"]["server_metrics"] is True
    assert r["latency"]["itl_ms"]["n"] + r["latency"]["ttft_ms"]["n"] >= 16 * 20
    assert r["model"]["weights"] == "synthetic" and r["flops"]["total"]["value"] > 0
    rows = json.loads(lem("results", "export", "last", "--format", "json", check=0).stdout)
    assert {(x["input_tokens"], x["output_tokens"]) for x in rows} == {(48, 24)}
    assert processes_of(lem.folder) == []


def test_server_mode(lem, text):
    r = lem.experiment("--set", "traffic={rate: 6, duration_sec: 6, ramp_sec: 1, seed: 3}", text=text, timeout=400)
    assert r["engine"]["mode"] == "server/open" and r["client"]["mode"] == "server"
    assert r["window"]["requests"] == r["window"]["requests_asked"] > 10
    assert r["window"]["seconds"] == pytest.approx(5, abs=0.01) and r["client"]["failures"] == {}
    rows = json.loads(lem("results", "export", "last", "--format", "json", check=0).stdout)
    assert {x["output_tokens"] for x in rows} == {24}
    assert processes_of(lem.folder) == []


def test_several_loads_in_one_launch(lem, text):
    """One start and warm-up; the second load is far beyond what 16 sequences at a time on a CPU can give."""
    done = lem("experiment", lem.config(text), "--json", "--set", "traffic={rates: [3, 300], duration_sec: 5, settle_sec: 1, seed: 3}", timeout=500)
    assert done.returncode == 0, done.stderr + done.stdout
    slow, fast = json.loads(done.stdout)["levels"]
    assert [r["level"]["rate_hz"] for r in (slow, fast)] == [3, 300] and slow["tokens"]["output"] > 0
    assert not any("overloaded" in x for x in slow["verdict"]["reasons"]) and any("overloaded" in x for x in fast["verdict"]["reasons"])
    assert fast["throughput"]["output_tokens_per_s"]["value"] > slow["throughput"]["output_tokens_per_s"]["value"]
    assert fast["client"]["headroom"]["chunks"]["value"] > 1 and fast["client"]["failures"] == slow["client"]["failures"] == {}
    assert [p for p in slow["phases"] if p["phase"] == "load"] == [p for p in fast["phases"] if p["phase"] == "load"]
    assert processes_of(lem.folder) == []


def test_impossible_option_is_explained(lem, text):
    """Refused by vLLM itself, after its start: lem tells its words at once."""
    done = lem("experiment", lem.config(text.replace("enforce_eager: true", "enforce_eager: true, max_model_len: 7777777")), timeout=400)
    assert done.returncode == 1 and "ended while starting" in done.stderr and "7777777" in done.stderr + done.stdout
    assert processes_of(lem.folder) == []
