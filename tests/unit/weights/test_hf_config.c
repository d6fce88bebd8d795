/* config.json of the families that lem meets, by the published files, and wrong ones. */
#include "sys/fs.h"
#include "tmp.h"
#include "weights/weights.h"

#include <setjmp.h>

#include <cmocka.h>

static struct lem_error err;

static int read_text(const char *json, struct model_shape *ret)
{
	_cleanup_free_ char *path = tmp_file("config.json", json, strlen(json));

	return hf_config_read_shape(path, ret, &err);
}

static struct model_shape accepted(const char *json)
{
	struct model_shape s;

	if (read_text(json, &s) < 0)
		fail_msg("refused: %s", err.what);
	return s;
}

static void refused(const char *json, const char *why)
{
	struct model_shape s = {.n_layer = 77};

	assert_int_equal(read_text(json, &s), -LEM_E_PARSE);
	assert_int_equal(s.n_layer, 77);
	if (!strstr(err.what, why))
		fail_msg("'%s' does not say '%s'", err.what, why);
	assert_true(str_ends(err.where, "/config.json"));
}

static void test_llama(void **state)
{
	struct model_shape s = accepted(
		"{\"model_type\":\"llama\",\"hidden_size\":4096,\"intermediate_size\":14336,"
		"\"num_hidden_layers\":32,\"num_attention_heads\":32,\"num_key_value_heads\":8,"
		"\"vocab_size\":128256,\"max_position_embeddings\":131072,"
		"\"tie_word_embeddings\":false}");

	(void)state;
	assert_string_equal(s.architecture, "llama");
	assert_int_equal(s.n_layer, 32);
	assert_int_equal(s.n_embd, 4096);
	assert_int_equal(s.n_ff, 14336);
	assert_int_equal(s.n_head, 32);
	assert_int_equal(s.n_head_kv, 8);
	assert_int_equal(s.head_dim, 128);
	assert_int_equal(s.n_vocab, 128256);
	assert_int_equal(s.n_ctx_train, 131072);
	assert_int_equal(s.n_params, INT64_C(8030261248)); /* the 8.03 B of its model card */
	assert_true(s.gated_mlp && !s.tied_embeddings);
	assert_int_equal(s.n_swa, 0);
}

static void test_qwen2_window_is_switched_off(void **state)
{
	struct model_shape s = accepted(
		"{\"model_type\":\"qwen2\",\"hidden_size\":896,\"intermediate_size\":4864,"
		"\"num_hidden_layers\":24,\"num_attention_heads\":14,\"num_key_value_heads\":2,"
		"\"vocab_size\":151936,\"sliding_window\":32768,\"use_sliding_window\":false,"
		"\"tie_word_embeddings\":true}");

	(void)state;
	assert_int_equal(s.n_swa, 0);
	assert_int_equal(s.head_dim, 64);
	assert_int_equal(s.n_params, 494032768); /* of its safetensors file */
	assert_true(s.tied_embeddings);
}

/* gemma-3-4b: inside text_config, with the heads left to the class's defaults. */
static void test_gemma3_in_text_config(void **state)
{
	struct model_shape s = accepted(
		"{\"model_type\":\"gemma3\",\"vision_config\":{\"hidden_size\":1152,"
		"\"num_hidden_layers\":27,\"num_attention_heads\":16},"
		"\"text_config\":{\"model_type\":\"gemma3_text\",\"hidden_size\":2560,"
		"\"intermediate_size\":10240,\"num_hidden_layers\":34,\"sliding_window\":1024}}");

	(void)state;
	assert_string_equal(s.architecture, "gemma3");
	assert_int_equal(s.n_embd, 2560);
	assert_int_equal(s.n_layer, 34);
	assert_int_equal(s.n_head, 8);
	assert_int_equal(s.n_head_kv, 4);
	assert_int_equal(s.head_dim, 256);
	assert_int_equal(s.n_vocab, 262208);
	assert_int_equal(s.n_swa, 1024);
	assert_int_equal(s.n_layer_full, 5);
	assert_true(s.tied_embeddings);
}

