/*
 * load_bench.c — the program behind bench/load; alone it needs neither Python nor a network.
 *
 *   bench_load serve [GAP_MS]       the null server alone: prints its port, ends with stdin
 *   bench_load CASE…                one line a figure: CASE FIGURE VALUE
 *   bench_load judge [CASE…]        the same held against the bars, all cases by default: 0 all
 * hold, 1 one is short, 77 none was short but one could not run here
 *
 * Cases: burst32 burst512 paced1024 paced4096 lag self stall memory memory100k.
 */
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/num.h"
#include "load/roofline.h"

enum { ROUNDS = 5, MEMORY_STREAMS = 25000, MANY_STREAMS = 100000, FIGURES = 16, CORES_ENOUGH = 12 };

/* What the case under way found. */
static struct {
	char name[32];
	double value;
} found[FIGURES];
static size_t n_found;

static void say(const char *figure, double value)
{
	assert(n_found < FIGURES);
	lem_strlcpy(found[n_found].name, figure, sizeof(found[0].name));
	found[n_found++].value = value;
}

static bool find(const char *figure, double *ret)
{
	for (size_t i = 0; i < n_found; i++)
		if (str_eq(found[i].name, figure)) {
			*ret = found[i].value;
			return true;
		}
	return false;
}

static int n_cores(void)
{
	cpu_set_t allowed;

	return sched_getaffinity(0, sizeof(allowed), &allowed) < 0 ? 1 : CPU_COUNT(&allowed);
}

enum outcome { DONE, FAILED, CANNOT };

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
static enum outcome burst(const char *name, int32_t tokens, size_t n, size_t in_flight)
{
	const struct roofline_case c = {.tokens = tokens,
					.n = n,
					.plan = {.mode = HTTP_LOAD_CLOSED, .in_flight = in_flight},
					.preconnect = in_flight,
					.ordinary = true};
	double requests[ROUNDS], chunks[ROUNDS], prepare_s = 0, loop_s = 0, parse_s = 0;
	struct roofline_figures f;

	if (!run(name, &c, &f))
		return FAILED;
	for (int i = 0; i < ROUNDS; i++) {
		if (!run(name, &c, &f))
			return FAILED;
		requests[i] = f.requests_per_cpu_s;
		chunks[i] = f.chunks_per_cpu_s;
		prepare_s += f.prepare_s;
		loop_s += f.loop_s;
		parse_s += f.parse_s;
	}
	qsort(requests, ROUNDS, sizeof(double), by_value);
	qsort(chunks, ROUNDS, sizeof(double), by_value);
	say("requests_per_cpu_s", requests[ROUNDS / 2]);
	say("chunks_per_cpu_s", chunks[ROUNDS / 2]);
	say("prepare_us", prepare_s * 1e6 / (double)(n * ROUNDS)); /* means, a request */
	say("loop_us", loop_s * 1e6 / (double)(n * ROUNDS));
	say("parse_us", parse_s * 1e6 / (double)(n * ROUNDS));
	return DONE;
}

/* All streams begin within a second and overlap for most of their life. The server works in steps
 * of 1 ms; where there are cores it has three of its own. */
static enum outcome paced(const char *name, size_t streams)
{
	const struct roofline_case c = {.script = {.first_ns = 20 * NS_PER_MS,
						   .gap_ns = 20 * NS_PER_MS,
						   .record = 2 << 20,
						   .tick_ns = NS_PER_MS,
						   .threads = n_cores() >= CORES_ENOUGH ? 3 : 1},
					.tokens = 150,
					.n = streams,
					.plan = {.mode = HTTP_LOAD_OPEN},
					.rate_hz = (double)streams,
					.preconnect = streams};
	struct roofline_figures f;

	if (!run(name, &c, &f))
		return FAILED;
	say("itl_script_p50_us", f.itl_script_us.p50);
	say("itl_script_p99_us", f.itl_script_us.p99);
	say("itl_server_p99_us", f.itl_server_us.p99);
	say("itl_error_p50_us", f.itl_error_us.p50);
	say("itl_error_p99_us", f.itl_error_us.p99);
	say("stamp_p50_us", f.stamp_us.p50);
	say("stamp_p99_us", f.stamp_us.p99);
	say("busy", f.busy);
	return DONE;
}

static enum outcome lag(const char *name)
{
	/* a server that is kept from its work has all connections waiting, and then the client
	 * waits */
	const struct roofline_case c = {.script = {.urgent = true},
					.tokens = 1,
					.n = 30000,
					.plan = {.mode = HTTP_LOAD_OPEN},
					.rate_hz = 10000,
					.preconnect = 64};
	struct roofline_figures f;

