#!/usr/bin/env python3
"""A worker of lem (workers/PROTOCOL.md) on PyTorch and Transformers.

It loads a causal language model, computes static batches and says when each step ended; it works out no result.
With tensor parallelism it starts the other ranks itself: each is this program again, gets every request on its
standard input, and computes in step with rank 0, which alone speaks. Rank r uses the r-th visible GPU, so that
CUDA_VISIBLE_DEVICES decides which GPU is which rank. Needs Python 3.10, torch and transformers, nothing else.
"""
import ctypes
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from datetime import timedelta

LINE_MAX = 16 << 20
FLUSH_NS = 200_000_000
NEED_IMAGE = ("; it needs torch and transformers, for example the image vllm/vllm-openai, or one built FROM "
              "pytorch/pytorch with `pip install transformers`, named in docker.image")


class Refused(Exception):
    """Something that is answered by an `error` event."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code, self.message = code, message


def field(obj, name, kind, default=None, low=None, high=None):
    """A field of a request: absent or null has its default, one of the wrong type or out of range is refused."""
    v = obj.get(name)
    if v is None:
        v = default
    if v is None:
        raise Refused("bad_request", f"'{name}' is missing")
    number = isinstance(v, (int, float)) and not isinstance(v, bool)
    if not (number if kind is float else number and isinstance(v, int) if kind is int else isinstance(v, kind)):
        raise Refused("bad_request", f"'{name}' is of the wrong type")
    if (low is not None and v < low) or (high is not None and v > high):
        raise Refused("bad_request", f"'{name}' is out of range: {v}")
    return v


def one_of(obj, name, choices, default, code="unsupported"):
    v = field(obj, name, str, default)
    if v not in choices:
        raise Refused(code, f"'{name}' is {v}; this worker knows {', '.join(choices)}")
    return v


def die_with_parent():
    """The kernel ends this process when the one that started it is gone."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)


class Output:
    """Events on what was standard output; whatever a library prints goes to the log instead."""

    def __init__(self, speaks):
        self.fd = os.dup(1) if speaks else -1
        self.lock = threading.Lock()
        os.dup2(2, 1)

    def event(self, *events):
        if self.fd < 0:
            return
        data = memoryview(b"".join(json.dumps(e, separators=(",", ":")).encode() + b"\n" for e in events))
        with self.lock:
            while data:
                data = data[os.write(self.fd, data):]

    def error(self, code, message, fatal, run=None):
        self.event({"event": "error", "run": run, "code": code, "message": message, "fatal": fatal})


class Request:
    def __init__(self, obj, worker, max_input):
        self.id = field(obj, "id", int, low=0)
        self.max_out = field(obj, "max_output_tokens", int, low=1)
        self.min_out = field(obj, "min_output_tokens", int, 0, 0, self.max_out)
        if (obj.get("text") is None) == (obj.get("tokens") is None):
            raise Refused("bad_request", "a request has either text or tokens")
        tokens = worker.tokenize(field(obj, "text", str)) if obj.get("tokens") is None else field(obj, "tokens", list)
        if not all(isinstance(t, int) and not isinstance(t, bool) and 0 <= t < worker.n_vocab for t in tokens):
            raise Refused("bad_request", f"request {self.id}: tokens must be from 0 to {worker.n_vocab - 1}")
        if not tokens:
            raise Refused("bad_request", f"request {self.id} is empty")
        self.truncated = len(tokens) > max_input
        self.tokens = tokens[:max_input]
        if len(self.tokens) + self.max_out > worker.max_total:
            raise Refused("context_full", f"request {self.id} needs {len(self.tokens) + self.max_out} tokens, "
                          f"the model was loaded for {worker.max_total}")
        self.out, self.finish = [], ""

    def wire(self):
        """For the other ranks, which neither tokenize nor check."""
        return {"id": self.id, "tokens": self.tokens, "max_output_tokens": self.max_out,
                "min_output_tokens": self.min_out}


