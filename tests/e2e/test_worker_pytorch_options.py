"""The options of the PyTorch worker on a real PyTorch: what each of them computes is held against Transformers' own
generate(), a prompt at a time; what is in force is read back; what cannot be is refused.

Runs with the interpreter that LEM_TORCH_PYTHON names, as test_worker_pytorch.py, whose fixtures it uses.
"""
import json
import os
import shutil
import signal
import subprocess

import pytest

from test_worker_llama import check_run, is_error
from test_worker_pytorch import (GPUS, PYTHON, config, fatal_load, folder, gone, load, mark, prompt, pytestmark, ranks_of,  # noqa: F401
                                 start_long, worker)

# prompts of several lengths, and lengths out that differ within a batch
LENGTHS = [7, 3, 12, 20, 5, 9]
ASKED = [{"id": i, "tokens": prompt(3 + 5 * i, i), "max_output_tokens": n, "min_output_tokens": n} for i, n in enumerate(LENGTHS)]
FREE = [{**q, "min_output_tokens": 0, "max_output_tokens": 15} for q in ASKED]
ENDS = list(range(150))  # so many ends of texts that some come early

# A second Llama of other weights (an assistant that is often wrong), models whose attention slides, an adapter and the same
# merged; and what generate() writes with each option, one prompt at a time.
MAKE = """
import sys, json, os, shutil, torch
from safetensors.torch import save_file
from transformers import LlamaForCausalLM, MistralConfig, MistralForCausalLM, Gemma2Config, Gemma2ForCausalLM, AutoTokenizer
torch.set_num_threads(1)  # models this small only wait for each other's threads
base, out, asked = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
g = torch.Generator().manual_seed(3)
def save(model, name):
    model.save_pretrained(f"{out}/{name}")
    for f in os.listdir(base):
        if f.startswith("token"): shutil.copy(f"{base}/{f}", f"{out}/{name}")
    return model.eval()
llama = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
other = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32)
merged = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32)
with torch.no_grad():
    for p in other.parameters(): p.add_(torch.randn(p.shape, generator=g) * 0.01)
    pairs = {}
    for i in range(2):
        for name, shape in {"self_attn.q_proj": (64, 64), "self_attn.v_proj": (32, 64), "mlp.down_proj": (64, 128)}.items():
            a, b = (torch.randn(s, generator=g) * 0.1 for s in ((4, shape[1]), (shape[0], 4)))
            pairs[f"base_model.model.model.layers.{i}.{name}.lora_A.weight"] = a
            pairs[f"base_model.model.model.layers.{i}.{name}.lora_B.weight"] = b
            merged.get_submodule(f"model.layers.{i}.{name}").weight.add_(b @ a * 4.0)
save(other, "other")
os.makedirs(f"{out}/adapter")
save_file(pairs, f"{out}/adapter/adapter_model.safetensors")
json.dump({"peft_type": "LORA", "r": 4, "lora_alpha": 16, "bias": "none", "target_modules": ["q_proj", "v_proj", "down_proj"]},
          open(f"{out}/adapter/adapter_config.json", "w"))
shape = dict(vocab_size=1024, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=512, bos_token_id=0, eos_token_id=1, initializer_range=0.2)
torch.manual_seed(5)
mistral = save(MistralForCausalLM(MistralConfig(sliding_window=8, **shape)), "mistral")
gemma = save(Gemma2ForCausalLM(Gemma2Config(sliding_window=8, head_dim=16, query_pre_attn_scalar=16, **shape)), "gemma2")
narrow = LlamaForCausalLM(type(llama.config)(**{**shape, "vocab_size": 512}))
save(narrow, "narrow")
tok = AutoTokenizer.from_pretrained(base)
def write(model, lengths, **kw):
    texts = []
    for q in asked:
        n, ids = lengths or q["max_output_tokens"], torch.tensor([q["tokens"]])
        got = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=n, min_new_tokens=0 if lengths else n,
                             do_sample=False, pad_token_id=1, **kw)
        texts.append(tok.decode(got[0, ids.shape[1]:], skip_special_tokens=True))
    return texts
ends = list(range(150))
json.dump({
    "plain": write(llama, 0), "merged": write(merged.eval(), 0), "mistral": write(mistral, 0), "gemma2": write(gemma, 0),
    "beams": write(llama, 0, num_beams=3), "ngram": write(llama, 0, no_repeat_ngram_size=1),
    "early": write(llama, 15, num_beams=4, length_penalty=0.5, early_stopping=True, eos_token_id=ends),
    "ngram-beams": write(llama, 15, num_beams=2, no_repeat_ngram_size=2, eos_token_id=ends),
    "banned": write(llama, 0, bad_words_ids=[[i] for i in range(2, 400)], suppress_tokens=[600, 601]),
}, open(f"{out}/expected.json", "w"))
"""


