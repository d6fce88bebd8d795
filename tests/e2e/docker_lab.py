"""A real Docker Engine for tests (tools/test-docker), GPUs that are device nodes only, images made of this machine's files.

Fake GPU i of n is what tests/fakes/fake_gpus.h says: the UUID below, and the device node /dev/nvidia(n-1-i), so that neither
order nor number can be right by luck. All nodes are /dev/null under other names, in a folder of their own.
"""
import contextlib
import hashlib
import http.client
import io
import json
import os
import pathlib
import re
import socket
import stat
import subprocess
import sys
import tarfile
import tempfile
import urllib.parse

N_GPUS = 9  # odd, so that no pair of numbers is the mirror image of itself in the minor numbers
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TOOL = ROOT / "tools" / "test-docker"
LIB = "/usr/lib/x86_64-linux-gnu" if os.uname().machine == "x86_64" else f"/usr/lib/{os.uname().machine}-linux-gnu"
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
OTHER_ARCH = "arm64" if ARCH == "amd64" else "amd64"


class Unavailable(Exception):
    """No engine can be had here; the text is the reason, for pytest.skip."""


class ApiError(Exception):
    def __init__(self, status, text):
        super().__init__(f"HTTP {status}: {text}")
        self.status = status


def uuid(i):
    return f"GPU-{0x1a2b3c40 + i:08x}-fa4e-4000-8000-{0xabcdef + i:012x}"


