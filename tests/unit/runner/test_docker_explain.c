/* What an engine's refusal means, and that no secret stands in an error. */
#include <setjmp.h>

#include "runner/docker_explain.h"

#include <cmocka.h>

#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})

static struct lem_error engine_error(enum lem_code code, const char *why)
{
	struct lem_error err;

	(void)lem_fail(&err, code, "the container engine cannot start the container (HTTP 500)");
	(void)lem_error_why(&err, "%s", why);
	return err;
}

static void test_rules(void **state)
{
	static const struct {
		const char *why, *what;
	} rows[] = {
		{"could not select device driver \"\" with capabilities: [[gpu]]", "R20: "},
		{"failed to inject CDI devices: unresolvable CDI devices nvidia.com/gpu=7",
		 "R21: "},
		{"CDI: failed to stat /dev/nvidia9: no such file or directory", "R22: "},
		{"error gathering device information while adding custom device \"/dev/nvidia0\": "
		 "no such file or directory",
		 "R22: "},
		{"CDI device injection failed: what", "R21: "},
		{"unknown or invalid runtime name: nvidia", "R03: "},
		{"nvidia-container-cli: nvml error: driver/library version mismatch", "R24: "},
		{"nvidia-container-cli: nvml error: driver not loaded", "R23: "},
		{"invoking the NVIDIA Container Runtime Hook directly (e.g. specifying the docker "
		 "--gpus flag) is not supported",
		 "R36: "},
		{"Failed to initialize NVML: Insufficient Permissions", "R34: "},
		{"exec: \"/x\": permission denied", "cannot be executed"},
		{"failed to start shim: fork/exec /usr/bin/nvidia-container-runtime: permission "
		 "denied",
		 "its own runtime"},
		{"exec: \"sh\": executable file not found in $PATH", "no such program"},
		{"exec: \"/x\": stat /x: no such file or directory", "no such program"},
		{"error setting rlimit type 8: operation not permitted", "may not raise"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct lem_error err = engine_error(LEM_E_ENGINE, rows[i].why);

		assert_int_equal(docker_explain(&err), -LEM_E_ENGINE);
		if (!strstr(err.what, rows[i].what))
			fail_msg("row %zu: %s", i, err.what);
		assert_non_null(strstr(err.why, rows[i].why)); /* its own words stay */
		assert_non_null(strstr(err.why, "HTTP 500"));
		assert_true(err.fix[0] != '\0');
	}
}

static void test_left_alone(void **state)
{
	struct lem_error err = engine_error(LEM_E_ENGINE, "something new");

	(void)state;
	assert_int_equal(docker_explain(&err), -LEM_E_ENGINE);
	assert_non_null(strstr(err.what, "cannot start"));
	assert_string_equal(err.fix, "");
	/* a refusal of ours quotes what the user wrote: not an engine's words */
	err = engine_error(LEM_E_REFUSED, "could not select device driver");
	assert_int_equal(docker_explain(&err), -LEM_E_REFUSED);
	assert_non_null(strstr(err.what, "cannot start"));
}

static void scrubbed(const char *why, const char *want)
{
	struct launch_spec s = {
		.env = LIST("A=unused", "HF_TOKEN=old", "HF_TOKEN=hf_secret", "KEY=", "PIN=12"),
		.secrets = LIST("HF_TOKEN", "KEY", "PIN", "ABSENT")};
	struct lem_error err = engine_error(LEM_E_ENGINE, why);

	docker_scrub(&s, &err);
	assert_string_equal(err.why, want);
}

static void test_scrub(void **state)
{
	(void)state;
	scrubbed("nothing here", "nothing here");
	scrubbed("hf_secret", "***");
	scrubbed("a hf_secret b hf_secret, hf_secre", "a *** b ***, ***");
	scrubbed("hf_secrex stays, and 12 too, unused too",
		 "hf_secrex stays, and 12 too, unused too");
	scrubbed("cut at the end: hf_s", "cut at the end: ***");
	scrubbed("hfhf_secretcret", "hf***cret");
	scrubbed("", "");
	docker_scrub(&(struct launch_spec){.secrets = LIST("X")}, NULL);
}

/* An error's field is bounded; a secret that reaches over its end is not left in part. */
static void test_scrub_cut(void **state)
{
	struct launch_spec s = {.env = LIST("T=abcdefghijklmnopqrstuvwxyz"), .secrets = LIST("T")};
	struct lem_error err;
	char text[1024];

	(void)state;
	for (size_t k = 3; k < 26; k++) {
		memset(text, '.', sizeof(text));
		size_t at = sizeof(err.why) - 1 - k;

		memcpy(text + at, "abcdefghijklmnopqrstuvwxyz", 27);
		err = engine_error(LEM_E_ENGINE, text);
		docker_scrub(&s, &err);
		assert_null(strstr(err.why, "abc"));
		assert_non_null(strstr(err.why, ".***"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rules),
		cmocka_unit_test(test_left_alone),
		cmocka_unit_test(test_scrub),
		cmocka_unit_test(test_scrub_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
