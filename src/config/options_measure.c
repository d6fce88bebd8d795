/* What is asked of the engine, when, for how long, and which meters watch. */
#include "config/option.h"

#define DECODER(f) offsetof(struct decoder_config, f)
static const struct option decoder_options[] = {
	{"temperature", OPT_F64, DECODER(temperature), "1.0", RANGE(0, 2),
	 .help = "0 takes the most likely token (greedy)."},
	{"do_sample", OPT_BOOL, DECODER(do_sample), "true",
	 .help = "false is the same as temperature 0, for every engine."},
	{"top_k", OPT_I64, DECODER(top_k), "50", .min = 0, .max = OPTION_INT_MAX,
	 .engines = ~ENGINE(OPENAI), .help = "Sample among the k most likely tokens; 0 = off."},
	{"top_p", OPT_F64, DECODER(top_p), "1.0", UNIT_RANGE,
	 .help = "Sample among the most likely tokens that together reach this probability; 1 = "
		 "off."},
	{"repetition_penalty", OPT_F64, DECODER(repetition_penalty), "1.0", RANGE(0.1, 10),
	 .engines = ~ENGINE(OPENAI),
	 .help = "Above 1 makes tokens seen before less likely, also when greedy; 1 = off."},
	{"preset", OPT_CHOICE, DECODER(preset),
	 CHOICES("deterministic", "standard", "creative", "factual"),
	 .help = "Fills the other keys; keys written beside it win."},
};
const struct section section_decoder = {"decoder", "How the next token is chosen.",
					TABLE(decoder_options)};

#define DATASET(f) offsetof(struct dataset_config, f)
static const struct option dataset_options[] = {
	{"name", OPT_STR, DATASET(name), .required = true,
	 .help = "Alias (ai-energy-score, alpaca, sharegpt, gsm8k, mmlu) or Hugging Face id."},
	{"sample_size", OPT_MAYBE_I64, DATASET(sample_size), AT_LEAST(1), .unit = "prompts",
	 .help = "The first N prompts; null: all."},
	{"split", OPT_STR, DATASET(split),
	 .help = "Split to read; null: the alias's own, else train."},
	{"column", OPT_STR, DATASET(column),
	 .help = "Column with the text; null: found by its name."},
	{"order", OPT_CHOICE, DATASET(order), CHOICES("interleaved", "grouped", "shuffled"),
	 .help = "Order of the prompts; null: as they stand in the source."},
};
const struct section section_dataset = {"dataset", "Prompts from a named data set.", "name",
					PRESENT(struct dataset_config, present),
					TABLE(dataset_options)};