static void test_layer_types(void **state)
{
	struct model_shape s = accepted(
		"{\"model_type\":\"gpt_oss\",\"hidden_size\":2880,\"intermediate_size\":2880,"
		"\"num_hidden_layers\":4,\"num_attention_heads\":64,\"num_key_value_heads\":8,"
		"\"head_dim\":64,\"vocab_size\":201088,\"sliding_window\":128,"
		"\"num_local_experts\":32,\"num_experts_per_tok\":4,\"layer_types\":"
		"[\"sliding_attention\",\"full_attention\",\"sliding_attention\",\"full_"
		"attention\"]}");

	(void)state;
	assert_int_equal(s.n_swa, 128);
	assert_int_equal(s.n_layer_full, 2);
	assert_int_equal(s.head_dim, 64);
	assert_int_equal(s.n_expert, 32);
	assert_int_equal(s.n_expert_used, 4);
	assert_int_equal(s.n_ff_expert, 2880);
}

static void test_mistral(void **state)
{
	struct model_shape s =
		accepted("{\"model_type\":\"mistral\",\"hidden_size\":4096,\"intermediate_size\":"
			 "14336,\"num_hidden_layers\":32,\"num_attention_heads\":32,"
			 "\"num_key_value_heads\":8,\"vocab_size\":32000,\"sliding_window\":4096}");

	(void)state;
	assert_int_equal(s.n_swa, 4096);
	assert_int_equal(s.n_layer_full, 0);
	s = accepted("{\"model_type\":\"mistral\",\"hidden_size\":4096,\"num_hidden_layers\":32,"
		     "\"num_attention_heads\":32,\"head_dim\":128,\"sliding_window\":null}");
	assert_int_equal(s.n_swa, 0);
}

static void test_gpt2(void **state)
{
	struct model_shape s = accepted("{\"model_type\":\"gpt2\",\"n_embd\":768,\"n_layer\":12,"
					"\"n_head\":12,\"n_inner\":null,\"n_positions\":1024,"
					"\"vocab_size\":50257}");

	(void)state;
	assert_int_equal(s.n_ff, 3072);
	assert_int_equal(s.n_head_kv, 12);
	assert_int_equal(s.n_ctx_train, 1024);
	assert_true(s.tied_embeddings && !s.gated_mlp);
}

static void test_mixtures(void **state)
{
	struct model_shape s = accepted(
		"{\"model_type\":\"mixtral\",\"hidden_size\":4096,\"intermediate_size\":14336,"
		"\"num_hidden_layers\":32,\"num_attention_heads\":32,\"num_key_value_heads\":8,"
		"\"vocab_size\":32000,\"num_local_experts\":8,\"num_experts_per_tok\":2}");

	(void)state;
	assert_int_equal(s.n_ff_expert, 14336);
	assert_int_equal(s.n_params, INT64_C(46702792704)); /* 46.7 B, its model card */
	s = accepted(
		"{\"model_type\":\"qwen2_moe\",\"hidden_size\":2048,\"intermediate_size\":5632,"
		"\"num_hidden_layers\":24,\"num_attention_heads\":16,\"num_experts\":60,"
		"\"num_experts_per_tok\":4,\"moe_intermediate_size\":1408,"
		"\"shared_expert_intermediate_size\":5632,\"vocab_size\":151936}");
	assert_int_equal(s.n_expert, 60);
	assert_int_equal(s.n_ff_expert, 1408);
	assert_int_equal(s.n_ff_shared, 5632);
	s = accepted("{\"model_type\":\"deepseek_v2\",\"hidden_size\":2048,\"intermediate_size\":"
		     "10944,\"num_hidden_layers\":27,\"num_attention_heads\":16,"
		     "\"n_routed_experts\":64,\"n_shared_experts\":2,\"num_experts_per_tok\":6,"
		     "\"moe_intermediate_size\":1408,\"first_k_dense_replace\":1}");
	assert_int_equal(s.n_ff_shared, 2816);
	assert_int_equal(s.n_layer_dense, 1);
}

