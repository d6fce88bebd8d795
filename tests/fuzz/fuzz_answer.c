#include "load/answer.h"
#include "load/openai_event.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_event(const char *json, size_t n)
{
	_cleanup_str_ struct str out = STR_INIT;
	struct openai_event e;

	if (openai_event_read(json, n, NULL, &e))
		return;
	for (size_t i = 0; i < e.n_parts; i++)
		openai_text_decode(&e.parts[i], &out);
	if (str_utf8_valid(str_c(&out), out.len) != out.len || (!e.tools && out.len > e.n_text))
		abort();
}

/* Whatever a server sends: one failure or none, a reason with each, as many chunks as told, text
 * that is UTF-8. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_str_ struct str text = STR_INIT;
	_cleanup_free_ char *body = lem_malloc(size + 1);
	struct answer_sink sink = {.text = &text};
	struct answer_piece pieces[2];
	struct answer_request q = {.status = 200, .n = size ? size - 1 : 0, .body = body};
	struct answer a;

	if (!size)
		return 0;
	q.complete = data[0] & 1;
	q.stream = data[0] & 2;
	q.event_stream = !(data[0] & 4);
	memcpy(body, data + 1, q.n);
	check_event(body, q.n);
	pieces[0] = (struct answer_piece){q.n / 2, 10};
	pieces[1] = (struct answer_piece){q.n, 20};
	q.pieces = pieces;
	q.n_pieces = 2;
	answer_read(&q, &sink, &a);
	if ((a.failure == HTTP_LOAD_OK) != !*a.why || a.n_chunks != sink.chunks.n ||
	    str_utf8_valid(str_c(&text), text.len) != text.len)
		abort();
	for (size_t i = 0; i < sink.chunks.n; i++)
		if (sink.chunks.at[i].t_ns != 10 && sink.chunks.at[i].t_ns != 20)
			abort();
	vec_release(&sink.chunks);
	return 0;
}
