#include "sys/dl.h"

#include <fcntl.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "sys/curl.h"

enum { CONNECT_TIMEOUT_S = 30, STALL_TIMEOUT_S = 60, RETRY_AFTER_MAX_S = 30 };
enum { TRIES = 5, PAUSE_MS = 500, REDIRECTS_MAX = 8, ETAG_BYTES = 160 };
enum { ERROR_BODY_MAX_BYTES = 1 << 20 };

/* One try: its destination and what libcurl's callbacks have seen. */
struct transfer {
	const struct dl_request *q;
	const struct curl_api *api;
	CURL *easy;
	struct dl_info *info; /* of a HEAD; may be NULL */
	char *redirect;       /* of a HEAD: where it points */

	struct str *text; /* destination of a small document, up to max_bytes */
	size_t max_bytes;

	int fd;                        /* destination of a file; -1: none */
	uint64_t have, got;            /* bytes in it before this try, and of this try */
	int64_t expected;              /* its whole size; -1: unknown */
	const char *if_range;          /* the version that `have` is of, quoted; "" unknown */
	char etag[ETAG_BYTES];         /* of the last answer, as it was sent */
	uint64_t range_begin, ignored; /* Content-Range; bytes of an error's body */
	int64_t reported_ns, retry_after_s;

	bool too_large, cancelled, wrong_range;
	int write_errno;
	long status; /* of the last answer; 0: none came */
};

static bool header_value(const char *line, size_t n, const char *name, char *buf, size_t size)
{
	size_t k = strlen(name), keep = 0;

	if (n <= k || strncasecmp(line, name, k) != 0)
		return false;
	while (k < n && (line[k] == ' ' || line[k] == '\t'))
		k++;
	while (k + keep < n && keep + 1 < size && line[k + keep] != '\r' && line[k + keep] != '\n')
		keep++;
	memcpy(buf, line + k, keep);
	buf[keep] = '\0';
	return true;
}

/* W/"abc" and "abc" become abc. */
static void bare_etag(const char *etag, char *buf, size_t size)
{
	etag += str_starts(etag, "W/") ? 2 : 0;
	etag += *etag == '"';
	lem_strlcpy(buf, etag, size);
	buf[strcspn(buf, "\"")] = '\0';
}

static size_t on_header(char *line, size_t size, size_t n, void *arg)
{
	struct transfer *t = arg;
	char value[ETAG_BYTES];

	n *= size;
	if (n > 5 && strncasecmp(line, "HTTP/", 5) == 0) /* the next answer of a redirect */
		t->etag[0] = '\0';
	header_value(line, n, "etag:", t->etag, sizeof(t->etag));
	if (header_value(line, n, "content-range:", value, sizeof(value)) &&
	    strncasecmp(value, "bytes ", 6) == 0)
		t->range_begin = strtoull(value + 6, NULL, 10);
	if (!t->info)
		return n;
	if (header_value(line, n, "x-linked-etag:", value, sizeof(value)))
		bare_etag(value, t->info->linked_etag, sizeof(t->info->linked_etag));
	if (header_value(line, n, "x-linked-size:", value, sizeof(value)))
		t->info->size = strtoll(value, NULL, 10);
	return n;
}

static bool write_fully(struct transfer *t, const char *p, size_t n)
{
	while (n) {
		ssize_t k = write(t->fd, p, n);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0) {
			t->write_errno = errno;
			return false;
		}
		p += k;
		n -= (size_t)k;
	}
	return true;
}

/* The server begins anew: it does not know ranges, or its file is another one now. */
static bool restart(struct transfer *t)
{
	if (ftruncate(t->fd, 0) < 0 || lseek(t->fd, 0, SEEK_SET) < 0) {
		t->write_errno = errno;
		return false;
	}
	t->have = 0;
	return true;
}

/* What a callback returns to make libcurl stop is anything but n. */
static size_t into_file(struct transfer *t, const char *p, size_t n)
{
	long status = 0;

	t->api->easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
	if (status != 200 && status != 206) {
		t->ignored += n;
		return t->ignored > ERROR_BODY_MAX_BYTES ? 0 : n;
	}
	if (status == 200 && t->have && !t->got && !restart(t))
		return 0;
	t->wrong_range = status == 206 && t->range_begin != t->have;
	t->too_large = t->expected >= 0 && t->have + t->got + n > (uint64_t)t->expected;
	if (t->wrong_range || t->too_large || !write_fully(t, p, n))
		return 0;
	t->got += n;
	return n;
}

