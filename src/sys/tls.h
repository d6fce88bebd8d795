/*
 * tls.h — TLS over a non-blocking socket that is already connected: OpenSSL's libssl, opened by
 * name when it is first needed (linking it would cost every command its loading), absence an
 * ordinary error.
 *
 * Why not libcurl with CONNECT_ONLY: it would own the dialling, and its receive path knows neither
 * our buffers nor our loop; libssl over our own socket is a few calls.
 */
#ifndef LEM_SYS_TLS_H
#define LEM_SYS_TLS_H

#include "base/error.h"

struct tls; /* what connections to one host share */
struct tls_conn;

struct tls_spec {
	const char *host;    /* name for SNI and for the check of the certificate; or an address */
	bool verify;         /* the chain, the dates and the name */
	const char *ca_file; /* PEM; NULL: the host's store */
};

/* LEM_E_UNSUPPORTED without libssl, LEM_E_IO when ca_file cannot be read. */
int tls_open(const struct tls_spec *spec, struct tls **ret, struct lem_error *err);
void tls_free(struct tls *t);

enum tls_want { TLS_DONE, TLS_WANT_READ, TLS_WANT_WRITE, TLS_FAILED };

struct tls_conn *tls_conn_new(struct tls *t,
			      int fd); /* NULL: out of memory; fd stays the caller's */
/* FAILED: *ret_why (static or of the conn) says why in words: "certificate has expired". */
enum tls_want tls_conn_handshake(struct tls_conn *c, const char **ret_why);
/* Bytes moved; 0 at an orderly end; −EAGAIN; −errno, −EPROTO when TLS itself failed. */
ssize_t tls_conn_read(struct tls_conn *c, void *buf, size_t n);
ssize_t tls_conn_write(struct tls_conn *c, const void *buf, size_t n);
size_t tls_conn_pending(struct tls_conn *c); /* decrypted and not yet read: no event tells of it */
void tls_conn_free(struct tls_conn *c);      /* sends nothing; NULL is fine */

#endif
