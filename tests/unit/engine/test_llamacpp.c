#include <jansson.h>
#include <setjmp.h>

#include <cmocka.h>

#include "engine/engine.h"

static struct experiment base_experiment(void)
{
	return (struct experiment){
		.backend = BACKEND_LLAMACPP,
		.model_name = "m.gguf",
		.max_input_tokens = 100,
		.max_output_tokens = 28,
		.llamacpp = {.batch_size = 4,
			     .n_batch = 2048,
			     .n_ubatch = 512,
			     .split_mode = "layer",
			     .flash_attn = "auto",
			     .cache_type_k = "f16",
			     .cache_type_v = "f16",
			     .mmap = true,
			     .load_timeout_sec = 1.5},
	};
}

struct launched {
	struct arena arena;
	struct launch_spec spec;
	json_t *load;
};

static void launch(const struct experiment *e, const struct gpu_binding *b, struct launched *ret)
{
	const struct model_shape shape = {0};
	const struct engine_request q = {.exp = e,
					 .shape = &shape,
					 .binding = b,
					 .model_path = "/m/m.gguf",
					 .program_dir = "/opt/lem",
					 .threads_default = 6};
	struct lem_error err;

	*ret = (struct launched){0};
	assert_int_equal(engine_find(BACKEND_LLAMACPP)->launch(&q, &ret->arena, &ret->spec, &err),
			 0);
	ret->load = json_loads(ret->spec.load_json, 0, NULL);
	assert_non_null(ret->load);
}

static void release(struct launched *l)
{
	json_decref(l->load);
	arena_release(&l->arena);
}

static int64_t number(const struct launched *l, const char *key)
{
	const json_t *v = json_object_get(l->load, key);

	assert_true(json_is_integer(v));
	return json_integer_value(v);
}

static bool has_env(const struct launched *l, const char *entry)
{
	for (const char *const *e = l->spec.env; *e; e++)
		if (str_eq(*e, entry))
			return true;
	return false;
}

static void test_cpu(void **state)
{
	struct experiment e = base_experiment();
	const struct gpu_binding none = {0};
	struct launched l;

	(void)state;
	launch(&e, &none, &l);
	assert_string_equal(l.spec.argv[0], "/opt/lem/lem-worker-llama");
	assert_null(l.spec.argv[1]);
	assert_int_equal(l.spec.channel, CHANNEL_WORKER);
	assert_int_equal(l.spec.load_timeout_ns, 1500 * NS_PER_MS);
	assert_int_equal(number(&l, "n_gpu_layers"), 0);
	assert_int_equal(number(&l, "threads"), 6);
	assert_int_equal(number(&l, "batch_size"), 4);
	assert_int_equal(number(&l, "max_total_tokens"), 128);
	assert_null(strchr(l.spec.load_json, '\n'));
	assert_null(l.spec.env[0]); /* what routes the GPUs is not the engine's affair */
	release(&l);
}

static void test_gpus_get_all_layers(void **state)
{
	struct experiment e = base_experiment();
	struct gpu_ref refs[] = {{.index = 5}, {.index = 2}};
	const struct gpu_binding two = {.gpus = refs, .n = 2};
	struct launched l;

	(void)state;
	launch(&e, &two, &l);
	assert_null(l.spec.env[0]);
	assert_true(number(&l, "n_gpu_layers") > 1000);
	assert_int_equal(l.spec.gpus_needed, 2);
	release(&l);
	e.llamacpp.n_gpu_layers = (struct maybe_i64){true, 3};
	launch(&e, &two, &l);
	assert_int_equal(number(&l, "n_gpu_layers"), 3);
	release(&l);
}

static void test_user_environment(void **state)
{
	struct experiment e = base_experiment();
	struct kv kv[] = {{"A", "\"with \\\"quotes\\\" and = \""}, {"N", "4"}, {"B", "true"}};
	const struct gpu_binding none = {0};
	struct launched l;

	(void)state;
	e.env = (struct kv_list){kv, 3};
	launch(&e, &none, &l);
	assert_true(has_env(&l, "A=with \"quotes\" and = "));
	assert_true(has_env(&l, "N=4"));
	assert_true(has_env(&l, "B=true"));
	release(&l);
}

