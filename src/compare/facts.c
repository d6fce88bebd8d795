#include <jansson.h>

#include "compare/impl.h"

static void free_json(json_t **j)
{
	json_decref(*j);
}
#define _cleanup_json_ _cleanup_(free_json)

static json_t *parse(const char *text)
{
	return text ? json_loads(text, 0, NULL) : NULL;
}

bool compare_answered(const struct request_record *q)
{
	return q->finish[0] && !str_eq(q->finish, "error");
}

int64_t compare_config_int(const struct run_record *r, const char *section, const char *key)
{
	_cleanup_json_ json_t *config = parse(r->config_json);
	const json_t *v = json_object_get(json_object_get(config, section), key);

	return json_is_integer(v) ? json_integer_value(v) : -1;
}

bool compare_config_is(const struct run_record *r, const char *section, const char *key,
		       const char *text)
{
	_cleanup_json_ json_t *config = parse(r->config_json);

	return str_eq(json_string_value(json_object_get(json_object_get(config, section), key)),
		      text);
}

/* ---- data type ---- */

/* GGUF's names for what engines call by PyTorch's. */
static const char *short_type(const char *name)
{
	static const char *const names[][2] = {
		{"float32", "F32"}, {"float16", "F16"}, {"bfloat16", "BF16"}};

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (str_eq(name, names[i][0]))
			return names[i][1];
	return name;
}

static const char *quantised(const json_t *section)
{
	const char *q = json_string_value(json_object_get(section, "quantization"));

	if (json_is_true(json_object_get(section, "load_in_4bit")))
		return "4 bit";
	if (json_is_true(json_object_get(section, "load_in_8bit")))
		return "8 bit";
	return q && *q && !str_eq(q, "none") ? q : NULL;
}

/* A worker reports what is in force, a server that lem started was told, or has it from its file;
 * of another server nothing is known. */
static void find_dtype(const struct run_record *r, char *buf, size_t size)
{
	_cleanup_json_ json_t *config = parse(r->config_json);
	const char *engine = r->engine_name ? r->engine_name : "", *q, *type;

	buf[0] = '\0';
	if (str_eq(engine, "openai"))
		return;
	type = r->server.used ? json_string_value(json_object_get(config, "fp_precision")) : NULL;
	if (!type)
		type = r->shape.quant;
	q = quantised(json_object_get(config, engine));
	if (*type)
		(void)snprintf(buf, size, "%s%s%s", short_type(type), q ? ", " : "", q ? q : "");
}

/* ---- place ---- */

static size_t count_name(const struct gpu_binding *b, const char *name)
{
	size_t n = 0;

	for (size_t i = 0; i < b->n; i++)
		n += str_eq(b->gpus[i].name, name);
	return n;
}

static bool seen_before(const struct gpu_binding *b, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (str_eq(b->gpus[k].name, b->gpus[i].name))
			return true;
	return false;
}

static void find_gpus(const struct gpu_binding *b, char *buf, size_t size)
{
	for (size_t i = 0; i < b->n; i++) {
		size_t used = strlen(buf);

		if (!seen_before(b, i))
			(void)snprintf(buf + used, size - used, "%s%zu x %s", used ? ", " : "",
				       count_name(b, b->gpus[i].name), b->gpus[i].name);
	}
}

static void find_place(const struct run_record *r, char *buf, size_t size)
{
	_cleanup_json_ json_t *host = parse(r->environment_json);
	const json_t *cpu = json_object_get(host, "cpu");
	const char *model = json_string_value(json_object_get(cpu, "model"));

	buf[0] = '\0';
	if (r->binding.n)
		find_gpus(&r->binding, buf, size);
	else if (!str_eq(r->binding.path, "external"))
		(void)snprintf(buf, size, "CPU %s", model ? model : "");
}

void compare_facts_of(const struct run_record *r, size_t n_first, bool uncounted,
		      struct compare_facts *ret)
{
	*ret = (struct compare_facts){0};
	for (size_t i = 0; i < r->n_requests && i < n_first; i++) {
		const struct request_record *q = &r->requests[i];

		if (q->uncounted && !uncounted)
			continue;
		ret->requests++;
		if (!compare_answered(q))
			continue;
		ret->answered++;
		ret->input_tokens += q->input_tokens;
		ret->output_tokens += q->output_tokens;
	}
	find_dtype(r, ret->dtype, sizeof(ret->dtype));
	find_place(r, ret->place, sizeof(ret->place));
}
