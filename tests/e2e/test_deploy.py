"""deploy/: the compose file, the choice of GPUs, and lem with its libraries inside a container that has none of them."""
import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest
from conftest import BUILD, ROOT
from docker_lab import N_GPUS as N
from docker_lab import Engine, Unavailable, image_tar, uuid, which

SERVICES = {"pytorch", "vllm", "tensorrt"}


@pytest.fixture
def deploy(tmp_path):
    """A copy of deploy/ in which the script may write, with the checkout's configs beside it."""
    folder = tmp_path / "deploy"
    folder.mkdir()
    for name in ("docker-compose.yml", "gpus.yml", "gpus"):
        shutil.copy(ROOT / "deploy" / name, folder)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "results").mkdir()
    return folder


@pytest.fixture(scope="session")
def compose(tmp_path_factory):
    """Calls `docker compose` of the tests' own engine; the answer is the finished process."""
    try:
        programs = Engine.bin()
    except Unavailable as e:
        pytest.skip(f"needs docker compose: {e}")
    plugin = programs.parent / "cli-plugins" / "docker-compose"
    if not plugin.exists():
        pytest.skip("needs docker compose: the distribution has no package of it")
    home = tmp_path_factory.mktemp("docker-config")
    (home / "cli-plugins").mkdir()
    (home / "cli-plugins" / "docker-compose").symlink_to(plugin)

    def call(folder, *args, env=None, host="unix:///nonexistent.sock"):
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("LEM_", "COMPOSE_", "DOCKER_"))}
        return subprocess.run([programs / "docker", "compose", *args], cwd=folder, text=True, capture_output=True, timeout=300,
                              env={**clean, "DOCKER_CONFIG": str(home), "DOCKER_HOST": host, **(env or {})})
    return call


