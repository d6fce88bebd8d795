/* What the chosen engine does not honour, and combinations that only it refuses. */
#include "config/impl.h"

#include <ctype.h>

static struct finding *say(struct config *c, enum severity s, const char *code, const char *field,
			   const char *what)
{
	return finding_add(c, s, code, field, config_where(c, field), "%s", what);
}

static const char *engines_text(struct config *c, unsigned engines)
{
	_cleanup_str_ struct str s = STR_INIT;

	for (enum backend b = 0; b < BACKEND_COUNT; b++)
		if (engines & (1u << b))
			str_addf(&s, "%s%s", s.len ? ", " : "", backend_name(b));
	return arena_strdup(&c->arena, str_c(&s));
}

static void refuse_section(struct config *c, const struct value *v)
{
	const char *name = v->option->name, *backend = backend_name(c->exp.backend);
	bool written = config_written(c, "backend");
	struct finding *f;

	f = finding_add(c, SEVERITY_ERROR, "C12", name, v->node,
			"is for backend %s%s%s, but backend is %s%s", name,
			v->node->written ? ", written as " : "",
			v->node->written ? v->node->written : "", backend,
			written ? "" : ", the default");
	finding_hint(c, f, "set backend: %s, or remove %s", name,
		     v->node->written ? v->node->written : "the section");
}

static void refuse_option(struct config *c, const struct value *v)
{
	char *path = option_path(&c->arena, v->section, v->option->name);
	struct finding *f;

	f = finding_add(c, SEVERITY_ERROR, "C13", path, v->node, "is not honoured by %s",
			backend_name(c->exp.backend));
	if (str_eq(path, "fp_precision") && c->exp.backend == BACKEND_LLAMACPP)
		finding_hint(c, f,
			     "remove it: the model file decides; synthetic:SHAPE:f16, :q8_0 or "
			     ":q4_0 makes one");
	else
		finding_hint(c, f, "remove it; honoured by %s",
			     engines_text(c, v->option->engines));
}

/* A preset lies below the file: what it says about other engines was not said by the user. */
void check_sections(struct config *c)
{
	if (config_invalid(c, "backend"))
		return;
	for (size_t i = 0; i < c->n_values; i++) {
		const struct value *v = &c->values[i];

		if (!v->node || v->source == SOURCE_PRESET ||
		    option_honoured(v->option, c->exp.backend))
			continue;
		if (v->option->type == OPT_MAP && v->option->sub->is_engine)
			refuse_section(c, v);
		else
			refuse_option(c, v);
	}
}

void config_fold_name(const char *key, char *buf, size_t size)
{
	size_t n = 0;

	for (key += strspn(key, "-"); *key && n + 1 < size; key++)
		buf[n++] = *key == '-' ? '_' : (char)tolower((unsigned char)*key);
	buf[n] = '\0';
}

void check_extra(struct config *c, const struct section *s, const char *path,
		 const struct kv_list *extra)
{
	static const char *const gpu_names[] = {"gpu_ids", "device_ids", "base_gpu_id",
						"gpu_id_step", "device_map"};

	for (size_t i = 0; i < extra->n; i++) {
		const struct node *map = config_where(c, path),
				  *at = node_get(map, extra->at[i].key);
		char *field = arena_printf(&c->arena, "%s.%s", path, extra->at[i].key), name[64];
		const struct option *o;
		struct finding *f;

		config_fold_name(extra->at[i].key, name, sizeof(name));
		for (size_t k = 0; k < ARRAY_LEN(gpu_names); k++)
			if (str_eq(name, gpu_names[k]))
				finding_hint(
					c,
					finding_add(c, SEVERITY_ERROR, "R32", field, at ? at : map,
						    "would choose GPUs behind the back of gpus"),
					"remove it; gpus decides");
		o = section_find(s, name);
		if (!o || !option_is_key(o))
			continue;
		f = finding_add(c, SEVERITY_ERROR, "C14", field, at ? at : map,
				"is an option of its own");
		finding_hint(c, f, "write %s.%s", s->path, o->name);
	}
}

