/*
 * config.h — one experiment, as its file says it: bound, defaulted, checked. Plain data in an
 * arena. Field names are the YAML keys. `maybe_*` is a value that may be null ("not written, and no
 * default"). Which fields exist, their ranges, defaults and help stand once, in the option tables
 * (config/options_*.c); binding, `lem config show|schema|reference` and "did you mean" all read
 * them.
 */
#ifndef LEM_CONFIG_CONFIG_H
#define LEM_CONFIG_CONFIG_H

#include "base/arena.h"

enum backend {
	BACKEND_PYTORCH, /* alias "transformers" */
	BACKEND_VLLM,
	BACKEND_TENSORRT,
	BACKEND_SGLANG,
	BACKEND_LLAMACPP,
	BACKEND_OPENAI,
	BACKEND_COUNT
};

enum precision { PRECISION_FLOAT32, PRECISION_FLOAT16, PRECISION_BFLOAT16 };

struct maybe_i64 {
	bool set;
	int64_t v;
};

struct maybe_f64 {
	bool set;
	double v;
};

struct f64_list {
	double *at;
	size_t n;
};

struct str_list {
	const char **at;
	size_t n;
};

/* A free-form map (extra_args, extra_metadata, env, …): values kept as JSON text. */
struct kv {
	const char *key, *json;
};

struct kv_list {
	struct kv *at;
	size_t n;
};

struct decoder_config {
	double temperature; /* 0 = greedy */
	bool do_sample;     /* false is the same as temperature 0, for every engine */
	int64_t top_k;      /* 0 = off */
	double top_p;
	double repetition_penalty;
	const char *preset;
};

struct dataset_config {
	bool present;
	const char *name;
	struct maybe_i64 sample_size;
	const char *split, *column, *order;
};

enum prompts_type { PROMPTS_FILE, PROMPTS_HUGGINGFACE, PROMPTS_SYNTHETIC, PROMPTS_TRACE };

enum length_distribution { LENGTH_FIXED, LENGTH_UNIFORM, LENGTH_LOGNORMAL, LENGTH_FILE };

/* How many tokens prompts or answers have: a number, or a distribution; load/lengths.h. */
struct length_config {
	bool set; /* was written, or has a default */
	enum length_distribution distribution;
	int64_t tokens;                /* fixed */
	struct maybe_i64 min, max;     /* uniform; lognormal: unset is 1 and the limit */
	struct maybe_f64 median, mean; /* lognormal: one of them */
	struct maybe_f64 sigma;        /* lognormal: of the logarithm */
	const char *path;              /* file */
};

struct prompts_config {
	bool present;
	enum prompts_type type;
	const char *path;                              /* file */
	const char *dataset, *split, *subset, *column; /* huggingface */
	struct maybe_i64 sample_size;
	bool shuffle;
	int64_t seed;
	int64_t count; /* synthetic: number of prompts; 0: as many as the file of lengths has */
	struct length_config input_tokens;  /* synthetic */
	struct length_config output_tokens; /* synthetic, file; not set: max_output_tokens */
	int64_t shared_prefix_tokens; /* synthetic, trace: the same in every prompt of a group */
	int64_t prefix_groups;
	double start_sec;              /* trace: slice of it */
	struct maybe_f64 duration_sec; /* trace */
	struct maybe_f64
		reply_chars_per_token; /* file: length of the answer from that in the file */
};

enum arrival { TRAFFIC_CONSTANT, TRAFFIC_POISSON, TRAFFIC_GAMMA, TRAFFIC_TRACE };

struct traffic_config {
	bool present;
	enum arrival arrival;
	struct maybe_f64 rate; /* requests per second, open loop */
	double burstiness;
	struct maybe_i64 concurrency; /* closed loop with N in flight */
	const char *trace;
	double trace_scale; /* of the times of a trace; 0.5 is twice as fast */
	struct maybe_f64 duration_sec;
	double ramp_sec;
	struct maybe_f64 ramp_to_rate, ramp_over_sec; /* the rate itself changes */
	struct maybe_i64 seed;
	/* Several loads in one launch, in this order; at most one of the two has any. */
	struct f64_list rates, concurrencies;
	double settle_sec; /* pause between two of them */
	bool stop_when_overloaded;
};

struct slo_config {
	bool present;
	struct maybe_f64 ttft_ms, tpot_ms, e2e_ms;
};

