/*
 * load_bench.c — the program behind bench/load.
 *
 *   bench_load serve [GAP_MS]   the null server alone: prints its port, ends with stdin
 *   bench_load CASE…           burst32 burst512 paced1024 paced4096 lag memory self stall
 *
 * Each case prints one line a figure: CASE FIGURE VALUE. Bars are bench/load's business.
 */
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/num.h"
#include "load/roofline.h"

enum { ROUNDS = 5, MEMORY_STREAMS = 25000 };

static void say(const char *name, const char *figure, double value)
{
	printf("%s %s %.9g\n", name, figure, value);
}

static bool run(const char *name, const struct roofline_case *c, struct roofline_figures *f)
{
	struct lem_error err = LEM_ERROR_INIT;

	if (roofline_run(c, f, &err) < 0) {
		fprintf(stderr, "load: %s: %s\n", name, err.what);
		return false;
	}
	if (f->n_failed)
		fprintf(stderr, "load: %s: %zu of %zu failed: %s\n", name, f->n_failed, c->n,
			f->first_failure.what);
	return f->n_failed == 0;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Median of some rounds, after one that touches the memory for the first time. */
static bool burst(const char *name, int32_t tokens, size_t n, size_t in_flight)
{
	const struct roofline_case c = {.tokens = tokens,
					.n = n,
					.plan = {.mode = HTTP_LOAD_CLOSED, .in_flight = in_flight},
					.preconnect = in_flight,
					.ordinary = true};
	double requests[ROUNDS], chunks[ROUNDS], prepare_s = 0, loop_s = 0, parse_s = 0;
	struct roofline_figures f;

	if (!run(name, &c, &f))
		return false;
	for (int i = 0; i < ROUNDS; i++) {
		if (!run(name, &c, &f))
			return false;
		requests[i] = f.requests_per_cpu_s;
		chunks[i] = f.chunks_per_cpu_s;
		prepare_s += f.prepare_s;
		loop_s += f.loop_s;
		parse_s += f.parse_s;
	}
	qsort(requests, ROUNDS, sizeof(double), by_value);
	qsort(chunks, ROUNDS, sizeof(double), by_value);
	say(name, "requests_per_cpu_s", requests[ROUNDS / 2]);
	say(name, "chunks_per_cpu_s", chunks[ROUNDS / 2]);
	say(name, "prepare_us", prepare_s * 1e6 / (double)(n * ROUNDS)); /* means, a request */
	say(name, "loop_us", loop_s * 1e6 / (double)(n * ROUNDS));
	say(name, "parse_us", parse_s * 1e6 / (double)(n * ROUNDS));
	return true;
}

/* All streams begin within a second and overlap for most of their life. */
static bool paced(const char *name, size_t streams)
{
	const struct roofline_case c = {
		.script = {.first_ns = 20 * NS_PER_MS, .gap_ns = 20 * NS_PER_MS, .record = 2 << 20},
		.tokens = 150,
		.n = streams,
		.plan = {.mode = HTTP_LOAD_OPEN},
		.rate_hz = (double)streams,
		.preconnect = streams};
	struct roofline_figures f;

	if (!run(name, &c, &f))
		return false;
	say(name, "itl_script_p50_us", f.itl_script_us.p50);
	say(name, "itl_script_p99_us", f.itl_script_us.p99);
	say(name, "itl_server_p99_us", f.itl_server_us.p99);
	say(name, "itl_error_p50_us", f.itl_error_us.p50);
	say(name, "itl_error_p99_us", f.itl_error_us.p99);
	say(name, "stamp_p50_us", f.stamp_us.p50);
	say(name, "stamp_p99_us", f.stamp_us.p99);
	say(name, "busy", f.busy);
	return true;
}

static bool lag(const char *name)
{
	const struct roofline_case c = {.tokens = 1,
					.n = 30000,
					.plan = {.mode = HTTP_LOAD_OPEN},
					.rate_hz = 10000,
					.preconnect = 64};
	struct roofline_figures f;

	if (!run(name, &c, &f))
		return false;
	say(name, "p50_us", f.lag_us.p50);
	say(name, "p99_us", f.lag_us.p99);
	say(name, "max_us", f.lag_us.max);
	say(name, "busy", f.busy);
	return true;
}

static bool self(const char *name)
{
	const struct roofline_case c = {
		.script = {.first_ns = 20 * NS_PER_MS, .gap_ns = 20 * NS_PER_MS, .record = 1 << 20},
		.tokens = 100,
		.n = 256,
		.plan = {.mode = HTTP_LOAD_OPEN},
		.rate_hz = 256,
		.preconnect = 64};
	struct roofline_figures f;

	if (!run(name, &c, &f))
		return false;
	say(name, "stamp_p50_us", f.stamp_us.p50);
	say(name, "stamp_p99_us", f.stamp_us.p99);
	say(name, "kernel_stamps", f.kernel_stamps);
	return true;
}

/* Every 50th answer stalls for 2 s: it must be in the 99th percentile from schedule. */
static bool stall(const char *name)
{
	const struct roofline_case c = {.script = {.gap_ns = NS_PER_MS,
						   .stall_every = 50,
						   .stall_at = 2,
						   .stall_ns = 2 * NS_PER_S},
					.tokens = 8,
					.n = 1000,
					.plan = {.mode = HTTP_LOAD_OPEN},
					.rate_hz = 500};
	struct roofline_figures f;

	if (!run(name, &c, &f))
		return false;
	say(name, "e2e_p50_ms", f.e2e_ms.p50);
	say(name, "e2e_p99_ms", f.e2e_ms.p99);
	return true;
}

/* ── memory: the server in a process of its own, so that only the client is weighed ──────────── */

static double resident_bytes(void)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/self/statm", "re");
	unsigned long total, resident;

	if (!f || fscanf(f, "%lu %lu", &total, &resident) != 2)
		return 0;
	return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

struct weight {
	double most;
	size_t in_flight;
};

static void weigh(const struct http_load_progress *p, void *arg)
{
	struct weight *w = arg;
	double now = resident_bytes();

	if (p->in_flight >= w->in_flight) {
		w->in_flight = p->in_flight;
		w->most = MAX(w->most, now);
	}
}

static void all_fds(void)
{
	const struct rlimit plenty = {.rlim_cur = 1 << 20, .rlim_max = 1 << 20};
	struct rlimit r;

	if (setrlimit(RLIMIT_NOFILE, &plenty) == 0 || getrlimit(RLIMIT_NOFILE, &r) < 0)
		return;
	r.rlim_cur = r.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &r);
}

