"""The llama.cpp worker against the real library: forced lengths, stamps, texts, and every wrong path."""
import json
import os
import random
import resource
import subprocess
import time
from pathlib import Path

import pytest

from gguf_vocab import Tokenizer
from worker_client import Worker, requests

BUILD = Path(os.environ.get("LEM_BUILD", Path(__file__).parents[2] / "build"))
PROGRAM = BUILD / "lem-worker-llama"
CACHE = Path(os.environ.get("LEM_CACHE_DIR") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lem")
GEMMA = CACHE / "models" / "gemma3-270m-Q4_K_M.gguf"
GREEDY = {"temperature": 0.0}

pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason="lem-worker-llama was not built (no libllama)")
needs_gemma = pytest.mark.skipif(not GEMMA.exists(), reason=f"{GEMMA} is missing; ./setup --tests fetches it")


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A small synthetic model: no vocabulary, random weights."""
    path = tmp_path_factory.mktemp("models") / "llama-15m.gguf"
    subprocess.run([BUILD / "lem", "model", "synth", "llama-15m", "--quant", "q8_0", "-o", path], check=True,
                   stdout=subprocess.DEVNULL)
    return path


@pytest.fixture(scope="session")
def tokenize():
    return Tokenizer(GEMMA)


def worker(**fields):
    return Worker([PROGRAM], **fields)


@pytest.fixture
def loaded(model):
    with worker() as w:
        assert w.load(model, batch_size=4)["event"] == "loaded"
        yield w


def prompt(n, seed=1):
    r = random.Random(seed)
    return [r.randrange(32000) for _ in range(n)]


def check_run(done, steps, asked):
    """What lem itself checks of a run (PROTOCOL.md), and that nothing is double."""
    assert done["event"] == "done", done
    assert [r["id"] for r in done["results"]] == [q["id"] for q in asked]
    t, out, started = done["t_start_ns"], 0, []
    for s in steps:
        assert t <= s["start_ns"] <= s["end_ns"] <= done["t_ns"]
        t = s["end_ns"]
        out += len(s["ids"])
        assert s["out"] == out and len(set(s["ids"])) == len(s["ids"])
        started += s.get("started", [])
    assert sorted(started) == sorted(q["id"] for q in asked)
    assert sum(s["prefill"] for s in steps) == sum(r["input_tokens"] for r in done["results"])
    for r in done["results"]:
        assert r["output_tokens"] == sum(s["ids"].count(r["id"]) for s in steps)


def is_error(event, code, text=""):
    assert event["event"] == "error" and event["code"] == code and text in event["message"], event
    return True


def still_serves(w):
    done, steps = w.run(requests([[5, 6, 7]], 2))
    check_run(done, steps, requests([[5, 6, 7]], 2))
    return w.stop() == 0


# ------------------------------------------------------------------------------------- what it says

def test_loaded_tells_shape_options_and_device(model):
    t0 = time.monotonic_ns()
    with worker() as w:
        e = w.load(model, batch_size=4, n_batch=256, n_ubatch=64, cache_type_k="f32", flash_attn="on")
        t1 = time.monotonic_ns()
        assert t0 < e["t_start_ns"] < e["t_ns"] < t1
        m, o = e["model"], e["engine"]["options"]
        assert (m["architecture"], m["n_layer"], m["n_embd"], m["n_head"], m["n_head_kv"], m["head_dim"]) == \
            ("llama", 6, 288, 6, 6, 48)
        assert m["n_vocab"] == 32000 and m["n_ff"] == 768 and m["quant"] == "Q8_0"
        assert m["has_tokenizer"] is False and m["weights"] == "synthetic"
        assert abs(m["size_bytes"] / model.stat().st_size - 1) < 0.05
        assert (o["n_batch"], o["n_ubatch"], o["n_seq_max"], o["threads"]) == (256, 64, 4, 2)
        assert o["n_ctx_seq"] >= 192 and o["n_ctx"] == 4 * o["n_ctx_seq"]
        assert (o["cache_type_k"], o["cache_type_v"], o["n_gpu_layers"]) == ("f32", "f16", 0)
        assert e["devices"] == [{"name": "CPU", "uuid": None}]
        assert w.stop() == 0


@pytest.mark.parametrize("batching", ["static", "continuous"])
@pytest.mark.parametrize("lengths", [[7] * 6, [1, 9, 3, 30, 2, 5, 4]])
def test_forced_lengths_are_exact(loaded, batching, lengths):
    asked = [{"id": 10 + i, "tokens": prompt(3 + 5 * i, i), "max_output_tokens": n, "min_output_tokens": n}
             for i, n in enumerate(lengths)]
    done, steps = loaded.run(asked, batching=batching)
    check_run(done, steps, asked)
    assert [r["output_tokens"] for r in done["results"]] == lengths
    assert [r["input_tokens"] for r in done["results"]] == [len(q["tokens"]) for q in asked]
    assert all(r["finish"] == "length" and not r["truncated"] for r in done["results"])


def test_a_static_group_starts_when_the_one_before_has_finished(loaded):
    asked = [{"id": i, "tokens": [1, 2], "max_output_tokens": n} for i, n in enumerate([2, 8, 2, 2, 3])]
    _, steps = loaded.run(asked)
    assert [s.get("started", []) for s in steps if s["prefill"]] == [[0, 1, 2, 3], [4]]
    assert [len(s["ids"]) for s in steps] == [4, 4, 1, 1, 1, 1, 1, 1, 1, 1, 1]


def test_a_continuous_place_is_taken_at_once(loaded):
    asked = [{"id": i, "tokens": [1, 2], "max_output_tokens": n} for i, n in enumerate([2, 8, 3, 3, 3])]
    _, steps = loaded.run(asked, batching="continuous")
    assert [s.get("started", []) for s in steps if s["prefill"]] == [[0, 1, 2, 3], [4]]
    assert steps[2]["prefill"] == 2 and 1 in steps[2]["ids"] and 4 in steps[2]["ids"]
    assert len(steps) == 8


@pytest.mark.parametrize("batching", ["static", "continuous"])
def test_prompts_longer_than_a_batch_come_in_pieces(model, batching):
    with worker() as w:
        assert w.load(model, batch_size=2, n_batch=32, n_ubatch=16)["event"] == "loaded"
        asked = requests([prompt(100), prompt(3)], 4)
        done, steps = w.run(asked, batching=batching)
        check_run(done, steps, asked)
        assert max(s["prefill"] for s in steps) == 32 and steps[0]["ids"] == []
        assert w.stop() == 0


def test_pieces_and_whole_prompts_give_the_same_tokens(model):
    """What comes out may not depend on how the prompt was cut: seen through end positions and text-free ids."""
    shapes = []
    for n_batch in (32, 512):
        with worker() as w:
            w.load(model, batch_size=1, n_batch=n_batch, n_ubatch=min(n_batch, 64))
            done, steps = w.run(requests([prompt(100)], 5))
            check_run(done, steps, requests([prompt(100)], 5))
            shapes.append(len(steps))
    assert shapes == [4 + 4, 1 + 4]


def test_inputs_are_cut_to_max_input_tokens(loaded):
    done, steps = loaded.run(requests([prompt(50), prompt(10)], 2), max_input_tokens=20)
    assert [(r["input_tokens"], r["truncated"]) for r in done["results"]] == [(20, True), (10, False)]
    assert sum(s["prefill"] for s in steps) == 30


def test_many_runs_in_one_life(loaded):
    for n in range(1, 21):
        asked = requests([prompt(n, n)] * 5, n)
        done, steps = loaded.run(asked, batching="continuous" if n % 2 else "static")
        check_run(done, steps, asked)
        assert done["run"] == n and all(s["run"] == n for s in steps)
    assert loaded.stop() == 0


def test_a_long_run_reports_while_it_runs(loaded):
    """Rule 3: flushed once in 200 ms, so that lem can show progress."""
    loaded.send({"op": "run", "run": 1, "requests": requests([[1, 2]] * 60, 180)})
    stamps = []
    while True:
        e = loaded.event()
        if e["event"] == "done":
            break
        stamps.append((e["end_ns"], time.monotonic_ns()))
    if stamps[-1][0] - stamps[0][0] > 1e9:
        late = sorted(seen - end for end, seen in stamps)
        assert late[len(late) // 2] < 400e6


# ------------------------------------------------------------------------------------- real weights

@needs_gemma
def test_gemma_continues_sensibly_and_counts_its_tokens(tokenize):
    texts = ["The capital of France is", "One, two, three, four, five,", "Grüße aus Köln! 你好 \U0001f642\u0007"]
    with worker() as w:
        e = w.load(GEMMA, batch_size=4)
        assert e["model"]["has_tokenizer"] and e["model"]["weights"] == "real" and e["model"]["quant"] == "Q4_K_M"
        done, steps = w.run(requests(texts, 24), save_text=True, sampling=GREEDY)
        check_run(done, steps, requests(texts, 24))
        assert w.stop() == 0
    assert [r["input_tokens"] for r in done["results"]] == [len(tokenize(t)) for t in texts]
    assert "France" in done["results"][0]["text"] or "Paris" in done["results"][0]["text"]
    assert "six, seven, eight" in done["results"][1]["text"]
    assert all(r["output_tokens"] == 24 for r in done["results"])


@needs_gemma
def test_text_and_its_token_ids_are_the_same_request(tokenize):
    text = "The quick brown fox jumps over"
    with worker() as w:
        w.load(GEMMA, batch_size=1)
        done, _ = w.run(requests([text, tokenize(text)], 12), save_text=True, sampling=GREEDY)
        a, b = done["results"]
        assert a["input_tokens"] == b["input_tokens"] == len(tokenize(text))
        assert a["text"] == b["text"] != ""


@needs_gemma
def test_greedy_text_depends_neither_on_neighbours_nor_on_the_way_of_batching():
    """With one batch size, that is: another one takes other kernels, whose sums round differently."""
    texts = ["The capital of France is", "One, two, three, four,", "Water boils at", "My name is"]
    others = ["Why did the chicken", texts[1], "int main(void) {", "The sun rises in the"]
    with worker() as w:
        w.load(GEMMA, batch_size=4)

        def said(prompts, batching):
            done, steps = w.run(requests(prompts, 16), batching=batching, save_text=True, sampling=GREEDY)
            check_run(done, steps, requests(prompts, 16))
            return [r["text"] for r in done["results"]]

        alone = said(texts, "static")
        assert len(set(alone)) == 4 and said(texts, "continuous") == alone
        assert said(others, "static")[1] == alone[1] and said(texts[::-1], "static") == alone[::-1]


@needs_gemma
def test_sampling_repeats_with_its_seed_and_its_id_only():
    sampling = {"temperature": 0.9, "top_k": 40, "top_p": 0.95, "min_p": 0.01, "repetition_penalty": 1.1, "seed": 7}
    texts = ["Once upon a time", "The weather today", "Once upon a time"]

    with worker() as w:
        w.load(GEMMA, batch_size=2)

        def said(seed, asked):
            done, _ = w.run(asked, save_text=True, sampling={**sampling, "seed": seed}, batching="continuous")
            return {r["id"]: r["text"] for r in done["results"]}

        first = said(7, requests(texts, 16))
        assert first == said(7, requests(texts, 16))
        assert first[1] == said(7, requests([texts[1], texts[0]], 16, first=1))[1]
        assert first[0] != first[2], "each request has a stream of its own"
        assert first != said(8, requests(texts, 16))


@needs_gemma
def test_repetition_penalty_forbids_what_was_said():
    asked = requests(["yes yes yes yes yes yes yes yes"], 8)
    with worker() as w:
        w.load(GEMMA, batch_size=1)
        free, _ = w.run(asked, save_text=True, sampling=GREEDY)
        bound, _ = w.run(asked, save_text=True, sampling={"temperature": 0, "repetition_penalty": 10.0})
    assert " yes yes" in free["results"][0]["text"] and " yes" not in bound["results"][0]["text"]


@needs_gemma
def test_end_of_sequence_is_held_back_until_min_output_tokens():
    """The model's own turn format makes it end its answer; forced, it may not."""
    text = "Question: 2+2? Answer in one word.\nAnswer: Four.\n\nQuestion: Capital of Italy?\nAnswer:"
    with worker() as w:
        w.load(GEMMA, batch_size=1, max_total_tokens=400)
        free, steps = w.run(requests([text], 300, at_least=0), sampling=GREEDY)
        check_run(free, steps, requests([text], 300))
        ended = free["results"][0]
        assert ended["finish"] in ("eos", "length")
        if ended["finish"] == "eos":
            n = ended["output_tokens"]
            forced, _ = w.run(requests([text], n + 5), sampling=GREEDY)
            assert (forced["results"][0]["output_tokens"], forced["results"][0]["finish"]) == (n + 5, "length")


