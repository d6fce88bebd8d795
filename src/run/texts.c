/* Texts as the ids that the server's own tokenizer makes of them. */
#include "base/clock.h"
#include "load/tokenize.h"
#include "run/life.h"
#include "sys/web.h"

/* A long text on a busy machine; a server that stalls is not waited for. */
#define TOKENIZE_TIMEOUT_NS (30 * NS_PER_S)

struct asker {
	struct life *l;
	char *url;
	struct web_line line;
	enum tokenize_form form;
	long status; /* of the last answer; 0: there was none */
};

static void asker_release(struct asker *a)
{
	web_line_release(&a->line);
	free(a->url);
}

static int ask_ids(struct asker *k, const char *text, int32_t **ret_ids, size_t *ret_n,
		   struct lem_error *err)
{
	struct life *l = k->l;
	_cleanup_str_ struct str request = STR_INIT, body = STR_INIT;
	int rc = tokenize_request(k->form, l->server.model, text, &request, err);
	const struct web_request q = {.url = k->url,
				      .json = str_c(&request),
				      .line = &k->line,
				      .headers = l->server.headers,
				      .no_tls_verify = !l->server.tls_verify,
				      .timeout_ns = TOKENIZE_TIMEOUT_NS,
				      .cancel_fd = l->server.stop_fd,
				      .max_bytes = tokenize_answer_max(strlen(text))};

	k->status = 0;
	if (rc >= 0)
		rc = web_get(&q, &k->status, &body, err);
	if (rc < 0)
		return rc;
	if (k->status != 200)
		return lem_fail(err, LEM_E_ENGINE, "%s answers with status %ld: %.*s", k->url,
				k->status, (int)MIN(body.len, (size_t)120), str_c(&body));
	rc = tokenize_answer(body.buf, body.len, &l->prompts.arena, ret_ids, ret_n, err);
	return rc < 0 ? lem_error_context(err, "%s", k->url) : 0;
}

/* Whether a server that was never asked before has the endpoint. An engine of a known kind has none
 * in its older versions; what else it answers is a fault. */
static bool is_absent(const struct asker *k, enum engine_tokenize how, int rc)
{
	if (rc >= 0 || rc == -LEM_E_INTERRUPTED || rc == -LEM_E_REFUSED)
		return false;
	if (how == TOKENIZE_ANY)
		return k->status || rc == -LEM_E_PARSE;
	return k->status == 404 || k->status == 405 || k->status == 501;
}

/* Which of the two forms it takes, by the first text; true when one does. */
static int find_form(struct asker *k, enum engine_tokenize how, const char *text, bool *ret_found,
		     struct lem_error *err)
{
	int32_t *ids;
	size_t n;
	int rc;

	k->form = how == TOKENIZE_LLAMA ? TOKENIZE_FORM_LLAMA : TOKENIZE_FORM_VLLM;
	rc = ask_ids(k, text, &ids, &n, err);
	if (is_absent(k, how, rc) && how == TOKENIZE_ANY) {
		k->form = TOKENIZE_FORM_LLAMA;
		rc = ask_ids(k, text, &ids, &n, err);
	}
	*ret_found = rc >= 0;
	return is_absent(k, how, rc) ? 0 : rc;
}

static int fail_text(struct life *l, size_t i, struct lem_error *err)
{
	struct lem_error told = *err;

	if (err->code == LEM_E_INTERRUPTED)
		return life_server_stopped(l, "tokenizing the prompts", err) ?: -(int)told.code;
	(void)lem_fail(err, told.code == LEM_E_REFUSED ? LEM_E_REFUSED : LEM_E_ENGINE,
		       "the server did not tell the token ids of prompt %zu", i);
	(void)lem_error_why(err, "%.300s%s%.100s", told.what, told.why[0] ? ": " : "", told.why);
	return lem_error_fix(err, "send the same text to its /tokenize to see what is wrong with "
				  "it, or use prompts: {type: synthetic, …}");
}

/* The first ids stand for the text. */
static void take(struct prompt *p, const int32_t *ids, size_t n, int64_t most)
{
	p->truncated = (int64_t)n > most;
	p->n_tokens = p->truncated ? (size_t)most : n;
	p->tokens = ids;
	p->text = NULL;
}

static int take_all(struct asker *k, struct lem_error *err)
{
	struct prompt_set *p = &k->l->prompts;
	size_t cut = 0, texts = 0;

	for (size_t i = 0; i < p->n; i++) {
		int32_t *ids;
		size_t n;

		if (!p->at[i].text)
			continue;
		if (ask_ids(k, p->at[i].text, &ids, &n, err) < 0)
			return fail_text(k->l, i, err);
		take(&p->at[i], ids, n, k->l->e->max_input_tokens);
		cut += p->at[i].truncated;
		texts++;
		k->l->done = i;
		life_report(k->l);
	}
	if (cut)
		run_record_note(k->l->rec,
				"%zu of %zu texts have more than max_input_tokens = %" PRId64
				" tokens by the server's tokenizer and were cut",
				cut, texts, k->l->e->max_input_tokens);
	return 0;
}

static void note_untouched(struct life *l, const char *why)
{
	run_record_note(l->rec,
			"the prompts were sent as texts, whole: max_input_tokens did not cut them, "
			"because %s",
			why);
}

int life_tokenize(struct life *l, struct lem_error *err)
{
	enum engine_tokenize how = l->engine->http->tokenize;
	_cleanup_(asker_release) struct asker k = {.l = l};
	struct lem_error absent = LEM_ERROR_INIT;
	bool found = false;
	size_t first = 0;

	if (!prompts_have_text(&l->prompts))
		return 0;
	if (l->server.chat || how == TOKENIZE_NOT) {
		note_untouched(l, l->server.chat ? "the chat endpoint takes no token ids"
						 : "this server tells no token ids of a text");
		return 0;
	}
	while (!l->prompts.at[first].text)
		first++;
	k.url = lem_asprintf("%s/tokenize", l->server.root);
	l->detail = "tokenizing the prompts";
	if (find_form(&k, how, l->prompts.at[first].text, &found, &absent) < 0) {
		*err = absent;
		return fail_text(l, first, err);
	}
	if (!found)
		note_untouched(l, "this server tells no token ids of a text (it has no /tokenize)");
	return found ? take_all(&k, err) : 0;
}
