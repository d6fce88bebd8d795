"""The PyTorch worker on a real PyTorch: forced lengths, stamps, texts, tensor parallel ranks, and every wrong path.

Runs with the interpreter that LEM_TORCH_PYTHON names (default: python3), when it can import torch and transformers.
Where that sees GPUs, the tests of GPUs run too.
"""
import json
import os
import shutil
import signal
import subprocess
import time
import uuid
from pathlib import Path

import pytest

from conftest import ROOT
from test_worker_llama import check_run, is_error
from worker_client import Worker, requests

PYTHON = os.environ.get("LEM_TORCH_PYTHON", "python3")
PROGRAM = ROOT / "workers" / "pytorch" / "lem_worker_pytorch.py"
GREEDY = {"temperature": 0.0}


def probe():
    """Number of GPUs that PyTorch sees; None without PyTorch."""
    try:
        done = subprocess.run([PYTHON, "-c", "import torch, transformers; print(torch.cuda.device_count())"], text=True,
                              capture_output=True, timeout=120)
    except OSError:
        return None
    return int(done.stdout.split()[-1]) if done.returncode == 0 else None


GPUS = probe()
pytestmark = pytest.mark.skipif(GPUS is None, reason=f"{PYTHON} has no torch and transformers; name one that has by "
                                "LEM_TORCH_PYTHON")
# device and tensor parallel size of the workers that most tests use
PLACES = [("cpu", 1), ("cpu", 2)] + [("cuda", n) for n in (1, 2) if (GPUS or 0) >= n]

MAKE = """
import sys, random, json
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from tokenizers import Tokenizer, models, pre_tokenizers, decoders, trainers
import torch
out = sys.argv[1]
words = ["".join(random.Random(i).choices("abcdefghijklmnopqrstuvwxyz", k=3 + i % 6)) for i in range(2000)]
tok = Tokenizer(models.BPE()); tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False); tok.decoder = decoders.ByteLevel()
tok.train_from_iterator([" ".join(words)], trainers.BpeTrainer(vocab_size=1000, special_tokens=["<s>", "</s>"],
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
PreTrainedTokenizerFast(tokenizer_object=tok, bos_token="<s>", eos_token="</s>").save_pretrained(out)
torch.manual_seed(5)
c = LlamaConfig(vocab_size=1024, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    max_position_embeddings=512, bos_token_id=0, eos_token_id=1, initializer_range=0.2)
LlamaForCausalLM(c).save_pretrained(out)
"""

# what Transformers itself generates for each prompt alone: no batch, no padding
EXPECT = """
import sys, json
from transformers import AutoModelForCausalLM, AutoTokenizer
import torch
folder, prompts, n = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
tok = AutoTokenizer.from_pretrained(folder); m = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
out = []
for p in prompts:
    ids = tok(p, return_tensors="pt")["input_ids"]
    got = m.generate(ids, max_new_tokens=n, min_new_tokens=n, do_sample=False, pad_token_id=1)[0, ids.shape[1]:]
    out.append({"text": tok.decode(got, skip_special_tokens=True), "input": ids.shape[1], "first": int(got[0])})
print(json.dumps(out))
"""

