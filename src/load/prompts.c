#include "load/prompts.h"

#include "base/rand.h"
#include "base/str.h"
#include "load/lengths.h"
#include "load/prompt_file.h"
#include "load/trace.h"
#include "sys/fs.h"

enum { FILE_MAX_BYTES = 1 << 30, PLAIN_IDS_FROM = 256 };

/* Streams of random numbers beside that of the ids, told apart by what is mixed into the seed. */
#define STREAM_INPUT  UINT64_C(0x696e7075740a0001)
#define STREAM_OUTPUT UINT64_C(0x6f75747075740002)
#define STREAM_PREFIX UINT64_C(0x7072656669780003)

void prompts_release(struct prompt_set *p)
{
	free(p->at);
	free(p->at_ns);
	arena_release(&p->arena);
	*p = (struct prompt_set)PROMPT_SET_INIT;
}

static uint64_t seed_of(const struct experiment *e)
{
	return (uint64_t)(e->random_seed.set ? e->random_seed.v : e->prompts.seed);
}

/* ---- files ---- */

static int read_file(const struct experiment *e, const char *name, char **ret_path, struct str *out,
		     struct lem_error *err)
{
	int rc;

	*ret_path = fs_join(e->root_dir, name);
	rc = fs_read_file(*ret_path, FILE_MAX_BYTES, out, err);
	if (rc < 0 && err) {
		err->code = LEM_E_REFUSED;
		return lem_error_context(err, "prompts");
	}
	return rc < 0 ? -LEM_E_REFUSED : 0;
}

static int load_file(const struct experiment *e, const char *name, const char *column, size_t limit,
		     struct prompt_set *set, struct lem_error *err)
{
	const struct prompts_config *c = &e->prompts;
	_cleanup_free_ char *path = NULL;
	_cleanup_str_ struct str file = STR_INIT;
	const char *form;
	struct prompt_file q = {
		.form = str_ends(name, ".jsonl")  ? PROMPT_JSONL
			: str_ends(name, ".json") ? PROMPT_JSON
						  : PROMPT_LINES,
		.column = column,
		.chars_per_token =
			c->present && c->reply_chars_per_token.set ? c->reply_chars_per_token.v : 0,
		.limit = limit,
	};
	int rc = read_file(e, name, &path, &file, err);

	if (rc < 0)
		return rc;
	q.name = path;
	rc = prompt_file_parse(str_c(&file), file.len, &q, set, &form, err);
	if (rc < 0)
		return rc;
	digest_bytes(str_c(&file), file.len, set->file_sha256);
	(void)snprintf(set->source, sizeof(set->source), "%s %.180s", form, name);
	return 0;
}

static void describe_trace(const struct prompts_config *c, const char *form, struct prompt_set *set)
{
	size_t n;

	(void)snprintf(set->source, sizeof(set->source), "trace (%s) %.120s", form, c->path);
	n = strlen(set->source);
	if (c->start_sec > 0)
		n += (size_t)snprintf(set->source + n, sizeof(set->source) - n, ", from %g s",
				      c->start_sec);
	if (c->duration_sec.set)
		(void)snprintf(set->source + n, sizeof(set->source) - n, ", %g s of it",
			       c->duration_sec.v);
}

static int load_trace(const struct experiment *e, size_t limit, struct prompt_set *set,
		      struct lem_error *err)
{
	const struct prompts_config *c = &e->prompts;
	_cleanup_free_ char *path = NULL;
	_cleanup_str_ struct str file = STR_INIT;
	_cleanup_trace_ struct trace t = {0};
	const struct trace_slice slice = {
		.start_ns = (int64_t)(c->start_sec * 1e9),
		.duration_ns = c->duration_sec.set ? (int64_t)(c->duration_sec.v * 1e9) : 0,
		.most = limit,
	};
	double *at_ns;
	int rc = read_file(e, c->path, &path, &file, err);

	if (rc >= 0)
		rc = trace_parse(str_c(&file), file.len, path, &slice, &t, err);
	if (rc < 0)
		return rc;
	at_ns = lem_calloc(t.n, sizeof(*at_ns));
	for (size_t i = 0; i < t.n; i++) {
		struct prompt *p = prompt_set_push(set);

		p->n_tokens = (size_t)t.at[i].input;
		p->output_tokens = t.at[i].output;
		at_ns[i] = (double)(t.at[i].t_ns - t.at[0].t_ns);
	}
	set->at_ns = at_ns;
	set->synthetic = true;
	set->n_records = t.n_rows;
	set->n_skipped = t.n_skipped;
	digest_bytes(str_c(&file), file.len, set->file_sha256);
	describe_trace(c, t.form, set);
	return 0;
}

/* ---- lengths ---- */

/* The lengths of a file, if it takes one. */
static int load_lengths(const struct experiment *e, const struct length_config *c,
			struct length_list *ret, char sha256[DIGEST_HEX_SIZE],
			struct lem_error *err)
{
	_cleanup_free_ char *path = NULL;
	_cleanup_str_ struct str file = STR_INIT;
	int rc;