class Worker:
    def __init__(self, rank, port):
        self.rank, self.port, self.tp = rank, port, 1
        self.output = Output(rank == 0)
        self.model = self.store = self.tokenizer = None
        self.children, self.stopping = [], False

    # ---- ranks

    def start_ranks(self):
        """The other ranks, and the store through which all find each other (on a port the kernel chooses)."""
        self.store = self.torch.distributed.TCPStore("127.0.0.1", 0, self.tp, is_master=True, wait_for_workers=False)
        self.port = self.store.port
        for rank in range(1, self.tp):
            child = subprocess.Popen([sys.executable, os.path.abspath(__file__), "--rank", str(rank), str(self.port)],
                                     stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
            self.children.append(child)
            threading.Thread(target=self.watch, args=(rank, child), daemon=True).start()

    def watch(self, rank, child):
        """A rank that ends leaves the others waiting for it for ever, so all end."""
        status = child.wait()
        if self.stopping:
            return
        text = f"rank {rank} ended with status {status}"
        try:
            if self.store.check([f"error{rank}"]):
                text += ": " + self.store.get(f"error{rank}").decode()
        except Exception:  # the store is gone as well
            pass
        self.fail("internal", text)

    def fail(self, code, message, run=None):
        self.stopping = True
        self.output.error(code, message[:2000], True, run)
        for child in self.children:
            child.kill()
        os._exit(1)

    def tell_ranks(self, obj):
        line = json.dumps(obj).encode() + b"\n"
        for child in self.children:
            child.stdin.write(line)
            child.stdin.flush()

    def join(self):
        """One process group for all ranks: NCCL between GPUs, gloo between CPUs."""
        torch, env = self.torch, os.environ
        env.update(RANK=str(self.rank), LOCAL_RANK=str(self.rank), WORLD_SIZE=str(self.tp), MASTER_ADDR="127.0.0.1",
                   MASTER_PORT=str(self.port))
        if self.store is None:
            self.store = torch.distributed.TCPStore("127.0.0.1", self.port, self.tp, is_master=False)
        cuda = self.device.type == "cuda"
        # ranks wait for requests between collectives, not in them, so a collective is never long idle
        torch.distributed.init_process_group("nccl" if cuda else "gloo", store=self.store, rank=self.rank,
                                             world_size=self.tp, timeout=timedelta(minutes=30),
                                             device_id=self.device if cuda else None)

    # ---- load

    def load(self, req):
        t_start = time.monotonic_ns()
        if self.model is not None:
            raise Refused("bad_request", "a model is already loaded")
        if field(req, "protocol", int) != 1:
            raise Refused("bad_request", "this worker speaks protocol 1")
        path = field(req, "model", str)
        self.tp = field(req, "tensor_parallel_size", int, 1, 1, 1024)
        self.batch = field(req, "batch_size", int, 1, 1)
        self.max_total = field(req, "max_total_tokens", int, low=1)
        kind = one_of(req, "device", ("cuda", "cpu"), "cpu")
        weights = one_of(req, "weights", ("real", "random"), "real")
        dtype = one_of(req, "dtype", ("float32", "float16", "bfloat16"), "float16")
        attention = one_of(req, "attn_implementation", ("sdpa", "flash_attention_2", "eager"), "sdpa")
        trust = field(req, "trust_remote_code", bool, False)
        threads = field(req, "threads", int, 0, 0)
        seed = field(req, "seed", int, 0, 0)
        self.import_libraries()
        if threads:
            self.torch.set_num_threads(max(1, threads // self.tp))
        self.find_device(kind)
        if self.tp > 1:
            if self.rank == 0:
                self.start_ranks()
                self.tell_ranks(req)
            self.join()
        self.torch.manual_seed(seed)  # random weights must be the same on every rank
        config = self.hf.AutoConfig.from_pretrained(path, trust_remote_code=trust)
        self.model = self.make_model(path, config, weights, getattr(self.torch, dtype), attention, trust)
        self.check_in_force(dtype, attention)
        self.n_vocab = self.model.get_input_embeddings().num_embeddings
        self.find_tokenizer(path, trust)
        self.tell_loaded(t_start, path, weights, dtype, trust)

    def import_libraries(self):
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        try:
            import torch
            import transformers
        except ImportError as e:
            raise Refused("unsupported", f"{sys.executable} cannot import {e.name}{NEED_IMAGE}") from None
        transformers.utils.logging.disable_progress_bar()
        self.torch, self.hf = torch, transformers

    def find_device(self, kind):
        cuda, n = self.torch.cuda, 0
        if kind == "cpu":
            self.device = self.torch.device("cpu")
            return
        n = cuda.device_count() if cuda.is_available() else 0
        if n < self.tp:  # never the CPU instead
            raise Refused("model_load", f"{self.tp} GPUs are needed, PyTorch {self.torch.__version__} sees {n}")
        self.device = self.torch.device("cuda", self.rank)
        cuda.set_device(self.device)

    def make_model(self, path, config, weights, dtype, attention, trust):
        auto = self.hf.AutoModelForCausalLM
        args = {"dtype": dtype, "attn_implementation": attention, "trust_remote_code": trust}
        if weights == "random":  # made where they are used
            with self.torch.device(self.device):
                model = auto.from_config(config, **args)
        else:
            model, info = auto.from_pretrained(path, config=config, output_loading_info=True, **args)
            lost = sorted(info.get("missing_keys") or ())
            if lost:
                raise Refused("model_load", f"{len(lost)} weights are missing in {path}, the first is {lost[0]}")
        if self.tp > 1:
            model = self.shard(model)
        return model.to(self.device).eval()

    def shard(self, model):
        """Each rank keeps its part, by the model's own plan. From whole weights rather than by from_pretrained(),
        which asks for accelerate and knows no random ones; so each rank holds all weights in host memory for a while."""
        try:
            from transformers.distributed import DistributedConfig
            plan, distribute = DistributedConfig(tp_size=self.tp, tp_plan="auto"), type(model).maybe_distribute_model
        except (ImportError, TypeError, AttributeError):
            raise Refused("unsupported", "tensor parallelism needs Transformers 5.17 or later, this is "
                          + self.hf.__version__) from None
        make = self.torch.distributed.init_device_mesh
        try:  # 5.19 takes named views of the ranks, one for dense layers and one for experts
            from transformers.distributed.utils import TransformersDeviceMesh
            mesh = TransformersDeviceMesh(make(self.device.type, (1, 1, self.tp), mesh_dim_names=("pp", "fsdp", "tp")),
                                          make(self.device.type, (1, self.tp, 1), mesh_dim_names=("pp", "efsdp", "ep")))
        except ImportError:
            mesh = make(self.device.type, (self.tp,))
        with self.torch.no_grad():
            return distribute(model, plan, mesh)

    def check_in_force(self, dtype, attention):
        """What an option silently turned into is an error."""
        model, torch = self.model, self.torch
        got = getattr(model.config, "_attn_implementation", None)
        if got != attention:
            raise Refused("unsupported", f"attn_implementation {attention} was asked for, {got} is in force")
        kinds = {str(p.dtype) for p in model.parameters()}
        if f"torch.{dtype}" not in kinds:
            raise Refused("unsupported", f"dtype {dtype} was asked for, {', '.join(sorted(kinds))} is in force")
        places = {(p.to_local() if hasattr(p, "to_local") else p).device for p in model.parameters()}
        if places != {self.device} and not (self.device.type == "cpu" and places == {torch.device("cpu")}):
            raise Refused("internal", f"weights lie on {places}, not on {self.device} alone")
        if self.tp > 1 and not any(hasattr(p, "to_local") for p in model.parameters()):
            raise Refused("unsupported", f"{type(model).__name__} has no plan for tensor parallelism in Transformers "
                          f"{self.hf.__version__}: every rank would compute everything")

    def find_tokenizer(self, path, trust):
        if self.rank or path.endswith(".json"):
            return
        try:
            self.tokenizer = self.hf.AutoTokenizer.from_pretrained(path, trust_remote_code=trust)
        except Exception as e:  # a model without one is measured with token ids
            print(f"no tokenizer: {e}", file=sys.stderr)

    def tokenize(self, text):
        if self.tokenizer is None:
            raise Refused("no_tokenizer", "the model has no tokenizer; send tokens")
        return self.tokenizer(text)["input_ids"]

    def describe_device(self):
        if self.device.type == "cpu":
            return {"name": "CPU", "uuid": None}
        p = self.torch.cuda.get_device_properties(self.device)
        uuid = str(p.uuid)
        return {"name": p.name, "uuid": uuid if uuid.startswith(("GPU-", "MIG-")) else "GPU-" + uuid}

    def devices(self):
        """One for each rank, in the order of the ranks; through the store, so that no collective is needed."""
        if self.tp > 1:
            self.store.set(f"device{self.rank}", json.dumps(self.describe_device()))
        if self.tp == 1:
            return [self.describe_device()]
        return [json.loads(self.store.get(f"device{r}")) for r in range(self.tp)] if self.rank == 0 else []

    def tell_loaded(self, t_start, path, weights, dtype, trust):
        self.synchronize()
        devices = self.devices()
        if self.rank:
            return
        c = self.model.config.get_text_config()
        n = lambda *names: next((getattr(c, k) for k in names if isinstance(getattr(c, k, None), int)), 0)
        heads, params = n("num_attention_heads", "n_head"), list(self.model.parameters())
        cuda = self.torch.version.cuda if self.device.type == "cuda" else None
        options = {"device": self.device.type, "dtype": dtype, "attn_implementation": self.model.config._attn_implementation,
                   "tensor_parallel_size": self.tp, "batch_size": self.batch, "max_total_tokens": self.max_total,
                   "cache": "dynamic", "threads": self.torch.get_num_threads(), "trust_remote_code": trust}
        self.output.event({
            "event": "loaded", "protocol": 1, "t_start_ns": t_start, "t_ns": time.monotonic_ns(),
            "engine": {"name": "transformers", "version": self.hf.__version__, "build": f"torch {self.torch.__version__}",
                       "system_info": f"Python {sys.version.split()[0]}, CUDA {cuda or 'not used'}", "options": options},
            "model": {"architecture": c.model_type, "name": os.path.basename(path.rstrip("/")) or path,
                      "n_layer": n("num_hidden_layers", "n_layer"), "n_embd": n("hidden_size", "n_embd"),
                      "n_ff": n("intermediate_size", "n_inner"), "n_head": heads,
                      "n_head_kv": n("num_key_value_heads") or heads,
                      "head_dim": n("head_dim") or n("hidden_size", "n_embd") // max(heads, 1), "n_vocab": self.n_vocab,
                      "n_ctx_train": n("max_position_embeddings", "n_positions"),
                      "n_params": sum(p.numel() for p in params),  # of a sharded one the whole
                      "size_bytes": sum(p.numel() * p.element_size() for p in params),
                      "quant": {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}[dtype],
                      "has_tokenizer": self.tokenizer is not None,
                      "weights": "synthetic" if weights == "random" else "real"},
            "devices": devices})

    # ---- run

    def run(self, req):
        if self.model is None:
            raise Refused("bad_request", "no model is loaded")
        run = field(req, "run", int, low=1)
        one_of(req, "batching", ("static",), "static")
        s = field(req, "sampling", dict, {})
        sampling = {"temperature": field(s, "temperature", float, 0.0, 0, 100), "top_k": field(s, "top_k", int, 0, 0),
                    "top_p": field(s, "top_p", float, 1.0, 0, 1), "min_p": field(s, "min_p", float, 0.0, 0, 1),
                    "repetition_penalty": field(s, "repetition_penalty", float, 1.0, 0.01, 100),
                    "seed": field(s, "seed", int, 0, 0)}
        max_input = field(req, "max_input_tokens", int, self.max_total, 1)
        wanted = field(req, "requests", list)
        if not wanted or not all(isinstance(r, dict) for r in wanted):
            raise Refused("bad_request", "'requests' is not a list of requests")
        requests = [Request(r, self, max_input) for r in wanted]
        if any(a.id >= b.id for a, b in zip(requests, requests[1:])):
            raise Refused("bad_request", "ids must rise")
        save = field(req, "save_text", bool, False)
        self.tell_ranks({"op": "run", "run": run, "sampling": sampling, "requests": [r.wire() for r in requests]})
        self.steps, self.out, self.t_flush = [], 0, time.monotonic_ns()
        gc.collect()
        gc.disable()  # no collection between two steps
        try:
            t_start = time.monotonic_ns()
            for i in range(0, len(requests), self.batch):
                self.group(run, requests[i:i + self.batch], sampling)
            t_end = time.monotonic_ns()
        finally:
            gc.enable()
        self.flush()
        results = []
        for r in requests:
            results.append({"id": r.id, "input_tokens": len(r.tokens), "output_tokens": len(r.out), "finish": r.finish,
                            "truncated": r.truncated})
            if save and self.tokenizer is not None:
                results[-1]["text"] = self.tokenizer.decode(r.out, skip_special_tokens=True)
        self.output.event({"event": "done", "run": run, "t_start_ns": t_start, "t_ns": t_end, "results": results})

    def group(self, run, requests, sampling):
        """One static batch, padded on the left. Rows that have ended are computed on, as batches of Transformers
        are, but neither they nor padding count."""
        torch, device = self.torch, self.device
        start = time.monotonic_ns()
        width = max(len(r.tokens) for r in requests)
        longest = width + max(r.max_out for r in requests)
        ids = torch.tensor([[0] * (width - len(r.tokens)) + r.tokens for r in requests], device=device)
        mask = torch.ones((len(requests), longest), dtype=torch.long, device=device)
        for row, r in enumerate(requests):
            mask[row, :width - len(r.tokens)] = 0
        position = (mask[:, :width].cumsum(-1) - 1).clamp_(min=0)
        choose = Chooser(self, requests, sampling, ids, mask[:, :width])
        prefill, started, cache = sum(len(r.tokens) for r in requests), [r.id for r in requests], None
        length = width
        with torch.inference_mode():
            while True:
                got = self.model(input_ids=ids, attention_mask=mask[:, :length], position_ids=position,
                                 past_key_values=cache, use_cache=True, **self.last_only())
                cache = got.past_key_values
                tokens = choose(got.logits[:, -1])
                chosen = tokens.tolist()
                self.synchronize()
                end = time.monotonic_ns()
                live = [(r, t) for r, t in zip(requests, chosen) if not r.finish]
                for r, t in live:
                    r.out.append(t)
                    r.finish = "eos" if t in choose.eos else "length" if len(r.out) >= r.max_out else ""
                self.step(run, start, end, prefill, [r.id for r, _ in live], started)
                if all(r.finish for r in requests):
                    return
                start = time.monotonic_ns()
                ids, position, length = tokens[:, None], position[:, -1:] + 1, length + 1
                prefill, started = 0, None

    def last_only(self):
        """The logits of the last position alone, where the model can: those of the prompt are never used."""
        if not hasattr(self, "_last_only"):
            code = type(self.model).forward
            names = getattr(code, "__wrapped__", code).__code__.co_varnames
            self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in names else {}
        return self._last_only

    def step(self, run, start, end, prefill, ids, started):
        self.out += len(ids)
        e = {"event": "tokens", "run": run, "start_ns": start, "end_ns": end, "prefill": prefill, "ids": ids,
             "out": self.out}
        if started:
            e["started"] = started
        self.steps.append(e)
        if end - self.t_flush >= FLUSH_NS:
            self.flush()
            self.t_flush = time.monotonic_ns()

    def flush(self):
        self.output.event(*self.steps)
        self.steps = []

    def synchronize(self):
        if self.device.type == "cuda":
            self.torch.cuda.synchronize(self.device)

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
                if op == "load" or self.rank:
                    self.lose(e.code, e.message, run)
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
        """What a library raised. Ranks that no longer compute in step cannot go on."""
        traceback.print_exc()
        memory = type(e).__name__ == "OutOfMemoryError"
        code = "out_of_memory" if memory else "model_load" if op == "load" else "compute"
        text = f"{type(e).__name__}: {e}"
        if op == "load" or self.tp > 1 or self.rank:
            self.lose(code, text, run)
        self.output.error(code, text[:2000], False, run)
        if memory:
            gc.collect()
            self.torch.cuda.empty_cache()

    def lose(self, code, text, run):
        """The end of this rank, and so of all."""
        if self.rank and self.store is not None:
            try:
                self.store.set(f"error{self.rank}", f"{code}: {text}"[:2000])
            except Exception:
                pass
        self.fail(code, text, run)

    def end(self, say=False):
        self.stopping = True
        for child in self.children:
            child.stdin.close()
        deadline = time.monotonic() + 2
        for child in self.children:
            try:
                child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
        if say:
            self.output.event({"event": "stopped", "t_ns": time.monotonic_ns()})
        os._exit(0)


class Chooser:
    """The next token of every row; rank 0 decides, so that no rounding can make the ranks part."""

    def __init__(self, worker, requests, sampling, ids, mask):
        torch = worker.torch
        self.torch, self.worker, self.requests, self.s = torch, worker, requests, sampling
        eos = worker.model.generation_config.eos_token_id if worker.model.generation_config else None
        self.eos = {e for e in (eos if isinstance(eos, list) else [eos]) if e is not None and e < worker.n_vocab}
        self.forbid = torch.tensor(sorted(self.eos), dtype=torch.long, device=worker.device)
        self.n = 0
        self.seen = None
        if sampling["repetition_penalty"] != 1:
            self.seen = torch.zeros((len(requests), worker.n_vocab), dtype=torch.bool, device=worker.device)
            rows = torch.arange(len(requests), device=worker.device)[:, None].expand_as(ids)
            self.seen[rows[mask.bool()], ids[mask.bool()]] = True
        self.streams = [torch.Generator(worker.device).manual_seed((sampling["seed"] * 1000003 + r.id) % (1 << 63))
                        for r in requests] if sampling["temperature"] > 0 else []

    def __call__(self, logits):
        torch, worker = self.torch, self.worker
        logits = logits.float()
        if self.seen is not None:
            p = self.s["repetition_penalty"]
            logits = torch.where(self.seen, torch.where(logits > 0, logits / p, logits * p), logits)
        early = [i for i, r in enumerate(self.requests) if self.n < r.min_out]
        if early and self.eos:
            logits = logits.clone()
            logits[torch.tensor(early, device=logits.device)[:, None], self.forbid] = float("-inf")
        tokens = self.sample(logits) if self.streams else logits.argmax(-1)
        if worker.tp > 1:
            torch.distributed.broadcast(tokens, 0)
        if self.seen is not None:
            self.seen[torch.arange(len(tokens), device=tokens.device), tokens] = True
        self.n += 1
        return tokens

    def sample(self, logits):
        torch, s = self.torch, self.s
        logits = logits / s["temperature"]
        if s["top_k"]:
            kth = logits.topk(min(s["top_k"], logits.shape[-1])).values[:, -1:]
            logits = logits.masked_fill(logits < kth, float("-inf"))
        probs = logits.softmax(-1)
        if s["top_p"] < 1:
            order, at = probs.sort(descending=True)
            cut = order.cumsum(-1) - order >= max(s["top_p"], 1e-9)  # the first is always kept
            probs = probs.masked_fill(torch.zeros_like(cut).scatter(-1, at, cut), 0)
        if s["min_p"]:
            probs = probs.masked_fill(probs < s["min_p"] * probs.max(-1, keepdim=True).values, 0)
        # the smallest of exponential waiting times is a draw by weight; each row from its own stream
        wait = torch.stack([torch.empty_like(p).exponential_(generator=g) for p, g in zip(probs, self.streams)])
        return (probs / wait).argmax(-1)


def main():
    rank, port = (int(sys.argv[2]), int(sys.argv[3])) if sys.argv[1:2] == ["--rank"] else (0, 0)
    die_with_parent()
    Worker(rank, port).serve()


if __name__ == "__main__":
    main()
