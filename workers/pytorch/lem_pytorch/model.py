"""From options to a model that is ready: weights, quantisation, ranks, adapter, cache kind, compilation; and the proof
that each is in force. What an option silently turned into is an error."""
import os
import sys
import tempfile
import time

from . import lora
from .wire import Refused

NEED_IMAGE = ("; it needs torch and transformers, for example the image vllm/vllm-openai, or one built FROM "
              "pytorch/pytorch with `pip install transformers`, named in docker.image")
RECOMPILE_LIMIT = 64  # graphs of one function; beyond it PyTorch would run without compiling


def import_libraries():
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        import torch
        import transformers
    except ImportError as e:
        raise Refused("unsupported", f"{sys.executable} cannot import {e.name}{NEED_IMAGE}") from None
    transformers.utils.logging.disable_progress_bar()
    return torch, transformers


class Engine:
    """The model of one rank. `decode` computes a step of one token for each row; it is what torch_compile compiles."""

    def __init__(self, torch, hf, options, device):
        self.torch, self.hf, self.o, self.device = torch, hf, options, device
        self.model = self.assistant = self.tokenizer = self.decode = None
        self.n_vocab, self.in_force, self.static = 0, {}, {}  # static: caches by rows

    # ---- weights

    def load(self):
        o, hf = self.o, self.hf
        self.torch.manual_seed(o.seed)  # random weights must be the same on every rank
        config = hf.AutoConfig.from_pretrained(o.path, trust_remote_code=o.trust, **o.place())
        self.model = self.make_model(config)
        self.check_in_force()
        if o.adapter:
            self.in_force["adapter"] = lora.attach(self.torch, self.model, o.adapter, getattr(self.torch, o.dtype))
        if o.assistant:
            self.assistant = self.load_assistant()
        self.n_vocab = self.model.get_input_embeddings().num_embeddings
        self.decode = self.model
        if o.compile:
            self.compile()

    def load_args(self):
        o = self.o
        args = {"dtype": getattr(self.torch, o.dtype), "attn_implementation": o.attention, "trust_remote_code": o.trust}
        if not o.low_cpu_mem:
            if int(self.hf.__version__.split(".")[0]) >= 5:
                raise Refused("unsupported", "low_cpu_mem_usage: false has no effect since Transformers 5, which never makes "
                              f"a second copy; this is {self.hf.__version__}: remove it")
            args["low_cpu_mem_usage"] = False
        return args

    def make_model(self, config):
        o, args = self.o, self.load_args()
        if o.weights == "random" and not o.bits:  # made where they are used
            with self.torch.device(self.device):
                model = self.hf.AutoModelForCausalLM.from_config(config, **args)
        elif o.weights == "random":
            model = self.random_quantised(config, args)
        else:
            model = self.from_files(o.path, config, args)
        if o.tp > 1:
            model = self.shard(model)
        return (model if o.bits or o.max_memory else model.to(self.device)).eval()

    def random_quantised(self, config, args):
        """bitsandbytes quantises what is loaded, so the made-up weights go through a folder."""
        with tempfile.TemporaryDirectory(prefix="lem-weights-") as folder:
            self.hf.AutoModelForCausalLM.from_config(config, **args).save_pretrained(folder)
            return self.from_files(folder, config, args)

    def from_files(self, path, config, args):
        o = self.o
        if o.bits:
            args = {**args, "quantization_config": self.quantisation(), "device_map": {"": self.device}}
        if o.max_memory:
            self.need("accelerate", "max_memory")
            limits = {int(k) if k.isdigit() else k: v for k, v in o.max_memory.items()}
            args = {**args, "device_map": "auto", "max_memory": limits}
        model, info = self.hf.AutoModelForCausalLM.from_pretrained(path, config=config, output_loading_info=True, **args,
                                                                   **o.extra_load)
        lost = sorted(info.get("missing_keys") or ())
        if lost:
            raise Refused("model_load", f"{len(lost)} weights are missing in {path}, the first is {lost[0]}")
        return model

    def need(self, package, option):
        try:
            __import__(package)
        except ImportError:
            raise Refused("unsupported", f"{option} needs {package}, which {sys.executable} cannot import: run "
                          f"`{sys.executable} -m pip install {package}`, in a container in its image") from None

    def quantisation(self):
        o, torch = self.o, self.torch
        option = f"load_in_{o.bits}bit"
        self.need("bitsandbytes", option)
        self.need("accelerate", option)
        if o.bits == 8:
            return self.hf.BitsAndBytesConfig(load_in_8bit=True)
        return self.hf.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type=o.quant_type,
                                          bnb_4bit_compute_dtype=getattr(torch, o.quant_compute),
                                          bnb_4bit_use_double_quant=o.double_quant)

    def load_assistant(self):
        """A smaller model of the same vocabulary, in the same type."""
        o = self.o
        args = {"dtype": getattr(self.torch, o.dtype), "trust_remote_code": o.trust, "attn_implementation": o.attention}
        model, info = self.hf.AutoModelForCausalLM.from_pretrained(o.assistant, output_loading_info=True, **args)
        lost = sorted(info.get("missing_keys") or ())
        if lost:
            raise Refused("model_load", f"{len(lost)} weights of the assistant are missing in {o.assistant}, the first is "
                          f"{lost[0]}")
        sizes = [m.get_input_embeddings().num_embeddings for m in (self.model, model)]
        if sizes[0] != sizes[1]:
            raise Refused("unsupported", f"the assistant has {sizes[1]} tokens in its vocabulary, the model {sizes[0]}: what "
                          "one drafts the other could not read")
        self.in_force["assistant"] = {"model": o.assistant, "num_tokens": o.drafts,
                                      "n_params": sum(p.numel() for p in model.parameters())}
        return model.to(self.device).eval()

    def shard(self, model):
        """Each rank keeps its part, by the model's own plan. From whole weights rather than by from_pretrained(),
        which asks for accelerate and knows no random ones; so each rank holds all weights in host memory for a while."""
        try:
            from transformers.distributed import DistributedConfig
            plan, distribute = DistributedConfig(tp_size=self.o.tp, tp_plan="auto"), type(model).maybe_distribute_model
        except (ImportError, TypeError, AttributeError):
            raise Refused("unsupported", "tensor parallelism needs Transformers 5.17 or later, this is "
                          + self.hf.__version__) from None
        make = self.torch.distributed.init_device_mesh
        try:  # 5.19 takes named views of the ranks, one for dense layers and one for experts
            from transformers.distributed.utils import TransformersDeviceMesh
            kind, tp = self.device.type, self.o.tp
            mesh = TransformersDeviceMesh(make(kind, (1, 1, tp), mesh_dim_names=("pp", "fsdp", "tp")),
                                          make(kind, (1, tp, 1), mesh_dim_names=("pp", "efsdp", "ep")))
        except ImportError:
            mesh = make(self.device.type, (self.o.tp,))
        with self.torch.no_grad():
            return distribute(model, plan, mesh)

    # ---- what is in force

    def check_in_force(self):
        o, model, torch = self.o, self.model, self.torch
        got = getattr(model.config, "_attn_implementation", None)
        if got != o.attention:
            raise Refused("unsupported", f"attn_implementation {o.attention} was asked for, {got} is in force")
        kinds = {str(p.dtype) for p in model.parameters()}
        if f"torch.{o.dtype}" not in kinds:
            raise Refused("unsupported", f"dtype {o.dtype} was asked for, {', '.join(sorted(kinds))} is in force")
        self.check_places({(p.to_local() if hasattr(p, "to_local") else p).device for p in model.parameters()})
        if o.tp > 1 and not any(hasattr(p, "to_local") for p in model.parameters()):
            raise Refused("unsupported", f"{type(model).__name__} has no plan for tensor parallelism in Transformers "
                          f"{self.hf.__version__}: every rank would compute everything")
        if o.bits:
            self.check_quantised()

    def check_places(self, places):
        if self.o.max_memory:
            used = {str(d) for d in getattr(self.model, "hf_device_map", {}).values()} | {str(d) for d in places}
            if used & {"cpu", "disk", "meta"}:
                raise Refused("model_load", "max_memory leaves part of the model outside of the GPUs: give them more, or list "
                              "more GPUs")
            self.in_force["device_map"] = {k: str(v) for k, v in self.model.hf_device_map.items()}
        elif places != {self.device} and not (self.device.type == "cpu" and places == {self.torch.device("cpu")}):
            raise Refused("internal", f"weights lie on {places}, not on {self.device} alone")

    def check_quantised(self):
        import bitsandbytes
        name = "Linear4bit" if self.o.bits == 4 else "Linear8bitLt"
        n = sum(isinstance(m, getattr(bitsandbytes.nn, name)) for m in self.model.modules())
        if not n:
            raise Refused("unsupported", f"load_in_{self.o.bits}bit was asked for, but no layer is quantised")
        self.in_force["quantization"] = {"bitsandbytes": bitsandbytes.__version__, "bits": self.o.bits, "layers": n}
        if self.o.bits == 4:
            self.in_force["quantization"].update(type=self.o.quant_type, compute_dtype=self.o.quant_compute,
                                                 double_quant=self.o.double_quant)

    def quant_name(self):
        if self.o.bits:
            return f"bnb-{self.o.quant_type}" if self.o.bits == 4 else "bnb-int8"
        return {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}[self.o.dtype]

    # ---- cache

    def make_cache(self, model, rows):
        """None leaves it to the model, whose own is dynamic. A static one is kept from batch to batch: the same memory
        serves the next batch of as many rows, which is what compiled code and CUDA graphs need; for them one of each size."""
        from transformers import cache_utils
        config = model.config
        if self.o.cache in ("", "dynamic"):
            return cache_utils.DynamicCache(config=config) if self.o.use_cache else None
        if rows in self.static:
            self.static[rows].reset()
            return self.static[rows]
        cache = cache_utils.StaticCache(config=config, max_cache_len=self.o.max_total)
        sliding = [getattr(layer, "is_sliding", False) for layer in cache.layers]
        if self.o.cache == "hybrid" and (not any(sliding) or all(sliding)):
            raise Refused("unsupported", "cache_implementation hybrid is for models that have sliding and full attention; "
                          f"{type(model).__name__} of this config has one kind")
        if self.o.cache == "sliding_window" and not all(sliding):
            raise Refused("unsupported", "cache_implementation sliding_window is for models whose attention slides in every "
                          f"layer; {sliding.count(False)} of {len(sliding)} layers of this one do not")
        if not self.o.compile:
            self.static.clear()  # a batch of another size needs the memory
        self.static[rows] = cache
        return cache

    def check_cache(self, given, got):
        """The model may not have swapped the cache for one of its own."""
        if given is not None and got is not given:
            raise Refused("unsupported", f"{type(self.model).__name__} does not use the cache that was asked for "
                          f"({self.o.cache or 'dynamic'}), but {type(got).__name__}")
        kind = type(got).__name__ if got is not None else "none"
        layers = sorted({type(layer).__name__ for layer in getattr(got, "layers", [])})
        self.in_force["cache"] = {"kind": self.o.cache or "dynamic" if self.o.use_cache else "none", "class": kind,
                                  "layers": layers}

    # ---- compilation

    def compile(self):
        """The step of one token is compiled; prompts run as they are, as in generate() of Transformers: each batch of them
        has another shape."""
        import torch._dynamo as dynamo
        dynamo.config.suppress_errors = False
        dynamo.config.fail_on_recompile_limit_hit = True  # else it would go on without compiling
        for name in ("recompile_limit", "cache_size_limit"):
            if hasattr(dynamo.config, name):
                setattr(dynamo.config, name, RECOMPILE_LIMIT)
        mode = None if self.o.compile == "default" else self.o.compile
        self.decode = self.torch.compile(self.model.__call__, mode=mode, backend=self.o.compile_backend, fullgraph=True)

    def compiled(self):
        """Graphs that were compiled so far."""
        if not self.o.compile:
            return 0
        import torch._dynamo.utils as utils
        return utils.counters["stats"]["unique_graphs"]

    def check_compiled(self, t_start):
        import torch._dynamo.utils as utils
        if not self.compiled():
            raise Refused("unsupported", f"torch_compile with {self.o.compile_backend} compiled nothing")
        skipped = utils.counters["inductor"]["cudagraph_skips"]
        if skipped and self.o.compile == "reduce-overhead":
            raise Refused("unsupported", f"torch_compile reduce-overhead left out {skipped} CUDA graphs; its log says why")
        self.in_force["torch_compile"] = {
            "mode": self.o.compile, "backend": self.o.compile_backend, "graphs": self.compiled(), "fullgraph": True,
            "what": "steps of one token; prompts run uncompiled", "seconds": round((time.monotonic_ns() - t_start) / 1e9, 1)}

    def synchronize(self):
        if self.device.type == "cuda":
            for device in self.devices():
                self.torch.cuda.synchronize(device)

    def devices(self):
        """Those of this rank: one, or with max_memory all that hold a part."""
        if not self.o.max_memory:
            return [self.device]
        return [self.torch.device("cuda", int(n)) for n in
                sorted({d.index for d in map(self.torch.device, self.model.hf_device_map.values())})]
