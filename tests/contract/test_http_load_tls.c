/* The load client over TLS: certificates that are good, expired, of another name, of nobody. */
#include <netinet/in.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "load/http_load.h"
#include "sys/tls.h"

enum { JOBS = 5, DAY = 86400 };

static const char body[] = "{\"prompt\":\"x\",\"max_tokens\":1,\"stream\":true}";
static const char answer[] =
	"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 171\r\n\r\n"
	"data: {\"choices\":[{\"text\":\"hello\",\"finish_reason\":\"length\"}]}\n\n"
	"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}   \n\n"
	"data: [DONE]\n\n                \n\n\n";

struct server {
	SSL_CTX *ctx;
	int fd;
	uint16_t port;
	bool plain; /* speaks HTTP where TLS is expected */
	pthread_t thread;
};

static char ca_path[64];

static X509 *certificate(EVP_PKEY *key, const char *san, long from_s, long to_s)
{
	X509 *x = X509_new();
	X509_NAME *name = X509_get_subject_name(x);
	X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, san);

	X509_set_version(x, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(x), 7);
	X509_gmtime_adj(X509_getm_notBefore(x), from_s);
	X509_gmtime_adj(X509_getm_notAfter(x), to_s);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"lem test", -1,
				   -1, 0);
	X509_set_issuer_name(x, name);
	X509_set_pubkey(x, key);
	X509_add_ext(x, e, -1);
	X509_EXTENSION_free(e);
	assert_true(X509_sign(x, key, EVP_sha256()) > 0);
	return x;
}

static void write_pem(X509 *x)
{
	_cleanup_fclose_ FILE *f = NULL;
	int fd;

	lem_strlcpy(ca_path, "/tmp/lem-tls-XXXXXX", sizeof(ca_path));
	fd = mkstemp(ca_path);
	assert_true(fd >= 0);
	f = fdopen(fd, "w");
	assert_int_equal(PEM_write_X509(f, x), 1);
}

static void answer_all(SSL *ssl)
{
	char buf[4096];

	while (SSL_read(ssl, buf, sizeof(buf)) > 0)
		if (SSL_write(ssl, answer, sizeof(answer) - 1) <= 0)
			return;
}

static void one_client(struct server *s, int fd)
{
	SSL *ssl;

	if (s->plain) {
		char buf[4096];

		if (recv(fd, buf, sizeof(buf), 0) > 0)
			(void)send(fd, answer, sizeof(answer) - 1, MSG_NOSIGNAL);
		return;
	}
	ssl = SSL_new(s->ctx);
	SSL_set_fd(ssl, fd);
	if (SSL_accept(ssl) == 1)
		answer_all(ssl);
	SSL_free(ssl);
}

static void *serve(void *arg)
{
	struct server *s = arg;
	int fd;

	while ((fd = accept(s->fd, NULL, NULL)) >= 0) {
		one_client(s, fd);
		close(fd);
	}
	return NULL;
}

static void start(struct server *s, const char *san, long from_s, long to_s)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(a);
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *x = certificate(key, san, from_s, to_s);

	write_pem(x);
	s->ctx = SSL_CTX_new(TLS_server_method());
	assert_int_equal(SSL_CTX_use_certificate(s->ctx, x), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(s->ctx, key), 1);
	X509_free(x);
	EVP_PKEY_free(key);
	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(s->fd, (const struct sockaddr *)&a, n), 0);
	assert_int_equal(listen(s->fd, 16), 0);
	assert_int_equal(getsockname(s->fd, (struct sockaddr *)&a, &n), 0);
	s->port = ntohs(a.sin_port);
	assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void stop(struct server *s)
{
	shutdown(s->fd, SHUT_RDWR); /* accept returns */
	pthread_join(s->thread, NULL);
	close(s->fd);
	SSL_CTX_free(s->ctx);
	unlink(ca_path);
}

static void ask(const struct server *s, const char *host, bool verify, const char *ca,
		struct http_load_result *ret)
{
	struct http_load_request q = HTTP_LOAD_REQUEST_INIT;
	struct http_job jobs[JOBS];
	struct lem_error err = LEM_ERROR_INIT;