struct warmup_config {
	bool enabled, convergence_detection;
	double cv_threshold;
	int64_t max_prompts, window_size, min_prompts;
	struct maybe_i64 requests; /* fixed count; excludes convergence detection */
};

struct baseline_config {
	bool enabled, required;
	double duration_sec;
	double cache_ttl_sec;
	int64_t sample_interval_ms;
};

struct timeseries_config {
	bool enabled;
	int64_t sample_interval_ms;
};

/* How long to measure. With min_duration_sec the prompt list is repeated until it is reached. */
struct window_config {
	double min_duration_sec; /* 0 = the prompt list once */
	int64_t max_passes;
};

struct energy_config {
	struct str_list meters; /* "auto" or names: nvml, rapl_perf, rapl_powercap, estimate */
	struct maybe_f64
		estimate_watts_per_core; /* asks for the estimate meter; labelled everywhere */
	double counter_hz;
};

/* How the engine's container is made; all engines but openai, whose server already runs. What
 * decides which GPUs it gets is not here: gpus does. */
struct docker_config {
	bool present;
	const char *image;         /* NULL: the engine's own, at the version lem was written for */
	const char *pull;          /* missing, never, always */
	struct maybe_i64 shm_size; /* bytes of /dev/shm; unset: by the number of GPUs */
	struct str_list volumes;   /* "HOST:CONTAINER[:ro|:rw]", as written */
	const char *network;       /* NULL: a network of Docker's own, the port on loopback */
	const char *user;          /* NULL: the image's */
};

enum runner_kind { RUNNER_AUTO, RUNNER_PROCESS, RUNNER_DOCKER, RUNNER_SLURM, RUNNER_EXTERNAL };

struct beam_config {
	bool enabled;
	int64_t num_beams;
	double length_penalty;
	bool early_stopping;
	int64_t no_repeat_ngram_size;
};

struct assisted_config {
	bool present;
	const char *model;
	int64_t num_tokens;
};

struct pytorch_config {
	bool present;
	int64_t batch_size;
	const char *batching_strategy; /* static, dynamic, sorted_static, sorted_dynamic */
	struct maybe_i64 max_tokens_per_batch;
	int64_t num_processes; /* data parallel replicas, prompts sharded */
	int64_t tensor_parallel_size;
	bool load_in_4bit, load_in_8bit;
	const char *bnb_4bit_compute_dtype, *bnb_4bit_quant_type;
	bool bnb_4bit_use_double_quant;
	const char *attn_implementation;
	const char *torch_compile; /* NULL = off, or the mode */
	const char *torch_compile_backend;
	bool use_cache;
	const char *cache_implementation;
	bool low_cpu_mem_usage;
	struct kv_list max_memory;
	double min_p;
	int64_t no_repeat_ngram_size;
	struct beam_config beam_search;
	struct assisted_config assisted_generation;
	struct kv_list extra_load, extra_generate;
	const char *python; /* the interpreter: a path, or a name looked up in PATH */
	double load_timeout_sec, request_timeout_sec;
};

struct vllm_speculative_config {
	bool present;
	const char *model, *method;
	int64_t num_tokens, prompt_lookup_min;
	struct maybe_i64 prompt_lookup_max;
	int64_t draft_tp_size;
};

struct vllm_config {
	bool present;
	int64_t max_num_seqs;
	struct maybe_i64 max_num_batched_tokens;
	double gpu_memory_utilization;
	double swap_space, cpu_offload_gb;
	struct maybe_i64
		tensor_parallel_size; /* default 1; `auto` is resolved to what gpus leaves */
	bool tensor_parallel_auto;    /* was written as `auto` */
	int64_t pipeline_parallel_size, data_parallel_size;
	bool enable_expert_parallel;
	const char *distributed_backend;
	bool disable_custom_all_reduce, enable_prefix_caching, enable_chunked_prefill;
	const char *kv_cache_dtype;
	struct maybe_i64 block_size, max_model_len;
	bool enforce_eager;
	const char *attention_backend;
	struct maybe_i64 attention_flash_version;
	bool attention_disable_sliding_window;
	const char *quantization, *load_format;
	double min_p;
	struct maybe_i64 logprobs;
	struct kv_list logit_bias;
	struct vllm_speculative_config speculative;
	bool lora_enabled;
	int64_t lora_max_loras, lora_max_rank;
	struct kv_list extra_args;
	const char *python; /* NULL: the program `vllm` */
	double load_timeout_sec, request_timeout_sec;
};

