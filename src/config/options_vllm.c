/* The vllm section. */
#include "config/option.h"

#define AT(f) offsetof(struct vllm_config, f)
static const struct option attention_options[] = {
	{"backend", OPT_CHOICE, AT(attention_backend), "auto",
	 CHOICES("auto", "FLASH_ATTN", "FLASHINFER"), .help = "Attention kernel."},
	{"flash_version", OPT_MAYBE_I64, AT(attention_flash_version), RANGE(2, 3),
	 .help = "Version of FlashAttention; needs backend: FLASH_ATTN."},
	{"disable_sliding_window", OPT_BOOL, AT(attention_disable_sliding_window), "false",
	 .help = "Full attention for models with a sliding window."},
};
/* Its fields stand in the vllm struct itself. */
static const struct section attention_section = {"vllm.attention", "Attention.",
						 TABLE(attention_options)};

static const struct option lora_options[] = {
	{"enabled", OPT_BOOL, AT(lora_enabled), "false",
	 .help = "Load LoRA adapters; an adapter at the top level enables it."},
	{"max_loras", OPT_I64, AT(lora_max_loras), "1", RANGE(1, 1024),
	 .help = "Adapters in one batch."},
	{"max_rank", OPT_I64, AT(lora_max_rank), "16", RANGE(1, 512),
	 .help = "Largest rank of an adapter."},
	{"extra_vocab_size", .verdict = REJECT, .to = "remove it",
	 .help = "is no longer supported by vLLM"},
};
static const struct section lora_section = {"vllm.lora", "LoRA adapters.", TABLE(lora_options)};

#define SPEC(f) offsetof(struct vllm_speculative_config, f)
static const struct option speculative_options[] = {
	{"model", OPT_STR, SPEC(model), .help = "Draft model; not needed for ngram."},
	{"num_tokens", OPT_I64, SPEC(num_tokens), "5", RANGE(1, 10), .unit = "tokens",
	 .help = "Tokens drafted at a time."},
	{"method", OPT_CHOICE, SPEC(method), "ngram",
	 CHOICES("ngram", "eagle", "eagle3", "medusa", "mlp", "lookahead"),
	 .help = "How tokens are drafted."},
	{"prompt_lookup_min", OPT_I64, SPEC(prompt_lookup_min), "1", RANGE(1, 1000),
	 .unit = "tokens", .help = "ngram: shortest match."},
	{"prompt_lookup_max", OPT_MAYBE_I64, SPEC(prompt_lookup_max), RANGE(1, 1000),
	 .unit = "tokens", .help = "ngram: longest match."},
	{"ngram_max", .verdict = RENAME, .to = "vllm.speculative.prompt_lookup_max"},
	{"draft_tp_size", OPT_I64, SPEC(draft_tp_size), "1", RANGE(1, 1024), .unit = "GPUs",
	 .help = "Tensor parallel size of the draft model."},
};
static const struct section speculative_section = {
	"vllm.speculative", "Speculative decoding.",
	.present = offsetof(struct vllm_speculative_config, present) + 1,
	TABLE(speculative_options)};

