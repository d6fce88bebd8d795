/* A server that already runs and speaks OpenAI's interface: nothing is started. */
#include "engine/common.h"

static int openai_launch(const struct engine_request *req, struct arena *a, struct launch_spec *ret,
			 struct lem_error *err)
{
	static const char *const none[] = {NULL};
	const struct openai_config *c = &req->exp->openai;

	(void)a, (void)err;
	*ret = (struct launch_spec){
		.engine = "openai",
		.channel = CHANNEL_HTTP,
		.argv = none,
		.env = none,
		.binds = none,
		.secrets = none,
		.load_timeout_ns = (int64_t)(c->load_timeout_sec * 1e9),
		.silence_ns = (int64_t)(c->request_timeout_sec * 1e9),
		.gpus_needed = req->binding->n,
	};
	return 0;
}

static const struct engine_http http = {
	.version = "/version",
	.metrics = "/metrics",
	.tokenize = TOKENIZE_ANY,
};

const struct engine_ops engine_openai = {
	.backend = BACKEND_OPENAI,
	.name = "openai",
	.model = MODEL_SERVED,
	.launch = openai_launch,
	.mode = engine_http_mode,
	.http = &http,
};