static void test_falcon(void **state)
{
	struct model_shape s =
		accepted("{\"model_type\":\"falcon\",\"hidden_size\":4544,\"num_hidden_layers\":32,"
			 "\"num_attention_heads\":71,\"multi_query\":true,\"vocab_size\":65024}");

	(void)state;
	assert_int_equal(s.n_head_kv, 1);
	assert_int_equal(s.n_ff, 4 * 4544);
	assert_false(s.gated_mlp);
}

static void test_quantization(void **state)
{
#define MODEL "\"hidden_size\":64,\"num_hidden_layers\":2,\"num_attention_heads\":4"
	struct model_shape s =
		accepted("{" MODEL ",\"quantization_config\":{\"quant_method\":\"fp8\","
			 "\"weight_block_size\":[128,128]}}");

	(void)state;
	assert_string_equal(s.quant, "fp8");
	assert_int_equal(s.quant_block, 128);
	s = accepted("{" MODEL
		     ",\"quantization_config\":{\"quant_method\":\"awq\",\"group_size\":64}}");
	assert_int_equal(s.quant_block, 64);
	s = accepted("{" MODEL ",\"quantization_config\":{\"group_size\":-1,\"bits\":4}}");
	assert_int_equal(s.quant_block, 0);
	s = accepted("{" MODEL ",\"quantization_config\":{\"weight_block_size\":[-5,\"x\"]}}");
	assert_int_equal(s.quant_block, 0);
	s = accepted("{" MODEL ",\"quantization_config\":7}");
	assert_int_equal(s.quant_block, 0);
}

static void test_wrong_types_are_unknown(void **state)
{
	struct model_shape s = accepted(
		"{" MODEL ",\"vocab_size\":\"many\",\"head_dim\":-3,\"num_key_value_heads\":2.5,"
		"\"model_type\":[1],\"tie_word_embeddings\":\"yes\",\"layer_types\":7,"
		"\"sliding_window\":true,\"num_experts\":{}}");

	(void)state;
	assert_int_equal(s.n_vocab, 0);
	assert_int_equal(s.head_dim, 16);
	assert_int_equal(s.n_head_kv, 4);
	assert_int_equal(s.n_params, 0);
	assert_string_equal(s.architecture, "");
	s = accepted("{" MODEL ",\"model_type\":\"\\u001b[2Jx\"}");
	assert_string_equal(s.architecture, "unknown");
}

static void test_wrong_files(void **state)
{
	_cleanup_str_ struct str deep = STR_INIT;
	_cleanup_free_ char *missing = tmp_path("nothing.json");
	struct model_shape s;

	(void)state;
	refused("", "not a JSON object");
	refused("{\"hidden_size\":", "not a JSON object");
	refused("[1]", "another value");
	refused("null", "not a JSON object");
	refused("{}", "names no layers");
	refused("{\"text_config\":{}," MODEL "}", "names no layers");
	refused("{" MODEL ",\"vocab_size\":9223372036854775807}", "impossible size");
	refused("{" MODEL ",\"num_experts\":4,\"n_shared_experts\":9223372036854775807,"
		"\"moe_intermediate_size\":9223372036854775807}",
		"impossible size");
	refused("{" MODEL ",\"vocab_size\":99999999999999999999}", "not a JSON object");
	for (int i = 0; i < 100000; i++)
		str_addc(&deep, '[');
	refused(str_c(&deep), "not a JSON object");
	assert_int_equal(hf_config_read_shape(missing, &s, &err), -LEM_E_IO);
	assert_int_equal(hf_config_read_shape("/dev/zero", &s, &err), -LEM_E_PARSE);
	assert_int_equal(hf_config_read_shape(missing, &s, NULL), -LEM_E_IO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_llama),
		cmocka_unit_test(test_qwen2_window_is_switched_off),
		cmocka_unit_test(test_gemma3_in_text_config),
		cmocka_unit_test(test_layer_types),
		cmocka_unit_test(test_mistral),
		cmocka_unit_test(test_gpt2),
		cmocka_unit_test(test_mixtures),
		cmocka_unit_test(test_falcon),
		cmocka_unit_test(test_quantization),
		cmocka_unit_test(test_wrong_types_are_unknown),
		cmocka_unit_test(test_wrong_files),
	};

	return cmocka_run_group_tests(tests, tmp_start, tmp_stop);
}
