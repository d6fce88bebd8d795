/* What only llama-server has, or only the embedded llama.cpp; options of the server by its own
 * names. */
#include "config/impl.h"

static struct finding *say(struct config *c, enum severity s, const char *code, const char *field,
			   const char *what)
{
	return finding_add(c, s, code, field, config_where(c, field), "%s", what);
}

static void without_server(struct config *c)
{
	static const char *const of_server[] = {"llamacpp.server_program", "llamacpp.cache_prompt",
						"llamacpp.extra_args"};

	for (size_t i = 0; i < ARRAY_LEN(of_server); i++)
		if (config_written(c, of_server[i]))
			finding_hint(c,
				     say(c, SEVERITY_ERROR, "C13", of_server[i],
					 "is only used with llamacpp.server: true"),
				     "write server: true beside it, or remove it");
}

static void with_server(struct config *c)
{
	const struct experiment *e = &c->exp;
	struct finding *f;

	if (config_written(c, "llamacpp.worker"))
		finding_hint(c,
			     say(c, SEVERITY_ERROR, "C13", "llamacpp.worker",
				 "is the embedded worker, but llamacpp.server is true"),
			     "write server_program instead, or remove server");
	if (config_written(c, "llamacpp.batching") && e->llamacpp.batching == LLAMA_STATIC)
		finding_hint(c,
			     say(c, SEVERITY_ERROR, "C14", "llamacpp.batching",
				 "is static, but llama-server gives a free slot away at once"),
			     "remove it, or server: true");
	if (e->min_output_tokens > 0 && e->min_output_tokens < e->max_output_tokens) {
		f = finding_add(c, SEVERITY_ERROR, "C14", "min_output_tokens",
				config_where(c, "min_output_tokens"),
				"is %" PRId64 ", but llama-server knows no minimum below "
				"max_output_tokens (%" PRId64 ")",
				e->min_output_tokens, e->max_output_tokens);
		finding_hint(c, f, "write 0, or %" PRId64 " to force exactly that many",
			     e->max_output_tokens);
	}
	if (e->llamacpp.cache_prompt)
		finding_hint(c,
			     say(c, SEVERITY_WARNING, "C23", "llamacpp.cache_prompt",
				 "makes repeated prompts partly free: warm-up and passes fill the "
				 "cache"),
			     "leave it off unless that is what you measure");
}

/* Its own names, short ones too, of what has an option here (ours), or is lem's to say. */
static const struct {
	const char *name, *ours;
} other_names[] = {
	{"c", "n_ctx"},
	{"ctx_size", "n_ctx"},
	{"np", "batch_size"},
	{"parallel", "batch_size"},
	{"b", "n_batch"},
	{"ub", "n_ubatch"},
	{"ubatch_size", "n_ubatch"},
	{"t", "threads"},
	{"tb", "threads_batch"},
	{"fa", "flash_attn"},
	{"ctk", "cache_type_k"},
	{"ctv", "cache_type_v"},
	{"lm", "mmap"},
	{"load_mode", "mmap"},
	{"ngl", "n_gpu_layers"},
	{"gpu_layers", "n_gpu_layers"},
	{"sm", "split_mode"},
	{"ts", "tensor_split"},
	{"mg", "main_gpu"},
	{"dev", NULL},
	{"device", NULL},
	{"host", NULL},
	{"port", NULL},
	{"m", NULL},
	{"model", NULL},
	{"metrics", NULL},
};

static void check_name(struct config *c, const struct node *map, const char *key)
{
	const char *field = arena_printf(&c->arena, "llamacpp.extra_args.%s", key);
	const struct node *at = node_get(map, key);
	char name[64];

	config_fold_name(key, name, sizeof(name));
	for (size_t i = 0; i < ARRAY_LEN(other_names); i++) {
		const char *ours = other_names[i].ours;
		struct finding *f;

		if (!str_eq(other_names[i].name, name))
			continue;
		if (str_starts(name, "dev"))
			f = finding_add(c, SEVERITY_ERROR, "R32", field, at ? at : map,
					"would choose GPUs behind the back of gpus");
		else
			f = finding_add(c, SEVERITY_ERROR, "C14", field, at ? at : map, "%s",
					ours ? "is an option of its own" : "is lem's to say");
		if (ours)
			finding_hint(c, f, "write llamacpp.%s", ours);
		else
			finding_hint(c, f, "remove it");
	}
}

void check_llama_server(struct config *c)
{
	const struct kv_list *extra = &c->exp.llamacpp.extra_args;

	if (!c->exp.llamacpp.server) {
		without_server(c);
		return;
	}
	with_server(c);
	for (size_t i = 0; i < extra->n; i++)
		check_name(c, config_where(c, "llamacpp.extra_args"), extra->at[i].key);
	check_extra(c, &section_llamacpp, "llamacpp.extra_args", extra);
}