static void serve_until(int end_fd, int port_fd, const struct null_script *script)
{
	struct null_server *s = NULL;
	struct lem_error err = LEM_ERROR_INIT;
	struct pollfd p = {.fd = end_fd, .events = POLLIN};
	char text[16] = "0";

	all_fds();
	if (null_server_start(script, &s, &err) >= 0)
		(void)snprintf(text, sizeof(text), "%u\n", null_server_port(s));
	if (write(port_fd, text, strlen(text)) > 0 && s)
		while (poll(&p, 1, -1) < 0 && errno == EINTR)
			;
	null_server_stop(s);
}

/* The port of a server in a child that ends when *ret_end is closed; 0: none. */
static uint16_t serve_apart(const struct null_script *script, int *ret_end, pid_t *ret_pid)
{
	int port[2], end[2];
	char text[16] = {0};
	int64_t n = 0;

	if (pipe(port) < 0 || pipe(end) < 0)
		return 0;
	*ret_pid = fork();
	if (*ret_pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(end[1]);
		serve_until(end[0], port[1], script);
		_exit(0);
	}
	close(port[1]);
	close(end[0]);
	*ret_end = end[1];
	if (read(port[0], text, sizeof(text) - 1) > 0) {
		text[strcspn(text, "\n")] = 0;
		(void)num_parse_i64(text, &n);
	}
	close(port[0]);
	return (uint16_t)n;
}

static bool memory(const char *name)
{
	const struct null_script script = {.first_ns = 2 * NS_PER_S, .gap_ns = NS_PER_S};
	struct weight w = {0};
	struct rlimit r;
	int end = -1;
	pid_t pid = -1;
	uint16_t port = serve_apart(&script, &end, &pid);

	all_fds();
	(void)getrlimit(RLIMIT_NOFILE, &r);
	struct roofline_case c = {.script = {.gap_ns = NS_PER_S},
				  .port = port,
				  .tokens = 5,
				  .n = MIN((size_t)MEMORY_STREAMS, (size_t)r.rlim_cur - 128),
				  .plan = {.mode = HTTP_LOAD_ALL},
				  .preconnect =
					  MIN((size_t)MEMORY_STREAMS, (size_t)r.rlim_cur - 128),
				  .tick = weigh,
				  .arg = &w};
	double before = resident_bytes();
	struct roofline_figures f;
	bool ok = port && run(name, &c, &f);

	close(end);
	(void)waitpid(pid, NULL, 0);
	if (!ok)
		return false;
	say(name, "streams", (double)w.in_flight);
	say(name, "bytes_per_stream", (w.most - before) / (double)MAX(w.in_flight, (size_t)1));
	return true;
}

static bool one_case(const char *name)
{
	if (str_eq(name, "burst32"))
		return burst(name, 32, 20000, 64);
	if (str_eq(name, "burst512"))
		return burst(name, 512, 1500, 16);
	if (str_eq(name, "paced256"))
		return paced(name, 256);
	if (str_eq(name, "paced1024"))
		return paced(name, 1024);
	if (str_eq(name, "paced4096"))
		return paced(name, 4096);
	if (str_eq(name, "lag"))
		return lag(name);
	if (str_eq(name, "memory"))
		return memory(name);
	if (str_eq(name, "self"))
		return self(name);
	if (str_eq(name, "stall"))
		return stall(name);
	fprintf(stderr, "load: there is no case '%s'\n", name);
	return false;
}

int main(int argc, char **argv)
{
	struct null_script script = {0};
	int64_t gap_ms = 0;
	bool ok = argc > 1;

	if (argc > 1 && str_eq(argv[1], "serve")) {
		if (argc > 2 && num_parse_i64(argv[2], &gap_ms))
			script.first_ns = script.gap_ns = gap_ms * NS_PER_MS;
		serve_until(STDIN_FILENO, STDOUT_FILENO, &script);
		return 0;
	}
	for (int i = 1; i < argc; i++)
		ok &= one_case(argv[i]);
	return ok ? 0 : 1;
}
