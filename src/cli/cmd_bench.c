#include <getopt.h>
#include <math.h>

#include "base/jsonw.h"
#include "base/num.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "load/roofline.h"
#include "sys/host.h"

static const char usage[] =
	"usage: lem bench client [--json] [--rate R]\n"
	"\n"
	"Measures this host's load client against a server without a model, on loopback, for a "
	"few\n"
	"seconds: how many requests and chunks a CPU-second of it serves, how far it keeps to a\n"
	"schedule, how far its time stamps are from what the server did. A measurement of a real\n"
	"engine is worth what is well below these figures.\n"
	"\n"
	"  --rate R   requests per second of the schedule that is kept (default 10000, at most "
	"50000)\n"
	"  --json     one JSON document\n"
	"\n"
	"Exit status: 0 measured, 1 a measurement failed, 2 usage.\n";

struct client_figures {
	double rate_hz;
	struct roofline_figures burst, wide, open, self;
};

static int one(const char *what, const struct roofline_case *c, struct roofline_figures *ret,
	       struct lem_error *err)
{
	int r = roofline_run(c, ret, err);

	if (r < 0)
		return lem_error_context(err, "%s", what);
	if (!ret->n_failed)
		return 0;
	*err = ret->first_failure;
	lem_error_context(err, "%s: %zu of %zu requests failed", what, ret->n_failed, c->n);
	return -LEM_E_IO;
}

/* Twice, the second counts: the first touches memory that the host has yet to give. */
static int burst(const char *what, int32_t tokens, size_t n, size_t in_flight,
		 struct roofline_figures *ret, struct lem_error *err)
{
	const struct roofline_case c = {.tokens = tokens,
					.n = n,
					.plan = {.mode = HTTP_LOAD_CLOSED, .in_flight = in_flight},
					.preconnect = in_flight,
					.ordinary = true};
	int r = one(what, &c, ret, err);

	return r < 0 ? r : one(what, &c, ret, err);
}

static int measure(struct client_figures *f, struct lem_error *err)
{
	const struct roofline_case open = {.tokens = 1,
					   .n = (size_t)MAX(f->rate_hz, 100.0),
					   .plan = {.mode = HTTP_LOAD_OPEN},
					   .rate_hz = f->rate_hz,
					   .preconnect = 64};
	const struct roofline_case self = {.script = {.first_ns = 20 * NS_PER_MS,
						      .gap_ns = 20 * NS_PER_MS,
						      .record = 256 * 50},
					   .tokens = 50,
					   .n = 256,
					   .plan = {.mode = HTTP_LOAD_OPEN},
					   .rate_hz = 1000,
					   .preconnect = 64};
	int r = burst("32-token bursts", 32, 20000, 64, &f->burst, err);

	if (r >= 0)
		r = burst("512-token bursts", 512, 1500, 16, &f->wide, err);
	if (r >= 0)
		r = one("schedule", &open, &f->open, err);
	if (r >= 0)
		r = one("self-measurement", &self, &f->self, err);
	return r;
}

static void row(const char *name, const char *unit, double value, const char *how)
{
	printf("  %-34s %10.*f %-4s %s\n", name, value < 100 ? 1 : 0, value, unit, how);
}

static void text(const struct client_figures *f)
{
	char how[80];

	puts("the load client of this host, against a server without a model\n");
	row("requests per CPU-second", "", f->burst.requests_per_cpu_s, "bursts of 32 tokens");
	row("chunks per CPU-second", "", f->wide.chunks_per_cpu_s, "bursts of 512 tokens");
	(void)snprintf(how, sizeof(how), "%.0f requests per second, one token each", f->rate_hz);
	row("behind schedule, median", "us", f->open.lag_us.p50, how);
	row("behind schedule, 99th percentile", "us", f->open.lag_us.p99, "");
	row("busy at that rate", "%", f->open.busy * 100, "of one core");
	row("time stamps, median error", "us", f->self.stamp_us.p50, "256 streams, 20 ms a token");
	row("time stamps, 99th percentile", "us", f->self.stamp_us.p99, "");
	row("token gaps, 99th percentile error", "us", f->self.itl_error_us.p99,
	    "against those of the server");
	row("stamps by the kernel", "%", f->self.kernel_stamps * 100, "");
	printf("  %-34s %10s\n", "the client's thread", f->open.urgency);
}