#define PROMPTS(f) offsetof(struct prompts_config, f)
static const struct option prompts_options[] = {
	{"type", OPT_ENUM, PROMPTS(type), "file",
	 CHOICES("file", "huggingface", "synthetic", "trace"), .help = "Where prompts come from."},
	{"path", OPT_STR, PROMPTS(path),
	 .help = "file: a .txt with one prompt per line that is not blank, a .jsonl, or a .json "
		 "(ShareGPT); trace: a .csv of requests (Azure, BurstGPT)."},
	{"dataset", OPT_STR, PROMPTS(dataset), .help = "huggingface: id of the data set."},
	{"split", OPT_STR, PROMPTS(split), "train", .help = "huggingface: split to read."},
	{"subset", OPT_STR, PROMPTS(subset), .help = "huggingface: configuration of the data set."},
	{"column", OPT_STR, PROMPTS(column),
	 .help = "huggingface, file: column with the text; null: found by its name."},
	{"sample_size", OPT_MAYBE_I64, PROMPTS(sample_size), AT_LEAST(1), .unit = "prompts",
	 .help = "The first N prompts; null: all."},
	{"shuffle", OPT_BOOL, PROMPTS(shuffle), "false",
	 .help = "huggingface: shuffle before the first N are taken."},
	{"seed", OPT_I64, PROMPTS(seed), "42", RANGE(0, OPTION_SEED_MAX),
	 .help = "Seed of the shuffle, of synthetic tokens and of their lengths; random_seed wins "
		 "over it for the last two."},
	{"count", OPT_I64, PROMPTS(count), "8", .min = 0, .max = 1000000, .unit = "prompts",
	 .help = "synthetic: how many prompts; 0, and the default with a file of lengths: as many "
		 "as it has."},
	{"input_tokens", OPT_LENGTHS, PROMPTS(input_tokens), "128", AT_LEAST(1), .unit = "tokens",
	 .sub = &section_input_lengths,
	 .help = "synthetic: length of each prompt, or a distribution of lengths."},
	{"output_tokens", OPT_LENGTHS, PROMPTS(output_tokens), AT_LEAST(1), .unit = "tokens",
	 .sub = &section_output_lengths,
	 .help = "synthetic, file: exactly this many tokens of each answer, or a distribution; "
		 "null: what min_output_tokens and max_output_tokens say."},
	{"shared_prefix_tokens", OPT_I64, PROMPTS(shared_prefix_tokens), "0", .min = 0,
	 .max = OPTION_INT_MAX, .unit = "tokens",
	 .help = "synthetic, trace: prompts of a group begin with so many tokens in common, which "
		 "count as part of their length; 0: no two prompts have a beginning in common."},
	{"prefix_groups", OPT_I64, PROMPTS(prefix_groups), "1", RANGE(1, 1000000),
	 .help = "synthetic, trace: number of different shared beginnings, which the prompts take "
		 "in "
		 "turn."},
	{"start_sec", OPT_F64, PROMPTS(start_sec), "0", .min = 0, .max = 1e9, .unit = "s",
	 .help = "trace: leave out what came earlier than this after its first row."},
	{"duration_sec", OPT_MAYBE_F64, PROMPTS(duration_sec), ABOVE(0, 1e9), .unit = "s",
	 .help = "trace: take this much of it, before traffic.trace_scale; null: to its end."},
	{"reply_chars_per_token", OPT_MAYBE_F64, PROMPTS(reply_chars_per_token), ABOVE(0, 1000),
	 .unit = "characters",
	 .help = "file: force answers of the length of the reply in the file (ShareGPT: the next "
		 "assistant turn), estimated as its characters over this, such as 4; null: no."},
};

#define LENGTH(f) offsetof(struct length_config, f)
static const struct option length_options[] = {
	{"distribution", OPT_ENUM, LENGTH(distribution),
	 CHOICES("fixed", "uniform", "lognormal", "file"), .help = "How lengths are drawn."},
	{"tokens", OPT_I64, LENGTH(tokens), AT_LEAST(1), .unit = "tokens",
	 .help = "fixed: all the same; `X: 128` is short for `X: {distribution: fixed, tokens: "
		 "128}`."},
	{"min", OPT_MAYBE_I64, LENGTH(min), AT_LEAST(1), .unit = "tokens",
	 .help = "uniform, lognormal: not below; lognormal, null: 1."},
	{"max", OPT_MAYBE_I64, LENGTH(max), AT_LEAST(1), .unit = "tokens",
	 .help = "uniform, lognormal: not above; lognormal, null: the experiment's limit."},
	{"median", OPT_MAYBE_F64, LENGTH(median), ABOVE(0, OPTION_INT_MAX), .unit = "tokens",
	 .help = "lognormal: half of the lengths are below."},
	{"mean", OPT_MAYBE_F64, LENGTH(mean), ABOVE(0, OPTION_INT_MAX), .unit = "tokens",
	 .help = "lognormal: instead of median, the mean before min and max cut."},
	{"sigma", OPT_MAYBE_F64, LENGTH(sigma), RANGE(0, 10),
	 .help = "lognormal: standard deviation of the logarithm; traces of chats have about 1."},
	{"path", OPT_STR, LENGTH(path),
	 .help = "file: a number of tokens a line, or two, `input,output`; in order, and from the "
		 "start again."},
};
const struct section section_input_lengths = {"prompts.input_tokens",
					      "How long synthetic prompts are: a number, or this.",
					      TABLE(length_options)};
const struct section section_output_lengths = {
	"prompts.output_tokens", "How long answers are: a number, or this.", TABLE(length_options)};
const struct section section_prompts = {
	"prompts", "Prompts from a file, from Hugging Face, or synthetic.",
	.present = offsetof(struct prompts_config, present) + 1, TABLE(prompts_options)};

