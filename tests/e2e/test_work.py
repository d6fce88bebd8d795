"""The work: lengths of prompts and answers, files with them, request traces; on a scripted server and the embedded engine."""
import hashlib
import json

import pytest
import test_vllm as vllm
import test_worker_pytorch as torch
from conftest import QUICK, ROOT
from openai_fake import Fake
from test_http import openai, reasons, rows

SMALL = QUICK.replace("{batch_size: 4}", "{batch_size: 4, threads: 1}")  # the machine may be shared
PROMPTS = "prompts: {type: synthetic, count: 8, input_tokens: 32}"
SPREAD = """prompts:
  type: synthetic
  count: 40
  input_tokens: {distribution: lognormal, median: 12, sigma: 0.6, min: 4, max: 32}
  output_tokens: {distribution: uniform, min: 2, max: 12}
"""
BURSTGPT = """Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
100,ChatGPT,20,3,23,Conversation log
100.5,GPT-4,8,0,8,API log
101,ChatGPT,31,12,43,Conversation log
101,"GPT-4, big",5,7,12,API log
102,ChatGPT,90,40,130,Conversation log
"""


def with_prompts(text, prompts):
    assert PROMPTS in text
    return text.replace(PROMPTS, prompts)


def pairs(lem):
    return [(r["input_tokens"], r["output_tokens"]) for r in rows(lem)]


def test_lengths_are_sent_and_come_back_exactly(lem, tmp_path):
    with Fake(tmp_path, "--per-chunk", 3) as f:
        r = lem.experiment(text=with_prompts(openai(f.port), SPREAD))
        p = pairs(lem)
        again = lem.experiment("--set", "prompts.count=10", text=with_prompts(openai(f.port), SPREAD))
    assert r["status"] == "completed" and r["client"]["lengths_differ"] == 0 and r["work"]["inputs_differ"] == 0
    assert len(p) == 40 and len({i for i, _ in p}) > 8 and len({o for _, o in p}) > 5
    assert all(4 <= i <= 32 and 2 <= o <= 12 for i, o in p)
    w = r["work"]
    assert w["source"] == "synthetic, input lognormal, median 12, sigma 0.6, 4 to 32, seed 1, output uniform 2 to 12"
    assert w["input_tokens"]["total"] == sum(i for i, _ in p) == r["tokens"]["input"]
    assert w["output_tokens"]["total"] == sum(o for _, o in p) == r["tokens"]["output"]
    assert w["output_tokens"]["min"] == min(o for _, o in p) and w["output_tokens"]["max"] == max(o for _, o in p)
    for lengths, k in ((w["input_tokens"], 0), (w["output_tokens"], 1)):
        for b in lengths["histogram"]:
            assert b["n"] == sum(b["low"] <= x[k] <= b["high"] for x in p)
        assert sum(b["n"] for b in lengths["histogram"]) == 40
    assert w["prompts_sha256"] == r["provenance"]["prompts_sha256"] and w["file_sha256"] is None and w["records"] is None
    assert pairs(lem) == p[:10] and again["work"]["prompts_sha256"] != w["prompts_sha256"]


def test_a_server_that_ends_early_is_found(lem, tmp_path):
    with Fake(tmp_path, "--fault", "short", "--after", 4) as f:
        r = lem.experiment(text=with_prompts(openai(f.port), SPREAD), check=4)
    assert r["client"]["lengths_differ"] > 30 and "another number of tokens than was forced" in reasons(r)


def test_the_report_has_a_line_of_it(lem, tmp_path):
    with Fake(tmp_path) as f:
        done = lem("experiment", lem.config(with_prompts(openai(f.port), SPREAD)), check=0)
    assert "lognormal, median 12" in done.stdout + done.stderr
    assert "output uniform 2 to 12" in " ".join((done.stdout + done.stderr).split()) and " to 12, median " in done.stdout + done.stderr


