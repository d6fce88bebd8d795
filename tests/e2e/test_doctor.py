"""lem doctor as a user runs it: the built program, a fake driver, a container engine on a socket, folders that stand for /proc."""
import http.server
import json
import os
import re
import socket
import socketserver
import threading
import time

import jsonschema
import pytest
from conftest import ASAN, BUILD, QUICK, ROOT

FAKE_NVML = ASAN / "tests/fakes/libnvml_fake.so"
SCHEMA = json.loads((ROOT / "docs/doctor-schema.json").read_text())


class Engine:
    """Answers /_ping, /info, /containers/json and /images/… on a Unix socket; a dict is sent as JSON."""

    def __init__(self, path):
        self.path, self.info, self.image = path, {}, None
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                where = re.sub(r"^/v1\.\d+", "", self.path)
                body, status = {"message": "page not found"}, 404
                if where == "/_ping":
                    body, status = {}, 200
                elif where == "/info":
                    body, status = outer.info, 200
                elif where.startswith("/containers/json"):
                    body, status = [], 200
                elif where.startswith("/images/") and outer.image:
                    body, status = outer.image, 200
                text = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Api-Version", "1.51")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def address_string(self):
                return "socket"

            def log_message(self, *_):
                pass

        class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
            daemon_threads = True

        self.server = Server(str(path), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def engine(tmp_path):
    e = Engine(tmp_path / "d.sock")
    e.info = {"ServerVersion": "28.3.0", "OperatingSystem": "Debian GNU/Linux 12", "DockerRootDir": "/var/lib/docker",
              "CgroupDriver": "systemd", "Runtimes": {"runc": {}}, "CDISpecDirs": ["/etc/cdi"], "SecurityOptions": [],
              "DiscoveredDevices": [{"Source": "cdi", "ID": f"nvidia.com/gpu={uuid}"} for uuid in uuids(2)]}
    yield e
    e.close()


def uuids(n):
    """As tests/fakes gives them to its GPUs."""
    return [f"GPU-{0x1a2b3c40 + i:08x}-fa4e-4000-8000-{0xabcdef + i:012x}" for i in range(n)]


@pytest.fixture
def doctor(lem, tmp_path):
    """Runs lem doctor on a machine of its own: no GPU, no engine, unless the test says otherwise."""
    if not FAKE_NVML.exists():
        pytest.skip(f"{FAKE_NVML} is not built: make test builds it")
    lem.program = str(ASAN / "lem")  # the fake driver is built with the sanitizers and fits no other program
    (tmp_path / "root").mkdir()

    def run(*args, gpus=None, socket_path=None, env=None, **kw):
        machine = {"LEM_DOCTOR_ROOT": str(tmp_path / "root"), "LEM_PLACE_ROOT": str(tmp_path / "root"), "LEM_CDI_DIRS": str(tmp_path / "cdi"),
                   "LEM_SYSFS_ROOT": str(tmp_path / "root/sys"), "DOCKER_HOST": f"unix://{socket_path or tmp_path / 'none.sock'}",
                   "LEM_NVML_LIBRARY": str(FAKE_NVML) if gpus is not None else "/nonexistent/libnvidia-ml.so.1",
                   "LEM_FAKE_NVML": gpus or "", "LEM_CACHE_DIR": str(tmp_path / "cache"), **(env or {})}
        return lem("doctor", *args, env=machine, **kw)

    return run


def document(done):
    d = json.loads(done.stdout)
    jsonschema.validate(d, SCHEMA)
    return d


def checks(done):
    return {(c["group"], c["id"]): c for c in document(done)["checks"]}


def status(done):
    return {c["id"]: c["status"] for c in document(done)["checks"]}


def test_machine_without_gpu_is_well(doctor):
    done = doctor(check=0)
    assert done.stderr == ""
    assert re.match(r"lem \S+ on .+, .+\n\nDriver\n", done.stdout)
    assert "  ·      10 checks                  no NVIDIA GPU in this machine\n" in done.stdout
    assert "none found; engines can only be started as processes" in done.stdout
    assert re.search(r"^no problem found, .*not applicable$", done.stdout, re.M)
    assert "\x1b" not in done.stdout


def test_healthy_machine(doctor, engine):
    done = doctor("--json", gpus="gpus=2;used=1;computemode=0;fabric=3;persistence=1", socket_path=engine.path)
    got = status(done)
    for rule in "R03 R05 R06 R07 R08 R18 R19 R20 R21 R23 R24 R26 R27 R28 R34 R35 R36 R39 R40 R41".split():
        assert got[rule] == "ok", rule
    assert document(done)["host"]


def test_sick_machine(doctor, engine, tmp_path):
    engine.info.update(DiscoveredDevices=[], Runtimes={"runc": {}})
    done = doctor(gpus=f"gpus=2;used=1;used1=41g;procs=1:{os.getpid()}:44023414784;fabric=1;computemode=3;driver=580.159.04",
                  socket_path=engine.path, check=1)
    out = done.stdout
    assert "  ✗ R28  compute mode               exclusive: GPUs 0, 1\n" in out
    assert "         fix: sudo nvidia-smi -c 0\n" in out
    assert "in version 580.159.04 exactly" in re.sub(r"\s+", " ", out)
    assert "GPU 1 has 41.0 of 80.0 GiB in use; free now: GPU 0" in re.sub(r"\s+", " ", out)
    assert f"pid {os.getpid()} (" in out
    assert "  ✗ R20  a way to pass GPUs" in out
    errors, warnings = (int(n) for n in re.search(r"^(\d+) errors, (\d+) warnings", out, re.M).groups())
    assert errors == out.count("  ✗ ") and warnings == out.count("  ! ")
    assert out.count("fix: ") == errors + warnings


def test_ascii_and_no_colour(doctor):
    out = doctor(gpus="gpus=2;computemode=3", env={"LC_ALL": "C"}).stdout
    assert out.isascii()
    assert "  x R28  compute mode" in out and "2 x Fake H100" in out


def test_colour_on_a_terminal_only(doctor, tmp_path):
    import pty
    import subprocess
    main, side = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "LC_ALL": "C.UTF-8", "DOCKER_HOST": f"unix://{tmp_path}/none.sock", "LEM_NVML_LIBRARY": "/nonexistent/x.so",
           "LEM_DOCTOR_ROOT": str(tmp_path)}
    env.pop("NO_COLOR", None)
    p = subprocess.Popen([str(BUILD / "lem"), "doctor"], stdout=side, env=env, cwd=tmp_path)
    os.close(side)
    out = b""
    while True:
        try:
            piece = os.read(main, 65536)
        except OSError:
            break
        if not piece:
            break
        out += piece
    os.close(main)
    p.wait(30)
    assert b"\x1b[32m\xe2\x9c\x93\x1b[0m" in out


