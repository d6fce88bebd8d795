/*
 * run_record.h — the raw record of one run: everything that was observed, nothing that was computed
 * from it. Immutable once the run has ended; a summary can be rebuilt from it at any time. Local,
 * container and Slurm runs produce the same record. Times are CLOCK_MONOTONIC ns of the lem process
 * and of the worker on the same host (one clock).
 */
#ifndef LEM_MODEL_RUN_RECORD_H
#define LEM_MODEL_RUN_RECORD_H

#include "base/arena.h"
#include "model/gpu_binding.h"
#include "model/model_shape.h"
#include "model/sample.h"
#include "model/slo.h"

enum run_status { RUN_COMPLETED, RUN_FAILED, RUN_INTERRUPTED };

enum run_phase {
	PHASE_PREFLIGHT,
	PHASE_BASELINE, /* idle, no engine on the device */
	PHASE_LOAD,
	PHASE_WARMUP,
	PHASE_BASELINE_RESIDENT, /* engine loaded, no requests */
	PHASE_MEASURE,
	PHASE_DRAIN,
	PHASE_STOP,
	PHASE_COUNT
};

struct phase_span {
	enum run_phase phase;
	int64_t t_start_ns, t_end_ns;
};

/* One request of the measured window. Stamps are 0 when the event did not happen. */
struct request_record {
	int64_t id;             /* 0-based, unique in the run, over all passes */
	int64_t pass;           /* which repetition of the prompt list */
	int64_t prompt_index;   /* in the prompt source */
	int64_t t_scheduled_ns; /* when the load asked for it */
	int64_t t_sent_ns;    /* when the engine began to work on it; over HTTP when it was sent */
	int64_t t_first_ns;   /* first output token complete; over HTTP first chunk received */
	int64_t t_last_ns;    /* last output token complete; over HTTP last chunk received */
	int64_t input_tokens; /* as the engine's tokenizer counts, after truncation */
	int64_t output_tokens;
	int64_t output_tokens_asked; /* 0: not forced */
	int64_t input_tokens_asked;  /* sent as token ids; 0: it was text */
	size_t first_stamp;          /* index into token_stamps_ns; n_stamps entries in order */
	int64_t n_stamps; /* of a worker one a token, over HTTP one a chunk: see stamp_tokens */
	int64_t cached_tokens; /* of the input, from a prefix cache; -1: not told */
	bool truncated;
	bool uncounted;   /* sent to fill the engine (traffic.ramp_sec): no request of the window,
			     though its tokens may fall into it */
	char finish[16];  /* "length", "eos", "error", "" while running */
	char failure[24]; /* why finish is "error", by class: "http_429", "reset"; "" none */
	const char *text; /* NULL unless save_outputs */
};

/* One synchronised engine step: a prefill of some sequences or one decode step of a batch. */
struct step_record {
	bool prefill;
	int64_t t_start_ns, t_end_ns;
	int32_t n_seqs;   /* output tokens: one a sequence, more of a speculating engine */
	int32_t n_tokens; /* tokens computed in this step; continuous batches may mix: see n_prefill
			   */
	int32_t n_prefill; /* of which prompt tokens */
	int32_t replica;   /* steps of different replicas overlap; 0 when there is one */
};

struct warmup_record {
	bool enabled, converged;
	size_t n;
	double *latency_ms; /* n entries */
	double final_cv, target_cv;
};

/* A server driven over HTTP; all NULL and false of a worker. */
struct server_record {
	bool used;
	const char *url; /* base URL, without a key */
	/* Its own metrics as text, read just outside the window; NULL: it has none. */
	const char *metrics_before, *metrics_after;
	bool arrivals;     /* server mode: requests were sent on a schedule */
	bool prefix_cache; /* its reuse of prompts was asked for */
	/* CPU time of lem's client from the first request to the last answer, without looking out
	 * for a request that is about to be due; -1: not known. */
	int64_t client_cpu_ns;
	/* What the client can do on this host, measured before the engine was started; NAN: not. */
	double roofline_requests_per_cpu_s, roofline_chunks_per_cpu_s;
	char urgency[16]; /* of its thread: "realtime", "nice", "ordinary"; "" not known */
	/* Requests of the window that were sent twice, because the server was closing the idle
	 * connection on which they went out first; -1: not known. */
	int64_t n_retried;
};

