"""lem bench client as a user runs it. Figures are not judged here (bench/load does): they must be there and make sense."""
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import subprocess

from conftest import BUILD

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_json_is_complete(lem):
    r = lem("bench", "client", "--json", "--rate", "500")
    assert r.returncode == 0, r.stderr
    d = json.loads(r.stdout)
    assert d["schema"] == "lem.client/1"
    assert d["burst_32"]["requests"] == 20000 and d["burst_32"]["chunks"] == 640000
    assert d["burst_512"]["chunks"] == 512 * d["burst_512"]["requests"]
    assert d["burst_32"]["requests_per_cpu_s"] > 0 and d["burst_512"]["chunks_per_cpu_s"] > 0
    assert d["thread"] in ("ordinary", "nice", "realtime")
    o, s = d["open_loop"], d["self_measurement"]
    assert o["rate_hz"] == 500 and o["requests"] == 500 == o["lag_us"]["n"]
    assert 0 <= o["lag_us"]["p50"] <= o["lag_us"]["p99"] <= o["lag_us"]["max"]
    assert 0 <= o["busy"] <= 1.05
    assert s["stamp_error_us"]["n"] == 256 * 50 and s["itl_error_us"]["n"] == 256 * 49
    assert 0 <= s["stamp_error_us"]["p50"] < 1e6
    assert 0 < s["kernel_stamps"] <= 1


def test_text_and_usage(lem):
    r = lem("bench", "client", "--rate", "200")
    assert r.returncode == 0, r.stderr
    assert "requests per CPU-second" in r.stdout and "200 requests per second" in r.stdout
    assert lem("bench", "--help").returncode == 0
    for wrong in (["bench"], ["bench", "server"], ["bench", "client", "--rate", "0"], ["bench", "client", "--rate", "many"],
                  ["bench", "client", "twice"], ["bench", "--what"]):
        r = lem(*wrong)
        assert r.returncode == 2 and r.stderr and not r.stdout, wrong


def script(name):
    """A program of bench/ as a module; its main is not run."""
    path = str(ROOT / "bench" / name)
    spec = importlib.util.spec_from_loader(name, importlib.machinery.SourceFileLoader(name, path))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_lateness_against_the_grid():
    """bench/peers: the most punctual request sets the grid, whatever the clock, in whatever order rows come."""
    lags = script("peers").lags
    rows = [(1000 + k / 10 + late, 0, 0, 0) for k, late in enumerate([0.002, 0.0, 0.001, 0.5])]
    assert [round(x, 6) for x in lags(rows[::-1], 10)] == [2, 0, 1, 500]
    assert lags([(5.0, 0, 0, 0)], 100) == [0]
    peers = script("peers")
    assert (peers.rank([3, 1, 2], 50), peers.rank([3, 1, 2], 99), peers.rank([7], 1)) == (2, 3, 7)


def test_unknown_cases_are_refused():
    for name in ("peers", "load"):
        done = subprocess.run([ROOT / "bench" / name, "nonsense"], capture_output=True, text=True, env=dict(os.environ, LEM_BUILD=BUILD))
        assert done.returncode == 2 and "nonsense" in done.stderr and not done.stdout


def test_bench_load_judges_alone():
    """Every bar is printed with its word; what cannot run here is told, not failed."""
    program = os.path.join(BUILD, "bench", "bench_load")
    done = subprocess.run([program, "judge", "stall"], capture_output=True, text=True, timeout=120)
    line = done.stdout.splitlines()[0]
    assert line.startswith("load 2 s stall in p99 from schedule: ") and "(bar 2000)" in line
    assert (done.returncode == 0) == line.endswith(" ok")
    assert subprocess.run([program, "judge", "nonsense"], capture_output=True, timeout=60).returncode == 1
    short = subprocess.run(["sh", "-c", f"ulimit -n 1000 && exec {program} judge memory100k"], capture_output=True, text=True, timeout=60)
    assert short.returncode == 77 and "RLIMIT_NOFILE allows 1000" in short.stdout
