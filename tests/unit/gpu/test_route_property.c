/*
 * Random machines, places, requests and container engines against a model of its own of what CUDA
 * then shows (routing.md section 7): the UUIDs asked for, in their order, or a refusal exactly when
 * the request is wrong. What a request means is known because it is made from the answer.
 */
#include <setjmp.h>

#include "base/num.h"
#include "base/str.h"
#include "random_world.h"

#include <cmocka.h>

enum { CASES = 120000 };

/* ---- CUDA ---- */

struct cuda {
	const char *uuids[MAX_GPUS * (MAX_MIGS + 1)];
	size_t n;
};

static const char *env_of(const struct gpu_binding *b, const char *name)
{
	const char *found = NULL;
	size_t n = strlen(name);

	for (const char *const *p = b->env; p && *p; p++)
		if (strncmp(*p, name, n) == 0 && (*p)[n] == '=') {
			assert_null(found); /* twice: who wins is anybody's guess */
			found = *p + n + 1;
		}
	return found;
}

/* The machine's GPU with this UUID, or the card of this instance. */
static const struct gpu_device *card_of(const struct world *w, const char *uuid)
{
	for (size_t i = 0; i < w->n_machine; i++) {
		if (str_eq(w->machine[i].uuid, uuid))
			return &w->machine[i];
		for (size_t k = 0; k < w->machine[i].n_migs; k++)
			if (str_eq(w->machine[i].migs[k].uuid, uuid))
				return &w->machine[i];
	}
	return NULL;
}

/* Device nodes have minor numbers, which say nothing of the order; CUDA orders by PCI bus id, or by
 * speed when it is not told otherwise. */
static void order(const struct world *w, struct cuda *c, bool by_pci)
{
	for (size_t i = 1; i < c->n; i++)
		for (size_t k = i; k > 0; k--) {
			const struct gpu_device *a = card_of(w, c->uuids[k - 1]);
			const struct gpu_device *b = card_of(w, c->uuids[k]);
			const char *swap = c->uuids[k];
			int d = by_pci ? 0 : strcmp(b->name, a->name);

			if ((d ? d : strcmp(a->pci_bus_id, b->pci_bus_id)) <= 0)
				break;
			c->uuids[k] = c->uuids[k - 1];
			c->uuids[k - 1] = swap;
		}
}

/* The first item that CUDA does not like ends the list; one that comes twice is an error. */
static size_t choose(const struct cuda *c, const char *cvd, const char **ret)
{
	_cleanup_free_ char *copy = lem_strdup(cvd);
	char *save = NULL;
	size_t n = 0;

	for (char *t = strtok_r(copy, ",", &save); t; t = strtok_r(NULL, ",", &save)) {
		const char *hit = NULL;
		int64_t v;

		if (num_parse_i64(t, &v))
			hit = v >= 0 && (size_t)v < c->n ? c->uuids[v] : NULL;
		else
			for (size_t i = 0; i < c->n && !hit; i++)
				hit = strcmp(c->uuids[i], t) == 0 ? c->uuids[i] : NULL;
		if (!hit)
			break;
		for (size_t i = 0; i < n; i++)
			if (ret[i] == hit)
				return 0;
		ret[n++] = hit;
	}
	return n;
}

static void add_nodes_of_process(const struct world *w, struct cuda *c)
{
	for (size_t i = 0; i < w->n_seen; i++)
		c->uuids[c->n++] = w->seen[i].uuid;
}

/* An instance is reached by its UUID alone; it has no ordinal beside whole cards. */
static bool is_instance_seen(const struct world *w, const char *uuid)
{
	for (size_t i = 0; i < w->n_seen; i++)
		for (size_t k = 0; k < w->seen[i].n_migs; k++)
			if (str_eq(w->seen[i].migs[k].uuid, uuid))
				return true;
	return false;
}

/* What the engine mounts: by the request where there is one, else by the runtime's variable. */
static void add_nodes_of_container(const struct world *w, const struct gpu_binding *b,
				   struct cuda *c)
{
	static char nvd[4096];
	char *save = NULL;

	if (b->request.driver) {
		bool cdi = str_eq(b->request.driver, "cdi");

		assert_true(cdi || str_eq(b->request.driver, "nvidia"));
		assert_null(b->request.runtime);
		for (const char *const *p = b->request.ids; *p; p++) {
			assert_int_equal(str_starts(*p, "nvidia.com/gpu="), cdi);
			c->uuids[c->n++] = cdi ? *p + strlen("nvidia.com/gpu=") : *p;
		}
	} else {
		assert_string_equal(b->request.runtime, "nvidia");
		lem_strlcpy(nvd, env_of(b, "NVIDIA_VISIBLE_DEVICES"), sizeof(nvd));
		for (char *t = strtok_r(nvd, ",", &save); t; t = strtok_r(NULL, ",", &save))
			c->uuids[c->n++] = t;
	}
	for (size_t i = 0; i < c->n; i++)
		assert_non_null(card_of(w, c->uuids[i])); /* a whole UUID: never "all", an index */
}

static size_t cuda_shows(const struct world *w, const struct gpu_binding *b, const char **ret)
{
	const char *cvd = env_of(b, "CUDA_VISIBLE_DEVICES");
	struct cuda c = {0};

	assert_non_null(cvd);
	if (w->target == GPU_TO_PROCESS)
		add_nodes_of_process(w, &c);
	else
		add_nodes_of_container(w, b, &c);
	order(w, &c, str_eq(env_of(b, "CUDA_DEVICE_ORDER"), "PCI_BUS_ID"));
	if (w->target == GPU_TO_PROCESS && is_instance_seen(w, cvd)) {
		ret[0] = cvd;
		return 1;
	}
	return choose(&c, cvd, ret);
}

