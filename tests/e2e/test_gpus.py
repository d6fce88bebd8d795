"""lem gpus, on the fake driver: what a person reads, what a program reads, and hosts where something is missing."""
import json
import os
import subprocess

import pytest

from conftest import ASAN

FAKE = ASAN / "tests" / "fakes" / "libnvml_fake.so"
UUID = "GPU-1a2b3c4{}-fa4e-4000-8000-{:012x}"


def uuid(n):
    return UUID.format(n, 0xABCDEF + n)


@pytest.fixture
def gpus(tmp_path):
    """Runs `lem gpus` of the sanitizer build, whose fakes it shares; the machine's own place is hidden."""
    if not FAKE.exists():
        pytest.skip(f"{FAKE} is not built: tools/configure build-asan -Dtests=true")

    def run(*args, script="gpus=2", library=FAKE, code=0, **env):
        keep = {k: v for k, v in os.environ.items() if not k.startswith(("CUDA_", "NVIDIA_", "SLURM_", "LEM_HOST", "KUBERNETES"))}
        env = {**keep, "LC_ALL": "C.UTF-8", "LEM_NVML_LIBRARY": str(library), "LEM_FAKE_NVML": script, "LEM_PLACE_ROOT": str(tmp_path),
               "LEM_SYSFS_ROOT": str(tmp_path / "sys"), **env}
        done = subprocess.run([str(ASAN / "lem"), "gpus", *args], text=True, capture_output=True, timeout=60, env=env)
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    run.root = tmp_path
    run.document = lambda **kw: json.loads(run("--json", **kw).stdout)
    return run


def test_a_person_reads(gpus):
    me = os.getpid()
    done = gpus(script=f"gpus=2;name=NVIDIA H100 80GB HBM3;driver=580.95.05;cuda=13000;used1=60g;procs=1:{me}:60g;nvlink=18")
    text = done.stdout
    assert "NVIDIA driver 580.95.05, CUDA 13.0, 2 GPUs" in text
    assert "0000:10:00.0  70.0 of 80.0 GiB     40 °C   700 W  0" in text
    assert "0000:11:00.0  20.0 of 80.0 GiB     41 °C   700 W  1" in text
    assert uuid(0) in text and uuid(1) in text
    assert f"pid {me}" in text and "60.00 GiB" in text
    assert "    0 -    NV18" in text and "    1 NV18 -" in text
    assert "lem runs on the host." in text
    assert done.stderr == ""


@pytest.mark.parametrize("n", [1, 2, 8, 16])
def test_lines_fit(gpus, n):
    script = f"gpus={n};name=NVIDIA RTX PRO 6000 Blackwell Server Edition;migs=0:7;procs=0:1:60g;p2p=none"
    text = gpus(script=script).stdout
    assert max(map(len, text.splitlines())) <= 100
    assert all(line == line.rstrip() for line in text.splitlines())
    rows = [line for line in text.splitlines() if "0000:" in line]
    assert len(rows) == n and len({line.index("0000:") for line in rows}) == 1


def test_without_utf8(gpus):
    text = gpus(LC_ALL="C").stdout
    assert text.isascii() and "40  C" in text


def test_a_program_reads(gpus):
    me = os.getpid()
    d = gpus.document(script=f"gpus=3;procs=0:{me}:3g+2:4194000;graphics=0:77;limit=650000;cc=90;fabric=3;computemode=3;ecc=1;eccpending=0")
    assert d["schema"] == "lem.gpus/1"
    assert d["driver"] == {"version": "580.00", "cuda": "13.0"}
    assert [g["index"] for g in d["gpus"]] == [0, 1, 2]
    g = d["gpus"][0]
    assert g["uuid"] == uuid(0) and g["pci_bus_id"] == "00000000:10:00.0" and g["minor"] == 2
    assert g["memory_total_bytes"] == 80 << 30 and g["memory_free_bytes"] == 70 << 30
    assert g["temperature_c"] == 40 and g["power_limit_w"] == 650 and g["compute_capability"] == "9.0"
    assert g["compute_mode"] == 3 and g["fabric_state"] == 3 and g["fabric_status"] == 0
    assert (g["ecc"], g["ecc_after_reset"], g["persistence_mode"]) == (True, False, True)
    assert g["write_as"] == "0" and g["refused"] is None and g["problem"] is None
    p = g["processes"]
    assert [x["pid"] for x in p] == [me, 77] and [x["graphics_only"] for x in p] == [False, True]
    assert p[0]["memory_bytes"] == 3 << 30 and p[0]["name"] and p[0]["user"]
    assert d["gpus"][1]["processes"] == []
    gone = d["gpus"][2]["processes"][0]
    assert (gone["name"], gone["user"], gone["memory_bytes"]) == (None, None, None)
    assert [(x["a"], x["b"]) for x in d["links"]] == [(0, 1), (0, 2), (1, 2)]
    assert d["links"][0] == {"a": 0, "b": 1, "peer_read": "ok", "peer_write": "ok", "topology": "SYS", "nvlinks": 0, "through_switch": False}
    assert d["place"]["container"] is False and d["place"]["cuda_visible_devices"] is None


def test_what_is_not_told_is_null(gpus):
    d = gpus.document(script="gpus=2;unsupported=temperature,memory,limit,utilization,cc,persistence,ecc,remap,retired,fabric,processes,"
                             "p2p,topology,nvlink;cuda=0")
    assert d["driver"]["cuda"] is None
    g = d["gpus"][0]
    for key in ("temperature_c", "memory_total_bytes", "memory_free_bytes", "power_limit_w", "compute_capability", "compute_mode", "ecc",
                "persistence_mode", "row_remap_pending", "page_retire_pending", "fabric_state", "processes"):
        assert g[key] is None, key
    assert "not supported" in g["processes_reason"]
    assert d["links"][0]["peer_read"] is None and d["links"][0]["nvlinks"] is None
    text = gpus(script="gpus=2;unsupported=processes,p2p,topology,nvlink").stdout
    assert "Processes are not told" in text and "    0 -    ?" in text