def test_driver_that_hangs(doctor):
    t0 = time.monotonic()
    done = doctor("--json", gpus="gpus=2;hang=0ms;hangfor=3600s", check=1, timeout=60)
    assert time.monotonic() - t0 >= 5
    got = checks(done)
    assert got["Driver", "driver-answers"]["status"] == "error"
    assert "within 5 s" in got["Driver", "driver-answers"]["message"]
    assert got["Energy", "energy-gpu"]["status"] == "unknown"
    assert got["GPUs", "gpus"]["value"] == "2 × Fake H100 80GB"


def test_engine_that_hangs(doctor, tmp_path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "hung.sock"))
    listener.listen(8)
    done = doctor("--json", socket_path=tmp_path / "hung.sock", check=1, timeout=60)
    listener.close()
    assert "did not answer within 5 s" in checks(done)["Container engine", "container-engine"]["message"]


def test_engine_socket_without_permission(doctor, engine):
    if os.geteuid() == 0:
        pytest.skip("root may open every socket")
    os.chmod(engine.path, 0)
    got = checks(doctor("--json", socket_path=engine.path, check=1))["Container engine", "container-engine"]
    assert "permission" in got["message"] and "usermod" in got["fix"]


def test_engine_that_is_down(doctor, engine):
    engine.close()
    got = checks(doctor("--json", socket_path=engine.path, check=1))["Container engine", "container-engine"]
    assert got["status"] == "error" and "nobody listens" in got["message"]


def test_files_of_the_toolkit_and_cdi(doctor, engine, tmp_path):
    engine.info.update(CDISpecDirs=[], DiscoveredDevices=[], Runtimes={"nvidia": {}})
    toolkit = tmp_path / "root/etc/nvidia-container-runtime/config.toml"
    toolkit.parent.mkdir(parents=True)
    toolkit.write_text("accept-nvidia-visible-devices-envvar-when-unprivileged = false\n")
    (tmp_path / "cdi").mkdir()
    (tmp_path / "cdi/nvidia.yaml").write_text(
        f'cdiVersion: "0.6.0"\nkind: nvidia.com/gpu\ndevices:\n- name: {uuids(1)[0]}\n  containerEdits:\n    deviceNodes:\n    - path: /dev/gone7\n')
    done = doctor("--json", gpus="gpus=2", socket_path=engine.path, check=1)
    got = checks(done)
    assert got["Container engine", "R03"]["status"] == "error"
    assert "/dev/gone7" in got["Container engine", "R22"]["message"]


