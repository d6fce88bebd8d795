#include "gpu/proof.h"

#include <jansson.h>

#include "base/str.h"
#include "gpu/id.h"

enum { MAX_DEVICES = 64, MAX_LISTED = 6, SHORT_UUID = 12 };

/* ---- reading ---- */

/* What the probe could not do, in the words of the catalogue. */
static const struct explanation {
	int status;
	const char *id, *meaning, *fix;
} explanations[] = {
	{-1, "R03", "the driver's library is not where the engine runs",
	 "give it the GPUs through CDI or the nvidia runtime: `lem doctor` says what is missing"},
	{-3, NULL, "CUDA did not start in time",
	 "see `dmesg` for an Xid, and `lem doctor`; a larger LEM_GPUPROBE_TIMEOUT_S waits longer"},
	{3, NULL, "CUDA could not start", "see `dmesg` for an Xid, and `lem doctor`"},
	{35, "R25", "the image's CUDA is newer than the driver",
	 "choose an image for an older CUDA, or update the driver"},
	{100, NULL, "CUDA sees no GPU there",
	 "check that the GPU is free to be opened (device nodes, cgroup): `lem doctor`"},
	{101, "R06", "CUDA_VISIBLE_DEVICES names a GPU twice", "name each GPU once"},
	{802, "R18", "the fabric manager is not running or is not the driver's version",
	 "start the nvidia-fabricmanager of the driver's version"},
	{803, "R24", "the CUDA library and the kernel's driver are of different versions",
	 "reboot, or reload the nvidia modules"},
	{999, NULL, "CUDA could not start", "see `dmesg` for an Xid, and `lem doctor`"},
};

static const char *get_string(const json_t *object, const char *key)
{
	const char *s = json_string_value(json_object_get(object, key));

	return s ? s : "";
}

static int explain_error(const json_t *doc, struct lem_error *err)
{
	int status = (int)json_integer_value(json_object_get(doc, "status"));
	const json_t *visible = json_object_get(doc, "cuda_visible_devices");
	const struct explanation *x = NULL;
	char code[16] = "";

	for (size_t i = 0; i < ARRAY_LEN(explanations) && !x; i++)
		if (explanations[i].status == status)
			x = &explanations[i];
	if (status >= 0) /* CUDA's; the probe's own numbers tell nobody anything */
		(void)snprintf(code, sizeof(code), " (%d)", status);
	(void)lem_fail(err, LEM_E_ROUTING,
		       "the GPUs could not be asked for where the engine runs: %.200s%s",
		       get_string(doc, "error"), code);
	if (!x)
		return -LEM_E_ROUTING;
	(void)lem_error_why(err, "%s%s%s%s%.100s", x->id ? x->id : "", x->id ? ": " : "",
			    x->meaning, json_is_string(visible) ? "; CUDA_VISIBLE_DEVICES=" : "",
			    json_is_string(visible) ? json_string_value(visible) : "");
	return lem_error_fix(err, "%s", x->fix);
}

static int parse_devices(const json_t *list, struct arena *a, struct gpu_observed **ret,
			 size_t *ret_n, struct lem_error *err)
{
	size_t n = json_array_size(list);
	struct gpu_observed *devices;

	if (!json_is_array(list) || n > MAX_DEVICES)
		return lem_fail(err, LEM_E_PARSE,
				"lem-gpuprobe printed no list of at most %d devices", MAX_DEVICES);
	devices = arena_array(a, n + 1, sizeof(*devices));
	for (size_t i = 0; i < n; i++) {
		const json_t *d = json_array_get(list, i);
		const char *uuid = get_string(d, "uuid"), *pci = get_string(d, "pci_bus_id");

		if (!*uuid || strlen(uuid) >= sizeof(devices->uuid) ||
		    strlen(pci) >= sizeof(devices->pci_bus_id))
			return lem_fail(err, LEM_E_PARSE,
					"lem-gpuprobe printed a device %zu without a UUID", i);
		lem_strlcpy(devices[i].uuid, uuid, sizeof(devices[i].uuid));
		lem_strlcpy(devices[i].pci_bus_id, pci, sizeof(devices[i].pci_bus_id));
	}
	*ret = devices;
	*ret_n = n;
	return 0;
}

/* The first document of the probe in the text; NULL: none. */
static json_t *find_document(const char *text)
{
	static const char start[] = "{\"lem_gpuprobe\"";

	for (const char *p = strstr(text, start); p; p = strstr(p + 1, start)) {
		json_t *doc = json_loads(p, JSON_DISABLE_EOF_CHECK, NULL);

		if (doc)
			return doc;
	}
	return NULL;
}

static int fail_silent(const char *text, struct lem_error *err)
{
	const char *end = text + strlen(text), *line;

	while (end > text && strchr(" \t\r\n", end[-1]))
		end--;
	for (line = end; line > text && line[-1] != '\n'; line--)
		;
	(void)lem_fail(err, LEM_E_PARSE, "lem-gpuprobe did not say which GPUs it sees");
	if (line == end)
		return lem_error_why(err, "it printed nothing");
	return lem_error_why(err, "the last line printed: %.*s", (int)MIN(end - line, 200L), line);
}

int gpu_proof_parse(const char *text, struct arena *a, struct gpu_observed **ret, size_t *ret_n,
		    struct lem_error *err)
{
	json_t *doc = find_document(text);
	int r;

	if (!doc)
		return fail_silent(text, err);
	if (json_integer_value(json_object_get(doc, "lem_gpuprobe")) != 1)
		r = lem_fail(err, LEM_E_PARSE, "lem-gpuprobe is not of this version of lem");
	else if (json_object_get(doc, "error"))
		r = explain_error(doc, err);
	else
		r = parse_devices(json_object_get(doc, "devices"), a, ret, ret_n, err);
	json_decref(doc);
	return r;
}

