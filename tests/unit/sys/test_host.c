#include "sys/host.h"

#include <setjmp.h>

#include <cmocka.h>

static void test_facts_are_plausible(void **state)
{
	struct host_facts h;

	(void)state;
	host_read(&h);
	assert_string_not_equal(h.kernel, "");
	assert_string_not_equal(h.hostname, "");
	assert_in_range(h.cpus_allowed, 1, h.cpus_online);
	assert_in_range(h.cores_allowed, 1, h.cpus_allowed);
	assert_true(h.memory_total_bytes > (64 << 20));
	assert_true(h.memory_available_bytes <= h.memory_total_bytes);
	assert_string_not_equal(h.virtualization, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_facts_are_plausible)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
