"""The right GPUs, proved: `lem experiment` by the process runner on a machine made of fakes (NVML, CUDA, a worker).

Both fakes show the same GPUs; the probe is the real one. What is wrong is wrong in the fake CUDA driver, as a hidden
device or a renumbered one would show, or in the process lists of the fake NVML.
"""
import contextlib
import json
import os
import shutil
import subprocess
import time

import pytest
from conftest import ASAN, QUICK

FAKES = ASAN / "tests" / "fakes"
WORKER = FAKES / "fake_worker"
TEXT = QUICK.replace("gpus: []", "gpus: [1, 0]").replace(
    "warmup: {min_prompts: 3, window_size: 3, max_prompts: 5, cv_threshold: 0.5}", "warmup: {requests: 1}")


def uuid(i):
    return f"GPU-{0x1a2b3c40 + i:08x}-fa4e-4000-8000-{0xabcdef + i:012x}"


@pytest.fixture
def gpus(lem):
    """lem of the sanitized build, because the fake driver is loaded into it; its worker under a name of its own."""
    for path in (ASAN / "lem", ASAN / "lem-gpuprobe", WORKER):
        if not path.exists():
            pytest.fail(f"{path} is not built: run make test")
    lem.program = str(ASAN / "lem")
    lem.worker = f"eng{os.getpid() % 100000}"  # comm: at most 15 bytes, nobody else's
    shutil.copy(WORKER, lem.folder / lem.worker)
    lem.env = {
        "LEM_NVML_LIBRARY": str(FAKES / "libnvml_fake.so"),
        "LEM_CUDA_LIBRARY": str(FAKES / "libcuda_fake.so"),
        "LEM_FAKE_CUDA": "gpus=4;dev=*",
        "LEM_FAKE_NVML": f"gpus=4;proccomm=1:{lem.worker}+0:{lem.worker}",
    }
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "NVIDIA_VISIBLE_DEVICES", "SLURM_JOB_ID"):
        os.environ.pop(name, None)
    lem.text = TEXT.replace("llamacpp: {batch_size: 4}", "llamacpp: {batch_size: 4, worker: %s}" % (lem.folder / lem.worker))
    return lem


def run(lem, check, *args, nvml="", cuda="", worker="", text=None):
    env = dict(lem.env)
    env["LEM_FAKE_NVML"] += nvml
    env["LEM_FAKE_CUDA"] += cuda
    if worker:
        env["LEM_FAKE_WORKER"] = worker
    done = lem("experiment", lem.config(text or lem.text), "--json", *args, env=env, check=check, timeout=60)
    return json.loads(done.stdout), done.stderr


def reasons(r):
    return " | ".join(r["verdict"]["reasons"])


def nothing_left(lem):
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            assert os.readlink(f"/proc/{pid}/cwd") != str(lem.folder), f"process {pid} was left behind"


def test_right_gpus_are_proved(gpus):
    r, _ = run(gpus, 0)
    routing = r["routing"]
    assert routing["proved"] is True and routing["path"] == "process"
    assert routing["requested"] == [uuid(1), uuid(0)] == [o["uuid"] for o in routing["observed"]]
    assert "lem-gpuprobe" in routing["proof"]
    assert "showed the engine on GPU 1, 0" in routing["guard"], routing
    assert routing["foreigners"] == []
    assert r["verdict"]["level"] != "invalid"
    assert "proved" not in reasons(r) and "GPU 1" not in reasons(r)
    assert [(g["requested"], g["index"], g["container_index"]) for g in r["gpus"]] == [("1", 1, 0), ("0", 0, 1)]
    shown = gpus("results", "show", "last", check=0).stdout
    assert "(proved by lem-gpuprobe" in shown


@pytest.mark.parametrize("items, indices", [("[0]", [0]), ("[3, 1]", [3, 1]), (f'["{uuid(2)}"]', [2]), ('["00000000:13:00.0", 0]', [3, 0])])
def test_every_way_to_name_them(gpus, items, indices):
    text = gpus.text.replace("gpus: [1, 0]", f"gpus: {items}")
    gpus.env["LEM_FAKE_NVML"] = "gpus=4;proccomm=" + "+".join(f"{i}:{gpus.worker}" for i in indices)
    r, _ = run(gpus, 0, text=text)
    assert [o["uuid"] for o in r["routing"]["observed"]] == [uuid(i) for i in indices]
    assert r["routing"]["proved"] is True


