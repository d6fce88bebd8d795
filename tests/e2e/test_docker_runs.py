"""`lem experiment` with runner: docker against a real engine, on GPUs that are device nodes, from create to stop; and what goes
wrong on the way. What the container saw is read from inside it; the driver libraries are fakes that show the same GPUs."""
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import threading
import time
import urllib.parse

import pytest
from conftest import BUILD, QUICK
from docker_lab import N_GPUS, TOOL, ApiError, Engine, Unavailable, folder_for, image_tar, uuid

NVML = BUILD / "bench" / "libnvml_fake_bench.so"
WORKER = BUILD / "lem-worker-llama"
TEXT = QUICK.replace("gpus: []", "gpus: [2, 5]\nrunner: docker\ndocker: {image: 'lem-test:shell', pull: never, network: none, volumes: VOLUMES}").replace(
    "warmup: {min_prompts: 3, window_size: 3, max_prompts: 5, cv_threshold: 0.5}", "warmup: {requests: 1}")
# tells what it finds, then becomes the worker
LOOKING = """#!/bin/sh
{ echo /dev/nvidia[0-9]*; echo "$CUDA_VISIBLE_DEVICES|$NVIDIA_VISIBLE_DEVICES|$CUDA_DEVICE_ORDER|$LEM_GPU_UUIDS"; } >/out/seen
exec /real/lem-worker-llama "$@"
"""


def nodes(*gpus):
    return " ".join(sorted(f"/dev/nvidia{N_GPUS - 1 - g}" for g in gpus))


class DockerLem:
    """lem with the fake driver and the lab's engine; a worker of one's own is a shell script."""

    def __init__(self, lem, engine):
        self.lem, self.engine, self.folder = lem, engine, lem.folder
        self.env = {"DOCKER_HOST": engine.host, "LEM_NVML_LIBRARY": str(NVML), "LEM_FAKE_NVML": f"gpus={N_GPUS}", "LEM_CDI_DIRS": str(engine.spec.parent)}
        self.out = self.folder / "out"
        self.out.mkdir()
        self.out.chmod(0o777)

    def text(self, gpus="[2, 5]", worker=None, llamacpp="batch_size: 4, n_gpu_layers: 0", image="lem-test:shell", extra=""):
        volumes = f"['{self.out}:/out:rw', '{BUILD}:/real:ro']"
        text = TEXT.replace("VOLUMES", volumes).replace("gpus: [2, 5]", f"gpus: {gpus}").replace("lem-test:shell", image)
        if worker:
            path = self.folder / "worker.sh"
            path.write_text(worker)
            path.chmod(0o755)
            llamacpp += f", worker: {path}"
        return text.replace("llamacpp: {batch_size: 4}", "llamacpp: {%s}" % llamacpp) + extra

    def refused(self, *words, **kw):
        """Exit code 2, one message in plain text, nothing made, nothing stored."""
        _, err = self(2, text_only=True, **kw)
        one_message(err, *words)
        if (self.folder / "results" / "lem.sqlite").exists():
            self.database_is_whole(0)
        return err

    def __call__(self, check, *args, nvml="", host=None, timeout=120, text_only=False, **kw):
        env = {**self.env, "LEM_FAKE_NVML": self.env["LEM_FAKE_NVML"] + nvml, **({"DOCKER_HOST": host} if host else {})}
        done = self.lem("experiment", self.lem.config(self.text(**kw)), *([] if text_only else ["--json"]), *args, env=env, check=check, timeout=timeout)
        return (json.loads(done.stdout) if done.stdout.startswith("{") else None), done.stderr

    def start(self, **kw):
        return self.lem.start("experiment", self.lem.config(self.text(**kw)), env=self.env)

    def stored(self):
        return json.loads(self.lem("results", "show", "last", "--json", check=0).stdout)

    def nothing_left(self):
        left = self.engine.containers()
        assert left == [], [(c["Names"], c["State"]) for c in left]

    def database_is_whole(self, runs):
        with contextlib.closing(sqlite3.connect(self.folder / "results" / "lem.sqlite")) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert db.execute("SELECT count(*) FROM runs").fetchone() == (runs,)


@pytest.fixture(autouse=True)
def plain_shell(monkeypatch):
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "NVIDIA_VISIBLE_DEVICES", "SLURM_JOB_ID", "LEM_HOST_GPUS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run(lem, docker):
    for path in (NVML, WORKER, BUILD / "lem-gpuprobe"):
        if not path.exists():
            pytest.fail(f"{path} is not built: run make build")
    yield DockerLem(lem, docker)
    docker.remove_all()