@pytest.fixture(scope="session")
def lab(folder, tmp_path_factory):  # noqa: F811
    path = tmp_path_factory.mktemp("lab")
    done = subprocess.run([PYTHON, "-c", MAKE, folder, path, json.dumps(ASKED)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return path


@pytest.fixture(scope="session")
def expected(lab):
    return json.loads((lab / "expected.json").read_text())


def texts(done):
    assert done["event"] == "done", done
    return [r["text"] for r in done["results"]]


def compute(model, asked=ASKED, sampling=None, env=None, **fields):
    """What a worker with these options says of itself, and what it computes."""
    with worker(**(env or {})) as w:
        e = load(w, model, **{"threads": 1, **fields})
        assert e["event"] == "loaded", e
        done, steps = w.run(asked, save_text=True, sampling=sampling or {"temperature": 0.0})
        assert w.stop() == 0
    return e["engine"]["options"], done, steps


# ------------------------------------------------------------------------------- caches and batches

@pytest.mark.parametrize("model, want, kind, layers, fields", [
    ("base", "plain", "none", [], {"use_cache": False}),
    ("base", "plain", "dynamic", ["DynamicLayer"], {"cache_implementation": "dynamic"}),
    ("base", "plain", "static", ["StaticLayer"], {"cache_implementation": "static"}),
    ("mistral", "mistral", "sliding_window", ["StaticSlidingWindowLayer"], {"cache_implementation": "sliding_window"}),
    ("gemma2", "gemma2", "hybrid", ["StaticLayer", "StaticSlidingWindowLayer"], {"cache_implementation": "hybrid"}),
], ids=["none", "dynamic", "static", "sliding", "hybrid"])
def test_a_cache_is_in_force_and_changes_no_text(folder, lab, expected, model, want, kind, layers, fields):  # noqa: F811
    o, done, steps = compute(folder if model == "base" else lab / model, **fields)
    check_run(done, steps, ASKED)
    assert texts(done) == expected[want]
    assert o["cache"]["kind"] == kind and o["cache"]["layers"] == layers


def test_a_cache_that_the_model_has_not_is_refused(folder, lab):  # noqa: F811
    fatal_load(folder, "unsupported", "one kind", cache_implementation="hybrid")
    fatal_load(lab / "gemma2", "unsupported", "1 of 2 layers", cache_implementation="sliding_window")


def test_dynamic_batches_by_tokens_longest_first(folder, expected):  # noqa: F811
    o, done, steps = compute(folder, batching_strategy="sorted_dynamic", max_tokens_per_batch=40)
    check_run(done, steps, ASKED)
    assert texts(done) == expected["plain"]
    # 28; 23; 2 × 18; and 8 and 3 in one of 16
    assert [s["started"] for s in steps if s["prefill"]] == [[5], [4], [3, 2], [1, 0]]
    assert o["batching_strategy"] == "sorted_dynamic" and o["max_tokens_per_batch"] == 40
    assert done["counts"] == {"batches": 4, "padding_tokens": 10}


# ----------------------------------------------------------------------------------- choosing tokens

@pytest.mark.parametrize("want, asked, fields", [
    ("beams", ASKED, {"beam_search": {"num_beams": 3}}),
    ("early", FREE, {"beam_search": {"num_beams": 4, "length_penalty": 0.5, "early_stopping": True},
                     "extra_generate": {"eos_token_id": ENDS}}),
    ("ngram-beams", FREE, {"beam_search": {"num_beams": 2}, "no_repeat_ngram_size": 2, "extra_generate": {"eos_token_id": ENDS}}),
], ids=["forced", "early", "ngram"])
def test_beams_find_the_texts_that_generate_finds(folder, expected, want, asked, fields):  # noqa: F811
    o, done, steps = compute(folder, asked, **fields)
    assert texts(done) == expected[want]
    assert o["beam_search"]["num_beams"] == fields["beam_search"]["num_beams"]
    # nothing comes out before the search of a batch has ended; then every text does
    for ids in (s["ids"] for s in steps if s["ids"]):
        assert sorted(ids) == ids and len(set(ids)) > 1
    for r in done["results"]:
        assert sum(s["ids"].count(r["id"]) for s in steps) == r["output_tokens"]
    assert sum(bool(s["ids"]) for s in steps) == done["counts"]["batches"]


@pytest.mark.parametrize("want, fields", [
    ("ngram", {"no_repeat_ngram_size": 1}),
    ("banned", {"extra_generate": {"bad_words_ids": [[i] for i in range(2, 400)], "suppress_tokens": [600, 601]}}),
], ids=["ngram", "banned"])
def test_bans_are_those_of_generate(folder, expected, want, fields):  # noqa: F811
    _, done, steps = compute(folder, **fields)
    check_run(done, steps, ASKED)
    assert texts(done) == expected[want] != expected["plain"]


@pytest.mark.parametrize("assistant", ["itself", "other"])
def test_an_assistant_changes_no_text_but_the_steps(folder, lab, expected, assistant):  # noqa: F811
    model = str(folder if assistant == "itself" else lab / "other")
    o, done, steps = compute(folder, assistant={"model": model, "num_tokens": 4})
    assert texts(done) == expected["plain"]
    assert [r["output_tokens"] for r in done["results"]] == LENGTHS
    c, longest = done["counts"], max(LENGTHS[:4]) + max(LENGTHS[4:])
    assert o["assistant"]["num_tokens"] == 4 and c["verify_steps"] == len(steps) - c["batches"]
    # a step may give several tokens of one request, with one stamp
    several = [s for s in steps if len(set(s["ids"])) < len(s["ids"])]
    assert several and all(s["ids"].count(i) <= 5 for s in steps for i in s["ids"]) and 0 < c["accepted"] <= c["drafted"]
    if assistant == "itself":
        assert len(steps) <= longest / 5 + 4  # every draft is taken
    else:
        assert c["accepted"] < c["drafted"]
    out = 0
    for s in steps:
        out += len(s["ids"])
        assert s["out"] == out


def test_an_assistant_changes_no_draw(folder, lab):  # noqa: F811
    sampling = {"temperature": 1.0, "seed": 4, "top_k": 20, "repetition_penalty": 1.1}
    alone = texts(compute(folder, sampling=sampling)[1])
    assert texts(compute(folder, sampling=sampling, assistant={"model": str(lab / "other"), "num_tokens": 3})[1]) == alone


def test_an_assistant_of_another_vocabulary_is_refused(folder, lab):  # noqa: F811
    fatal_load(folder, "unsupported", "512 tokens", assistant={"model": str(lab / "narrow")})
    fatal_load(folder, "model_load", "", assistant={"model": str(lab / "nothing")})


def test_an_assistant_needs_a_cache_that_gives_back(folder, lab):  # noqa: F811
    fatal_load(lab / "mistral", "unsupported", "taken back", assistant={"model": str(lab / "mistral")})


def test_arguments_of_generate_that_it_does_not_know(folder):  # noqa: F811
    fatal_load(folder, "unsupported", "num_return_sequences", extra_generate={"num_return_sequences": 2})
    fatal_load(folder, "unsupported", "extra_generate", extra_generate={"bad_words_ids": "x"})


# ------------------------------------------------------------------------------------------- loading

def test_an_adapter_is_beside_the_weights(folder, lab, expected):  # noqa: F811
    o, done, steps = compute(folder, adapter=str(lab / "adapter"))
    check_run(done, steps, ASKED)
    assert texts(done) == expected["merged"] != expected["plain"]
    assert o["adapter"] == {"path": str(lab / "adapter"), "rank": 4, "modules": 6, "merged": False}


def test_an_adapter_of_another_model_is_refused(folder, lab, tmp_path):  # noqa: F811
    wrong = tmp_path / "wrong"
    shutil.copytree(lab / "adapter", wrong)
    tensors = (wrong / "adapter_model.safetensors").read_bytes()
    (wrong / "adapter_model.safetensors").write_bytes(tensors.replace(b"layers.1.", b"layers.7."))
    fatal_load(folder, "model_load", "this one has no model.layers.7", adapter=str(wrong))
    (wrong / "adapter_model.safetensors").write_bytes(tensors.replace(b"lora_B", b"lora_C"))
    fatal_load(folder, "unsupported", "cannot place", adapter=str(wrong))
    (wrong / "adapter_model.safetensors").write_bytes(b"nonsense")
    fatal_load(folder, "model_load", "cannot be read", adapter=str(wrong))


def test_compiled_steps_give_the_same_text_and_are_counted(folder, expected):  # noqa: F811
    with worker() as w:
        e = load(w, folder, torch_compile={"mode": "default", "backend": "aot_eager"})
        assert e["event"] == "loaded", e
        c = e["engine"]["options"]["torch_compile"]
        assert c["graphs"] >= 1 and c["backend"] == "aot_eager" and e["engine"]["options"]["cache"]["kind"] == "static"
        for again in (False, True):
            done, steps = w.run(ASKED, save_text=True, sampling={"temperature": 0.0})
            check_run(done, steps, ASKED)
            assert texts(done) == expected["plain"]
            # the last batch is smaller: another shape, compiled when it comes for the first time
            assert done["counts"]["compiled"] == (0 if again else 1)
        assert w.stop() == 0


def test_a_compiler_that_is_not_there_is_no_reason_to_go_on_without(folder):  # noqa: F811
    fatal_load(folder, "model_load", "onnxrt", torch_compile={"mode": "default", "backend": "onnxrt"})


def test_what_from_pretrained_does_not_know_is_an_error(folder):  # noqa: F811
    fatal_load(folder, "model_load", "no_such_argument", extra_load={"no_such_argument": 3})
    fatal_load(folder, "unsupported", "no effect since Transformers 5", low_cpu_mem_usage=False)


def has(package):
    return subprocess.run([PYTHON, "-c", f"import {package}, accelerate"], capture_output=True, timeout=300).returncode == 0


@pytest.fixture(scope="module")
def bitsandbytes():
    return has("bitsandbytes")


def test_without_bitsandbytes_it_names_the_way_out(folder, bitsandbytes):  # noqa: F811
    if bitsandbytes:
        pytest.skip(f"{PYTHON} has bitsandbytes")
    fatal_load(folder, "unsupported", "pip install bitsandbytes", quantization={"bits": 4})


@pytest.mark.parametrize("bits, name", [(4, "bnb-nf4"), (8, "bnb-int8")])
@pytest.mark.parametrize("weights", ["real", "random"])
def test_weights_of_few_bits(folder, bitsandbytes, expected, bits, name, weights):  # noqa: F811
    if not bitsandbytes:
        pytest.skip(f"{PYTHON} has no bitsandbytes and accelerate; put them on PYTHONPATH to run this")
    with worker() as w:
        e = load(w, folder, quantization={"bits": bits, "compute_dtype": "bfloat16"}, weights=weights)
        assert e["event"] == "loaded", e
        q = e["engine"]["options"]["quantization"]
        assert q["bits"] == bits and q["layers"] == 14 and e["model"]["quant"] == name
        assert e["model"]["n_params"] == 205120 and e["model"]["size_bytes"] < 0.85 * 4 * 205120
        done, steps = w.run(ASKED, save_text=True, sampling={"temperature": 0.0})
        check_run(done, steps, ASKED)
        assert texts(done) != expected["plain"]


# ------------------------------------------------------------------------------------------ replicas

@pytest.mark.parametrize("tp", [1, 2])
def test_replicas_share_the_prompts(folder, expected, tp):  # noqa: F811
    o, done, steps = compute(folder, num_processes=2, tensor_parallel_size=tp, batch_size=2, threads=4)
    assert o["num_processes"] == 2 and o["tensor_parallel_size"] == tp and o["threads"] == 4 // (2 * tp)
    assert texts(done) == expected["plain"] and [r["id"] for r in done["results"]] == list(range(6))
    for replica, ids in ((0, [0, 2, 4]), (1, [1, 3, 5])):
        own, t, out = [s for s in steps if s["replica"] == replica], done["t_start_ns"], 0
        assert sorted(i for s in own for i in s.get("started", [])) == ids == sorted({i for s in own for i in s["ids"]})
        for s in own:
            out += len(s["ids"])
            assert t <= s["start_ns"] <= s["end_ns"] <= done["t_ns"] and s["out"] == out
            t = s["end_ns"]
    assert sum(s["prefill"] for s in steps) == sum(len(q["tokens"]) for q in ASKED)
    # they computed at the same time
    spans = [(min(s["start_ns"] for s in steps if s["replica"] == r), max(s["end_ns"] for s in steps if s["replica"] == r))
             for r in (0, 1)]
    assert max(a for a, _ in spans) < min(b for _, b in spans)
    assert done["counts"]["batches"] == 4


def test_fewer_prompts_than_replicas(folder):  # noqa: F811
    with worker() as w:
        e = load(w, folder, num_processes=2)
        assert e["event"] == "loaded" and e["devices"] == [{"name": "CPU", "uuid": None}] * 2
        for n in (1, 2):
            done, steps = w.run(ASKED[:n])
            assert done["event"] == "done" and sorted({s["replica"] for s in steps}) == list(range(n))
        # what is refused is refused before anything is sent to the others
        e, _ = w.run([{**ASKED[0], "tokens": [5000]}])
        assert is_error(e, "bad_request") and e["fatal"] is False
        assert w.run(ASKED[:2])[0]["event"] == "done" and w.stop() == 0


@pytest.mark.parametrize("tp, victim, name", [(1, 1, "replica 1 "), (2, 3, "replica 1, its rank 1, ")])
def test_a_replica_that_is_killed_ends_all_and_is_named(folder, mark, tp, victim, name):  # noqa: F811
    with worker(LEM_TEST=mark) as w:
        assert load(w, folder, num_processes=2, tensor_parallel_size=tp)["event"] == "loaded"
        start_long(w)
        (pid,) = [p for p in ranks_of(w, mark) if f"--rank\0{victim}\0" in open(f"/proc/{p}/cmdline").read()]
        os.kill(pid, signal.SIGKILL)
        e = w.event()
        while e and e["event"] == "tokens":
            e = w.event()
        assert is_error(e, "internal", f"{name}was killed by SIGKILL") and "memory" in e["message"] and e["fatal"] is True
        assert w.end() != 0 and gone(mark)


def test_a_replica_that_cannot_load_ends_all(folder, tmp_path, mark):  # noqa: F811
    with worker(LEM_TEST=mark) as w:
        e = load(w, tmp_path / "nothing", num_processes=2)
        assert is_error(e, "model_load") and e["fatal"] is True and w.end() != 0 and gone(mark)


# ------------------------------------------------------------------------------------------ with lem

def run(lem, model, options, count=4, more=""):
    text = config(model, prompts=f"{{type: synthetic, count: {count}, input_tokens: 16}}")
    return lem.experiment(text=text.replace("tensor_parallel_size: 1", options) + more,
                          env={"LEM_CACHE_DIR": str(lem.folder / "cache")})


@pytest.mark.parametrize("n, tp", [(2, 1), (1, 2), (2, 2)])
def test_lem_measures_replicas_and_ranks_on_the_cpu(lem, n, tp):
    r = run(lem, "synthetic:llama-15m", f"num_processes: {n}, tensor_parallel_size: {tp}", count=6)
    assert r["status"] == "completed" and r["tokens"] == {**r["tokens"], "input": 96, "output": 48}
    assert r["engine"]["reported"]["options"]["num_processes"] == n
    for phase in ("prefill", "decode"):
        rate = r["throughput"][f"{phase}_tokens_per_s"]
        assert rate["value"] > 0 and ("summed over replicas" in rate["method"]) == (n > 1)


def test_lem_tells_what_an_assistant_was_worth(lem, folder):  # noqa: F811
    r = run(lem, folder, f"assisted_generation: {{model: {folder}, num_tokens: 3}}, batching_strategy: sorted_dynamic")
    assert r["status"] == "completed" and r["tokens"]["output"] == 32 and r["engine"]["mode"] == "offline/sorted-dynamic"
    c = r["engine"]["reported"]["counts"]
    assert 0 < c["accepted"] <= c["drafted"] and c["verify_steps"] >= 4


def test_lem_measures_beams_and_an_adapter(lem, folder, lab):  # noqa: F811
    r = run(lem, folder, "beam_search: {enabled: true, num_beams: 2}", more=f"adapter: {lab / 'adapter'}\n")
    assert r["status"] == "completed" and r["tokens"]["output"] == 32
    assert r["engine"]["reported"]["options"]["adapter"]["modules"] == 6
    # the texts come whole: there is no time from token to token
    assert r["latency"]["itl_ms"]["n"] == 0


def test_lem_tells_the_message_of_a_worker_that_refuses(lem, folder):  # noqa: F811
    text = config(folder).replace("tensor_parallel_size: 1", "cache_implementation: hybrid")
    done = lem("experiment", lem.config(text), check=1)
    assert "sliding and full attention" in done.stderr
