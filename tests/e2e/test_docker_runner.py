"""The Docker runner against a real Docker Engine: docker_life.c drives it as lem does, without lem's experiment around it."""
import json
import os
import pathlib
import signal
import subprocess
import time

import pytest
from docker_lab import N_GPUS as N
from docker_lab import uuid

BUILD = pathlib.Path(os.environ.get("LEM_BUILD_ROOT", pathlib.Path(__file__).resolve().parents[2] / "build-asan"))
LIFE = BUILD / "tests" / "e2e" / "docker_life"
SECRET = "hf_verysecret"


def start(docker, scenario, image, *args, **kw):
    if not LIFE.exists():
        pytest.skip(f"{LIFE} is not built")
    return subprocess.Popen([LIFE, scenario, docker.images.get(image, image), *args], env={**os.environ, "DOCKER_HOST": docker.host},
                            text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kw)


def finish(process, code=0):
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, (out, err)
    assert "Sanitizer" not in err, err
    return dict(line.split(" ", 1) if " " in line else (line, "") for line in out.splitlines())


def life(docker, scenario, image, *args, code=0):
    got = finish(start(docker, scenario, image, *args), code)
    assert docker.containers() == [] or scenario == "crash"
    return got


def test_facts(docker):
    got = life(docker, "facts", "shell")
    assert (got["cdi"], got["nvidia"], got["rootless"], got["podman"]) == ("1", "1", "0", "0")
    assert got["dir"] == str(docker.dir / "cdi") or got["listed"] == "1"


def test_check(docker):
    assert life(docker, "check", "shell") == {"check": "ok"}
    got = life(docker, "check", "other-arch")
    assert got["code"] == "refused" and "is made for" in got["what"]
    got = life(docker, "check", "lem-test:none")
    assert got["code"] == "refused" and "is not on this host" in got["what"]


def test_once_sees_the_devices_and_the_environment(docker):
    got = life(docker, "once", "shell", uuid(5), uuid(2))
    nodes = sorted(f"/dev/nvidia{N - 1 - g}" for g in (2, 5))
    assert got["status"] == "4" and got["log"] == "log"
    assert got["out"].split() == [*nodes, f"{uuid(5)},{uuid(2)}", SECRET]


def test_a_worker_lives_and_ends(docker):
    got = life(docker, "worker", "shell", uuid(1))
    assert got["out"] == "got hello" and got["err"] == "log hello"
    assert got["now"] == "still running"
    assert got["ended"] == "1" and got["end"] == got["stopped"] == "exit status 5"
    assert got["digest"].startswith("sha256:") and len(got["digest"]) == 71
    assert int(got["pid"]) > 1 and got["cgroup"].startswith("/") and len(got["cgroup"]) > 64
    assert got["owns"] == "1 0"


def test_a_gentle_stop(docker):
    got = life(docker, "stop", "shell", "--", "/bin/sh", "-c", "trap 'exit 9' TERM; echo ready; while :; do read x || sleep 0.05; done")
    assert got["out"] == "ready" and got["stopped"] == "exit status 9"


def test_one_that_ignores_sigterm(docker):
    got = life(docker, "stop", "stubborn", "--", "-")
    assert got["out"] == "ignoring SIGTERM" and got["stopped"] == "killed by signal 9 (Killed)"
    assert int(got["took"].split()[0]) >= 2000  # its grace


def test_one_that_exits_at_once(docker):
    got = life(docker, "hold", "exits", "--", "-")
    assert got["err"] == "engine: cannot go on: no such model" and got["end"] == "exit status 7"


def test_an_image_without_a_shell(docker):
    got = life(docker, "hold", "bare")
    assert got["end"] == "exit status 127 (no such program)" and "exec /bin/sh failed" in got["err"]


def test_an_image_for_another_architecture(docker):
    assert "is made for" in life(docker, "worker", "other-arch")["what"]


def test_an_unknown_gpu(docker):
    got = life(docker, "worker", "shell", "GPU-00000000-dead-4000-8000-000000000000")
    assert got["what"].startswith("R21: ") and "unresolvable CDI devices" in got["why"] and "nvidia-cdi-refresh" in got["fix"]


def test_what_a_dead_lem_left_is_removed_and_nothing_else(docker):
    foreign = docker.create(docker.images["shell"], ["sleep", "1000"], name="lem-life")  # not ours, by chance of that name
    life(docker, "crash", "shell", code=-signal.SIGKILL)
    left = docker.containers()
    assert [c["Names"] for c in left] == [["/lem-life-2"]]
    got = life(docker, "worker", "shell")
    assert got["end"] == "exit status 5"
    assert docker.inspect(foreign)["Name"] == "/lem-life"
    docker.call("DELETE", f"/containers/{foreign}?force=1")


