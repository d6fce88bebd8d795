#include "sys/curl.h"

#include <dlfcn.h>

static const struct {
	const char *name;
	size_t offset;
} symbols[] = {
	{"curl_easy_init", offsetof(struct curl_api, easy_init)},
	{"curl_easy_setopt", offsetof(struct curl_api, easy_setopt)},
	{"curl_easy_perform", offsetof(struct curl_api, easy_perform)},
	{"curl_easy_getinfo", offsetof(struct curl_api, easy_getinfo)},
	{"curl_easy_cleanup", offsetof(struct curl_api, easy_cleanup)},
	{"curl_easy_strerror", offsetof(struct curl_api, easy_strerror)},
	{"curl_slist_append", offsetof(struct curl_api, slist_append)},
	{"curl_slist_free_all", offsetof(struct curl_api, slist_free_all)},
	{"curl_easy_reset", offsetof(struct curl_api, easy_reset)},
	{"curl_multi_init", offsetof(struct curl_api, multi_init)},
	{"curl_multi_cleanup", offsetof(struct curl_api, multi_cleanup)},
	{"curl_multi_add_handle", offsetof(struct curl_api, multi_add_handle)},
	{"curl_multi_remove_handle", offsetof(struct curl_api, multi_remove_handle)},
	{"curl_multi_perform", offsetof(struct curl_api, multi_perform)},
	{"curl_multi_poll", offsetof(struct curl_api, multi_poll)},
	{"curl_multi_info_read", offsetof(struct curl_api, multi_info_read)},
};

const struct curl_api *curl_api(struct lem_error *err)
{
	static struct curl_api api; /* loaded once in the life of the process */
	static void *handle;
	struct curl_api found;

	if (handle)
		return &api;
	void *h = dlopen("libcurl.so.4", RTLD_NOW);

	for (size_t i = 0; i < ARRAY_LEN(symbols); i++) {
		void *p = h ? dlsym(h, symbols[i].name) : NULL;

		if (!p) {
			lem_fail(err, LEM_E_UNSUPPORTED, "libcurl cannot be loaded: %s", dlerror());
			lem_error_fix(err, "install it: apt-get install libcurl4");
			if (h)
				dlclose(h);
			return NULL;
		}
		memcpy((char *)&found + symbols[i].offset, &p, sizeof(p));
	}
	api = found;
	handle = h;
	return &api;
}