static size_t on_body(char *p, size_t size, size_t n, void *arg)
{
	struct transfer *t = arg;

	n *= size;
	if (t->fd >= 0)
		return into_file(t, p, n);
	if (!t->text)
		return n;
	if (n > t->max_bytes - t->text->len) {
		t->too_large = true;
		return 0;
	}
	str_addn(t->text, p, n);
	return n;
}

/* libcurl calls this for every packet; the caller hears of it ten times a second. */
static bool report(struct transfer *t)
{
	int64_t now = clock_now_ns();
	uint64_t total = t->expected > 0 ? (uint64_t)t->expected : 0;

	if (!t->q->progress || now - t->reported_ns < NS_PER_S / 10)
		return !t->cancelled;
	t->reported_ns = now;
	t->cancelled |= !t->q->progress(t->q->arg, t->have + t->got, total);
	return !t->cancelled;
}

static int on_progress(void *arg, curl_off_t total, curl_off_t now, curl_off_t up_total,
		       curl_off_t up)
{
	(void)total;
	(void)now;
	(void)up_total;
	(void)up;
	return !report(arg);
}

static void set_callbacks(struct transfer *t)
{
	const struct curl_api *c = t->api;
	CURL *e = t->easy;

	c->easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
	c->easy_setopt(e, CURLOPT_HEADERDATA, t);
	c->easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
	c->easy_setopt(e, CURLOPT_WRITEDATA, t);
	c->easy_setopt(e, CURLOPT_XFERINFOFUNCTION, on_progress);
	c->easy_setopt(e, CURLOPT_XFERINFODATA, t);
	c->easy_setopt(e, CURLOPT_NOPROGRESS, 0L);
}

static void set_options(struct transfer *t, bool head)
{
	const struct curl_api *c = t->api;
	const struct dl_request *q = t->q;
	CURL *e = t->easy;
	bool tls = str_starts(q->url, "https:");

	c->easy_setopt(e, CURLOPT_URL, q->url);
	c->easy_setopt(e, CURLOPT_USERAGENT, "lem/" LEM_VERSION);
	c->easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	c->easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
	/* what began encrypted stays so */
	c->easy_setopt(e, CURLOPT_REDIR_PROTOCOLS_STR, tls ? "https" : "http,https");
	c->easy_setopt(e, CURLOPT_FOLLOWLOCATION, head ? 0L : 1L);
	c->easy_setopt(e, CURLOPT_MAXREDIRS, (long)REDIRECTS_MAX);
	c->easy_setopt(e, CURLOPT_NOBODY, head ? 1L : 0L);
	c->easy_setopt(e, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_TIMEOUT_S);
	/* less than 100 bytes a second for so long is a connection that hangs */
	c->easy_setopt(e, CURLOPT_LOW_SPEED_LIMIT, 100L);
	c->easy_setopt(e, CURLOPT_LOW_SPEED_TIME,
		       q->stall_s ? (long)q->stall_s : (long)STALL_TIMEOUT_S);
	/* libcurl drops these credentials when a redirect leaves the host, port or protocol */
	if (q->bearer) {
		c->easy_setopt(e, CURLOPT_HTTPAUTH, (long)CURLAUTH_BEARER);
		c->easy_setopt(e, CURLOPT_XOAUTH2_BEARER, q->bearer);
	}
}

/* CURLOPT_RANGE and not CURLOPT_RESUME_FROM, which fails when a server answers with the whole. An
 * If-Range takes strong tags only (RFC 9110, section 13.1.5). The list is the caller's to free. */
static struct curl_slist *set_range(struct transfer *t)
{
	struct curl_slist *headers = NULL;
	char range[32], if_range[ETAG_BYTES + 16];

	if (!t->have)
		return NULL;
	snprintf(range, sizeof(range), "%" PRIu64 "-", t->have);
	t->api->easy_setopt(t->easy, CURLOPT_RANGE, range);
	if (t->if_range[0] == '"') {
		snprintf(if_range, sizeof(if_range), "If-Range: %s", t->if_range);
		headers = t->api->slist_append(NULL, if_range);
		t->api->easy_setopt(t->easy, CURLOPT_HTTPHEADER, headers);
	}
	return headers;
}

static int fail_status(const char *url, long status, struct lem_error *err)
{
	enum lem_code code = status == 404                    ? LEM_E_NOT_FOUND
			     : status == 401 || status == 403 ? LEM_E_REFUSED
							      : LEM_E_IO;

	lem_fail(err, code, "the server answered %ld", status);
	lem_error_where(err, "%s", url);
	if (code == LEM_E_REFUSED)
		return lem_error_fix(
			err,
			"the model may be gated: accept its terms on the hub and set HF_TOKEN");
	if (code == LEM_E_NOT_FOUND)
		return lem_error_fix(err, "check the name of the repository and of the file");
	return lem_error_fix(err, "it may be busy or down: try again later");
}

