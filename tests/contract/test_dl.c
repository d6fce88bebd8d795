/* Downloads against a server that breaks, lies, hangs and floods. */
#include "base/clock.h"
#include "base/digest.h"
#include "base/rand.h"
#include "hub.h"
#include "sys/dl.h"
#include "sys/fs.h"

#include <setjmp.h>
#include <sys/stat.h>

#include <cmocka.h>

enum { FILE_BYTES = 1000003 };

static struct hub hub;
static struct lem_error err;
static char part[128];

static int start(void **state)
{
	_cleanup_free_ uint8_t *bytes = lem_malloc(FILE_BYTES);
	struct rand r;

	(void)state;
	rand_seed(&r, 1);
	for (size_t i = 0; i < FILE_BYTES; i++)
		bytes[i] = (uint8_t)rand_u64(&r);
	hub_make_dir(&hub);
	assert_int_equal(fs_write_atomic(hub.file, bytes, FILE_BYTES, NULL), 0);
	hub_start(&hub);
	snprintf(part, sizeof(part), "%s/part", hub.dir);
	return 0;
}

static int stop(void **state)
{
	(void)state;
	hub_stop(&hub);
	hub_remove_dir(&hub);
	return 0;
}

static int fresh(void **state)
{
	(void)state;
	unlink(part);
	json_decref(hub_log(&hub));
	err = (struct lem_error){0};
	return 0;
}

/* Downloads from a behaviour with short pauses, keeping what part holds. */
static int get(const char *behaviour, int64_t expected)
{
	_cleanup_free_ char *url = hub_url(&hub, behaviour);
	struct dl_request q = {.url = url, .pause_ms = 1, .stall_s = 1};

	return dl_file(&q, part, expected, &err);
}

static void assert_part_is_the_file(void)
{
	_cleanup_str_ struct str bytes = STR_INIT;
	char hex[DIGEST_HEX_SIZE];

	assert_int_equal(fs_read_file(part, 1 << 24, &bytes, NULL), 0);
	digest_bytes(bytes.buf, bytes.len, hex);
	assert_string_equal(hex, hub.sha256);
}

static size_t part_size(void)
{
	struct stat st;

	return stat(part, &st) == 0 ? (size_t)st.st_size : 0;
}

static void says(const char *text)
{
	if (!strstr(err.what, text))
		fail_msg("the error '%s' does not say '%s'", err.what, text);
}

static void test_whole(void **state)
{
	(void)state;
	assert_int_equal(get("direct", FILE_BYTES), 0);
	assert_part_is_the_file();
	unlink(part);
	assert_int_equal(get("direct", -1), 0);
	assert_part_is_the_file();
}

static void test_redirect_to_another_origin(void **state)
{
	(void)state;
	assert_int_equal(get("good", FILE_BYTES), 0);
	assert_part_is_the_file();
}

/* The token goes to the hub and not to the store it points to. */
static void test_token_stays_with_its_host(void **state)
{
	_cleanup_free_ char *url = hub_url(&hub, "gated");
	struct dl_request q = {.url = url, .bearer = "secret-token", .pause_ms = 1};
	int asked_hub = 0, asked_store = 0;
	json_t *log, *entry;
	size_t i;

	(void)state;
	assert_int_equal(dl_file(&q, part, FILE_BYTES, &err), 0);
	assert_part_is_the_file();
	log = hub_log(&hub);
	json_array_foreach (log, i, entry) {
		int port = (int)json_integer_value(json_object_get(entry, "port"));
		const json_t *headers = json_object_get(entry, "headers");
		const char *sent = json_string_value(json_object_get(headers, "authorization"));

		if (port == hub.port) {
			asked_hub++;
			assert_string_equal(sent, "Bearer secret-token");
		} else {
			asked_store++;
			assert_null(sent);
		}
	}
	json_decref(log);
	assert_int_equal(asked_hub, 1);
	assert_int_equal(asked_store, 1);
}

static void test_token_is_not_in_messages(void **state)
{
	_cleanup_free_ char *url = hub_url(&hub, "gated");
	struct dl_request q = {.url = url, .bearer = "wrong-token", .pause_ms = 1};

	(void)state;
	assert_int_equal(dl_file(&q, part, -1, &err), -LEM_E_REFUSED);
	says("401");
	assert_non_null(strstr(err.fix, "HF_TOKEN"));
	assert_null(strstr(err.what, "wrong-token"));
	assert_null(strstr(err.where, "wrong-token"));
	assert_null(strstr(err.why, "wrong-token"));
}

