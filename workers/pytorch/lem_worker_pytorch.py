#!/usr/bin/env python3
"""A worker of lem (workers/PROTOCOL.md) on PyTorch and Transformers.

It loads a causal language model, computes batches and says when each step ended; it works out no result.
With tensor parallelism and with data parallel replicas it starts the other processes itself: each is this program again,
and rank r of replica i uses the (i × tensor_parallel_size + r)-th visible GPU, so that CUDA_VISIBLE_DEVICES decides which
GPU is which. All get their requests on standard input. Ranks compute in step with rank 0 of their replica; only the first
process of all, the spokesman, speaks to lem, and hands on what the first ranks of the other replicas report.
Needs Python 3.10, torch and transformers; bitsandbytes and accelerate for the options that are about them.
"""
import gc
import json
import os
import queue
import subprocess
import sys
import threading
import time
import traceback
from datetime import timedelta

sys.dont_write_bytecode = True  # nothing is left beside lem

from lem_pytorch import batches
from lem_pytorch.choose import read_sampling
from lem_pytorch.decode import Decoder
from lem_pytorch.model import Engine, import_libraries
from lem_pytorch.options import Options
from lem_pytorch.wire import LINE_MAX, Output, Refused, die_with_parent, field, how_it_ended, one_of

FLUSH_NS = 200_000_000
DEATH_PATIENCE_S = 0.5  # in which the deaths that follow from one are seen
READ_BYTES = 1 << 20


class Request:
    def __init__(self, obj, worker, max_input):
        self.id = field(obj, "id", int, low=0)
        self.max_out = field(obj, "max_output_tokens", int, low=1)
        self.min_out = field(obj, "min_output_tokens", int, 0, 0, self.max_out)
        if (obj.get("text") is None) == (obj.get("tokens") is None):
            raise Refused("bad_request", "a request has either text or tokens")
        tokens = worker.tokenize(field(obj, "text", str)) if obj.get("tokens") is None else field(obj, "tokens", list)
        n_vocab, max_total = worker.engine.n_vocab, worker.o.max_total
        if not all(isinstance(t, int) and not isinstance(t, bool) and 0 <= t < n_vocab for t in tokens):
            raise Refused("bad_request", f"request {self.id}: tokens must be from 0 to {n_vocab - 1}")
        if not tokens:
            raise Refused("bad_request", f"request {self.id} is empty")
        self.truncated = len(tokens) > max_input
        self.tokens = tokens[:max_input]
        if len(self.tokens) + self.max_out > max_total:
            raise Refused("context_full", f"request {self.id} needs {len(self.tokens) + self.max_out} tokens, "
                          f"the model was loaded for {max_total}")
        self.out, self.finish = [], ""

    def wire(self):
        """For the other processes, which neither tokenize nor check."""
        return {"id": self.id, "tokens": self.tokens, "max_output_tokens": self.max_out,
                "min_output_tokens": self.min_out}

    def result(self, tokenizer):
        r = {"id": self.id, "input_tokens": len(self.tokens), "output_tokens": len(self.out), "finish": self.finish,
             "truncated": self.truncated}
        if tokenizer is not None:
            # a NUL, which tokens of bytes can make, is nothing that a C program takes in a text
            r["text"] = tokenizer.decode(self.out, skip_special_tokens=True).replace("\0", "\ufffd")
        return r


