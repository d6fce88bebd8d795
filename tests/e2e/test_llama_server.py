"""A real llama-server, started by lem: `LEM_LLAMA_SERVER` names the program (tools/build-llama --server, or setup --engines, makes one)."""
import json
import os

import pytest
from conftest import CACHE, QUICK
from test_experiment import processes_of

TEXT = QUICK.replace("llamacpp: {batch_size: 4}", "llamacpp: {server: true, server_program: %s, threads: 1, batch_size: 4}").replace("config_name: quick", "config_name: served")


def find_server():
    named = os.environ.get("LEM_LLAMA_SERVER")
    made = sorted((CACHE / "llama").glob("*/bin/llama-server"), key=lambda p: p.stat().st_mtime)
    return named or (str(made[-1]) if made else None)


@pytest.fixture
def text(lem):
    program = find_server()
    if not program or not os.access(program, os.X_OK):
        pytest.skip("needs a real llama-server: LEM_LLAMA_SERVER, or setup --engines")
    yield TEXT % program
    assert processes_of(lem.folder) == []


def rows_of(lem):
    return json.loads(lem("results", "export", "last", "--format", "json", check=0).stdout)


def test_offline_forced_lengths_are_exact(lem, text):
    r = lem.experiment(text=text)
    assert r["status"] == "completed"
    assert r["engine"]["name"] == "llama-server" and r["engine"]["mode"] == "offline/continuous" and r["engine"]["version"]
    assert r["tokens"] == {"input": 8 * 32, "output": 8 * 16} and r["window"]["requests"] == 8
    assert r["client"]["failures"] == {} and r["client"]["lengths_differ"] == 0 and r["client"]["server_metrics"] is True
    assert r["client"]["cached_tokens"] == 0
    assert {(x["input_tokens"], x["output_tokens"]) for x in rows_of(lem)} == {(32, 16)}
    # random weights say bytes that are no characters: fewer chunks than tokens, and still a gap for each token
    assert r["latency"]["itl_ms"]["n"] == 8 * 15
    assert r["model"]["weights"] == "synthetic" and r["flops"]["total"]["value"] > 0


def test_the_options_arrive(lem, text):
    r = lem.experiment("--set", "llamacpp.threads_batch=2", "--set", "llamacpp.cache_type_k=bf16", "--set", "llamacpp.flash_attn=on",
                       "--set", "llamacpp.extra_args={alias: my-model}", text=text)
    argv = r["engine"]["reported"]["argv"]
    assert argv[argv.index("--threads") + 1] == "1" and argv[argv.index("--threads-batch") + 1] == "2" and argv[argv.index("--cache-type-k") + 1] == "bf16"
    assert r["engine"]["reported"]["options"]["total_slots"] == 4 and r["engine"]["reported"]["served_model"] == "my-model"
    assert r["engine"]["reported"]["options"]["default_generation_settings"]["n_ctx"] == 256


def test_same_ids_as_the_embedded_worker(lem, text):
    """The weights are the same, the vocabulary beside them means nothing: the same tokens go in, as many come out."""
    served, embedded = lem.experiment(text=text), lem.experiment()
    assert served["provenance"]["prompts_sha256"] == embedded["provenance"]["prompts_sha256"]
    assert served["tokens"] == embedded["tokens"]
    assert served["flops"]["total"]["value"] == embedded["flops"]["total"]["value"]


def test_streaming_is_one_at_a_time(lem, text):
    r = lem.experiment(text=text.replace("batch_size: 4", "batch_size: 1") + "streaming: true\n")
    assert r["engine"]["mode"] == "offline/streaming" and r["engine"]["reported"]["options"]["total_slots"] == 1
    assert r["latency"]["itl_ms"]["n"] == 8 * 15 and r["client"]["failures"] == {}
    rows = rows_of(lem)
    assert [x["output_tokens"] for x in rows] == [16] * 8
    assert all(a["last_token_ns"] <= b["sent_ns"] for a, b in zip(rows, rows[1:]))


def test_server_mode(lem, text):
    r = lem.experiment("--set", "traffic={rate: 10, duration_sec: 4, ramp_sec: 1, seed: 3}", text=text)
    assert r["engine"]["mode"] == "server/open" and r["client"]["mode"] == "server"
    assert r["window"]["requests"] == r["window"]["requests_asked"] > 10
    assert r["window"]["seconds"] == pytest.approx(3, abs=0.01) and r["client"]["failures"] == {}
    assert {x["output_tokens"] for x in rows_of(lem)} == {16}