def test_both_batchings_and_streaming_do_the_same_work(lem):
    """On the real embedded engine: static groups of four whose members end at different times, continuous, one by one."""
    text = with_prompts(SMALL, SPREAD.replace("count: 40", "count: 12"))
    runs = []
    for more in ([], ["--set", "llamacpp.batching=continuous"], ["--streaming", "--set", "llamacpp.batch_size=1"]):
        r = lem.experiment(*more, text=text)
        assert r["status"] == "completed" and r["work"]["inputs_differ"] == 0
        assert not [n for n in r["notes"] if "worker_faults" in n]
        runs.append((pairs(lem), r["work"]["prompts_sha256"], r["tokens"]))
    assert runs[0] == runs[1] == runs[2]
    assert len({o for _, o in runs[0][0]}) > 3 and runs[0][2]["output"] == sum(o for _, o in runs[0][0])


def test_a_pair_of_files_of_lengths(lem):
    (lem.folder / "lengths.txt").write_text("# input,output\n5,3\n32,16\n90,2\n")
    r = lem.experiment(text=with_prompts(SMALL, "prompts: {type: synthetic, input_tokens: {distribution: file, path: lengths.txt}}"))
    assert pairs(lem) == [(5, 3), (32, 16), (32, 2)]
    assert r["work"]["records"] == 3 and r["work"]["file_sha256"] == hashlib.sha256((lem.folder / "lengths.txt").read_bytes()).hexdigest()
    assert any("1 of 3 prompts are longer than max_input_tokens = 32 and were cut" in n for n in r["notes"])


def test_a_length_on_the_command_line_replaces_the_distribution(lem):
    r = lem.experiment("--set", "prompts.input_tokens=7", "--set", "prompts.output_tokens=2", text=with_prompts(SMALL, SPREAD))
    assert set(pairs(lem)) == {(7, 2)} and r["work"]["input_tokens"]["histogram"] == [{"low": 4, "high": 7, "n": 40}]


# ---- files ----

def test_records_with_ids_and_lengths(lem, tmp_path):
    (lem.folder / "p.jsonl").write_text('{"prompt_token_ids": [5, 6, 7], "output_tokens": 4}\n{"prompt": "one two", "output_tokens": 9}\n"three"\n')
    with Fake(tmp_path) as f:
        r = lem.experiment(text=with_prompts(openai(f.port), "prompts: {type: file, path: p.jsonl}"))
    assert pairs(lem) == [(3, 4), (3, 9), (2, 12)]  # texts by the server's tokenizer, which begins them with a token; the last has the config's length
    assert r["work"]["source"] == "jsonl p.jsonl" and r["work"]["records"] == 3


def test_sharegpt_replies_give_lengths_when_asked(lem, tmp_path):
    talk = [{"conversations": [{"from": "human", "value": "a b c"}, {"from": "gpt", "value": "x" * 20}]},
            {"conversations": [{"from": "gpt", "value": "no question"}]},
            {"conversations": [{"from": "human", "value": "d"}, {"from": "gpt", "value": "y" * 400}]}]
    (lem.folder / "s.json").write_text(json.dumps(talk))
    with Fake(tmp_path) as f:
        text = with_prompts(openai(f.port), "prompts: {type: file, path: s.json}")
        plain = lem.experiment(text=text)
        assert pairs(lem) == [(4, 12), (2, 12)]
        asked = lem.experiment("--set", "prompts.reply_chars_per_token=4", text=text)
    assert pairs(lem) == [(4, 5), (2, 12)]  # 20 characters over 4; 100 tokens are cut to max_output_tokens
    assert plain["work"]["source"] == "sharegpt s.json" and (plain["work"]["records"], plain["work"]["skipped"]) == (3, 1)
    assert any("max_output_tokens = 12" in n for n in asked["notes"])
    assert plain["work"]["prompts_sha256"] != asked["work"]["prompts_sha256"]