static const struct option options[] = {
	{"max_num_seqs", OPT_I64, AT(max_num_seqs), "256", RANGE(1, 1024), .unit = "sequences",
	 .help = "Sequences computed together at most."},
	{"max_num_batched_tokens", OPT_MAYBE_I64, AT(max_num_batched_tokens), AT_LEAST(1),
	 .unit = "tokens", .help = "Tokens of one step; null: vLLM decides."},
	{"gpu_memory_utilization", OPT_F64, AT(gpu_memory_utilization), "0.9", RANGE(0.5, 0.99),
	 .help = "Share of GPU memory vLLM takes."},
	{"swap_space", OPT_F64, AT(swap_space), "4.0", .min = 0, .max = 65536, .unit = "GiB",
	 .help = "CPU memory for swapped sequences, per GPU."},
	{"cpu_offload_gb", OPT_F64, AT(cpu_offload_gb), "0", .min = 0, .max = 65536, .unit = "GiB",
	 .help = "Weights kept in CPU memory, per GPU."},
	{"tensor_parallel_size", OPT_I64_OR_AUTO, AT(tensor_parallel_size), "1", RANGE(1, 1024),
	 .unit = "GPUs",
	 .help = "GPUs that share each layer; auto: all of gpus that pipeline and data parallelism "
		 "leave."},
	{"pipeline_parallel_size", OPT_I64, AT(pipeline_parallel_size), "1", RANGE(1, 1024),
	 .unit = "GPUs", .help = "Groups of layers on different GPUs."},
	{"data_parallel_size", OPT_I64, AT(data_parallel_size), "1", RANGE(1, 1024),
	 .help = "Replicas, each on its own GPUs."},
	{"enable_expert_parallel", OPT_BOOL, AT(enable_expert_parallel), "false",
	 .help = "Mixture of experts: whole experts per GPU instead of slices."},
	{"distributed_backend", OPT_CHOICE, AT(distributed_backend), "mp",
	 CHOICES("mp", "ray", "uni"), .help = "How workers are started."},
	{"disable_custom_all_reduce", OPT_BOOL, AT(disable_custom_all_reduce), "false",
	 .help = "Use NCCL for every reduction."},
	{"enable_prefix_caching", OPT_BOOL, AT(enable_prefix_caching), "false",
	 .help = "Repeated prompts are partly free; always sent to vLLM, whose own default "
		 "differs."},
	{"enable_chunked_prefill", OPT_BOOL, AT(enable_chunked_prefill), "false",
	 .help = "Long prompts are computed in pieces; always sent to vLLM."},
	{"kv_cache_dtype", OPT_CHOICE, AT(kv_cache_dtype), "auto", CHOICES("auto", "fp8"),
	 .help = "Type of the KV cache."},
	{"block_size", OPT_MAYBE_I64, AT(block_size), RANGE(16, 32), .unit = "tokens",
	 .help = "Tokens of one KV block: 16 or 32; null: what vLLM's attention kernel takes."},
	{"max_model_len", OPT_MAYBE_I64, AT(max_model_len), AT_LEAST(1), .unit = "tokens",
	 .help = "Longest sequence; null: max_input_tokens + max_output_tokens."},
	{"enforce_eager", OPT_BOOL, AT(enforce_eager), "false", .help = "No CUDA graphs."},
	{"attention", OPT_MAP, 0, .sub = &attention_section},
	{"quantization", OPT_CHOICE, AT(quantization),
	 CHOICES("awq", "gptq", "fp8", "marlin", "bitsandbytes", "squeezellm"),
	 .help = "Quantisation of the weights; null: as the checkpoint says."},
	{"load_format", OPT_CHOICE, AT(load_format), "auto",
	 CHOICES("auto", "safetensors", "dummy"), .help = "dummy: random weights."},
	{"min_p", OPT_F64, AT(min_p), "0", UNIT_RANGE,
	 .help = "Drop tokens less likely than this share of the most likely one."},
	{"logprobs", OPT_MAYBE_I64, AT(logprobs), RANGE(1, 20),
	 .help = "Return the probabilities of this many tokens."},
	{"logit_bias", OPT_KV, AT(logit_bias),
	 .help = "Token id to a number that is added to its logit."},
	{"speculative", OPT_MAP, AT(speculative), .sub = &speculative_section},
	{"lora", OPT_MAP, 0, .sub = &lora_section},
	{"python", OPT_STR, AT(python),
	 .help = "Interpreter of vLLM's environment, a path or a name looked up in PATH: its "
		 "server module is started by it; null: the program vllm."},
	{"load_timeout_sec", OPT_F64, AT(load_timeout_sec), "1800", RANGE(1, 86400), .unit = "s",
	 .help = "The server must be ready and have answered one request within."},
	{"request_timeout_sec", OPT_F64, AT(request_timeout_sec), "600", RANGE(1, 86400),
	 .unit = "s", .help = "An answer must be complete within."},
	{"extra_args", OPT_KV, AT(extra_args), .help = "Further options of vllm serve."},
	{"extra", .verdict = RENAME, .to = "vllm.extra_args"},
};
const struct section section_vllm = {"vllm",
				     "vLLM.",
				     .is_engine = true,
				     .backend = BACKEND_VLLM,
				     PRESENT(struct vllm_config, present),
				     TABLE(options)};
