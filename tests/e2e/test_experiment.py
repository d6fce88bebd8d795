"""`lem experiment` as a user runs it, with the real llama.cpp worker."""
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import time

import pytest
from conftest import QUICK, ROOT


def processes_of(folder):
    """Command lines of processes whose working directory is the test's folder."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{pid}/cwd") == str(folder):
                found.append(open(f"/proc/{pid}/cmdline", "rb").read().replace(b"\0", b" ").decode())
        except OSError:
            pass
    return found


def test_quick_run_is_stored_and_exact(lem):
    r = lem.experiment()
    assert r["schema"] == "lem.result/1"
    assert r["status"] == "completed" and r["error"] is None
    assert r["tokens"] == {"input": 8 * 32, "output": 8 * 16}
    assert r["window"]["requests"] == 8
    assert r["model"]["weights"] == "synthetic"
    assert r["engine"]["name"] == "llamacpp" and r["engine"]["mode"] == "offline/static"
    assert r["throughput"]["decode_tokens_per_s"]["value"] > 0
    assert r["throughput"]["decode_tokens_per_s"]["low"] <= r["throughput"]["decode_tokens_per_s"]["value"]
    assert r["latency"]["itl_ms"]["n"] == 8 * 15
    assert r["latency"]["ttft_ms"]["p50"] > 0
    assert r["energy"]["gpu_j"]["value"] is None and "no GPU" in r["energy"]["gpu_j"]["reason"]
    stored = json.loads((lem.folder / "results" / f"{r['run_id']}.json").read_text())
    assert stored == r
    with contextlib.closing(sqlite3.connect(lem.folder / "results" / "lem.sqlite")) as db:
        assert db.execute("SELECT run_id, status FROM runs").fetchall() == [(r["run_id"], "completed")]
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_flops_agree_with_a_count_by_hand(lem):
    r = lem.experiment()
    d, ff, layers, vocab, prompt, out = 288, 768, 6, 32000, 32, 16
    per_token = layers * (2 * d * 3 * d + 2 * d * d + 6 * d * ff)
    attention = lambda a, b: layers * 4 * d * sum(p + 1 for p in range(a, b))
    prefill = prompt * per_token + attention(0, prompt) + 2 * d * vocab
    decode = (out - 1) * (per_token + 2 * d * vocab) + attention(prompt, prompt + out - 1)
    assert r["flops"]["prefill"]["value"] == pytest.approx(8 * prefill, rel=1e-9)
    assert r["flops"]["decode"]["value"] == pytest.approx(8 * decode, rel=1e-9)


def test_min_duration_repeats_the_prompts(lem):
    r = lem.experiment("--set", "window.min_duration_sec=2")
    assert r["window"]["seconds"] >= 2
    assert r["window"]["requests"] % 8 == 0 and r["window"]["requests"] > 8
    assert r["tokens"]["output"] == r["window"]["requests"] * 16


def test_continuous_and_streaming_modes(lem):
    r = lem.experiment("--set", "llamacpp.batching=continuous")
    assert r["engine"]["mode"] == "offline/continuous" and r["tokens"]["output"] == 128
    r = lem.experiment("--streaming", "--set", "llamacpp.batch_size=1")
    assert r["engine"]["mode"] == "offline/streaming" and r["tokens"]["output"] == 128


def test_show_list_export_read_the_store(lem):
    r = lem.experiment()
    shown = lem("results", "show", "last", check=0).stdout
    assert r["run_id"] in shown and "weights: synthetic" in shown and "128 out" in shown
    assert json.loads(lem("results", "show", r["run_id"][:20], "--json", check=0).stdout) == r
    rows = json.loads(lem("results", "list", "--json", check=0).stdout)
    assert [row["run_id"] for row in rows] == [r["run_id"]] and rows[0]["weights"] == "synthetic"
    csv = lem("results", "export", "last", check=0).stdout.splitlines()
    assert len(csv) == 9 and csv[0].startswith("request,pass,prompt")
    assert all(line.split(",")[8] == "16" for line in csv[1:])


def test_same_seed_same_prompts(lem):
    a, b = lem.experiment(), lem.experiment()
    c = lem.experiment("--seed", "2")
    assert a["provenance"]["prompts_sha256"] == b["provenance"]["prompts_sha256"] != c["provenance"]["prompts_sha256"]
    assert a["config_hash"] == b["config_hash"] != c["config_hash"]


def test_real_text(lem, gemma):
    text = """
