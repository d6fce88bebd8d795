#include "store/codec.h"

#include <math.h>

#include "sys/fs.h"

#include <setjmp.h>

#include <cmocka.h>

#include "example.h"
#include "store/pack.h"

static void encode(const struct run_record *r, struct str *out)
{
	struct lem_error err = LEM_ERROR_INIT;
	struct run_record back;
	const char *field = "";

	record_encode(r, out);
	run_record_init(&back);
	if (record_decode(str_c(out), out->len, &back, &err) < 0)
		fail_msg("%s", err.what);
	if (!records_equal(r, &back, &field))
		fail_msg("%s differs", field);
	run_record_release(&back);
}

static void test_example_survives(void **state)
{
	_cleanup_str_ struct str bytes = STR_INIT;
	struct run_record r;

	(void)state;
	example_record(&r, "x");
	encode(&r, &bytes);
	run_record_release(&r);
}

static void test_empty_survives(void **state)
{
	_cleanup_str_ struct str bytes = STR_INIT;
	struct run_record r;

	(void)state;
	run_record_init(&r);
	encode(&r, &bytes);
	run_record_release(&r);
}

static void test_anything_survives(void **state)
{
	struct rand rnd;

	(void)state;
	rand_seed(&rnd, 20261124);
	for (int i = 0; i < 500; i++) {
		_cleanup_str_ struct str bytes = STR_INIT;
		struct run_record r;

		random_record(&r, &rnd);
		encode(&r, &bytes);
		run_record_release(&r);
	}
}

/* The comparison itself must see a difference, or the tests above prove nothing. */
static void test_comparison_sees(void **state)
{
	struct run_record a, b;
	const char *field = "";

	(void)state;
	example_record(&a, "x");
	example_record(&b, "x");
	assert_true(records_equal(&a, &b, &field));
	b.samples.series[1].value[39]++;
	assert_false(records_equal(&a, &b, &field));
	assert_string_equal(field, "samples");
	b.samples.series[1].value[39]--;
	b.requests[19].first_stamp++;
	assert_false(records_equal(&a, &b, &field));
	assert_string_equal(field, "requests");
	b.requests[19].first_stamp--;
	b.shape.quant_block = 1;
	assert_false(records_equal(&a, &b, &field));
	assert_string_equal(field, "shape");
	run_record_release(&a);
	run_record_release(&b);
}

/* A record that was cut anywhere is refused, and nothing leaks or is read beyond the end. */
static void test_every_cut_is_seen(void **state)
{
	_cleanup_str_ struct str bytes = STR_INIT;
	struct run_record r;

	(void)state;
	example_record(&r, "x");
	encode(&r, &bytes);
	run_record_release(&r);
	for (size_t n = 0; n < bytes.len; n++) {
		_cleanup_free_ char *exact = lem_malloc(n);
		struct lem_error err = LEM_ERROR_INIT;

		if (n)
			memcpy(exact, bytes.buf, n);
		run_record_init(&r);
		assert_int_equal(record_decode(exact, n, &r, &err), -LEM_E_PARSE);
		assert_null(r.requests);
	}
	str_addc(&bytes, '!');
	run_record_init(&r);
	assert_int_equal(record_decode(bytes.buf, bytes.len, &r, NULL), -LEM_E_PARSE);
}

static bool sane(const struct run_record *r)
{
	for (size_t i = 0; i < r->n_requests; i++)
		if (r->requests[i].first_stamp + (size_t)r->requests[i].n_stamps >
		    r->n_token_stamps)
			return false;
	for (size_t i = 0; i < r->samples.n_series; i++)
		if (r->samples.series[i].signal >= SIGNAL_COUNT)
			return false;
	return r->n_phases <= ARRAY_LEN(r->phases) && r->status <= RUN_INTERRUPTED;
}

