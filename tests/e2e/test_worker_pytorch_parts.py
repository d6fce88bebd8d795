"""The parts of the PyTorch worker that need no PyTorch: how prompts are put together, which options go together, what an
adapter must look like, how the worker is packed."""
import json
import subprocess
import sys
import types
import zipfile

import pytest

from conftest import BUILD, ROOT

sys.path.insert(0, str(ROOT / "workers" / "pytorch"))
from lem_pytorch import batches, beams, choose, lora, options, wire  # noqa: E402


def prompts(*lengths):
    return [types.SimpleNamespace(id=i, tokens=[0] * n) for i, n in enumerate(lengths)]


def ids(groups):
    return [[r.id for r in g] for g in groups]


# ------------------------------------------------------------------------------------------ batches

def grouped(strategy, lengths, size=3, most=20):
    return ids(batches.group(batches.in_order(prompts(*lengths), strategy), strategy, size, most))


def test_static_batches_are_taken_in_turn():
    assert grouped("static", [5, 1, 9, 2]) == [[0, 1, 2], [3]]
    assert grouped("sorted_static", [5, 1, 9, 2]) == [[2, 0, 3], [1]]


def test_dynamic_batches_count_padding():
    # 5 × 2 = 10, with the prompt of 9 it would be 27
    assert grouped("dynamic", [5, 1, 9, 2]) == [[0, 1], [2, 3]]
    assert grouped("dynamic", [5, 1, 9, 2], size=1) == [[0], [1], [2], [3]]
    assert grouped("sorted_dynamic", [5, 1, 9, 2]) == [[2, 0], [3, 1]]


def test_a_prompt_larger_than_a_batch_is_alone():
    assert grouped("dynamic", [50, 3, 60]) == [[0], [1], [2]]


def test_equal_lengths_keep_their_order():
    assert grouped("sorted_static", [4, 4, 4, 4]) == [[0, 1, 2], [3]]


@pytest.mark.parametrize("strategy", batches.STRATEGIES)
@pytest.mark.parametrize("replicas", [1, 2, 3, 7])
def test_each_prompt_is_computed_exactly_once(strategy, replicas):
    shares = batches.deal(batches.in_order(prompts(3, 14, 15, 9, 2, 6, 5), strategy), replicas)
    assert len(shares) == replicas
    done = [r.id for share in shares for g in batches.group(share, strategy, 2, 16) for r in g]
    assert sorted(done) == list(range(7))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_prompts_are_dealt_like_cards():
    assert ids(batches.deal(prompts(1, 1, 1, 1, 1), 2)) == [[0, 2, 4], [1, 3]]


def test_padding_is_what_no_prompt_fills():
    assert batches.padding(prompts(5, 1, 3)) == 6 and batches.padding(prompts(4)) == 0


# ------------------------------------------------------------------------------------------ options

def load(**fields):
    return options.Options({"op": "load", "protocol": 1, "model": "m", "max_total_tokens": 64, **fields})


ASSISTANT = {"model": "small"}
COMPILE = {"mode": "default"}


@pytest.mark.parametrize("fields, text", [
    ({"tensor_parallel_size": 2, "quantization": {"bits": 4}}, "bitsandbytes"),
    ({"tensor_parallel_size": 2, "adapter": "a"}, "adapter"),
    ({"tensor_parallel_size": 2, "assistant": ASSISTANT}, "assistant"),
    ({"max_memory": {"0": "1GiB"}}, "CPU"),
    ({"max_memory": {"0": "1GiB"}, "device": "cuda", "num_processes": 2}, "replicas"),
    ({"assistant": ASSISTANT, "beam_search": {"num_beams": 2}}, "beam search"),
    ({"assistant": ASSISTANT, "cache_implementation": "static"}, "takes tokens back"),
    ({"assistant": ASSISTANT, "use_cache": False}, "takes tokens back"),
    ({"assistant": ASSISTANT, "torch_compile": COMPILE}, "takes tokens back"),
    ({"use_cache": False, "cache_implementation": "dynamic"}, "use_cache"),
    ({"use_cache": False, "torch_compile": COMPILE}, "needs a cache"),
    ({"beam_search": {"num_beams": 2}, "torch_compile": COMPILE}, "beam search"),
    ({"torch_compile": {"mode": "reduce-overhead"}}, "on a CPU it would change nothing"),
    ({"torch_compile": {"mode": "default", "backend": "cudagraphs"}}, "on a CPU it would change nothing"),
    ({"torch_compile": {"mode": "reduce-overhead"}, "cache_implementation": "dynamic", "device": "cuda"}, "CUDA graphs"),
    ({"torch_compile": {"mode": "max-autotune", "backend": "aot_eager"}, "device": "cuda"}, "inductor's"),
    ({"torch_compile": {"mode": "fastest"}}, "fastest"),
    ({"quantization": {"bits": 3}}, "3 bits"),
    ({"weights": "random", "extra_load": {"revision": "main"}}, "made up"),
    ({"extra_load": {"device_map": "auto"}}, "write gpus"),
    ({"extra_load": {"torch_dtype": "float16"}}, "write fp_precision"),
    ({"extra_load": {"config": {}}}, "own business"),
    ({"batching_strategy": "clever"}, "clever"),
    ({"cache_implementation": "offloaded"}, "offloaded"),
])
def test_what_does_not_go_together_is_refused_before_anything_is_loaded(fields, text):
    with pytest.raises(wire.Refused) as e:
        load(**fields)
    assert e.value.code == "unsupported" and text in e.value.message


