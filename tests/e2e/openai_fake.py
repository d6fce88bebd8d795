"""A scripted OpenAI server (tests/fakes/openai_server.py) for the length of a with block."""
import subprocess
import sys
import time

from conftest import ROOT

PROGRAM = ROOT / "tests" / "fakes" / "openai_server.py"


class Fake:
    def __init__(self, folder, *args):
        self.port_file = folder / "port"
        self.log = open(folder / "server.log", "wb")
        self.args = [sys.executable, str(PROGRAM), "--port-file", str(self.port_file), *map(str, args)]

    def __enter__(self):
        self.port_file.unlink(missing_ok=True)
        self.process = subprocess.Popen(self.args, stdout=self.log, stderr=self.log)
        end = time.time() + 20
        while not self.port_file.exists():
            assert self.process.poll() is None and time.time() < end, "the fake server did not start"
            time.sleep(0.02)
        self.port = int(self.port_file.read_text())
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.log.close()
