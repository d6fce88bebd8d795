#include "sys/tls.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>

/* Functions of libssl; those of libcrypto come with it and are linked anyway (base/digest). */
#define SSL_FUNCTIONS(X)                    \
	X(TLS_client_method)                \
	X(SSL_CTX_new)                      \
	X(SSL_CTX_free)                     \
	X(SSL_CTX_ctrl)                     \
	X(SSL_CTX_set_verify)               \
	X(SSL_CTX_set_default_verify_paths) \
	X(SSL_CTX_load_verify_file)         \
	X(SSL_CTX_set_alpn_protos)          \
	X(SSL_new)                          \
	X(SSL_free)                         \
	X(SSL_set_fd)                       \
	X(SSL_ctrl)                         \
	X(SSL_set1_host)                    \
	X(SSL_get0_param)                   \
	X(SSL_set_connect_state)            \
	X(SSL_do_handshake)                 \
	X(SSL_read)                         \
	X(SSL_write)                        \
	X(SSL_pending)                      \
	X(SSL_get_error)                    \
	X(SSL_get_verify_result)

static struct {
#define MEMBER(f) __typeof__(&f) f##_;
	SSL_FUNCTIONS(MEMBER)
} api;

struct tls {
	SSL_CTX *ctx;
	char *host;
	bool verify, is_address;
};

struct tls_conn {
	SSL *ssl;
	char why[160];
};

