"""Texts as work for a server: its own tokenizer says which ids they are, max_input_tokens cuts them, ids are sent."""
import hashlib
import json
import struct
import subprocess
import urllib.request
import zlib

import pytest
from openai_fake import Fake
from test_experiment import processes_of
from test_http import COMMON, engine, openai, reasons, rows
from test_vllm import find_python

WORDS = "the quick brown fox jumps over the lazy dog while it rains and nobody counts".split()
TEXTS = [" ".join(WORDS[i:] + WORDS[:i])[:20 * (i + 1)].strip() for i in range(4)]
FROM_FILE = "{type: file, path: p.txt}"


def ids_of(text):
    return [1] + [256 + zlib.crc32(w.encode()) % 700 for w in text.split()]


def texts(text, lem):
    (lem.folder / "p.txt").write_text("\n".join(TEXTS) + "\n")
    return text.replace("{type: synthetic, count: 8, input_tokens: 32}", FROM_FILE).replace("max_input_tokens: 32", "max_input_tokens: 9")


def asked(port):
    """The prompts of all completions so far, as they came; the first is that of readiness."""
    return json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/prompts"))


def sha_of(prompts):
    """Ids and, where the prompts differ in their length, how many there are and that no length of the answer is their own."""
    differ = len({len(p) for p in prompts}) > 1
    return hashlib.sha256(b"".join(struct.pack(f"<{len(p)}i", *p) + (struct.pack("<qq", len(p), 0) if differ else b"") for p in prompts)).hexdigest()


@pytest.mark.parametrize("dialect", ["vllm", "llama"])
def test_ids_are_sent_and_cut(lem, tmp_path, dialect):
    cut = [ids_of(t)[:9] for t in TEXTS]
    assert sum(len(ids_of(t)) > 9 for t in TEXTS) == 2, "some are longer, some are not"
    with Fake(tmp_path, "--dialect", dialect) as f:
        r = lem.experiment(text=texts(openai(f.port), lem))
        sent = asked(f.port)
    assert all(p in cut for p in sent) and sorted(sent[-4:]) == sorted(cut)
    assert r["tokens"]["input"] == sum(map(len, cut)) and r["window"]["prompts_truncated"] == 2
    assert r["provenance"]["prompts_form"] == "token_ids" and r["provenance"]["prompts_sha256"] == sha_of(cut)
    assert any("2 of 4 texts have more than max_input_tokens = 9" in n for n in r["notes"])
    assert [x["input_tokens"] for x in rows(lem)] == [len(c) for c in cut]


def test_same_ids_from_both_kinds_of_server(lem, tmp_path):
    with Fake(tmp_path, "--dialect", "vllm") as f:
        a = lem.experiment(text=texts(openai(f.port), lem))
    with Fake(tmp_path, "--dialect", "llama") as f:
        b = lem.experiment(text=texts(openai(f.port), lem))
    assert a["provenance"]["prompts_sha256"] == b["provenance"]["prompts_sha256"] and a["tokens"] == b["tokens"]


def test_a_server_without_the_endpoint_gets_texts_and_the_result_says_so(lem, tmp_path):
    with Fake(tmp_path, "--dialect", "plain") as f:
        r = lem.experiment(text=texts(openai(f.port), lem))
        sent = asked(f.port)
    assert set(sent) == set(TEXTS) and r["provenance"]["prompts_form"] == "texts"
    assert r["provenance"]["prompts_sha256"] == hashlib.sha256(b"".join(t.encode() + b"\0" for t in TEXTS)).hexdigest()
    assert any("sent as texts, whole" in n and "/tokenize" in n for n in r["notes"])


def test_chat_gets_texts_and_the_result_says_so(lem, tmp_path):
    with Fake(tmp_path) as f:
        r = lem.experiment(text=texts(openai(f.port, ", endpoint: chat"), lem))
    assert r["provenance"]["prompts_form"] == "texts" and any("chat endpoint takes no token ids" in n for n in r["notes"])


def test_synthetic_work_is_ids_anyway(lem, tmp_path):
    with Fake(tmp_path, "--fault", "tokenize-500") as f:
        r = lem.experiment(text=openai(f.port))
    assert r["provenance"]["prompts_form"] == "token_ids" and r["notes"] == [] or not any("texts" in n for n in r["notes"])


def test_workers_tokenize_for_themselves(lem, gemma):
    (lem.folder / "p.txt").write_text("Hello there\nGeneral\n")
    text = f"""config_name: w\nmodel_name: {gemma}\nbackend: llamacpp\ngpus: []\nmax_input_tokens: 2\nmax_output_tokens: 2\nmin_output_tokens: 2
prompts: {FROM_FILE}\nwarmup: {{enabled: false}}\nbaseline: {{enabled: false}}\n"""
    r = lem.experiment(text=text)
    assert r["provenance"]["prompts_form"] == "texts" and r["window"]["prompts_truncated"] >= 1


def test_a_text_that_names_a_special_token_means_it(lem, gemma):
    """As llama-server, vLLM and Transformers read it: <bos> of the model itself, and the one that is written."""
    (lem.folder / "p.txt").write_text("<start_of_turn>\n")
    text = f"""config_name: w\nmodel_name: {gemma}\nbackend: llamacpp\ngpus: []\nmax_input_tokens: 20\nmax_output_tokens: 2\nmin_output_tokens: 2
prompts: {FROM_FILE}\nwarmup: {{enabled: false}}\nbaseline: {{enabled: false}}\n"""
    assert lem.experiment(text=text)["tokens"]["input"] == 2


# ---- what goes wrong ----