def test_ids_beyond_the_vocabulary_are_refused_before_launch(lem):
    (lem.folder / "p.jsonl").write_text('{"prompt_token_ids": [5, 32000]}\n')
    done = lem("experiment", lem.config(with_prompts(SMALL, "prompts: {type: file, path: p.jsonl}")), check=2)
    assert "token id 32000" in done.stderr and "ends at 31999" in done.stderr and "hint:" in done.stderr


def test_ids_of_a_file_on_the_embedded_engine(lem):
    """It has no tokenizer, and needs none."""
    (lem.folder / "p.jsonl").write_text('{"prompt_token_ids": [300, 301, 302], "output_length": 5}\n')
    lem.experiment(text=with_prompts(SMALL, "prompts: {type: file, path: p.jsonl}"))
    assert pairs(lem) == [(3, 5)]


# ---- traces ----

def traced(port, more=""):
    return with_prompts(openai(port), "prompts: {type: trace, path: t.csv%s}" % more)


def test_a_trace_is_replayed_with_its_times_and_lengths(lem, tmp_path):
    (lem.folder / "t.csv").write_text(BURSTGPT)
    with Fake(tmp_path) as f:
        r = lem.experiment("--set", "traffic={arrival: trace, trace_scale: 0.25}", text=traced(f.port))
    assert r["engine"]["mode"] == "server/open" and r["window"]["requests"] == 4 and r["client"]["lengths_differ"] == 0
    q = rows(lem)
    assert pairs(lem) == [(20, 3), (31, 12), (5, 7), (32, 12)]  # the last one is cut to the limits
    assert [round((x["scheduled_ns"] - q[0]["scheduled_ns"]) / 1e6) for x in q] == [0, 250, 250, 500]
    w = r["work"]
    assert (w["records"], w["skipped"]) == (5, 1) and w["source"] == "trace (burstgpt) t.csv"
    assert w["file_sha256"] == hashlib.sha256(BURSTGPT.encode()).hexdigest()


def test_a_slice_of_a_trace_at_a_rate_of_its_own(lem, tmp_path):
    (lem.folder / "t.csv").write_text(BURSTGPT)
    with Fake(tmp_path) as f:
        r = lem.experiment("--set", "traffic={arrival: constant, rate: 50}", text=traced(f.port, ", start_sec: 1, duration_sec: 1"))
    assert pairs(lem) == [(31, 12), (5, 7)] and r["work"]["source"].endswith("from 1 s, 1 s of it")
    with Fake(tmp_path) as f:
        lem.experiment(text=traced(f.port, ", sample_size: 3"))  # all at once: only the lengths are of the trace
    assert pairs(lem) == [(20, 3), (31, 12), (5, 7)]


def test_a_trace_repeats_for_as_long_as_asked(lem, tmp_path):
    (lem.folder / "t.csv").write_text("time,input_tokens,output_tokens\n0,4,2\n1,6,3\n")
    with Fake(tmp_path) as f:
        r = lem.experiment("--set", "traffic={arrival: trace, trace_scale: 0.1, duration_sec: 0.75}", text=traced(f.port))
    assert pairs(lem) == [(4, 2), (6, 3)] * 4 and r["work"]["input_tokens"]["n"] == 8


@pytest.mark.parametrize("text, where, what", [
    ("a,b\n1,2\n", "t.csv:1", "no column of times"),
    ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:1", "t.csv:3", "the row has 1 fields, 3 are needed"),
    ("TIMESTAMP,ContextTokens,GeneratedTokens\n1,x,44\n", "t.csv:2", "'x' is no number of tokens"),
    ("TIMESTAMP,ContextTokens,GeneratedTokens\n1,5,0\n", "t.csv", "no request to send"),
    ("TIMESTAMP,ContextTokens,GeneratedTokens\n1,5,\"0\n", "t.csv:2", "quote is never closed"),
    ("", "t.csv:1", "no column of times"),
])
def test_a_bad_trace_is_refused_with_its_line(lem, text, where, what):
    (lem.folder / "t.csv").write_text(text)
    done = lem("experiment", lem.config(traced(1)), check=2)
    assert where in done.stderr and what in done.stderr
    assert not list((lem.folder / "results").glob("*.json"))