static void test_continues_a_part(void **state)
{
	_cleanup_str_ struct str bytes = STR_INIT;
	json_t *log;

	(void)state;
	assert_int_equal(fs_read_file(hub.file, 1 << 24, &bytes, NULL), 0);
	assert_int_equal(fs_write_atomic(part, bytes.buf, 600000, NULL), 0);
	assert_int_equal(get("good", FILE_BYTES), 0);
	assert_part_is_the_file();
	log = hub_log(&hub);
	const json_t *headers = json_object_get(json_array_get(log, 0), "headers");

	assert_string_equal(json_string_value(json_object_get(headers, "range")), "bytes=600000-");
	json_decref(log);
}

static void test_whole_part_asks_nothing(void **state)
{
	_cleanup_str_ struct str bytes = STR_INIT;
	json_t *log;

	(void)state;
	assert_int_equal(fs_read_file(hub.file, 1 << 24, &bytes, NULL), 0);
	assert_int_equal(fs_write_atomic(part, bytes.buf, bytes.len, NULL), 0);
	assert_int_equal(get("down", FILE_BYTES), 0);
	log = hub_log(&hub);
	assert_int_equal(json_array_size(log), 0);
	json_decref(log);
	/* of unknown size the server has to be asked, and says that there is no more */
	assert_int_equal(get("direct", -1), 0);
	assert_part_is_the_file();
}

static void test_longer_part_is_thrown_away(void **state)
{
	_cleanup_free_ char *junk = lem_calloc(1, FILE_BYTES + 10);

	(void)state;
	assert_int_equal(fs_write_atomic(part, junk, FILE_BYTES + 10, NULL), 0);
	assert_int_equal(get("good", FILE_BYTES), 0);
	assert_part_is_the_file();
}

/* Six connections, five of which break: more than the tries, but each brought something. */
static void test_resets_in_the_body(void **state)
{
	json_t *log;

	(void)state;
	assert_int_equal(get("resets", FILE_BYTES), 0);
	assert_part_is_the_file();
	log = hub_log(&hub);
	assert_true(json_array_size(log) >= 5);
	const json_t *last = json_array_get(log, json_array_size(log) - 1);

	assert_string_equal(
		json_string_value(json_object_get(json_object_get(last, "headers"), "if-range")),
		"\"v1\"");
	json_decref(log);
}

static void test_server_without_ranges(void **state)
{
	(void)state;
	assert_int_equal(get("norange", FILE_BYTES), 0);
	assert_part_is_the_file();
}

/* The same half over and over is no progress. */
static void test_never_whole_ends(void **state)
{
	json_t *log;

	(void)state;
	assert_int_equal(get("neverwhole", FILE_BYTES), -LEM_E_IO);
	log = hub_log(&hub);
	assert_in_range(json_array_size(log), 5, 6);
	json_decref(log);
}

static void test_file_changes_between_tries(void **state)
{
	(void)state;
	assert_int_equal(get("changed", FILE_BYTES), 0);
	assert_part_is_the_file();
}

static void test_another_part_than_asked_for(void **state)
{
	(void)state;
	assert_int_equal(get("badrange", FILE_BYTES), 0);
	assert_part_is_the_file();
}

static void test_busy_then_ready(void **state)
{
	int64_t t = clock_now_ns();

	(void)state;
	assert_int_equal(get("busy", FILE_BYTES), 0);
	assert_part_is_the_file();
	assert_true(clock_now_ns() - t >= NS_PER_S); /* it said Retry-After: 1 */
}

static void test_down(void **state)
{
	json_t *log;

	(void)state;
	assert_int_equal(get("down", FILE_BYTES), -LEM_E_IO);
	says("500");
	log = hub_log(&hub);
	assert_int_equal(json_array_size(log), 5);
	json_decref(log);
	assert_int_equal(part_size(), 0); /* nothing of the error's text */
}