@pytest.mark.parametrize("cuda, what", [
    (";uuid=1:GPU-deadbeef-0000-4000-8000-000000000000", "does not see the GPUs asked for"),
    (";uuid=0:%s;uuid=1:%s" % (uuid(1), uuid(0)), "another order"),
    (";gpus=1", "GPU"),
    (";gpus=0", "GPU"),
    (";init=999", "CUDA could not start"),
    (";init=802", "R18"),
])
def test_wrong_gpus_end_with_3_and_are_stored(gpus, cuda, what):
    r, err = run(gpus, 3, cuda=cuda)
    assert what in err, err
    assert r["status"] == "failed" and r["verdict"]["level"] == "invalid"
    assert r["routing"]["proved"] is False and r["routing"]["proof"]
    assert r["engine"]["version"] is None and r["window"]["start_ns"] is None  # nothing of the engine was started
    assert r["error"]["code"] == "routing"
    again = json.loads(gpus("results", "show", "last", "--json", check=0).stdout)
    assert again["verdict"] == r["verdict"] and again["routing"] == r["routing"]
    assert "(not proved:" in gpus("results", "show", "last", check=0).stdout
    nothing_left(gpus)


def test_both_lists_are_shown(gpus):
    r, err = run(gpus, 3, cuda=";uuid=0:%s;uuid=1:%s" % (uuid(1), uuid(0)))
    assert "asked for: 0 = host GPU 1 " + uuid(1) in err
    assert f"0 = {uuid(0)} (host GPU 0)" in err
    assert [o["uuid"] for o in r["routing"]["observed"]] == [uuid(0), uuid(1)]
    assert r["routing"]["requested"] == [uuid(1), uuid(0)]


def test_a_hidden_device_is_caught(gpus):
    """The engine's environment is what the probe runs with: a config cannot smuggle another one in, so the shell's
    CUDA_VISIBLE_DEVICES is either an allocation or a refusal."""
    env = dict(gpus.env, CUDA_VISIBLE_DEVICES="2")
    done = gpus("experiment", gpus.config(gpus.text), env=env, check=2)
    assert "gpus lists" in done.stderr
    # a device whose node is not there: CUDA cannot open it
    nodes = gpus.folder / "dev"
    nodes.mkdir()
    for minor in (1, 2, 3):
        (nodes / f"nvidia{minor}").touch()
    (nodes / "nvidiactl").touch()
    r, err = run(gpus, 3, cuda=f";dev={nodes}", text=gpus.text.replace("gpus: [1, 0]", "gpus: [3]"))  # minor 0
    assert r["routing"]["proved"] is False


def test_no_probe_is_not_proved(gpus):
    alone = gpus.folder / "alone"
    alone.mkdir()
    shutil.copy(ASAN / "lem", alone / "lem")
    gpus.program = str(alone / "lem")
    r, err = run(gpus, 3)
    assert "lem-gpuprobe does not exist" in err and "make build" in err
    assert r["routing"]["proved"] is False and "does not exist" in r["routing"]["proof"]


@pytest.mark.parametrize("script, words", [
    ("#!/bin/sh\nexit 0\n", "did not say which GPUs"),
    ("#!/bin/sh\necho 'no libc here' >&2; exit 127\n", "no libc here"),
    ("#!/no/such/interpreter\n", "lem-gpuprobe"),
    ("#!/bin/sh\necho '{\"lem_gpuprobe\": 1, \"devices\": 7}'\n", "proved"),
])
def test_a_probe_that_does_not_answer(gpus, script, words):
    alone = gpus.folder / "alone"
    alone.mkdir()
    shutil.copy(ASAN / "lem", alone / "lem")
    (alone / "lem-gpuprobe").write_text(script)
    (alone / "lem-gpuprobe").chmod(0o755)
    gpus.program = str(alone / "lem")
    r, err = run(gpus, 3)
    assert words in err, err
    assert r["status"] == "failed" and r["routing"]["proved"] is False


# ---- the watch ----

