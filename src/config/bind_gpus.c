/* The gpus list: which spellings name a GPU. What they resolve to is another module's business. */
#include "base/num.h"
#include "config/impl.h"

#include <ctype.h>
#include <strings.h>

enum { MAX_GPU_INDEX = 4095, MAX_GPUS = 1024 };

static bool hex_run(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!isxdigit((unsigned char)s[i]))
			return false;
	return true;
}

static bool is_index(const char *s)
{
	int64_t v;

	return *s && !s[strspn(s, "0123456789")] && (s[0] != '0' || !s[1]) &&
	       num_parse_i64(s, &v) && v <= MAX_GPU_INDEX;
}

/* [0000]0000:65:00.0, as nvidia-smi and lspci write it. */
static bool is_bus_id(const char *s)
{
	size_t domain = strcspn(s, ":");

	if ((domain == 4 || domain == 8) && hex_run(s, domain))
		s += domain + 1;
	return strlen(s) == 7 && hex_run(s, 2) && s[2] == ':' && hex_run(s + 3, 2) && s[5] == '.' &&
	       s[6] >= '0' && s[6] <= '7';
}

/* "GPU-" and at least the 8 hex digits that tell GPUs of one machine apart. */
static bool is_gpu_uuid(const char *s)
{
	return str_starts(s, "GPU-") && strlen(s) <= 40 && strlen(s) >= 12 && hex_run(s + 4, 8) &&
	       !s[4 + strspn(s + 4, "0123456789abcdefABCDEF-")];
}

static bool is_mig(const char *s)
{
	return str_starts(s, "MIG-") && strlen(s) >= 12 && strlen(s) <= 80 &&
	       !s[4 + strspn(s + 4, "0123456789abcdefABCDEFGPU-/")];
}

static bool is_gpu(const char *s)
{
	return is_index(s) || (str_starts(s, "host:") && is_index(s + 5)) || is_gpu_uuid(s) ||
	       is_mig(s) || is_bus_id(s);
}

static const char *why_not_a_gpu(struct arena *a, const struct node *n)
{
	const char *s = n->text;

	if (n->kind != NODE_SCALAR)
		return "write one flat list, such as gpus: [0, 1]";
	if (*s && strspn(s, "0123456789 ,;") == strlen(s) && strpbrk(s, " ,;"))
		return "write a list with commas and without quotes: gpus: [0, 1]";
	if (s[0] == '-' && is_index(s + 1))
		return "count from 0; for the CPU write gpus: []";
	if (str_eq(s, "all") || str_eq(s, "auto"))
		return "name them: the list decides which GPUs are used and metered, such as gpus: "
		       "[0, 1]";
	if (str_starts(s, "cuda:") && is_index(s + 5))
		return arena_printf(a, "write %s", s + 5);
	if (s[0] == '0' && s[1] && s[strspn(s, "0")] && is_index(s + strspn(s, "0")))
		return arena_printf(a, "write %s", s + strspn(s, "0"));
	if (strspn(s, "0") == strlen(s) && *s)
		return "write 0";
	if (strchr("0123456789", s[0]) && *s && strspn(s, "0123456789-") == strlen(s) &&
	    strchr(s, '-'))
		return "name each one: gpus: [0, 1, 2, 3]";
	if (*s && strspn(s, "0123456789") == strlen(s))
		return "no machine has that many";
	if (str_starts(s, "GPU-"))
		return "a UUID needs at least its first 8 hexadecimal digits, such as GPU-0a1b2c3d";
	if (strcasecmp(s, "cpu") == 0)
		return "for the CPU write gpus: []";
	return "a GPU is an index (0), GPU-UUID, MIG-UUID, a PCI bus id (0000:65:00.0) or host:N";
}

static bool bind_one(struct config *c, const struct node *n, const char **ret)
{
	struct finding *f;

	if (n->kind == NODE_SCALAR && is_gpu(n->text)) {
		*ret = n->text;
		return true;
	}
	f = finding_add(c, SEVERITY_ERROR, "R05", "gpus", n, "%s is not a GPU",
			node_show(&c->arena, n));
	finding_hint(c, f, "%s", why_not_a_gpu(&c->arena, n));
	return false;
}

static bool refuse_duplicates(struct config *c, const struct node *n, const struct str_list *list)
{
	const struct node *item = n->first;
	struct finding *f;

	for (size_t i = 1; i < list->n; i++) {
		item = item->next;
		for (size_t j = 0; j < i; j++) {
			if (strcasecmp(list->at[i], list->at[j]) != 0)
				continue;
			f = finding_add(c, SEVERITY_ERROR, "R06", "gpus", item,
					"lists GPU %s twice", list->at[i]);
			finding_hint(c, f, "remove one of them");
			return false;
		}
	}
	return true;
}

bool bind_gpus(struct config *c, const struct node *n, struct str_list *ret)
{
	struct str_list list = {.n = 0};
	bool ok = true;

	if (n->kind == NODE_MAP) {
		finding_hint(c,
			     finding_add(c, SEVERITY_ERROR, "C02", "gpus", n,
					 "must be a list, is a map"),
			     "write gpus: [0]");
		return false;
	}
	if (n->n > MAX_GPUS) {
		finding_add(c, SEVERITY_ERROR, "C03", "gpus", n, "lists %zu GPUs, %d is the limit",
			    n->n, MAX_GPUS);
		return false;
	}
	list.at = arena_array(&c->arena, n->n + 1, sizeof(*list.at));
	if (n->kind == NODE_SCALAR) {
		ok = bind_one(c, n, &list.at[0]);
		list.n = 1;
	}
	for (const struct node *item = n->first; item; item = item->next)
		ok &= bind_one(c, item, &list.at[list.n++]);
	if (!ok || !refuse_duplicates(c, n, &list))
		return false;
	*ret = list;
	return true;
}
