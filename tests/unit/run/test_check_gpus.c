#include "run/life.h"

#include <setjmp.h>

#include <cmocka.h>

#include "use_fake.h"

/* Four fake GPUs of 80 GiB; the run is to use host GPU 1 and 2. */
struct stage {
	struct experiment exp;
	struct run_request request;
	struct run_record record;
	struct life life;
};

static void put(struct stage *s, const char *script)
{
	struct gpu_binding *b = &s->record.binding;

	memset(s, 0, sizeof(*s));
	use_fake(script);
	s->exp.backend = BACKEND_LLAMACPP;
	s->request.cancel_fd = -1;
	s->life = (struct life){.req = &s->request, .e = &s->exp, .rec = &s->record};
	assert_int_equal(gpu_inventory_read(&s->life.inventory, NULL), 0);
	b->n = 2;
	b->gpus = lem_calloc(2, sizeof(*b->gpus));
	for (int i = 0; i < 2; i++) {
		b->gpus[i].index = i + 1;
		lem_strlcpy(b->gpus[i].uuid, s->life.inventory.gpus[i + 1].uuid,
			    sizeof(b->gpus[i].uuid));
	}
}

static void take(struct stage *s)
{
	gpu_inventory_release(&s->life.inventory);
	run_record_release(&s->record);
}

static void test_nothing_to_say(void **state)
{
	struct stage s;

	(void)state;
	put(&s, "gpus=4");
	s.record.shape.size_bytes = UINT64_C(100) << 30; /* two have room for it */
	assert_int_equal(life_check_gpus(&s.life, NULL), 0);
	assert_int_equal(s.record.n_notes, 0);
	take(&s);
}

static void test_memory(void **state)
{
	struct lem_error err = LEM_ERROR_INIT;
	struct stage s;

	(void)state;
	put(&s, "gpus=4;used2=60g;procs=2:1:60g;used3=79g");
	s.record.shape.size_bytes = UINT64_C(60) << 30; /* 30 GiB each, 20 are free on GPU 2 */
	assert_int_equal(life_check_gpus(&s.life, &err), -LEM_E_REFUSED);
	assert_true(str_starts(err.what, "R26: GPU 2"));
	assert_non_null(strstr(err.why, "pid 1"));
	assert_non_null(strstr(err.fix, "now: 0, 1"));
	s.life.planning = true; /* by the time of the run it may be free */
	assert_int_equal(life_check_gpus(&s.life, &err), 0);
	assert_true(str_starts(s.record.notes[0], "R26: GPU 2"));
	s.life.planning = false;
	s.exp.llamacpp.n_gpu_layers = (struct maybe_i64){true, 2}; /* nobody knows how much */
	assert_int_equal(life_check_gpus(&s.life, &err), 0);
	take(&s);
}

static void test_memory_of_vllm_is_a_share(void **state)
{
	struct lem_error err = LEM_ERROR_INIT;
	struct stage s;

	(void)state;
	put(&s, "gpus=4;used1=10g");
	s.exp.backend = BACKEND_VLLM;
	s.exp.vllm.gpu_memory_utilization = 0.85;
	assert_int_equal(life_check_gpus(&s.life, &err), 0);
	s.exp.vllm.gpu_memory_utilization = 0.9;
	assert_int_equal(life_check_gpus(&s.life, &err), -LEM_E_REFUSED);
	assert_true(str_starts(err.what, "R26: GPU 1"));
	take(&s);
}

static void test_foreigners(void **state)
{
	struct lem_error err = LEM_ERROR_INIT;
	struct stage s;

	(void)state;
	put(&s, "gpus=4;procs=2:1:1g+0:1:1g;graphics=1:1");
	assert_int_equal(life_check_gpus(&s.life, &err), 0);
	assert_int_equal(s.record.n_notes, 2); /* GPU 0 is no matter */
	assert_non_null(strstr(s.record.notes[0], "draws on GPU 1"));
	assert_non_null(strstr(s.record.notes[1], "R27: pid 1"));
	assert_non_null(strstr(s.record.notes[1], "is on GPU 2"));
	s.exp.strict_gpus = true;
	assert_int_equal(life_check_gpus(&s.life, &err), -LEM_E_REFUSED);
	assert_true(str_starts(err.what, "R27: pid 1"));
	take(&s);
}

static void test_compute_mode(void **state)
{
	struct lem_error err = LEM_ERROR_INIT;
	struct stage s;

	(void)state;
	put(&s, "gpus=4;computemode=3");
	assert_int_equal(life_check_gpus(&s.life, &err), 0);
	take(&s);
	put(&s, "gpus=4;computemode=3;procs=2:1:1g;graphics=1:1"); /* it takes one, and has it */
	assert_int_equal(life_check_gpus(&s.life, &err), -LEM_E_REFUSED);
	assert_true(str_starts(err.what, "R28: GPU 2 takes one process only"));
	assert_non_null(strstr(err.what, "pid 1"));
	s.life.planning = true; /* it may have gone by then */
	assert_int_equal(life_check_gpus(&s.life, &err), 0);
	take(&s);
	put(&s, "gpus=4;computemode=2");
	assert_int_equal(life_check_gpus(&s.life, &err), -LEM_E_REFUSED);
	assert_true(str_starts(err.what, "R28: GPU 1"));
	assert_non_null(strstr(err.fix, s.record.binding.gpus[0].uuid));
	take(&s);
}

static void test_what_is_not_told_is_not_judged(void **state)
{
	struct stage s;

	(void)state;
	put(&s, "gpus=4;unsupported=memory,processes");
	s.record.shape.size_bytes = UINT64_C(1) << 50;
	s.exp.strict_gpus = true;
	assert_int_equal(life_check_gpus(&s.life, NULL), 0);
	take(&s);
	put(&s, "gpus=4");
	s.record.binding.n = 0; /* on the CPU no driver is asked */
	use_fake("init=9");
	assert_int_equal(life_check_gpus(&s.life, NULL), 0);
	take(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_to_say),
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_memory_of_vllm_is_a_share),
		cmocka_unit_test(test_foreigners),
		cmocka_unit_test(test_compute_mode),
		cmocka_unit_test(test_what_is_not_told_is_not_judged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
