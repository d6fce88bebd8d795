"""lem bench client as a user runs it. Figures are not judged here (bench/load does): they must be there and make sense."""
import json


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
