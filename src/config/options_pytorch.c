/* The pytorch section: Transformers. */
#include "config/option.h"

#define BEAM(f) offsetof(struct beam_config, f)
static const struct option beam_options[] = {
	{"enabled", OPT_BOOL, BEAM(enabled), "false", .help = "Use beam search."},
	{"num_beams", OPT_I64, BEAM(num_beams), "1", RANGE(1, 16), .help = "Beams kept."},
	{"length_penalty", OPT_F64, BEAM(length_penalty), "1.0", RANGE(-100, 100),
	 .help = "Above 0 favours longer texts."},
	{"early_stopping", OPT_BOOL, BEAM(early_stopping), "false",
	 .help = "Stop when num_beams texts are complete."},
	{"no_repeat_ngram_size", OPT_I64, BEAM(no_repeat_ngram_size), "0", .min = 0, .max = 1000,
	 .help = "Sequences of this many tokens do not repeat; 0 = off."},
};
static const struct section beam_section = {"pytorch.beam_search", "Beam search.",
					    TABLE(beam_options)};

#define ASSISTED(f) offsetof(struct assisted_config, f)
static const struct option assisted_options[] = {
	{"model", OPT_STR, ASSISTED(model), .required = true,
	 .help = "Small model that drafts tokens."},
	{"num_tokens", OPT_I64, ASSISTED(num_tokens), "5", RANGE(1, 10), .unit = "tokens",
	 .help = "Tokens drafted at a time."},
};
static const struct section assisted_section = {
	"pytorch.assisted_generation", "Speculative decoding.",
	.present = offsetof(struct assisted_config, present) + 1, TABLE(assisted_options)};

