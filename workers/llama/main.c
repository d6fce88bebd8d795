#include "worker.h"

#include <sys/eventfd.h>
#include <sys/prctl.h>

#include "base/clock.h"

/* lem gives a worker 10 s to end; one that cannot end by itself is ended a little before. */
enum { LAST_RESORT_S = 8 };

volatile sig_atomic_t stop_asked;
static int stop_fd = -1;

static void on_stop(int sig)
{
	uint64_t one = 1;
	int saved = errno;

	(void)sig;
	if (!stop_asked)
		alarm(LAST_RESORT_S);
	stop_asked = 1;
	if (write(stop_fd, &one, sizeof(one)) < 0) {
		/* the counter is full: it is readable all the same */
	}
	errno = saved;
}

static bool abort_asked(void *arg)
{
	(void)arg;
	return stop_asked;
}

/* The handlers return false when the worker must end. */
static bool answer_trouble(int64_t run, const struct trouble *t)
{
	proto_error(run, t);
	return !t->fatal;
}

static bool on_load(const json_t *request, struct engine *e)
{
	_cleanup_str_ struct str out = STR_INIT;
	struct trouble t = {0};
	int64_t t_start = clock_now_ns();

	if (e->model) {
		trouble_set(&t, "bad_request", "a model is loaded already");
		return answer_trouble(0, &t);
	}
	if (engine_load(request, e, &t) < 0)
		return answer_trouble(0, &t);
	llama_set_abort_callback(e->ctx, abort_asked, NULL);
	engine_describe(e, t_start, &out);
	proto_emit(&out);
	return true;
}

static bool on_run(const json_t *request, struct engine *e)
{
	_cleanup_str_ struct str out = STR_INIT;
	int64_t id = json_integer_value(json_object_get(request, "run")), t_start;
	struct trouble t = {0};
	struct run r = {0};
	int rc;

	if (!e->model) {
		trouble_set(&t, "bad_request", "no model is loaded");
		return answer_trouble(id, &t);
	}
	if (run_parse(request, e, &r, &t) < 0)
		return answer_trouble(id, &t);
	t_start = clock_now_ns();
	rc = run_generate(&r, e, &t);
	if (rc >= 0) {
		run_describe(&r, e, t_start, clock_now_ns(), &out);
		proto_emit(&out);
	}
	run_release(&r);
	return rc >= 0 || answer_trouble(id, &t);
}

/* Serves one request; false: no more. */
static bool serve(const char *line, size_t n, struct engine *e, int *ret_status)
{
	struct trouble t = {0};
	json_error_t je;
	json_t *j = json_loadb(line, n, 0, &je);
	const char *op = json_string_value(json_object_get(j, "op"));
	bool go_on = true;

	if (!op) {
		trouble_set(&t, "bad_request", "not a JSON object with an op: %s",
			    j ? "op is missing" : je.text);
		go_on = answer_trouble(0, &t);
	} else if (str_eq(op, "load")) {
		go_on = on_load(j, e);
	} else if (str_eq(op, "run")) {
		go_on = on_run(j, e);
	} else if (!str_eq(op, "stop")) {
		trouble_set(&t, "bad_request", "op '%.40s' is not known", op);
		go_on = answer_trouble(0, &t);
	}
	*ret_status = !go_on;
	go_on &= !op || !str_eq(op, "stop");
	json_decref(j);
	return go_on;
}

/* Returns the exit status: an end that was not asked for is a failure. */
static int serve_all(struct engine *e)
{
	struct input in = {.fd = STDIN_FILENO, .stop_fd = stop_fd};
	enum input_kind kind;
	const char *line;
	size_t n;
	int status = 0;

	while (!stop_asked && (kind = input_next(&in, &line, &n)) != INPUT_END) {
		bool blank = kind == INPUT_LINE && strspn(line, " \t\r\n") >= n;

		if (kind == INPUT_TOO_LONG) {
			struct trouble t = {0};

			trouble_set(&t, "bad_request", "a request is longer than 16 MiB");
			proto_error(0, &t);
		} else if (!blank && !serve(line, n, e, &status)) {
			break;
		}
	}
	str_release(&in.buf);
	return status;
}

static void catch_signals(void)
{
	struct sigaction sa = {.sa_handler = on_stop};

	stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
}

int main(void)
{
	struct engine e = {0};
	int status;

	catch_signals();
	log_start();
	llama_backend_init();
	status = serve_all(&e);
	engine_unload(&e);
	llama_backend_free();
	if (status == 0)
		proto_stopped();
	return status;
}
