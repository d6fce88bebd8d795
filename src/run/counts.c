#include "base/jsonw.h"
#include "run/life.h"

static struct worker_count *find(struct life *l, const char *name)
{
	for (size_t i = 0; i < l->n_counts; i++)
		if (str_eq(l->counts[i].name, name))
			return &l->counts[i];
	if (l->n_counts == ARRAY_LEN(l->counts))
		return NULL;
	l->counts[l->n_counts] = (struct worker_count){arena_strdup(&l->rec->arena, name), 0};
	return &l->counts[l->n_counts++];
}

void life_count(struct life *l, const struct worker_done *done)
{
	for (size_t i = 0; i < done->n_counts; i++) {
		struct worker_count *c = find(l, done->counts[i].name);

		if (c && __builtin_add_overflow(c->n, done->counts[i].n, &c->n))
			c->n = INT64_MAX;
	}
}

/* engine_build_json is an object; it gets one more member. */
static void add_member(struct life *l)
{
	const char *old = l->rec->engine_build_json;
	size_t n = old ? strlen(old) : 0;
	_cleanup_str_ struct str counts = STR_INIT;
	struct jsonw w;

	if (n < 2 || old[n - 1] != '}')
		return;
	jsonw_init(&w, &counts, 0);
	jsonw_object(&w, NULL);
	for (size_t i = 0; i < l->n_counts; i++)
		jsonw_i64(&w, l->counts[i].name, l->counts[i].n);
	jsonw_end_object(&w);
	l->rec->engine_build_json =
		arena_printf(&l->rec->arena, "%.*s%s\"counts\":%s}", (int)(n - 1), old,
			     n > 2 ? "," : "", str_c(&counts));
}

void life_tell_counts(struct life *l)
{
	if (!l->n_counts)
		return;
	add_member(l);
	for (size_t i = 0; i < l->n_counts; i++)
		if (str_eq(l->counts[i].name, "compiled") && l->counts[i].n)
			run_record_note(l->rec,
					NOTE_COMPILED " %" PRId64
						      " graphs inside the window: shapes came that "
						      "the warm-up had not seen; warm up longer",
					l->counts[i].n);
}
