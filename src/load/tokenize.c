#include "load/tokenize.h"

#include <jansson.h>

enum { ID_BYTES = 24, FRAME_BYTES = 64 << 10 };

int tokenize_request(enum tokenize_form form, const char *model, const char *text, struct str *out,
		     struct lem_error *err)
{
	json_t *body = form == TOKENIZE_FORM_VLLM
			       ? json_pack("{ss ss sb}", "model", model, "prompt", text,
					   "add_special_tokens", 1)
			       : json_pack("{ss sb sb}", "content", text, "add_special", 1,
					   "parse_special", 1);
	char *s = body ? json_dumps(body, JSON_COMPACT) : NULL;

	json_decref(body);
	if (!s)
		return lem_fail(err, LEM_E_REFUSED,
				"a prompt cannot be sent as JSON: it is no UTF-8");
	str_add(out, s);
	free(s);
	return 0;
}

size_t tokenize_answer_max(size_t n)
{
	return FRAME_BYTES + n * ID_BYTES;
}

static bool is_id(const json_t *j)
{
	return json_is_integer(j) && json_integer_value(j) >= 0 &&
	       json_integer_value(j) < INT32_MAX;
}

int tokenize_answer(const char *bytes, size_t n, struct arena *a, int32_t **ret_ids, size_t *ret_n,
		    struct lem_error *err)
{
	json_error_t je;
	json_t *all = json_loadb(bytes, n, 0, &je);
	const json_t *tokens = json_object_get(all, "tokens");
	size_t count = json_array_size(tokens), i;
	int32_t *ids = count ? arena_array(a, count, sizeof(*ids)) : NULL;

	for (i = 0; i < count && is_id(json_array_get(tokens, i)); i++)
		ids[i] = (int32_t)json_integer_value(json_array_get(tokens, i));
	json_decref(all);
	if (!count || i < count)
		return lem_fail(err, LEM_E_PARSE, "the answer is no list of token ids: %.*s",
				(int)MIN(n, (size_t)80), n ? bytes : "");
	*ret_ids = ids;
	*ret_n = count;
	return 0;
}