SLOW = "prefill_ms=300 step_ms=80"  # a window of some 3 s: several looks


@contextlib.contextmanager
def neighbour():
    p = subprocess.Popen(["sleep", "60"])
    try:
        yield p.pid
    finally:
        p.kill()
        p.wait()


def test_a_foreigner_in_the_window_contaminates(gpus):
    with neighbour() as pid:
        r, err = run(gpus, 4, nvml=f";procs=1:{pid}:1g", worker=SLOW)
    told = f"lem: warning: R27: pid {pid} (sleep, user "
    assert told in err and err.index(told) < err.index("lem: loading")  # before the run, not only after it
    assert r["verdict"]["level"] == "invalid"
    assert f"contaminated: pid {pid} (sleep, user " in reasons(r) and "used GPU 1 during the window" in reasons(r)
    assert [f["pid"] for f in r["routing"]["foreigners"]] == [pid]
    assert r["routing"]["foreigners"][0]["gpu"] == uuid(1)
    assert any(n.startswith("R27: pid") for n in r["notes"])
    assert r["status"] == "completed" and r["routing"]["proved"] is True
    again = json.loads(gpus("results", "show", "last", "--json", check=0).stdout)
    assert again["verdict"] == r["verdict"]
    assert "during the window" in gpus("results", "show", "last", check=0).stdout


def test_strict_gpus_refuses_a_neighbour(gpus):
    with neighbour() as pid:
        env = dict(gpus.env, LEM_FAKE_NVML=gpus.env["LEM_FAKE_NVML"] + f";procs=1:{pid}")
        done = gpus("experiment", gpus.config(gpus.text, strict_gpus="true"), env=env, check=2)
    assert "R27" in done.stderr and str(pid) in done.stderr
    assert not (gpus.folder / "results").exists() or json.loads(gpus("results", "list", "--json").stdout) == []


def test_a_neighbour_on_another_gpu_is_no_matter(gpus):
    with neighbour() as pid:
        r, _ = run(gpus, 0, nvml=f";procs=2:{pid}", worker=SLOW)
    assert r["routing"]["foreigners"] == [] and "contaminated" not in reasons(r)


def test_a_display_server_is_suspect(gpus):
    with neighbour() as pid:
        r, _ = run(gpus, 0, nvml=f";graphics=1:{pid}", worker=SLOW)
    assert f"pid {pid} (sleep, user " in reasons(r) and "draws on GPU 1" in reasons(r)
    assert r["verdict"]["level"] == "suspect"


def test_who_left_before_the_window_is_only_told(gpus):
    lists = gpus.folder / "procs"
    with neighbour() as pid:
        lists.write_text(f"1 {pid} 1000000\n")
        env = dict(gpus.env, LEM_FAKE_NVML=gpus.env["LEM_FAKE_NVML"] + f";procsfile={lists}", LEM_FAKE_WORKER=SLOW)
        p = gpus.start("experiment", gpus.config(gpus.text), "--json", "--set", "baseline.enabled=true",
                       "--set", "baseline.duration_sec=5", env=env)
        seen = ""
        while "idle baseline" not in seen:
            line = p.stderr.readline()
            assert line, seen
            seen += line
        time.sleep(0.5)
        lists.write_text("")
        out, err = p.communicate(timeout=60)
    assert p.returncode == 0, err
    r = json.loads(out)
    assert [f["pid"] for f in r["routing"]["foreigners"]] == [pid]
    assert "contaminated" not in reasons(r)


def test_an_engine_on_an_unlisted_gpu_is_caught(gpus):
    r, err = run(gpus, 3, nvml=f"+2:{gpus.worker}", worker=SLOW)
    assert "was on GPU 2" in err and "gpus does not list" in err
    assert r["routing"]["proved"] is False and r["verdict"]["level"] == "invalid"
    assert "GPU 2" in r["routing"]["guard"]
    nothing_left(gpus)


def test_an_engine_that_was_never_seen_is_suspect(gpus):
    gpus.env["LEM_FAKE_NVML"] = f"gpus=4;proccomm=1:{gpus.worker}"
    r, _ = run(gpus, 0, worker=SLOW)
    assert "did not show the engine on GPU 0 during the window" in reasons(r)
    assert r["verdict"]["level"] == "suspect" and r["routing"]["proved"] is True


