"""What the end-to-end tests share: the built program, folders of their own, small configurations."""
import json
import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("LEM_BUILD", ROOT / "build")).resolve()
ASAN = pathlib.Path(os.environ.get("LEM_ASAN_BUILD", ROOT / "build-asan")).resolve()
CACHE = pathlib.Path(os.environ.get("LEM_CACHE_DIR") or pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "lem")

QUICK = """
config_name: quick
model_name: synthetic:llama-15m
backend: llamacpp
gpus: []
max_input_tokens: 32
max_output_tokens: 16
min_output_tokens: 16
prompts: {type: synthetic, count: 8, input_tokens: 32}
decoder: {preset: deterministic}
llamacpp: {batch_size: 4}
warmup: {min_prompts: 3, window_size: 3, max_prompts: 5, cv_threshold: 0.5}
baseline: {enabled: false}
random_seed: 1
"""


class Lem:
    """The program in a folder of its own; each call gives the finished process."""

    def __init__(self, folder):
        self.folder = folder
        self.program = str(BUILD / "lem")

    def __call__(self, *args, env=None, timeout=120, check=None, program=None):
        done = subprocess.run([program or self.program, *map(str, args)], cwd=self.folder, text=True, capture_output=True,
                              timeout=timeout, env={**os.environ, "LC_ALL": "C.UTF-8", **(env or {})})
        if check is not None:
            assert done.returncode == check, f"exit {done.returncode}\nstdout: {done.stdout}\nstderr: {done.stderr}"
        return done

    def start(self, *args, env=None):
        return subprocess.Popen([self.program, *map(str, args)], cwd=self.folder, text=True, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, env={**os.environ, **(env or {})})

    def config(self, text=QUICK, name="c.yaml", **extra):
        path = self.folder / name
        path.write_text(text + "".join(f"{k}: {v}\n" for k, v in extra.items()))
        return path

    def experiment(self, *args, text=QUICK, check=0, **kw):
        done = self("experiment", self.config(text), "--json", *args, check=check, **kw)
        return json.loads(done.stdout)


@pytest.fixture
def lem(tmp_path):
    if not (BUILD / "lem").exists():
        pytest.fail(f"{BUILD}/lem is not built: run make build")
    return Lem(tmp_path)


@pytest.fixture
def gemma():
    path = CACHE / "models" / "gemma3-270m-Q4_K_M.gguf"
    if not path.exists():
        pytest.fail(f"{path} is missing: run ./setup --tests")
    return path


@pytest.fixture(scope="session")
def docker():
    """A real Docker Engine of its own for the whole session, with fake GPUs and local images: tests/e2e/docker_lab.py."""
    import docker_lab

    engine = docker_lab.Engine(docker_lab.folder_for("docker"))
    try:
        engine.stop()  # what a killed run of the tests may have left
        # the driver's libraries, as the toolkit mounts them; neither is sanitized: they are loaded into any program
        driver = [(ASAN / "tests" / "fakes" / "libcuda_fake.so", docker_lab.LIB + "/libcuda.so.1"),
                  (BUILD / "bench" / "libnvml_fake_bench.so", docker_lab.LIB + "/libnvidia-ml.so.1")]
        engine.make_gpus(docker_lab.N_GPUS, [d for d in driver if d[0].exists()])
        engine.start()
        engine.images = docker_lab.make_images(engine, [p for p in BUILD.glob("lem*") if p.is_file()])
    except (docker_lab.Unavailable, PermissionError) as e:
        pytest.skip(f"needs a Docker Engine: {e}")
    yield engine
    engine.stop()