/* Also makes sure that the library is one whose types we know: its functions appeared in 3.0. */
static int load_api(struct lem_error *err)
{
	static void *library; /* stays for the life of the process, as libssl demands */

	if (library)
		return 0;
	void *h = dlopen("libssl.so.3", RTLD_NOW | RTLD_LOCAL);

	if (!h) {
		lem_fail(err, LEM_E_UNSUPPORTED, "https needs OpenSSL's libssl.so.3");
		lem_error_why(err, "%s", dlerror());
		return lem_error_fix(err, "install libssl3");
	}
#define RESOLVE(f)                                 \
	if (!(*(void **)&api.f##_ = dlsym(h, #f))) \
		return dlclose(h), lem_fail(err, LEM_E_UNSUPPORTED, "libssl.so.3 lacks " #f);
	SSL_FUNCTIONS(RESOLVE)
	library = h;
	return 0;
}

static int trust(struct tls *t, const char *ca_file, struct lem_error *err)
{
	api.SSL_CTX_set_verify_(t->ctx, t->verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
	if (!t->verify)
		return 0;
	if (ca_file && api.SSL_CTX_load_verify_file_(t->ctx, ca_file) != 1) {
		lem_fail(err, LEM_E_IO, "cannot read certificates from '%s'", ca_file);
		return lem_error_fix(err,
				     "name a PEM file with the authority that signed the server's");
	}
	if (!ca_file && api.SSL_CTX_set_default_verify_paths_(t->ctx) != 1)
		return lem_fail(err, LEM_E_IO, "cannot open this host's store of certificates");
	return 0;
}

int tls_open(const struct tls_spec *spec, struct tls **ret, struct lem_error *err)
{
	static const unsigned char http11[] = "\x08http/1.1";
	unsigned char address[16];
	int r = load_api(err);
	struct tls *t;

	if (r < 0)
		return r;
	t = lem_calloc(1, sizeof(*t));
	t->host = lem_strdup(spec->host);
	t->verify = spec->verify;
	t->is_address = inet_pton(AF_INET, spec->host, address) == 1 ||
			inet_pton(AF_INET6, spec->host, address) == 1;
	t->ctx = api.SSL_CTX_new_(api.TLS_client_method_());
	r = t->ctx ? trust(t, spec->ca_file, err)
		   : lem_fail(err, LEM_E_IO, "OpenSSL gives no context");
	ERR_clear_error();
	if (r < 0) {
		tls_free(t);
		return r;
	}
	api.SSL_CTX_ctrl_(t->ctx, SSL_CTRL_SET_MIN_PROTO_VERSION, TLS1_2_VERSION, NULL);
	api.SSL_CTX_ctrl_(t->ctx, SSL_CTRL_MODE,
			  SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
				  SSL_MODE_RELEASE_BUFFERS,
			  NULL);
	api.SSL_CTX_set_alpn_protos_(t->ctx, http11, sizeof(http11) - 1);
	*ret = t;
	return 0;
}

void tls_free(struct tls *t)
{
	if (!t)
		return;
	if (t->ctx)
		api.SSL_CTX_free_(t->ctx);
	free(t->host);
	free(t);
}

static bool name_peer(const struct tls *t, SSL *ssl)
{
	char *host = t->host;

	if (t->is_address)
		return !t->verify ||
		       X509_VERIFY_PARAM_set1_ip_asc(api.SSL_get0_param_(ssl), host) == 1;
	return api.SSL_ctrl_(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, host) ==
		       1 &&
	       (!t->verify || api.SSL_set1_host_(ssl, host) == 1);
}

struct tls_conn *tls_conn_new(struct tls *t, int fd)
{
	struct tls_conn *c = lem_calloc(1, sizeof(*c));

	c->ssl = api.SSL_new_(t->ctx);
	if (!c->ssl || api.SSL_set_fd_(c->ssl, fd) != 1 || !name_peer(t, c->ssl)) {
		tls_conn_free(c);
		return NULL;
	}
	api.SSL_set_connect_state_(c->ssl);
	return c;
}

void tls_conn_free(struct tls_conn *c)
{
	if (!c)
		return;
	if (c->ssl)
		api.SSL_free_(c->ssl);
	free(c);
}

/* A certificate that was refused says more than the alert that followed. */
static const char *reason(struct tls_conn *c)
{
	long verify = api.SSL_get_verify_result_(c->ssl);
	unsigned long e = ERR_peek_last_error();

	if (verify != X509_V_OK && e)
		(void)snprintf(c->why, sizeof(c->why), "the server's certificate: %s",
			       X509_verify_cert_error_string(verify));
	else if (e && ERR_reason_error_string(e))
		(void)snprintf(c->why, sizeof(c->why), "%s", ERR_reason_error_string(e));
	else
		(void)snprintf(c->why, sizeof(c->why), "the connection ended within the handshake");
	ERR_clear_error();
	return c->why;
}

enum tls_want tls_conn_handshake(struct tls_conn *c, const char **ret_why)
{
	int r;

	ERR_clear_error();
	r = api.SSL_do_handshake_(c->ssl);
	if (r == 1)
		return TLS_DONE;
	switch (api.SSL_get_error_(c->ssl, r)) {
	case SSL_ERROR_WANT_READ: return TLS_WANT_READ;
	case SSL_ERROR_WANT_WRITE: return TLS_WANT_WRITE;
	default: *ret_why = reason(c); return TLS_FAILED;
	}
}

static ssize_t outcome(struct tls_conn *c, int r, int saved)
{
	int e;

	if (r > 0)
		return r;
	e = api.SSL_get_error_(c->ssl, r);
	ERR_clear_error();
	switch (e) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE: return -EAGAIN;
	case SSL_ERROR_ZERO_RETURN: return 0;
	case SSL_ERROR_SYSCALL: return saved ? -saved : 0;
	default: return -EPROTO;
	}
}

ssize_t tls_conn_read(struct tls_conn *c, void *buf, size_t n)
{
	int r;

	ERR_clear_error();
	errno = 0;
	r = api.SSL_read_(c->ssl, buf, (int)MIN(n, (size_t)1 << 30));
	return outcome(c, r, errno);
}

ssize_t tls_conn_write(struct tls_conn *c, const void *buf, size_t n)
{
	int r;

	ERR_clear_error();
	errno = 0;
	r = api.SSL_write_(c->ssl, buf, (int)MIN(n, (size_t)1 << 30));
	return outcome(c, r, errno);
}

size_t tls_conn_pending(struct tls_conn *c)
{
	return (size_t)MAX(api.SSL_pending_(c->ssl), 0);
}