def test_mig(gpus):
    d = gpus.document(script="gpus=2;migs=1:2")
    assert d["gpus"][0]["mig"] is False and d["gpus"][0]["mig_instances"] == []
    g = d["gpus"][1]
    assert g["mig"] is True and g["write_as"] is None and "R08" in g["refused"]
    assert [m["uuid"][:12] for m in g["mig_instances"]] == ["MIG-2b3c4d10", "MIG-2b3c4d11"]
    assert g["mig_instances"][0]["memory_bytes"] == 10 << 30 and g["mig_instances"][1]["gpu_instance"] == 8
    text = gpus(script="gpus=2;migs=1:2").stdout
    assert "GI 8 CI 0  10.0 GiB" in text and "instance\n" in text
    assert "no instance was made" in gpus(script="gpus=1;mig=1").stdout


def test_what_this_shell_may_use(gpus):
    d = gpus.document(script="gpus=3", CUDA_VISIBLE_DEVICES="2,0")
    assert [g["write_as"] for g in d["gpus"]] == ["1", None, "0"]
    assert "hides" in d["gpus"][1]["refused"]
    assert "lets this shell use 2 of them" in gpus(script="gpus=3", CUDA_VISIBLE_DEVICES="2,0").stdout
    d = gpus.document(script="gpus=3", CUDA_VISIBLE_DEVICES="0,0")
    assert "R05" in d["place"]["cuda_visible_devices_problem"]
    assert [g["write_as"] for g in d["gpus"]] == [None] * 3
    assert "hint: unset it" in gpus(script="gpus=3", CUDA_VISIBLE_DEVICES="0,0").stdout


def test_in_a_container(gpus):
    (gpus.root / ".dockerenv").touch()
    d = gpus.document()
    assert d["place"]["container"] is True
    assert [g["write_as"] for g in d["gpus"]] == ["UUID", "UUID"]
    assert "name them by UUID" in gpus().stdout
    d = gpus.document(LEM_HOST_GPUS="5,2")
    assert [g["write_as"] for g in d["gpus"]] == ["2", "5"]
    assert d["place"]["host_gpus"] == "5,2"
    assert "given the host's GPUs 5,2" in gpus(LEM_HOST_GPUS="5,2").stdout
    assert "in a Kubernetes pod" in gpus(KUBERNETES_SERVICE_HOST="10.0.0.1").stdout


def test_in_a_slurm_job(gpus):
    text = gpus(script="gpus=4", SLURM_JOB_ID="7", SLURM_STEP_GPUS="2,3", CUDA_VISIBLE_DEVICES="2,3").stdout
    assert "lem runs on the host, in a Slurm job (GPUs 2,3)." in text


def test_a_lost_gpu_keeps_its_place(gpus):
    text = gpus(script="gpus=3;nohandle=1").stdout
    assert "cannot be used: GPU lost" in text and "Xid 79" in text
    g = gpus.document(script="gpus=3;nohandle=1")["gpus"][1]
    assert g["index"] == 1 and g["uuid"] is None and "lost" in g["problem"] and g["fix"]


def test_a_driver_without_gpus(gpus):
    assert "0 GPUs" in gpus(script="gpus=0").stdout
    assert gpus.document(script="gpus=0")["gpus"] == []


@pytest.mark.parametrize("script, rule, hint", [("init=9", "R23", "modprobe"), ("init=18", "R24", "reboot"), ("init=999", "", "")])
def test_a_broken_driver(gpus, script, rule, hint):
    done = gpus(script=script, code=1)
    assert done.stdout == "" and f"lem: {rule}" in done.stderr and hint in done.stderr
    error = json.loads(gpus("--json", script=script, code=1).stdout)["error"]
    assert error["what"].startswith(rule)


def test_a_library_named_by_hand_must_exist(gpus):
    assert "R23: cannot load" in gpus(library="/no/such/lib.so", code=1).stderr


def has_driver():
    return subprocess.run(["sh", "-c", "ldconfig -p | grep -q libnvidia-ml.so.1"]).returncode == 0


@pytest.mark.skipif(has_driver(), reason="this machine has an NVIDIA driver")
def test_no_driver(gpus):
    """No card on the bus: a host without GPUs. A card: its driver is missing."""
    done = gpus(library="")
    assert "No NVIDIA GPU here" in done.stdout and done.stderr == ""
    d = gpus.document(library="")
    assert d["driver"] is None and d["gpus"] == [] and "libnvidia-ml" in d["driver_reason"]
    card = gpus.root / "sys/bus/pci/devices/0000:10:00.0"
    card.mkdir(parents=True)
    (card / "vendor").write_text("0x10de\n")
    (card / "class").write_text("0x030200\n")
    done = gpus(library="", code=1)
    assert "R23: no NVIDIA driver" in done.stderr and "install the NVIDIA driver" in done.stderr


@pytest.mark.parametrize("args", [["--no-such"], ["extra"]])
def test_usage(gpus, args):
    done = gpus(*args, code=2)
    assert args[0] in done.stderr and "lem gpus --help" in done.stderr


def test_help(gpus):
    assert "usage: lem gpus" in gpus("--help").stdout
