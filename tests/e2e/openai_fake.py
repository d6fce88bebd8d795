"""A scripted OpenAI server (tests/fakes/openai_server.py) for the length of a with block."""
import subprocess
import sys
import time

from conftest import ROOT

PROGRAM = ROOT / "tests" / "fakes" / "openai_server.py"


def certificate(folder, name="127.0.0.1", days=1, ca=None):
    """PEM files: a CA's (ca None), or key and certificate of a server that it signed for a name; days -1 has expired."""
    folder.mkdir(exist_ok=True)
    key, out = folder / "key.pem", folder / "cert.pem"

    def openssl(*args):
        subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True, cwd=folder)

    if ca is None:
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", 2, "-subj", "/CN=lem tests", "-keyout", key, "-out", out)
        return out
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", key, "-out", "request.pem")
    kind = "IP" if name.replace(".", "").isdigit() else "DNS"
    (folder / "ext").write_text(f"subjectAltName={kind}:{name}\n")
    openssl("x509", "-req", "-in", "request.pem", "-days", days, "-CA", ca, "-CAkey", ca.parent / "key.pem", "-CAcreateserial", "-extfile", "ext", "-out", out)
    both = folder / "both.pem"
    both.write_text(key.read_text() + out.read_text())
    return both


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