/* A changed byte gives a record that is safe to read, or none. */
static void test_every_flip_is_safe(void **state)
{
	_cleanup_str_ struct str bytes = STR_INIT;
	struct run_record r;

	(void)state;
	example_record(&r, "x");
	encode(&r, &bytes);
	run_record_release(&r);
	for (size_t i = 0; i < bytes.len; i++) {
		char was = bytes.buf[i];

		bytes.buf[i] = (char)~was;
		run_record_init(&r);
		if (record_decode(bytes.buf, bytes.len, &r, NULL) >= 0)
			assert_true(sane(&r));
		run_record_release(&r);
		bytes.buf[i] = was;
	}
}

static void test_other_versions_are_named(void **state)
{
	_cleanup_str_ struct str bytes = STR_INIT;
	struct lem_error err = LEM_ERROR_INIT;
	struct run_record r;

	(void)state;
	run_record_init(&r);
	record_encode(&r, &bytes);
	bytes.buf[8] = 99; /* the version follows eight bytes of magic, little endian */
	assert_int_equal(record_decode(bytes.buf, bytes.len, &r, &err), -LEM_E_UNSUPPORTED);
	assert_non_null(strstr(err.what, "format 99"));
}

/* tests/fuzz/corpus/codec/served was stored by the version before goals and levels of load. */
static void test_version_3_is_read(void **state)
{
	const char *root = getenv("LEM_SOURCE_ROOT");
	_cleanup_free_ char *path =
		lem_asprintf("%s/tests/fuzz/corpus/codec/served", root ? root : ".");
	_cleanup_str_ struct str bytes = STR_INIT;
	struct lem_error err = LEM_ERROR_INIT;
	struct run_record r;

	(void)state;
	assert_return_code(fs_read_file(path, 1 << 20, &bytes, &err), 0);
	assert_int_equal(bytes.buf[8], 3);
	run_record_init(&r);
	if (record_decode(bytes.buf, bytes.len, &r, &err) < 0)
		fail_msg("%s", err.what);
	assert_true(r.server.used);
	assert_true(isnan(r.slo.ttft_ms) && isnan(r.slo.tpot_ms) && isnan(r.slo.e2e_ms));
	assert_true(isnan(r.server.roofline_requests_per_cpu_s));
	assert_int_equal(r.server.n_retried, -1);
	assert_null(r.prompts_form);
	assert_int_equal(r.level.n, 0);
	assert_null(r.level.launch_id);
	assert_null(r.work.source);
	assert_int_equal(r.n_requests, 4);
	assert_int_equal(r.requests[3].input_tokens_asked, 0);
	assert_int_equal(r.requests[3].output_tokens, 12);
	run_record_release(&r);
}

/* tests/fuzz/corpus/codec/proof was stored by the version before servers were driven over HTTP. */
static void test_version_2_is_read(void **state)
{
	const char *root = getenv("LEM_SOURCE_ROOT");
	_cleanup_free_ char *path =
		lem_asprintf("%s/tests/fuzz/corpus/codec/proof", root ? root : ".");
	_cleanup_str_ struct str bytes = STR_INIT;
	struct lem_error err = LEM_ERROR_INIT;
	struct run_record r;

	(void)state;
	assert_return_code(fs_read_file(path, 1 << 20, &bytes, &err), 0);
	assert_int_equal(bytes.buf[8], 2);
	run_record_init(&r);
	if (record_decode(bytes.buf, bytes.len, &r, &err) < 0)
		fail_msg("%s", err.what);
	assert_false(r.server.used);
	assert_null(r.stamp_tokens);
	for (size_t i = 0; i < r.n_requests; i++) {
		assert_int_equal(r.requests[i].n_stamps, r.requests[i].output_tokens);
		assert_int_equal(r.requests[i].cached_tokens, -1);
	}
	run_record_release(&r);
}

