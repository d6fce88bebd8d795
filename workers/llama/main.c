#include <signal.h>
#include <sys/prctl.h>

#include "base/clock.h"
#include "worker.h"

enum { LINE_MAX_BYTES = 16 << 20 };

volatile bool stop_asked;

static void on_stop(int sig)
{
	(void)sig;
	stop_asked = true;
}

static bool abort_asked(void *arg)
{
	(void)arg;
	return stop_asked;
}

static void to_stderr(enum ggml_log_level level, const char *text, void *arg)
{
	(void)arg;
	if (level != GGML_LOG_LEVEL_DEBUG)
		fputs(text, stderr);
}

static void on_load(const json_t *request, struct engine *e)
{
	_cleanup_str_ struct str out = STR_INIT;
	struct trouble t = {0};
	int64_t t_start = clock_now_ns();

	if (e->model) {
		trouble_set(&t, "bad_request", "a model is loaded already");
		proto_error(0, &t);
		return;
	}
	if (engine_load(request, e, &t) < 0) {
		proto_error(0, &t);
		return;
	}
	llama_set_abort_callback(e->ctx, abort_asked, NULL);
	engine_describe(e, t_start, &out);
	proto_emit(&out);
}

static void on_run(const json_t *request, struct engine *e)
{
	_cleanup_str_ struct str out = STR_INIT;
	int64_t id = json_integer_value(json_object_get(request, "run")), t_start;
	struct trouble t = {0};
	struct run r = {0};

	if (!e->model) {
		trouble_set(&t, "bad_request", "no model is loaded");
		proto_error(id, &t);
		return;
	}
	if (run_parse(request, e, &r, &t) < 0) {
		proto_error(id, &t);
		return;
	}
	t_start = clock_now_ns();
	if (run_generate(&r, e, &t) < 0) {
		proto_error(id, &t);
	} else {
		run_describe(&r, e, t_start, clock_now_ns(), &out);
		proto_emit(&out);
	}
	run_release(&r);
}

/* false: stop. */
static bool serve(const char *line, size_t n, struct engine *e)
{
	struct trouble t = {0};
	json_error_t je;
	json_t *j = json_loadb(line, n, 0, &je);
	const char *op = json_string_value(json_object_get(j, "op"));
	bool go_on = true;

	if (!op) {
		trouble_set(&t, "bad_request", "not a JSON object with an op: %s",
			    j ? "op is missing" : je.text);
		proto_error(0, &t);
	} else if (str_eq(op, "load")) {
		on_load(j, e);
	} else if (str_eq(op, "run")) {
		on_run(j, e);
	} else if (str_eq(op, "stop")) {
		go_on = false;
	} else {
		trouble_set(&t, "bad_request", "op '%.40s' is not known", op);
		proto_error(0, &t);
	}
	json_decref(j);
	return go_on;
}

static void serve_all(struct engine *e)
{
	_cleanup_free_ char *line = NULL;
	size_t cap = 0;
	ssize_t n;

	while (!stop_asked && (n = getline(&line, &cap, stdin)) > 0) {
		if (n > LINE_MAX_BYTES) {
			struct trouble t = {0};

			trouble_set(&t, "bad_request",
				    "a request of %zd bytes is longer than 16 MiB", n);
			proto_error(0, &t);
			continue;
		}
		if (line[strspn(line, " \r\n")] && !serve(line, (size_t)n, e))
			break;
	}
}

int main(void)
{
	struct sigaction sa = {.sa_handler = on_stop};
	struct engine e = {0};

	sigaction(SIGTERM, &sa, NULL); /* no SA_RESTART: a read of stdin ends */
	sigaction(SIGINT, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	llama_log_set(to_stderr, NULL);
	llama_backend_init();
	serve_all(&e);
	engine_unload(&e);
	llama_backend_free();
	proto_stopped();
	return 0;
}