static void json_spread(struct jsonw *w, const char *key, const struct roofline_spread *s)
{
	jsonw_object(w, key);
	jsonw_u64(w, "n", s->n);
	jsonw_f64(w, "p50", s->p50);
	jsonw_f64(w, "p99", s->p99);
	jsonw_f64(w, "max", s->max);
	jsonw_end_object(w);
}

static void json_burst(struct jsonw *w, const char *key, const struct roofline_figures *f)
{
	jsonw_object(w, key);
	jsonw_u64(w, "requests", f->n_ok);
	jsonw_u64(w, "chunks", f->n_chunks);
	jsonw_f64(w, "cpu_s", f->cpu_s);
	jsonw_f64(w, "wall_s", f->wall_s);
	jsonw_f64(w, "requests_per_cpu_s", f->requests_per_cpu_s);
	jsonw_f64(w, "chunks_per_cpu_s", f->chunks_per_cpu_s);
	jsonw_end_object(w);
}

static void json(const struct client_figures *f)
{
	_cleanup_str_ struct str out = STR_INIT;
	struct host_facts host;
	struct jsonw w;

	host_read(&host);
	jsonw_init(&w, &out, 2);
	jsonw_object(&w, NULL);
	jsonw_str(&w, "schema", "lem.client/1");
	jsonw_str(&w, "cpu_model", host.cpu_model);
	jsonw_i64(&w, "cpus_allowed", host.cpus_allowed);
	jsonw_str(&w, "thread", f->open.urgency);
	json_burst(&w, "burst_32", &f->burst);
	json_burst(&w, "burst_512", &f->wide);
	jsonw_object(&w, "open_loop");
	jsonw_f64(&w, "rate_hz", f->rate_hz);
	jsonw_u64(&w, "requests", f->open.n_ok);
	json_spread(&w, "lag_us", &f->open.lag_us);
	jsonw_f64(&w, "busy", f->open.busy);
	jsonw_end_object(&w);
	jsonw_object(&w, "self_measurement");
	jsonw_u64(&w, "requests", f->self.n_ok);
	json_spread(&w, "stamp_error_us", &f->self.stamp_us);
	json_spread(&w, "itl_error_us", &f->self.itl_error_us);
	jsonw_f64(&w, "kernel_stamps", f->self.kernel_stamps);
	jsonw_end_object(&w);
	jsonw_end_object(&w);
	puts(str_c(&out));
}

static int bench_client(bool as_json, double rate_hz)
{
	struct client_figures f = {.rate_hz = rate_hz};
	struct lem_error err = LEM_ERROR_INIT;

	if (measure(&f, &err) < 0) {
		cli_error_as(&err, as_json);
		return CLI_FAILED;
	}
	if (as_json)
		json(&f);
	else
		text(&f);
	return CLI_OK;
}

int cmd_bench(int argc, char **argv)
{
	static const struct option options[] = {{"json", no_argument, NULL, 'j'},
						{"rate", required_argument, NULL, 'r'},
						{"help", no_argument, NULL, 'h'},
						{0}};
	double rate_hz = 10000;
	bool as_json = false;
	int c;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (c) {
		case 'j': as_json = true; break;
		case 'r':
			if (!num_parse_f64(optarg, &rate_hz) || rate_hz < 1 || rate_hz > 50000)
				return cli_usage("bench", "--rate %s: from 1 to 50000", optarg);
			break;
		case 'h': fputs(usage, stdout); return CLI_OK;
		default: return CLI_REFUSED;
		}
	}
	if (argc - optind != 1 || !str_eq(argv[optind], "client"))
		return cli_usage("bench", "what to measure? There is: client");
	return bench_client(as_json, rate_hz);
}
