#include "gpu/id.h"

#include <ctype.h>

#include "base/num.h"
#include "base/str.h"

enum { MIN_UUID_HEX = 8 }; /* shorter prefixes are typing accidents, routing.md section 12 */

static size_t hex_prefix(const char *s)
{
	size_t n = 0;

	while (isxdigit((unsigned char)s[n]))
		n++;
	return n;
}

static size_t count_hex(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += isxdigit((unsigned char)*s) ? 1 : 0;
	return n;
}

static bool parse_index(const char *s, int *ret)
{
	int64_t v;

	/* "01" and "+1" are CUDA accidents, not indices. */
	if (!isdigit((unsigned char)s[0]) || (s[0] == '0' && s[1]) || !num_parse_i64(s, &v) ||
	    v > 100000)
		return false;
	*ret = (int)v;
	return true;
}

static bool is_uuid_text(const char *s)
{
	return s[strspn(s, "0123456789abcdefABCDEF-")] == '\0' && count_hex(s) >= MIN_UUID_HEX &&
	       strlen(s) <= 36;
}

/* One hexadecimal number of 1 to max digits, ended by `end`. Steps over the end. */
static bool take_hex(const char **s, size_t max, char end, unsigned *ret)
{
	size_t n = hex_prefix(*s);

	if (n == 0 || n > max || (*s)[n] != end)
		return false;
	*ret = (unsigned)strtoul(*s, NULL, 16);
	*s += n + (end ? 1 : 0);
	return true;
}

static bool parse_pci(const char *s, char *buf, size_t size)
{
	unsigned domain = 0, bus, device, function;
	const char *p = s, *colon = strchr(s, ':');

	if (!colon || (strchr(colon + 1, ':') && !take_hex(&p, 8, ':', &domain)))
		return false;
	if (!take_hex(&p, 2, ':', &bus) || !take_hex(&p, 2, '.', &device) ||
	    !take_hex(&p, 1, '\0', &function))
		return false;
	(void)snprintf(buf, size, "%08x:%02x:%02x.%x", domain, bus, device, function);
	return true;
}

static bool parse_forms(const char *text, struct gpu_id *id)
{
	if (parse_index(text, &id->index)) {
		id->kind = GPU_ID_INDEX;
		return true;
	}
	if (str_starts(text, "host:")) {
		id->kind = GPU_ID_HOST_INDEX;
		return parse_index(text + 5, &id->index);
	}
	if (str_starts(text, "MIG-")) {
		id->kind = GPU_ID_MIG;
		return lem_strlcpy(id->text, text, sizeof(id->text)) < sizeof(id->text);
	}
	if (str_starts(text, "GPU-")) {
		id->kind = GPU_ID_UUID;
		return is_uuid_text(text + 4) &&
		       lem_strlcpy(id->text, text, sizeof(id->text)) < sizeof(id->text);
	}
	id->kind = GPU_ID_PCI;
	return parse_pci(text, id->text, sizeof(id->text));
}

int gpu_id_parse(const char *text, struct gpu_id *ret, struct lem_error *err)
{
	struct gpu_id id = {0};

	if (!parse_forms(text, &id)) {
		(void)lem_fail(err, LEM_E_USAGE, "`%.80s` does not name a GPU", text);
		return lem_error_fix(err,
				     "write an index (0), a UUID or at least %d hex digits of one "
				     "(GPU-1a2b3c4d), a PCI bus id (0000:65:00.0) or host:INDEX",
				     MIN_UUID_HEX);
	}
	*ret = id;
	return 0;
}

/* The GPUs that this shell may use, in its own order: indices into the inventory. */
struct allowed {
	size_t *at;
	size_t n;
};

static bool same_pci(const char *a, const char *b)
{
	char x[40], y[40];

	return parse_pci(a, x, sizeof(x)) && parse_pci(b, y, sizeof(y)) && strcmp(x, y) == 0;
}

/* Position in the inventory of a UUID prefix or PCI id; -1 none, -2 several. */
static int find_named(const struct gpu_inventory *inv, const struct gpu_id *id)
{
	int found = -1;

	for (size_t i = 0; i < inv->n; i++) {
		const struct gpu_device *g = &inv->gpus[i];
		bool hit = id->kind == GPU_ID_PCI ? same_pci(g->pci_bus_id, id->text)
						  : *g->uuid && strncasecmp(g->uuid, id->text,
									    strlen(id->text)) == 0;

		if (hit && found >= 0)
			return -2;
		if (hit)
			found = (int)i;
	}
	return found;
}