static void check_pytorch(struct config *c)
{
	const struct pytorch_config *p = &c->exp.pytorch;

	if (p->load_in_4bit && p->load_in_8bit)
		finding_hint(c,
			     say(c, SEVERITY_ERROR, "C14", "pytorch.load_in_8bit",
				 "and load_in_4bit are both true"),
			     "keep one of them");
	if (!p->load_in_4bit &&
	    (config_written(c, "pytorch.bnb_4bit_compute_dtype") ||
	     config_written(c, "pytorch.bnb_4bit_quant_type") || p->bnb_4bit_use_double_quant))
		finding_hint(c,
			     say(c, SEVERITY_WARNING, "C13", "pytorch.load_in_4bit",
				 "is false, so the bnb_4bit options have no effect"),
			     "write load_in_4bit: true, or remove them");
	if (p->torch_compile_backend && !p->torch_compile)
		finding_hint(c,
			     say(c, SEVERITY_ERROR, "C13", "pytorch.torch_compile_backend",
				 "needs torch_compile"),
			     "write torch_compile: true");
	if (strstr(p->batching_strategy, "dynamic") && !p->max_tokens_per_batch.set)
		finding_add(c, SEVERITY_INFO, "C23", "pytorch.max_tokens_per_batch",
			    config_where(c, "pytorch.batching_strategy"),
			    "is not written; dynamic batches hold max_input_tokens (%" PRId64
			    ") tokens",
			    c->exp.max_input_tokens);
	if (p->max_tokens_per_batch.set && !strstr(p->batching_strategy, "dynamic"))
		finding_hint(c,
			     say(c, SEVERITY_ERROR, "C13", "pytorch.max_tokens_per_batch",
				 "is only used with a dynamic batching_strategy"),
			     "write batching_strategy: dynamic");
	if (p->beam_search.enabled && p->assisted_generation.present)
		finding_hint(c,
			     say(c, SEVERITY_ERROR, "C14", "pytorch.beam_search",
				 "and assisted_generation exclude each other"),
			     "keep one of them");
	if (!p->beam_search.enabled && p->beam_search.num_beams > 1)
		finding_hint(c,
			     say(c, SEVERITY_ERROR, "C13", "pytorch.beam_search.num_beams",
				 "has no effect while beam_search.enabled is false"),
			     "write enabled: true");
	check_extra(c, &section_pytorch, "pytorch.extra_load", &p->extra_load);
	check_extra(c, &section_pytorch, "pytorch.extra_generate", &p->extra_generate);
}

static void check_vllm_speculative(struct config *c)
{
	const struct vllm_config *v = &c->exp.vllm;
	const struct vllm_speculative_config *s = &v->speculative;
	struct finding *f;

	if (!s->present)
		return;
	if (!s->model && !str_eq(s->method, "ngram") &&
	    !config_invalid(c, "vllm.speculative.method"))
		finding_hint(c,
			     say(c, SEVERITY_ERROR, "C05", "vllm.speculative.model",
				 "is missing: only ngram works without a draft model"),
			     "name the draft model");
	if (s->prompt_lookup_max.set && s->prompt_lookup_max.v < s->prompt_lookup_min)
		finding_hint(c,
			     say(c, SEVERITY_ERROR, "C14", "vllm.speculative.prompt_lookup_max",
				 "is less than prompt_lookup_min"),
			     "swap the two");
	if (v->tensor_parallel_size.set && s->draft_tp_size > v->tensor_parallel_size.v) {
		f = finding_add(c, SEVERITY_ERROR, "C14", "vllm.speculative.draft_tp_size",
				config_where(c, "vllm.speculative.draft_tp_size"),
				"is %" PRId64 ", more than tensor_parallel_size %" PRId64,
				s->draft_tp_size, v->tensor_parallel_size.v);
		finding_hint(c, f, "set it to 1%s",
			     v->tensor_parallel_size.v > 1 ? " or to tensor_parallel_size" : "");
	}
	if (s->model && v->enforce_eager)
		say(c, SEVERITY_INFO, "C23", "vllm.speculative",
		    "with enforce_eager runs the draft model without CUDA graphs, which costs much "
		    "of its gain");
}

