/*
 * http_load.h — the HTTP load client: sends prepared requests to one endpoint at prepared times,
 * stamps every byte that comes back, and tells afterwards what was in it.
 *
 * One call, http_load_run, from the first connection to the parsed result. A thread of its own
 * (pinned when the host has cores to spare) runs one epoll loop over non-blocking sockets with
 * HTTP/1.1 keep-alive; the calling thread only waits, calls `tick` and watches `cancel_fd`. All
 * memory is reserved before the first request; in the window the loop sends, receives, keeps
 * bodies in one log with a stamp per receive (the kernel's where it gives one), and follows the
 * framing just far enough to know where a response ends. SSE, JSON and UTF-8 are read after the
 * last response.
 *
 * Times are int64 ns of CLOCK_MONOTONIC; 0 is "did not happen". Counts are −1 where nobody told.
 *
 * What a server does is never an error of the call: each request that failed has a class, and the
 * tally counts them. The call fails (negative, err set) only when nothing could be tried: a request
 * that makes no sense, no memory, no thread. So an unknown host gives a result in which every job
 * failed with HTTP_LOAD_DNS, and `first_failure` says why in words.
 */
#ifndef LEM_LOAD_HTTP_LOAD_H
#define LEM_LOAD_HTTP_LOAD_H

#include "base/arena.h"
#include "base/error.h"

/* ── what to ask ─────────────────────────────────────────────────────────────────────────────── */

struct http_target {
	const char *host; /* name or address, IPv6 without brackets */
	uint16_t port;
	const char *path;    /* "/v1/completions" */
	bool tls;            /* https */
	bool tls_verify;     /* check the certificate and its name; meaningless without tls */
	const char *ca_file; /* PEM; NULL: the host's store */
	const char *const *headers; /* "Name: value", NULL-terminated; NULL: none. Never logged. */
};

struct http_job {
	const char *body; /* JSON, kept by the caller until the call returns */
	size_t body_len;
	double at_ns;          /* scheduled offset from the start, absolute; open loop only */
	int32_t output_tokens; /* asked for; ≤ 0: not forced, so not checked */
	int32_t input_tokens;  /* sent as token ids; ≤ 0: not known, so not checked */
	bool stream;           /* the body asks for SSE */
};

enum http_load_mode {
	HTTP_LOAD_OPEN,   /* each job at its at_ns, whatever the server does */
	HTTP_LOAD_CLOSED, /* `in_flight` at a time, in order; scheduled = when its turn came */
	HTTP_LOAD_ALL,    /* everything at the start */
};

struct http_load_plan {
	enum http_load_mode mode;
	size_t in_flight; /* CLOSED: ≥ 1 */
	int64_t ramp_ns;  /* CLOSED: the N begin evenly spread over this; 0: together */
};

/* 0 means the default in brackets. */
struct http_load_limits {
	int64_t connect_timeout_ns;  /* [10 s] */
	int64_t request_timeout_ns;  /* from send to the last byte [600 s] */
	int64_t stop_sending_ns;     /* from the start: no new request after it [never] */
	int64_t total_ns;            /* from the start: everything is ended [never] */
	size_t max_connections;      /* [what RLIMIT_NOFILE allows, less 64] */
	uint64_t max_response_bytes; /* of one response [256 KiB + 4 KiB × tokens asked] */
	uint64_t max_total_bytes;    /* of all responses, reserved as address space [by the jobs] */
};

struct http_load_progress {
	int64_t elapsed_ns; /* since the start; negative while connections are made */
	size_t n_jobs, n_sent, n_done, n_failed, in_flight;
	uint64_t bytes;
};

struct http_load_request {
	struct http_target target;
	const struct http_job *jobs;
	size_t n_jobs;
	struct http_load_plan plan;
	struct http_load_limits limits;
	int64_t start_ns;  /* CLOCK_MONOTONIC of offset 0; 0: as soon as all is ready */
	size_t preconnect; /* connections made before the start; they count in no latency */
	bool keep_text;    /* put the answer's text in the result */
	bool no_pinning;   /* the load thread is neither pinned nor put before others (sys/urgent.h)
			    */
	int cancel_fd;     /* readable: stop now, what was measured is kept; −1: none */
	void (*tick)(const struct http_load_progress *p, void *arg); /* calling thread, may block */
	int64_t tick_ns;                                             /* [100 ms] */
	void *arg;
};

#define HTTP_LOAD_REQUEST_INIT                                  \
	{                                                       \
		.target = {.tls_verify = true}, .cancel_fd = -1 \
	}

/* ── what came ───────────────────────────────────────────────────────────────────────────────── */