@pytest.fixture
def other(lem, docker):
    """An engine that may be hurt."""
    engine = Engine(folder_for("docker-hurt"))
    engine.stop()
    engine.make_gpus(N_GPUS, [(m["hostPath"], m["containerPath"]) for m in json.loads(docker.jit_spec.read_text())["containerEdits"]["mounts"][1:]])
    try:
        yield engine
    finally:
        engine.stop()


def wait_for(p, words, more_s):
    seen = ""
    while words not in seen:
        line = p.stderr.readline()
        assert line, seen
        seen += line
    time.sleep(more_s)


def interrupt_when(p, words, how=signal.SIGINT):
    wait_for(p, words, 0.5)
    p.send_signal(how)


# ---- the right GPUs, from inside and in the result


@pytest.mark.parametrize("gpus, cuda", [([0], "0"), ([2, 5], "0,1"), ([5, 2], "1,0"), ([7, 0, 3], "2,0,1")])
def test_the_engine_has_exactly_its_gpus_in_their_order(run, gpus, cuda):
    r, err = run(0, gpus=str(gpus), worker=LOOKING)
    seen, variables = (run.out / "seen").read_text().splitlines()
    uuids = ",".join(map(uuid, gpus))
    assert seen == nodes(*gpus)
    assert variables == f"{cuda}|void|PCI_BUS_ID|{uuids}"
    routing = r["routing"]
    assert routing["proved"] is True and routing["path"] == "docker-cdi", err
    assert routing["requested"] == [uuid(g) for g in gpus] == [o["uuid"] for o in routing["observed"]]
    assert [(g["index"], g["uuid"]) for g in r["gpus"]] == [(g, uuid(g)) for g in gpus]
    assert [str(g["container_index"]) for g in r["gpus"]] == cuda.split(",")
    assert r["engine"]["image_digest"].startswith("sha256:")
    assert len(r["energy"]["per_gpu"]) == len(gpus) and r["tokens"]["output"] == 8 * 16
    assert run.stored()["routing"] == routing
    run.nothing_left()


def test_no_gpu_asked_for_is_no_gpu_given(run):
    r, _ = run(0, gpus="[]", worker=LOOKING)
    assert (run.out / "seen").read_text().splitlines()[0] == "/dev/nvidia[0-9]*"
    assert r["gpus"] == [] and r["routing"]["path"] == "none"


def test_an_image_without_a_shell_is_enough(run):
    r, _ = run(0, image="lem-test:bare")
    assert r["routing"]["proved"] is True and r["status"] == "completed"
    run.nothing_left()


@pytest.mark.parametrize("gpus, cuda", [([2, 5], "0,1"), ([5, 2], "1,0")])
def test_without_cdi_the_runtime_gives_the_same(run, docker, gpus, cuda):
    with docker.without_cdi():
        r, _ = run(0, gpus=str(gpus), worker=LOOKING)
    seen, variables = (run.out / "seen").read_text().splitlines()
    assert seen == nodes(*gpus) and variables.startswith(f"{cuda}|void|PCI_BUS_ID|")
    assert r["routing"]["path"] == "docker-runtime" and r["routing"]["proved"] is True
    assert [o["uuid"] for o in r["routing"]["observed"]] == [uuid(g) for g in gpus]


def test_two_runs_at_once_have_disjoint_devices(run, lem, docker, tmp_path):
    runs = []
    for name, gpus in (("a", [0, 8]), ("b", [4, 1])):
        folder = tmp_path / name
        folder.mkdir()
        one = type(lem)(folder)
        runs.append((DockerLem(one, docker), gpus))
    results = {}

    def go(r, gpus):
        results[str(gpus)] = r(None, gpus=str(gpus), worker=LOOKING, extra="window: {min_duration_sec: 3}\n")

    threads = [threading.Thread(target=go, args=a) for a in runs]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for r, gpus in runs:
        result, err = results[str(gpus)]
        assert result and result["status"] == "completed" and result["routing"]["proved"] is True, err
        assert (r.out / "seen").read_text().splitlines()[0] == nodes(*gpus)
        assert [o["uuid"] for o in result["routing"]["observed"]] == [uuid(g) for g in gpus]
    run.nothing_left()