def test_rules(doctor):
    out = doctor("r17", check=0).stdout
    assert out.startswith("R17  shared memory is too small for NCCL\n")
    assert "  fix      set docker.shm_size to 8g" in out
    assert "Limits\n" in out and "Driver" not in out
    out = doctor("X03").stdout  # from logs only: nothing to look at
    assert out.startswith("X03  the disk is full\n") and "no problem found" not in out
    d = document(doctor("--json", "R17", "persistence"))
    assert [r["id"] for r in d["rules"]] == ["R17"]
    assert {c["id"] for c in d["checks"]} == {"R17", "persistence"}


def test_list(doctor):
    out = doctor("--list", check=0).stdout
    assert [line.split()[0] for line in out.splitlines() if re.match(r"  [RX]\d\d ", line)][:41] == [f"R{i:02}" for i in range(1, 42)]
    d = document(doctor("--list", "--json", check=0))
    assert d["checks"] == [] and d["host"] is None and len(d["rules"]) > 41
    assert doctor("--list", "--markdown", check=0).stdout == (ROOT / "docs/routing-rules.md").read_text()


@pytest.mark.parametrize("args", [["R99"], ["--list", "R17"], ["--markdown"], ["a.yaml", "b.yaml"], ["--nonsense"], ["nonsense"]])
def test_usage(doctor, args):
    done = doctor(*args, check=2)
    assert done.stdout == "" and done.stderr


CONFIG = QUICK.replace("gpus: []", "gpus: [1]")


def test_configuration(doctor, lem):
    path = lem.config(CONFIG)
    done = doctor("--json", path, gpus="gpus=2;used=1;used0=70g")
    got = checks(done)
    assert got["Configuration", "gpus-chosen"]["value"] == "GPU 1"
    assert got["GPUs", "R26"]["status"] == "ok"  # GPU 0 is nobody's business
    assert got["GPUs", "R40"]["status"] == "not_applicable"


def test_configuration_with_busy_gpu(doctor, lem):
    done = doctor("--json", lem.config(CONFIG), gpus="gpus=2;used=1;used1=70g", check=1)
    got = checks(done)["GPUs", "R26"]
    assert got["status"] == "error" and "free now: GPU 0" in got["message"]


def test_configuration_with_absent_gpu(doctor, lem):
    done = doctor("--json", lem.config(CONFIG), gpus="gpus=1", check=1)
    got = checks(done)["Configuration", "gpus-chosen"]
    assert got["status"] == "error" and got["fix"]


def test_configuration_with_findings(doctor, lem):
    done = doctor("--json", lem.config(CONFIG + "vllm_typo: 1\n"), gpus="gpus=2", check=1)
    found = [c for c in document(done)["checks"] if c["group"] == "Configuration"]
    assert any(c["id"].startswith("C") and c["status"] == "error" for c in found)


VLLM = """
config_name: c
model_name: org/model
backend: vllm
runner: docker
gpus: [0, 1]
prompts: {type: synthetic, count: 8, input_tokens: 32}
vllm: {tensor_parallel_size: 2}
docker: {image: "own/image:v1"}
"""


def test_image_of_a_configuration(doctor, lem, engine):
    engine.image = {"Id": "sha256:1", "Architecture": "s390x", "Os": "linux", "Config": {"Env": ["CUDA_VERSION=14.1.0"]}}
    done = doctor("--json", lem.config(VLLM), gpus="gpus=2;used=1;cuda=13000", socket_path=engine.path, check=1)
    got = checks(done)
    assert got["Configuration", "image"]["value"] == "own/image:v1"
    assert got["Configuration", "X04"]["status"] == "error" and "s390x" in got["Configuration", "X04"]["message"]
    assert got["Configuration", "R25"]["status"] == "error"
    assert "needs CUDA 14.1, the driver offers 13.0" in got["Configuration", "R25"]["message"]
    engine.image = None
    got = checks(doctor("--json", lem.config(VLLM), gpus="gpus=2;used=1", socket_path=engine.path))
    assert got["Configuration", "image"]["status"] == "not_applicable"
    assert ("Configuration", "R25") not in got


def test_configuration_that_is_not_there(doctor):
    done = doctor("missing.yaml", check=1)
    assert "missing.yaml" in done.stdout