/* "0 = GPU-1a2b3c4d, 1 = …", as the config's indices count. */
static void list_allowed(const struct gpu_inventory *inv, const struct allowed *a, struct str *out)
{
	for (size_t i = 0; i < a->n && i < 16; i++)
		str_addf(out, "%s%zu = %.12s", i ? ", " : "", i, inv->gpus[a->at[i]].uuid);
	if (a->n > 16)
		str_add(out, ", …");
}

static int fail_absent(const struct gpu_inventory *inv, const struct allowed *a, const char *item,
		       struct lem_error *err)
{
	_cleanup_str_ struct str s = STR_INIT;

	list_allowed(inv, a, &s);
	(void)lem_fail(err, LEM_E_REFUSED, "gpus lists %.80s, but there %s %zu GPU%s here", item,
		       a->n == 1 ? "is" : "are", a->n, a->n == 1 ? "" : "s");
	if (a->n == 0)
		return lem_error_fix(err,
				     "write gpus: [] to run on the CPU, or run where the GPU is");
	return lem_error_fix(err, "use one of: %s", str_c(&s));
}

static bool is_allowed(const struct allowed *a, size_t v)
{
	for (size_t i = 0; i < a->n; i++)
		if (a->at[i] == v)
			return true;
	return false;
}

static int fail_outside(const struct gpu_inventory *inv, const struct allowed *a, const char *item,
			struct lem_error *err)
{
	_cleanup_str_ struct str s = STR_INIT;

	list_allowed(inv, a, &s);
	(void)lem_fail(err, LEM_E_REFUSED,
		       "gpus lists %.80s, which CUDA_VISIBLE_DEVICES hides from this shell", item);
	return lem_error_fix(err, "use one of: %s; or unset CUDA_VISIBLE_DEVICES", str_c(&s));
}

static int check_usable(const struct gpu_device *g, const char *item, struct lem_error *err)
{
	if (*g->problem) {
		(void)lem_fail(err, LEM_E_REFUSED, "GPU %d (gpus: %.80s) cannot be used: %s",
			       g->index, item, g->problem);
		return *g->fix ? lem_error_fix(err, "%s", g->fix) : -LEM_E_REFUSED;
	}
	if (g->mig) {
		(void)lem_fail(err, LEM_E_REFUSED, "GPU %d (gpus: %.80s) is split by MIG", g->index,
			       item);
		(void)lem_error_why(err,
				    "power and energy exist only for the whole card, so the energy "
				    "of one instance cannot be told");
		return lem_error_fix(err,
				     "use another GPU, or switch MIG off: nvidia-smi -i %d -mig 0",
				     g->index);
	}
	return 0;
}

static int resolve_one(const struct gpu_inventory *inv, const struct allowed *a, const char *item,
		       size_t *ret, struct lem_error *err)
{
	struct gpu_id id;
	int v, r = gpu_id_parse(item, &id, err);

	if (r < 0)
		return r;
	if (id.kind == GPU_ID_MIG) {
		(void)lem_fail(err, LEM_E_REFUSED, "%.80s is a MIG instance", item);
		return lem_error_fix(err,
				     "name a whole GPU: energy of one instance cannot be told");
	}
	if (id.kind == GPU_ID_INDEX)
		v = (size_t)id.index < a->n ? (int)a->at[id.index] : -1;
	else if (id.kind == GPU_ID_HOST_INDEX)
		v = (size_t)id.index < inv->n ? id.index : -1;
	else
		v = find_named(inv, &id);
	if (v == -2) {
		(void)lem_fail(err, LEM_E_REFUSED, "%.80s fits more than one GPU", item);
		return lem_error_fix(err, "write more digits of the UUID");
	}
	if (v < 0)
		return fail_absent(inv, a, item, err);
	if (!is_allowed(a, (size_t)v))
		return fail_outside(inv, a, item, err);
	*ret = (size_t)v;
	return check_usable(&inv->gpus[v], item, err);
}

static int fail_cvd(const char *cvd, const char *item, const char *why, struct lem_error *err)
{
	(void)lem_fail(err, LEM_E_REFUSED, "CUDA_VISIBLE_DEVICES=\"%.120s\": item \"%.60s\" %s",
		       cvd, item, why);
	(void)lem_error_why(err, "CUDA would silently use only the GPUs before it, or none");
	return lem_error_fix(err,
			     "unset it, or write distinct indices (0,1) or distinct full UUIDs");
}