	if (c->distribution != LENGTH_FILE)
		return 0;
	rc = read_file(e, c->path, &path, &file, err);
	if (rc >= 0)
		rc = length_list_parse(str_c(&file), file.len, path, ret, err);
	if (rc >= 0)
		digest_bytes(str_c(&file), file.len, sha256);
	return rc;
}

static void describe_synthetic(const struct experiment *e, const char *answers,
			       struct prompt_set *set)
{
	const struct prompts_config *c = &e->prompts;
	char input[80], prefix[64] = "";

	length_describe(&c->input_tokens, e->max_input_tokens, input, sizeof(input));
	if (c->shared_prefix_tokens)
		(void)snprintf(prefix, sizeof(prefix),
			       ", %" PRId64 " shared in %" PRId64 " group%s",
			       c->shared_prefix_tokens, c->prefix_groups,
			       c->prefix_groups == 1 ? "" : "s");
	(void)snprintf(set->source, sizeof(set->source), "synthetic, input %s%s%s, seed %" PRIu64,
		       input, prefix, answers, seed_of(e));
}

static int plan_synthetic(const struct experiment *e, size_t limit, struct prompt_set *set,
			  struct lem_error *err)
{
	const struct prompts_config *c = &e->prompts;
	_cleanup_length_list_ struct length_list list = {0};
	_cleanup_free_ int32_t *input = NULL;
	int rc = load_lengths(e, &c->input_tokens, &list, set->file_sha256, err);
	bool pairs = list.output && !c->output_tokens.set;
	size_t n;

	if (rc < 0)
		return rc;
	n = MIN(c->count > 0 ? (size_t)c->count : MAX(list.n, (size_t)1), limit);
	input = lem_calloc(n + 1, sizeof(*input));
	lengths_draw(&c->input_tokens, seed_of(e) ^ STREAM_INPUT, e->max_input_tokens, list.input,
		     list.n, input, n);
	for (size_t i = 0; i < n; i++) {
		struct prompt *p = prompt_set_push(set);

		p->n_tokens = (size_t)input[i];
		p->output_tokens = pairs ? list.output[i % list.n] : 0;
	}
	set->synthetic = true;
	set->n_records = list.n;
	describe_synthetic(e, pairs ? ", output from there too" : "", set);
	return 0;
}

/* The answers' lengths that the config asks for, where the source told none. */
static int plan_outputs(const struct experiment *e, struct prompt_set *set, struct lem_error *err)
{
	const struct length_config *c = &e->prompts.output_tokens;
	_cleanup_length_list_ struct length_list list = {0};
	_cleanup_free_ int32_t *output = NULL;
	char text[80], sha256[DIGEST_HEX_SIZE];
	size_t used = strlen(set->source);
	int rc = load_lengths(e, c, &list, set->file_sha256[0] ? sha256 : set->file_sha256, err);

	if (rc < 0)
		return rc;
	output = lem_calloc(set->n + 1, sizeof(*output));
	lengths_draw(c, seed_of(e) ^ STREAM_OUTPUT, e->max_output_tokens,
		     list.output ? list.output : list.input, list.n, output, set->n);
	for (size_t i = 0; i < set->n; i++)
		if (!set->at[i].output_tokens)
			set->at[i].output_tokens = output[i];
	length_describe(c, e->max_output_tokens, text, sizeof(text));
	(void)snprintf(set->source + used, sizeof(set->source) - used, ", output %s", text);
	return 0;
}

static void cut(const struct experiment *e, struct prompt_set *set)
{
	for (size_t i = 0; i < set->n; i++) {
		struct prompt *p = &set->at[i];

		if (p->n_tokens > (size_t)e->max_input_tokens) {
			p->n_tokens = (size_t)e->max_input_tokens;
			set->n_cut_input++;
		}
		if (p->output_tokens > e->max_output_tokens) {
			p->output_tokens = (int32_t)e->max_output_tokens;
			set->n_cut_output++;
		}
	}
}

/* ---- sources ---- */

static size_t limit_of(const struct experiment *e)
{
	int64_t limit = PROMPTS_MAX;

	if (e->num_input_prompts.set)
		limit = MIN(limit, e->num_input_prompts.v);
	if (e->dataset.present && e->dataset.sample_size.set)
		limit = MIN(limit, e->dataset.sample_size.v);
	if (e->prompts.present && e->prompts.sample_size.set)
		limit = MIN(limit, e->prompts.sample_size.v);
	return (size_t)limit;
}

static void shuffle(struct prompt_set *s, uint64_t seed)
{
	struct rand r;

	rand_seed(&r, seed);
	for (size_t i = s->n; i > 1; i--) {
		size_t k = (size_t)rand_below(&r, i);
		struct prompt t = s->at[i - 1];

		s->at[i - 1] = s->at[k];
		s->at[k] = t;
	}
}

static bool is_local_file(const char *name)
{
	return str_ends(name, ".txt") || str_ends(name, ".jsonl") || str_ends(name, ".json");
}

static int load_source(const struct experiment *e, size_t limit, struct prompt_set *set,
		       struct lem_error *err)
{
	const char *hub = e->dataset.present ? e->dataset.name : e->prompts.dataset;