#define TRAFFIC(f) offsetof(struct traffic_config, f)
static const struct option traffic_options[] = {
	{"arrival", OPT_ENUM, TRAFFIC(arrival), "poisson",
	 CHOICES("constant", "poisson", "gamma", "trace"),
	 .help = "How requests arrive. Arrivals are open loop: a slow engine does not slow them "
		 "down."},
	{"rate", OPT_MAYBE_F64, TRAFFIC(rate), ABOVE(0, 1e6), .unit = "requests/s",
	 .help = "Mean arrival rate."},
	{"burstiness", OPT_F64, TRAFFIC(burstiness), "1.0", ABOVE(0, 1000),
	 .help = "Shape of the gamma distribution: below 1 burstier than poisson, above 1 more "
		 "even."},
	{"concurrency", OPT_MAYBE_I64, TRAFFIC(concurrency), RANGE(1, 65536), .unit = "requests",
	 .help = "Closed loop instead: keep this many requests in flight."},
	{"trace", OPT_STR, TRAFFIC(trace),
	 .help = "For arrival: trace, a file with a time in seconds a line; null: the times of "
		 "prompts.type: trace."},
	{"trace_scale", OPT_F64, TRAFFIC(trace_scale), "1.0", ABOVE(0, 1e6),
	 .help = "For arrival: trace, its times are multiplied by this: 0.5 replays it twice as "
		 "fast."},
	{"duration_sec", OPT_MAYBE_F64, TRAFFIC(duration_sec), ABOVE(0, 604800), .unit = "s",
	 .help = "Send for this long, repeating the prompts; null: each prompt once."},
	{"ramp_sec", OPT_F64, TRAFFIC(ramp_sec), "0", RANGE(0, 86400), .unit = "s",
	 .help = "Requests of the first seconds are sent but not counted."},
	{"ramp_to_rate", OPT_MAYBE_F64, TRAFFIC(ramp_to_rate), ABOVE(0, 1e6), .unit = "requests/s",
	 .help = "The rate changes evenly from rate to this one, and stays there. Not ramp_sec, "
		 "which leaves the first requests uncounted."},
	{"ramp_over_sec", OPT_MAYBE_F64, TRAFFIC(ramp_over_sec), ABOVE(0, 604800), .unit = "s",
	 .help = "How long the change to ramp_to_rate takes; null: duration_sec."},
	{"seed", OPT_MAYBE_I64, TRAFFIC(seed), RANGE(0, OPTION_SEED_MAX),
	 .help = "Seed of the arrivals; null: random_seed."},
	{"rates", OPT_F64_LIST, TRAFFIC(rates), ABOVE(0, 1e6), .unit = "requests/s",
	 .help = "Several rates instead of rate: measured one after the other in one launch of "
		 "the engine, each a run of its own."},
	{"concurrencies", OPT_F64_LIST, TRAFFIC(concurrencies), RANGE(1, 65536), .unit = "requests",
	 .help = "The same with several numbers in flight (closed loop)."},
	{"settle_sec", OPT_F64, TRAFFIC(settle_sec), "3", RANGE(0, 3600), .unit = "s",
	 .help = "rates, concurrencies: pause after the last answer of a load before the next."},
	{"stop_when_overloaded", OPT_BOOL, TRAFFIC(stop_when_overloaded), "false",
	 .help = "rates: the list ends after the first load that the server did not keep up "
		 "with."},
};
const struct section section_traffic = {"traffic", "When requests are sent.",
					.present = offsetof(struct traffic_config, present) + 1,
					TABLE(traffic_options)};

#define SLO(f) offsetof(struct slo_config, f)
static const struct option slo_options[] = {
	{"ttft_ms", OPT_MAYBE_F64, SLO(ttft_ms), ABOVE(0, 1e9), .unit = "ms",
	 .help = "Time to first token, from the scheduled time; at most this."},
	{"tpot_ms", OPT_MAYBE_F64, SLO(tpot_ms), ABOVE(0, 1e9), .unit = "ms",
	 .help = "Time per output token after the first; at most this."},
	{"e2e_ms", OPT_MAYBE_F64, SLO(e2e_ms), ABOVE(0, 1e9), .unit = "ms",
	 .help = "Time of a whole request, from the scheduled time; at most this."},
};
const struct section section_slo = {
	"slo", "Latency goals; how many requests meet all of them is reported.",
	.present = offsetof(struct slo_config, present) + 1, TABLE(slo_options)};

