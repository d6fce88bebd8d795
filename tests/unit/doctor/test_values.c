/* What the checks show of a machine where nothing is wrong. */
#include <setjmp.h>

#include "good_facts.h"

#include <cmocka.h>

/* The counter of the whole platform holds package and memory together: no figure is made of it. */
static void test_domains_of_the_cpu(void **state)
{
	static const char *const devices[] = {"package-0", "dram-0", "psys", "package-0"};
	static struct meter_status all[4];
	struct doctor_facts *f = good_facts();

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		all[i] = (struct meter_status){.usable = true};
		lem_strlcpy(all[i].meter, i == 3 ? "rapl_powercap" : "rapl_perf",
			    sizeof(all[i].meter));
		lem_strlcpy(all[i].device, devices[i], sizeof(all[i].device));
	}
	f->cpu_meters = all;
	f->n_cpu_meters = 4;
	assert_string_equal(run_check(f, "energy-cpu", NULL).value, "rapl_perf: package-0, dram-0");
	f->cpu_meters = &all[2];
	f->n_cpu_meters = 1;
	const struct doctor_result r = run_check(f, "energy-cpu", NULL);

	assert_int_equal(r.status, DOCTOR_NOT_APPLICABLE);
	assert_non_null(strstr(r.message, "psys"));
	assert_string_equal(r.value, "");
}

/* Sizes are said as people read them. */
static void test_shm_sizes(void **state)
{
	struct doctor_facts *f = good_facts();

	(void)state;
	f->limits.shm_bytes = INT64_C(264) << 30;
	assert_string_equal(run_check(f, "R17", NULL).value, "264 GiB");
	f->limits.shm_bytes = INT64_C(64) << 20;
	assert_non_null(strstr(run_check(f, "R17", NULL).message, "/dev/shm has 64.00 MiB"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_domains_of_the_cpu),
		cmocka_unit_test(test_shm_sizes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