/* ---- what must hold ---- */

static char *join(const struct world *w)
{
	struct str s = STR_INIT;

	for (size_t i = 0; i < w->n; i++)
		str_addf(&s, "%s%s", i ? "," : "", world_uuid(w, i));
	return str_detach(&s);
}

static void check_container(const struct world *w, const struct gpu_binding *b, const char *uuids)
{
	size_t n = 0;

	assert_string_equal(env_of(b, "NVIDIA_VISIBLE_DEVICES"), uuids);
	assert_string_equal(env_of(b, "NVIDIA_DRIVER_CAPABILITIES"), "compute,utility");
	for (const char *const *p = b->request.ids; p && *p; p++, n++)
		assert_non_null(strstr(*p, world_uuid(w, n))); /* the same ids in the same order */
	assert_int_equal(n, b->request.driver ? w->n : 0);
}

static void check_right(const struct world *w, const struct gpu_binding *b)
{
	_cleanup_free_ char *uuids = join(w);
	const char *shown[MAX_GPUS * (MAX_MIGS + 1)];
	bool mapped = w->kind == MAPPED || w->kind == MAPPED_BY_UUID;

	assert_int_equal(b->n, w->n);
	assert_string_equal(b->path, world_path(w));
	assert_string_equal(env_of(b, "LEM_GPU_UUIDS"), uuids);
	assert_int_equal(cuda_shows(w, b, shown), w->n);
	for (size_t i = 0; i < w->n; i++) {
		const struct gpu_device *g = &w->seen[w->wishes[i].gpu];

		assert_string_equal(shown[i], world_uuid(w, i));
		assert_string_equal(b->gpus[i].uuid, world_uuid(w, i));
		assert_string_equal(b->gpus[i].card_uuid, g->uuid);
		assert_string_equal(b->gpus[i].pci_bus_id, g->pci_bus_id);
		assert_int_equal(b->gpus[i].index,
				 mapped ? (int)w->host_of[w->wishes[i].gpu] : g->index);
	}
	if (w->target == GPU_TO_CONTAINER)
		check_container(w, b, uuids);
	else
		assert_null(env_of(b, "NVIDIA_VISIBLE_DEVICES"));
}

static void describe(const struct world *w, uint64_t seed, size_t number, const char *what)
{
	_cleanup_str_ struct str s = STR_INIT;

	for (size_t i = 0; i < w->n; i++)
		str_addf(&s, "%s%s", i ? ", " : "", w->wishes[i].item);
	fail_msg("seed %" PRIu64
		 " case %zu: %zu GPUs, kind %d, CUDA_VISIBLE_DEVICES %s, gpus [%s]: %s",
		 seed, number, w->n_seen, (int)w->kind,
		 w->place.cuda_visible_devices ? w->place.cuda_visible_devices : "unset", str_c(&s),
		 what);
}

struct tally {
	size_t right, wrong, impassable, containers, reordered, instances;
};

static void run_case(struct world *w, uint64_t seed, size_t number, struct tally *t)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct gpu_inventory inv = {.gpus = w->seen, .n = w->n_seen};
	const char *items[MAX_ITEMS];
	struct gpu_route_request q = {.items = items,
				      .n = w->n,
				      .target = w->target,
				      .place = &w->place,
				      .engine = &w->facts};
	struct gpu_binding b = {.n = 99};
	struct lem_error err = LEM_ERROR_INIT;
	bool refused, expected;

	for (size_t i = 0; i < w->n; i++)
		items[i] = w->wishes[i].item;
	refused = gpu_route(&q, &inv, &a, &b, &err) < 0;
	expected = w->wrong || (w->n && !world_path(w));
	if (refused != expected)
		describe(w, seed, number, refused ? err.what : "not refused");
	t->wrong += w->wrong;
	t->impassable += refused && !w->wrong;
	if (refused) {
		assert_int_equal(b.n, 99);
		assert_int_equal(lem_code_exit(err.code), 2);
		assert_true(*err.fix);
		return;
	}
	if (w->n == 0)
		return;
	check_right(w, &b);
	t->right++;
	t->containers += w->target == GPU_TO_CONTAINER;
	t->instances += w->wishes[0].mig >= 0;
	for (size_t i = 1; i < w->n; i++)
		if (w->wishes[i].gpu < w->wishes[i - 1].gpu) {
			t->reordered++;
			break;
		}
}

static void test_cuda_shows_what_was_asked_for(void **state)
{
	const char *env = getenv("LEM_TEST_SEED");
	static struct world w;
	uint64_t seed = 20261129;
	struct tally t = {0};

	(void)state;
	if (env)
		assert_true(num_parse_u64(env, &seed));
	printf("# %d cases, seed %" PRIu64 " (LEM_TEST_SEED sets another)\n", CASES, seed);
	rand_seed(&w.rand, seed);
	for (size_t i = 0; i < CASES; i++) {
		world_make(&w);
		run_case(&w, seed, i, &t);
	}
	printf("# %zu routed (%zu in containers, %zu not in PCI order, %zu MIG instances), "
	       "%zu wrong, %zu impassable\n",
	       t.right, t.containers, t.reordered, t.instances, t.wrong, t.impassable);
	/* every kind was there in numbers */
	assert_true(t.right > CASES / 3 && t.containers > CASES / 5 && t.reordered > CASES / 8);
	assert_true(t.wrong > CASES / 8 && t.impassable > CASES / 100 && t.instances > CASES / 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cuda_shows_what_was_asked_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
