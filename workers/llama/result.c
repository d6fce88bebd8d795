#include "worker.h"

#include "base/jsonw.h"

/* The bytes of the output as the library joins them; special tokens show as nothing. */
static void put_text(struct jsonw *w, const struct seq *s, const struct engine *e)
{
	_cleanup_str_ struct str text = STR_INIT;
	int32_t n = 0;

	for (int32_t room = 16 * s->n_output + 64; room > 0; room = n < 0 ? -n : 0) {
		str_reserve(&text, (size_t)room);
		n = llama_detokenize(e->vocab, s->output, s->n_output, text.buf, room, true, false);
	}
	jsonw_strn(w, "text", str_c(&text), n > 0 ? (size_t)n : 0);
}

static void put_result(struct jsonw *w, const struct run *r, const struct seq *s,
		       const struct engine *e)
{
	jsonw_object(w, NULL);
	jsonw_i64(w, "id", s->id);
	jsonw_i64(w, "input_tokens", s->n_prompt);
	jsonw_i64(w, "output_tokens", s->n_output);
	jsonw_str(w, "finish", s->finish ? s->finish : "error");
	jsonw_bool(w, "truncated", s->truncated);
	if (r->save_text && e->has_tokenizer)
		put_text(w, s, e);
	jsonw_end_object(w);
}

void run_describe(const struct run *r, const struct engine *e, int64_t t_start_ns, int64_t t_ns,
		  struct str *out)
{
	struct jsonw w;

	jsonw_init(&w, out, 0);
	jsonw_object(&w, NULL);
	jsonw_str(&w, "event", "done");
	jsonw_i64(&w, "run", r->id);
	jsonw_i64(&w, "t_start_ns", t_start_ns);
	jsonw_i64(&w, "t_ns", t_ns);
	jsonw_array(&w, "results");
	for (size_t i = 0; i < r->n; i++)
		put_result(&w, r, &r->seqs[i], e);
	jsonw_end_array(&w);
	jsonw_end_object(&w);
}