static void test_streaming_is_one_at_a_time(void **state)
{
	struct experiment e = base_experiment();
	const struct gpu_binding none = {0};
	struct launched l;

	(void)state;
	e.streaming = true;
	launch(&e, &none, &l);
	assert_int_equal(number(&l, "batch_size"), 1);
	assert_string_equal(engine_find(BACKEND_LLAMACPP)->mode(&e), "offline/streaming");
	release(&l);
}

static void test_only_gguf(void **state)
{
	struct experiment e = base_experiment();
	const struct model_shape shape = {0};
	const struct gpu_binding none = {0};
	const struct engine_request q = {.exp = &e,
					 .shape = &shape,
					 .binding = &none,
					 .model_path = "/m/model.safetensors",
					 .program_dir = "/opt/lem",
					 .threads_default = 1};
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct launch_spec spec;
	struct lem_error err;

	(void)state;
	assert_int_equal(engine_find(BACKEND_LLAMACPP)->launch(&q, &a, &spec, &err),
			 -LEM_E_REFUSED);
	assert_non_null(strstr(err.what, "GGUF"));
	assert_string_not_equal(err.fix, "");
}

static void test_registry(void **state)
{
	(void)state;
	for (int b = 0; b < BACKEND_COUNT; b++) {
		const struct engine_ops *ops = engine_find((enum backend)b);

		if (!ops)
			continue;
		assert_int_equal(ops->backend, b);
		assert_string_equal(ops->name, backend_name((enum backend)b));
		assert_non_null(strstr(engine_names(), ops->name));
	}
}

/* One backend, two engines: the config decides, and only of this backend. */
static void test_server_is_another_engine(void **state)
{
	struct experiment e = base_experiment();

	(void)state;
	assert_ptr_equal(engine_for(&e), engine_find(BACKEND_LLAMACPP));
	assert_null(engine_for(&e)->http);
	e.llamacpp.server = true;
	assert_ptr_equal(engine_for(&e), &engine_llama_server);
	assert_non_null(engine_for(&e)->http);
	assert_int_equal(engine_for(&e)->backend, BACKEND_LLAMACPP);
	assert_int_equal(engine_for(&e)->model, engine_find(BACKEND_LLAMACPP)->model);
	assert_string_equal(engine_for(&e)->mode(&e), "offline/continuous");
	e.traffic.present = true;
	assert_string_equal(engine_for(&e)->mode(&e), "server/open");
	e.backend = BACKEND_VLLM;
	assert_ptr_equal(engine_for(&e), engine_find(BACKEND_VLLM));
	e.backend = BACKEND_COUNT;
	assert_null(engine_for(&e));
}

static int launch_server(const char *model_name, const struct model_shape *shape,
			 struct lem_error *err)
{
	struct experiment e = base_experiment();
	const struct gpu_binding none = {0};
	const struct engine_request q = {.exp = &e,
					 .shape = shape,
					 .binding = &none,
					 .model_path = "/m/m.gguf",
					 .threads_default = 6};
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct launch_spec spec;

	e.llamacpp.server = true;
	e.model_name = model_name;
	return engine_for(&e)->launch(&q, &a, &spec, err);
}

static void test_server_needs_a_vocabulary(void **state)
{
	const struct model_shape without = {.n_layer = 6},
				 with = {.n_layer = 6, .has_tokenizer = true};
	struct lem_error err;

	(void)state;
	assert_true(engine_llama_server.needs_vocabulary);
	assert_false(engine_llamacpp.needs_vocabulary);
	assert_int_equal(launch_server("m.gguf", &with, &err), 0);
	assert_int_equal(launch_server("synthetic:llama-15m", &without, &err), 0);
	assert_int_equal(launch_server("m.gguf", &without, &err), -LEM_E_REFUSED);
	assert_non_null(strstr(err.what, "'m.gguf' has no vocabulary"));
	assert_non_null(strstr(err.fix, "synthetic:"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cpu),
		cmocka_unit_test(test_gpus_get_all_layers),
		cmocka_unit_test(test_user_environment),
		cmocka_unit_test(test_streaming_is_one_at_a_time),
		cmocka_unit_test(test_only_gguf),
		cmocka_unit_test(test_registry),
		cmocka_unit_test(test_server_is_another_engine),
		cmocka_unit_test(test_server_needs_a_vocabulary),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
