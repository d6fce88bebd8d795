#include "config/option.h"

#include <ctype.h>

#include "base/str.h"

enum { NAME_MAX_LEN = 64 }; /* longer names are nobody's typing error */

const struct option *section_find(const struct section *s, const char *name)
{
	for (size_t i = 0; i < s->n; i++)
		if (strcmp(s->options[i].name, name) == 0)
			return &s->options[i];
	return NULL;
}

const struct option *option_at(const char *path, const struct section **ret_section)
{
	const struct section *s = &section_experiment;
	char name[NAME_MAX_LEN];

	for (;;) {
		size_t n = strcspn(path, ".");
		const struct option *o;

		if (n == 0 || n >= sizeof(name))
			return NULL;
		memcpy(name, path, n);
		name[n] = '\0';
		o = section_find(s, name);
		if (!o || !path[n]) {
			if (ret_section)
				*ret_section = s;
			return o;
		}
		if (o->type != OPT_MAP || !o->sub || !option_is_key(o))
			return NULL;
		s = o->sub;
		path += n + 1;
	}
}

char *option_path(struct arena *a, const struct section *s, const char *name)
{
	return s->path[0] ? arena_printf(a, "%s.%s", s->path, name) : arena_strdup(a, name);
}

/* "maxOutput-Tokens" and "max_output_tokens" differ less than an edit distance would say. */
static void fold(const char *name, char *buf, size_t size)
{
	size_t n = 0;

	for (; *name && n + 1 < size; name++)
		buf[n++] = *name == '-' || *name == ' ' ? '_' : (char)tolower((unsigned char)*name);
	buf[n] = '\0';
}

static size_t distance(const char *name, const char *known)
{
	char a[NAME_MAX_LEN], b[NAME_MAX_LEN];

	if (strlen(name) >= NAME_MAX_LEN)
		return SIZE_MAX;
	fold(name, a, sizeof(a));
	fold(known, b, sizeof(b));
	return str_distance(a, b);
}

/* One slip in three letters still looks like a slip. */
static bool near_enough(size_t d, const char *name)
{
	return d <= MAX(strlen(name) / 3, (size_t)1);
}

const char *name_nearest(const char *name, const char *const *names)
{
	const char *best = NULL;
	size_t best_d = SIZE_MAX;

	for (; *names; names++) {
		size_t d = distance(name, *names);

		if (d < best_d) {
			best = *names;
			best_d = d;
		}
	}
	return best && near_enough(best_d, name) ? best : NULL;
}

static const struct option *nearest_in(const struct section *s, const char *name, size_t *ret_d)
{
	const struct option *best = NULL;

	*ret_d = SIZE_MAX;
	for (size_t i = 0; i < s->n; i++) {
		size_t d = option_is_key(&s->options[i]) ? distance(name, s->options[i].name)
							 : SIZE_MAX;

		if (d < *ret_d) {
			best = &s->options[i];
			*ret_d = d;
		}
	}
	return best;
}

/* The section below s that has a key of exactly this name. */
static const struct section *section_with(const struct section *s, const char *name)
{
	const struct option *o = section_find(s, name);

	if (o && option_is_key(o))
		return s;
	for (size_t i = 0; i < s->n; i++) {
		const struct section *in = NULL;

		if (option_is_key(&s->options[i]) && s->options[i].type == OPT_MAP)
			in = section_with(s->options[i].sub, name);
		if (in)
			return in;
	}
	return NULL;
}

/* "duration" for duration_sec, "beams" for num_beams: part of exactly one key. */
static const struct option *part_of(const struct section *s, const char *name)
{
	const struct option *found = NULL;
	size_t n = strlen(name);

	for (size_t i = 0; i < s->n; i++) {
		const char *key = s->options[i].name;
		bool part = (n >= 2 && str_starts(key, name)) || (n >= 4 && strstr(key, name));

		if (!option_is_key(&s->options[i]) || !part)
			continue;
		if (found)
			return NULL;
		found = &s->options[i];
	}
	return found;
}

/* The same thing by the name it has elsewhere; NULL: not known, or not an option of s. */
static const struct option *by_other_name(const struct section *s, const char *name)
{
	static const char *const names[][2] = {
		{"tensor_parallel_size", "tp_size"},
		{"tp", "tensor_parallel_size"},
		{"tp_size", "tensor_parallel_size"},
		{"pipeline_parallel_size", "pp_size"},
		{"pp", "pipeline_parallel_size"},
		{"pp_size", "pipeline_parallel_size"},
		{"data_parallel_size", "dp_size"},
		{"dp", "data_parallel_size"},
		{"dp_size", "data_parallel_size"},
		{"ngl", "n_gpu_layers"},
		{"max_tokens", "max_output_tokens"},
		{"temp", "temperature"},
		{"batch", "batch_size"},
		{"max_batch_size", "batch_size"},
		{"base_url", "url"},
		{"host", "url"},
		{"devices", "gpus"},
		{"gpu_ids", "gpus"},
		{"device_ids", "gpus"},
		{"device", "gpus"},
		{"name", "config_name"},
		{"qps", "rate"},
		{"samples", "sample_size"},
		{"n", "count"},
		{"rounds", "requests"},
		{"n_warmup", "requests"},
	};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		const struct option *o =
			str_eq(names[i][0], name) ? section_find(s, names[i][1]) : NULL;

		if (o && option_is_key(o))
			return o;
	}
	return NULL;
}

const char *option_did_you_mean(struct arena *a, const struct section *s, const char *name)
{
	size_t d;
	const struct option *near = nearest_in(s, name, &d), *other = by_other_name(s, name);
	const struct section *elsewhere;

	if (near && d <= 1)
		return option_path(a, s, near->name);
	if (!other)
		other = part_of(s, name);
	if (other)
		return option_path(a, s, other->name);
	elsewhere = section_with(&section_experiment, name);
	if (elsewhere)
		return option_path(a, elsewhere, name);
	return near && near_enough(d, name) ? option_path(a, s, near->name) : NULL;
}