	if (!run(name, &c, &f))
		return FAILED;
	say("p50_us", f.lag_us.p50);
	say("p99_us", f.lag_us.p99);
	say("max_us", f.lag_us.max);
	say("busy", f.busy);
	return DONE;
}

static enum outcome self(const char *name)
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
		return FAILED;
	say("stamp_p50_us", f.stamp_us.p50);
	say("stamp_p99_us", f.stamp_us.p99);
	say("kernel_stamps", f.kernel_stamps);
	return DONE;
}

/* Every 50th answer stalls for 2 s: it must be in the 99th percentile from schedule. */
static enum outcome stall(const char *name)
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
		return FAILED;
	say("e2e_p50_ms", f.e2e_ms.p50);
	say("e2e_p99_ms", f.e2e_ms.p99);
	return DONE;
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

/* Streams that are open at the same time, most of the time waiting, and what they weigh. */
static enum outcome memory(const char *name, size_t streams)
{
	const struct null_script script = {.first_ns = 4 * NS_PER_S, .gap_ns = NS_PER_S};
	struct weight w = {0};
	int end = -1;
	pid_t pid = -1;
	uint16_t port = serve_apart(&script, &end, &pid);
	struct roofline_case c = {.script = {.gap_ns = NS_PER_S},
				  .port = port,
				  .tokens = 5,
				  .n = streams,
				  .plan = {.mode = HTTP_LOAD_ALL},
				  .preconnect = streams,
				  .tick = weigh,
				  .arg = &w};
	double before = resident_bytes();
	struct roofline_figures f;
	bool ok = port && run(name, &c, &f);

	close(end);
	(void)waitpid(pid, NULL, 0);
	if (!ok)
		return FAILED;
	say("streams", (double)w.in_flight);
	say("bytes_per_stream", (w.most - before) / (double)MAX(w.in_flight, (size_t)1));
	say("gb_of_100k", (w.most - before) / (double)MAX(w.in_flight, (size_t)1) * 1e5 / 1e9);
	return DONE;
}

/* Descriptors that a process may have here; as many as can be had are asked for. */
static size_t descriptors(void)
{
	struct rlimit r;

	all_fds();
	return getrlimit(RLIMIT_NOFILE, &r) < 0 ? 1024 : (size_t)r.rlim_cur;
}

static enum outcome memory_some(const char *name)
{
	return memory(name, MIN((size_t)MEMORY_STREAMS, descriptors() - 128));
}

static enum outcome memory_many(const char *name)
{
	size_t fds = descriptors();

	if (fds >= MANY_STREAMS + 128)
		return memory(name, MANY_STREAMS);
	printf("load %s: not run, %d descriptors are needed and RLIMIT_NOFILE allows %zu\n", name,
	       MANY_STREAMS + 128, fds);
	return CANNOT;
}

static enum outcome burst32(const char *name)
{
	return burst(name, 32, 20000, 64);
}

static enum outcome burst512(const char *name)
{
	return burst(name, 512, 1500, 16);
}

static enum outcome paced256(const char *name)
{
	return paced(name, 256);
}

static enum outcome paced1024(const char *name)
{
	return paced(name, 1024);
}

static enum outcome paced4096(const char *name)
{
	return paced(name, 4096);
}

static const struct {
	const char *name;
	enum outcome (*run)(const char *name);
	bool unasked; /* part of `judge` without cases */
} cases[] = {
	{"burst32", burst32, true},     {"burst512", burst512, true},
	{"paced256", paced256, false},  {"paced1024", paced1024, true},
	{"paced4096", paced4096, true}, {"lag", lag, true},
	{"self", self, true},           {"stall", stall, true},
	{"memory", memory_some, true},  {"memory100k", memory_many, true},
};

/* ── bars ────────────────────────────────────────────────────────────────────────────────────── */

