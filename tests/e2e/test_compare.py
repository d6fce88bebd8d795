"""`lem results compare`: the same work on two engines, and every way in which it is not the same."""
import json
import signal

import jsonschema
import pytest
from conftest import QUICK, ROOT
from openai_fake import Fake
from test_http import FAULTY, WARM, engine, openai

SCHEMA = json.loads((ROOT / "docs" / "compare-schema.json").read_text())
MODEL = "synthetic:llama-15m"


def compare(lem, a, b, check):
    """The document, after the text said the same."""
    text = lem("results", "compare", a, b, check=check)
    done = lem("results", "compare", a, b, "--json", check=check)
    c = json.loads(done.stdout)
    assert [e.message for e in jsonschema.Draft202012Validator(SCHEMA).iter_errors(c)] == []
    assert c["same_work"] is (check == 0) and text.stdout.startswith("the same work" if check == 0 else "not the same work")
    assert any(f["kind"] == "difference" for f in c["findings"]) is (check == 1)
    words = " ".join(text.stdout.split())
    for f in c["findings"]:
        assert f["message"] in words
    return c


def said(c, kind="difference"):
    return " | ".join(f["message"] for f in c["findings"] if f["kind"] == kind)


def served(port, model=MODEL):
    return openai(port).replace("model_name: fake", f'model_name: "{model}"')


def run_openai(lem, tmp_path, *args, fake=(), exit_code=0):
    with Fake(tmp_path, "--model", MODEL, *fake) as f:
        return json.loads(lem("experiment", lem.config(served(f.port)), "--json", *args, check=exit_code).stdout)["run_id"]


def run_vllm(lem, *args, **more):
    env, text = engine(lem)
    return lem.experiment(*args, text=text, env={**env, **more})["run_id"]


def test_the_same_work_on_two_engines(lem, tmp_path):
    a, b = run_vllm(lem), run_openai(lem, tmp_path)
    c = compare(lem, a, b, 0)
    assert c["a"]["engine"] == "vllm" and c["b"]["engine"] == "openai" and c["a"]["prompts_sha256"] == c["b"]["prompts_sha256"]
    for side in (c["a"], c["b"]):
        assert (side["requests"], side["answered"], side["input_tokens"], side["output_tokens"]) == (8, 8, 256, 96)
    assert "the data type of B is not known" in said(c, "note") and "lem did not start the server" in said(c, "note")
    f = {x["name"]: x for x in c["figures"]}
    assert f["output_tokens_per_s"]["ratio"]["value"] == pytest.approx(f["output_tokens_per_s"]["b"]["value"] / f["output_tokens_per_s"]["a"]["value"])
    assert f["ttft_p99_ms"]["ratio"]["value"] > 0 and f["ttft_p99_ms"]["ratio"]["low"] is None
    assert f["j_per_output_token"]["ratio"]["value"] is None


def test_ratios_have_intervals_where_both_figures_have(lem, tmp_path):
    with Fake(tmp_path, "--token-ms", 3) as f:
        a, b = (lem.experiment("--set", "traffic={arrival: constant, rate: 40, duration_sec: 2}", text=openai(f.port))["run_id"] for _ in "ab")
    c = compare(lem, a, b, 0)
    f = {x["name"]: x["ratio"] for x in c["figures"]}
    assert "MOVER-R" in f["output_tokens_per_s"]["method"], "a schedule is a steady rate"
    for name in ("output_tokens_per_s", "ttft_mean_ms", "itl_mean_ms"):
        assert f[name]["low"] is None or f[name]["low"] <= f[name]["value"] <= f[name]["high"], name


def test_a_run_against_itself(lem):
    run = lem.experiment()["run_id"]
    c = compare(lem, run, "last", 0)
    assert c["findings"] == [] and all(f["ratio"]["value"] == 1 for f in c["figures"] if f["ratio"]["value"] is not None)


def test_other_token_ids(lem, tmp_path):
    c = compare(lem, run_vllm(lem), run_openai(lem, tmp_path, "--seed", "2"), 1)
    assert "the two runs sent different token ids" in said(c)


def test_an_engine_that_gives_fewer_tokens(lem, tmp_path):
    a = run_openai(lem, tmp_path)
    b = run_openai(lem, tmp_path, *WARM, fake=("--fault", "short", "--every", 4, *FAULTY), exit_code=4)
    c = compare(lem, a, b, 1)
    assert "A gave 96 output tokens, B 94" in said(c)
    assert "output tokens differ, B gave 1 fewer for request" in said(c) and "(2 of 8 requests)" in said(c)
    assert "prompts" not in {f["field"] for f in c["findings"]}
    assert "the verdict of B is invalid" in said(c, "note")
    assert "B gave 1 more for request" in said(compare(lem, b, a, 1))


def test_failures_are_named(lem, tmp_path):
    a = run_openai(lem, tmp_path)
    b = run_openai(lem, tmp_path, *WARM, fake=("--fault", "429", "--every", 4, *FAULTY), exit_code=4)
    c = compare(lem, a, b, 1)
    assert "0 requests of A were not answered, 2 of B" in said(c) and "(A: answered, B: http_429)" in said(c)


def test_a_cache_is_no_computation(lem, tmp_path):
    c = compare(lem, run_openai(lem, tmp_path), run_openai(lem, tmp_path, *WARM, fake=("--fault", "cached", *FAULTY)), 1)
    assert "A took 0 input tokens from a cache instead of computing them, B 248" in said(c)


