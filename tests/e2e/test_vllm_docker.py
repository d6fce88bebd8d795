"""A real vLLM, on the CPU, in a container of a real Docker Engine: an image without a file in it, the host's folders and vLLM's
environment bound read-only. lem starts it, waits for it, drives it offline and as a server, and leaves nothing."""
import json
import os
import pathlib
import subprocess

import pytest
from test_docker_runs import plain_shell  # noqa: F401  (a fixture)
from test_vllm import TEXT, find_python

HOST = ("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache")


def folders_of(python):
    """The environment, and where its interpreter comes from when that is not the system's own."""
    done = subprocess.run([python, "-c", "import sys; print(sys.prefix, sys.base_prefix, sep='\\n')"], text=True, capture_output=True, check=True)
    return [f for f in done.stdout.split() if not f.startswith("/usr/") and f != "/usr"]


@pytest.fixture
def run(lem, docker):
    python = find_python()
    if not python or not os.access(python, os.X_OK):
        pytest.skip("needs a real vLLM: LEM_VLLM_PYTHON, or setup --engines")
    python = os.path.abspath(python)
    bound = [f for f in HOST if os.path.exists(f)] + folders_of(python)
    mark = f"MARK_OF_TEST={lem.folder}"
    text = (TEXT % python).replace("env: {", f"env: {{MARK_OF_TEST: {lem.folder}, ").replace("runner: process", "runner: docker\ndocker: {image: 'lem-test:bare', pull: never, network: host, volumes: %s}"
                                   % json.dumps([f"{f}:{f}:ro" for f in bound]))

    def start(*args):
        done = lem("experiment", lem.config(text), "--json", *args, env={"DOCKER_HOST": docker.host}, check=0, timeout=400)
        assert docker.containers() == [], "a container was left"
        assert list(processes_with(mark)) == [], "a process was left"
        return json.loads(done.stdout)
    yield start
    docker.remove_all()


def processes_with(variable):
    for f in pathlib.Path("/proc").glob("[0-9]*/environ"):
        try:
            if variable.encode() in f.read_bytes().split(b"\0"):
                yield f.parent.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            pass


def test_offline_forced_lengths_are_exact(run, docker):
    r = run()
    assert r["status"] == "completed" and r["engine"]["name"] == "vllm" and r["engine"]["version"]
    assert r["engine"]["image_digest"].startswith("sha256:")
    # no GPU was asked for and none is claimed
    assert r["gpus"] == [] and r["routing"]["path"] == "none" and r["routing"]["proved"] is not True
    assert r["tokens"] == {"input": 16 * 48, "output": 16 * 24} and r["window"]["requests"] == 16
    assert r["client"]["failures"] == {} and r["client"]["lengths_differ"] == 0 and r["client"]["server_metrics"] is True


def test_server_mode(run):
    r = run("--set", "traffic={rate: 6, duration_sec: 5, ramp_sec: 1, seed: 3}")
    assert r["engine"]["mode"] == "server/open" and r["client"]["mode"] == "server"
    assert r["window"]["requests"] == r["window"]["requests_asked"] > 8
    assert r["window"]["seconds"] == pytest.approx(4, abs=0.01) and r["client"]["failures"] == {}
    assert r["client"]["lengths_differ"] == 0
