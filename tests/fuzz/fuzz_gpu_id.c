#include "gpu/id.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct gpu_mig instances[] = {{.uuid = "MIG-11111111-0000-5000-8000-000000000001"},
				     {.uuid = "MIG-GPU-cafecafe-0000-4000-8000-000000000005/9/0"}};
static struct gpu_device devices[] = {
	{.index = 0,
	 .uuid = "GPU-1a2b3c40-fa4e-4000-8000-000000abcdef",
	 .pci_bus_id = "00000000:17:00.0"},
	{.index = 1,
	 .uuid = "GPU-1a2b3c40-fa4e-4000-8000-000000abcdf0",
	 .pci_bus_id = "0000:65:00.0"},
	{.index = 2, .problem = "lost", .fix = "reset it"},
	{.index = 3,
	 .uuid = "GPU-cafecafe-0000-4000-8000-000000000005",
	 .pci_bus_id = "00000001:01:00.0",
	 .mig = true,
	 .migs = instances,
	 .n_migs = ARRAY_LEN(instances)},
};

/* Each line is an item of `gpus:`; the first one CUDA_VISIBLE_DEVICES, unset when it is empty. What
 * is accepted means a GPU that exists, each one once. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct gpu_inventory inv = {.gpus = devices, .n = ARRAY_LEN(devices)};
	_cleanup_free_ char *text = lem_strndup((const char *)data, size);
	_cleanup_arena_ struct arena a = ARENA_INIT;
	const char *cvd = text, *items[16];
	struct lem_error err = LEM_ERROR_INIT;
	struct gpu_binding b;
	struct gpu_id id;
	size_t n = 0;

	for (char *p = text; (p = strchr(p, '\n')) && n < ARRAY_LEN(items);) {
		*p++ = '\0';
		items[n++] = p;
	}
	for (size_t i = 0; i < n; i++)
		if (gpu_id_parse(items[i], &id, &err) < 0 && (err.code != LEM_E_USAGE || !*err.fix))
			abort();
	if (gpu_resolve(&inv, items, n, *cvd ? cvd : NULL, &a, &b, &err) < 0) {
		if (!*err.what || lem_code_exit(err.code) != 2)
			abort();
		return 0;
	}
	for (size_t i = 0; i < b.n; i++) {
		if (b.gpus[i].index == 2 || !*b.gpus[i].uuid || !*b.gpus[i].card_uuid)
			abort();
		for (size_t k = 0; k < i; k++)
			if (str_eq(b.gpus[i].uuid, b.gpus[k].uuid))
				abort();
	}
	return 0;
}