static int fail_size(const struct transfer *t, struct lem_error *err)
{
	if (t->fd >= 0)
		lem_fail(err, LEM_E_IO, "the server sends more than the %" PRId64 " bytes it named",
			 t->expected);
	else
		lem_fail(err, LEM_E_PARSE, "the answer is larger than %zu bytes", t->max_bytes);
	return lem_error_where(err, "%s", t->q->url);
}

static int judge(struct transfer *t, CURLcode rc, struct lem_error *err)
{
	if (t->cancelled)
		return lem_fail(err, LEM_E_INTERRUPTED, "the download was interrupted");
	if (t->write_errno)
		return lem_fail_errno(err, t->write_errno, "cannot store the download");
	if (t->too_large)
		return fail_size(t, err);
	if (t->status >= 400)
		return fail_status(t->q->url, t->status, err);
	if (rc == CURLE_OK)
		return 0;
	lem_fail(err, LEM_E_IO, "the download broke: %s",
		 t->wrong_range ? "the server sent another part than the one asked for"
				: t->api->easy_strerror(rc));
	return lem_error_where(err, "%s", t->q->url);
}

static void take_head(struct transfer *t, long status)
{
	curl_off_t length = -1;
	char *redirect = NULL;

	t->info->status = status;
	bare_etag(t->etag, t->info->etag, sizeof(t->info->etag));
	t->api->easy_getinfo(t->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
	if (t->info->size < 0 && status < 300)
		t->info->size = length;
	t->api->easy_getinfo(t->easy, CURLINFO_REDIRECT_URL, &redirect);
	t->redirect = lem_strdup(redirect); /* libcurl's text goes with its handle */
}

/* One try. *ret_again: the failure may be passing. */
static int once(struct transfer *t, bool head, bool *ret_again, struct lem_error *err)
{
	struct curl_slist *headers;
	curl_off_t retry_after = 0;
	long status = 0;
	CURLcode rc;

	*ret_again = false;
	t->api = curl_api(err);
	if (!t->api)
		return -LEM_E_UNSUPPORTED;
	t->easy = t->api->easy_init();
	if (!t->easy)
		return lem_fail(err, LEM_E_INTERNAL, "libcurl cannot start");
	set_callbacks(t);
	set_options(t, head);
	headers = set_range(t);
	rc = t->api->easy_perform(t->easy);
	t->api->easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
	t->api->easy_getinfo(t->easy, CURLINFO_RETRY_AFTER, &retry_after);
	t->status = status;
	t->retry_after_s = MIN((int64_t)retry_after, (int64_t)RETRY_AFTER_MAX_S);
	if (head)
		take_head(t, status);
	t->api->easy_cleanup(t->easy);
	t->api->slist_free_all(headers);
	*ret_again =
		!t->cancelled && !t->write_errno && !t->too_large &&
		(status >= 400 ? status == 429 || status == 416 || status >= 500 : rc != CURLE_OK);
	return judge(t, rc, err);
}

static int tries_of(const struct dl_request *q)
{
	return q->tries ? q->tries : TRIES;
}

/* Waits before try number `i` + 1, longer each time, or as long as the server asked for. */
static int wait_before_retry(struct transfer *t, int i, struct lem_error *err)
{
	int64_t pause_ns = (t->q->pause_ms ? t->q->pause_ms : PAUSE_MS) * NS_PER_MS << MIN(i, 6);
	int64_t until = clock_now_ns() + MAX(pause_ns, t->retry_after_s * NS_PER_S);

	while (clock_now_ns() < until) {
		clock_sleep_until_ns(MIN(until, clock_now_ns() + NS_PER_S / 10));
		if (!report(t))
			return lem_fail(err, LEM_E_INTERRUPTED, "the download was interrupted");
	}
	return 0;
}

static int head_once(const struct dl_request *q, struct dl_info *ret, char **ret_redirect,
		     struct lem_error *err)
{
	for (int i = 1;; i++) {
		struct dl_info info = {.size = -1};
		struct transfer t = {
			.q = q, .info = &info, .fd = -1, .expected = -1, .if_range = ""};
		bool again;
		int r = once(&t, true, &again, err);

		if (r >= 0) {
			*ret = info;
			*ret_redirect = t.redirect;
			return r;
		}
		free(t.redirect);
		if (!again || i >= tries_of(q))
			return r;
		r = wait_before_retry(&t, i - 1, err);
		if (r < 0)
			return r;
	}
}

/* http://host:port alike. */
static bool same_origin(const char *a, const char *b)
{
	const char *host = strstr(a, "://");
	size_t n = host ? (size_t)(host + 3 - a) : 0;

	n += strcspn(a + n, "/?#");
	return strncasecmp(a, b, n) == 0 && (!b[n] || strchr("/?#", b[n]));
}

int dl_head(const struct dl_request *q, struct dl_info *ret, struct lem_error *err)
{
	_cleanup_free_ char *url = NULL;
	struct dl_request hop = *q;

	for (int i = 0;; i++) {
		char *redirect = NULL;
		struct dl_info info;
		int r = head_once(&hop, &info, &redirect, err);

		if (r < 0)
			return r;
		if (i == REDIRECTS_MAX || !redirect || info.linked_etag[0] ||
		    !same_origin(q->url, redirect)) {
			free(redirect);
			*ret = info;
			return 0;
		}
		free(url);
		hop.url = url = redirect;
	}
}

int dl_text(const struct dl_request *q, size_t max_bytes, struct str *out, struct lem_error *err)
{
	for (int i = 1;; i++) {
		_cleanup_str_ struct str text = STR_INIT;
		struct transfer t = {.q = q,
				     .text = &text,
				     .max_bytes = max_bytes,
				     .fd = -1,
				     .expected = -1,
				     .if_range = ""};
		bool again;
		int r = once(&t, false, &again, err);

		if (r >= 0) {
			str_release(out);
			*out = text;
			text = (struct str)STR_INIT;
			return 0;
		}
		if (!again || i >= tries_of(q))
			return r;
		r = wait_before_retry(&t, i - 1, err);
		if (r < 0)
			return r;
	}
}

static int finish(int fd, const char *part, struct lem_error *err)
{
	return fsync(fd) < 0 ? lem_fail_errno(err, errno, "cannot store %s", part) : 0;
}

/* One try to get the rest. 1: it is whole now, 0: not yet, and err says why. */
static int try_rest(struct transfer *t, int64_t expected, bool *ret_again, struct lem_error *err)
{
	int r;

	if (t->expected >= 0 && t->have > (uint64_t)t->expected && !restart(t))
		return lem_fail_errno(err, t->write_errno, "cannot store the download");
	if (expected >= 0 && t->have == (uint64_t)expected)
		return 1;
	r = once(t, false, ret_again, err);
	if (r >= 0 && (expected < 0 || t->have + t->got == (uint64_t)expected))
		return 1;
	/* nothing of this part can be continued */
	if (r < 0 && (t->wrong_range || t->status == 416) && !restart(t))
		return lem_fail_errno(err, t->write_errno, "cannot store the download");
	if (r < 0)
		return *ret_again ? 0 : r;
	*ret_again = true;
	lem_fail(err, LEM_E_IO, "the server ended the file after %" PRIu64 " of %" PRId64 " bytes",
		 t->have + t->got, expected);
	lem_error_where(err, "%s", t->q->url);
	return 0;
}

int dl_file(const struct dl_request *q, const char *part, int64_t expected_size,
	    struct lem_error *err)
{
	_cleanup_fd_ int fd = open(part, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
	char etag[ETAG_BYTES] = "";
	struct lem_error own;
	uint64_t furthest = 0;

	if (fd < 0)
		return lem_fail_errno(err, errno, "cannot create %s", part);
	err = err ? err : &own;
	for (int failures = 0;;) {
		off_t have = lseek(fd, 0, SEEK_END);
		struct transfer t = {.q = q,
				     .fd = fd,
				     .have = (uint64_t)MAX(have, (off_t)0),
				     .expected = expected_size,
				     .if_range = etag};
		bool again = false;
		int r = try_rest(&t, expected_size, &again, err);

		if (r == 1)
			return finish(fd, part, err);
		if (r < 0)
			return r;
		if (t.got)
			lem_strlcpy(etag, t.etag, sizeof(etag));
		/* progress earns new tries, but not the same bytes over again */
		failures = t.have + t.got > furthest ? 1 : failures + 1;
		furthest = MAX(furthest, t.have + t.got);
		if (failures >= tries_of(q))
			return -(int)err->code;
		r = wait_before_retry(&t, failures - 1, err);
		if (r < 0)
			return r;
	}
}