# -------------------------------------------------------------------------------------- wrong paths

def test_text_without_a_tokenizer(loaded):
    e, _ = loaded.run(requests(["hello"], 2))
    assert is_error(e, "no_tokenizer") and e["run"] == 1 and not e["fatal"]
    assert still_serves(loaded)


@pytest.mark.parametrize("fields, code, text", [
    ({"requests": []}, "bad_request", "between 1 and"),
    ({"requests": "x"}, "bad_request", "between 1 and"),
    ({"requests": [3]}, "bad_request", ""),
    ({"requests": requests([[32000]], 2)}, "bad_request", "vocabulary of 32000"),
    ({"requests": requests([[-1]], 2)}, "bad_request", "vocabulary"),
    ({"requests": requests([[1.5]], 2)}, "bad_request", "vocabulary"),
    ({"requests": requests([["a"]], 2)}, "bad_request", "vocabulary"),
    ({"requests": requests([[]], 2)}, "bad_request", "empty prompt"),
    ({"requests": [{"id": 0, "max_output_tokens": 2}]}, "bad_request", "text or a list"),
    ({"requests": [{"id": 0, "tokens": [1], "text": "a", "max_output_tokens": 2}]}, "bad_request", "either"),
    ({"requests": [{"id": 0, "tokens": [1]}]}, "bad_request", "0 to 0 output tokens"),
    ({"requests": [{"id": 0, "tokens": [1], "max_output_tokens": 2, "min_output_tokens": 3}]}, "bad_request", "3 to 2"),
    ({"requests": [{"id": 0, "tokens": [1], "max_output_tokens": 2.5}]}, "bad_request", "integer"),
    ({"requests": [{"id": 0, "tokens": [1], "max_output_tokens": 2**62}]}, "bad_request", "between"),
    ({"requests": [{"id": -4, "tokens": [1], "max_output_tokens": 2}]}, "bad_request", "id is -4"),
    ({"requests": requests([[1]], 2) * 2}, "bad_request", "must rise"),
    ({"requests": requests([prompt(300)], 2)}, "context_full", "302 tokens"),
    ({"requests": requests([[1]], 2), "batching": "magic"}, "unsupported", "magic"),
    ({"requests": requests([[1]], 2), "max_input_tokens": 0}, "bad_request", "max_input_tokens"),
    ({"requests": requests([[1]], 2), "save_text": 1}, "bad_request", "save_text"),
    ({"requests": requests([[1]], 2), "sampling": 3}, "bad_request", "sampling"),
    ({"requests": requests([[1]], 2), "sampling": {"temperature": -1}}, "bad_request", "temperature"),
    ({"requests": requests([[1]], 2), "sampling": {"top_p": "high"}}, "bad_request", "top_p"),
    ({"requests": requests([[1]], 2), "sampling": {"top_k": 1.5}}, "bad_request", "top_k"),
    ({"requests": requests([[1]], 2), "sampling": {"repetition_penalty": 0}}, "bad_request", "repetition_penalty"),
])
def test_a_run_that_cannot_be_served_is_refused_and_the_worker_lives(loaded, fields, code, text):
    e, steps = loaded.ask({"op": "run", "run": 9, **fields})
    assert is_error(e, code, text) and e["run"] == 9 and not e["fatal"] and not steps
    assert still_serves(loaded)