class Family:
    """The other processes, as the spokesman sees them. One that ends leaves the others waiting for it for ever, so all
    end, with the reason of the first."""

    def __init__(self, worker):
        self.worker, self.o, self.store = worker, worker.o, worker.store
        self.children, self.dead, self.lock = {}, {}, threading.Lock()
        self.answers = queue.Queue()  # what ends the run of a replica

    def start(self):
        for place in range(1, self.o.tp * self.o.replicas):
            speaks = place % self.o.tp == 0
            child = subprocess.Popen([sys.executable, os.path.abspath(sys.argv[0]), "--rank", str(place), str(self.store.port),
                                      str(int(speaks))], stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE if speaks else subprocess.DEVNULL)
            self.children[place] = child
            threading.Thread(target=self.watch, args=(place, child), daemon=True).start()
            if speaks:
                threading.Thread(target=self.listen, args=(child,), daemon=True).start()

    def name(self, place):
        replica, rank = divmod(place, self.o.tp)
        if self.o.replicas == 1:
            return f"rank {rank}"
        return f"replica {replica}" + (f", its rank {rank}," if self.o.tp > 1 else "")

    def watch(self, place, child):
        self.dead[place] = child.wait()
        if not self.worker.stopping:
            time.sleep(DEATH_PATIENCE_S)
            self.worker.fail("internal", "a process of the worker is gone", own=False)

    def reason(self):
        """Why a process is gone, of several the one that was killed: the others only lost it. (killed, code, text), or
        None when all are there."""
        for place, status in sorted(self.dead.items(), key=lambda d: (d[1] >= 0, d[0])):
            code, text = "internal", f"{self.name(place)} {how_it_ended(status)}"
            try:
                if status >= 0 and self.store.check([f"error{place}"]):
                    code, _, why = self.store.get(f"error{place}").decode().partition(": ")
                    text += ": " + why
            except Exception:  # the store is gone as well
                pass
            return status < 0, code, text
        return None

    def listen(self, child):
        """Steps go on to lem as they are; the rest is for the main thread."""
        rest, fd = b"", child.stdout.fileno()
        while chunk := os.read(fd, READ_BYTES):
            whole, _, rest = (rest + chunk).rpartition(b"\n")
            lines = whole.split(b"\n") if whole else []
            steps = [line for line in lines if line.startswith(b'{"event":"tokens"')]
            if steps:
                self.worker.output.lines(b"\n".join(steps) + b"\n")
            for line in lines:
                if not line.startswith(b'{"event":"tokens"'):
                    self.answers.put(json.loads(line))

    def tell(self, obj, replicas=None):
        """To all ranks of the replicas (default all)."""
        line = json.dumps(obj).encode() + b"\n"
        for place, child in self.children.items():
            if replicas is None or place // self.o.tp in replicas:
                child.stdin.write(line)
                child.stdin.flush()

    def end(self):
        for child in self.children.values():
            child.stdin.close()
        deadline = time.monotonic() + 2
        for child in self.children.values():
            try:
                child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()