/* Several loads measured one after the other in one launch are a run each. */
struct level_record {
	const char *launch_id; /* run_id of the first of them; NULL: there is one load only */
	int64_t index, n;      /* 0-based, of n; n 0: there is one load only */
	double rate_hz;        /* open loop; NAN: closed loop */
	int64_t in_flight;     /* closed loop; 0: open loop */
};

/* Where the requests of the window come from. */
struct work_record {
	const char *source; /* "sharegpt a.json", "synthetic, uniform 32 to 256 tokens, seed 42" */
	const char *file_sha256;      /* of the file's bytes; NULL: there is none */
	int64_t n_records, n_skipped; /* of the file: read, and of which could not be used */
};

struct run_record {
	struct arena arena; /* owns every string below */
	const char *run_id;
	const char *config_name;
	const char *config_path;
	const char *config_hash;     /* 16 hex of SHA-256 */
	const char *config_json;     /* effective configuration */
	const char *provenance_json; /* dotted path -> {value, source, source_detail} */
	const char *cli_overrides_json;
	const char *environment_json; /* host facts */
	enum run_status status;
	const char *error_json; /* NULL, or {code, what, where, why, fix} of what ended the run */
	int64_t wall_start_ns;  /* CLOCK_REALTIME at t_start_ns */
	int64_t t_start_ns, t_end_ns;

	const char *engine_name, *engine_version,
		*engine_mode;          /* "llamacpp", "b1234", "offline/static" */
	const char *engine_build_json; /* what the engine said of itself */
	const char *image_digest;      /* NULL for a process */
	const char *model_name, *model_path, *model_sha256;
	struct model_shape shape;
	struct gpu_binding binding;

	struct phase_span phases[16];
	size_t n_phases;
	int64_t window_start_ns, window_end_ns; /* 0, 0 when never measured */
	struct warmup_record warmup;

	struct request_record *requests; /* malloc'ed */
	size_t n_requests;
	size_t n_requests_asked;  /* that the window should have served */
	int64_t *token_stamps_ns; /* malloc'ed */
	/* Tokens that came with each stamp: malloc'ed, n_token_stamps entries. NULL: one with each
	 * of a worker; over HTTP the server did not tell. */
	int32_t *stamp_tokens;
	size_t n_token_stamps;
	struct server_record server;
	struct slo_limits slo;
	struct level_record level;
	struct work_record work;
	struct step_record *steps; /* malloc'ed */
	size_t n_steps;
	struct sample_set samples;

	const char *prompts_hash; /* SHA-256 over the prompts as sent */
	const char *prompts_form; /* what that is over: "token_ids", "texts", "mixed"; NULL: not
				     known */
	const char *log_tail;     /* the engine's last lines on stderr */
	const char **notes; /* findings of the run itself, malloc'ed array, strings in the arena */
	size_t n_notes;
};

void run_record_init(struct run_record *r);
void run_record_release(struct run_record *r);
/* Begins the note that the verdict is made suspect by: compiling is no part of what is measured. */
#define NOTE_COMPILED "torch.compile compiled"
void run_record_note(struct run_record *r, const char *fmt, ...) _printf_(2, 3);
const char *run_status_name(enum run_status s); /* "completed", "failed", "interrupted" */
const char *run_phase_name(enum run_phase p);   /* "baseline", "warmup", … */
const struct phase_span *run_record_phase(const struct run_record *r,
					  enum run_phase p); /* last, or NULL */

#endif