static void test_missing_is_not_retried(void **state)
{
	json_t *log;

	(void)state;
	assert_int_equal(get("nosuch", FILE_BYTES), -LEM_E_NOT_FOUND);
	says("404");
	assert_non_null(strstr(err.where, "nosuch"));
	log = hub_log(&hub);
	assert_int_equal(json_array_size(log), 1);
	json_decref(log);
}

static void test_nobody_listens(void **state)
{
	struct dl_request q = {.url = "http://127.0.0.1:1/x", .pause_ms = 1, .tries = 2};

	(void)state;
	assert_int_equal(dl_file(&q, part, -1, &err), -LEM_E_IO);
	says("broke");
	assert_string_equal(err.where, q.url);
}

static void test_closes_without_an_answer(void **state)
{
	(void)state;
	assert_int_equal(get("refuses", FILE_BYTES), -LEM_E_IO);
}

static void test_ends_early(void **state)
{
	(void)state;
	assert_int_equal(get("short", FILE_BYTES), -LEM_E_IO);
	assert_true(part_size() < FILE_BYTES);
}

static void test_sends_more_than_named(void **state)
{
	(void)state;
	assert_int_equal(get("long", FILE_BYTES), -LEM_E_IO);
	says("more than");
	assert_true(part_size() <= FILE_BYTES);
}

static void test_hangs(void **state)
{
	_cleanup_free_ char *url = hub_url(&hub, "stall");
	struct dl_request q = {.url = url, .pause_ms = 1, .stall_s = 1, .tries = 1};
	int64_t t = clock_now_ns();

	(void)state;
	assert_int_equal(dl_file(&q, part, FILE_BYTES, &err), -LEM_E_IO);
	assert_true(clock_now_ns() - t < 8 * NS_PER_S);
	assert_int_equal(part_size(), 1000);
}

static void test_endless_error(void **state)
{
	(void)state;
	assert_int_equal(get("errorflood", FILE_BYTES), -LEM_E_IO);
	says("500");
	assert_int_equal(part_size(), 0);
}

static void test_redirects_in_a_circle(void **state)
{
	_cleanup_free_ char *url = hub_url(&hub, "loop");
	struct dl_request q = {.url = url, .pause_ms = 1, .tries = 1};
	struct dl_info info;

	(void)state;
	assert_int_equal(dl_file(&q, part, -1, &err), -LEM_E_IO);
	assert_int_equal(dl_head(&q, &info, &err), 0); /* gives up following */
	assert_int_equal(info.status, 302);
	assert_int_equal(info.size, -1);
}

static bool count_and_cancel(void *arg, uint64_t done, uint64_t total)
{
	uint64_t *seen = arg;

	assert_true(total == FILE_BYTES && done <= total);
	*seen = done;
	return false;
}

static void test_cancel(void **state)
{
	_cleanup_free_ char *url = hub_url(&hub, "stall");
	uint64_t seen = 1 << 30;
	struct dl_request q = {.url = url, .progress = count_and_cancel, .arg = &seen};

	(void)state;
	assert_int_equal(dl_file(&q, part, FILE_BYTES, &err), -LEM_E_INTERRUPTED);
	assert_true(seen <= 1000);
}

static bool cancel_later(void *arg, uint64_t done, uint64_t total)
{
	int *calls = arg;

	(void)done;
	(void)total;
	return ++*calls < 3;
}

/* Waiting between tries can be cancelled too. */
static void test_cancel_a_pause(void **state)
{
	_cleanup_free_ char *url = hub_url(&hub, "down");
	int calls = 0;
	struct dl_request q = {
		.url = url, .progress = cancel_later, .arg = &calls, .pause_ms = 60000};
	int64_t t = clock_now_ns();

	(void)state;
	assert_int_equal(dl_file(&q, part, FILE_BYTES, &err), -LEM_E_INTERRUPTED);
	assert_true(clock_now_ns() - t < 5 * NS_PER_S);
}

static void test_progress_is_not_called_too_often(void **state)
{
	_cleanup_free_ char *url = hub_url(&hub, "direct");
	int calls = -1000;
	struct dl_request q = {.url = url, .progress = cancel_later, .arg = &calls};
	int64_t t = clock_now_ns();

	(void)state;
	assert_int_equal(dl_file(&q, part, FILE_BYTES, &err), 0);
	assert_true(calls + 1000 <= 2 + (clock_now_ns() - t) / (NS_PER_S / 10));
}