def test_closed_loop_has_a_request_for_each_slot(lem, text):
    r = lem.experiment("--set", "traffic={concurrency: 4, duration_sec: 3}", text=text)
    assert r["engine"]["mode"] == "server/closed" and r["client"]["failures"] == {} and r["window"]["requests"] > 4
    assert r["client"]["cached_tokens"] == 0


def test_kept_prompts_are_counted(lem, text):
    """The prompts come again in every pass: with cache_prompt the server says how much it kept of them."""
    r = lem.experiment("--set", "llamacpp.cache_prompt=true", "--set", "window.min_duration_sec=1", text=text)
    assert r["client"]["cached_tokens"] > 0
    assert r["client"]["lengths_differ"] == 0 and r["tokens"]["input"] == r["window"]["requests"] * 32


def test_a_real_model_and_text(lem, text, gemma, tmp_path):
    (tmp_path / "p.txt").write_text("The capital of France is\nTwo plus two is\n")
    text = text.replace("model_name: synthetic:llama-15m", f"model_name: {gemma}").replace(
        "prompts: {type: synthetic, count: 8, input_tokens: 32}", f"prompts: {{type: file, path: {tmp_path}/p.txt}}\nsave_outputs: true")
    r = lem.experiment(text=text, timeout=300)
    assert r["tokens"]["output"] == 2 * 16 and r["client"]["failures"] == {} and r["model"]["weights"] == "real"
    assert "France" in rows_of(lem)[0]["text"]


def test_an_impossible_option_is_explained(lem, text):
    """Refused by llama-server itself, after its start: lem tells its words at once."""
    done = lem("experiment", lem.config(text.replace("batch_size: 4", "batch_size: 4, extra_args: {lora: /no/such.gguf}")))
    assert done.returncode == 1 and "ended while starting" in done.stderr
    assert "/no/such.gguf" in done.stderr.split("why:")[1] and "GPU" not in done.stderr
    done = lem("experiment", lem.config(text.replace("batch_size: 4", "extra_args: {no_such_option: 7}")))
    assert done.returncode == 1 and "--no-such-option" in done.stderr.split("why:")[1]


def test_a_program_that_is_not_there(lem):
    """Known before anything is started."""
    done = lem("experiment", lem.config(TEXT % "/no/such/llama-server"), check=2)
    assert "/no/such/llama-server does not exist" in done.stderr and "llamacpp.server_program" in done.stderr
    done = lem("experiment", lem.config(TEXT.replace("server_program: %s, ", "")), env={"PATH": "/no/such"}, check=2)
    assert "llama-server is not in PATH" in done.stderr and "runner: docker" in done.stderr


def test_a_model_without_a_vocabulary(lem, text):
    path = json.loads(lem("model", "synth", "llama-15m", "--json", check=0).stdout)["path"]
    done = lem("experiment", lem.config(text.replace("synthetic:llama-15m", path)), check=2)
    assert "has no vocabulary" in done.stderr and "synthetic:SHAPE" in done.stderr


def test_traffic_needs_the_server(lem):
    done = lem("experiment", lem.config(QUICK), "--set", "traffic={rate: 5}", check=2)
    assert "llamacpp: {server: true}" in done.stderr


def test_in_a_container(lem, text, docker):
    """An image without a file in it, the host's folders bound: started by name, driven, gone."""
    from test_vllm_docker import HOST

    program = find_server()
    bound = [f for f in HOST if os.path.exists(f)] + [os.path.dirname(program)]
    volumes = json.dumps([f"{f}:{f}:ro" for f in bound])
    text += f"runner: docker\ndocker: {{image: 'lem-test:bare', pull: never, network: host, volumes: {volumes}}}\n"
    r = lem.experiment(text=text, env={"DOCKER_HOST": docker.host})
    assert r["tokens"] == {"input": 8 * 32, "output": 8 * 16} and r["client"]["failures"] == {}
    assert r["engine"]["image_digest"].startswith("sha256:") and "/models/" in r["engine"]["reported"]["served_model"]
    assert r["latency"]["itl_ms"]["n"] == 8 * 15
    done = lem("experiment", lem.config(text.replace("batch_size: 4", "extra_args: {no_such_option: 7}")), env={"DOCKER_HOST": docker.host})
    assert done.returncode == 1 and "--no-such-option" in done.stderr.split("why:")[1]
    assert docker.containers() == []
