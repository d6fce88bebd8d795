/*
 * server.h — an engine that is an HTTP server, from its first byte of log to its last: where it
 * listens, when it is ready, what it says of itself, its metrics, its end.
 */
#ifndef LEM_RUN_SERVER_H
#define LEM_RUN_SERVER_H

#include "run/pump.h"

struct life;
struct http_target;

struct server {
	char host[256]; /* IPv6 without brackets */
	int port;
	bool tls, tls_verify;
	char root[400];             /* "http://127.0.0.1:8000": before health, metrics and /v1 */
	char path[256];             /* "/v1/completions" */
	char models[256];           /* "/v1/models" */
	const char *const *headers; /* a key, if there is one; never shown */
	const char *model;          /* the name it knows the model by */
	bool chat;
	struct pump *pump; /* NULL: not started by lem */
	int stop_fd;       /* readable: interrupted, or the server has ended; -1 before */
};

/* "https://host:port/prefix/v1" into host, port, tls, root, path and models. Pure. LEM_E_USAGE. */
int server_parse_url(const char *url, bool chat, struct server *ret, struct lem_error *err);

/* Before anything is started: the address and key of a server that already runs. */
int life_server_check(struct life *l, struct lem_error *err);
/* After the runner's start: takes over its streams, waits until it has given a token, reads what
 * it says of itself into the record. */
int life_server_ready(struct life *l, struct lem_error *err);
/* Texts become the ids that its own tokenizer makes of them, at most max_input_tokens of each,
 * where it tells them; where it does not they stay, and a note says so. Needs its model's name. */
int life_tokenize(struct life *l, struct lem_error *err);
/* Its metrics as text in the record's arena; NULL: it has none, or does not answer. */
const char *life_server_metrics(struct life *l);
/* Why a call to it ended early: LEM_E_INTERRUPTED, LEM_E_ENGINE when it has ended; 0: neither. */
int life_server_stopped(struct life *l, const char *doing, struct lem_error *err);
/* So far; appended to the session's log. */
void life_server_log(struct life *l);
void life_server_close(struct life *l); /* after its stop */

#endif
