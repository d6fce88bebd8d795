#include "sys/dl.h"

#include <fcntl.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "sys/curl.h"

enum { CONNECT_TIMEOUT_S = 30, STALL_TIMEOUT_S = 60, TRIES = 5, REDIRECTS_MAX = 8 };

/* One transfer's destination and state; the callbacks of libcurl get it. */
struct transfer {
	const struct dl_request *q;
	struct dl_info *info;
	struct str *text;
	size_t max_bytes;
	int fd;        /* -1: into text */
	uint64_t have; /* bytes in the file before this transfer */
	uint64_t got;
	bool too_large, cancelled, ignored_range;
	int write_errno;
	CURL *easy;
	const struct curl_api *api;
};

static bool header_value(const char *line, size_t n, const char *name, char *buf, size_t size)
{
	size_t k = strlen(name);

	if (n <= k || strncasecmp(line, name, k) != 0)
		return false;
	line += k;
	n -= k;
	while (n && strchr(" \t\"W/", line[0]) && (line[0] != 'W' || (n > 1 && line[1] == '/'))) {
		line++;
		n--;
	}
	size_t keep = 0;

	while (keep < n && keep + 1 < size && !strchr("\"\r\n", line[keep]))
		keep++;
	memcpy(buf, line, keep);
	buf[keep] = '\0';
	return true;
}

static size_t on_header(char *line, size_t size, size_t n, void *arg)
{
	struct transfer *t = arg;
	char number[32];

	n *= size;
	if (t->info) {
		header_value(line, n, "etag:", t->info->etag, sizeof(t->info->etag));
		header_value(line, n, "x-linked-etag:", t->info->linked_etag,
			     sizeof(t->info->linked_etag));
		if (header_value(line, n, "x-linked-size:", number, sizeof(number)))
			t->info->size = strtoll(number, NULL, 10);
	}
	return n;
}

static size_t into_file(struct transfer *t, const char *p, size_t n)
{
	long status = 0;

	t->api->easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
	if (status == 200 && t->have) { /* the server sends the whole again */
		t->ignored_range = true;
		t->have = 0;
		if (ftruncate(t->fd, 0) < 0 || lseek(t->fd, 0, SEEK_SET) < 0)
			return 0;
	}
	if (status != 200 && status != 206)
		return n; /* the body of an error */
	for (size_t done = 0; done < n;) {
		ssize_t k = write(t->fd, p + done, n - done);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0) {
			t->write_errno = errno;
			return 0;
		}
		done += (size_t)k;
	}
	t->got += n;
	return n;
}

static size_t on_body(char *p, size_t size, size_t n, void *arg)
{
	struct transfer *t = arg;

	n *= size;
	if (t->fd >= 0)
		return into_file(t, p, n);
	if (!t->text || t->text->len + n > t->max_bytes) {
		t->too_large = t->text != NULL;
		return t->text ? 0 : n;
	}
	str_addn(t->text, p, n);
	return n;
}

static int on_progress(void *arg, curl_off_t total, curl_off_t now, curl_off_t up_total,
		       curl_off_t up)
{
	struct transfer *t = arg;

	(void)up_total;
	(void)up;
	if (t->q->progress && !t->q->progress(t->q->arg, t->have + (uint64_t)now,
					      total ? t->have + (uint64_t)total : 0))
		t->cancelled = true;
	return t->cancelled;
}

static void set_options(struct transfer *t, bool follow, bool head)
{
	const struct curl_api *c = t->api;
	CURL *e = t->easy;

	c->easy_setopt(e, CURLOPT_URL, t->q->url);
	c->easy_setopt(e, CURLOPT_USERAGENT, "lem/" LEM_VERSION);
	c->easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	c->easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
	c->easy_setopt(e, CURLOPT_FOLLOWLOCATION, follow ? 1L : 0L);
	c->easy_setopt(e, CURLOPT_MAXREDIRS, (long)REDIRECTS_MAX);
	c->easy_setopt(e, CURLOPT_NOBODY, head ? 1L : 0L);
	c->easy_setopt(e, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_TIMEOUT_S);
	c->easy_setopt(e, CURLOPT_LOW_SPEED_LIMIT, 1L);
	c->easy_setopt(e, CURLOPT_LOW_SPEED_TIME, (long)STALL_TIMEOUT_S);
	c->easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
	c->easy_setopt(e, CURLOPT_HEADERDATA, t);
	c->easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
	c->easy_setopt(e, CURLOPT_WRITEDATA, t);
	c->easy_setopt(e, CURLOPT_XFERINFOFUNCTION, on_progress);
	c->easy_setopt(e, CURLOPT_XFERINFODATA, t);
	c->easy_setopt(e, CURLOPT_NOPROGRESS, 0L);
	if (t->have)
		c->easy_setopt(e, CURLOPT_RESUME_FROM_LARGE, (curl_off_t)t->have);
	/* libcurl drops these credentials when a redirect leaves the host */
	if (t->q->bearer) {
		c->easy_setopt(e, CURLOPT_HTTPAUTH, (long)CURLAUTH_BEARER);
		c->easy_setopt(e, CURLOPT_XOAUTH2_BEARER, t->q->bearer);
	}
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
	return -(int)code;
}