static void test_part_cannot_be_stored(void **state)
{
	_cleanup_free_ char *url = hub_url(&hub, "direct");
	struct dl_request q = {.url = url};

	(void)state;
	assert_int_equal(dl_file(&q, "/nonexistent/part", -1, &err), -LEM_E_IO);
	assert_int_equal(dl_file(&q, "/dev/full", -1, &err), -LEM_E_IO);
	assert_non_null(strstr(err.why, "space"));
}

static void test_head(void **state)
{
	static const struct {
		const char *behaviour;
		long status;
		bool linked, sized;
	} cases[] = {{"good", 302, true, true},
		     {"direct", 200, false, true},
		     {"renamed", 302, true, true}, /* followed on the host, not off it */
		     {"busy", 302, true, true}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_free_ char *url = hub_url(&hub, cases[i].behaviour);
		struct dl_request q = {.url = url, .pause_ms = 1};
		struct dl_info info;

		assert_int_equal(dl_head(&q, &info, &err), 0);
		assert_int_equal(info.status, cases[i].status);
		assert_int_equal(info.size, FILE_BYTES);
		assert_string_equal(info.linked_etag, cases[i].linked ? hub.sha256 : "");
		assert_string_equal(info.etag, cases[i].linked ? "of-the-hub" : "v1");
	}
}

static void test_head_fails(void **state)
{
	static const struct {
		const char *behaviour;
		int code;
	} cases[] = {{"nosuch", LEM_E_NOT_FOUND}, {"gated", LEM_E_REFUSED}, {"down", LEM_E_IO}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_free_ char *url = hub_url(&hub, cases[i].behaviour);
		struct dl_request q = {.url = url, .pause_ms = 1};
		struct dl_info info = {.size = 77};

		assert_int_equal(dl_head(&q, &info, &err), -cases[i].code);
		assert_int_equal(info.size, 77); /* untouched */
	}
}

static void test_text(void **state)
{
	_cleanup_free_ char *url = hub_url(&hub, "text");
	_cleanup_free_ char *flood =
		lem_asprintf("http://127.0.0.1:%d/api/models/acme/flood", hub.port);
	_cleanup_str_ struct str text = STR_INIT;
	struct dl_request q = {.url = url, .pause_ms = 1};

	(void)state;
	assert_int_equal(dl_text(&q, 5, &text, &err), 0);
	assert_string_equal(str_c(&text), "hello");
	assert_int_equal(dl_text(&q, 4, &text, &err), -LEM_E_PARSE);
	says("larger than 4");
	assert_string_equal(str_c(&text), "hello"); /* untouched */
	q.url = flood;
	assert_int_equal(dl_text(&q, 1 << 20, &text, &err), -LEM_E_PARSE);
}

static void test_only_http(void **state)
{
	_cleanup_free_ char *url = lem_asprintf("file://%s", hub.file);
	_cleanup_str_ struct str text = STR_INIT;
	struct dl_request q = {.url = url, .pause_ms = 1, .tries = 1};

	(void)state;
	assert_true(dl_text(&q, 1 << 24, &text, &err) < 0);
	assert_int_equal(text.len, 0);
}

#define T(f) cmocka_unit_test_setup(f, fresh)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_whole),
		T(test_redirect_to_another_origin),
		T(test_token_stays_with_its_host),
		T(test_token_is_not_in_messages),
		T(test_continues_a_part),
		T(test_whole_part_asks_nothing),
		T(test_longer_part_is_thrown_away),
		T(test_resets_in_the_body),
		T(test_server_without_ranges),
		T(test_never_whole_ends),
		T(test_file_changes_between_tries),
		T(test_another_part_than_asked_for),
		T(test_busy_then_ready),
		T(test_down),
		T(test_missing_is_not_retried),
		T(test_nobody_listens),
		T(test_closes_without_an_answer),
		T(test_ends_early),
		T(test_sends_more_than_named),
		T(test_hangs),
		T(test_endless_error),
		T(test_redirects_in_a_circle),
		T(test_cancel),
		T(test_cancel_a_pause),
		T(test_progress_is_not_called_too_often),
		T(test_part_cannot_be_stored),
		T(test_head),
		T(test_head_fails),
		T(test_text),
		T(test_only_http),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