/* ---- comparing ---- */

static bool same_pci(const char *a, const char *b)
{
	struct gpu_id x, y;

	return gpu_id_parse(a, &x, NULL) == 0 && gpu_id_parse(b, &y, NULL) == 0 &&
	       x.kind == GPU_ID_PCI && y.kind == GPU_ID_PCI && str_eq(x.text, y.text);
}

static bool is_same(const struct gpu_ref *asked, const struct gpu_observed *seen)
{
	if (strcasecmp(asked->uuid, seen->uuid) == 0)
		return true;
	return str_starts(asked->uuid, "MIG-") && !str_starts(seen->uuid, "MIG-") &&
	       same_pci(asked->pci_bus_id, seen->pci_bus_id);
}

static bool is_seen(const struct gpu_ref *asked, const struct gpu_observed *seen, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (is_same(asked, &seen[i]))
			return true;
	return false;
}

static const struct gpu_ref *find_asked(const struct gpu_binding *b,
					const struct gpu_observed *seen)
{
	for (size_t i = 0; i < b->n; i++)
		if (is_same(&b->gpus[i], seen))
			return &b->gpus[i];
	return NULL;
}

/* A window of the list that holds its first difference, when it is too long to be shown whole. */
static size_t first_listed(size_t first_wrong, size_t n)
{
	return n <= MAX_LISTED ? 0 : MIN(first_wrong, n - MAX_LISTED);
}

/* Whole UUIDs as long as both lists fit an error's text. */
static int uuid_width(const struct gpu_binding *b, size_t n)
{
	return b->n + n <= 4 ? (int)sizeof(b->gpus->uuid) : SHORT_UUID;
}

static void list_asked(const struct gpu_binding *b, size_t from, int width, struct str *out)
{
	if (b->n == 0)
		str_add(out, "no GPU");
	for (size_t i = from; i < b->n && i < from + MAX_LISTED; i++)
		str_addf(out, "%s%zu = host GPU %d %.*s", i > from ? ", " : "", i, b->gpus[i].index,
			 width, b->gpus[i].uuid);
	if (b->n > from + MAX_LISTED)
		str_add(out, ", …");
}

static void list_seen(const struct gpu_binding *b, const struct gpu_observed *seen, size_t n,
		      size_t from, int width, struct str *out)
{
	if (n == 0)
		str_add(out, "no GPU");
	for (size_t i = from; i < n && i < from + MAX_LISTED; i++) {
		const struct gpu_ref *asked = find_asked(b, &seen[i]);

		str_addf(out, "%s%zu = %.*s", i > from ? ", " : "", i, width, seen[i].uuid);
		if (asked)
			str_addf(out, " (host GPU %d)", asked->index);
		else
			str_add(out, " (not asked for)");
	}
	if (n > from + MAX_LISTED)
		str_add(out, ", …");
}

enum difference { SAME, OTHER_ORDER, TOO_FEW, TOO_MANY, OTHERS };

static enum difference find_difference(const struct gpu_binding *b,
				       const struct gpu_observed *observed, size_t n,
				       size_t *first_wrong)
{
	size_t same = 0, n_seen = 0, n_known = 0;

	while (same < n && same < b->n && is_same(&b->gpus[same], &observed[same]))
		same++;
	*first_wrong = same;
	if (same == n && n == b->n)
		return SAME;
	for (size_t i = 0; i < b->n; i++)
		n_seen += is_seen(&b->gpus[i], observed, n) ? 1 : 0;
	for (size_t i = 0; i < n; i++)
		n_known += find_asked(b, &observed[i]) ? 1 : 0;
	if (n_seen == b->n)
		return n > b->n ? TOO_MANY : OTHER_ORDER;
	return n_known == n && n < b->n ? TOO_FEW : OTHERS;
}

int gpu_proof_compare(const struct gpu_binding *b, const struct gpu_observed *observed, size_t n,
		      struct lem_error *err)
{
	static const struct {
		const char *what, *fix;
	} texts[] = {
		[OTHER_ORDER] = {"the engine sees the GPUs asked for in another order",
				 "let nothing else set CUDA_VISIBLE_DEVICES or CUDA_DEVICE_ORDER "
				 "in the image or its entry point"},
		[TOO_FEW] = {"the engine does not see all GPUs asked for",
			     "see `lem doctor`: a device is missing where the engine runs, or "
			     "CUDA_VISIBLE_DEVICES hides it"},
		[TOO_MANY] = {"the engine sees more GPUs than were asked for",
			      "remove privileged mode, `count: all` and the like (R01, R02)"},
		[OTHERS] = {"the engine does not see the GPUs asked for",
			    "see `lem doctor`; privileged mode (R01), `count` (R02) and host "
			    "indices used inside a container (R04) do this"},
	};
	_cleanup_str_ struct str asked = STR_INIT, seen = STR_INIT;
	int width = uuid_width(b, n);
	size_t first_wrong;
	enum difference d = find_difference(b, observed, n, &first_wrong);

	if (d == SAME)
		return 0;
	list_asked(b, first_listed(first_wrong, b->n), width, &asked);
	list_seen(b, observed, n, first_listed(first_wrong, n), width, &seen);
	(void)lem_fail(err, LEM_E_ROUTING, "%s", texts[d].what);
	(void)lem_error_why(err, "asked for: %s; the engine sees: %s", str_c(&asked), str_c(&seen));
	return lem_error_fix(err, "%s", texts[d].fix);
}