# ---- shared beginnings ----

def test_prompts_share_a_beginning_only_on_purpose(lem):
    plain = lem.experiment(text=SMALL)
    shared = lem.experiment("--set", "prompts.shared_prefix_tokens=16", "--set", "prompts.prefix_groups=2", text=SMALL)
    assert plain["work"]["prompts_sha256"] != shared["work"]["prompts_sha256"]
    assert plain["tokens"] == shared["tokens"]  # the beginning is part of the length
    assert "16 shared in 2 groups" in shared["work"]["source"]


def test_the_example_is_valid(lem):
    done = lem("config", "validate", ROOT / "configs/examples/trace_example.yaml", check=0)
    assert "error" not in done.stdout + done.stderr


# ---- the same work on another engine ----

@pytest.mark.skipif(torch.GPUS is None, reason=f"{torch.PYTHON} has no torch and transformers; name one that has by LEM_TORCH_PYTHON")
def test_pytorch_does_the_same_work(lem):
    """Static batches whose members end at different times, in the other worker; same model shape, same ids, same lengths."""
    prompts = SPREAD.replace("count: 40", "count: 10").replace("max: 12", "max: 8")
    a = lem.experiment("--set", "max_output_tokens=8", "--set", "min_output_tokens=0", text=with_prompts(SMALL, prompts))
    p = pairs(lem)
    text = torch.config("synthetic:llama-15m", prompts="{}").replace("prompts: {}\n", prompts) + "env: {OMP_NUM_THREADS: 1}\n"
    b = lem.experiment(text=text, env={"LEM_CACHE_DIR": str(lem.folder / "cache")})
    assert b["status"] == "completed" and not [n for n in b["notes"] if "worker_faults" in n]
    assert pairs(lem) == p and len({o for _, o in p}) > 3
    assert a["work"]["prompts_sha256"] == b["work"]["prompts_sha256"] and a["tokens"] == b["tokens"]


def test_vllm_does_the_same_work_and_replays_a_trace(lem):
    """A real vLLM: the ids and lengths of the embedded engine, at the times of a trace."""
    if not vllm.find_python():
        pytest.skip("needs a real vLLM: LEM_VLLM_PYTHON, or setup --engines")
    (lem.folder / "t.csv").write_text(BURSTGPT)
    prompts = "prompts: {type: trace, path: t.csv}"
    a = lem.experiment("--set", "max_output_tokens=12", "--set", "min_output_tokens=0", text=with_prompts(SMALL, prompts))
    p = pairs(lem)
    text = (vllm.TEXT % vllm.find_python()).replace("prompts: {type: synthetic, count: 16, input_tokens: 48}", prompts)
    limits = ["--set", "max_input_tokens=32", "--set", "max_output_tokens=12", "--set", "min_output_tokens=0"]
    b = lem.experiment(*limits, "--set", "traffic={arrival: trace, trace_scale: 0.5}", text=text, timeout=400)
    assert b["status"] == "completed" and b["client"]["lengths_differ"] == 0 and b["work"]["inputs_differ"] == 0
    assert pairs(lem) == p == [(20, 3), (31, 12), (5, 7), (32, 12)]
    assert a["work"]["prompts_sha256"] == b["work"]["prompts_sha256"]
    t = [x["scheduled_ns"] for x in rows(lem)]
    assert [round((x - t[0]) / 1e6) for x in t] == [0, 500, 500, 1000]


def test_more_than_a_worker_takes_at_once_is_refused_before_launch(lem):
    done = lem("experiment", lem.config(with_prompts(SMALL, "prompts: {type: synthetic, count: 200000, input_tokens: 32}")), check=2)
    assert "a worker takes 16 MiB" in done.stderr and "num_input_prompts" in done.stderr
