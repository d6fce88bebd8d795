#include "load/prompt_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first byte chooses form and options. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct prompt_set set = PROMPT_SET_INIT;
	struct lem_error err = LEM_ERROR_INIT;
	const char *form = NULL;
	struct prompt_file q = {.name = "f", .limit = 100};
	_cleanup_free_ char *exact = NULL;
	char hex[DIGEST_HEX_SIZE];
	int rc;

	if (!size)
		return 0;
	q.form = data[0] % 3;
	q.column = data[0] & 4 ? "mine" : NULL;
	q.chars_per_token = data[0] & 8 ? 4 : 0;
	exact = lem_malloc(size);
	memcpy(exact, data + 1, size - 1);
	rc = prompt_file_parse(exact, size - 1, &q, &set, &form, &err);
	if (rc < 0 && (err.code != LEM_E_REFUSED || !err.what[0]))
		abort();
	if (rc >= 0 &&
	    (!form || !set.n || set.n > q.limit || set.n + set.n_skipped != set.n_records))
		abort();
	for (size_t i = 0; i < set.n; i++) {
		const struct prompt *p = &set.at[i];

		if (!p->text == !p->tokens || (p->text && !p->text[0]) ||
		    (p->tokens && !p->n_tokens) || p->output_tokens < 0)
			abort();
	}
	prompts_hash(&set, hex);
	prompts_release(&set);
	return 0;
}
