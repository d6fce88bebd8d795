"""The kernel's OOM killer ends an engine: for real, in a memory group of the test's own below the one it runs in."""
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import time

import pytest
from test_bad_servers import stored
from test_experiment import processes_of
from test_faults import TEXT as WORKER
from test_http import engine, reasons
from test_vllm import find_python


def own_group():
    """(folder of this process's memory group, version), or the reason why there is none."""
    groups = dict((line.split(":", 2)[1], line.strip().split(":", 2)[2]) for line in open("/proc/self/cgroup"))
    v1 = pathlib.Path("/sys/fs/cgroup/memory" + groups.get("memory", "/-"))
    if (v1 / "memory.limit_in_bytes").exists():
        return v1, 1
    v2 = pathlib.Path("/sys/fs/cgroup")
    if (v2 / "cgroup.controllers").exists() and "memory" in (v2 / "cgroup.controllers").read_text().split():
        return v2, 2
    return None, "no cgroup accounts memory here"


@contextlib.contextmanager
def limited(n_bytes):
    """A memory group with so much; gives the words that start a command in it."""
    parent, version = own_group()
    if parent is None:
        pytest.skip(version)
    group = parent / f"lem-test-{os.getpid()}-{time.monotonic_ns()}"
    try:
        if version == 2 and "memory" not in (parent / "cgroup.subtree_control").read_text().split():
            pytest.skip("the memory controller is not on for groups below the root (cgroup.subtree_control)")
        group.mkdir()
    except OSError as e:
        pytest.skip(f"no memory group can be made below {parent}: {e}")
    try:
        (group / ("memory.limit_in_bytes" if version == 1 else "memory.max")).write_text(str(n_bytes))
        for name in ("memory.memsw.limit_in_bytes", "memory.swap.max"):  # nothing may hide on a swap device
            with contextlib.suppress(OSError):
                (group / name).write_text(str(n_bytes if version == 1 else 0))
        yield ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"], "memory.oom_control" if version == 1 else "memory.events"
    finally:
        end = time.time() + 10
        while group.exists() and time.time() < end:
            with contextlib.suppress(OSError):
                if version == 2:
                    for child in group.glob("lem-*"):
                        child.rmdir()
                group.rmdir()
            time.sleep(0.05)
        assert not group.exists(), "a process is left in the memory group"


def run(lem, words, text, *args, env=None, timeout=300):
    return subprocess.run([*words, lem.program, "experiment", str(lem.config(text)), *args], cwd=lem.folder, text=True, capture_output=True, timeout=timeout,
                          env={**os.environ, **(env or {})})


def check_told(done, who, counter):
    assert done.returncode == 1, done.stderr
    assert f"{who} ended while generating: killed by the kernel because memory ran out ({counter}" in done.stderr, done.stderr
    assert "oom_kill 0 → 1" in done.stderr and "X02" in done.stderr and "hint:" in done.stderr and "dmesg" in done.stderr


def test_a_server_is_killed_in_the_window(lem):
    """What was measured before is kept and marked; the evidence is the count of the engine's own memory group."""
    env, text = engine(lem)
    with limited(384 << 20) as (words, counter):
        done = run(lem, words, text, "--set", "warmup={requests: 1}", "--set", "window.min_duration_sec=60",
                   env={**env, "FAKE_FAULT": "hog", "FAKE_AFTER": "45"})
        check_told(done, "the engine", counter)
    r = stored(lem)
    assert r["status"] == "failed" and r["verdict"]["level"] == "invalid" and r["tokens"]["output"] >= 4 * 96
    assert "the run failed before its window was complete" in reasons(r) and sum(r["client"]["failures"].values()) > 0
    assert processes_of(lem.folder) == []


def test_one_of_its_processes_is_killed_and_it_gives_up(lem):
    """As vLLM when its engine core is killed: the first process ends by itself, with a status of its own."""
    worker = lem.folder / "worker"
    worker.write_text(f"""#!/bin/sh
read -r load
{sys.executable} -c 'x = [b"1" * (16 << 20) for _ in range(256)]'
echo "my other half is gone" >&2
exit 7
""")
    worker.chmod(0o755)
    text = "\n".join(f"llamacpp: {{worker: {worker}, load_timeout_sec: 60}}" if line.startswith("llamacpp:") else line for line in WORKER.splitlines())
    with limited(384 << 20) as (words, counter):
        done = run(lem, words, text)
    assert done.returncode == 1 and "exit status 7, and processes in its memory group were killed by the kernel because memory ran out" in done.stderr
    assert counter in done.stderr and "X02" in done.stderr and "my other half is gone" in done.stderr


PYTORCH = """
config_name: oom
model_name: synthetic:llama-15m
backend: pytorch
runner: process
gpus: []
fp_precision: float32
pytorch: {python: %s, batch_size: 64, load_timeout_sec: 300, request_timeout_sec: 300}
max_input_tokens: 2000
max_output_tokens: 4
min_output_tokens: 4
prompts: {type: synthetic, count: 64, input_tokens: 2000}
warmup: {enabled: false}
baseline: {enabled: false}
random_seed: 1
"""


def test_a_real_pytorch_worker_is_killed(lem):
    """64 prompts of 2000 tokens need some GB; the interpreter and the weights have room."""
    python = os.environ.get("LEM_TORCH_PYTHON") or find_python()
    if not python or subprocess.run([python, "-c", "import torch, transformers"], capture_output=True).returncode:
        pytest.skip("needs PyTorch and Transformers: LEM_TORCH_PYTHON, or setup --engines")
    with limited(1200 << 20) as (words, counter):
        done = run(lem, words, PYTORCH % python, timeout=500)
        check_told(done, "the worker", counter)
    r = stored(lem)
    assert r["status"] == "failed" and r["verdict"]["level"] == "invalid" and r["window"]["requests_asked"] == 64
    assert processes_of(lem.folder) == []
