"""An engine that is an HTTP server in a real container (its host's network), on GPUs that are device nodes: started, proved, driven
offline and by traffic, stopped. The server is the scripted one, under the module's name that lem starts."""
import json
import pathlib

import pytest
from conftest import BUILD, ROOT
from docker_lab import LIB, N_GPUS
from test_docker_runs import NVML, nodes, plain_shell, uuid  # noqa: F401  (a fixture)

TEXT = """
config_name: served
model_name: synthetic:llama-15m
backend: vllm
runner: docker
gpus: [2]
docker: {image: 'lem-test:shell', pull: never, network: host, volumes: ['/usr:/host:ro', '%(root)s:/fake:ro', '%(out)s:/out:rw']}
vllm: {python: %(python)s, gpu_memory_utilization: 0.5, load_timeout_sec: 40, request_timeout_sec: 10}
env: {PYTHONPATH: /fake, PYTHONHOME: /host, LD_LIBRARY_PATH: '%(lib)s', PYTHONUNBUFFERED: 1}
max_input_tokens: 32
max_output_tokens: 12
min_output_tokens: 12
prompts: {type: synthetic, count: 8, input_tokens: 32}
decoder: {preset: deterministic}
warmup: {requests: 1}
baseline: {enabled: false}
random_seed: 1
"""
MODULE = """
import glob, os, runpy, sys
open("/out/seen", "w").write(" ".join(sorted(glob.glob("/dev/nvidia[0-9]*"))))
sys.argv[0] = "/fake/openai_server.py"
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def run(lem, docker):
    for path in (NVML, BUILD / "lem-gpuprobe"):
        if not path.exists():
            pytest.fail(f"{path} is not built: run make build")
    python = pathlib.Path("/usr/bin/python3")
    if not python.exists():
        pytest.skip("needs /usr/bin/python3, which a container can be shown")
    fake, out = lem.folder / "fake", lem.folder / "out"
    package = fake / "vllm" / "entrypoints" / "openai"
    package.mkdir(parents=True)
    out.mkdir()
    for folder in (package, package.parent, package.parent.parent):
        (folder / "__init__.py").write_text("")
    (package / "api_server.py").write_text(MODULE)
    (fake / "openai_server.py").write_text((ROOT / "tests" / "fakes" / "openai_server.py").read_text())
    text = TEXT % {"root": fake, "out": out, "python": "/host/bin/python3", "lib": LIB.replace("/usr", "/host")}

    def start(check, *args, extra_env="", gone=True):
        env = {"DOCKER_HOST": docker.host, "LEM_NVML_LIBRARY": str(NVML), "LEM_FAKE_NVML": f"gpus={N_GPUS}", "LEM_CDI_DIRS": str(docker.spec.parent)}
        config = lem.config(text.replace("PYTHONUNBUFFERED: 1", "PYTHONUNBUFFERED: 1" + extra_env))
        done = lem("experiment", config, "--json", *args, env=env, check=check, timeout=180)
        assert docker.containers() == []
        return (json.loads(done.stdout) if done.stdout.startswith("{") else None), done.stderr
    start.out = out
    yield start
    docker.remove_all()


def test_offline_in_a_container(run):
    r, _ = run(0)
    assert r["status"] == "completed" and r["tokens"] == {"input": 256, "output": 96}
    assert r["engine"]["version"] == "0.0.fake" and r["engine"]["image_digest"].startswith("sha256:")
    assert r["routing"]["path"] == "docker-cdi" and r["routing"]["proved"] is True
    assert [g["uuid"] for g in r["gpus"]] == [uuid(2)]
    assert (run.out / "seen").read_text() == nodes(2)


def test_traffic_on_a_container(run):
    r, _ = run(0, "--set", "traffic={rate: 40, duration_sec: 2}")
    assert r["engine"]["mode"] == "server/open" and r["window"]["requests"] > 40 and r["client"]["failures"] == {}


def test_its_death_is_noticed(run):
    r, err = run(1, "--set", "window.min_duration_sec=60", extra_env=", FAKE_FAULT: die-mid, FAKE_AFTER: 45")
    assert "ended while generating" in err + json.dumps(r) and "lost its mind" in err + json.dumps(r)


def test_a_port_of_the_host_taken_meanwhile_is_left_for_another(run):
    """With the host's network the port is lem's choice: the container is made again with another."""
    r, _ = run(0, extra_env=", FAKE_FAULT: port-taken, FAKE_ONCE: /out/once")
    assert r["status"] == "completed" and r["tokens"]["output"] == 96
    assert any("was taken by somebody else" in n and "started again" in n for n in r["notes"])
    assert r["routing"]["proved"] is True


def test_ports_of_the_host_that_are_always_taken_are_explained(run):
    _, err = run(1, extra_env=", FAKE_FAULT: port-taken")
    assert "X07" in err and "address already in use" in err and "ss -ltnp" in err


def test_a_killed_engine_is_told(run):
    r, err = run(1, "--set", "window.min_duration_sec=60", extra_env=", FAKE_FAULT: kill-mid, FAKE_AFTER: 45")
    assert "ended while generating: killed by signal 9" in err + json.dumps(r) and r["tokens"]["output"] >= 4 * 96 and r["status"] == "failed"
