"""lem-gpuprobe as a file that must run in other people's images, and, where there are GPUs, before the real driver."""
import json
import os
import platform
import re
import shutil
import subprocess

import pytest

from conftest import ASAN, BUILD

# The newest glibc that it may ask for: 2.17, CentOS 7's; machines that glibc did not know yet begin with a newer one.
NEWEST_GLIBC = (2, 17)


def read_elf(path, *options):
    if not shutil.which("readelf"):
        pytest.skip("readelf is not installed (binutils)")
    return subprocess.run(["readelf", "-W", *options, path], text=True, capture_output=True, check=True).stdout


@pytest.fixture(params=[BUILD, ASAN], ids=["release", "sanitized"])
def probe(request):
    path = request.param / "lem-gpuprobe"
    if not path.exists():
        pytest.skip(f"{path} is not built")
    return path


def test_needs_no_new_glibc(probe):
    if platform.machine() not in ("x86_64", "aarch64", "ppc64le"):
        pytest.skip(f"no old symbol versions are known for {platform.machine()}")
    needed = re.findall(r"\bGLIBC_([\w.]+)", read_elf(probe, "--version-info", "--dyn-syms"))
    assert needed and all(re.fullmatch(r"[\d.]+", v) for v in needed), needed  # no GLIBC_ABI_…, no GLIBC_PRIVATE
    assert max(tuple(map(int, v.split("."))) for v in needed) <= NEWEST_GLIBC


def test_needs_libc_alone(probe):
    libraries = set(re.findall(r"\(NEEDED\).*\[(.*?)\]", read_elf(probe, "--dynamic")))
    assert "libc.so.6" in libraries  # dynamic: libcuda wants the image's glibc
    assert libraries <= {"libc.so.6", "libdl.so.2", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}


def test_is_stripped_and_small(probe):
    sections = read_elf(probe, "--sections")
    assert ".symtab" not in sections and ".debug_info" not in sections
    assert probe.stat().st_size < 100_000
    assert not re.search("asan|ubsan|gcov|sanitizer", read_elf(probe, "--dyn-syms"))


def test_runs_without_a_driver(probe, tmp_path):
    done = subprocess.run([probe], text=True, capture_output=True, timeout=60, cwd="/",
                          env={"LEM_CUDA_LIBRARY": str(tmp_path / "libcuda.so.1")})
    assert done.returncode == 1 and done.stderr == ""
    said = json.loads(done.stdout)
    assert said["lem_gpuprobe"] == 1 and said["status"] == -1 and "libcuda.so.1" in said["error"]


# ---- before the real driver: the table of facts about CUDA_VISIBLE_DEVICES that the fake driver keeps to ----

def see(visible, fake=None, **env):
    """The UUIDs in CUDA's order, or CUDA's status."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("CUDA_", "LEM_"))}
    if visible is not None:
        clean["CUDA_VISIBLE_DEVICES"] = visible
    if fake:
        clean |= {"LEM_CUDA_LIBRARY": str(ASAN / "tests" / "fakes" / "libcuda_fake.so"), "LEM_FAKE_CUDA": fake}
    done = subprocess.run([BUILD / "lem-gpuprobe"], text=True, capture_output=True, timeout=120, env={**clean, **env})
    said = json.loads(done.stdout)
    return [d["uuid"] for d in said["devices"]] if "devices" in said else said["status"]


@pytest.fixture(scope="module")
def real():
    if not (BUILD / "lem-gpuprobe").exists():
        pytest.skip(f"{BUILD}/lem-gpuprobe is not built")
    uuids = see(None, CUDA_DEVICE_ORDER="PCI_BUS_ID")
    if not isinstance(uuids, list):
        pytest.skip(f"no GPU here: the CUDA driver's status is {uuids}")
    if any(u.startswith("MIG-") for u in uuids):
        pytest.skip("the GPUs are cut by MIG")
    return uuids


VALUES = [None, "", "0", "1", "1,0", "0,0", "0,0,5", "0,5,0", "1,1,0", "0,5,1", "0,99,1", "-1", "0,-1,1", "all", "none", "void",
          "NoDevFiles", "abc", ",1", " 1, 0", "1 ,0", "1abc", "1abc,0", "01", "0x1", "0 1", "0;1", "{a}", "{a},{a}", "{b},{a}",
          "{A}", "{a_bare}", "GPU-", "{a},0", "0,{a}", "{a},GPU-00000000-0000-0000-0000-000000000000,{b}",
          "MIG-00000000-0000-0000-0000-000000000000"]


def test_fake_driver_is_like_the_real_one(real):
    if not (ASAN / "tests" / "fakes" / "libcuda_fake.so").exists():
        pytest.skip("libcuda_fake.so is not built")
    a, b = real[0], real[1] if len(real) > 1 else "GPU-11111111-0000-4000-8000-000000000000"
    script = f"gpus={len(real)};dev=*" + "".join(f";uuid={i}:{uuid}" for i, uuid in enumerate(real))
    other = {}
    for value in VALUES:
        if value is not None:
            value = value.format(a=a, b=b, A="GPU-" + a[4:].upper(), a_bare=a[4:])
        true, faked = see(value, CUDA_DEVICE_ORDER="PCI_BUS_ID"), see(value, script, CUDA_DEVICE_ORDER="PCI_BUS_ID")
        if true != faked:
            other[value] = f"the driver: {true}, the fake: {faked}"
    assert other == {}
