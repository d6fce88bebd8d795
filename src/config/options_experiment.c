/* The top level of an experiment file. */
#include "config/option.h"

#define AT(f) offsetof(struct experiment, f)
#define OLD   .verdict = REJECT
#define MOVED .verdict = RENAME

static const struct option io_options[] = {
	{"results_dir", OPT_STR, AT(results_dir), .outside_hash = true,
	 .help = "Folder of the results; default: -o, LEM_RESULTS_DIR, else results."},
	{"state_dir", OLD, .to = "remove it: state is kept in the results folder",
	 .help = "was part of campaign files"},
};

const struct section section_io = {"io", "Where results go.", TABLE(io_options)};

#define CAMPAIGN_KEY(key, target)                                                      \
	{                                                                              \
		key, OLD, .to = target,                                                \
			  .help = "belongs to a campaign file, this is one experiment" \
	}

static const struct option options[] = {
	{"schema_version", OPT_STR, AT(schema_version), .outside_hash = true,
	 .help = "Version of the file's schema; may be left out."},
	{"config_name", OPT_STR, AT(config_name), .required = true, .outside_hash = true,
	 .help = "Name of the experiment in results and reports."},
	{"model_name", OPT_STR, AT(model_name), .required = true,
	 .help = "Hugging Face id, local folder or GGUF file, hf:ORG/REPO[:FILE], or "
		 "synthetic:SHAPE[:QUANT]."},
	{"model", MOVED, .to = "model_name", .silent = true},
	{"adapter", OPT_STR, AT(adapter), .engines = ENGINE(PYTORCH) | ENGINE(VLLM),
	 .help = "LoRA adapter to apply: Hugging Face id, or a folder (./NAME when it is "
		 "relative)."},
	{"max_input_tokens", OPT_I64, AT(max_input_tokens), "512", AT_LEAST(1), .unit = "tokens",
	 .help = "Longer prompts are cut to this many tokens, the same way for every engine; "
		 "nothing is padded."},
	{"max_output_tokens", OPT_I64, AT(max_output_tokens), "128", AT_LEAST(1), .unit = "tokens",
	 .help = "A request ends at this many generated tokens at the latest."},
	{"max_new_tokens", MOVED, .to = "max_output_tokens"},
	{"min_output_tokens", OPT_I64, AT(min_output_tokens), "0", .min = 0, .max = OPTION_INT_MAX,
	 .unit = "tokens",
	 .help = "End of sequence is not allowed before; equal to max_output_tokens it forces the "
		 "length."},
	{"num_input_prompts", OPT_MAYBE_I64, AT(num_input_prompts), AT_LEAST(1),
	 .help = "Use only the first N prompts of the source; null: all of them."},
	{"save_outputs", OPT_BOOL, AT(save_outputs), "false",
	 .help = "Keep the generated text of every request."},
	{"decode_token_to_text", OLD, .to = "write save_outputs: true",
	 .help = "is implied by save_outputs"},
	{"dataset", OPT_MAP, AT(dataset), .sub = &section_dataset,
	 .help = "Prompts from a named data set."},
	{"prompts", OPT_MAP, AT(prompts), .sub = &section_prompts,
	 .help = "Prompts from a file, from Hugging Face, or synthetic."},
	{"num_samples", MOVED, .to = "dataset.sample_size"},
	{"gpus", OPT_GPUS, AT(gpus), "[0]",
	 .help = "The GPUs to use: indices, GPU-UUID, MIG-UUID, PCI bus ids, or host:N; [] is the "
		 "CPU. Without the key: "
		 "[0], for llamacpp and openai []."},
	{"gpu_list", MOVED, .to = "gpus"},
	{"fp_precision", OPT_ENUM, AT(fp_precision), "float16",
	 .engines = ~(ENGINE(LLAMACPP) | ENGINE(OPENAI)), CHOICES("float32", "float16", "bfloat16"),
	 .help = "Type of the weights and activations."},
	{"precision", MOVED, .to = "fp_precision", .silent = true},
	{"dtype", MOVED, .to = "fp_precision", .silent = true},
	{"decoder", OPT_MAP, AT(decoder), .sub = &section_decoder,
	 .help = "How the next token is chosen."},
	{"temperature", MOVED, .to = "decoder.temperature"},
	{"traffic", OPT_MAP, AT(traffic), .sub = &section_traffic,
	 .help = "When requests are sent; without it all are issued at once."},
	{"slo", OPT_MAP, AT(slo), .sub = &section_slo, .help = "Latency goals."},
	{"traffic_simulation", MOVED, .to = "traffic", .sub = &section_old_traffic},
	{"schedule", OLD, .to = "use cron or a systemd timer around lem campaign --resume",
	 .help = "was removed"},
	{"schedule_config", OLD, .to = "use cron or a systemd timer around lem campaign --resume",
	 .help = "was removed"},
	{"io", OPT_MAP, 0, .sub = &section_io, .help = "Where results go."},
	{"warmup", OPT_MAP, AT(warmup), .sub = &section_warmup,
	 .help = "Requests before the measured window."},
	{"baseline", OPT_MAP, AT(baseline), .sub = &section_baseline,
	 .help = "Idle power before and after."},
	{"timeseries", OPT_MAP, AT(timeseries), .sub = &section_timeseries,
	 .help = "Samples over time."},
	{"window", OPT_MAP, AT(window), .sub = &section_window, .help = "How long to measure."},
	{"energy", OPT_MAP, AT(energy), .sub = &section_energy, .help = "Which meters to read."},
	{"streaming", OPT_BOOL, AT(streaming), "false",
	 .help = "One request at a time with every token stamped: time to first token and "
		 "inter-token times of a single user."},
	{"streaming_warmup_requests", MOVED, .to = "warmup.requests"},
	{"client_roofline", OPT_BOOL, AT(client_roofline), "true", .engines = ~ENGINE(PYTORCH),
	 .outside_hash = true,
	 .help = "Measure what lem's own load client can do on this host, for about 0.2 s before "
		 "the engine is started; the result tells how far below it the run stayed."},
	{"backend", OPT_ENUM, AT(backend), "pytorch",
	 CHOICES("pytorch", "vllm", "tensorrt", "sglang", "llamacpp", "openai"),
	 .choice_aliases = (const struct choice_alias[]){{"transformers", "pytorch"}, {NULL, NULL}},
	 .help = "The inference engine; only its own section may be given."},
	{"engine", MOVED, .to = "backend", .silent = true},
	{"runner", OPT_ENUM, AT(runner), "auto",
	 CHOICES("auto", "process", "docker", "slurm", "external"),
	 .help = "Where the engine runs: a process here, a container, a Slurm step, or already "
		 "running elsewhere."},
	{"docker", OPT_MAP, AT(docker), .sub = &section_docker, .engines = ~ENGINE(OPENAI),
	 .help = "How the engine's container is made, with runner: docker."},
	{"runners", OLD,
	 .to = "write runner: docker, and docker: {image: …} for an image of your own; one file "
	       "is one experiment on one engine",
	 .help = "named a place for each engine"},
	{"strict_gpus", OPT_BOOL, AT(strict_gpus), "false",
	 .help = "Listed GPUs that the engine would leave idle are an error instead of a warning."},
	{"trust_remote_code", OPT_BOOL, AT(trust_remote_code), "false",
	 .engines = ENGINE(PYTORCH) | ENGINE(VLLM) | ENGINE(TENSORRT) | ENGINE(SGLANG),
	 .help = "Let the engine run Python code that comes with the model."},
	{"random_seed", OPT_MAYBE_I64, AT(random_seed), RANGE(0, OPTION_SEED_MAX),
	 .help = "Seed of sampling and of every shuffle; null: not reproducible."},
	{"seed", MOVED, .to = "random_seed", .silent = true},
	{"env", OPT_KV, AT(env), .engines = ~ENGINE(OPENAI),
	 .help = "Environment variables for the engine. GPU selection is refused here: gpus "
		 "decides."},
	{"extra_metadata", OPT_KV, AT(extra_metadata), .outside_hash = true,
	 .help = "Copied into the results as it is."},
	{"_extends", OPT_STR, 0, .verdict = DROP, .silent = true,
	 .help = "Relative path of a file to build on; it must lie below the folder of the first "
		 "file."},
	{"_metadata", OLD, .to = "remove it", .help = "was an internal hand-over"},
	{"_meta", OLD, .to = "use extra_metadata", .help = "was part of presets"},
	{"query_rate", OLD, .to = "write traffic: {rate: …}",
	 .help = "never had an effect and was removed"},
	{"is_encoder_decoder", OLD, .to = "remove it",
	 .help = "was removed; the model's own configuration says it"},
	{"task_type", OLD, .to = "remove it", .help = "was removed; lem measures text generation"},
	{"num_cycles", OLD, .to = "write execution.cycles in a campaign file",
	 .help = "belongs to a campaign, which repeats its experiments"},

	{"pytorch", OPT_MAP, AT(pytorch), .sub = &section_pytorch, .engines = ENGINE(PYTORCH)},
	{"transformers", MOVED, .to = "pytorch", .silent = true},
	{"vllm", OPT_MAP, AT(vllm), .sub = &section_vllm, .engines = ENGINE(VLLM)},
	{"tensorrt", OPT_MAP, AT(tensorrt), .sub = &section_tensorrt, .engines = ENGINE(TENSORRT)},
	{"sglang", OPT_MAP, AT(sglang), .sub = &section_sglang, .engines = ENGINE(SGLANG)},
	{"llamacpp", OPT_MAP, AT(llamacpp), .sub = &section_llamacpp, .engines = ENGINE(LLAMACPP)},
	{"openai", OPT_MAP, AT(openai), .sub = &section_openai, .engines = ENGINE(OPENAI)},

	{"batching", MOVED, .to = "pytorch", .sub = &section_old_batching},
	{"batch_size", MOVED, .to = "pytorch.batch_size"},
	{"num_processes", MOVED, .to = "pytorch.num_processes"},
	{"quantization", MOVED, .to = "pytorch", .sub = &section_old_quantization},
	{"sharding", OLD,
	 .to = "write vllm.tensor_parallel_size, tensorrt.tp_size or pytorch.tensor_parallel_size",
	 .help = "was replaced by each engine's own option"},
	{"parallelism", OLD,
	 .to = "write vllm.tensor_parallel_size, tensorrt.tp_size or pytorch.tensor_parallel_size",
	 .help = "was replaced by each engine's own option"},

	CAMPAIGN_KEY("campaign_name", "run the file with lem campaign"),
	CAMPAIGN_KEY("configs", "run the file with lem campaign"),
	CAMPAIGN_KEY("grid", "move it to a campaign file as grid.shared"),
	CAMPAIGN_KEY("experiments", "run the file with lem campaign"),
	CAMPAIGN_KEY("execution", "move it to a campaign file as execution"),
	CAMPAIGN_KEY("group_by", "move it to a campaign file as group_by"),
	CAMPAIGN_KEY("cold_start",
		     "write execution.cold_start in a campaign file; containers are always fresh"),
	CAMPAIGN_KEY("health_check", "remove it: preflight runs before every experiment"),
	CAMPAIGN_KEY("daemon", "use cron or a systemd timer around lem campaign --resume"),

	{"task", MOVED, .to = "", .sub = &section_later_task},
	{"measurement", MOVED, .to = "", .sub = &section_later_measurement},
	{"server", MOVED, .to = "", .sub = &section_later_server},
	{"sampling_preset", MOVED, .to = "decoder.preset"},
	{"passthrough_kwargs", MOVED, .to = "@engine.extra_args"},
	{"serving_mode", .verdict = DROP,
	 .help = "the presence of traffic decides whether requests arrive over time"},
	CAMPAIGN_KEY("sweep", "move it to a campaign file as grid.shared"),
	CAMPAIGN_KEY("study_execution",
		     "move it to a campaign file as execution (n_cycles becomes cycles)"),
	CAMPAIGN_KEY("study_name", "write campaign_name in a campaign file"),
};

const struct section section_experiment = {"", "One experiment.", TABLE(options)};
