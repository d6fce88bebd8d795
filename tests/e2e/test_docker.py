"""lem against a real Docker Engine (tools/test-docker) with CDI, a runtime named nvidia, and GPUs that are device nodes only."""
import json
import os
import pathlib
import subprocess
import threading

import pytest
from docker_lab import N_GPUS as N
from docker_lab import OTHER_ARCH, TOOL, ApiError, Engine, Unavailable, folder_for, uuid

SEE = ["sh", "-c", "echo /dev/nvidia[0-9]*; echo NVD=$NVIDIA_VISIBLE_DEVICES; cat /etc/lem-fake-cuda"]


def nodes(*gpus):
    """What a container with these GPUs finds in /dev, in the order of the shell."""
    return " ".join(sorted(f"/dev/nvidia{N - 1 - g}" for g in gpus))


def seen(result):
    code, out, err = result
    assert code == 0, err
    return out.splitlines()


# ---- the facts that routing stands on (routing.md, section 0.1), as this engine shows them


def test_a_container_gets_the_devices_it_asks_for_and_no_more(docker):
    for gpus in ([0], [2, 5], [8, 0, 3], list(range(N))):
        assert seen(docker.run(docker.images["shell"], SEE, gpus=gpus)) == [nodes(*gpus), "NVD=void", f"gpus={N}"]


def test_the_order_of_the_request_is_lost(docker):
    assert seen(docker.run(docker.images["shell"], SEE, gpus=[5, 2])) == seen(docker.run(docker.images["shell"], SEE, gpus=[2, 5]))


def test_cdi_overwrites_nvidia_visible_devices(docker):
    assert seen(docker.run(docker.images["shell"], SEE, gpus=[1], env=[f"NVIDIA_VISIBLE_DEVICES={uuid(1)}"]))[1] == "NVD=void"


def test_nvidia_visible_devices_alone_gives_nothing(docker):
    code, out, _ = docker.run(docker.images["shell"], SEE, env=[f"NVIDIA_VISIBLE_DEVICES={uuid(1)}"])
    assert code != 0 and out.splitlines() == ["/dev/nvidia[0-9]*", f"NVD={uuid(1)}"]


def test_privileged_sees_all(docker):
    assert seen(docker.run(docker.images["shell"], SEE, gpus=[5], Privileged=True))[0] == nodes(*range(N))


def test_an_unknown_uuid_fails_the_start(docker):
    c = docker.create(docker.images["shell"], SEE, gpus=["nvidia.com/gpu=GPU-0"])
    try:
        with pytest.raises(ApiError, match="HTTP 500: CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=GPU-0"):
            docker.call("POST", f"/containers/{c}/start")
        assert docker.inspect(c)["State"]["Status"] == "created"  # it remains: whoever made it must remove it
    finally:
        docker.call("DELETE", f"/containers/{c}")


def test_the_runtime_gives_what_the_variable_says(docker):
    with docker.without_cdi():
        with pytest.raises(ApiError, match="unresolvable CDI devices"):
            docker.run(docker.images["shell"], SEE, gpus=[2])
        env = [f"NVIDIA_VISIBLE_DEVICES={uuid(5)},{uuid(2)}"]
        assert seen(docker.run(docker.images["shell"], SEE, env=env, Runtime="nvidia")) == [nodes(2, 5), "NVD=void", f"gpus={N}"]
        with pytest.raises(ApiError, match="GPU-0: unknown device"):
            docker.run(docker.images["shell"], SEE, env=["NVIDIA_VISIBLE_DEVICES=GPU-0"], Runtime="nvidia")
        for nothing in ("", "void"):
            assert docker.run(docker.images["shell"], SEE, env=[f"NVIDIA_VISIBLE_DEVICES={nothing}"], Runtime="nvidia")[0] != 0


def test_two_containers_with_disjoint_gpus_see_disjoint_devices(docker):
    results = {}

    def one(gpus):
        results[gpus] = docker.run(docker.images["shell"], ["sh", "-c", "sleep 0.5; echo /dev/nvidia[0-9]*"], gpus=gpus)

    threads = [threading.Thread(target=one, args=(g,)) for g in ((0, 3), (4, 1))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert seen(results[(0, 3)]) == [nodes(0, 3)] and seen(results[(4, 1)]) == [nodes(1, 4)]


def test_the_images_are_what_they_are_called(docker):
    with pytest.raises(ApiError, match='"sh": executable file not found'):
        docker.run(docker.images["bare"], ["sh", "-c", "true"])
    assert docker.call("GET", f"/images/{docker.images['other-arch']}/json")["Architecture"] == OTHER_ARCH
    assert docker.run(docker.images["exits"], [])[0] == 7


# ---- the tool


def test_a_container_may_ask_for_the_limits_that_engines_need(docker):
    """Also where this machine cannot grant unlimited locked memory: then that alone is left out."""
    limits = [{"Name": "memlock", "Soft": -1, "Hard": -1}, {"Name": "stack", "Soft": 16 << 20, "Hard": 16 << 20}]
    for more in ({}, {"Runtime": "nvidia"}, {"Runtime": "nvidia", "env": [f"NVIDIA_VISIBLE_DEVICES={uuid(1)}"]}):
        assert seen(docker.run(docker.images["shell"], ["sh", "-c", "ulimit -s"], Ulimits=limits, **more)) == [str(16 << 10)]


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_stop_leaves_nothing_of_a_killed_daemon(docker):
    other = Engine(folder_for("docker-killed"))
    other.make_gpus(1)
    try:
        other.start()
        make = other.import_image("shell", docker.call("GET", f"/containers/{docker.create(docker.images['shell'], ['sh'])}/export"))
        c = other.create(make, ["sh", "-c", "sleep 1000"], gpus=[0])
        other.call("POST", f"/containers/{c}/start")
        inside = other.inspect(c)["State"]["Pid"]
        daemon, cgroup = other.pid, other.inspect(c)["HostConfig"]["CgroupParent"] or json.loads((other.dir / "daemon.json").read_text())["cgroup-parent"][1:]
        os.kill(daemon, 9)
        assert alive(inside)
    finally:
        other.stop()
        docker.remove_all("lem-test=1")
    assert not alive(daemon) and not alive(inside) and not other.dir.exists()
    assert str(other.dir) not in open("/proc/self/mounts").read()
    assert not list(pathlib.Path("/sys/fs/cgroup").glob(f"**/{cgroup}"))
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline") as f:
                assert str(other.dir) not in f.read(), f"process {pid} was left behind"
        except OSError:
            pass


def test_a_daemon_that_cannot_start_says_why(docker, tmp_path):
    other = Engine(tmp_path)
    (tmp_path / "daemon.extra.json").write_text('{"storage-driver": "no-such-driver"}')
    with pytest.raises(Unavailable, match="the engine did not start: .*no-such-driver"):
        other.start()
    other.stop()


@pytest.mark.parametrize("args", [[], ["begin"]])
def test_usage(args):
    assert subprocess.run([TOOL, *args], capture_output=True, text=True).stderr.startswith("usage: test-docker")
