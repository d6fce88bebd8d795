/*
 * worker.h — the llama.cpp worker: a program that speaks workers/PROTOCOL.md and computes with
 * libllama. One thread of our own; libllama has its pool.
 */
#ifndef LEM_WORKER_LLAMA_H
#define LEM_WORKER_LLAMA_H

#include <jansson.h>
#include <llama.h>
#include <signal.h>

#include "base/str.h"

extern volatile sig_atomic_t stop_asked; /* set by SIGTERM and SIGINT; main.c */

/* Why a request cannot be served: a code of the protocol and a sentence. After a fatal one the
 * worker ends. */
struct trouble {
	const char *code;
	char message[400];
	bool fatal;
};
int trouble_set(struct trouble *t, const char *code, const char *fmt, ...)
	_printf_(3, 4); /* returns -1 */

/* input.c — lines in. A line that is too long is dropped while it arrives, never held. */
struct input {
	int fd, stop_fd; /* stop_fd: readable when a signal asks to stop */
	struct str buf;
	size_t searched;   /* no newline before this */
	size_t handed_out; /* bytes of the line given last */
	bool skipping;     /* inside a line that is too long */
};
enum input_kind { INPUT_LINE, INPUT_TOO_LONG, INPUT_END };
/* The line, without its newline, is valid until the next call. A last line without a newline is no
 * request. */
enum input_kind input_next(struct input *in, const char **ret_line, size_t *ret_n);

/* field.c — fields of a request. Each leaves *ret alone when the field is absent or null, and
 * refuses what it cannot take (-1): nothing is clipped or replaced silently. */
struct int_range {
	int64_t low, high;
};
struct word {
	const char *name;
	int value;
};
int field_int(const json_t *j, const char *key, struct int_range range, int64_t *ret,
	      struct trouble *t);
int field_int32(const json_t *j, const char *key, struct int_range range, int32_t *ret,
		struct trouble *t); /* the range must lie within int32 */
int field_float(const json_t *j, const char *key, double low, double high, float *ret,
		struct trouble *t);
int field_bool(const json_t *j, const char *key, bool *ret, struct trouble *t);
int field_word(const json_t *j, const char *key, const struct word *words, size_t n, int *ret,
	       struct trouble *t);

/* log.c — libllama's log goes to stderr; the first error since the last reset is kept for messages.
 */
void log_start(void);
void log_reset(void);
const char *log_first_error(void); /* static storage, never empty */

/* proto.c — events out. A write that fails ends the program: nobody listens any more. */
void proto_emit(const struct str *line); /* a whole line; adds the newline, flushes */
void proto_error(int64_t run, const struct trouble *t); /* run 0: not about a run */
void proto_stopped(void);

/* `tokens` lines are formatted by hand into one buffer and written rarely (PROTOCOL.md, rule 3). */
struct step_line {
	int64_t run, start_ns, end_ns, prefill, out;
	const int64_t *started, *ids;
	size_t n_started, n_ids;
};
void proto_step(const struct step_line *s);
void proto_flush(void);

/* model.c */
struct engine {
	struct llama_model *model;
	struct llama_context *ctx;
	const struct llama_vocab *vocab;
	int32_t n_vocab;
	int32_t batch_size;  /* sequences computed together */
	int32_t max_total;   /* longest sequence */
	bool on_gpu;         /* layers were given to GPUs */
	float *tensor_split; /* llama_max_devices() entries, or NULL */
	struct llama_model_params model_params;
	struct llama_context_params context_params;
	llama_token *eog; /* end-of-generation tokens */
	size_t n_eog;
	bool has_tokenizer;
};
int engine_load(const json_t *request, struct engine *ret, struct trouble *t);
void engine_unload(struct engine *e);

/* describe.c — the `loaded` event: what the library says of itself, the model and its devices. */
void engine_describe(const struct engine *e, int64_t t_start_ns, struct str *out);

/* request.c */
struct sampling {
	float temperature, top_p, min_p, repetition_penalty;
	int32_t top_k;
	int64_t seed;
};
enum seq_state { SEQ_WAITING, SEQ_PREFILL, SEQ_DECODE, SEQ_DONE };
struct seq {
	int64_t id;
	llama_token *prompt, *output;
	int32_t n_prompt, n_output, max_output, min_output;
	int32_t n_fed;     /* prompt tokens handed to the library */
	int32_t logits_at; /* index in the batch of its output row in this step, -1: none */
	int32_t slot;      /* sequence id in the context */
	enum seq_state state;
	bool truncated;
	const char *finish;
	struct llama_sampler *sampler; /* NULL: greedy */
};
struct run {
	int64_t id;
	bool continuous, save_text;
	struct sampling sampling;
	int32_t max_input;
	struct seq *seqs;
	size_t n;
};
int run_parse(const json_t *request, const struct engine *e, struct run *ret, struct trouble *t);
void run_release(struct run *r);

/* result.c — the `done` event. */
void run_describe(const struct run *r, const struct engine *e, int64_t t_start_ns, int64_t t_ns,
		  struct str *out);

/* generate.c */
int run_generate(struct run *r, struct engine *e, struct trouble *t);

/* sample.c — the next token of a sequence from the logits of its row. */
llama_token sample_next(struct seq *s, const struct engine *e);
/* For a sequence whose prompt is known; NULL: greedy. */
struct llama_sampler *sampler_make(const struct sampling *s, uint32_t seed, const struct seq *q,
				   const struct engine *e);

#endif