	if (e->dataset.present && is_local_file(e->dataset.name))
		return load_file(e, e->dataset.name, e->dataset.column, limit, set, err);
	if (e->prompts.present && e->prompts.type == PROMPTS_FILE)
		return load_file(e, e->prompts.path, e->prompts.column, limit, set, err);
	if (e->prompts.present && e->prompts.type == PROMPTS_TRACE)
		return load_trace(e, limit, set, err);
	if (e->prompts.present && e->prompts.type == PROMPTS_SYNTHETIC)
		return plan_synthetic(e, limit, set, err);
	if (!hub) {
		lem_fail(err, LEM_E_REFUSED, "the experiment names no prompts");
		return lem_error_fix(err,
				     "add prompts: {type: file, path: prompts.txt}, or "
				     "prompts: {type: synthetic, count: 32, input_tokens: 128}");
	}
	lem_fail(err, LEM_E_REFUSED,
		 "the data set '%s' is on a hub; this version reads prompts from files", hub);
	return lem_error_fix(
		err, "save it as .jsonl or .txt and write prompts: {type: file, path: FILE}");
}

int prompts_load(const struct experiment *e, struct prompt_set *ret, struct lem_error *err)
{
	struct prompt_set set = PROMPT_SET_INIT;
	bool reorder = e->prompts.present && e->prompts.shuffle &&
		       e->prompts.type != PROMPTS_TRACE; /* its times stand in order */
	int rc = load_source(e, reorder ? PROMPTS_MAX : limit_of(e), &set, err);

	if (rc >= 0 && reorder) {
		shuffle(&set, (uint64_t)e->prompts.seed);
		set.n = MIN(set.n, limit_of(e));
	}
	if (rc >= 0 && e->prompts.present && e->prompts.output_tokens.set)
		rc = plan_outputs(e, &set, err);
	if (rc < 0) {
		prompts_release(&set);
		return rc;
	}
	cut(e, &set);
	*ret = set;
	return 0;
}

/* ---- ids ---- */

static void draw(struct rand *r, int32_t *ids, size_t n, int64_t from, int64_t n_vocab)
{
	for (size_t k = 0; k < n; k++)
		ids[k] = (int32_t)(from + (int64_t)rand_below(r, (uint64_t)(n_vocab - from)));
}

void prompts_draw(struct prompt_set *p, const struct experiment *e, int64_t n_vocab)
{
	int64_t from = n_vocab > 4 * PLAIN_IDS_FROM ? PLAIN_IDS_FROM : 0;
	size_t shared = (size_t)e->prompts.shared_prefix_tokens,
	       groups = (size_t)MAX(e->prompts.prefix_groups, INT64_C(1));
	struct rand r, prefix;

	rand_seed(&r, seed_of(e));
	for (size_t i = 0; i < p->n && p->synthetic; i++) {
		size_t n = p->at[i].n_tokens;
		int32_t *ids = arena_array(&p->arena, n, sizeof(*ids));

		draw(&r, ids, n, from, n_vocab);
		if (shared && n > 1) { /* each keeps a token of its own */
			rand_seed(&prefix, (seed_of(e) ^ STREAM_PREFIX) + i % groups);
			draw(&prefix, ids, MIN(shared, n - 1), from, n_vocab);
		}
		p->at[i].tokens = ids;
	}
}

bool prompts_have_text(const struct prompt_set *p)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->at[i].text)
			return true;
	return false;
}

bool prompts_have_ids(const struct prompt_set *p)
{
	for (size_t i = 0; i < p->n; i++)
		if (!p->at[i].text)
			return true;
	return false;
}

int64_t prompt_forced(const struct prompt *p, const struct experiment *e)
{
	if (p->output_tokens > 0)
		return p->output_tokens;
	return e->min_output_tokens == e->max_output_tokens ? e->max_output_tokens : 0;
}

/* Texts end with a NUL in the hash, ids run into each other: where they are as many in each prompt
 * that is no matter, and the hash stays that of earlier versions. */
static bool lengths_matter(const struct prompt_set *p)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->at[i].output_tokens || p->at[i].n_tokens != p->at[0].n_tokens)
			return true;
	return false;
}

const char *prompts_form(const struct prompt_set *p)
{
	size_t texts = 0;

	for (size_t i = 0; i < p->n; i++)
		texts += p->at[i].text != NULL;
	return !texts ? "token_ids" : texts == p->n ? "texts" : "mixed";
}

void prompts_hash(const struct prompt_set *p, char hex[DIGEST_HEX_SIZE])
{
	struct digest *d = digest_new();
	bool lengths = lengths_matter(p);

	for (size_t i = 0; i < p->n; i++) {
		const struct prompt *q = &p->at[i];
		int64_t n[2] = {(int64_t)q->n_tokens, q->output_tokens};

		if (q->text)
			digest_update(d, q->text, strlen(q->text) + 1);
		else if (q->tokens)
			digest_update(d, q->tokens, q->n_tokens * sizeof(*q->tokens));
		if (lengths)
			digest_update(d, n, sizeof(n));
	}
	digest_final(d, hex);
	digest_free(d);
}