	for (size_t i = 0; i < JOBS; i++)
		jobs[i] = (struct http_job){.body = body,
					    .body_len = sizeof(body) - 1,
					    .output_tokens = 1,
					    .stream = true};
	q.target = (struct http_target){.host = host,
					.port = s->port,
					.path = "/v1/completions",
					.tls = true,
					.tls_verify = verify,
					.ca_file = ca};
	q.jobs = jobs;
	q.n_jobs = JOBS;
	q.plan = (struct http_load_plan){.mode = HTTP_LOAD_CLOSED, .in_flight = 1};
	q.limits.total_ns = 30 * NS_PER_S;
	q.keep_text = true;
	if (http_load_run(&q, ret, &err) < 0)
		fail_msg("%s: %s", err.what, err.why);
}

static void expect_ok(const struct server *s, const char *host, bool verify)
{
	_cleanup_http_load_result_ struct http_load_result r = {0};

	ask(s, host, verify, verify ? ca_path : NULL, &r);
	if (r.n_ok != JOBS)
		fail_msg("%s", r.first_failure.what);
	assert_int_equal(r.n_connections, 1); /* kept alive over TLS too */
	assert_int_equal(r.completion_tokens, JOBS);
	assert_string_equal(r.jobs[JOBS - 1].text, "hello");
	assert_int_equal(r.n_kernel_stamps, 0);
}

static void expect_refused(const struct server *s, const char *host, const char *ca,
			   const char *why)
{
	_cleanup_http_load_result_ struct http_load_result r = {0};

	ask(s, host, true, ca, &r);
	assert_int_equal(r.by_failure[HTTP_LOAD_TLS], JOBS);
	assert_int_equal(r.n_sent, 0); /* no byte of a request, keys included, went out */
	if (!strstr(r.first_failure.what, why))
		fail_msg("'%s' is not in '%s'", why, r.first_failure.what);
}

static void test_good(void **state)
{
	struct server s = {0};

	(void)state;
	start(&s, "DNS:localhost,IP:127.0.0.1", -DAY, DAY);
	expect_ok(&s, "127.0.0.1", true);
	expect_ok(&s, "localhost", true);
	expect_ok(&s, "127.0.0.1", false);
	expect_refused(&s, "127.0.0.1", NULL, "self-signed certificate");
	stop(&s);
}

static void test_expired(void **state)
{
	struct server s = {0};

	(void)state;
	start(&s, "IP:127.0.0.1", -3 * DAY, -DAY);
	expect_refused(&s, "127.0.0.1", ca_path, "certificate has expired");
	expect_ok(&s, "127.0.0.1", false);
	stop(&s);
}

static void test_not_yet(void **state)
{
	struct server s = {0};

	(void)state;
	start(&s, "IP:127.0.0.1", DAY, 3 * DAY);
	expect_refused(&s, "127.0.0.1", ca_path, "not yet valid");
	stop(&s);
}

static void test_another_name(void **state)
{
	struct server s = {0};

	(void)state;
	start(&s, "DNS:other.example", -DAY, DAY);
	expect_refused(&s, "127.0.0.1", ca_path, "IP address mismatch");
	expect_refused(&s, "localhost", ca_path, "ostname mismatch");
	stop(&s);
}

static void test_not_tls(void **state)
{
	struct server s = {.plain = true};

	(void)state;
	start(&s, "IP:127.0.0.1", -DAY, DAY);
	expect_refused(&s, "127.0.0.1", ca_path, "wrong version number");
	stop(&s);
}

static void test_no_such_authority(void **state)
{
	const struct tls_spec spec = {.host = "x", .verify = true, .ca_file = "/nonexistent.pem"};
	struct lem_error err = LEM_ERROR_INIT;
	struct tls *t = NULL;

	(void)state;
	assert_int_equal(tls_open(&spec, &t, &err), -LEM_E_IO);
	assert_non_null(strstr(err.what, "/nonexistent.pem"));
	assert_null(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),    cmocka_unit_test(test_expired),
		cmocka_unit_test(test_not_yet), cmocka_unit_test(test_another_name),
		cmocka_unit_test(test_not_tls), cmocka_unit_test(test_no_such_authority),
	};

	(void)signal(SIGPIPE, SIG_IGN); /* this server's, whose clients hang up on it */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