PROMPTS = ["abc def", "a much longer prompt than the one before it, with many small pieces", "x", "tidy words come in threes"]


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A tiny Llama with weights and a tokenizer."""
    path = tmp_path_factory.mktemp("models") / "tiny-llama"
    subprocess.run([PYTHON, "-c", MAKE, path], check=True, capture_output=True, timeout=300)
    return path


@pytest.fixture(scope="session")
def expected(folder):
    done = subprocess.run([PYTHON, "-c", EXPECT, folder, json.dumps(PROMPTS), "12"], check=True, capture_output=True, text=True,
                          timeout=300)
    return json.loads(done.stdout.splitlines()[-1])


def worker(**env):
    return Worker([PYTHON, str(PROGRAM)], env={"HF_HUB_OFFLINE": "1", **env})


def load(w, model, device="cpu", tp=1, **fields):
    return w.ask({"op": "load", "protocol": 1, "model": str(model), "device": device, "tensor_parallel_size": tp, "dtype": "float32",
                  "batch_size": 4, "max_total_tokens": 192, "threads": 2, **fields})[0]


@pytest.fixture(scope="module", params=PLACES, ids=lambda p: f"{p[0]}-tp{p[1]}")
def place(request, folder):
    """A loaded worker for each device and tensor parallel size, shared by the tests that leave it alive."""
    with worker() as w:
        w.loaded = load(w, folder, *request.param)
        assert w.loaded["event"] == "loaded", w.loaded
        w.device, w.tp = request.param
        yield w
        assert w.stop() == 0


@pytest.fixture(scope="module")
def loaded(folder):
    with worker() as w:
        assert load(w, folder)["event"] == "loaded"
        yield w
        assert w.stop() == 0


def prompt(n, start=7):
    return [(start + 13 * k) % 1000 + 2 for k in range(n)]


# ------------------------------------------------------------------------------------- what it says

def test_loaded_tells_versions_shape_and_a_device_for_each_rank(place, folder):
    e = place.loaded
    m, o = e["model"], e["engine"]["options"]
    assert e["t_start_ns"] < e["t_ns"] < time.monotonic_ns()
    assert e["engine"]["name"] == "transformers" and e["engine"]["version"][0].isdigit() and e["engine"]["build"].startswith("torch ")
    assert (m["architecture"], m["n_layer"], m["n_embd"], m["n_ff"], m["n_head"], m["n_head_kv"], m["head_dim"]) == \
        ("llama", 2, 64, 128, 4, 2, 16)
    assert m["n_vocab"] == 1024 and m["n_ctx_train"] == 512 and m["quant"] == "F32"
    assert m["has_tokenizer"] is True and m["weights"] == "real"
    # a sharded weight counts as the whole that it is a part of
    size = sum(f.stat().st_size for f in folder.glob("*.safetensors"))
    assert abs(m["size_bytes"] / size - 1) < 0.05 and m["n_params"] * 4 == m["size_bytes"]
    assert o["attn_implementation"] == "sdpa" and o["dtype"] == "float32" and o["tensor_parallel_size"] == place.tp
    assert len(e["devices"]) == place.tp
    if place.device == "cpu":
        assert e["devices"] == [{"name": "CPU", "uuid": None}] * place.tp
    else:
        uuids = [d["uuid"] for d in e["devices"]]
        assert all(u.startswith("GPU-") and len(u) == 40 for u in uuids) and len(set(uuids)) == place.tp


@pytest.mark.parametrize("lengths", [[7] * 6, [1, 9, 3, 30, 2, 5, 4]])
def test_forced_lengths_are_exact_and_padding_never_counts(place, lengths):
    asked = [{"id": 10 + i, "tokens": prompt(3 + 5 * i, i), "max_output_tokens": n, "min_output_tokens": n}
             for i, n in enumerate(lengths)]
    done, steps = place.run(asked)
    check_run(done, steps, asked)
    assert [r["output_tokens"] for r in done["results"]] == lengths
    assert [r["input_tokens"] for r in done["results"]] == [len(q["tokens"]) for q in asked]
    assert all(r["finish"] == "length" and not r["truncated"] for r in done["results"])


def test_texts_are_those_of_each_prompt_alone(place, expected):
    """Padding on the left changes nothing, nor do ranks that share the model."""
    asked = requests(PROMPTS, 12)
    done, steps = place.run(asked, save_text=True, sampling=GREEDY)
    check_run(done, steps, asked)
    assert [r["text"] for r in done["results"]] == [e["text"] for e in expected]
    assert [r["input_tokens"] for r in done["results"]] == [e["input"] for e in expected]


def test_a_static_group_starts_when_the_one_before_has_finished(loaded):
    asked = [{"id": i, "tokens": [5, 6], "max_output_tokens": n, "min_output_tokens": n} for i, n in enumerate([2, 8, 2, 2, 3])]
    _, steps = loaded.run(asked)
    assert [s.get("started", []) for s in steps if s["prefill"]] == [[0, 1, 2, 3], [4]]
    assert [len(s["ids"]) for s in steps] == [4, 4, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    assert [s["prefill"] for s in steps] == [8] + [0] * 7 + [2] + [0] * 2


def test_long_inputs_are_cut_to_their_first_tokens(loaded):
    long, short = prompt(40), prompt(40)[:16]
    done, _ = loaded.run(requests([long], 6), max_input_tokens=16, save_text=True, sampling=GREEDY)
    want, _ = loaded.run(requests([short], 6), save_text=True, sampling=GREEDY)
    r = done["results"][0]
    assert r["truncated"] is True and r["input_tokens"] == 16 and r["text"] == want["results"][0]["text"]


def test_the_end_of_a_text_ends_a_sequence_but_not_before_its_time(folder, expected, tmp_path):
    """The first token of the greedy text is declared to be the end of texts."""
    model = tmp_path / "ends-at-once"
    shutil.copytree(folder, model)
    for name in ("config.json", "generation_config.json"):
        j = json.loads((model / name).read_text())
        j["eos_token_id"] = [expected[0]["first"], 1]
        (model / name).write_text(json.dumps(j))
    with worker() as w:
        assert load(w, model)["event"] == "loaded"
        asked = [{"id": 0, "text": PROMPTS[0], "max_output_tokens": 9}, {"id": 1, "text": PROMPTS[0], "max_output_tokens": 9,
                                                                        "min_output_tokens": 9}]
        done, steps = w.run(asked, sampling=GREEDY)
        check_run(done, steps, asked)
        assert [(r["finish"], r["output_tokens"]) for r in done["results"]] == [("eos", 1), ("length", 9)]
        # the sequence that has ended is computed on beside the other, but is in no later step
        assert [s["ids"] for s in steps] == [[0, 1]] + [[1]] * 8
        assert w.stop() == 0


# ---------------------------------------------------------------------------------------- sampling

def sampled(w, prompts, first=0, **sampling):
    done, steps = w.run(requests(prompts, 10, first=first), save_text=True, sampling={"temperature": 1.0, "seed": 3, **sampling})
    assert done["event"] == "done", done
    return [r["text"] for r in done["results"]]


def test_a_seed_repeats_itself_and_neighbours_do_not_matter(place):
    both = sampled(place, PROMPTS[:2])
    assert both == sampled(place, PROMPTS[:2]) and both != sampled(place, PROMPTS[:2], seed=4)
    assert sampled(place, PROMPTS[1:2], first=1) == both[1:]


def test_what_leaves_one_choice_is_greedy(loaded):
    greedy = sampled(loaded, PROMPTS, temperature=0.0)
    assert greedy == sampled(loaded, PROMPTS, top_k=1) == sampled(loaded, PROMPTS, top_p=0.0) == sampled(loaded, PROMPTS, min_p=1.0)
    assert greedy != sampled(loaded, PROMPTS)


def test_a_repetition_penalty_far_below_one_repeats_what_was_seen(loaded):
    greedy, stuck = (sampled(loaded, PROMPTS, temperature=0.0, repetition_penalty=p) for p in (1.0, 0.02))
    assert all(len(set(s)) < len(set(g)) for s, g in zip(stuck, greedy))


# --------------------------------------------------------------------------------- weights made up

def test_random_weights_of_a_config_alone(folder, tmp_path):
    texts = []
    for seed, tp in ((1, 1), (1, 2), (2, 1)):
        with worker() as w:
            e = load(w, folder / "config.json", tp=tp, weights="random", seed=seed)
            assert e["event"] == "loaded" and e["model"]["weights"] == "synthetic" and e["model"]["has_tokenizer"] is False
            done, steps = w.run(requests([prompt(5), prompt(9)], 40), sampling=GREEDY)
            check_run(done, steps, requests([prompt(5), prompt(9)], 40))
            texts.append(e["model"]["n_params"])
            assert w.stop() == 0
    assert len(set(texts)) == 1


# -------------------------------------------------------------------------------------- wrong paths

@pytest.mark.parametrize("bad, code", [
    ({"op": "fly"}, "bad_request"),
    ({"op": "run", "run": 1, "requests": []}, "bad_request"),
    ({"op": "run", "run": 0, "requests": [{"id": 0, "tokens": [1], "max_output_tokens": 1}]}, "bad_request"),
    ({"op": "run", "run": 1, "requests": "no"}, "bad_request"),
    ({"op": "run", "run": 1, "requests": [5]}, "bad_request"),
    ({"op": "run", "run": 1, "requests": [{"id": 0, "max_output_tokens": 1}]}, "bad_request"),
    ({"op": "run", "run": 1, "requests": [{"id": 0, "tokens": [1], "text": "x", "max_output_tokens": 1}]}, "bad_request"),
    ({"op": "run", "run": 1, "requests": [{"id": 0, "tokens": [], "max_output_tokens": 1}]}, "bad_request"),
    ({"op": "run", "run": 1, "requests": [{"id": 0, "tokens": [1024], "max_output_tokens": 1}]}, "bad_request"),
    ({"op": "run", "run": 1, "requests": [{"id": 0, "tokens": [-1], "max_output_tokens": 1}]}, "bad_request"),
    ({"op": "run", "run": 1, "requests": [{"id": 0, "tokens": [True], "max_output_tokens": 1}]}, "bad_request"),
    ({"op": "run", "run": 1, "requests": [{"id": 0, "tokens": "ab", "max_output_tokens": 1}]}, "bad_request"),
    ({"op": "run", "run": 1, "requests": [{"id": 0, "tokens": [1], "max_output_tokens": 0}]}, "bad_request"),
    ({"op": "run", "run": 1, "requests": [{"id": 0, "tokens": [1], "max_output_tokens": 2, "min_output_tokens": 3}]}, "bad_request"),
    ({"op": "run", "run": 1, "requests": [{"id": -1, "tokens": [1], "max_output_tokens": 1}]}, "bad_request"),
    ({"op": "run", "run": 1, "requests": [{"id": 0, "tokens": [1] * 190, "max_output_tokens": 3}]}, "context_full"),
    ({"op": "run", "run": 1, "batching": "continuous", "requests": [{"id": 0, "tokens": [1], "max_output_tokens": 1}]}, "unsupported"),
    ({"op": "run", "run": 1, "sampling": {"top_p": 2}, "requests": [{"id": 0, "tokens": [1], "max_output_tokens": 1}]}, "bad_request"),
    ({"op": "run", "run": 1, "requests": [{"id": 3, "tokens": [1], "max_output_tokens": 1},
                                          {"id": 3, "tokens": [1], "max_output_tokens": 1}]}, "bad_request"),
])
def test_what_it_cannot_serve_is_answered_and_survived(loaded, bad, code):
    e, steps = loaded.ask(bad)
    assert is_error(e, code) and e["fatal"] is False and not steps
    done, steps = loaded.run(requests([[5, 6, 7]], 2))
    check_run(done, steps, requests([[5, 6, 7]], 2))


def test_a_line_that_is_no_json_is_answered(loaded):
    for line in (b"{nonsense\n", b"[1, 2]\n", b"\xff\xfe\n", b"\n"):
        loaded.send_raw(line)
        assert is_error(loaded.event(), "bad_request")


def fatal_load(model, code, text="", env=None, **fields):
    with worker(**(env or {})) as w:
        e = load(w, model, **fields)
        assert is_error(e, code, text) and e["fatal"] is True
        assert w.line() is None and w.end() != 0


def test_a_load_that_fails_is_fatal_and_says_why(folder, tmp_path):
    fatal_load(tmp_path / "nothing", "model_load")
    fatal_load(folder, "unsupported", "attn_implementation", attn_implementation="paged")
    fatal_load(folder, "unsupported", "dtype", dtype="int3")
    fatal_load(folder, "bad_request", "tensor_parallel_size", tp=0)
    fatal_load(folder, "bad_request", "batch_size", batch_size="4")


def test_a_second_load_is_fatal_too(folder):
    with worker() as w:
        assert load(w, folder)["event"] == "loaded"
        e = load(w, folder)
        assert is_error(e, "bad_request", "already") and e["fatal"] is True and w.end() != 0


def test_the_cpu_never_stands_in_for_a_gpu(folder):
    fatal_load(folder, "model_load", "1 GPUs are needed", env={"CUDA_VISIBLE_DEVICES": ""}, device="cuda")
    fatal_load(folder, "model_load", "2 GPUs are needed", env={"CUDA_VISIBLE_DEVICES": ""}, device="cuda", tp=2)


def test_weights_that_are_missing_are_not_made_up(folder, tmp_path):
    only_config = tmp_path / "only-config"
    only_config.mkdir()
    shutil.copy(folder / "config.json", only_config)
    fatal_load(only_config, "model_load")
    deeper = tmp_path / "deeper"
    shutil.copytree(folder, deeper)
    j = json.loads((deeper / "config.json").read_text())
    j["num_hidden_layers"] = 3
    (deeper / "config.json").write_text(json.dumps(j))
    fatal_load(deeper, "model_load", "weights are missing")


def test_without_pytorch_it_names_the_way_out(folder, tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('none here', name='torch')\n")
    fatal_load(folder, "unsupported", "docker.image", env={"PYTHONPATH": str(tmp_path)})


# ------------------------------------------------------------------------- ranks, signals, the end

def marked(mark):
    """Processes that carry the mark in their environment."""
    found = []
    for p in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in p.read_bytes():
                found.append(int(p.parent.name))
        except OSError:
            pass
    return found


def gone(mark, wait_s=15):
    end = time.monotonic() + wait_s
    while marked(mark) and time.monotonic() < end:
        time.sleep(0.05)
    return not marked(mark)


@pytest.fixture
def mark():
    return "lem-test-" + uuid.uuid4().hex


def ranks_of(w, mark):
    return [p for p in marked(mark) if p != w.proc.pid]


def start_long(w):
    """A run that takes longer than any test: it is ended from outside."""
    w.send({"op": "run", "run": 1, "requests": [{"id": i, "tokens": prompt(8), "max_output_tokens": 180, "min_output_tokens": 180}
                                                for i in range(400)]})
    assert w.event()["event"] == "tokens"


def test_heads_that_do_not_divide_end_every_rank(folder, mark):
    with worker(LEM_TEST=mark) as w:
        e = load(w, folder, tp=3)
        # the shards are made, but the heads of a rank are no whole number: the first run would tell
        if e["event"] == "loaded":
            e, _ = w.run(requests([[5, 6]], 2))
        assert e["event"] == "error" and e["fatal"] is True
        assert w.end() != 0 and gone(mark)


def test_the_death_of_a_rank_is_the_end_of_all(folder, mark):
    with worker(LEM_TEST=mark) as w:
        assert load(w, folder, tp=2)["event"] == "loaded"
        start_long(w)
        (other,) = ranks_of(w, mark)
        os.kill(other, signal.SIGKILL)
        e = w.event()
        while e and e["event"] == "tokens":
            e = w.event()
        assert e and e["event"] == "error" and e["fatal"] is True
        assert w.end() != 0 and gone(mark)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_in_a_run_leaves_nothing_behind(folder, mark, number):
    with worker(LEM_TEST=mark) as w:
        assert load(w, folder, tp=2)["event"] == "loaded"
        start_long(w)
        assert len(ranks_of(w, mark)) == 1
        t = time.monotonic()
        w.proc.send_signal(number)
        assert w.end(10) == -number and time.monotonic() - t < 10 and gone(mark)


def test_a_signal_while_loading_ends_it(folder, mark):
    with worker(LEM_TEST=mark) as w:
        w.send({"op": "load", "protocol": 1, "model": str(folder), "max_total_tokens": 64})
        time.sleep(0.3)
        w.terminate()
        assert w.end(10) == -signal.SIGTERM and gone(mark)


def test_it_dies_with_the_process_that_started_it(folder, mark):
    code = "import subprocess,sys,os;p=subprocess.Popen(sys.argv[1:],stdin=subprocess.PIPE);print(p.pid,flush=True);os.read(0,1)"
    parent = subprocess.Popen(["python3", "-c", code, PYTHON, str(PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              env={**os.environ, "LEM_TEST": mark})
    assert parent.stdout.readline()
    time.sleep(0.5)  # until it has asked the kernel to be told
    parent.kill()
    parent.wait()
    assert gone(mark)


def test_the_end_of_its_input_and_stop_take_effect_after_what_came_before(folder):
    with worker() as w:
        assert load(w, folder)["event"] == "loaded"
        w.send({"op": "run", "run": 1, "requests": requests([[5, 6]], 30)})
        w.send({"op": "stop"})
        events = []
        while (e := w.event()) is not None:
            events.append(e["event"])
        assert events[-2:] == ["done", "stopped"] and w.end() == 0
    with worker() as w:
        w.proc.stdin.close()
        assert w.line() is None and w.end() == 0


def test_what_a_library_prints_is_not_taken_for_an_event(folder, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, builtins\nreal = builtins.__import__\n"
        "def loud(name, *a, **k):\n    if name == 'transformers': print('hello from a library', flush=True)\n    return real(name, *a, **k)\n"
        "builtins.__import__ = loud\n")
    with worker(PYTHONPATH=str(tmp_path)) as w:
        assert load(w, folder)["event"] == "loaded"
        assert w.stop() == 0


# ------------------------------------------------------------------------------------------ with lem

CONFIG = """
config_name: torch
model_name: {model}
backend: pytorch
runner: process
gpus: {gpus}
fp_precision: float32
max_input_tokens: 32
max_output_tokens: 8
min_output_tokens: 8
prompts: {prompts}
decoder: {{preset: deterministic}}
pytorch: {{batch_size: 2, python: {python}, tensor_parallel_size: {tp}}}
warmup: {{requests: 2}}
baseline: {{enabled: false}}
save_outputs: true
random_seed: 1
"""


def config(model, gpus="[]", tp=1, prompts="{type: synthetic, count: 4, input_tokens: 16}"):
    return CONFIG.format(model=model, gpus=gpus, tp=tp, prompts=prompts, python=PYTHON)


def test_lem_measures_it(lem, folder):
    (lem.folder / "p.txt").write_text("abc def\nx y z\nanother one\n")
    r = lem.experiment(text=config(folder, prompts="{type: file, path: p.txt}"))
    assert r["engine"]["name"] == "pytorch" and r["engine"]["mode"] == "offline/static"
    assert r["tokens"]["output"] == 3 * 8 and r["status"] == "completed"


def test_lem_measures_a_synthetic_model(lem):
    r = lem.experiment(text=config("synthetic:llama-15m"), env={"LEM_CACHE_DIR": str(lem.folder / "cache")})
    assert r["status"] == "completed" and r["tokens"] == {**r["tokens"], "input": 64, "output": 32}


def test_lem_refuses_what_the_worker_cannot_do(lem, folder):
    text = config(folder).replace("tensor_parallel_size: 1", "tensor_parallel_size: 2, load_in_8bit: true")
    done = lem("experiment", lem.config(text), check=2)
    assert "load_in_8bit" in done.stderr


def test_lem_passes_on_why_a_load_failed(lem, folder, tmp_path):
    bad = tmp_path / "bad"
    shutil.copytree(folder, bad)
    weights = next(bad.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    done = lem("experiment", lem.config(config(bad)), check=1)
    assert "model_load" in done.stderr or "afetensor" in done.stderr


@pytest.mark.skipif((GPUS or 0) < 2, reason="two GPUs are needed; run LEM_TORCH_PYTHON=… pytest tests/e2e/test_worker_pytorch.py where "
                    "there are two")
@pytest.mark.parametrize("order", ["[0, 1]", "[1, 0]"])
def test_lem_proves_two_gpus_in_the_order_of_the_config(lem, folder, order):
    r = lem.experiment(text=config(folder, gpus=order, tp=2))
    assert r["routing"]["proved"] is True and [g["uuid"] for g in r["gpus"]] == r["routing"]["observed"]