def cdi_name(i):
    return "nvidia.com/gpu=" + uuid(i)


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout=60):
        super().__init__("docker", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def frames(data):
    """stdout and stderr of what the engine multiplexes in frames of an 8-byte header."""
    out = {0: b"", 1: b"", 2: b""}
    while len(data) >= 8:
        n = int.from_bytes(data[4:8], "big")
        out[data[0]] += data[8:8 + n]
        data = data[8 + n:]
    return out[1].decode(), out[2].decode()


class Engine:
    """The daemon in a folder of its own; start() may be called again after it has died."""

    def __init__(self, folder):
        self.dir = pathlib.Path(folder)
        self.socket = str(self.dir / "docker.sock")
        self.host = "unix://" + self.socket
        self.spec = self.dir / "cdi" / "nvidia.json"
        self.jit_spec = self.dir / "jit" / "nvidia.json"
        self.n_gpus = 0

    # -- life

    def start(self):
        done = subprocess.run([TOOL, "start", self.dir], text=True, capture_output=True, timeout=300)
        if done.returncode:
            raise Unavailable("no Docker Engine: " + next((line for line in done.stderr.splitlines() if line.startswith("test-docker: ") and "fetching" not in line), done.stderr))
        return self

    def stop(self):
        subprocess.run([TOOL, "stop", self.dir], check=True, timeout=60)

    @property
    def pid(self):
        return int((self.dir / "pid").read_text())

    @staticmethod
    def bin():
        done = subprocess.run([TOOL, "fetch"], text=True, capture_output=True, timeout=300)
        if done.returncode:
            raise Unavailable(done.stderr.strip().splitlines()[-1])
        return pathlib.Path(done.stdout.strip())

    # -- GPUs

    def make_gpus(self, n, libraries=()):
        """n device nodes and their specification, before start(). libraries: (host file, path inside) that every container
        with a GPU gets, as the toolkit mounts the driver's."""
        self.n_gpus = n
        for folder in ("dev", "cdi", "jit", "driver"):
            (self.dir / folder).mkdir(parents=True, exist_ok=True)
        for name in [f"nvidia{m}" for m in range(n)] + ["nvidiactl", "nvidia-uvm"]:
            node = self.dir / "dev" / name
            if not node.exists():
                os.mknod(node, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
                node.chmod(0o666)
        described = self.dir / "driver" / "lem-fake-cuda"
        described.write_text(f"gpus={n}\n")

        def node(name):
            return {"path": f"/dev/{name}", "hostPath": str(self.dir / "dev" / name)}

        mounts = [{"hostPath": str(host), "containerPath": inside, "options": ["ro", "nosuid", "nodev", "bind"]}
                  for host, inside in [(described, "/etc/lem-fake-cuda"), *libraries]]
        spec = {"cdiVersion": "0.6.0", "kind": "nvidia.com/gpu",
                "devices": [{"name": uuid(i), "containerEdits": {"deviceNodes": [node(f"nvidia{n - 1 - i}")]}} for i in range(n)],
                "containerEdits": {"env": ["NVIDIA_VISIBLE_DEVICES=void"], "deviceNodes": [node("nvidiactl"), node("nvidia-uvm")], "mounts": mounts}}
        self.jit_spec.write_text(json.dumps(spec))
        self.spec.write_text(json.dumps(spec))
        runtime = self.dir / "nvidia-runtime"
        runtime.write_text(f"#!/bin/sh\nrunc={self.dir}/bin/runc\n[ -x $runc ] || runc={self.bin()}/runc\n"
                           "case \" $* \" in *' create '*|*' run '*) ;; *) exec $runc \"$@\" ;; esac\n"
                           f"exec {sys.executable} -IS {ROOT}/tests/fakes/nvidia_runtime.py {self.jit_spec} $runc \"$@\"\n")
        runtime.chmod(0o755)

    @contextlib.contextmanager
    def without_cdi(self):
        """No CDI specification for a while: only the runtime named nvidia is left."""
        aside = self.spec.with_suffix(".aside")
        self.spec.rename(aside)
        try:
            yield
        finally:
            aside.rename(self.spec)

    # -- API

    def call(self, method, path, body=None, headers=None, ok=(200, 201, 204, 304)):
        c = UnixConnection(self.socket)
        try:
            if isinstance(body, (dict, list)):
                body, headers = json.dumps(body), {"Content-Type": "application/json"}
            c.request(method, "/v1.43" + path, body=body, headers=headers or {})
            r = c.getresponse()
            data = r.read()
            if r.status not in ok:
                text = data.decode(errors="replace")
                with contextlib.suppress(ValueError):
                    text = json.loads(text)["message"]
                raise ApiError(r.status, text)
            if r.getheader("Content-Type", "").startswith("application/json"):
                return [json.loads(line) for line in data.splitlines() if line] if path.startswith("/images/create") else json.loads(data or b"null")
            return data
        finally:
            c.close()

    def create(self, image, cmd, env=(), gpus=None, name=None, **more):
        """gpus: fake GPU numbers, asked for by CDI name. more: fields of HostConfig."""
        host = {"NetworkMode": "none", **more}
        if gpus is not None:
            host["DeviceRequests"] = [{"Driver": "cdi", "DeviceIDs": [g if isinstance(g, str) else cdi_name(g) for g in gpus]}]
        query = "?name=" + name if name else ""
        return self.call("POST", "/containers/create" + query, {"Image": image, "Cmd": cmd, "Env": list(env), "HostConfig": host,
                                                                 "Labels": {"lem-test": "1"}})["Id"]

    def run(self, image, cmd, **kw):
        """Runs to the end: (exit code, stdout, stderr). The container is removed whatever happens."""
        c = self.create(image, cmd, **kw)
        try:
            self.call("POST", f"/containers/{c}/start")
            code = self.call("POST", f"/containers/{c}/wait")["StatusCode"]
            return (code, *frames(self.call("GET", f"/containers/{c}/logs?stdout=1&stderr=1")))
        finally:
            self.call("DELETE", f"/containers/{c}?force=1&v=1")

    def inspect(self, c):
        return self.call("GET", f"/containers/{c}/json")

    def containers(self, label="lem=1"):
        return self.call("GET", "/containers/json?all=1&filters=" + urllib.parse.quote(json.dumps({"label": [label]})))

    def remove_all(self, label="lem=1"):
        for c in self.containers(label):
            with contextlib.suppress(ApiError):
                self.call("DELETE", f"/containers/{c['Id']}?force=1&v=1")

    def import_image(self, tag, tar, changes=(), arch=None):
        query = [("fromSrc", "-"), ("repo", "lem-test"), ("tag", tag), *(("changes", c) for c in changes)]
        if arch:
            query.append(("platform", "linux/" + arch))
        answer = self.call("POST", "/images/create?" + urllib.parse.urlencode(query), body=tar, headers={"Content-Type": "application/x-tar"})
        failed = [line for line in answer if "error" in line]
        assert not failed, failed
        return "lem-test:" + tag


# -- images

def needed_libraries(programs):
    """Paths of the loader and of all shared libraries that the programs load."""
    found = set()
    for program in programs:
        out = subprocess.run(["ldd", program], text=True, capture_output=True).stdout
        found |= set(re.findall(r"(?:=> )?(/\S+) \(0x", out))
    return sorted(found)


def image_tar(programs=(), files=(), libraries_of=()):
    """A root folder as a tar: programs under /bin, files as (path inside, bytes, mode), and what they all need to be loaded."""
    programs = [str(p) for p in programs]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder in ("bin", "dev", "etc", "lib64", "proc", "sys", "tmp", "root", "usr", "usr/lib", LIB[1:]):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            tar.addfile(entry)

        def add(inside, data, mode):
            entry = tarfile.TarInfo(inside.lstrip("/"))
            entry.size, entry.mode = len(data), mode
            tar.addfile(entry, io.BytesIO(data))

        for program in programs:
            add("/bin/" + os.path.basename(program), pathlib.Path(os.path.realpath(program)).read_bytes(), 0o755)
        for library in needed_libraries([*programs, *map(str, libraries_of)]):
            inside = library if library.startswith("/lib64/") or "/ld-linux" in library else f"{LIB}/{os.path.basename(library)}"
            add(inside, pathlib.Path(os.path.realpath(library)).read_bytes(), 0o755)
        add("/etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n", 0o644)
        for inside, data, mode in files:
            add(inside, data, mode)
    return buffer.getvalue()


def which(name):
    for folder in ("/usr/bin", "/bin"):
        if os.path.exists(f"{folder}/{name}"):
            return f"{folder}/{name}"
    raise Unavailable(f"{name} is not on this machine")


def make_images(engine, programs):
    """All images of the tests; programs: those whose libraries they must hold."""
    # dash, not whatever sh is: two libraries are enough for it
    shell = image_tar([which(p) for p in ("dash", "sleep", "cat", "env", "ls")], [("/bin/sh", pathlib.Path(which("dash")).read_bytes(), 0o755)], programs)
    bare = image_tar(libraries_of=programs)
    stubborn = b"#!/bin/sh\ntrap '' TERM\necho ignoring SIGTERM\nwhile :; do sleep 1; done\n"
    failing = b"#!/bin/sh\necho 'engine: cannot go on: no such model' >&2\nexit 7\n"
    with_scripts = image_tar([which(p) for p in ("dash", "sleep", "cat")],
                             [("/bin/sh", pathlib.Path(which("dash")).read_bytes(), 0o755), ("/bin/stubborn", stubborn, 0o755),
                              ("/bin/failing", failing, 0o755)], programs)
    return {
        "shell": engine.import_image("shell", shell),
        "bare": engine.import_image("bare", bare),
        "other-arch": engine.import_image("other-arch", bare, arch=OTHER_ARCH),
        "exits": engine.import_image("exits", with_scripts, ['ENTRYPOINT ["/bin/failing"]']),
        "stubborn": engine.import_image("stubborn", with_scripts, ['ENTRYPOINT ["/bin/stubborn"]']),
    }


def folder_for(name):
    """One for this checkout: what a killed test run left is found and stopped by the next."""
    key = hashlib.sha256(f"{ROOT} {name}".encode()).hexdigest()[:8]
    return pathlib.Path(tempfile.gettempdir()) / f"lem-test-{name}-{key}"