static int add_visible(const struct gpu_inventory *inv, const char *cvd, const char *item,
		       bool *by_uuid, struct allowed *a, struct lem_error *err)
{
	struct gpu_id id;
	int v;

	if (gpu_id_parse(item, &id, NULL) < 0 ||
	    (id.kind != GPU_ID_INDEX && id.kind != GPU_ID_UUID))
		return fail_cvd(cvd, item, "is not an index or a GPU UUID", err);
	if (a->n && *by_uuid != (id.kind == GPU_ID_UUID))
		return fail_cvd(cvd, item, "mixes indices and UUIDs", err);
	*by_uuid = id.kind == GPU_ID_UUID;
	v = *by_uuid ? find_named(inv, &id) : (size_t)id.index < inv->n ? id.index : -1;
	if (v < 0)
		return fail_cvd(cvd, item,
				v == -2 ? "fits more than one GPU" : "is not on this machine", err);
	if (is_allowed(a, (size_t)v))
		return fail_cvd(cvd, item, "names a GPU twice", err);
	a->at[a->n++] = (size_t)v;
	return 0;
}

static int read_visible(const struct gpu_inventory *inv, const char *cvd, struct arena *arena,
			struct allowed *a, struct lem_error *err)
{
	bool by_uuid = false;

	a->at = arena_array(arena, inv->n + 1, sizeof(*a->at));
	a->n = 0;
	if (!cvd) {
		while (a->n < inv->n) {
			a->at[a->n] = a->n;
			a->n++;
		}
		return 0;
	}
	if (!*cvd) {
		(void)lem_fail(err, LEM_E_REFUSED,
			       "CUDA_VISIBLE_DEVICES is empty: this shell may use no GPU");
		return lem_error_fix(err, "unset it, or write gpus: [] to run on the CPU");
	}
	for (const char *p = cvd; p;) {
		size_t n = strcspn(p, ",");
		_cleanup_free_ char *item = lem_strndup(p, n);
		int r = add_visible(inv, cvd, item, &by_uuid, a, err);

		if (r < 0)
			return r;
		p = p[n] ? p + n + 1 : NULL;
	}
	return 0;
}

static void fill_ref(const struct gpu_device *g, const char *item, size_t position,
		     struct gpu_ref *ref)
{
	lem_strlcpy(ref->requested, item, sizeof(ref->requested));
	lem_strlcpy(ref->uuid, g->uuid, sizeof(ref->uuid));
	lem_strlcpy(ref->card_uuid, g->uuid, sizeof(ref->card_uuid));
	lem_strlcpy(ref->pci_bus_id, g->pci_bus_id, sizeof(ref->pci_bus_id));
	lem_strlcpy(ref->name, g->name, sizeof(ref->name));
	ref->index = g->index;
	ref->container_index = (int)position;
	ref->memory_bytes = g->memory_bytes;
}

int gpu_resolve(const struct gpu_inventory *inv, const char *const *items, size_t n,
		const char *cuda_visible_devices, struct arena *a, struct gpu_binding *ret,
		struct lem_error *err)
{
	struct gpu_binding b = {.n = n};
	struct allowed allowed;
	int r;

	lem_strlcpy(b.path, n ? "process" : "none", sizeof(b.path));
	if (n == 0) { /* the CPU needs no allocation */
		*ret = b;
		return 0;
	}
	r = read_visible(inv, cuda_visible_devices, a, &allowed, err);
	if (r < 0)
		return r;
	b.gpus = arena_array(a, n, sizeof(*b.gpus));
	for (size_t i = 0; i < n; i++) {
		size_t v = 0;

		r = resolve_one(inv, &allowed, items[i], &v, err);
		if (r < 0)
			return r;
		for (size_t k = 0; k < i; k++) {
			if (!str_eq(b.gpus[k].uuid, inv->gpus[v].uuid))
				continue;
			(void)lem_fail(err, LEM_E_REFUSED,
				       "gpus lists GPU %d (%.12s) twice: %s and %s",
				       inv->gpus[v].index, inv->gpus[v].uuid, items[k], items[i]);
			return lem_error_fix(err, "name each GPU once");
		}
		fill_ref(&inv->gpus[v], items[i], i, &b.gpus[i]);
	}
	*ret = b;
	return 0;
}