@contextlib.contextmanager
def spec_changed(docker, change):
    text = docker.spec.read_text()
    spec = json.loads(text)
    change({d["name"]: d["containerEdits"]["deviceNodes"] for d in spec["devices"]}, spec)
    docker.spec.write_text(json.dumps(spec))
    try:
        yield
    finally:
        docker.spec.write_text(text)


def test_a_wrong_binding_is_caught_before_anything_is_loaded(run, docker):
    """A specification that gives GPU 3's node under GPU 2's name, as a stale one by index would."""
    def swap(device_nodes, _):
        device_nodes[uuid(2)][:] = device_nodes[uuid(3)]

    with spec_changed(docker, swap):
        r, err = run(3, gpus="[2]", worker=LOOKING)
    assert uuid(2) in err and uuid(3) in err
    assert r["routing"]["proved"] is False and r["verdict"]["level"] == "invalid"
    assert not (run.out / "seen").exists()
    run.nothing_left()
    run.database_is_whole(1)


def forget_gpu_5(_, spec):
    spec["devices"] = [d for d in spec["devices"] if d["name"] != uuid(5)]


def test_what_cdi_does_not_know_the_runtime_gives(run, docker):
    with spec_changed(docker, forget_gpu_5):
        r, _ = run(0, gpus="[2, 5]", worker=LOOKING)
    assert r["routing"]["path"] == "docker-runtime" and r["routing"]["proved"] is True
    assert (run.out / "seen").read_text().splitlines()[0] == nodes(2, 5)


def test_a_gpu_that_the_engine_cannot_pass(run, other):
    """No name of it in CDI, no runtime, no hook: the last is known only when the probe's container is started."""
    (other.dir / "nvidia-runtime").unlink()
    other.start()
    other.import_image("shell", docker_image(run.engine))
    with spec_changed(other, forget_gpu_5):
        _, err = run(3, host=other.host, gpus="[2, 5]", text_only=True)
    one_message(err, "R20", "could not select device driver", "NVIDIA Container Toolkit")
    assert err.index("lem: warning: R21: ") < err.index("lem: loading") < err.index("warned before: R21: the CDI spec")
    assert err.count("could not select device driver") == 1, err
    assert other.containers() == []


# ---- bad input: one clear message, everything cleaned up, nothing lost, the right exit code


def one_message(err, *words):
    """The words are there, in one message: what lem says itself, warnings and progress aside, begins once."""
    for word in words:
        assert word in err, err
    progress = ("loading", "warming", "measuring", "stopping", "checking", "proving", "idle", "making", "pulling", "starting")
    said = [line for line in err.splitlines() if line.startswith("lem: ") and not line.startswith("lem: warning: ")
            and (":" in line[5:] or not line[5:].startswith(progress))]
    assert len(said) == 1, said


def test_no_daemon(run):
    run.refused("none.sock", host=f"unix://{run.folder}/none.sock")


def test_no_permission_on_the_socket(run, docker):
    """As another user, with a home and a folder of their own."""
    if os.getuid() != 0:
        pytest.skip("needs root to become somebody else")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="lem-nobody-"))
    try:
        folder.chmod(0o777)
        (folder / "c.yaml").write_text(run.text(gpus="[]").replace(f"'{run.out}:/out:rw', ", ""))
        try:
            done = subprocess.run([BUILD / "lem", "experiment", "c.yaml"], cwd=folder, text=True, capture_output=True, timeout=60, user=65534, group=65534,
                                  extra_groups=[], env={**os.environ, **run.env, "HOME": str(folder), "XDG_CACHE_HOME": str(folder), "LEM_CACHE_DIR": str(folder)})
        except PermissionError:
            pytest.skip(f"another user cannot reach {BUILD}")
        assert done.returncode == 2, done.stderr
        one_message(done.stderr, "docker.sock", "ermission")
        assert "docker group" in done.stderr or "usermod" in done.stderr or "rights" in done.stderr, done.stderr
    finally:
        shutil.rmtree(folder)


def test_another_architecture(run):
    run.refused("lem-test:other-arch", "arm64", "amd64", image="lem-test:other-arch")
    run.nothing_left()


def test_no_such_image(run):
    run.refused("lem-test:none", "docker.pull", image="lem-test:none")
    run.nothing_left()


def test_an_engine_that_exits_at_once(run):
    r, err = run(1, worker="#!/bin/sh\necho 'engine: cannot go on: no such model' >&2\nexit 7\n")
    one_message(err, "exit status 7", "cannot go on: no such model")
    assert r["status"] == "failed" and run.stored()["error"]["what"]
    run.nothing_left()


