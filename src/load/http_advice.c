/* What a user can do about each way in which a request fails. */
#include "base/num.h"
#include "load/http_impl.h"

static const char *of_status(int32_t status)
{
	switch (status) {
	case 401:
	case 403:
		return "the server wants a key: export it, and name the variable in "
		       "openai.api_key_env";
	case 404:
		return "check the address (most servers' ends in /v1) and model_name; the server's "
		       "/v1/models lists the names it knows";
	case 408: return "the server gave up waiting; its log may say for what";
	case 413: return "the prompts are too long for the server: lower max_input_tokens";
	default:
		return "the server refuses the request as it is: compare max_input_tokens + "
		       "max_output_tokens with its context length, and openai.extra_body with "
		       "what it knows";
	}
}

static const char *of_class(enum http_load_failure f, int32_t status)
{
	switch (f) {
	case HTTP_LOAD_CONNECT:
		return "see whether the server still runs and listens there: ss -ltnp";
	case HTTP_LOAD_TLS:
		return "give the server a certificate for this name that this host trusts, or set "
		       "openai.tls_verify: false";
	case HTTP_LOAD_RESET:
	case HTTP_LOAD_CLOSED_EARLY:
		return "the server's log should say why it gave up; a proxy in between may cut "
		       "long answers too";
	case HTTP_LOAD_BAD_HTTP:
		return "something else than an HTTP/1.1 server listens at this port: check the "
		       "address";
	case HTTP_LOAD_REDIRECT:
		return "lem follows no redirects: write the address that it points to (curl -i "
		       "shows it), https:// perhaps";
	case HTTP_LOAD_429:
		return "lower traffic.rate or traffic.concurrency, or raise the server's limit";
	case HTTP_LOAD_4XX: return of_status(status);
	case HTTP_LOAD_5XX:
	case HTTP_LOAD_ERROR_BODY: return "the server's own log has the cause";
	case HTTP_LOAD_BAD_BODY:
		return "perhaps it is no OpenAI-compatible server, or a proxy answers for it: look "
		       "at the answer with curl";
	case HTTP_LOAD_TOO_LONG:
		return "the server does not stop at max_tokens: see what it sends with curl";
	case HTTP_LOAD_ENDED_EARLY: return "the server's log should say why it stopped";
	case HTTP_LOAD_EMPTY:
		return "the model may end at once: set min_output_tokens = max_output_tokens, "
		       "which forces the length";
	default: return "";
	}
}

void http_load_advise(struct lem_error *err, enum http_load_failure f, int32_t status,
		      int64_t timeout_ns)
{
	char limit[24];

	if (f == HTTP_LOAD_TIMEOUT)
		(void)lem_error_fix(err,
				    "if the server is that slow, raise request_timeout_sec (now "
				    "%s); if it stalled, its log may say why",
				    num_format_duration(timeout_ns, limit, sizeof(limit)));
	else
		(void)lem_error_fix(err, "%s", of_class(f, status));
}