static int judge(struct transfer *t, CURLcode rc, long status, struct lem_error *err)
{
	if (t->cancelled)
		return lem_fail(err, LEM_E_INTERRUPTED, "the download was interrupted");
	if (t->write_errno)
		return lem_fail_errno(err, t->write_errno, "cannot store the download");
	if (t->too_large)
		return lem_fail(err, LEM_E_PARSE, "the answer of %s is larger than %zu bytes",
				t->q->url, t->max_bytes);
	if (rc != CURLE_OK) {
		lem_fail(err, LEM_E_IO, "the download broke: %s", t->api->easy_strerror(rc));
		return lem_error_where(err, "%s", t->q->url);
	}
	return status >= 400 ? fail_status(t->q->url, status, err) : 0;
}

/* One try. *ret_again: the failure may be passing. */
static int once(struct transfer *t, bool follow, bool head, bool *ret_again, struct lem_error *err)
{
	long status = 0;
	CURLcode rc;

	*ret_again = false;
	t->api = curl_api(err);
	if (!t->api)
		return -LEM_E_UNSUPPORTED;
	t->easy = t->api->easy_init();
	if (!t->easy)
		return lem_fail(err, LEM_E_INTERNAL, "libcurl cannot start");
	set_options(t, follow, head);
	rc = t->api->easy_perform(t->easy);
	t->api->easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
	if (head && t->info->size < 0) {
		curl_off_t n = -1;

		t->api->easy_getinfo(t->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &n);
		t->info->size = status < 300 ? n : -1;
	}
	t->api->easy_cleanup(t->easy);
	if (t->info)
		t->info->status = status;
	*ret_again = !t->cancelled && !t->write_errno && !t->too_large &&
		     (rc != CURLE_OK || status == 429 || status >= 500);
	return judge(t, rc, status, err);
}

static int tries_of(const struct dl_request *q)
{
	return q->tries ? q->tries : TRIES;
}

static void pause_before_try(int i)
{
	clock_sleep_until_ns(clock_now_ns() + (NS_PER_S / 2 << i));
}

int dl_head(const struct dl_request *q, struct dl_info *ret, struct lem_error *err)
{
	bool again = true;
	int r = 0;

	for (int i = 0; i < tries_of(q) && again; i++) {
		struct dl_info info = {.size = -1};
		struct transfer t = {.q = q, .info = &info, .fd = -1};

		if (i)
			pause_before_try(i - 1);
		r = once(&t, false, true, &again, err);
		if (r >= 0)
			*ret = info;
	}
	return r;
}

int dl_text(const struct dl_request *q, size_t max_bytes, struct str *out, struct lem_error *err)
{
	bool again = true;
	int r = 0;

	for (int i = 0; i < tries_of(q) && again; i++) {
		struct transfer t = {.q = q, .text = out, .max_bytes = max_bytes, .fd = -1};

		if (i)
			pause_before_try(i - 1);
		str_reset(out);
		r = once(&t, true, false, &again, err);
	}
	return r;
}

int dl_file(const struct dl_request *q, const char *part, int64_t expected_size,
	    struct lem_error *err)
{
	_cleanup_fd_ int fd = open(part, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
	int r = 0, failures = 0;

	if (fd < 0)
		return lem_fail_errno(err, errno, "cannot create %s", part);
	while (failures < tries_of(q)) {
		off_t have = lseek(fd, 0, SEEK_END);
		struct transfer t = {.q = q, .fd = fd, .have = (uint64_t)MAX(have, (off_t)0)};
		bool again;

		if (expected_size >= 0 && have == expected_size)
			return fsync(fd) < 0 ? lem_fail_errno(err, errno, "cannot store %s", part)
					     : 0;
		if (expected_size >= 0 && have > expected_size && ftruncate(fd, 0) == 0)
			continue; /* a leftover of another file */
		r = once(&t, true, false, &again, err);
		if (r >= 0 && (expected_size < 0 || lseek(fd, 0, SEEK_END) >= expected_size))
			return fsync(fd) < 0 ? lem_fail_errno(err, errno, "cannot store %s", part)
					     : 0;
		if (r >= 0)
			r = lem_fail(err, LEM_E_IO, "the download of %s ended early", q->url);
		else if (!again)
			return r;
		failures = t.got ? 1 : failures + 1; /* progress earns new tries */
		if (failures < tries_of(q))
			pause_before_try(failures - 1);
	}
	return r;
}
