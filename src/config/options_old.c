/* Old keys that come as a map of their own, and the files of the predecessor's later versions. */
#include "config/option.h"

#define MOVE(old, target)                            \
	{                                            \
		old, .verdict = RENAME, .to = target \
	}
#define DROPPED(old, why)                         \
	{                                         \
		old, .verdict = DROP, .help = why \
	}

static const struct option batching_options[] = {
	MOVE("batch_size", "pytorch.batch_size"),
	MOVE("strategy", "pytorch.batching_strategy"),
	MOVE("max_tokens_per_batch", "pytorch.max_tokens_per_batch"),
};
const struct section section_old_batching = {"batching", "", TABLE(batching_options)};

static const struct option quantization_options[] = {
	MOVE("load_in_4bit", "pytorch.load_in_4bit"),
	MOVE("load_in_8bit", "pytorch.load_in_8bit"),
	{"quantization", .verdict = REJECT,
	 .to = "write pytorch.load_in_4bit, vllm.quantization or tensorrt.quantization",
	 .help = "means something else in each engine"},
};
const struct section section_old_quantization = {"quantization", "", TABLE(quantization_options)};

/* `enabled: false` takes the whole map away; see normalise.c. */
static const struct option traffic_options[] = {
	{"enabled", .verdict = DROP, .silent = true, .help = "the presence of traffic decides"},
	MOVE("mode", "traffic.arrival"),
	MOVE("target_qps", "traffic.rate"),
	MOVE("seed", "traffic.seed"),
};
const struct section section_old_traffic = {"traffic_simulation", "", TABLE(traffic_options)};

static const struct option task_dataset_options[] = {
	MOVE("source", "dataset.name"),
	MOVE("n_prompts", "dataset.sample_size"),
	MOVE("order", "dataset.order"),
};
static const struct section task_dataset = {"task.dataset", "", "source",
					    TABLE(task_dataset_options)};

static const struct option task_options[] = {
	MOVE("model", "model_name"),
	{"dataset", .verdict = RENAME, .to = "dataset", .sub = &task_dataset},
	MOVE("max_input_tokens", "max_input_tokens"),
	MOVE("max_output_tokens", "max_output_tokens"),
	MOVE("random_seed", "random_seed"),
};
const struct section section_later_task = {"task", "", TABLE(task_options)};

static const struct option measurement_options[] = {
	MOVE("warmup", "warmup"),
	MOVE("baseline", "baseline"),
	MOVE("energy_sampler", "energy.meters"),
};
const struct section section_later_measurement = {"measurement", "", TABLE(measurement_options)};

static const struct option server_slo_options[] = {
	MOVE("ttft_ms", "slo.ttft_ms"),
	MOVE("tpot_ms", "slo.tpot_ms"),
	DROPPED("percentile",
		"the share of requests within the goal is reported, at every percentile"),
};
static const struct section server_slo = {"server.traffic.slo", "", TABLE(server_slo_options)};

static const struct option server_traffic_options[] = {
	MOVE("rate", "traffic.rate"),
	MOVE("arrival", "traffic.arrival"),
	MOVE("burstiness", "traffic.burstiness"),
	MOVE("window_seconds", "traffic.duration_sec"),
	MOVE("ramp_exclusion_seconds", "traffic.ramp_sec"),
	{"concurrency_cap", .verdict = REJECT,
	 .to = "remove it, or write traffic.concurrency for a closed loop",
	 .help = "would delay arrivals that should not depend on the engine"},
	{"slo", .verdict = RENAME, .to = "slo", .sub = &server_slo},
	MOVE("seed", "traffic.seed"),
};
static const struct section server_traffic = {"server.traffic", "", TABLE(server_traffic_options)};

static const struct option server_options[] = {
	{"traffic", .verdict = RENAME, .to = "traffic", .sub = &server_traffic},
};
const struct section section_later_server = {"server", "", TABLE(server_options)};
