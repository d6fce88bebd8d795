/*
 * curl.h — libcurl, loaded when it is first needed.
 *
 * Linking it costs every command about 4 ms at start (it brings 30 libraries), which is most of
 * what `lem --version` may take; only downloads and Docker need it. So it is opened by name, and
 * absence is an ordinary error.
 */
#ifndef LEM_SYS_CURL_H
#define LEM_SYS_CURL_H

#define CURL_DISABLE_TYPECHECK
#include <curl/curl.h>

#include "base/error.h"

struct curl_api {
	CURL *(*easy_init)(void);
	CURLcode (*easy_setopt)(CURL *, CURLoption, ...);
	CURLcode (*easy_perform)(CURL *);
	CURLcode (*easy_getinfo)(CURL *, CURLINFO, ...);
	void (*easy_cleanup)(CURL *);
	void (*easy_reset)(CURL *);
	const char *(*easy_strerror)(CURLcode);
	struct curl_slist *(*slist_append)(struct curl_slist *, const char *);
	void (*slist_free_all)(struct curl_slist *);
	CURLM *(*multi_init)(void);
	CURLMcode (*multi_cleanup)(CURLM *);
	CURLMcode (*multi_add_handle)(CURLM *, CURL *);
	CURLMcode (*multi_remove_handle)(CURLM *, CURL *);
	CURLMcode (*multi_perform)(CURLM *, int *running);
	CURLMcode (*multi_poll)(CURLM *, struct curl_waitfd *, unsigned n, int timeout_ms,
				int *ret);
	CURLMsg *(*multi_info_read)(CURLM *, int *left);
};

/* The table, or NULL with LEM_E_UNSUPPORTED that names the package to install. One thread. */
const struct curl_api *curl_api(struct lem_error *err);

#endif
