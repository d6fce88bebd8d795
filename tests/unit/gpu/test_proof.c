/* What lem-gpuprobe printed, and whether it is what was asked for. */
#include <setjmp.h>

#include "base/str.h"
#include "gpu/proof.h"

#include <cmocka.h>

#define A   "GPU-1a2b3c40-fa4e-4000-8000-000000abcdef"
#define B   "GPU-1a2b3c41-fa4e-4000-8000-000000abcdf0"
#define C   "GPU-1a2b3c42-fa4e-4000-8000-000000abcdf1"
#define MIG "MIG-5e6f7080-fa4e-5000-8000-000000000000"

#define DOC(rest) "{\"lem_gpuprobe\": 1, " rest "}\n"
#define TWO                                                          \
	DOC("\"devices\": [{\"uuid\": \"" A                          \
	    "\", \"pci_bus_id\": \"0000:10:00.0\"}, {\"uuid\": \"" B \
	    "\", \"pci_bus_id\": \"0000:11:00.0\", \"name\": \"x\"}], \"cuda_driver\": 13000")

struct parsed {
	struct arena a;
	struct gpu_observed *at;
	size_t n;
	struct lem_error err;
	int rc;
};

static struct parsed parse(const char *text)
{
	struct parsed p = {.a = ARENA_INIT, .n = 77};

	p.rc = gpu_proof_parse(text, &p.a, &p.at, &p.n, &p.err);
	return p;
}

static void test_parse(void **state)
{
	struct parsed p = parse(TWO);

	(void)state;
	assert_int_equal(p.rc, 0);
	assert_int_equal(p.n, 2);
	assert_string_equal(p.at[0].uuid, A);
	assert_string_equal(p.at[0].pci_bus_id, "0000:10:00.0");
	assert_string_equal(p.at[1].uuid, B);
	arena_release(&p.a);
}

static void test_parse_among_other_text(void **state)
{
	struct parsed p = parse(
		"=== NVIDIA TensorRT-LLM ===\n{\"not\": 1}\n{\"lem_gpuprobe\" cut\n" TWO "bye\n");

	(void)state;
	assert_int_equal(p.rc, 0);
	assert_int_equal(p.n, 2);
	arena_release(&p.a);
}

static void test_parse_no_device(void **state)
{
	struct parsed p = parse(DOC("\"devices\": []"));

	(void)state;
	assert_int_equal(p.rc, 0);
	assert_int_equal(p.n, 0);
	arena_release(&p.a);
}

static void test_parse_bad(void **state)
{
	static const char *const bad[] = {
		"",
		"\n \n",
		"sh: lem-gpuprobe: not found\n",
		"{\"lem_gpuprobe\": 1, \"devices\": [",
		DOC("\"devices\": {}"),
		DOC("\"device\": []"),
		DOC("\"devices\": [1]"),
		DOC("\"devices\": [{\"uuid\": \"\"}]"),
		DOC("\"devices\": [{\"pci_bus_id\": \"0000:10:00.0\"}]"),
		DOC("\"devices\": [{\"uuid\": 5}]"),
		"{\"lem_gpuprobe\": 2, \"devices\": []}",
		DOC("\"devices\": [{\"uuid\": \"" A A A "\"}]"),
		DOC("\"devices\": [{\"uuid\": \"" A "\", \"pci_bus_id\": \"" A "\"}]"),
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct parsed p = parse(bad[i]);

		assert_int_equal(p.rc, -LEM_E_PARSE);
		assert_int_equal(p.n, 77);
		assert_null(p.at);
		assert_true(*p.err.what);
		arena_release(&p.a);
	}
}

static void test_parse_too_many(void **state)
{
	_cleanup_str_ struct str s = STR_INIT;
	struct parsed p;

	(void)state;
	str_add(&s, "{\"lem_gpuprobe\": 1, \"devices\": [");
	for (int i = 0; i < 65; i++)
		str_addf(&s, "%s{\"uuid\": \"" A "\"}", i ? "," : "");
	str_add(&s, "]}");
	p = parse(str_c(&s));
	assert_int_equal(p.rc, -LEM_E_PARSE);
	arena_release(&p.a);
}