def test_a_driver_that_does_not_list_gives_a_reason_not_a_failure(gpus):
    gpus.env["LEM_FAKE_NVML"] = "gpus=4;unsupported=processes"
    r, _ = run(gpus, 0, worker=SLOW)
    assert "could not be read" in r["routing"]["guard"]
    assert "process lists" not in reasons(r)


def test_a_lost_gpu_is_r41(gpus):
    r, err = run(gpus, 1, nvml=";lost=3s;lostgpu=0", worker="prefill_ms=500 step_ms=300")
    assert "R41: GPU 0" in err
    assert "R41: GPU 0" in reasons(r) and r["status"] == "failed"
    again = json.loads(gpus("results", "show", "last", "--json", check=0).stdout)
    assert again["verdict"] == r["verdict"]


def test_a_gpu_without_memory_is_refused(gpus):
    env = dict(gpus.env, LEM_FAKE_NVML="gpus=4;used1=80g")
    done = gpus("experiment", gpus.config(gpus.text), env=env, check=2)
    assert "R26: GPU 1" in done.stderr and "0, 2, 3" in done.stderr


def test_a_prohibited_gpu_is_refused(gpus):
    env = dict(gpus.env, LEM_FAKE_NVML="gpus=4;computemode=2")
    done = gpus("experiment", gpus.config(gpus.text), env=env, check=2)
    assert "R28" in done.stderr and "nvidia-smi" in done.stderr


def test_known_lines_of_a_log_are_explained(gpus):
    engine = gpus.folder / "dies"
    engine.write_text("#!/bin/sh\nread line\necho 'RuntimeError: NCCL error: Error while creating shared memory segment "
                      "/dev/shm/nccl-x (size 9637888)' >&2\nexit 1\n")
    engine.chmod(0o755)
    text = gpus.text.replace(str(gpus.folder / gpus.worker), str(engine))
    r, err = run(gpus, 1, text=text)
    assert "R17" in err and "shm" in err.split("hint:")[1]
    assert "R17" in r["error"]["why"]


# ---- the dry run ----

def dry(lem, *args, check=0, text=None):
    done = lem("experiment", lem.config(text or lem.text), "--dry-run", *args, env=lem.env, check=check)
    return done


def test_dry_run_of_a_process(gpus):
    plan = json.loads(dry(gpus, "--json").stdout)["dry_run"]
    assert plan["runner"] == "process" and plan["path"] == "process"
    assert plan["argv"] == [str(gpus.folder / gpus.worker)]
    assert "CUDA_VISIBLE_DEVICES=1,0" in plan["env"] and "CUDA_DEVICE_ORDER=PCI_BUS_ID" in plan["env"]
    assert [(g["requested"], g["index"], g["uuid"], g["cuda_index"]) for g in plan["gpus"]] == [
        ("1", 1, uuid(1), 0), ("0", 0, uuid(0), 1)]
    assert not (gpus.folder / "results").exists()
    text = dry(gpus).stdout
    assert "host GPU" in text and uuid(1) in text


def test_dry_run_makes_no_model(gpus):
    cache = gpus.folder / "cache"
    gpus.env["LEM_CACHE_DIR"] = str(cache)
    plan = json.loads(dry(gpus, "--json").stdout)["dry_run"]
    assert any("not here yet" in w and str(cache) in w for w in plan["warnings"])
    assert not cache.exists()


def test_dry_run_refuses_an_absent_gpu(gpus):
    done = dry(gpus, "--set", "gpus=[0, 7]", check=2)
    assert "gpus lists 7" in done.stderr
    doc = json.loads(dry(gpus, "--json", "--set", "gpus=[7]", check=2).stdout)
    assert doc["error"]["code"] == "refused"


def test_dry_run_hides_secrets(gpus):
    text = gpus.text + "env: {HF_TOKEN: hf_verysecret, PLAIN: seen}\n"
    for args in ((), ("--json",)):
        done = dry(gpus, *args, text=text)
        assert "verysecret" not in done.stdout + done.stderr
        assert "HF_TOKEN=***" in done.stdout and "PLAIN=seen" in done.stdout


