#include "worker.h"

#include "base/clock.h"
#include "base/jsonw.h"

enum { BUFFER_BYTES = 1 << 20, FLUSH_MS = 200, NUMBER_BYTES = 24 };

static char buffer[BUFFER_BYTES];
static size_t used;
static int64_t t_flushed_ns;

static void write_all(const char *p, size_t n)
{
	while (n) {
		ssize_t k = write(STDOUT_FILENO, p, n);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0) {
			fprintf(stderr, "lem-worker-llama: cannot write to lem: %s\n",
				strerror(errno));
			_exit(1);
		}
		p += k;
		n -= (size_t)k;
	}
}

void proto_flush(void)
{
	write_all(buffer, used);
	used = 0;
	t_flushed_ns = clock_now_ns();
}

void proto_emit(const struct str *line)
{
	proto_flush();
	write_all(str_c(line), line->len);
	write_all("\n", 1);
}

static void put(const char *text)
{
	size_t n = strlen(text);

	memcpy(buffer + used, text, n);
	used += n;
}

static void put_i64(int64_t v)
{
	char digits[NUMBER_BYTES];
	size_t n = sizeof(digits);

	do
		digits[--n] = (char)('0' + v % 10);
	while ((v /= 10) > 0);
	memcpy(buffer + used, digits + n, sizeof(digits) - n);
	used += sizeof(digits) - n;
}

static void put_list(const char *key, const int64_t *ids, size_t n)
{
	put(key);
	for (size_t i = 0; i < n; i++) {
		if (i)
			buffer[used++] = ',';
		put_i64(ids[i]);
	}
	buffer[used++] = ']';
}

void proto_step(const struct step_line *s)
{
	size_t need = 256 + NUMBER_BYTES * (s->n_ids + s->n_started);

	assert(need < BUFFER_BYTES); /* batch_size is bounded when the model is loaded */
	if (used + need > BUFFER_BYTES || s->end_ns - t_flushed_ns > FLUSH_MS * NS_PER_MS)
		proto_flush();
	put("{\"event\":\"tokens\",\"run\":");
	put_i64(s->run);
	put(",\"start_ns\":");
	put_i64(s->start_ns);
	put(",\"end_ns\":");
	put_i64(s->end_ns);
	put(",\"prefill\":");
	put_i64(s->prefill);
	if (s->n_started)
		put_list(",\"started\":[", s->started, s->n_started);
	put_list(",\"ids\":[", s->ids, s->n_ids);
	put(",\"out\":");
	put_i64(s->out);
	put("}\n");
}

void proto_error(int64_t run, const struct trouble *t)
{
	_cleanup_str_ struct str out = STR_INIT;
	struct jsonw w;

	jsonw_init(&w, &out, 0);
	jsonw_object(&w, NULL);
	jsonw_str(&w, "event", "error");
	if (run)
		jsonw_i64(&w, "run", run);
	jsonw_str(&w, "code", t->code);
	jsonw_str(&w, "message", t->message);
	jsonw_bool(&w, "fatal", t->fatal);
	jsonw_end_object(&w);
	proto_emit(&out);
}

void proto_stopped(void)
{
	_cleanup_str_ struct str out = STR_INIT;

	str_addf(&out, "{\"event\":\"stopped\",\"t_ns\":%" PRId64 "}", clock_now_ns());
	proto_emit(&out);
}