@pytest.mark.parametrize("fields", [{"max_tokens_per_batch": 0}, {"num_processes": 0}, {"max_memory": []}, {"adapter": 5},
                                    {"assistant": {"model": "m", "num_tokens": 0}}, {"assistant": {"num_tokens": 2}},
                                    {"beam_search": {"num_beams": "many"}}, {"no_repeat_ngram_size": -1}, {"use_cache": 1}])
def test_fields_of_the_wrong_kind_are_bad_requests(fields):
    with pytest.raises(wire.Refused) as e:
        load(**fields)
    assert e.value.code == "bad_request"


def test_what_is_compiled_has_a_static_cache():
    assert load(torch_compile=COMPILE).cache == "static" and load().cache == ""
    assert load(torch_compile=COMPILE, cache_implementation="dynamic").cache == "dynamic"


# ------------------------------------------------------------------------------------------ adapters

GOOD = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none"}


def adapter(tmp_path, **changes):
    (tmp_path / "adapter_config.json").write_text(json.dumps({**GOOD, **changes}))
    return str(tmp_path)


@pytest.mark.parametrize("changes", [{"peft_type": "IA3"}, {"bias": "all"}, {"use_dora": True}, {"modules_to_save": ["lm_head"]},
                                     {"fan_in_fan_out": True}, {"lora_bias": True}, {"target_parameters": ["w"]}])
def test_an_adapter_of_another_arithmetic_is_refused(tmp_path, changes):
    with pytest.raises(wire.Refused) as e:
        lora.read_config(adapter(tmp_path, **changes))
    assert next(iter(changes)) in e.value.message


def test_a_folder_that_is_no_adapter(tmp_path):
    for text in (None, "{", "[]", '{"r": 4}'):
        if text is not None:
            (tmp_path / "adapter_config.json").write_text(text)
        with pytest.raises(wire.Refused) as e:
            lora.read_config(str(tmp_path))
        assert e.value.code == "model_load"
    with pytest.raises(wire.Refused) as e:
        lora.find(str(tmp_path / "nothing"))
    assert "is no folder" in e.value.message


def test_patterns_name_the_ends_of_modules():
    assert lora.by_pattern({"q_proj": 8}, "layers.0.q_proj", 4) == 8
    assert lora.by_pattern({"proj": 8}, "layers.0.q_proj", 4) == 4 and lora.by_pattern(None, "x", 4) == 4


# ---------------------------------------------------------------------------------- texts and beams

def test_ngrams_ban_what_followed():
    n = choose.Ngrams(3, [1, 2, 3, 1, 2])
    assert set(n.banned()) == {3}
    other = n.copy()
    n.add(4)
    assert not n.banned() and set(other.banned()) == {3}
    n.add(1), n.add(2)
    assert set(n.banned()) == {3, 4}
    assert set(choose.Ngrams(1, [7, 8]).banned()) == {7, 8} and not choose.Ngrams(5, [1, 2]).banned()


def search(**o):
    base = {"beams": 2, "length_penalty": 1.0, "early_stopping": False}
    request = types.SimpleNamespace(id=0, tokens=[1], min_out=0, max_out=3)
    return beams.Search(request, types.SimpleNamespace(**{**base, **o}))


def test_a_finished_text_waits_for_better_ones():
    s = search()
    assert s.step([(-1.0, 0, 9), (-1.1, 0, 5), (-1.2, 0, 6), (-9.0, 1, 5)], {9}) == [(0, 5), (0, 6)]
    assert s.open and s.done == [(-1.0, [9], "eos")]
    assert s.step([(-1.2, 0, 9), (-1.4, 1, 7), (-1.5, 0, 7), (-9.0, 1, 5)], {9}) == [(1, 7), (0, 7)]
    s.step([(-1.6, 0, 9), (-1.7, 1, 3), (-1.8, 0, 3), (-9.0, 1, 5)], {9})
    assert not s.open and s.done[0] == (pytest.approx(-1.6 / 3), [6, 7, 9], "eos")


def test_early_stopping_ends_with_enough_texts():
    s = search(early_stopping=True, beams=1)
    assert s.step([(-1.0, 0, 9), (-1.1, 0, 5)], {9}) == [] and not s.open and s.done[0][1] == [9]


# ------------------------------------------------------------------------------------------ the rest

def test_how_a_process_ended():
    assert "SIGKILL" in wire.how_it_ended(-9) and "memory" in wire.how_it_ended(-9)
    assert "signal 15" in wire.how_it_ended(-15) and wire.how_it_ended(3) == "ended with status 3"


def test_the_packed_worker_holds_every_module_and_runs():
    packed = BUILD / "lem_worker_pytorch.pyz"
    with zipfile.ZipFile(packed) as z:
        held = set(z.namelist())
    assert held == {"__main__.py"} | {f"lem_pytorch/{p.name}" for p in (ROOT / "workers/pytorch/lem_pytorch").glob("*.py")}
    done = subprocess.run([sys.executable, str(packed)], input=b'{"op":"fly"}\n{"op":"stop"}\n', capture_output=True, timeout=60)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [e["event"] for e in events] == ["error", "stopped"] and done.returncode == 0


def test_packing_twice_gives_the_same_bytes(tmp_path):
    sources = [ROOT / "workers/pytorch/lem_worker_pytorch.py", *sorted((ROOT / "workers/pytorch/lem_pytorch").glob("*.py"))]
    for name in "ab":
        subprocess.run([sys.executable, str(ROOT / "tools/pack-worker"), str(tmp_path / name), *map(str, sources)], check=True)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