static const struct bar {
	const char *in, *figure, *words, *unit;
	double bar, divisor;
	bool more; /* is better */
} bars[] = {
	{"burst32", "requests_per_cpu_s", "32-token bursts", "requests/CPU-s", 50e3, 1, true},
	{"burst512", "chunks_per_cpu_s", "512-token bursts", "chunks/CPU-s", 5e6, 1, true},
	{"paced1024", "itl_error_p99_us", "paced 20 ms, 1024 streams, ITL p99 error", "ms", 1.5,
	 1e3, false},
	{"paced4096", "itl_error_p99_us", "paced 20 ms, 4096 streams, ITL p99 error", "ms", 2, 1e3,
	 false},
	{"lag", "p50_us", "open loop 10 k/s, lag p50", "us", 50, 1, false},
	{"lag", "p99_us", "open loop 10 k/s, lag p99", "ms", 1, 1e3, false},
	{"self", "stamp_p50_us", "self-measure, median error", "ms", 0.1, 1e3, false},
	{"self", "stamp_p99_us", "self-measure, p99 error", "ms", 1, 1e3, false},
	{"stall", "e2e_p99_ms", "2 s stall in p99 from schedule", "ms", 2000, 1, true},
	{"memory", "bytes_per_stream", "memory a stream", "KB", 16, 1e3, false},
	{"memory", "gb_of_100k", "memory of 100 k streams, extrapolated", "GB", 2, 1, false},
	{"memory100k", "bytes_per_stream", "memory a stream, 100 k open", "KB", 16, 1e3, false},
	{"memory100k", "gb_of_100k", "memory of 100 k open streams", "GB", 2, 1, false},
};

/* Shown beside them. */
static const struct {
	const char *figure, *words;
} notes[] = {
	{"prepare_us", "us of CPU a request for reserving memory"},
	{"loop_us", "us of CPU a request in the loop"},
	{"parse_us", "us of CPU a request for parsing"},
	{"itl_server_p99_us", "us, p99 of how far the server itself was from its 20 ms"},
	{"itl_script_p99_us", "us, p99 of token gaps against the script: server and client"},
	{"busy", "of a core"},
	{"kernel_stamps", "of receives stamped by the kernel"},
	{"streams", "open streams were weighed"},
};

static bool hold(const struct bar *b)
{
	double x, server_us;

	if (!find(b->figure, &x))
		return false;
	x /= b->divisor;
	printf(x >= 1000 ? "load %s: %.0f %s (bar %.9g) " : "load %s: %.4g %s (bar %.9g) ",
	       b->words, x, b->unit, b->bar);
	/* a server that was itself further off than the bar says nothing about the client */
	if (find("itl_server_p99_us", &server_us) && server_us / b->divisor > b->bar) {
		printf("short, because the server itself did not keep its 20 ms\n");
		return false;
	}
	puts((b->more ? x >= b->bar : x <= b->bar) ? "ok" : "short");
	return b->more ? x >= b->bar : x <= b->bar;
}

static bool judge(const char *name)
{
	bool ok = true;
	double x;

	for (size_t i = 0; i < ARRAY_LEN(bars); i++)
		if (str_eq(bars[i].in, name))
			ok &= hold(&bars[i]);
	for (size_t i = 0; i < ARRAY_LEN(notes); i++)
		if (find(notes[i].figure, &x))
			printf("load %s: %.4g %s\n", name, x, notes[i].words);
	return ok;
}

static enum outcome one_case(const char *name, bool judged)
{
	enum outcome o = FAILED;
	size_t i = 0;

	while (i < ARRAY_LEN(cases) && !str_eq(cases[i].name, name))
		i++;
	if (i == ARRAY_LEN(cases)) {
		fprintf(stderr, "load: there is no case '%s'\n", name);
		return FAILED;
	}
	n_found = 0;
	o = cases[i].run(name);
	if (o == FAILED)
		printf("load %s: failed\n", name);
	for (i = 0; o == DONE && !judged && i < n_found; i++)
		printf("%s %s %.9g\n", name, found[i].name, found[i].value);
	if (o == DONE && judged && !judge(name))
		o = FAILED;
	(void)fflush(stdout);
	return o;
}

static int serve(int argc, char **argv)
{
	struct null_script script = {0};
	int64_t gap_ms = 0;

	if (argc > 2 && num_parse_i64(argv[2], &gap_ms))
		script.first_ns = script.gap_ns = gap_ms * NS_PER_MS;
	serve_until(STDIN_FILENO, STDOUT_FILENO, &script);
	return 0;
}

int main(int argc, char **argv)
{
	bool judged = argc > 1 && str_eq(argv[1], "judge");
	int first = judged ? 2 : 1;
	size_t n[CANNOT + 1] = {0};

	if (argc > 1 && str_eq(argv[1], "serve"))
		return serve(argc, argv);
	for (int i = first; i < argc; i++)
		n[one_case(argv[i], judged)]++;
	for (size_t i = 0; judged && argc == first && i < ARRAY_LEN(cases); i++)
		if (cases[i].unasked)
			n[one_case(cases[i].name, true)]++;
	if (n[FAILED] || !(n[DONE] + n[CANNOT]))
		return 1;
	return n[DONE] ? 0 : 77;
}