def test_a_worker_that_cannot_be_executed(run):
    r, err = run(None, worker="#!/bin/no-such-interpreter\n")
    assert "lem-worker-llama" in err or "no such" in err.lower(), err
    assert r is None or r["status"] == "failed"
    run.nothing_left()


def test_an_engine_that_is_never_ready(run):
    t = time.time()
    r, err = run(1, worker="#!/bin/sh\necho still thinking >&2\nexec sleep 1000\n", llamacpp="batch_size: 4, n_gpu_layers: 0, load_timeout_sec: 2")
    assert time.time() - t < 40
    one_message(err, "said nothing for 2.0 s", "still thinking")
    assert r["verdict"]["level"] == "invalid"
    run.nothing_left()


def test_an_engine_that_ignores_sigterm(run):
    t = time.time()
    r, err = run(1, worker="#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 1; done\n", llamacpp="batch_size: 4, n_gpu_layers: 0, load_timeout_sec: 2")
    assert time.time() - t < 40
    one_message(err, "said nothing for 2.0 s")
    run.nothing_left()


class Intruder:
    """A socket before the engine's that takes every container's name just before lem asks for it."""

    def __init__(self, path, engine):
        self.engine, self.taken = engine, []
        self.host = "unix://" + path
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(16)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.socket(socket.AF_UNIX)
            server.connect(self.engine.socket)
            threading.Thread(target=self.pump, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self.pump, args=(server, client, False), daemon=True).start()

    def pump(self, a, b, asked):
        with contextlib.suppress(OSError):
            while data := a.recv(1 << 16):
                first = data.split(b" HTTP/", 1)[0].decode(errors="replace")
                if asked and first.startswith("POST ") and "/containers/create?name=" in first:
                    name = urllib.parse.unquote(first.split("name=")[1].split("&")[0])
                    if not name.endswith(("-2", "-once-2")):
                        self.taken.append(self.engine.create("lem-test:shell", ["sh"], name=name))
                b.sendall(data)
            b.shutdown(socket.SHUT_WR)


def test_a_name_that_is_taken_is_not_touched(run, docker):
    intruder = Intruder(str(run.folder / "s"), docker)
    try:
        r, _ = run(0, gpus="[1]", host=intruder.host)
        assert r["status"] == "completed" and len(intruder.taken) == 2  # the probe's and the engine's
        for c in intruder.taken:
            assert docker.inspect(c)["State"]["Status"] == "created"  # whoever's it is, it is not lem's
        run.nothing_left()
    finally:
        docker.remove_all("lem-test=1")


def test_a_full_disk(run, other):
    data = other.dir / "data"
    data.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", data], check=True)
    try:
        try:
            other.start()
        except Unavailable as e:
            pytest.skip(str(e))
        other.import_image("shell", image_tar(libraries_of=[WORKER]))
        with contextlib.suppress(OSError), open(data / "filler", "wb") as f:
            while True:
                f.write(bytes(1 << 20))
        run.engine = other
        _, err = run(None, host=other.host, gpus="[]")
        one_message(err, "o space left")
        assert "docker system" in err, err
        assert other.containers() == []
        (data / "filler").unlink()
        r, _ = run(0, host=other.host, gpus="[]")
        assert r["status"] == "completed"
    finally:
        subprocess.run([TOOL, "stop", other.dir], capture_output=True)
        subprocess.run(["umount", data], check=True)


def test_a_gpu_that_falls_off_the_bus(run):
    r, err = run(None, nvml=";lost=2500ms;lostgpu=5", extra="window: {min_duration_sec: 5}\n")
    assert r["verdict"]["level"] == "invalid", r["verdict"]
    told = " ".join(r["verdict"]["reasons"]) + err + " ".join(r["notes"])
    assert "lost" in told.lower() or "fallen off" in told.lower(), told
    assert run.stored()["verdict"] == r["verdict"]
    run.nothing_left()