static void test_silence_shows_the_last_line(void **state)
{
	struct parsed p = parse("hello\nexec: lem-gpuprobe: permission denied\n\n");

	(void)state;
	assert_string_equal(p.err.why,
			    "the last line printed: exec: lem-gpuprobe: permission denied");
	p = parse("");
	assert_string_equal(p.err.why, "it printed nothing");
}

static void test_parse_error(void **state)
{
	static const struct {
		const char *text, *what, *why;
	} rows[] = {
		{"\"error\": \"cuInit: CUDA_ERROR_SYSTEM_NOT_READY\", \"status\": 802",
		 "SYSTEM_NOT_READY (802)", "R18: the fabric manager"},
		{"\"error\": \"cuInit: x\", \"status\": 101, \"cuda_visible_devices\": \"0,0\"",
		 "(101)", "R06: CUDA_VISIBLE_DEVICES names a GPU twice; CUDA_VISIBLE_DEVICES=0,0"},
		{"\"error\": \"cuInit: x\", \"status\": 100, \"cuda_visible_devices\": null",
		 "(100)", "CUDA sees no GPU there"},
		{"\"error\": \"cannot load\", \"status\": -1", "where the engine runs: cannot load",
		 "R03: "},
		{"\"error\": \"x\", \"status\": 803", "(803)", "R24: "},
		{"\"error\": \"x\", \"status\": 35", "(35)", "R25: "},
		{"\"error\": \"does not answer\", \"status\": -3", "runs: does not answer",
		 "in time"},
		{"\"error\": \"odd\", \"status\": 4711", "odd (4711)", ""},
		{"\"error\": 3", "(0)", ""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		_cleanup_free_ char *text = lem_asprintf("{\"lem_gpuprobe\": 1, %s}", rows[i].text);
		struct parsed p = parse(text);

		assert_int_equal(p.rc, -LEM_E_ROUTING);
		assert_non_null(strstr(p.err.what, rows[i].what));
		assert_non_null(strstr(p.err.why, rows[i].why));
		assert_true(!*rows[i].why || *p.err.fix);
	}
}

/* ---- comparing ---- */

static struct gpu_ref asked[16];
static struct gpu_observed seen[16];
static struct lem_error err;

static int compare(const char *const *uuids_asked, const char *const *uuids_seen)
{
	struct gpu_binding b = {.gpus = asked};
	size_t n = 0;

	for (; uuids_asked[b.n]; b.n++) {
		asked[b.n] = (struct gpu_ref){.index = 2 + 3 * (int)b.n};
		lem_strlcpy(asked[b.n].uuid, uuids_asked[b.n], sizeof(asked[b.n].uuid));
		(void)snprintf(asked[b.n].pci_bus_id, sizeof(asked[b.n].pci_bus_id),
			       "00000000:1%zX:00.0", b.n);
	}
	for (; uuids_seen[n]; n++) {
		lem_strlcpy(seen[n].uuid, uuids_seen[n], sizeof(seen[n].uuid));
		(void)snprintf(seen[n].pci_bus_id, sizeof(seen[n].pci_bus_id), "0000:1%zx:00.0", n);
	}
	err = (struct lem_error){0};
	return gpu_proof_compare(&b, seen, n, &err);
}

#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})
#define NONE      ((const char *const[]){NULL})

static void test_same(void **state)
{
	(void)state;
	assert_int_equal(compare(LIST(A), LIST(A)), 0);
	assert_int_equal(compare(LIST(B, A), LIST(B, A)), 0);
	assert_int_equal(compare(LIST("GPU-1A2B3C40-FA4E-4000-8000-000000ABCDEF"), LIST(A)), 0);
	assert_int_equal(compare(NONE, NONE), 0);
	assert_int_equal(err.code, LEM_E_NONE);
}

static void test_differences(void **state)
{
	static const struct {
		const char *asked[4], *seen[4], *what, *fix;
	} rows[] = {
		{{A, B}, {B, A}, "in another order", "CUDA_DEVICE_ORDER"},
		{{A, B}, {A}, "does not see all GPUs", "hides it"},
		{{A}, {NULL}, "does not see all GPUs", "hides it"},
		{{A}, {A, B}, "more GPUs than were asked for", "R01"},
		{{B}, {A, B}, "more GPUs than were asked for", "R01"},
		{{NULL}, {A}, "more GPUs than were asked for", "R01"},
		{{A}, {B}, "does not see the GPUs asked for", "R04"},
		{{A, B}, {A, C}, "does not see the GPUs asked for", "R04"},
		{{A, B}, {C}, "does not see the GPUs asked for", "R04"},
		{{A, B}, {A, A}, "does not see the GPUs asked for", "R04"},
		{{A}, {MIG}, "does not see the GPUs asked for", "R04"},
		{{MIG}, {"MIG-5e6f7080-fa4e-5000-8000-000000000001"}, "does not see the GPUs", ""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(compare(rows[i].asked, rows[i].seen), -LEM_E_ROUTING);
		assert_non_null(strstr(err.what, rows[i].what));
		assert_non_null(strstr(err.fix, rows[i].fix));
	}
}

static void test_both_lists(void **state)
{
	(void)state;
	assert_true(compare(LIST(A, B), LIST(B, C)) < 0);
	assert_string_equal(err.why,
			    "asked for: 0 = host GPU 2 " A ", 1 = host GPU 5 " B
			    "; the engine sees: 0 = " B " (host GPU 5), 1 = " C " (not asked for)");
	assert_true(compare(LIST(A), NONE) < 0);
	assert_string_equal(err.why, "asked for: 0 = host GPU 2 " A "; the engine sees: no GPU");
	assert_true(compare(LIST(A, B, C), LIST(A, C, B)) < 0);
	assert_string_equal(err.why,
			    "asked for: 0 = host GPU 2 GPU-1a2b3c40, 1 = host GPU 5 GPU-1a2b3c41, "
			    "2 = host GPU 8 GPU-1a2b3c42; the engine sees: 0 = GPU-1a2b3c40 (host "
			    "GPU 2), 1 = GPU-1a2b3c42 (host GPU 8), 2 = GPU-1a2b3c41 (host GPU 5)");
}

/* Of sixteen GPUs the two last are exchanged: the text must show them. */
static void test_long_lists_show_the_difference(void **state)
{
	char text[16][48];
	const char *want[17] = {NULL}, *have[17] = {NULL};

	(void)state;
	for (size_t i = 0; i < 16; i++) {
		(void)snprintf(text[i], sizeof(text[i]), "GPU-%08zx-0000-4000-8000-000000000000",
			       i);
		want[i] = have[i] = text[i];
	}
	have[14] = text[15];
	have[15] = text[14];
	assert_true(compare(want, have) < 0);
	assert_non_null(strstr(err.why, "14 = host GPU 44 GPU-0000000e"));
	assert_non_null(strstr(err.why, "14 = GPU-0000000f (host GPU 47)"));
	assert_non_null(strstr(err.why, "15 = GPU-0000000e (host GPU 44)"));
	have[14] = text[14];
	have[15] = text[15];
	have[0] = C;
	assert_true(compare(want, have) < 0);
	assert_non_null(strstr(err.why, "0 = "
					"GPU-1a2b3c42 (not asked for)"));
	assert_non_null(strstr(err.why, ", …; the engine"));
}

/* A driver before 11.4 tells only the card: then the bus id decides. */
static void test_mig_by_bus(void **state)
{
	(void)state;
	assert_int_equal(compare(LIST(MIG), LIST(MIG)), 0);
	assert_int_equal(compare(LIST(MIG), LIST(A)), 0);
	assert_int_equal(compare(LIST(A, MIG), LIST(MIG, A)), -LEM_E_ROUTING);
	assert_int_equal(compare(LIST(C, MIG), LIST(MIG)), -LEM_E_ROUTING);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_parse_among_other_text),
		cmocka_unit_test(test_parse_no_device),
		cmocka_unit_test(test_parse_bad),
		cmocka_unit_test(test_parse_too_many),
		cmocka_unit_test(test_silence_shows_the_last_line),
		cmocka_unit_test(test_parse_error),
		cmocka_unit_test(test_same),
		cmocka_unit_test(test_differences),
		cmocka_unit_test(test_both_lists),
		cmocka_unit_test(test_long_lists_show_the_difference),
		cmocka_unit_test(test_mig_by_bus),
	};

	return cmocka_run_group_tests_name("proof", tests, NULL, NULL);
}