config_name: real
model_name: %s
backend: llamacpp
max_output_tokens: 24
prompts: {type: file, path: p.txt}
decoder: {preset: deterministic}
save_outputs: true
llamacpp: {batch_size: 2}
warmup: {requests: 1}
""" % gemma
    (lem.folder / "p.txt").write_text("The capital of France is\n\nThe opposite of cold is\n")
    r = lem.experiment(text=text)
    assert r["model"]["weights"] == "real" and r["status"] == "completed"
    rows = json.loads(lem("results", "export", "last", "--format", "json", check=0).stdout)
    assert "Paris" in rows[0]["text"] or "France" in rows[0]["text"]
    assert "hot" in rows[1]["text"] or "warm" in rows[1]["text"] or "cold" in rows[1]["text"]
    # Gemma's tokenizer: <bos> The _capital _of _France _is; <bos> The _opposite _of _cold _is
    assert [row["input_tokens"] for row in rows] == [6, 6]


def test_the_example_with_real_weights(lem, gemma):
    done = lem("experiment", ROOT / "configs/examples/gemma3-270m.yaml", "--json", "--set", "window.min_duration_sec=5", check=0)
    r = json.loads(done.stdout)
    assert r["model"]["weights"] == "real" and r["model"]["quantization"] == "Q4_K_M"
    assert r["status"] == "completed" and r["tokens"]["output"] == 48 * r["window"]["requests"]


def test_impossible_parallelism_is_refused_before_anything(lem):
    text = "config_name: x\nmodel_name: m\nbackend: vllm\ngpus: [0]\nvllm: {tensor_parallel_size: 4}\nprompts: {type: file, path: p.txt}\n"
    config = lem.config(text)
    done = subprocess.run(["strace", "-f", "-e", "trace=execve,connect,clone,fork,vfork", lem.program, "experiment", str(config)],
                          cwd=lem.folder, text=True, capture_output=True) if os.path.exists("/usr/bin/strace") else None
    plain = lem("experiment", config, check=2)
    assert "R10" in plain.stderr and "needs 4 GPUs" in plain.stderr and "hint:" in plain.stderr
    assert f"{config}:5:" in plain.stderr
    assert not (lem.folder / "results").exists()
    if done is not None and done.returncode == 2:
        assert done.stderr.count("execve(") == 1 and "connect(" not in done.stderr


def test_places_that_an_engine_cannot_run_in_are_refused(lem):
    (lem.folder / "p.txt").write_text("a\n")
    text = "config_name: x\nmodel_name: synthetic:llama-15m\nbackend: vllm\nrunner: external\ngpus: []\nprompts: {type: synthetic}\n"
    done = lem("experiment", lem.config(text), check=2)
    assert "external runner" in done.stderr and "backend: openai" in done.stderr


@pytest.mark.parametrize("change, message", [
    (("--model", "nothing.gguf"), "there is no model file"),
    (("--model", "synthetic:llama-9999t"), "no synthetic shape"),
    (("--set", "prompts={type: file, path: nowhere.txt}"), "nowhere.txt"),
    (("--set", "llamacpp.worker=/nonexistent/worker"), "does not exist"),
])
def test_refusals_name_the_cause(lem, change, message):
    done = lem("experiment", lem.config(), *change, check=2)
    assert message in done.stderr
    assert "hint:" in done.stderr or "why:" in done.stderr
    assert not list((lem.folder / "results").glob("*.json"))


def test_broken_models_are_refused(lem, gemma):
    whole = gemma.read_bytes()
    (lem.folder / "cut.gguf").write_bytes(whole[:1000])
    (lem.folder / "half.gguf").write_bytes(whole[:100_000_000])
    (lem.folder / "text.gguf").write_text("this is not a model")
    (lem.folder / "empty.gguf").write_bytes(b"")
    for name in ("cut.gguf", "half.gguf", "text.gguf", "empty.gguf"):
        done = lem("experiment", lem.config(), "--model", name, check=2)
        assert "GGUF" in done.stderr and name in done.stderr


def test_what_only_the_engine_can_refuse_is_explained(lem, gemma):
    """A header that is consistent, of an architecture that llama.cpp does not know."""
    broken = gemma.read_bytes().replace(b"gemma3", b"gemmaX")
    (lem.folder / "odd.gguf").write_bytes(broken)
    (lem.folder / "p.txt").write_text("a\n")
    done = lem("experiment", lem.config(), "--model", "odd.gguf", "--prompts", "p.txt", check=1)
    assert "loading the model" in done.stderr and "cannot load" in done.stderr
    rows = json.loads(lem("results", "list", "--json", check=0).stdout)
    assert [r["status"] for r in rows] == ["failed"]


def test_text_prompts_need_a_tokenizer(lem):
    (lem.folder / "p.txt").write_text("hello\n")
    done = lem("experiment", lem.config(), "--prompts", "p.txt", check=2)
    assert "no tokenizer" in done.stderr and "synthetic" in done.stderr


def interrupt_after(lem, needle, *args):
    """Starts a long run and sends SIGINT when `needle` shows on stderr."""
    p = lem.start("experiment", lem.config(), "--set", "window.min_duration_sec=60", *args)
    seen = ""
    while needle not in seen:
        line = p.stderr.readline()
        assert line, f"ended before '{needle}': {seen}"
        seen += line
    time.sleep(0.7)
    p.send_signal(signal.SIGINT)
    t = time.time()
    out, err = p.communicate(timeout=30)
    return p.returncode, time.time() - t, seen + err


@pytest.mark.parametrize("phase", ["warming up", "measuring"])
def test_interrupt_keeps_what_was_measured(lem, phase):
    extra = ["--set", "warmup={requests: 200}"] if phase == "warming up" else []
    code, seconds, err = interrupt_after(lem, phase, *extra)
    assert code == 130, err
    assert seconds < 15
    assert processes_of(lem.folder) == []
    rows = json.loads(lem("results", "list", "--json", check=0).stdout)
    assert [r["status"] for r in rows] == ["interrupted"] and rows[0]["verdict"] == "invalid"
    if phase == "measuring":
        r = json.loads(lem("results", "show", "last", "--json", check=0).stdout)
        assert r["tokens"]["output"] > 0


def test_two_runs_at_once(lem):
    config = lem.config()
    both = [lem.start("experiment", config, "--json") for _ in range(2)]
    results = [json.loads(p.communicate(timeout=120)[0]) for p in both]
    assert [p.returncode for p in both] == [0, 0]
    assert results[0]["run_id"] != results[1]["run_id"]
    assert len(json.loads(lem("results", "list", "--json", check=0).stdout)) == 2


def test_results_folder_that_cannot_be_written(lem):
    (lem.folder / "results").write_text("a file in the way")
    done = lem("experiment", lem.config(), check=2)
    assert "results" in done.stderr and "hint:" in done.stderr
    assert (lem.folder / "results").read_text() == "a file in the way"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_full_disk(lem):
    small = lem.folder / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(small)], capture_output=True).returncode != 0:
        pytest.skip("mounting is not allowed here")
    try:
        r = lem.experiment("-o", "small")
        before = (small / f"{r['run_id']}.json").read_text()
        (small / "filler").write_bytes(b"x" * (os.statvfs(small).f_bavail * os.statvfs(small).f_frsize - 8192))
        done = lem("experiment", lem.config(), "-o", "small", check=2)
        assert "No space left" in done.stderr
        os.remove(small / "filler")
        assert (small / f"{r['run_id']}.json").read_text() == before
        with contextlib.closing(sqlite3.connect(small / "lem.sqlite")) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert db.execute("SELECT count(*) FROM runs").fetchone() == (1,)
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_json_is_one_document_and_people_read_stderr(lem):
    done = lem("experiment", lem.config(), "--json", check=0)
    json.loads(done.stdout)
    assert "measuring" in done.stderr
    quiet = lem("experiment", lem.config(), "--quiet", check=0)
    assert quiet.stdout == ""
    refused = lem("experiment", lem.config("nonsense: 1\n", name="bad.yaml"), "--json", check=2)
    assert json.loads(refused.stdout)["findings"]


def test_no_color_and_ascii(lem):
    lem.experiment()
    shown = lem("results", "show", "last", env={"LC_ALL": "C", "NO_COLOR": "1"}, check=0).stdout
    assert shown.isascii() and "\x1b" not in shown


def test_example_files_are_good():
    for path in sorted((ROOT / "configs" / "examples").glob("*.yaml")):
        done = subprocess.run([str(ROOT / "build" / "lem") if not os.environ.get("LEM_BUILD") else os.environ["LEM_BUILD"] + "/lem",
                               "config", "validate", str(path)], text=True, capture_output=True)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words, says", [
    (["--nope"], "no such option: '--nope'"),
    (["-x"], "no such option: '-x'"),
    (["--json=yes"], "this option takes no value: '--json=yes'"),
])
@pytest.mark.parametrize("command", ["experiment", "campaign", "config", "gpus", "doctor", "model", "results"])
def test_options_that_do_not_exist(lem, command, words, says):
    done = lem(command, *(["validate"] if command == "config" else []), *words, check=2)
    assert done.stderr == f"lem: {says}\nTry 'lem {command} --help'.\n" and done.stdout == ""


def test_an_option_without_its_value(lem):
    done = lem("experiment", "--set", check=2)
    assert done.stderr == "lem: a value is missing after '--set'\nTry 'lem experiment --help'.\n"


def test_an_interrupt_while_the_model_is_made(lem):
    cache = lem.folder / "cache"
    p = lem.start("experiment", lem.config(QUICK.replace("llama-15m", "llama-1b")), env={"LEM_CACHE_DIR": str(cache)})
    deadline = time.monotonic() + 30
    while not any(f.stat().st_size for f in cache.glob("models/*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=60)
    assert p.returncode == 130 and "interrupted" in err, err
    assert list(cache.glob("models/*.gguf")) == []  # it was not made to its end first