def test_out_of_memory_is_told_from_a_kill(docker):
    process = start(docker, "hold", "shell")
    assert process.stdout.readline().startswith("digest ")
    while (line := process.stdout.readline().strip()) != "running":
        assert line
    c = docker.containers()[0]
    docker.call("POST", f"/containers/{c['Id']}/kill?signal=SIGKILL")
    assert finish(process)["end"] == "killed by signal 9 (Killed)"


def test_removed_by_someone_else(docker):
    process = start(docker, "hold", "shell")
    while process.stdout.readline().strip() != "running":
        pass
    c = docker.containers()[0]
    docker.call("DELETE", f"/containers/{c['Id']}?force=1")
    assert "exit status 0" not in finish(process)["end"]
    assert docker.containers() == []


def same(inspected):
    """What matters of a container; what the client fills in with empty values is nothing."""
    def clean(v):
        return {k: clean(x) for k, x in v.items() if x not in (None, [], {}, "", 0, False)} if isinstance(v, dict) else [clean(x) for x in v] if isinstance(v, list) else v

    host = {k: v for k, v in inspected["HostConfig"].items() if k not in ("ConsoleSize", "RestartPolicy", "MemorySwappiness")}
    config = {k: v for k, v in inspected["Config"].items() if k != "Hostname"}
    config["Env"] = sorted(config["Env"])  # the engine keeps no order of the client's
    return clean({"Config": config, "HostConfig": host, "Path": inspected["Path"], "Args": inspected["Args"]})


def test_the_command_line_says_the_same_as_the_request(docker):
    """Both made by the real engine, one of them through the real client."""
    client = docker.bin() / "docker"
    if not client.exists():
        pytest.skip("no docker client was fetched")
    got = life(docker, "lines", "shell", uuid(5), uuid(2), "--", "/bin/sh", "-c", "echo 'it''s' \"$HOME\" *; exit 3")
    assert SECRET not in got["line"]
    asked = docker.call("POST", "/containers/create", json.loads(got["body"]))["Id"]
    line = got["line"].replace("docker run ", f"{client} create ", 1)
    done = subprocess.run(["sh", "-c", line], env={"DOCKER_HOST": docker.host, "HF_TOKEN": SECRET, "HOME": "/nonexistent", "PATH": os.environ["PATH"]},
                          text=True, capture_output=True)
    try:
        assert done.returncode == 0, done.stderr
        typed = done.stdout.split()[-1]
        a, b = same(docker.inspect(asked)), same(docker.inspect(typed))
        assert {(part, k): (a[part].get(k), b[part].get(k)) for part in ("Config", "HostConfig") for k in a[part].keys() | b[part].keys() if a[part].get(k) != b[part].get(k)} == {}
        assert a == b
        assert a["HostConfig"]["DeviceRequests"][0]["DeviceIDs"] == ["nvidia.com/gpu=" + uuid(5), "nvidia.com/gpu=" + uuid(2)]
    finally:
        docker.remove_all()


def test_two_at_once(docker):
    both = [start(docker, "once", "shell", uuid(i)) for i in (3, 6)]
    for i, p in zip((3, 6), both):
        assert finish(p)["out"].split()[0] == f"/dev/nvidia{N - 1 - i}"
    assert docker.containers() == []


def test_the_daemon_is_killed(docker):
    """Its container lives on without it (the shim): lem says what happened, kills it itself and the next lem removes the rest."""
    process = start(docker, "hold", "shell", "--", "/bin/sh", "-c", "trap '' TERM; while :; do sleep 1; done")
    told = {}
    while (line := process.stdout.readline().strip()) != "running":
        name, _, value = line.partition(" ")
        told[name] = value
    os.kill(docker.pid, signal.SIGKILL)
    got = finish(process)
    assert got["ended"] == "1" and got["end"].startswith("the container engine went away")
    for _ in range(100):
        if not pathlib.Path(f"/proc/{told['pid']}").exists() or "Z" in pathlib.Path(f"/proc/{told['pid']}/stat").read_text().rpartition(")")[2][:3]:
            break
        time.sleep(0.05)
    else:
        pytest.fail(f"process {told['pid']} of the container still runs")
    docker.start()
    assert life(docker, "worker", "shell")["end"] == "exit status 5"
