"""The load request: what was asked for, checked as a whole, before anything is loaded."""
from .batches import STRATEGIES
from .wire import Refused, field, one_of

COMPILE_MODES = ("default", "reduce-overhead", "max-autotune")
COMPILE_BACKENDS = ("inductor", "cudagraphs", "onnxrt", "aot_eager")
CACHES = ("", "dynamic", "static", "hybrid", "sliding_window")
# arguments of from_pretrained() that say where the model lies: the configuration and the tokenizer lie there too
PLACE_OF_MODEL = ("revision", "cache_dir", "token", "local_files_only", "subfolder")
OWN_LOAD = {"dtype": "fp_precision", "torch_dtype": "fp_precision", "attn_implementation": "pytorch.attn_implementation",
            "trust_remote_code": "trust_remote_code", "device_map": "gpus", "tp_plan": "pytorch.tensor_parallel_size",
            "tp_size": "pytorch.tensor_parallel_size", "distributed_config": "pytorch.tensor_parallel_size",
            "max_memory": "pytorch.max_memory", "quantization_config": "pytorch.load_in_4bit or load_in_8bit",
            "load_in_4bit": "pytorch.load_in_4bit", "load_in_8bit": "pytorch.load_in_8bit",
            "low_cpu_mem_usage": "pytorch.low_cpu_mem_usage"}
NOT_OURS = ("config", "output_loading_info", "state_dict", "return_unused_kwargs")


class Options:
    def __init__(self, req):
        if field(req, "protocol", int) != 1:
            raise Refused("bad_request", "this worker speaks protocol 1")
        self.path = field(req, "model", str)
        self.tp = field(req, "tensor_parallel_size", int, 1, 1, 1024)
        self.replicas = field(req, "num_processes", int, 1, 1, 1024)
        self.batch = field(req, "batch_size", int, 1, 1)
        self.max_total = field(req, "max_total_tokens", int, low=1)
        self.strategy = one_of(req, "batching_strategy", STRATEGIES, "static")
        self.max_batch_tokens = field(req, "max_tokens_per_batch", int, self.max_total, 1)
        self.device = one_of(req, "device", ("cuda", "cpu"), "cpu")
        self.weights = one_of(req, "weights", ("real", "random"), "real")
        self.dtype = one_of(req, "dtype", ("float32", "float16", "bfloat16"), "float16")
        self.attention = one_of(req, "attn_implementation", ("sdpa", "flash_attention_2", "eager"), "sdpa")
        self.trust = field(req, "trust_remote_code", bool, False)
        self.threads = field(req, "threads", int, 0, 0)
        self.seed = field(req, "seed", int, 0, 0)
        self.use_cache = field(req, "use_cache", bool, True)
        self.cache = one_of(req, "cache_implementation", CACHES, "")
        self.ngram = field(req, "no_repeat_ngram_size", int, 0, 0)
        self.low_cpu_mem = field(req, "low_cpu_mem_usage", bool, True)
        self.max_memory = field(req, "max_memory", dict, {})
        self.adapter = field(req, "adapter", str, "")
        self.extra_load = field(req, "extra_load", dict, {})
        self.extra_generate = field(req, "extra_generate", dict, {})
        self.read_parts(req)
        self.agree()

    def read_parts(self, req):
        q = field(req, "quantization", dict, {})
        self.bits = field(q, "bits", int, 0)
        self.quant_type = one_of(q, "type", ("nf4", "fp4"), "nf4")
        self.quant_compute = one_of(q, "compute_dtype", ("float16", "bfloat16", "float32"), "float16")
        self.double_quant = field(q, "double_quant", bool, False)
        if self.bits not in (0, 4, 8):
            raise Refused("unsupported", f"weights of {self.bits} bits; bitsandbytes has 4 and 8")
        c = field(req, "torch_compile", dict, {})
        self.compile = one_of(c, "mode", COMPILE_MODES, "default") if c else ""
        self.compile_backend = one_of(c, "backend", COMPILE_BACKENDS, "inductor")
        a = field(req, "assistant", dict, {})
        self.assistant = field(a, "model", str) if a else ""
        self.drafts = field(a, "num_tokens", int, 5, 1, 64)
        b = field(req, "beam_search", dict, {})
        self.beams = field(b, "num_beams", int, 1, 1, 64)
        self.length_penalty = field(b, "length_penalty", float, 1.0)
        self.early_stopping = field(b, "early_stopping", bool, False)
        if self.compile and not self.cache and self.use_cache:
            self.cache = "static"  # its shapes stay the same from step to step, as what is compiled needs them

    def agree(self):
        """What excludes each other."""
        cannot = "this worker cannot do "
        graphs = self.compile and (self.compile != "default" or self.compile_backend == "cudagraphs")
        wrong = [
            (self.tp > 1 and self.bits, cannot + "tensor parallelism with weights quantised by bitsandbytes"),
            (self.tp > 1 and self.adapter, cannot + "tensor parallelism with an adapter"),
            (self.tp > 1 and self.assistant, cannot + "tensor parallelism with an assistant"),
            (self.max_memory and (self.tp > 1 or self.replicas > 1 or self.device == "cpu"),
             "max_memory spreads one model over several GPUs: it goes with neither replicas, tensor parallelism nor the CPU"),
            (self.max_memory and self.compile, cannot + "torch_compile with max_memory"),
            (self.assistant and self.beams > 1, cannot + "beam search with an assistant"),
            (self.assistant and (self.cache not in ("", "dynamic") or not self.use_cache or self.compile),
             "assisted generation takes tokens back, which needs a dynamic cache and no torch_compile"),
            (self.beams > 1 and self.compile, cannot + "beam search with torch_compile"),
            (not self.use_cache and self.cache, "use_cache: false leaves no cache_implementation"),
            (not self.use_cache and self.compile, "torch_compile needs a cache: without, every step has another shape"),
            (graphs and self.cache == "dynamic", f"{self.compile} uses CUDA graphs, which need cache_implementation: static"),
            (graphs and self.device == "cpu", f"torch_compile {self.compile} with {self.compile_backend} is about GPUs: "
             "on a CPU it would change nothing"),
            (self.compile not in ("", "default") and self.compile_backend != "inductor",
             f"the mode {self.compile} is inductor's; {self.compile_backend} has none"),
            (self.weights == "random" and self.extra_load, "extra_load is about loading, but the weights are made up"),
            (self.weights == "random" and self.max_memory, "max_memory is about loading, but the weights are made up"),
        ]
        for bad, text in wrong:
            if bad:
                raise Refused("unsupported", text)
        for name in self.extra_load:
            if name in OWN_LOAD:
                raise Refused("unsupported", f"extra_load.{name}: write {OWN_LOAD[name]}")
            if name in NOT_OURS:
                raise Refused("unsupported", f"extra_load.{name} is the worker's own business: remove it")

    def place(self):
        return {k: v for k, v in self.extra_load.items() if k in PLACE_OF_MODEL}