# ---- the dry run of a container; no daemon listens ----

VLLM = """
config_name: v
model_name: Qwen/Qwen2.5-0.5B
backend: vllm
gpus: [3, 1]
max_input_tokens: 32
max_output_tokens: 16
prompts: {type: synthetic, count: 8, input_tokens: 32}
vllm: {tensor_parallel_size: 2}
env: {HF_TOKEN: hf_verysecret}
"""


@pytest.fixture
def no_daemon(gpus):
    gpus.env["DOCKER_HOST"] = f"unix://{gpus.folder}/none.sock"
    gpus.env["HF_HOME"] = str(gpus.folder / "hf")
    return gpus


@pytest.mark.parametrize("backend, section, image", [
    ("vllm", "vllm: {tensor_parallel_size: 2}", "vllm"),
    ("tensorrt", "tensorrt: {tp_size: 2}", "tensorrt"),
    ("pytorch", "pytorch: {tensor_parallel_size: 2}", "pytorch"),
])
def test_dry_run_goes_to_the_engines_image(no_daemon, backend, section, image):
    text = VLLM.replace("backend: vllm", f"backend: {backend}").replace("vllm: {tensor_parallel_size: 2}", section)
    plan = json.loads(dry(no_daemon, "--json", text=text).stdout)["dry_run"]
    assert plan["runner"] == "docker" and plan["path"] == "docker-cdi"
    assert image in plan["image"]
    assert any("CDI is assumed" in w for w in plan["warnings"])
    body = plan["create_request"]
    assert body["Image"] == plan["image"]
    assert body["HostConfig"]["DeviceRequests"] == [
        {"Driver": "cdi", "DeviceIDs": [f"nvidia.com/gpu={uuid(3)}", f"nvidia.com/gpu={uuid(1)}"]}]
    assert not body["HostConfig"].get("Privileged")
    env = dict(e.split("=", 1) for e in body["Env"])
    assert env["CUDA_VISIBLE_DEVICES"] == "1,0"  # the container counts in PCI order, gpus do not
    assert env["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert env["NVIDIA_VISIBLE_DEVICES"] == f"{uuid(3)},{uuid(1)}" == env["LEM_GPU_UUIDS"]
    assert [(g["requested"], g["index"], g["container_index"], g["cuda_index"]) for g in plan["gpus"]] == [
        ("3", 3, 1, 0), ("1", 1, 0, 1)]
    assert plan["docker_run"].startswith("docker run ") and f"nvidia.com/gpu={uuid(3)}" in plan["docker_run"]
    assert "count" not in plan["docker_run"] and "privileged" not in plan["docker_run"]


def test_dry_run_of_a_container_hides_secrets(no_daemon):
    for args in ((), ("--json",)):
        done = dry(no_daemon, *args, text=VLLM)
        assert "verysecret" not in done.stdout + done.stderr
    assert '"HF_TOKEN=***"' in done.stdout


def test_dry_run_of_a_server_promises_no_less_than_a_run(no_daemon):
    assert "would be refused" not in dry(no_daemon, text=VLLM).stderr  # requests can be sent to it


def test_dry_run_of_a_container_refuses_an_absent_gpu(no_daemon):
    assert "gpus lists 9" in dry(no_daemon, "--set", "gpus=[3, 9]", check=2, text=VLLM).stderr


def test_a_run_needs_a_daemon(no_daemon):
    done = no_daemon("experiment", no_daemon.config(VLLM), env=no_daemon.env, check=2)
    assert "no container engine" in done.stderr and "DOCKER_HOST" in done.stderr


def test_an_engine_goes_where_the_config_says(no_daemon):
    plan = json.loads(dry(no_daemon, "--json", "--set", "runner=process", text=VLLM).stdout)["dry_run"]
    assert plan["runner"] == "process" and "CUDA_VISIBLE_DEVICES=3,1" in plan["env"]
    plan = json.loads(dry(no_daemon, "--json", "--set", "runner=docker", "--set", "docker.image=debian:12").stdout)["dry_run"]
    assert plan["runner"] == "docker" and plan["image"] == "debian:12"
    assert "slurm" in dry(no_daemon, "--set", "runner=slurm", check=2).stderr.lower()