#define WARMUP(f) offsetof(struct warmup_config, f)
static const struct option warmup_options[] = {
	{"enabled", OPT_BOOL, WARMUP(enabled), "true",
	 .help = "Run requests of the measured shape before the window."},
	{"convergence_detection", OPT_BOOL, WARMUP(convergence_detection), "true",
	 .help = "Stop when latencies have become stable; false: always max_prompts."},
	{"cv_threshold", OPT_F64, WARMUP(cv_threshold), "0.05", ABOVE(0, 1),
	 .help = "Stable means: standard deviation / mean of the last window_size latencies is "
		 "below this."},
	{"max_prompts", OPT_I64, WARMUP(max_prompts), "50", RANGE(1, 200), .unit = "prompts",
	 .help = "Stop at the latest after."},
	{"window_size", OPT_I64, WARMUP(window_size), "5", RANGE(3, 20), .unit = "prompts",
	 .help = "Latencies looked at."},
	{"min_prompts", OPT_I64, WARMUP(min_prompts), "5", RANGE(1, 200), .unit = "prompts",
	 .help = "Stop at the earliest after."},
	{"requests", OPT_MAYBE_I64, WARMUP(requests), RANGE(0, 100000), .unit = "requests",
	 .help = "A fixed number instead of convergence detection."},
};
const struct section section_warmup = {"warmup", "Requests before the measured window.",
				       TABLE(warmup_options)};

#define BASELINE(f) offsetof(struct baseline_config, f)
static const struct option baseline_options[] = {
	{"enabled", OPT_BOOL, BASELINE(enabled), "true",
	 .help = "Measure idle power, with and without the engine loaded."},
	{"required", OPT_BOOL, BASELINE(required), "false",
	 .help = "Fail when it cannot be measured."},
	{"duration_sec", OPT_F64, BASELINE(duration_sec), "30", RANGE(5, 120), .unit = "s",
	 .help = "Length of each baseline."},
	{"cache_ttl_sec", OPT_F64, BASELINE(cache_ttl_sec), "3600", RANGE(60, 31536000),
	 .unit = "s", .help = "A baseline of the same GPUs is used again for this long."},
	{"sample_interval_ms", OPT_I64, BASELINE(sample_interval_ms), "100", RANGE(50, 1000),
	 .unit = "ms", .help = "Time between samples."},
};
const struct section section_baseline = {"baseline", "Idle power before and after the window.",
					 TABLE(baseline_options)};

#define TIMESERIES(f) offsetof(struct timeseries_config, f)
static const struct option timeseries_options[] = {
	{"enabled", OPT_BOOL, TIMESERIES(enabled), "false", .outside_hash = true,
	 .help = "Export power, memory and temperature over time."},
	{"save", .verdict = RENAME, .to = "timeseries.enabled"},
	{"sample_interval_ms", OPT_I64, TIMESERIES(sample_interval_ms), "100", RANGE(50, 5000),
	 .unit = "ms", .help = "Time between samples."},
};
const struct section section_timeseries = {"timeseries", "Samples over time.", "enabled",
					   TABLE(timeseries_options)};

#define WINDOW(f) offsetof(struct window_config, f)
static const struct option window_options[] = {
	{"min_duration_sec", OPT_F64, WINDOW(min_duration_sec), "0", .min = 0, .max = 86400,
	 .unit = "s",
	 .help = "Repeat the prompts until the window is this long; 0: each prompt once."},
	{"max_passes", OPT_I64, WINDOW(max_passes), "1000", RANGE(1, 1000000),
	 .help = "Repeat at most this often."},
};
const struct section section_window = {"window", "How long to measure.", TABLE(window_options)};

#define ENERGY(f) offsetof(struct energy_config, f)
static const struct option energy_options[] = {
	{"meters", OPT_STR_LIST, ENERGY(meters), "[auto]",
	 CHOICES("auto", "nvml", "rapl_perf", "rapl_powercap", "estimate"),
	 .help = "Meters to read; auto takes every real one that can be read."},
	{"sampler", .verdict = RENAME, .to = "energy.meters"},
	{"estimate_watts_per_core", OPT_MAYBE_F64, ENERGY(estimate_watts_per_core), ABOVE(0, 1000),
	 .unit = "W",
	 .help = "Asks for the estimate meter: CPU seconds times this. Marked as an estimate "
		 "wherever it is shown."},
	{"counter_hz", OPT_F64, ENERGY(counter_hz), "1", ABOVE(0, 10), .unit = "Hz",
	 .help = "How often a GPU's energy counter is read besides the edges of phases; a read "
		 "costs "
		 "3 to 15 ms of CPU on H100."},
};
const struct section section_energy = {"energy", "Which meters to read.", "meters",
				       TABLE(energy_options)};
