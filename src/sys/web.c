#include "sys/web.h"

#include <poll.h>

#include "base/num.h"
#include "sys/curl.h"

enum { BODY_MAX_BYTES = 4 << 20 };

struct get {
	const struct web_request *q;
	struct str *body;
	bool too_long, cancelled;
};

static size_t on_body(char *bytes, size_t size, size_t n, void *arg)
{
	struct get *g = arg;
	size_t max = g->q->max_bytes ? g->q->max_bytes : BODY_MAX_BYTES;

	n *= size;
	if (n > max - MIN(g->body->len, max)) {
		g->too_long = true;
		return 0;
	}
	str_addn(g->body, bytes, n);
	return n;
}

static int on_progress(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
	struct get *g = arg;
	struct pollfd p = {.fd = g->q->cancel_fd, .events = POLLIN};

	(void)a, (void)b, (void)c, (void)d;
	g->cancelled = g->q->cancel_fd >= 0 && poll(&p, 1, 0) > 0;
	return g->cancelled;
}

/* What listens there speaks something that is no HTTP; curl takes it for HTTP/0.9. */
static bool is_no_http(CURLcode rc, const char *detail)
{
	return rc == CURLE_UNSUPPORTED_PROTOCOL && strstr(detail, "HTTP/0.9");
}

static enum lem_code code_of(CURLcode rc)
{
	switch (rc) {
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_URL_MALFORMAT: return LEM_E_USAGE;
	case CURLE_COULDNT_RESOLVE_HOST: return LEM_E_NOT_FOUND;
	case CURLE_OPERATION_TIMEDOUT: return LEM_E_TIMEOUT;
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CIPHER:
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE: return LEM_E_REFUSED;
	case CURLE_WEIRD_SERVER_REPLY: return LEM_E_PARSE;
	default: return LEM_E_IO;
	}
}

static const char *fix_of(CURLcode rc)
{
	switch (code_of(rc)) {
	case LEM_E_NOT_FOUND: return "look at the host's name in the URL, or write its address";
	case LEM_E_REFUSED:
		return "for https the server needs a certificate that this host trusts; "
		       "tls_verify: false does without, http:// when it speaks no TLS";
	case LEM_E_USAGE: return "write it like http://localhost:8000/v1";
	case LEM_E_PARSE: return "something else than an HTTP server listens at this port";
	default: return "start the server, or look at host and port in the URL";
	}
}

static int fail(const struct get *g, const struct curl_api *curl, CURLcode rc, const char *detail,
		struct lem_error *err)
{
	if (g->cancelled)
		return lem_fail(err, LEM_E_INTERRUPTED, "interrupted");
	if (is_no_http(rc, detail)) {
		rc = CURLE_WEIRD_SERVER_REPLY;
		detail = "it speaks no HTTP";
	}
	if (g->too_long)
		(void)lem_fail(err, LEM_E_PARSE, "the answer of %s is too long", g->q->url);
	else
		(void)lem_fail(err, code_of(rc), "%s does not answer: %s", g->q->url,
			       detail[0] ? detail : curl->easy_strerror(rc));
	return lem_error_fix(err, "%s", fix_of(rc));
}

static struct curl_slist *header_list(const struct curl_api *curl, const struct web_request *q)
{
	struct curl_slist *list = NULL;

	for (const char *const *h = q->headers; h && *h; h++)
		list = curl->slist_append(list, *h);
	if (q->json) {
		list = curl->slist_append(list, "Content-Type: application/json");
		list = curl->slist_append(list, "Expect:"); /* no waiting for a 100 */
	}
	return list;
}

static void set_up(const struct curl_api *curl, CURL *easy, struct get *g, char *detail)
{
	int64_t ms = MAX(g->q->timeout_ns / NS_PER_MS, INT64_C(1));

	curl->easy_setopt(easy, CURLOPT_URL, g->q->url);
	curl->easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl->easy_setopt(easy, CURLOPT_NOPROXY, "*");
	curl->easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl->easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)MIN(ms, (int64_t)INT32_MAX));
	curl->easy_setopt(easy, CURLOPT_ERRORBUFFER, detail);
	curl->easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	curl->easy_setopt(easy, CURLOPT_WRITEDATA, g);
	curl->easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl->easy_setopt(easy, CURLOPT_XFERINFODATA, g);
	curl->easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
	if (g->q->json) {
		curl->easy_setopt(easy, CURLOPT_POSTFIELDS, g->q->json);
		curl->easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
				  (curl_off_t)strlen(g->q->json));
	}
	if (g->q->no_tls_verify) {
		curl->easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
		curl->easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
	}
}

void web_line_release(struct web_line *l)
{
	if (l->easy)
		curl_api(NULL)->easy_cleanup(l->easy);
	l->easy = NULL;
}

static CURL *take_line(const struct curl_api *curl, struct web_line *l)
{
	return l && l->easy ? l->easy : curl->easy_init();
}

/* What was set for this call lies on its stack and is forgotten, the connection is not: libcurl may
 * write of its end into the text of errors. */
static void give_line(const struct curl_api *curl, struct web_line *l, CURL *easy)
{
	if (l)
		curl->easy_reset(l->easy = easy);
	else
		curl->easy_cleanup(easy);
}

int web_get(const struct web_request *q, long *ret_status, struct str *ret, struct lem_error *err)
{
	const struct curl_api *curl = curl_api(err);
	char detail[CURL_ERROR_SIZE] = "";
	_cleanup_str_ struct str body = STR_INIT;
	struct get g = {.q = q, .body = &body};
	struct curl_slist *headers;
	CURL *easy = curl ? take_line(curl, q->line) : NULL;
	CURLcode rc;

	if (!curl)
		return -LEM_E_UNSUPPORTED;
	if (!easy)
		return lem_fail(err, LEM_E_UNSUPPORTED, "libcurl cannot be initialised");
	set_up(curl, easy, &g, detail);
	headers = header_list(curl, q);
	curl->easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
	rc = curl->easy_perform(easy);
	if (rc == CURLE_OK)
		curl->easy_getinfo(easy, CURLINFO_RESPONSE_CODE, ret_status);
	curl->slist_free_all(headers);
	give_line(curl, q->line, easy);
	if (rc != CURLE_OK)
		return fail(&g, curl, rc, detail, err);
	str_addn(ret, str_c(&body), body.len);
	return 0;
}
