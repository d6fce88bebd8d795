#include "load/null_script.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What the null server makes of a request that is whole: bounded, whatever it asks for. */
static void answer(const char *body, size_t n)
{
	_cleanup_str_ struct str out = STR_INIT;
	struct null_request q = null_request_read(body, n);
	struct null_script script = {.tokens_per_chunk = 1 + (uint32_t)(n % 5),
				     .fault = (enum null_fault)(n % (NULL_CLOSE_DELIMITED + 1))};
	struct null_answer a;

	if (q.max_tokens < 1 || q.max_tokens > 1 << 20)
		abort();
	null_answer_plan(&script, &q, 0, &a);
	if (a.fault != NULL_NEVER_ENDS && a.n_chunks > q.max_tokens + 1)
		abort();
	if (null_is_whole(&a))
		null_write_whole(&a, &out);
	else
		null_write_head(&a, &out);
	if (!out.len)
		abort();
}

/* Bytes as they may come to the port: no byte beyond them is read, what is told lies within them,
 * and a request that is whole stays the same when more comes. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *exact = lem_malloc(size ? size : 1);
	size_t head = 0, body = 0, head2, body2;

	if (size)
		memcpy(exact, data, size);
	answer(exact, size);
	if (!null_request_whole(exact, size, &head, &body))
		return 0;
	if (head < 4 || head > size || body > size - head || body > NULL_REQUEST_MAX)
		abort();
	if (!null_request_whole(exact, head + body, &head2, &body2) || head2 != head ||
	    body2 != body)
		abort();
	answer(exact + head, body);
	return 0;
}