static void check_logit_bias(struct config *c)
{
	const struct node *map = config_where(c, "vllm.logit_bias");

	if (!c->exp.vllm.logit_bias.n)
		return;
	node_foreach(map, item)
	{
		enum scalar_kind k = item->kind == NODE_SCALAR ? scalar_kind(item) : SCALAR_TEXT;

		if (!item->key[strspn(item->key, "0123456789")] &&
		    (k == SCALAR_INT || k == SCALAR_FLOAT))
			continue;
		finding_hint(c,
			     finding_add(c, SEVERITY_ERROR, "C02", "vllm.logit_bias", item,
					 "must map token ids to numbers, has %s: %s", item->key,
					 node_show(&c->arena, item)),
			     "write lines such as 50256: -100");
	}
}

static void check_vllm(struct config *c)
{
	const struct vllm_config *v = &c->exp.vllm;
	int64_t longest = c->exp.max_input_tokens + c->exp.max_output_tokens;
	struct finding *f;

	if (v->block_size.set && v->block_size.v != 16 && v->block_size.v != 32)
		finding_hint(c,
			     finding_add(c, SEVERITY_ERROR, "C04", "vllm.block_size",
					 config_where(c, "vllm.block_size"),
					 "must be 16 or 32, is %" PRId64, v->block_size.v),
			     "leave it out for what the attention kernel takes");
	if (config_written(c, "vllm.swap_space"))
		finding_hint(c,
			     say(c, SEVERITY_ERROR, "C11", "vllm.swap_space",
				 "is no longer an option of vLLM, which computes sequences again "
				 "instead of swapping them"),
			     "remove it");
	if (str_eq(v->speculative.method, "lookahead"))
		finding_hint(c,
			     say(c, SEVERITY_ERROR, "C11", "vllm.speculative.method",
				 "lookahead is not a method of vLLM"),
			     "use ngram, eagle3 or a draft model");
	if (str_eq(v->quantization, "squeezellm"))
		finding_hint(c,
			     say(c, SEVERITY_ERROR, "C11", "vllm.quantization",
				 "squeezellm is no longer supported by vLLM"),
			     "use awq or gptq");
	if (v->gpu_memory_utilization > 0.95)
		finding_hint(c,
			     say(c, SEVERITY_WARNING, "C23", "vllm.gpu_memory_utilization",
				 "above 0.95 leaves little for CUDA graphs and other processes"),
			     "0.9 is the default");
	if (v->enable_prefix_caching)
		finding_hint(c,
			     say(c, SEVERITY_WARNING, "C23", "vllm.enable_prefix_caching",
				 "makes repeated prompts partly free: warm-up and passes fill the "
				 "cache"),
			     "leave it off unless that is what you measure");
	if (v->attention_flash_version.set && !str_eq(v->attention_backend, "FLASH_ATTN"))
		finding_hint(c,
			     say(c, SEVERITY_ERROR, "C13", "vllm.attention.flash_version",
				 "needs attention.backend: FLASH_ATTN"),
			     "write backend: FLASH_ATTN beside it");
	if (c->exp.adapter && v->tensor_parallel_size.set && v->tensor_parallel_size.v > 1 &&
	    !config_written(c, "vllm.lora"))
		say(c, SEVERITY_INFO, "C23", "vllm.lora",
		    "is not written; an adapter with tensor parallelism uses its defaults");
	if (v->max_model_len.set && v->max_model_len.v < longest) {
		f = finding_add(c, SEVERITY_WARNING, "C23", "vllm.max_model_len",
				config_where(c, "vllm.max_model_len"),
				"is %" PRId64
				", less than max_input_tokens + max_output_tokens (%" PRId64
				"): long requests would be refused",
				v->max_model_len.v, longest);
		finding_hint(c, f, "remove it, or lower max_input_tokens");
	}
	check_vllm_speculative(c);
	check_logit_bias(c);
	check_extra(c, &section_vllm, "vllm.extra_args", &v->extra_args);
}