/* tests/fuzz/corpus/codec/rich was stored by the version before the proof existed. */
static void test_version_1_is_read(void **state)
{
	const char *root = getenv("LEM_SOURCE_ROOT");
	_cleanup_free_ char *path =
		lem_asprintf("%s/tests/fuzz/corpus/codec/rich", root ? root : ".");
	char bytes[16384];
	FILE *f = fopen(path, "rb");
	struct lem_error err = LEM_ERROR_INIT;
	struct run_record r;
	size_t n;

	(void)state;
	assert_non_null(f);
	n = fread(bytes, 1, sizeof(bytes), f);
	(void)fclose(f);
	assert_int_equal(bytes[8], 1);
	run_record_init(&r);
	if (record_decode(bytes, n, &r, &err) < 0)
		fail_msg("%s", err.what);
	assert_int_equal(r.binding.n, 2);
	assert_string_equal(gpu_ref_card(&r.binding.gpus[1]), "GPU-bb");
	assert_string_equal(r.binding.proof, "");
	assert_int_equal(r.binding.n_observed, 0);
	assert_int_equal(r.binding.guard_level, GPU_GUARD_NONE);
	assert_int_equal(r.n_requests, 20);
	run_record_release(&r);
}

static void pack_example(struct str *plain, struct str *packed)
{
	struct run_record r;

	example_record(&r, "x");
	record_encode(&r, plain);
	assert_int_equal(pack(plain, packed, NULL), 0);
	run_record_release(&r);
}

static void test_pack(void **state)
{
	_cleanup_str_ struct str plain = STR_INIT, packed = STR_INIT, back = STR_INIT;

	(void)state;
	pack_example(&plain, &packed);
	assert_true(packed.len < plain.len / 2);
	assert_int_equal(unpack(packed.buf, packed.len, plain.len, &back, NULL), 0);
	assert_int_equal(back.len, plain.len);
	assert_memory_equal(back.buf, plain.buf, plain.len);
	assert_int_equal(unpack(packed.buf, packed.len, plain.len - 1, &back, NULL), -LEM_E_PARSE);
	assert_int_equal(back.len, plain.len); /* untouched */
}

/* The frame's checksum finds every flipped bit that matters; what is left decodes to the same. */
static void test_damaged_frames_are_refused(void **state)
{
	_cleanup_str_ struct str plain = STR_INIT, packed = STR_INIT;

	(void)state;
	pack_example(&plain, &packed);
	for (size_t i = 0; i < packed.len; i++) {
		_cleanup_str_ struct str back = STR_INIT;
		char was = packed.buf[i];

		packed.buf[i] = (char)(was ^ 1 << i % 8);
		if (unpack(packed.buf, packed.len, 10 * plain.len, &back, NULL) >= 0)
			assert_true(back.len == plain.len &&
				    memcmp(back.buf, plain.buf, plain.len) == 0);
		packed.buf[i] = was;
		assert_int_equal(unpack(packed.buf, i, 10 * plain.len, &back, NULL), -LEM_E_PARSE);
	}
	str_addc(&packed, '\0');
	assert_int_equal(unpack(packed.buf, packed.len, 10 * plain.len, &plain, NULL),
			 -LEM_E_PARSE);
}

/* A few bytes that unfold to more than any run: refused as soon as the bound is passed. */
static void test_bombs_are_bounded(void **state)
{
	_cleanup_str_ struct str plain = STR_INIT, packed = STR_INIT, back = STR_INIT;
	struct lem_error err = LEM_ERROR_INIT;

	(void)state;
	str_reserve(&plain, 64 << 20);
	plain.len = 64 << 20;
	memset(plain.buf, 0, plain.len + 1);
	assert_int_equal(pack(&plain, &packed, NULL), 0);
	assert_true(packed.len < 16 << 10);
	assert_int_equal(unpack(packed.buf, packed.len, 1 << 20, &back, &err), -LEM_E_PARSE);
	assert_non_null(strstr(err.why, "longer"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_example_survives),
		cmocka_unit_test(test_empty_survives),
		cmocka_unit_test(test_anything_survives),
		cmocka_unit_test(test_comparison_sees),
		cmocka_unit_test(test_every_cut_is_seen),
		cmocka_unit_test(test_every_flip_is_safe),
		cmocka_unit_test(test_other_versions_are_named),
		cmocka_unit_test(test_version_3_is_read),
		cmocka_unit_test(test_version_2_is_read),
		cmocka_unit_test(test_version_1_is_read),
		cmocka_unit_test(test_pack),
		cmocka_unit_test(test_damaged_frames_are_refused),
		cmocka_unit_test(test_bombs_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
