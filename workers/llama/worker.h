/*
 * worker.h — the llama.cpp worker: a program that speaks workers/PROTOCOL.md and computes with
 * libllama. One thread of our own; libllama has its pool.
 */
#ifndef LEM_WORKER_LLAMA_H
#define LEM_WORKER_LLAMA_H

#include <jansson.h>
#include <llama.h>

#include "base/str.h"

/* Why a request cannot be served: a code of the protocol and a sentence. */
struct trouble {
	const char *code;
	char message[400];
	bool fatal;
};
int trouble_set(struct trouble *t, const char *code, const char *fmt, ...)
	_printf_(3, 4); /* returns -1 */

/* proto.c — events out. A write that fails ends the program: nobody listens any more. */
void proto_emit(const struct str *line); /* one whole line, with the newline added, flushed */
void proto_error(int64_t run, const struct trouble *t);
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
	int32_t batch_size; /* sequences computed together */
	int32_t max_total;  /* longest sequence */
	llama_token *eog;   /* end-of-generation tokens */
	size_t n_eog;
	bool has_tokenizer;
};
int engine_load(const json_t *request, struct engine *ret, struct trouble *t);
void engine_unload(struct engine *e);
void engine_describe(const struct engine *e, int64_t t_start_ns,
		     struct str *out); /* the `loaded` event */

/* request.c */
struct sampling {
	float temperature, top_p, min_p, repetition_penalty;
	int32_t top_k;
	uint32_t seed;
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
	struct seq *seqs;
	size_t n;
};
int run_parse(const json_t *request, const struct engine *e, struct run *ret, struct trouble *t);
void run_release(struct run *r);
void run_describe(const struct run *r, const struct engine *e, int64_t t_start_ns, int64_t t_ns,
		  struct str *out);

/* generate.c */
int run_generate(struct run *r, struct engine *e, struct trouble *t);

/* sample.c — the next token of a sequence from the logits of its row. */
llama_token sample_next(struct seq *s, const struct engine *e);
struct llama_sampler *sampler_make(const struct sampling *s, int32_t n_vocab); /* NULL: greedy */

extern volatile bool stop_asked; /* set by SIGTERM */

#endif