struct tensorrt_config {
	bool present;
	const char *backend; /* pytorch, tensorrt, _autodeploy */
	const char *engine_path, *engine_cache_dir;
	bool force_rebuild;
	int64_t max_batch_size;
	struct maybe_i64 max_input_len, max_output_len, max_num_tokens;
	struct maybe_i64 builder_opt_level;
	bool strongly_typed, multiple_profiles;
	int64_t tp_size, pp_size, cp_size;
	struct maybe_i64 moe_tp_size, moe_ep_size;
	const char *quantization, *kv_cache_type;
	bool enable_chunked_context, enable_kv_cache_reuse;
	double kv_cache_fraction;
	const char *draft_model;
	int64_t num_draft_tokens;
	struct kv_list extra_build_args, extra_runtime_args;
	double load_timeout_sec, request_timeout_sec;
};

struct sglang_config {
	bool present;
	int64_t tp_size, pp_size, dp_size, ep_size;
	bool enable_dp_attention;
	double mem_fraction_static;
	bool disable_radix_cache;
	const char *load_format, *quantization;
	struct kv_list extra_args;
	const char *python;
	double load_timeout_sec, request_timeout_sec;
};

enum llama_batching { LLAMA_STATIC, LLAMA_CONTINUOUS };

/* The embedded engine (workers/llama). */
struct llamacpp_config {
	bool present;
	enum llama_batching batching;
	int64_t batch_size; /* sequences computed together: static batch, or parallel slots */
	struct maybe_i64 threads, threads_batch; /* unset: physical cores this process may use */
	struct maybe_i64 n_ctx;                  /* unset: what batch_size sequences need */
	int64_t n_batch, n_ubatch;
	struct maybe_i64 n_gpu_layers; /* unset: all when gpus is not empty, else 0 */
	int64_t main_gpu;
	const char *split_mode;       /* none, layer, row */
	struct f64_list tensor_split; /* share of each GPU; empty: by free memory */
	const char *flash_attn;       /* auto, on, off */
	const char *cache_type_k, *cache_type_v;
	bool mmap, mlock;
	double min_p;
	const char *worker; /* path of another build of the worker; NULL: the one beside lem */
	bool server;        /* llama-server instead of the embedded worker; what follows is its */
	const char *server_program; /* NULL: llama-server from PATH, or what the image starts */
	bool cache_prompt;
	struct kv_list extra_args;
	double load_timeout_sec, request_timeout_sec;
};

struct openai_config {
	bool present;
	const char *url, *api_key_env, *endpoint; /* endpoint: completions | chat */
	bool tls_verify;
	struct kv_list extra_body; /* added to every request */
	double load_timeout_sec, request_timeout_sec;
};

struct experiment {
	/* where it came from */
	const char *path;     /* of the file, NULL for none */
	const char *root_dir; /* `_extends` and relative paths stay below it */

	const char *schema_version, *config_name, *model_name, *adapter;
	int64_t max_input_tokens, max_output_tokens, min_output_tokens;
	struct maybe_i64 num_input_prompts;
	bool save_outputs;
	struct dataset_config dataset;
	struct prompts_config prompts;
	struct str_list
		gpus; /* as written: "0", "GPU-…", "MIG-…", "0000:65:00.0", "host:2"; n 0 = CPU */
	enum precision fp_precision;
	struct decoder_config decoder;
	struct traffic_config traffic;
	struct slo_config slo;
	struct warmup_config warmup;
	struct baseline_config baseline;
	struct timeseries_config timeseries;
	struct window_config window;
	struct energy_config energy;
	bool streaming;       /* one request at a time, each token stamped */
	bool client_roofline; /* measured before the engine is started */
	enum backend backend;
	enum runner_kind runner;
	struct docker_config docker;
	bool strict_gpus, trust_remote_code;
	struct maybe_i64 random_seed;
	const char *results_dir; /* io.results_dir */
	struct kv_list env;      /* for the engine; CUDA_VISIBLE_DEVICES and the like are refused */
	struct kv_list extra_metadata;

	struct pytorch_config pytorch;
	struct vllm_config vllm;
	struct tensorrt_config tensorrt;
	struct sglang_config sglang;
	struct llamacpp_config llamacpp;
	struct openai_config openai;
};

const char *backend_name(enum backend b);     /* "pytorch", "vllm", … */
const char *precision_name(enum precision p); /* "float32", … */

/* Values of variables with such a name (HF_TOKEN, API keys, passwords) are never shown or stored.
 */
bool config_is_secret(const char *name, size_t n);

#endif
