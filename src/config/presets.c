/* Ready-made layers below the file: --preset NAME. None names a model; the prompts are the user's
 * too. */
#include "config/impl.h"

#define DETERMINISTIC "decoder: {preset: deterministic}\n"

static const struct preset presets[] = {
	{"quick-test", "Does it run at all: few tokens, greedy.",
	 "max_input_tokens: 64\nmax_output_tokens: 32\ngpus: [0]\n" DETERMINISTIC
	 "pytorch: {num_processes: 1, batch_size: 1}\n",
	 NULL},
	{"benchmark", "Long prompts and outputs, one at a time, greedy: comparable figures.",
	 "max_input_tokens: 2048\nmax_output_tokens: 512\nfp_precision: float16\n" DETERMINISTIC
	 "pytorch: {batch_size: 1}\n",
	 NULL},
	{"throughput", "Dynamic batches of up to 8, greedy.",
	 "max_input_tokens: 512\nmax_output_tokens: 256\nfp_precision: float16\n" DETERMINISTIC
	 "pytorch: {batch_size: 8, batching_strategy: dynamic}\n",
	 NULL},
	{"vllm-throughput", "vLLM with many sequences at once and its caches on.",
	 "backend: vllm\nmax_input_tokens: 2048\nmax_output_tokens: 512\n"
	 "vllm: {max_num_seqs: 512, enable_chunked_prefill: true, enable_prefix_caching: true}\n",
	 NULL},
	{"vllm-speculative", "vLLM drafting tokens by looking them up in the prompt.",
	 "backend: vllm\nmax_input_tokens: 2048\nmax_output_tokens: 256\n"
	 "vllm: {speculative: {method: ngram, num_tokens: 5, prompt_lookup_max: 4}}\n",
	 NULL},
	{"vllm-memory-efficient", "vLLM with an 8-bit KV cache and nearly all of the memory.",
	 "backend: vllm\nmax_input_tokens: 4096\nmax_output_tokens: 512\n"
	 "vllm: {kv_cache_dtype: fp8, enable_prefix_caching: true, gpu_memory_utilization: 0.95}\n",
	 NULL},
	{"vllm-low-latency", "vLLM with few sequences and no CUDA graphs.",
	 "backend: vllm\nmax_input_tokens: 512\nmax_output_tokens: 128\n"
	 "vllm: {max_num_seqs: 32, max_num_batched_tokens: 2048, enforce_eager: true}\n",
	 NULL},
	{"pytorch-optimized", "Transformers compiled, with FlashAttention 2.",
	 "backend: pytorch\nmax_input_tokens: 2048\nmax_output_tokens: 512\n"
	 "pytorch: {attn_implementation: flash_attention_2, torch_compile: reduce-overhead}\n",
	 NULL},
	{"pytorch-speculative", "Cannot be used: it never named the model that drafts.", "{}\n",
	 "speculative decoding needs pytorch.assisted_generation.model, which a preset cannot "
	 "know"},
	{"pytorch-compatible", "Transformers with the plainest attention, not compiled.",
	 "backend: pytorch\nmax_input_tokens: 2048\nmax_output_tokens: 512\n"
	 "pytorch: {attn_implementation: eager, torch_compile: false}\n",
	 NULL},
};

const struct decoder_preset decoder_presets[] = {
	{"deterministic", "0", "false", NULL, NULL},
	{"standard", "1.0", "true", "0.95", NULL},
	{"creative", "0.8", "true", "0.9", "1.1"},
	{"factual", "0.3", "true", NULL, NULL},
};
const size_t n_decoder_presets = ARRAY_LEN(decoder_presets);

const struct preset *preset_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(presets); i++)
		if (str_eq(presets[i].name, name))
			return &presets[i];
	return NULL;
}

const struct preset *preset_at(size_t i)
{
	return i < ARRAY_LEN(presets) ? &presets[i] : NULL;
}

size_t config_preset_count(void)
{
	return ARRAY_LEN(presets);
}

const char *config_preset_name(size_t i)
{
	return i < ARRAY_LEN(presets) ? presets[i].name : NULL;
}

const char *config_preset_description(size_t i)
{
	return i < ARRAY_LEN(presets) ? presets[i].description : NULL;
}