def configured(compose, folder, **env):
    done = compose(folder, "config", "--format", "json", env=env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["services"]


def smi(tmp_path, n=N):
    """An nvidia-smi that lists n GPUs."""
    rows = "".join(f"{i}, {uuid(i)}, 00000000:{0x10 + i:02X}:00.0\n" for i in range(n))
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\ncat <<END\n{rows}END\n")
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:{os.environ['PATH']}", "LEM_BUILD": "/nonexistent"}


def choose(deploy, *args, env=None, check=0):
    done = subprocess.run([deploy / "gpus", *args], text=True, capture_output=True, env={**os.environ, **(env or smi(deploy.parent))})
    assert done.returncode == check, done.stderr
    return done


def test_the_compose_file_is_valid_and_asks_for_what_it_must(compose, deploy):
    services = configured(compose, deploy, LEM_HOST_GPUS="2", LEM_HOST_GPU_UUIDS=uuid(2))
    assert set(services) == SERVICES
    for name, s in services.items():
        devices = s["deploy"]["resources"]["reservations"]["devices"]
        assert [d["device_ids"] for d in devices] == [[uuid(2)]] and all("count" not in d for d in devices), name
        assert "privileged" not in s and "cap_add" not in s and s["ipc"] == "private" and s["init"] is True
        assert int(s["shm_size"]) >= 8 << 30 and s["ulimits"] == {"memlock": -1, "stack": 67108864}
        assert s["environment"]["LEM_HOST_GPUS"] == "2" and s["environment"]["LEM_HOST_GPU_UUIDS"] == uuid(2)
        assert s["environment"]["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID" and "NVIDIA_VISIBLE_DEVICES" not in s["environment"]
        targets = {v["target"]: v for v in s["volumes"]}
        assert targets["/opt/lem"]["read_only"] and targets["/usr/local/bin/lem"]["read_only"] and not targets["/srv/results"].get("read_only")


def test_without_a_choice_of_gpus_nothing_starts(compose, deploy):
    done = compose(deploy, "config")
    assert done.returncode != 0 and "deploy/gpus 2 5" in done.stderr


@pytest.mark.parametrize("args, order", [(["2", "5"], [2, 5]), (["5,2"], [5, 2]), ([uuid(7)], [7]), (["00000000:13:00.0", "0000:10:00.0"], [3, 0])])
def test_gpus_are_chosen_by_any_name(compose, deploy, args, order):
    choose(deploy, *args)
    for s in configured(compose, deploy).values():
        (device,) = s["deploy"]["resources"]["reservations"]["devices"]
        assert device["driver"] == "nvidia" and device["device_ids"] == [uuid(i) for i in order]
        assert s["environment"]["LEM_HOST_GPUS"] == ",".join(map(str, order))
        assert s["environment"]["LEM_HOST_GPU_UUIDS"] == ",".join(map(uuid, order))


@pytest.mark.parametrize("args, words", [(["12"], "there is no GPU 12"), (["1", uuid(1)], "GPU 1 is named twice"), ([], "deploy/gpus"), (["--all"], "deploy/gpus")])
def test_a_wrong_choice_is_refused_and_writes_nothing(deploy, args, words):
    assert words in choose(deploy, *args, check=2).stderr
    assert not (deploy / ".env").exists() and not (deploy / ".gpus.yml").exists()


def test_no_driver_is_told(deploy):
    done = choose(deploy, "0", env={"PATH": "/nonexistent:" + str(pathlib.Path(shutil.which("python3")).parent), "LEM_BUILD": "/nonexistent"}, check=2)
    assert "cannot be listed" in done.stderr and "hint:" in done.stderr


def test_the_images_are_those_that_lem_starts(compose, deploy):
    """One version of each engine: the compose file's is the engine's own."""
    sources = "".join(p.read_text() for p in (ROOT / "src" / "engine").glob("*.[ch]"))
    for name, s in configured(compose, deploy, LEM_HOST_GPUS="2", LEM_HOST_GPU_UUIDS=uuid(2)).items():
        repository = re.escape(s["image"].rsplit(":", 1)[0])
        named = set(re.findall(rf'"({repository}:[^"]+)"', sources))
        assert named == {s["image"]}, name


# ---- the same, really run


IN_LAB = """
services:
  pytorch: {network_mode: none}  # a network of compose's own would be a bridge on this machine
  vllm: {network_mode: none}
  tensorrt:
    image: lem-test:plain
    entrypoint: !reset null
    network_mode: none
"""


@pytest.fixture
def lab(compose, deploy, docker, tmp_path):
    """`docker compose run --rm tensorrt` in the lab: a choice of GPUs by CDI, the image one with a shell and nothing else."""
    # as in every image of an engine there is a C library: the probe is loaded with that, like the engine
    plain = image_tar([which(p) for p in ("dash", "env", "cat", "ls")], [("/bin/sh", pathlib.Path(which("dash")).read_bytes(), 0o755)],
                      [BUILD / "lem-gpuprobe"])
    docker.import_image("plain", plain, ["ENV PATH=/usr/local/bin:/usr/bin:/bin"])
    subprocess.run([ROOT / "tools" / "make-bundle", BUILD, deploy / "bundle"], check=True, stdout=subprocess.DEVNULL)
    (deploy / "lab.yml").write_text(IN_LAB)

    def call(*command, env=None, gpus=("2", "5")):
        choose(deploy, "--cdi", *gpus)
        return compose(deploy, "-f", "docker-compose.yml", "-f", "lab.yml", "run", "--rm", *[f"-e{k}={v}" for k, v in (env or {}).items()],
                       "tensorrt", *command, host=docker.host, env={"HF_HOME": str(tmp_path / "hf"), "LEM_CACHE_DIR": str(tmp_path / "cache")})
    return call


def test_compose_runs_lem_in_a_container_that_has_none_of_its_libraries(lab, docker):
    done = lab("lem", "--version")
    assert done.returncode == 0 and done.stdout.startswith("lem "), done.stderr
    assert docker.containers("com.docker.compose.project=lem") == []


def test_compose_gives_exactly_the_chosen_gpus(lab):
    for gpus in (["2", "5"], ["5", "2"], ["0"]):
        done = lab("sh", "-c", "echo /dev/nvidia[0-9]*; echo $LEM_HOST_GPUS $LEM_HOST_GPU_UUIDS", gpus=gpus)
        assert done.returncode == 0, done.stderr
        nodes, told = done.stdout.splitlines()
        assert nodes == " ".join(sorted(f"/dev/nvidia{N - 1 - int(g)}" for g in gpus))
        assert told == ",".join(gpus) + " " + ",".join(uuid(int(g)) for g in gpus)


def test_without_the_bundle_compose_says_so(lab, deploy):
    shutil.rmtree(deploy / "bundle")
    done = lab("lem", "--version")
    assert done.returncode != 0 and "bundle" in done.stderr and not (deploy / "bundle").exists()


def test_an_experiment_runs_inside_and_its_result_is_on_the_host(lab, tmp_path):
    done = lab("lem", "experiment", "configs/examples/quickstart.yaml", "--set", "window.min_duration_sec=0", "--set", "prompts.count=4",
               "--set", "baseline.enabled=false", "--json")
    assert done.returncode in (0, 4), done.stderr
    result = json.loads(done.stdout)
    assert result["status"] == "completed" and list((tmp_path / "results").glob("*quickstart*.json"))


HERE = """
config_name: inside
model_name: synthetic:llama-15m
backend: llamacpp
gpus: %s
max_input_tokens: 16
max_output_tokens: 8
min_output_tokens: 8
prompts: {type: synthetic, count: 4, input_tokens: 16}
decoder: {preset: deterministic}
llamacpp: {batch_size: 4, n_gpu_layers: 0}
warmup: {requests: 1}
baseline: {enabled: false}
"""


@pytest.fixture
def inside(lab, tmp_path):
    """`lem experiment` in the container on gpus: …, with the fake drivers that the engine mounts: (finished process, document)."""
    (tmp_path / "configs").unlink()
    (tmp_path / "configs").mkdir()

    def call(gpus, given=("2", "5"), **env):
        (tmp_path / "configs" / "c.yaml").write_text(HERE % gpus)
        done = lab("lem", "experiment", "configs/c.yaml", "--json", gpus=given, env={"LEM_FAKE_NVML": f"gpus={N};dev=/dev", **env})
        return done, json.loads(done.stdout) if done.stdout.startswith("{") else None
    return call


@pytest.mark.parametrize("gpus, given, order", [("[2, 5]", ["2", "5"], [2, 5]), ("[5, 2]", ["2", "5"], [5, 2]), ("[5]", ["2", "5"], [5]),
                                                ("[2, 5]", ["5", "2"], [2, 5]), (f'["{uuid(5)}"]', ["2", "5"], [5])])
def test_host_numbers_mean_the_same_gpus_inside(inside, gpus, given, order):
    done, r = inside(gpus, given)
    assert done.returncode == 0, done.stderr
    assert [g["uuid"] for g in r["gpus"]] == [uuid(i) for i in order]
    assert r["routing"]["path"] == "container" and r["routing"]["proved"] is True
    assert [o["uuid"] for o in r["routing"]["observed"]] == [uuid(i) for i in order]
    assert [s["device"] for s in r["meters"]["sources"] if s["meter"] == "nvml" and s["usable"]] == [uuid(i) for i in order]


def test_by_declared_order_when_no_uuid_is_told(inside):
    done, r = inside("[5, 2]", LEM_HOST_GPU_UUIDS="")
    assert done.returncode == 0, done.stderr
    assert [g["uuid"] for g in r["gpus"]] == [uuid(5), uuid(2)]


@pytest.mark.parametrize("gpus, env", [
    ("[3]", {}),                                                                       # a host GPU that was not given
    ("[2, 5]", {"LEM_HOST_GPU_UUIDS": uuid(2) + "," + uuid(7)}),                       # what was declared is not what is here
    ("[2, 5]", {"LEM_HOST_GPUS": "2,5,7", "LEM_HOST_GPU_UUIDS": ""}),                  # three declared, two here
    ("[0, 1]", {}),                                                                    # the container's own numbers
])
def test_an_unsound_mapping_is_refused(inside, gpus, env):
    done, _ = inside(gpus, **env)
    assert done.returncode == 2, done.stderr + done.stdout


def test_gpus_are_listed_by_lem_where_it_is_built(deploy):
    choose(deploy, "5", "2", env={"LEM_BUILD": str(BUILD), "LEM_NVML_LIBRARY": str(BUILD / "bench" / "libnvml_fake_bench.so"), "LEM_FAKE_NVML": f"gpus={N}"})
    assert f"LEM_HOST_GPU_UUIDS={uuid(5)},{uuid(2)}" in (deploy / ".env").read_text()
