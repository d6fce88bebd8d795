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

/* Drivers before R470 wrote MIG-GPU-UUID/GI/CI; since then MIG-UUID. */
static bool is_mig_text(const char *s)
{
	if (!str_starts(s, "GPU-"))
		return is_uuid_text(s);
	return s[strspn(s, "GPU0123456789abcdefABCDEF-/")] == '\0' && count_hex(s) >= MIN_UUID_HEX;
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
		return is_mig_text(text + 4) &&
		       lem_strlcpy(id->text, text, sizeof(id->text)) < sizeof(id->text);
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

/* What this shell may use, in its own order. */
struct allowed {
	struct gpu_part *at;
	size_t n;
	bool outside; /* the rest of the machine too, by name */
};

enum { FOUND_NONE = -1, FOUND_SEVERAL = -2 };

/* `id` is as gpu_id_parse writes it; the driver writes the same in capitals, an old one with a
 * domain of four digits. */
static bool same_pci(const char *of_driver, const char *id)
{
	char normal[40];

	if (strlen(of_driver) == strlen(id))
		return strcasecmp(of_driver, id) == 0;
	return parse_pci(of_driver, normal, sizeof(normal)) && strcmp(normal, id) == 0;
}

/* n is the length of the id: "GPU-" and the beginning of a UUID, in any case of letters. */
static bool fits(const char *uuid, const char *id, size_t n)
{
	return *uuid && strncasecmp(uuid, id, n) == 0;
}

/* 0, or FOUND_NONE or FOUND_SEVERAL. */
static int find_mig(const struct gpu_inventory *inv, const struct gpu_id *id, struct gpu_part *ret)
{
	size_t n = strlen(id->text);
	int r = FOUND_NONE;

	for (size_t i = 0; i < inv->n; i++)
		for (size_t k = 0; k < inv->gpus[i].n_migs; k++) {
			if (!fits(inv->gpus[i].migs[k].uuid, id->text, n))
				continue;
			if (r == 0)
				return FOUND_SEVERAL;
			*ret = (struct gpu_part){i, (int)k};
			r = 0;
		}
	return r;
}

/* A UUID or the beginning of one, or a PCI bus id. As find_mig. */
static int find_named(const struct gpu_inventory *inv, const struct gpu_id *id,
		      struct gpu_part *ret)
{
	size_t n = strlen(id->text);
	int r = FOUND_NONE;

	if (id->kind == GPU_ID_MIG)
		return find_mig(inv, id, ret);
	for (size_t i = 0; i < inv->n; i++) {
		const struct gpu_device *g = &inv->gpus[i];

		if (id->kind == GPU_ID_PCI ? !same_pci(g->pci_bus_id, id->text)
					   : !fits(g->uuid, id->text, n))
			continue;
		if (r == 0)
			return FOUND_SEVERAL;
		*ret = (struct gpu_part){i, -1};
		r = 0;
	}
	return r;
}

static const char *uuid_of(const struct gpu_inventory *inv, const struct gpu_part *t)
{
	const struct gpu_device *g = &inv->gpus[t->card];

	return t->mig < 0 ? g->uuid : g->migs[t->mig].uuid;
}

/* "0 = GPU-1a2b3c4d, 1 = …", as the config's indices count; with the host's where they differ. */
static void list_allowed(const struct gpu_inventory *inv, const struct allowed *a, struct str *out)
{
	for (size_t i = 0; i < a->n && i < 16; i++) {
		int host = inv->gpus[a->at[i].card].index;

		str_addf(out, "%s%zu = %.12s", i ? ", " : "", i, uuid_of(inv, &a->at[i]));
		if (host != (int)i)
			str_addf(out, " (host:%d)", host);
	}
	if (a->n > 16)
		str_add(out, ", …");
}

static int fail_absent(const struct gpu_inventory *inv, const struct allowed *a, const char *item,
		       struct lem_error *err)
{
	_cleanup_str_ struct str s = STR_INIT;

	list_allowed(inv, a, &s);
	if (a->n < inv->n)
		(void)lem_fail(err, LEM_E_REFUSED,
			       "gpus lists %.80s, but CUDA_VISIBLE_DEVICES leaves this shell %zu "
			       "of %zu GPUs",
			       item, a->n, inv->n);
	else
		(void)lem_fail(err, LEM_E_REFUSED, "gpus lists %.80s, but there %s %zu GPU%s here",
			       item, a->n == 1 ? "is" : "are", a->n, a->n == 1 ? "" : "s");
	if (a->n == 0)
		return lem_error_fix(err,
				     "write gpus: [] to run on the CPU, or run where the GPU is");
	return lem_error_fix(err, "use one of: %s", str_c(&s));
}

/* A whole card is there with every instance of it. */
static bool is_allowed(const struct allowed *a, const struct gpu_part *t)
{
	for (size_t i = 0; i < a->n; i++)
		if (a->at[i].card == t->card && (a->at[i].mig < 0 || a->at[i].mig == t->mig))
			return true;
	return a->outside;
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

/* A GPU that is split cannot be had as a whole; its instances can, one at a time. */
static int fail_split(const struct gpu_device *g, const char *item, struct lem_error *err)
{
	_cleanup_str_ struct str s = STR_INIT;

	for (size_t i = 0; i < g->n_migs && i < 4; i++)
		str_addf(&s, "%s%s", i ? ", " : "", g->migs[i].uuid);
	if (g->n_migs > 4)
		str_addf(&s, " and %zu more ('lem gpus' lists them)", g->n_migs - 4);
	(void)lem_fail(err, LEM_E_REFUSED, "R08: GPU %d (gpus: %.80s) is split by MIG", g->index,
		       item);
	(void)lem_error_why(err,
			    "a process can use one instance of it at most, and power and energy "
			    "exist only for the whole card");
	if (g->n_migs == 0)
		return lem_error_fix(err,
				     "use another GPU, or switch MIG off: nvidia-smi -i %d -mig 0",
				     g->index);
	return lem_error_fix(err,
			     "name one instance: %s; or switch MIG off: nvidia-smi -i %d -mig 0",
			     str_c(&s), g->index);
}

static int check_usable(const struct gpu_inventory *inv, const struct gpu_part *t, const char *item,
			struct lem_error *err)
{
	const struct gpu_device *g = &inv->gpus[t->card];

	if (*g->problem) {
		(void)lem_fail(err, LEM_E_REFUSED, "GPU %d (gpus: %.80s) cannot be used: %s",
			       g->index, item, g->problem);
		return *g->fix ? lem_error_fix(err, "%s", g->fix) : -LEM_E_REFUSED;
	}
	return g->mig && t->mig < 0 ? fail_split(g, item, err) : 0;
}

static int fail_no_instance(const struct gpu_inventory *inv, const char *item,
			    struct lem_error *err)
{
	_cleanup_str_ struct str s = STR_INIT;

	for (size_t i = 0; i < inv->n; i++)
		for (size_t k = 0; k < inv->gpus[i].n_migs && s.len < 240; k++)
			str_addf(&s, "%s%s", s.len ? ", " : "", inv->gpus[i].migs[k].uuid);
	(void)lem_fail(err, LEM_E_REFUSED, "gpus lists %.80s, but no GPU has such a MIG instance",
		       item);
	if (!s.len)
		return lem_error_fix(err, "no GPU is split here; 'lem gpus' lists what there is");
	return lem_error_fix(err, "use one of: %s", str_c(&s));
}

/* The target of an item, before it is asked whether it may be used. */
static int find_item(const struct gpu_inventory *inv, const struct allowed *a,
		     const struct gpu_id *id, struct gpu_part *ret)
{
	if (id->kind == GPU_ID_INDEX) {
		if ((size_t)id->index >= a->n)
			return FOUND_NONE;
		*ret = a->at[id->index];
		return 0;
	}
	if (id->kind == GPU_ID_HOST_INDEX) {
		*ret = (struct gpu_part){(size_t)id->index, -1};
		return (size_t)id->index < inv->n ? 0 : FOUND_NONE;
	}
	return find_named(inv, id, ret);
}

static int resolve_one(const struct gpu_inventory *inv, const struct allowed *a, const char *item,
		       struct gpu_part *ret, struct lem_error *err)
{
	struct gpu_id id;
	int r = gpu_id_parse(item, &id, err);

	if (r < 0)
		return r;
	r = find_item(inv, a, &id, ret);
	if (r == FOUND_SEVERAL) {
		(void)lem_fail(err, LEM_E_REFUSED, "%.80s fits more than one GPU", item);
		return lem_error_fix(err, "write more digits of the UUID");
	}
	if (r < 0)
		return id.kind == GPU_ID_MIG ? fail_no_instance(inv, item, err)
					     : fail_absent(inv, a, item, err);
	if (!is_allowed(a, ret))
		return fail_outside(inv, a, item, err);
	return check_usable(inv, ret, item, err);
}

static int fail_cvd(const char *cvd, const char *item, const char *why, struct lem_error *err)
{
	(void)lem_fail(err, LEM_E_REFUSED,
		       "R05: CUDA_VISIBLE_DEVICES=\"%.120s\": item \"%.60s\" %s", cvd, item, why);
	(void)lem_error_why(err, "CUDA would silently use only the GPUs before it, or none");
	return lem_error_fix(err,
			     "unset it, or write distinct indices (0,1) or distinct full UUIDs");
}

/* CUDA stops at the first item of another form than the first one. */
enum cvd_form { CVD_INDEX, CVD_UUID };

static int add_visible(const struct gpu_inventory *inv, const char *cvd, const char *item,
		       enum cvd_form *form, struct allowed *a, struct lem_error *err)
{
	enum cvd_form own;
	struct gpu_part t;
	struct gpu_id id;
	int r;

	if (gpu_id_parse(item, &id, NULL) < 0 ||
	    (id.kind != GPU_ID_INDEX && id.kind != GPU_ID_UUID && id.kind != GPU_ID_MIG))
		return fail_cvd(cvd, item, "is not an index or a GPU UUID", err);
	own = id.kind == GPU_ID_INDEX ? CVD_INDEX : CVD_UUID;
	if (a->n && *form != own)
		return fail_cvd(cvd, item, "mixes indices and UUIDs", err);
	*form = own;
	if (own == CVD_INDEX) {
		t = (struct gpu_part){(size_t)id.index, -1};
		r = (size_t)id.index < inv->n ? 0 : FOUND_NONE;
	} else {
		r = find_named(inv, &id, &t);
	}
	if (r < 0)
		return fail_cvd(cvd, item,
				r == FOUND_SEVERAL ? "fits more than one GPU"
						   : "is not on this machine",
				err);
	for (size_t i = 0; i < a->n; i++)
		if (a->at[i].card == t.card && a->at[i].mig == t.mig)
			return fail_cvd(cvd, item, "names a GPU twice", err);
	a->at[a->n++] = t;
	return 0;
}

static size_t count_targets(const struct gpu_inventory *inv)
{
	size_t n = inv->n;

	for (size_t i = 0; i < inv->n; i++)
		n += inv->gpus[i].n_migs;
	return n;
}

/* Items that are longer than any id are no ids. */
static int read_items(const struct gpu_inventory *inv, const char *cvd, struct allowed *a,
		      struct lem_error *err)
{
	enum cvd_form form = CVD_INDEX;

	for (const char *p = cvd; p;) {
		size_t n = strcspn(p, ",");
		char item[128];
		int r;

		(void)snprintf(item, sizeof(item), "%.*s", (int)MIN(n, sizeof(item)), p);
		r = add_visible(inv, cvd, item, &form, a, err);
		if (r < 0)
			return r;
		p = p[n] ? p + n + 1 : NULL;
	}
	return 0;
}

static int read_visible(const struct gpu_inventory *inv, const char *cvd, struct arena *arena,
			struct allowed *a, struct lem_error *err)
{
	a->at = arena_array(arena, count_targets(inv) + 1, sizeof(*a->at));
	a->n = 0;
	if (!cvd) {
		for (; a->n < inv->n; a->n++)
			a->at[a->n] = (struct gpu_part){a->n, -1};
		return 0;
	}
	if (*cvd)
		return read_items(inv, cvd, a, err);
	if (a->outside)
		return 0;
	(void)lem_fail(err, LEM_E_REFUSED,
		       "CUDA_VISIBLE_DEVICES is empty: this shell may use no GPU");
	return lem_error_fix(err, "unset it, or write gpus: [] to run on the CPU");
}

int gpu_visible(const struct gpu_inventory *inv, const char *cuda_visible_devices, struct arena *a,
		struct gpu_part **ret, size_t *ret_n, struct lem_error *err)
{
	struct allowed allowed = {0};
	int r = read_visible(inv, cuda_visible_devices, a, &allowed, err);

	if (r < 0)
		return r;
	*ret = allowed.at;
	*ret_n = allowed.n;
	return 0;
}

static void fill_ref(const struct gpu_inventory *inv, const struct gpu_part *t, const char *item,
		     size_t position, struct gpu_ref *ref)
{
	const struct gpu_device *g = &inv->gpus[t->card];
	const struct gpu_mig *m = t->mig < 0 ? NULL : &g->migs[t->mig];

	lem_strlcpy(ref->requested, item, sizeof(ref->requested));
	lem_strlcpy(ref->uuid, uuid_of(inv, t), sizeof(ref->uuid));
	lem_strlcpy(ref->card_uuid, g->uuid, sizeof(ref->card_uuid));
	lem_strlcpy(ref->pci_bus_id, g->pci_bus_id, sizeof(ref->pci_bus_id));
	lem_strlcpy(ref->name, m && *m->name ? m->name : g->name, sizeof(ref->name));
	ref->index = g->index;
	ref->container_index = (int)position;
	ref->memory_bytes = m ? m->memory_bytes : g->memory_bytes;
}

static int fail_twice(const struct gpu_inventory *inv, const struct gpu_part *t, const char *first,
		      const char *second, struct lem_error *err)
{
	(void)lem_fail(err, LEM_E_REFUSED, "R06: gpus lists GPU %d (%.12s) twice: %.80s and %.80s",
		       inv->gpus[t->card].index, uuid_of(inv, t), first, second);
	return lem_error_fix(err, "name each GPU once");
}

static int resolve_all(const struct gpu_inventory *inv, const char *const *items,
		       const struct allowed *allowed, struct gpu_binding *b, struct lem_error *err)
{
	for (size_t i = 0; i < b->n; i++) {
		struct gpu_part t = {0, -1};
		int r = resolve_one(inv, allowed, items[i], &t, err);

		if (r < 0)
			return r;
		for (size_t k = 0; k < i; k++)
			if (str_eq(b->gpus[k].uuid, uuid_of(inv, &t)))
				return fail_twice(inv, &t, items[k], items[i], err);
		fill_ref(inv, &t, items[i], i, &b->gpus[i]);
	}
	return 0;
}

int gpu_resolve_within(const struct gpu_inventory *inv, const char *const *items, size_t n,
		       const char *cuda_visible_devices, bool outside, struct arena *a,
		       struct gpu_binding *ret, struct lem_error *err)
{
	struct gpu_binding b = {.n = n};
	struct allowed allowed = {.outside = outside};
	int r = 0;

	lem_strlcpy(b.path, n ? "process" : "none", sizeof(b.path));
	if (n) { /* the CPU needs no allocation */
		r = read_visible(inv, cuda_visible_devices, a, &allowed, err);
		b.gpus = arena_array(a, n, sizeof(*b.gpus));
	}
	if (r >= 0)
		r = resolve_all(inv, items, &allowed, &b, err);
	if (r < 0)
		return r;
	*ret = b;
	return 0;
}

int gpu_resolve(const struct gpu_inventory *inv, const char *const *items, size_t n,
		const char *cuda_visible_devices, struct arena *a, struct gpu_binding *ret,
		struct lem_error *err)
{
	return gpu_resolve_within(inv, items, n, cuda_visible_devices, false, a, ret, err);
}