def test_types_differ(lem):
    c = compare(lem, run_vllm(lem), run_vllm(lem, "--set", "fp_precision=bfloat16"), 1)
    assert said(c) == "A computed in F16, B in BF16"


def test_loads_differ(lem, tmp_path):
    def run(traffic):
        with Fake(tmp_path) as f:
            return lem.experiment("--set", f"traffic={traffic}", text=openai(f.port))["run_id"]

    with Fake(tmp_path) as f:
        offline = lem.experiment(text=openai(f.port))["run_id"]
    slow, fast = run("{arrival: constant, rate: 20}"), run("{arrival: constant, rate: 40}")
    assert "sent all at once, those of B by a schedule" in said(compare(lem, offline, slow, 1))
    assert "due at other times: request 1 at 0.050 s and 0.025 s" in said(compare(lem, slow, fast, 1))
    two, three = run("{concurrency: 2}"), run("{concurrency: 3}")
    assert "2 requests were in flight in A, 3 in B" in said(compare(lem, two, three, 1))
    compare(lem, slow, run("{arrival: constant, rate: 20}"), 0)
    short, long = run("{concurrency: 2, duration_sec: 0.4, ramp_sec: 0.1}"), run("{concurrency: 2, duration_sec: 1.5, ramp_sec: 0.2}")
    assert "a closed loop serves as many requests as it can in its time" in said(compare(lem, short, long, 0), "note")


def test_more_passes_are_no_other_work(lem, tmp_path):
    c = compare(lem, run_openai(lem, tmp_path), run_openai(lem, tmp_path, "--set", "window.min_duration_sec=1"), 0)
    assert "passes through the prompts differs, 1 in A and" in said(c, "note")
    assert c["a"]["output_tokens"] == c["b"]["output_tokens"] == 96


def test_a_worker_against_a_server(lem, tmp_path):
    """The embedded llama.cpp and a server, of the same model: the same ids in, the same number out, in another data type."""
    text = QUICK.replace("max_output_tokens: 16", "max_output_tokens: 12").replace("min_output_tokens: 16", "min_output_tokens: 12")
    a, b = lem.experiment(text=text)["run_id"], run_vllm(lem)
    c = compare(lem, a, b, 1)
    assert said(c) == "A computed in Q8_0, B in F16"
    assert {f["name"] for f in c["figures"] if f["ratio"]["value"]} >= {"output_tokens_per_s", "ttft_mean_ms", "ttft_p50_ms", "itl_mean_ms", "itl_p50_ms"}


def test_pytorch_against_a_server(lem):
    """A real PyTorch and a server of the same model in the same type: the same work, as the result shows."""
    from test_worker_pytorch import GPUS, PYTHON
    if GPUS is None:
        pytest.skip(f"{PYTHON} has no torch and transformers; name one that has by LEM_TORCH_PYTHON")
    env, vllm = engine(lem)
    pytorch = vllm[:vllm.index("vllm: {")].replace("backend: vllm", "backend: pytorch") + f"pytorch: {{python: {PYTHON}, batch_size: 4}}\nenv: {{OMP_NUM_THREADS: 1}}\n" + \
        vllm[vllm.index("\nmax_input_tokens"):]
    a = lem.experiment("--set", "fp_precision=bfloat16", "--set", "slo.ttft_ms=600000", *WARM, text=pytorch, timeout=400)
    b = lem.experiment("--set", "fp_precision=bfloat16", text=vllm, env=env)
    c = compare(lem, a["run_id"], b["run_id"], 0)
    assert c["findings"] == [] and c["a"]["engine"] == "pytorch" and c["a"]["dtype"] == c["b"]["dtype"] == "BF16"
    assert c["a"]["output_tokens"] == c["b"]["output_tokens"] == 96 and a["slo"]["good"] == 8


def test_a_run_that_failed(lem, tmp_path):
    env, text = engine(lem)
    good = run_openai(lem, tmp_path)
    lem("experiment", lem.config(text), env={**env, "FAKE_FAULT": "die-at-start"}, check=1)
    c = compare(lem, good, "last", 1)
    assert "B failed before its window was complete" in said(c) and "what B sent is not known" in said(c)
    assert c["b"]["prompts_sha256"] is None and all(f["ratio"]["value"] is None for f in c["figures"])
    assert "neither run measured a request" in said(compare(lem, "last", "last", 1))


def test_an_interrupted_run(lem, tmp_path):
    with Fake(tmp_path, "--token-ms", 40, "--model", MODEL) as f:
        p = lem.start("experiment", lem.config(served(f.port)), "--set", "window.min_duration_sec=60", *WARM)
        while "measuring" not in p.stderr.readline():
            assert p.poll() is None
        p.send_signal(signal.SIGINT)
        p.communicate(timeout=30)
    stopped = json.loads(lem("results", "show", "last", "--json", check=0).stdout)["run_id"]
    c = compare(lem, stopped, run_openai(lem, tmp_path), 1)
    assert "A was interrupted" in said(c)


def test_usage(lem):
    assert "needs two runs" in lem("results", "compare", "x", check=2).stderr
    assert "one word too many" in lem("results", "compare", "x", "y", "z", check=2).stderr
    text = " ".join(lem("results", "--help", check=0).stdout.split())
    assert "takes repeated runs and a statistical test, which this is not" in text


def test_a_run_that_is_not_there(lem):
    run = lem.experiment()["run_id"]
    assert "begins with 'zzz'" in lem("results", "compare", run, "zzz", check=1).stderr
    assert json.loads(lem("results", "compare", "zzz", run, "--json", check=1).stdout)["error"]["code"] == "not_found"