static void check_tensorrt(struct config *c)
{
	static const char *const built_only[] = {"engine_path",       "force_rebuild",
						 "builder_opt_level", "strongly_typed",
						 "multiple_profiles", "extra_build_args"};
	const struct tensorrt_config *t = &c->exp.tensorrt;

	if (c->exp.fp_precision == PRECISION_FLOAT32)
		finding_hint(c,
			     say(c, SEVERITY_ERROR, "C14", "fp_precision",
				 "float32 is not supported by TensorRT-LLM"),
			     "write float16 or bfloat16");
	if (str_eq(t->kv_cache_type, "continuous"))
		finding_hint(c,
			     say(c, SEVERITY_ERROR, "C11", "tensorrt.kv_cache_type",
				 "continuous is no longer supported by TensorRT-LLM"),
			     "write paged");
	for (size_t i = 0; i < ARRAY_LEN(built_only); i++) {
		char *path = arena_printf(&c->arena, "tensorrt.%s", built_only[i]);

		if (config_written(c, path) && !str_eq(t->backend, "tensorrt"))
			finding_hint(c,
				     say(c, SEVERITY_ERROR, "C13", path,
					 "is only used with tensorrt.backend: tensorrt"),
				     "remove it, or write backend: tensorrt in the section");
	}
	if (config_written(c, "tensorrt.num_draft_tokens") && !t->draft_model)
		finding_hint(c,
			     say(c, SEVERITY_ERROR, "C13", "tensorrt.num_draft_tokens",
				 "needs draft_model"),
			     "name the draft model");
	check_extra(c, &section_tensorrt, "tensorrt.extra_build_args", &t->extra_build_args);
	check_extra(c, &section_tensorrt, "tensorrt.extra_runtime_args", &t->extra_runtime_args);
}

static bool quantised_cache(const char *type)
{
	return type[0] == 'q' || type[0] == 'i';
}

static void check_llamacpp_gpus(struct config *c)
{
	const struct llamacpp_config *l = &c->exp.llamacpp;
	size_t n = c->exp.gpus.n;
	struct finding *f;

	if (config_invalid(c, "gpus"))
		return;
	if (l->main_gpu > 0 && (size_t)l->main_gpu >= n) {
		f = finding_add(c, SEVERITY_ERROR, "R30", "llamacpp.main_gpu",
				config_where(c, "llamacpp.main_gpu"),
				"is %" PRId64 ", but gpus lists %zu", l->main_gpu, n);
		finding_hint(c, f,
			     n ? "it counts the listed GPUs from 0: %zu at most"
			       : "list GPUs, or remove it",
			     n ? n - 1 : 0);
	}
	if (l->tensor_split.n > n) {
		f = finding_add(c, SEVERITY_ERROR, "R30", "llamacpp.tensor_split",
				config_where(c, "llamacpp.tensor_split"),
				"has %zu shares, but gpus lists %zu", l->tensor_split.n, n);
		finding_hint(c, f, "one share for each listed GPU");
	}
	if (l->n_gpu_layers.set && l->n_gpu_layers.v > 0 && n == 0)
		finding_hint(c,
			     say(c, SEVERITY_ERROR, "R30", "llamacpp.n_gpu_layers",
				 "puts layers on GPUs, but gpus lists none"),
			     "list a GPU, such as gpus: [0]");
	if (l->n_gpu_layers.set && l->n_gpu_layers.v == 0 && n > 0)
		finding_hint(c,
			     say(c, c->exp.strict_gpus ? SEVERITY_ERROR : SEVERITY_WARNING, "R30",
				 "llamacpp.n_gpu_layers",
				 "is 0, so the listed GPUs would stay idle and still draw power"),
			     "remove it, or write gpus: []");
	if (str_eq(l->split_mode, "none") && n > 1)
		finding_hint(c,
			     say(c, c->exp.strict_gpus ? SEVERITY_ERROR : SEVERITY_WARNING, "R30",
				 "llamacpp.split_mode",
				 "none uses one GPU; the other listed ones would stay idle and "
				 "still draw power"),
			     "write layer or row, or list one GPU");
}