enum http_load_failure {
	HTTP_LOAD_OK,
	HTTP_LOAD_NOT_SENT, /* its time never came: stop_sending, total or cancelled before */
	HTTP_LOAD_DNS,
	HTTP_LOAD_CONNECT,      /* refused, unreachable, or connect_timeout */
	HTTP_LOAD_TLS,          /* handshake or certificate */
	HTTP_LOAD_TIMEOUT,      /* sent, and not complete in time */
	HTTP_LOAD_RESET,        /* ECONNRESET, EPIPE */
	HTTP_LOAD_CLOSED_EARLY, /* orderly close before the response was complete */
	HTTP_LOAD_BAD_HTTP,     /* not HTTP/1.1, or framing that contradicts itself */
	HTTP_LOAD_REDIRECT,     /* 3xx; never followed */
	HTTP_LOAD_429,
	HTTP_LOAD_4XX,
	HTTP_LOAD_5XX,
	HTTP_LOAD_BAD_BODY,    /* status 200, but not the JSON, SSE or UTF-8 it should be */
	HTTP_LOAD_ERROR_BODY,  /* status 200 with an error object, alone or within the stream */
	HTTP_LOAD_TOO_LONG,    /* more bytes than the limits: a flood, or it never ends */
	HTTP_LOAD_ENDED_EARLY, /* well-formed, but no finish reason and no [DONE] */
	HTTP_LOAD_EMPTY,       /* status 200 without a single token */
	HTTP_LOAD_CANCELLED,   /* in flight when cancel_fd fired or total_ns was over */
	HTTP_LOAD_N_CLASSES,
};
/* "ok", "not_sent", "dns", … for JSON. */
const char *http_load_failure_name(enum http_load_failure f);

/* Findings on a response that was complete; they do not make it fail. */
enum http_load_doubt {
	HTTP_LOAD_NO_USAGE = 1 << 0,       /* tokens are not told, so not known */
	HTTP_LOAD_TOKENS_DIFFER = 1 << 1,  /* usage says other than was asked for */
	HTTP_LOAD_USAGE_FALSE = 1 << 2,    /* fewer tokens told than chunks with text came, … */
	HTTP_LOAD_USAGE_TWICE = 1 << 3,    /* two final usages that differ */
	HTTP_LOAD_NO_DONE = 1 << 4,        /* finish reason, but no [DONE] */
	HTTP_LOAD_CACHED = 1 << 5,         /* the server took prompt tokens from its cache */
	HTTP_LOAD_PROMPT_DIFFERS = 1 << 7, /* usage tells other prompt tokens than were sent */
	HTTP_LOAD_AFTER_END = 1 << 6,      /* text came after the finish reason */
};

/* One event with a piece of the answer. A chunk is not a token. */
struct http_load_chunk {
	int64_t t_ns;   /* when its last byte was received */
	int32_t n_text; /* bytes of text in it, decoded; may be 0 */
	int32_t tokens; /* completion tokens so far as this event told; −1: did not */
};

struct http_load_job {
	int64_t t_scheduled_ns;
	int64_t t_sent_ns;  /* just before the first byte of the request was given to the kernel */
	int64_t t_head_ns;  /* the first byte of the response */
	int64_t t_first_ns; /* first chunk of the answer; without streaming: the response's end */
	int64_t t_last_ns;  /* last chunk of the answer; without streaming: the response's end */
	int64_t t_end_ns;   /* response complete, or failed */
	int32_t status;     /* HTTP; 0: none */
	enum http_load_failure failure;
	uint32_t doubts;                                         /* enum http_load_doubt, or'ed */
	int32_t prompt_tokens, completion_tokens, cached_tokens; /* −1: not told */
	size_t first_chunk, n_chunks;                            /* in result.chunks */
	uint64_t n_bytes; /* of the response, head and framing included */
	char finish[16];  /* "stop", "length", …; "" when not told */
	const char *text; /* NULL unless keep_text; UTF-8, may hold U+FFFD */
	bool reused;      /* on a connection that had served before, or preconnected */
	/* Sent twice: the server was closing the connection that had served before (RST, or its end
	 * within a second and without a byte of an answer) as the request went out on it. t_sent_ns
	 * is that of the first time, everything else of the second. */
	bool retried;
};

/* How far the client kept to its schedule: from t_scheduled of each job to when the client began
 * with it, by dialling or by sending; exact. Waiting for one of max_connections is part of it. */
struct http_load_lag {
	size_t n;
	int64_t p50_ns, p90_ns, p99_ns, max_ns;
};

struct http_load_result {
	struct arena arena;         /* owns texts */
	int64_t t_start_ns;         /* offset 0 */
	int64_t t_end_ns;           /* the last response ended */
	struct http_load_job *jobs; /* malloc'ed, in the order of the request */
	size_t n_jobs;
	struct http_load_chunk *chunks; /* malloc'ed */
	size_t n_chunks;
	size_t by_failure[HTTP_LOAD_N_CLASSES];
	size_t n_sent, n_ok, n_doubtful;
	int64_t prompt_tokens, completion_tokens; /* Σ over jobs that are ok and told them */
	uint64_t bytes;
	struct http_load_lag lag;
	int64_t cpu_ns;         /* of the load thread, from start to the last response */
	int64_t prepare_cpu_ns; /* of reserving memory before the start */
	int64_t parse_cpu_ns;   /* of the parsing afterwards */
	int64_t spin_ns; /* of cpu_ns: looked without sleeping, because a job was about to be due */
	double busy; /* (cpu − spin) / (t_end − t_start): near 1, the client was the limit */
	size_t n_connections, max_in_flight;
	size_t n_retried; /* jobs that were sent twice */
	size_t n_waited;  /* jobs that were due while every connection allowed was taken */
	size_t n_receives, n_kernel_stamps; /* of which stamped by the kernel */
	bool cancelled;
	const char *urgency; /* of the load thread: "ordinary", "nice", "realtime"; static */
	struct lem_error
		first_failure; /* in words, of the first job that failed; code NONE: none */
};

int http_load_run(const struct http_load_request *q, struct http_load_result *ret,
		  struct lem_error *err);
void http_load_result_release(struct http_load_result *r);
#define _cleanup_http_load_result_ _cleanup_(http_load_result_release)

#endif