class Worker:
    def __init__(self, place, port, speaks):
        self.place, self.port = place, port
        self.output = Output(speaks)
        self.o = self.engine = self.store = self.family = None
        self.stopping = False
        self.failing = threading.Lock()

    # ---- places

    def take_place(self):
        """Which replica and rank this process is; the store through which all find each other (on a port that the kernel
        chooses), and one process group for each replica: NCCL between GPUs, gloo between CPUs."""
        o, dist = self.o, self.torch.distributed
        self.replica, self.rank = divmod(self.place, o.tp)
        world = o.tp * o.replicas
        if world == 1:
            return
        self.store = dist.TCPStore("127.0.0.1", self.port, None, is_master=self.place == 0, wait_for_workers=False,
                                   timeout=timedelta(days=1))  # how long a load may take is lem's affair

    def join(self):
        o, torch, env = self.o, self.torch, os.environ
        if o.tp == 1:
            return
        env.update(RANK=str(self.rank), LOCAL_RANK=str(self.place), WORLD_SIZE=str(o.tp), MASTER_ADDR="127.0.0.1",
                   MASTER_PORT=str(self.store.port))
        cuda = self.device.type == "cuda"
        # ranks wait for requests between collectives, not in them, so a collective is never long idle
        torch.distributed.init_process_group("nccl" if cuda else "gloo", rank=self.rank, world_size=o.tp,
                                             store=torch.distributed.PrefixStore(f"replica{self.replica}", self.store),
                                             timeout=timedelta(minutes=30), device_id=self.device if cuda else None)

    def find_device(self):
        cuda, needed = self.torch.cuda, self.o.tp * self.o.replicas
        if self.o.device == "cpu":
            self.device = self.torch.device("cpu")
            return
        n = cuda.device_count() if cuda.is_available() else 0
        if n < needed:  # never the CPU instead
            raise Refused("model_load", f"{needed} GPUs are needed, PyTorch {self.torch.__version__} sees {n}")
        self.device = self.torch.device("cuda", self.place)
        cuda.set_device(self.device)

    def fail(self, code, message, run=None, own=True):
        """The end of this process, and so of all. own: the error is not what another process leaves behind that is gone;
        the spokesman looks whether one is."""
        with self.failing:
            self.stopping = True
            if self.family:
                time.sleep(DEATH_PATIENCE_S)
                gone = self.family.reason()
                if gone and (gone[0] or not own):
                    code, message = gone[1:]
            elif self.place and self.store is not None:
                try:
                    self.store.set(f"error{self.place}", f"{code}: {message}"[:2000])
                except Exception:
                    pass
            if not self.place:
                self.output.error(code, message[:2000], True, run)
            for child in self.family.children.values() if self.family else ():
                child.kill()
            os._exit(1)

    # ---- load

    def load(self, req):
        t_start = time.monotonic_ns()
        if self.engine is not None:
            raise Refused("bad_request", "a model is already loaded")
        self.o = o = Options(req)
        self.torch, hf = import_libraries()
        self.take_place()
        if o.threads:
            self.torch.set_num_threads(max(1, o.threads // (o.tp * o.replicas)))
        self.find_device()
        if self.store is not None and self.place == 0:
            self.family = Family(self)
            self.family.start()
            self.family.tell(req)
        self.join()
        self.engine = Engine(self.torch, hf, o, self.device)
        self.engine.load()
        self.find_tokenizer(hf)
        self.try_out()
        self.tell_loaded(t_start, hf)

    def find_tokenizer(self, hf):
        if self.rank or self.o.path.endswith(".json"):
            return
        try:
            self.engine.tokenizer = hf.AutoTokenizer.from_pretrained(self.o.path, trust_remote_code=self.o.trust,
                                                                     **self.o.place())
        except Exception as e:  # a model without one is measured with token ids
            print(f"no tokenizer: {e}", file=sys.stderr)

    def tokenize(self, text):
        if self.engine.tokenizer is None:
            raise Refused("no_tokenizer", "the model has no tokenizer; send tokens")
        return self.engine.tokenizer(text)["input_ids"]

    def try_out(self):
        """A full batch of a few tokens, where only a run shows whether an option is in force; what is compiled for it belongs
        to the loading."""
        o, t_start = self.o, time.monotonic_ns()
        if not (o.compile or o.cache or not o.use_cache or o.assistant or o.beams > 1 or o.extra_generate):
            self.engine.in_force["cache"] = {"kind": "dynamic"}
            return
        sampling = read_sampling({"temperature": 1.0 if any(k.endswith(("_p", "_cutoff")) for k in o.extra_generate) else 0.0})
        out = min(6, o.max_total - 1)
        requests = [Request({"id": i, "tokens": [1], "max_output_tokens": out, "min_output_tokens": out}, self, 1)
                    for i in range(o.batch)]
        Decoder(self.engine, sampling, lambda *step: None, {}).batch(requests)
        if o.compile:
            self.engine.check_compiled(t_start)

    def describe_devices(self):
        if self.device.type == "cpu":
            return [{"name": "CPU", "uuid": None}]
        known = []
        for device in self.engine.devices():
            p = self.torch.cuda.get_device_properties(device)
            uuid = str(p.uuid)
            known.append({"name": p.name, "uuid": uuid if uuid.startswith(("GPU-", "MIG-")) else "GPU-" + uuid})
        return known

    def devices(self):
        """In the order of replicas and ranks; through the store, so that no collective is needed, and all have loaded."""
        if self.store is None:
            return self.describe_devices()
        self.store.set(f"device{self.place}", json.dumps(self.describe_devices()))
        if self.place:
            return []
        return [d for p in range(self.o.tp * self.o.replicas) for d in json.loads(self.store.get(f"device{p}"))]

    def options_in_force(self):
        o, torch, attention = self.o, self.torch, self.engine.model.config._attn_implementation
        options = {"device": self.device.type, "dtype": o.dtype, "attn_implementation": attention, "num_processes": o.replicas,
                   "tensor_parallel_size": o.tp, "batch_size": o.batch,
                   "batching_strategy": o.strategy, "max_total_tokens": o.max_total, "threads": torch.get_num_threads(),
                   "trust_remote_code": o.trust, "use_cache": o.use_cache, **self.engine.in_force}
        if o.strategy.endswith("dynamic"):
            options["max_tokens_per_batch"] = o.max_batch_tokens
        if o.beams > 1:
            options["beam_search"] = {"num_beams": o.beams, "length_penalty": o.length_penalty,
                                      "early_stopping": o.early_stopping}
        given = {"no_repeat_ngram_size": o.ngram, "extra_load": sorted(o.extra_load), "extra_generate": o.extra_generate}
        return {**options, **{k: v for k, v in given.items() if v}}

    def tell_loaded(self, t_start, hf):
        self.engine.synchronize()
        devices = self.devices()
        if self.place:
            return
        o, model = self.o, self.engine.model
        c = model.config.get_text_config()
        n = lambda *names: next((getattr(c, k) for k in names if isinstance(getattr(c, k, None), int)), 0)
        heads, params = n("num_attention_heads", "n_head"), list(model.parameters())
        own = [p for name, p in model.named_parameters() if ".lora_" not in name]
        cuda = self.torch.version.cuda if self.device.type == "cuda" else None
        self.output.event({
            "event": "loaded", "protocol": 1, "t_start_ns": t_start, "t_ns": time.monotonic_ns(),
            "engine": {"name": "transformers", "version": hf.__version__, "build": f"torch {self.torch.__version__}",
                       "system_info": f"Python {sys.version.split()[0]}, CUDA {cuda or 'not used'}",
                       "options": self.options_in_force()},
            "model": {"architecture": c.model_type, "name": os.path.basename(o.path.rstrip("/")) or o.path,
                      "n_layer": n("num_hidden_layers", "n_layer"), "n_embd": n("hidden_size", "n_embd"),
                      "n_ff": n("intermediate_size", "n_inner"), "n_head": heads,
                      "n_head_kv": n("num_key_value_heads") or heads,
                      "head_dim": n("head_dim") or n("hidden_size", "n_embd") // max(heads, 1), "n_vocab": self.engine.n_vocab,
                      "n_ctx_train": n("max_position_embeddings", "n_positions"),
                      # of a sharded one the whole; weights packed in 4 bits are counted as weights
                      "n_params": model.num_parameters() if o.bits else sum(p.numel() for p in own),
                      "size_bytes": sum(p.numel() * p.element_size() for p in params),
                      "quant": self.engine.quant_name(), "has_tokenizer": self.engine.tokenizer is not None,
                      "weights": "synthetic" if o.weights == "random" else "real"},
            "devices": devices})

    # ---- run

    def run(self, req):
        if self.engine is None:
            raise Refused("bad_request", "no model is loaded")
        run = field(req, "run", int, low=1)
        one_of(req, "batching", ("static",), "static")
        sampling = read_sampling(field(req, "sampling", dict, {}))
        max_input = field(req, "max_input_tokens", int, self.o.max_total, 1)
        wanted = field(req, "requests", list)
        if not wanted or not all(isinstance(r, dict) for r in wanted):
            raise Refused("bad_request", "there are no requests")
        requests = [Request(r, self, max_input) for r in wanted]
        if self.place == 0 and any(a.id >= b.id for a, b in zip(requests, requests[1:])):
            raise Refused("bad_request", "ids must rise")
        save = field(req, "save_text", bool, False)
        shares = self.share_out(run, requests, sampling, save)
        done = self.compute(run, shares, sampling, save)
        if self.family:
            self.gather(done, {r.id: r.truncated for r in requests})
        done["results"].sort(key=lambda r: r["id"])
        self.output.event(done)

    def share_out(self, run, requests, sampling, save):
        """The requests of this process, in the order in which they are computed; the others are sent theirs."""
        if self.place:
            return requests
        shares = batches.deal(batches.in_order(requests, self.o.strategy), self.o.replicas)
        self.waiting = 0
        for replica, share in enumerate(shares):
            if self.family and share:
                self.family.tell({"op": "run", "run": run, "sampling": sampling, "save_text": save,
                                  "requests": [r.wire() for r in share]}, {replica})
                self.waiting += replica > 0
        return shares[0]

    def compute(self, run, requests, sampling, save):
        self.steps, self.out, self.t_flush = [], 0, time.monotonic_ns()
        counts, before = {}, self.engine.compiled()
        decoder = Decoder(self.engine, sampling, lambda *step: self.step(run, *step), counts)
        gc.collect()
        gc.disable()  # no collection between two steps
        try:
            t_start = time.monotonic_ns()
            for batch in batches.group(requests, self.o.strategy, self.o.batch, self.o.max_batch_tokens):
                decoder.count(batches=1, padding_tokens=batches.padding(batch))
                decoder.batch(batch)
            t_end = time.monotonic_ns()
        finally:
            gc.enable()
        self.flush()
        if self.o.compile:
            decoder.count(compiled=self.engine.compiled() - before)
        return {"event": "done", "run": run, "t_start_ns": t_start, "t_ns": t_end, "counts": counts,
                "results": [r.result(self.engine.tokenizer if save else None) for r in requests]}

    def gather(self, done, truncated):
        """What the other replicas did, added to what this one did."""
        while self.waiting:
            other = self.family.answers.get()
            if other.get("event") != "done" or other.get("run") != done["run"]:
                self.fail("internal", f"a replica answered with {json.dumps(other)[:200]}")
            self.waiting -= 1
            done["t_start_ns"] = min(done["t_start_ns"], other["t_start_ns"])
            done["t_ns"] = max(done["t_ns"], other["t_ns"])
            done["results"] += [{**r, "truncated": truncated[r["id"]]} for r in other["results"]]
            for name, n in other["counts"].items():
                done["counts"][name] = done["counts"].get(name, 0) + n

    def step(self, run, start, end, prefill, ids, started):
        if self.rank:
            return
        self.out += len(ids)
        e = {"event": "tokens", "run": run, "start_ns": start, "end_ns": end, "prefill": prefill, "ids": ids,
             "out": self.out}
        if started:
            e["started"] = started
        if self.o.replicas > 1:
            e["replica"] = self.replica
        self.steps.append(e)
        if end - self.t_flush >= FLUSH_NS:
            self.flush()
            self.t_flush = time.monotonic_ns()

    def flush(self):
        self.output.event(*self.steps)
        self.steps = []

    # ---- the other side

    def serve(self):
        while True:
            line = sys.stdin.buffer.readline(LINE_MAX + 1)
            if not line:
                self.end()
            if len(line) > LINE_MAX:
                self.fail("bad_request", "a line is longer than 16 MiB")
            run, op = None, None
            try:
                req = json.loads(line)
                if not isinstance(req, dict):
                    raise Refused("bad_request", "a request is a JSON object")
                op, run = req.get("op"), req.get("run")
                self.serve_one(op, req)
            except ValueError as e:
                if op is not None:
                    self.unexpected(e, op, run)
                else:
                    self.output.error("bad_request", f"not JSON: {e}", False)
            except Refused as e:
                if op == "load" or self.place:
                    self.fail(e.code, e.message, run)
                else:
                    self.output.error(e.code, e.message, False, run)
            except Exception as e:
                self.unexpected(e, op, run)

    def serve_one(self, op, req):
        if op == "load":
            self.load(req)
        elif op == "run":
            self.run(req)
        elif op == "stop":
            self.end(say=True)
        else:
            raise Refused("bad_request", f"unknown op: {op}")

    def unexpected(self, e, op, run):
        """What a library raised. Processes that no longer compute in step cannot go on."""
        traceback.print_exc()
        memory = type(e).__name__ == "OutOfMemoryError"
        code = "out_of_memory" if memory else "model_load" if op == "load" else "compute"
        text = f"{type(e).__name__}: {e}"
        if op == "load" or self.store is not None:
            self.fail(code, text, run, own=op == "load")
        self.output.error(code, text[:2000], False, run)
        if memory:
            gc.collect()
            self.torch.cuda.empty_cache()

    def end(self, say=False):
        self.stopping = True
        if self.family:
            self.family.end()
        if say:
            self.output.event({"event": "stopped", "t_ns": time.monotonic_ns()})
        os._exit(0)


def main():
    place, port, speaks = (int(a) for a in sys.argv[2:5]) if sys.argv[1:2] == ["--rank"] else (0, 0, 1)
    die_with_parent()
    Worker(place, port, bool(speaks)).serve()


if __name__ == "__main__":
    main()