@pytest.mark.parametrize("line, text", [
    (b"not json", "not a JSON object"), (b"[1]", "not a JSON object"), (b"3", "not a JSON object"), (b"{}", "op is missing"),
    (b'{"op":3}', "op is missing"), (b'{"op":"fly"}', "fly"), (b'{"op":"run","run":1', "not a JSON object"),
    (b'{"op":"\xff\xfe"}', "not a JSON object"), (b"[" * 100000, "not a JSON object"), (b'{"op":"load"}', "loaded already"),
    (b"\x00\x00\x00", "not a JSON object"),
])
def test_bad_lines_are_answered_and_the_worker_lives(loaded, line, text):
    loaded.send_raw(line + b"\n")
    assert is_error(loaded.event(), "bad_request", text)
    assert still_serves(loaded)


def test_blank_lines_are_nothing(loaded):
    loaded.send_raw(b"\n  \n\r\n")
    assert still_serves(loaded)


def test_a_giant_line_is_refused_without_being_held(loaded):
    def peak_kb():
        for line in Path(f"/proc/{loaded.proc.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1])

    before = peak_kb()
    for _ in range(96):
        loaded.send_raw(b"x" * (1 << 20))
    assert peak_kb() - before < 80 << 10
    loaded.send_raw(b"\n")
    assert is_error(loaded.event(), "bad_request", "16 MiB")
    assert still_serves(loaded)


def test_run_before_load():
    with worker() as w:
        e, _ = w.run(requests([[1]], 1))
        assert is_error(e, "bad_request", "no model is loaded")
        assert w.stop() == 0


@pytest.mark.parametrize("fields, code, text", [
    ({"protocol": 2}, "unsupported", "protocol 1"),
    ({"model": None}, "bad_request", "names no model"),
    ({"n_gpu_layers": 99}, "unsupported", "CPU only"),
    ({"batch_size": 0}, "bad_request", "batch_size is 0"),
    ({"batch_size": "4"}, "bad_request", "batch_size must be an integer"),
    ({"batch_size": 4000, "max_total_tokens": 1 << 20}, "bad_request", "tokens of context"),
    ({"threads": 0}, "bad_request", "threads"),
    ({"flash_attn": "maybe"}, "unsupported", "maybe"),
    ({"cache_type_k": "q2_k"}, "unsupported", "q2_k"),
    ({"split_mode": "diagonal"}, "unsupported", "diagonal"),
    ({"tensor_split": [1] * 4096}, "unsupported", "4096 devices"),
    ({"tensor_split": "1,1"}, "bad_request", "tensor_split"),
    ({"mmap": "yes"}, "bad_request", "mmap"),
])
def test_a_load_that_cannot_be_honoured_ends_the_worker_with_its_reason(model, fields, code, text):
    with worker() as w:
        w.send({"op": "load", "model": str(model), "max_total_tokens": 64, **fields})
        e = w.event()
        if "n_gpu_layers" in fields and e["event"] == "loaded":
            pytest.skip("this build has GPUs")
        assert is_error(e, code, text) and e["fatal"]
        assert w.line() is None and w.end() == 1


def spoilt(kind, model, path):
    data = model.read_bytes()
    path.write_bytes({"truncated": data[:len(data) // 2], "head only": data[:100], "empty": b"",
                      "noise": random.Random(3).randbytes(5000), "text": b"GGUFnope" * 50,
                      "huge counts": data[:8] + b"\xff" * 16 + data[24:]}[kind])
    return path


@pytest.mark.parametrize("kind", ["truncated", "head only", "empty", "noise", "text", "huge counts", "missing", "folder"])
def test_a_model_that_cannot_be_loaded(model, tmp_path, kind):
    path = {"missing": tmp_path / "none.gguf", "folder": tmp_path}.get(kind) or spoilt(kind, model, tmp_path / "m.gguf")
    with worker() as w:
        e = w.load(path)
        assert is_error(e, "model_load", str(path)) and e["fatal"]
        assert w.end() == 1


def test_end_of_input_means_stop(loaded):
    loaded.proc.stdin.close()
    assert loaded.event()["event"] == "stopped" and loaded.line() is None
    assert loaded.end(10) == 0


def test_half_a_line_before_the_end_of_input_is_no_request(loaded):
    loaded.send_raw(b'{"op":"run","run":1,"requests":[')
    loaded.proc.stdin.close()
    assert loaded.event()["event"] == "stopped"
    assert loaded.end(10) == 0


def test_sigterm_while_idle(loaded):
    loaded.terminate()
    assert loaded.event()["event"] == "stopped"
    assert loaded.end(5) == 0


def test_sigterm_in_a_run_ends_it(loaded):
    loaded.send({"op": "run", "run": 1, "requests": requests([[1, 2]] * 400, 180)})
    assert loaded.event()["event"] == "tokens"
    t = time.monotonic()
    loaded.terminate()
    while (e := loaded.event())["event"] == "tokens":
        pass
    assert is_error(e, "internal", "stopped") and loaded.event()["event"] == "stopped"
    assert loaded.end(5) == 0 and time.monotonic() - t < 3


def test_a_reader_that_goes_away_ends_it(loaded):
    loaded.send({"op": "run", "run": 1, "requests": requests([[1, 2]] * 400, 180)})
    loaded.event()
    loaded.proc.stdout.close()
    assert loaded.end(10) == 1


def test_sigterm_ends_it_even_when_nobody_reads(loaded):
    """Its output pipe is full and stays full: the last resort is its own alarm."""
    loaded.send({"op": "run", "run": 1, "requests": requests([[1]] * 8000, 30), "batching": "continuous"})
    time.sleep(2)
    loaded.terminate()
    assert loaded.end(12) in (0, 1, -14)


def test_death_of_the_parent_ends_it(model):
    """lem killed with -9 leaves no worker that goes on drawing power."""
    script = ("import subprocess, sys, time\n"
              "w = subprocess.Popen([sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
              "w.stdin.write(sys.argv[2].encode() + b'\\n'); w.stdin.flush(); print(w.pid, flush=True); time.sleep(60)")
    lines = "\n".join(json.dumps(x) for x in (
        {"op": "load", "model": str(model)},
        {"op": "run", "run": 1, "requests": requests([[1, 2]] * 400, 180)}))
    parent = subprocess.Popen(["python3", "-c", script, PROGRAM, lines], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    time.sleep(1)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    end = time.monotonic() + 5
    while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes():
        assert time.monotonic() < end, "the worker outlives its parent"
        time.sleep(0.05)


def test_a_context_that_does_not_fit_in_memory(model):
    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))

    if "build-asan" in str(PROGRAM):
        pytest.skip("AddressSanitizer needs its address space")
    p = subprocess.run([PROGRAM], input=json.dumps({"op": "load", "model": str(model), "batch_size": 64,
                                                    "max_total_tokens": 100000}) + "\n", text=True, timeout=60,
                       stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, preexec_fn=limit)
    assert is_error(json.loads(p.stdout.splitlines()[0]), "out_of_memory") and p.returncode == 1