static void check_llamacpp(struct config *c)
{
	const struct llamacpp_config *l = &c->exp.llamacpp;
	int64_t need;
	struct finding *f;

	check_llamacpp_gpus(c);
	check_llama_server(c);
	if (l->n_ubatch > l->n_batch) {
		const char *path = config_written(c, "llamacpp.n_ubatch") ? "llamacpp.n_ubatch"
									  : "llamacpp.n_batch";

		f = finding_add(c, SEVERITY_ERROR, "C14", path, config_where(c, path),
				"makes n_ubatch (%" PRId64 ") larger than n_batch (%" PRId64 ")",
				l->n_ubatch, l->n_batch);
		finding_hint(c, f, "n_ubatch is a part of n_batch");
	}
	if (quantised_cache(l->cache_type_v) && str_eq(l->flash_attn, "off"))
		finding_hint(
			c,
			say(c, SEVERITY_ERROR, "C14", "llamacpp.cache_type_v",
			    "is quantised, which needs flash attention, but flash_attn is off"),
			"write flash_attn: auto, or cache_type_v: f16");
	need = l->batch_size * (c->exp.max_input_tokens + c->exp.max_output_tokens);
	if (l->n_ctx.set && l->n_ctx.v < need) {
		f = finding_add(c, SEVERITY_WARNING, "C23", "llamacpp.n_ctx",
				config_where(c, "llamacpp.n_ctx"),
				"is %" PRId64 ", but %" PRId64 " sequences of up to %" PRId64
				" tokens need %" PRId64,
				l->n_ctx.v, l->batch_size, need / l->batch_size, need);
		finding_hint(c, f, "remove it, or lower max_input_tokens");
	}
}

static void check_openai(struct config *c)
{
	const struct openai_config *o = &c->exp.openai;
	const char *host;

	if (!o->url) {
		if (!o->present)
			finding_hint(c, say(c, SEVERITY_ERROR, "C05", "openai.url", "is missing"),
				     "write openai: {url: \"http://localhost:8000/v1\"}");
		return;
	}
	host = strstr(o->url, "://");
	if (!str_starts(o->url, "http://") && !str_starts(o->url, "https://")) {
		finding_hint(c,
			     finding_add(c, SEVERITY_ERROR, "C03", "openai.url",
					 config_where(c, "openai.url"),
					 "must start with http:// or https://, is %s", o->url),
			     "write it like http://localhost:8000/v1");
		return;
	}
	host += 3;
	if (!*host || *host == '/' || strpbrk(o->url, " \t\r\n"))
		finding_hint(c,
			     finding_add(c, SEVERITY_ERROR, "C03", "openai.url",
					 config_where(c, "openai.url"), "is not a URL: %s", o->url),
			     "write it like http://localhost:8000/v1");
	if (memchr(host, '@', strcspn(host, "/")))
		finding_hint(c,
			     say(c, SEVERITY_ERROR, "C03", "openai.url",
				 "holds a password or key, which would land in results"),
			     "name the variable that holds it with api_key_env");
	if (c->exp.runner != RUNNER_AUTO && c->exp.runner != RUNNER_EXTERNAL)
		finding_hint(
			c,
			say(c, SEVERITY_ERROR, "C13", "runner",
			    "cannot start an engine for backend openai, whose server already runs"),
			"remove it, or write external");
	check_extra(c, &section_experiment, "openai.extra_body", &o->extra_body);
}

void check_engine(struct config *c)
{
	if (config_invalid(c, "backend"))
		return;
	switch (c->exp.backend) {
	case BACKEND_PYTORCH: check_pytorch(c); break;
	case BACKEND_VLLM: check_vllm(c); break;
	case BACKEND_TENSORRT: check_tensorrt(c); break;
	case BACKEND_SGLANG:
		check_extra(c, &section_sglang, "sglang.extra_args", &c->exp.sglang.extra_args);
		break;
	case BACKEND_LLAMACPP: check_llamacpp(c); break;
	case BACKEND_OPENAI: check_openai(c); break;
	case BACKEND_COUNT: break;
	}
}