def test_a_daemon_that_dies_while_measuring(run, other):
    other.start()
    other.import_image("shell", docker_image(run.engine))
    run.env["DOCKER_HOST"], run.engine = other.host, other
    p = run.start(extra="window: {min_duration_sec: 60}\n")
    daemon = other.pid
    wait_for(p, "measuring", 1)
    (inside,) = [other.inspect(c["Id"])["State"]["Pid"] for c in other.containers()]
    os.kill(daemon, signal.SIGKILL)
    t = time.time()
    _, err = p.communicate(timeout=90)
    assert p.returncode == 1, err
    assert time.time() - t < 60 and "went away" in err, err
    stored = run.stored()
    assert stored["status"] == "failed" and stored["verdict"]["level"] == "invalid"
    assert not os.path.exists(f"/proc/{inside}") or "Z" in pathlib.Path(f"/proc/{inside}/stat").read_text().rsplit(")", 1)[1][:3]
    run.database_is_whole(1)
    other.start()  # the engine comes back with what was left in it; the next run removes that
    r, _ = run(0)
    assert r["status"] == "completed"
    run.nothing_left()


def docker_image(engine):
    """The root of lem-test:shell, to be imported elsewhere."""
    c = engine.create("lem-test:shell", ["sh"])
    try:
        return engine.call("GET", f"/containers/{c}/export")
    finally:
        engine.call("DELETE", f"/containers/{c}")


@pytest.mark.parametrize("words", ["loading", "measuring"])
def test_interrupt(run, words):
    slow = "#!/bin/sh\nsleep 1000\n" if words == "loading" else None
    p = run.start(worker=slow, extra="window: {min_duration_sec: 60}\n")
    interrupt_when(p, words)
    t = time.time()
    _, err = p.communicate(timeout=40)
    assert p.returncode == 130, err
    assert time.time() - t < 15
    assert run.stored()["status"] == "interrupted"
    run.nothing_left()


def test_lem_killed_and_the_next_run_sweeps(run, docker):
    p = run.start(extra="window: {min_duration_sec: 60}\n")
    interrupt_when(p, "measuring", signal.SIGKILL)
    p.communicate()
    left = docker.containers()
    assert len(left) == 1
    foreign = docker.create("lem-test:shell", ["sh"])  # somebody else's is not swept
    try:
        r, _ = run(0)
        assert r["status"] == "completed"
        assert docker.containers() == [] and docker.inspect(foreign)["State"]["Status"] == "created"
    finally:
        docker.remove_all("lem-test=1")


def test_no_trace_in_the_engine_after_many_ways_to_end(docker):
    """All of the above used this engine: no container with lem's label, no network, no volume."""
    assert docker.containers() == []
    assert {n["Name"] for n in docker.call("GET", "/networks")} <= {"none", "host", "bridge"}
    assert not docker.call("GET", "/volumes")["Volumes"]


def test_secrets_are_in_no_stored_text(run):
    r, err = run(0, "--set", "env.OTHER_TOKEN=hf_verysecret", gpus="[]", extra="env: {HF_TOKEN: hf_verysecret, PLAIN: seen}\n")
    dry = run.lem("experiment", run.folder / "c.yaml", "--dry-run", env=run.env, check=0)
    assert "PLAIN=seen" in dry.stdout and r["provenance"]["effective_config"]["env"] == {"HF_TOKEN": "***", "OTHER_TOKEN": "***", "PLAIN": "seen"}
    for text in (json.dumps(r), err, dry.stdout, dry.stderr):
        assert "hf_verysecret" not in text
    for file in (run.folder / "results").rglob("*"):
        if file.is_file():
            assert b"hf_verysecret" not in file.read_bytes(), file


def test_the_dry_run_makes_the_container_that_the_run_makes(run, docker):
    """The create request that --dry-run prints, sent as it is, gives the same devices."""
    done = run.lem("experiment", run.lem.config(run.text(gpus="[5, 2]")), "--dry-run", "--json", env=run.env, check=0)
    document = json.loads(done.stdout)
    body = next(v for k, v in walk(document) if isinstance(v, dict) and "HostConfig" in v)
    body["Entrypoint"], body["Cmd"] = ["sh", "-c", "echo /dev/nvidia[0-9]*; echo $CUDA_VISIBLE_DEVICES"], []
    c = docker.call("POST", "/containers/create", body)["Id"]
    try:
        docker.call("POST", f"/containers/{c}/start")
        docker.call("POST", f"/containers/{c}/wait")
        assert docker.call("GET", f"/containers/{c}/logs?stdout=1")[8:].decode().startswith(nodes(2, 5))
    finally:
        with contextlib.suppress(ApiError):
            docker.call("DELETE", f"/containers/{c}?force=1&v=1")


def walk(value, key=""):
    yield key, value
    for k, v in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from walk(v, k)