#define AT(f) offsetof(struct pytorch_config, f)
static const struct option options[] = {
	{"batch_size", OPT_I64, AT(batch_size), "1", RANGE(1, 65536), .unit = "prompts",
	 .help = "Prompts computed together; the cap for dynamic batches too."},
	{"batching_strategy", OPT_CHOICE, AT(batching_strategy), "static",
	 CHOICES("static", "dynamic", "sorted_static", "sorted_dynamic"),
	 .help = "How prompts are grouped; sorted ones take those with most tokens first."},
	{"max_tokens_per_batch", OPT_MAYBE_I64, AT(max_tokens_per_batch), AT_LEAST(1),
	 .unit = "tokens",
	 .help = "Input tokens of a dynamic batch, padding included; null: max_input_tokens."},
	{"num_processes", OPT_I64, AT(num_processes), "1", RANGE(1, 1024),
	 .help = "Data parallel replicas, each on GPUs of its own; each prompt is computed by one "
		 "of them."},
	{"tensor_parallel_size", OPT_I64, AT(tensor_parallel_size), "1", RANGE(1, 1024),
	 .unit = "GPUs", .help = "GPUs that share one replica."},
	{"load_in_4bit", OPT_BOOL, AT(load_in_4bit), "false",
	 .help = "Quantise to 4 bits with bitsandbytes."},
	{"load_in_8bit", OPT_BOOL, AT(load_in_8bit), "false",
	 .help = "Quantise to 8 bits with bitsandbytes."},
	{"bnb_4bit_compute_dtype", OPT_CHOICE, AT(bnb_4bit_compute_dtype), "float16",
	 CHOICES("float16", "bfloat16"), .help = "Type of the arithmetic with 4-bit weights."},
	{"bnb_4bit_quant_type", OPT_CHOICE, AT(bnb_4bit_quant_type), "nf4", CHOICES("nf4", "fp4"),
	 .help = "Format of 4-bit weights."},
	{"bnb_4bit_use_double_quant", OPT_BOOL, AT(bnb_4bit_use_double_quant), "false",
	 .help = "Quantise the scales too."},
	{"attn_implementation", OPT_CHOICE, AT(attn_implementation), "sdpa",
	 CHOICES("sdpa", "flash_attention_2", "eager"),
	 .help = "Attention kernel; one that is missing is an error, never replaced."},
	{"torch_compile", OPT_COMPILE, AT(torch_compile), "false",
	 CHOICES("default", "reduce-overhead", "max-autotune"),
	 .help = "Compile the step of one token; a failure is an error."},
	{"torch_compile_backend", OPT_CHOICE, AT(torch_compile_backend),
	 CHOICES("inductor", "cudagraphs", "onnxrt", "aot_eager"),
	 .help = "Compiler; needs torch_compile."},
	{"use_cache", OPT_BOOL, AT(use_cache), "true",
	 .help = "Keep keys and values of past tokens."},
	{"cache_implementation", OPT_CHOICE, AT(cache_implementation),
	 CHOICES("dynamic", "static", "hybrid", "sliding_window"),
	 .help = "Kind of the KV cache; null: the model's own, and static with torch_compile."},
	{"low_cpu_mem_usage", OPT_BOOL, AT(low_cpu_mem_usage), "true",
	 .help = "Load without a second copy in memory; false is an error from Transformers 5 on, "
		 "which cannot."},
	{"max_memory", OPT_KV, AT(max_memory),
	 .help = "Spread the model over several GPUs, with this memory of each, such as {\"0\": "
		 "10GiB, "
		 "\"1\": 10GiB}; numbers are positions in gpus."},
	{"min_p", OPT_F64, AT(min_p), "0", UNIT_RANGE,
	 .help = "Drop tokens less likely than this share of the most likely one; needs sampling."},
	{"no_repeat_ngram_size", OPT_I64, AT(no_repeat_ngram_size), "0", .min = 0, .max = 1000,
	 .help = "Sequences of this many tokens do not repeat; 0 = off."},
	{"beam_search", OPT_MAP, AT(beam_search), .sub = &beam_section},
	{"assisted_generation", OPT_MAP, AT(assisted_generation), .sub = &assisted_section},
	{"extra_load", OPT_KV, AT(extra_load), .help = "Further arguments of from_pretrained()."},
	{"extra_generate", OPT_KV, AT(extra_generate),
	 .help = "Further arguments of generate(), of which these are honoured: bad_words_ids, "
		 "suppress_tokens, sequence_bias, typical_p, epsilon_cutoff, eta_cutoff, "
		 "eos_token_id."},
	{"python", OPT_STR, AT(python), "python3",
	 .help = "The interpreter that has PyTorch and Transformers: a path, or a name looked up "
		 "in "
		 "PATH; in a container one of the image's."},
	{"load_timeout_sec", OPT_F64, AT(load_timeout_sec), "1800", RANGE(1, 86400), .unit = "s",
	 .help = "The model must be loaded within, fetching it included."},
	{"request_timeout_sec", OPT_F64, AT(request_timeout_sec), "600", RANGE(1, 86400),
	 .unit = "s", .help = "The engine must make progress within."},
	{"output_scores", .verdict = REJECT, .to = "remove it", .help = "would not be recorded"},
	{"return_dict_in_generate", .verdict = REJECT, .to = "remove it",
	 .help = "is lem's own business"},
	{"use_bettertransformer", .verdict = REJECT, .to = "write attn_implementation: sdpa",
	 .help = "no longer exists in Transformers"},
	{"extra", .verdict = REJECT,
	 .to = "write extra_load for from_pretrained() or extra_generate for generate()",
	 .help = "did not say what it is for"},
	{"extra_args", .verdict = REJECT,
	 .to = "write extra_load for from_pretrained() or extra_generate for generate()",
	 .help = "does not say what it is for"},
};
const struct section section_pytorch = {"pytorch",
					"PyTorch with Transformers.",
					.is_engine = true,
					.backend = BACKEND_PYTORCH,
					PRESENT(struct pytorch_config, present),
					TABLE(options)};
