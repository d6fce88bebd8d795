/*
 * roofline.h — how fast and how exact this host's client is: the load client against the null
 * server, on loopback. What `lem bench client` and bench/load measure.
 */
#ifndef LEM_LOAD_ROOFLINE_H
#define LEM_LOAD_ROOFLINE_H

#include "load/http_load.h"
#include "load/null_server.h"

struct roofline_case {
	struct null_script script;
	uint16_t port; /* of a null server that runs elsewhere; 0: one is started here */
	int32_t tokens;
	size_t n; /* requests */
	struct http_load_plan plan;
	double rate_hz; /* open loop: constant */
	size_t preconnect;
	bool ordinary; /* the client's thread as one among others: it sleeps longer and finds more
			*/
	void (*tick)(const struct http_load_progress *p, void *arg);
	void *arg;
	int64_t total_ns; /* bound; 0: 60 s */
};

struct roofline_spread {
	size_t n;
	double p50, p99, max;
};

struct roofline_figures {
	size_t n_ok, n_failed, n_chunks;
	double wall_s;
	double cpu_s; /* preparing, the loop and parsing: all that the client took */
	double prepare_s, loop_s, parse_s; /* its parts */
	double requests_per_cpu_s, chunks_per_cpu_s;
	double busy;                     /* of one core, in the window */
	struct roofline_spread lag_us;   /* begun − scheduled */
	struct roofline_spread stamp_us; /* received here − sent there, each chunk; recorded only */
	struct roofline_spread itl_script_us; /* | gap here − script.gap_ns |, the server's lateness
						 included; paced only */
	struct roofline_spread itl_server_us; /* | gap there − script.gap_ns |; recorded only */
	struct roofline_spread itl_error_us;  /* | gap here − gap there |; recorded only */
	struct roofline_spread e2e_ms;        /* last chunk − scheduled */
	double kernel_stamps;                 /* share of receives */
	const char *urgency;                  /* of the client's thread */
	struct lem_error first_failure;
};

/* Runs one case. Failed requests are told, not an error of the call. */
int roofline_run(const struct roofline_case *c, struct roofline_figures *ret,
		 struct lem_error *err);

#endif