def started(lem, fault):
    env, text = engine(lem, extra=", load_format: dummy")
    model = lem.folder / "m"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 1024, "hidden_size": 128,
                                                   "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}))
    (model / "tokenizer.json").write_text("{}")
    text = text.replace("synthetic:llama-15m", str(model))
    return lem("experiment", lem.config(texts(text, lem)), "--json", env={**env, "FAKE_FAULT": fault})


def test_an_old_engine_has_no_such_endpoint(lem):
    done = started(lem, "tokenize-404")
    r = json.loads(done.stdout)
    assert done.returncode == 0 and r["provenance"]["prompts_form"] == "texts" and any("it has no /tokenize" in n for n in r["notes"])
    assert processes_of(lem.folder) == []


@pytest.mark.parametrize("fault, prompt, needle", [("tokenize-500", 0, "status 500"), ("tokenize-junk", 0, "no list of token ids"),
                                                   ("tokenize-late", 1, "the tokenizer broke")])
def test_an_engine_that_cannot_tokenize_is_told(lem, fault, prompt, needle):
    done = started(lem, fault)
    assert done.returncode == 1 and f"token ids of prompt {prompt}" in done.stderr and needle in done.stderr and "hint:" in done.stderr
    assert processes_of(lem.folder) == []


def test_a_stranger_that_answers_nonsense_gets_texts(lem, tmp_path):
    with Fake(tmp_path, "--fault", "tokenize-junk") as f:
        r = lem.experiment(text=texts(openai(f.port), lem))
    assert r["provenance"]["prompts_form"] == "texts" and reasons(r) is not None


# ---- a real vLLM ----

MAKE_MODEL = """
import random, sys
from transformers import LlamaConfig, PreTrainedTokenizerFast
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
words = ["".join(random.Random(i).choices("abcdefghijklmnopqrstuvwxyz", k=3 + i % 6)) for i in range(2000)]
tok = Tokenizer(models.BPE())
tok.pre_tokenizer, tok.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
tok.train_from_iterator([" ".join(words)], trainers.BpeTrainer(vocab_size=1000, special_tokens=["<s>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
tok.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
PreTrainedTokenizerFast(tokenizer_object=tok, bos_token="<s>", eos_token="</s>").save_pretrained(sys.argv[1])
LlamaConfig(vocab_size=1024, hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, architectures=["LlamaForCausalLM"],
            max_position_embeddings=2048, bos_token_id=0, eos_token_id=1, dtype="bfloat16").save_pretrained(sys.argv[1])
t = PreTrainedTokenizerFast.from_pretrained(sys.argv[1])
for line in sys.stdin:
    print("ids", *t(line.strip())["input_ids"])
"""


def test_a_real_vllm_tells_the_ids_of_its_own_tokenizer(lem):
    """The ids are those of the tokenizer with its beginning-of-sequence token, once; the server counts as many as were sent."""
    python = find_python()
    if not python:
        pytest.skip("needs a real vLLM: LEM_VLLM_PYTHON, or setup --engines")
    made = subprocess.run([python, "-c", MAKE_MODEL, str(lem.folder / "m")], input="\n".join(TEXTS), capture_output=True, text=True, timeout=120, check=True)
    truth = [list(map(int, line.split()[1:])) for line in made.stdout.splitlines() if line.startswith("ids ")]
    assert len(truth) == 4, made.stdout + made.stderr
    cut = [t[:9] for t in truth]
    assert [t[0] for t in truth] == [0] * 4 and max(map(len, truth)) > 9 and all(0 not in t[1:] for t in truth)
    text = f"""config_name: vllm-texts\nmodel_name: {lem.folder / 'm'}\nbackend: vllm\nrunner: process\ngpus: []\nfp_precision: bfloat16
vllm: {{python: {python}, max_num_seqs: 16, enforce_eager: true, load_timeout_sec: 300, load_format: dummy}}\nenv: {{VLLM_CPU_KVCACHE_SPACE: 1}}\n""" + COMMON
    r = lem.experiment(text=texts(text, lem), timeout=400)
    assert r["provenance"]["prompts_form"] == "token_ids" and r["provenance"]["prompts_sha256"] == sha_of(cut)
    assert r["tokens"]["input"] == sum(map(len, cut)) and not any("other input tokens" in n for n in r["notes"])
    assert [x["input_tokens"] for x in rows(lem)] == [len(c) for c in cut]


def test_a_real_llama_server_and_the_embedded_worker_make_the_same_of_texts(lem, gemma):
    """The server is asked for ids, the worker tokenizes for itself: as many tokens of each text, special tokens that a text names included."""
    from test_llama_server import find_server
    program = find_server()
    if not program:
        pytest.skip("needs a real llama-server: LEM_LLAMA_SERVER, or setup --engines")
    (lem.folder / "p.txt").write_text("Hello there\n<start_of_turn>user\n" + "a b c d e f g h i j k l m n o p\n")
    text = f"""config_name: w\nmodel_name: {gemma}\nbackend: llamacpp\nrunner: process\ngpus: []\nmax_input_tokens: 9\nmax_output_tokens: 3\nmin_output_tokens: 3
prompts: {FROM_FILE}\nwarmup: {{enabled: false}}\nbaseline: {{enabled: false}}\nllamacpp: {{batch_size: 3%s}}\n"""
    embedded = lem.experiment(text=text % "")
    counts = [x["input_tokens"] for x in rows(lem)]
    served = lem.experiment(text=text % f", server: true, server_program: {program}")
    assert counts == [x["input_tokens"] for x in rows(lem)] and max(counts) == 9 and min(counts) == 3
    assert served["provenance"]["prompts_form"] == "token_ids" and embedded["provenance"]["prompts_form"] == "texts"
    assert served["tokens"]["input"] == embedded["tokens"]["input"] and served["window"]["prompts_truncated"] == embedded["window"]["prompts_truncated"] == 1
