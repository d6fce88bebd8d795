/*
 * cuda_fake.c — libcuda_fake.so (soname libcuda.so.1): a CUDA driver that enumerates the GPUs of
 * the fake NVML (fake_gpus.h) as the real one does, CUDA_VISIBLE_DEVICES included: the measured
 * table of routing.md section 7. Use it through LEM_CUDA_LIBRARY, or mount it into a container as
 * libcuda.so.1. libc only and never sanitized: it is loaded into programs that are not ours.
 *
 * The script is in LEM_FAKE_CUDA or, when that is unset, in the first line of the file
 * /etc/lem-fake-cuda, so that a CDI specification can mount library and script together. It is read
 * at each cuInit, as are CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER. Items are separated by ';':
 *
 *   gpus=8                 how many the host has (1)
 *   dev=DIR                only GPUs whose node DIR/nvidiaMINOR exists are visible (/dev);
 *                          dev=* all of them
 *   order=fastest:2+0+1    host indices in the order without CUDA_DEVICE_ORDER=PCI_BUS_ID; GPUs
 *                          that it does not name come after, by bus
 *   uuid=I:GPU-…           GPU I says that it is another one
 *   mig=I:2                GPU I is cut into 2 instances (fake_mig_uuid); a process sees one
 *                          instance and nothing else
 * and what goes wrong:
 *   init=802               return code of cuInit
 *   hang=1                 cuInit never returns
 *
 * Built also as libcuda_fake_old.so: a driver before 11.4, without cuDeviceGetUuid_v2.
 */
#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fake_gpus.h"

#define EXPORT __attribute__((visibility("default")))

enum { CUDA_SUCCESS, CUDA_INVALID_VALUE, CUDA_NOT_INITIALIZED = 3 };
enum { CUDA_NO_DEVICE = 100, CUDA_INVALID_DEVICE = 101, CUDA_SYSTEM_NOT_READY = 802 };

struct gpu {
	unsigned index; /* on the host */
	char uuid[64];  /* what CUDA_VISIBLE_DEVICES may name: the card's, or the instance's */
	char card_uuid[64];
	bool mig;
};

static struct fake {
	bool ready, hang;
	long n, init;
	char dev[256], order[128];
	char lie[FAKE_GPUS_MAX][64];
	long instances[FAKE_GPUS_MAX];
	struct gpu gpus[FAKE_GPUS_MAX]; /* as enumerated */
	int n_visible;
} fake;

static void set_indexed(const char *value)
{
	char *rest = NULL;
	long i = strtol(value, &rest, 10);

	if (rest != value && *rest == ':' && i >= 0 && i < FAKE_GPUS_MAX)
		(void)snprintf(fake.lie[i], sizeof(fake.lie[i]), "%s", rest + 1);
}

static void set_mig(const char *value)
{
	char *rest = NULL;
	long i = strtol(value, &rest, 10);

	if (rest != value && *rest == ':' && i >= 0 && i < FAKE_GPUS_MAX)
		fake.instances[i] = strtol(rest + 1, NULL, 10);
}

static void set_key(const char *key, const char *value)
{
	if (!strcmp(key, "gpus"))
		fake.n = strtol(value, NULL, 10);
	else if (!strcmp(key, "dev"))
		(void)snprintf(fake.dev, sizeof(fake.dev), "%s", value);
	else if (!strcmp(key, "order") && !strncmp(value, "fastest:", 8))
		(void)snprintf(fake.order, sizeof(fake.order), "%s", value + 8);
	else if (!strcmp(key, "uuid"))
		set_indexed(value);
	else if (!strcmp(key, "mig"))
		set_mig(value);
	else if (!strcmp(key, "init"))
		fake.init = strtol(value, NULL, 10);
	else if (!strcmp(key, "hang"))
		fake.hang = value[0] == '1';
	else
		fprintf(stderr, "cuda_fake: cannot use %s=%s\n", key, value);
}

static void read_script(void)
{
	const char *env = getenv("LEM_FAKE_CUDA");
	char text[1024] = "", *save = NULL;
	FILE *f = env ? NULL : fopen("/etc/lem-fake-cuda", "re");

	if (env)
		(void)snprintf(text, sizeof(text), "%s", env);
	else if (f && !fgets(text, sizeof(text), f))
		text[0] = '\0';
	if (f)
		fclose(f);
	fake = (struct fake){.n = 1, .dev = "/dev"};
	for (char *t = strtok_r(text, ";\n", &save); t; t = strtok_r(NULL, ";\n", &save)) {
		char *equals = strchr(t, '=');

		if (!equals)
			continue;
		*equals = '\0';
		set_key(t, equals + 1);
	}
	if (fake.n < 0 || fake.n > FAKE_GPUS_MAX)
		fake.n = FAKE_GPUS_MAX;
}

static bool has_node(unsigned index)
{
	char path[300];

	(void)snprintf(path, sizeof(path), "%s/nvidia%u", fake.dev,
		       fake_gpu_minor(index, (unsigned)fake.n));
	return !strcmp(fake.dev, "*") || access(path, F_OK) == 0;
}

static void add_gpu(struct gpu *list, int *n, unsigned index)
{
	struct gpu *g = &list[(*n)++];

	*g = (struct gpu){.index = index, .mig = fake.instances[index] > 0};
	fake_gpu_uuid(index, g->card_uuid, sizeof(g->card_uuid));
	if (fake.lie[index][0])
		(void)snprintf(g->card_uuid, sizeof(g->card_uuid), "%s", fake.lie[index]);
	(void)snprintf(g->uuid, sizeof(g->uuid), "%s", g->card_uuid);
}

static bool has_index(const struct gpu *list, int n, unsigned index)
{
	for (int i = 0; i < n; i++)
		if (list[i].index == index)
			return true;
	return false;
}

/* The devices before CUDA_VISIBLE_DEVICES, in the order that its numbers count. */
static int list_devices(struct gpu *list)
{
	const char *order = getenv("CUDA_DEVICE_ORDER");
	int n = 0;

	if (!order || strcmp(order, "PCI_BUS_ID") != 0) {
		for (char *p = fake.order; isdigit((unsigned char)*p); p += *p == '+') {
			unsigned long i = strtoul(p, &p, 10);

			if (i < (unsigned long)fake.n && has_node((unsigned)i) &&
			    !has_index(list, n, (unsigned)i))
				add_gpu(list, &n, (unsigned)i);
		}
	}
	for (unsigned i = 0; i < (unsigned)fake.n; i++)
		if (has_node(i) && !has_index(list, n, i))
			add_gpu(list, &n, i);
	return n;
}

/* One item, to the next comma. Numbers as atoi reads them: "1abc" is 1, "0x1" and "0 1" are 0. */
static int find_number(const char *item, int n)
{
	char *end = NULL;
	long v = strtol(item, &end, 10);

	return end != item && v >= 0 && v < n ? (int)v : -1;
}

/* A UUID or a prefix of one that fits a single device; letters in either case. */
static int find_uuid(const char *item, size_t len, const struct gpu *list, int n)
{
	int found = -1;

	while (len > 0 && item[len - 1] == ' ')
		len--;
	for (int i = 0; i < n; i++) {
		if (len <= 4 || strncasecmp(list[i].uuid, item, len) != 0)
			continue;
		if (found >= 0)
			return -1;
		found = i;
	}
	return found;
}

static bool is_uuid(const char *item)
{
	return !strncmp(item, "GPU-", 4) || !strncmp(item, "MIG-", 4);
}

/* Devices in the order of the list, up to the first item that names none or is of another kind than
 * the first; a device named twice is an error. */
static int apply_list(const char *list, const struct gpu *all, int n)
{
	bool by_uuid = is_uuid(list + strspn(list, " "));

	for (const char *p = list; p;) {
		size_t blanks = strspn(p, " "), len = strcspn(p, ",") - blanks;
		const char *item = p + blanks;
		int i = -1;

		if (by_uuid == is_uuid(item))
			i = by_uuid ? find_uuid(item, len, all, n) : find_number(item, n);
		if (i < 0)
			break;
		if (has_index(fake.gpus, fake.n_visible, all[i].index))
			return CUDA_INVALID_DEVICE;
		fake.gpus[fake.n_visible++] = all[i];
		p = item[len] ? item + len + 1 : NULL;
	}
	return CUDA_SUCCESS;
}

/* With MIG anywhere, one instance is all that CUDA shows: the one named, else the first; a number
 * can only be 0. */
static int apply_mig(const char *list, const struct gpu *all, int n)
{
	for (int i = 0; i < n; i++) {
		for (unsigned k = 0; k < fake.instances[all[i].index]; k++) {
			struct gpu g = all[i];

			fake_mig_uuid(g.index, k, g.uuid, sizeof(g.uuid));
			if (list && find_number(list, 1) != 0 &&
			    find_uuid(list, strcspn(list, ","), &g, 1) != 0)
				continue;
			fake.gpus[fake.n_visible++] = g;
			return CUDA_SUCCESS;
		}
	}
	return CUDA_NO_DEVICE;
}

static int enumerate(void)
{
	const char *list = getenv("CUDA_VISIBLE_DEVICES");
	struct gpu all[FAKE_GPUS_MAX];
	int n = list_devices(all), r = CUDA_SUCCESS;
	bool mig = false;

	for (int i = 0; i < n; i++)
		mig = mig || all[i].mig;
	if (mig) {
		r = apply_mig(list, all, n);
	} else if (list) {
		r = apply_list(list, all, n);
	} else {
		memcpy(fake.gpus, all, sizeof(all));
		fake.n_visible = n;
	}
	return r != CUDA_SUCCESS ? r : fake.n_visible ? CUDA_SUCCESS : CUDA_NO_DEVICE;
}

EXPORT int cuInit(unsigned flags);
EXPORT int cuInit(unsigned flags)
{
	int r;

	(void)flags;
	read_script();
	while (fake.hang)
		pause();
	r = fake.init ? (int)fake.init : enumerate();
	fake.ready = r == CUDA_SUCCESS;
	return r;
}

EXPORT int cuDriverGetVersion(int *version);
EXPORT int cuDriverGetVersion(int *version)
{
	*version = 13000;
	return CUDA_SUCCESS;
}

EXPORT int cuDeviceGetCount(int *n);
EXPORT int cuDeviceGetCount(int *n)
{
	if (!fake.ready)
		return CUDA_NOT_INITIALIZED;
	*n = fake.n_visible;
	return CUDA_SUCCESS;
}

static int check(int device)
{
	if (!fake.ready)
		return CUDA_NOT_INITIALIZED;
	return device >= 0 && device < fake.n_visible ? CUDA_SUCCESS : CUDA_INVALID_DEVICE;
}

EXPORT int cuDeviceGet(int *device, int ordinal);
EXPORT int cuDeviceGet(int *device, int ordinal)
{
	if (check(ordinal) == CUDA_SUCCESS)
		*device = ordinal;
	return check(ordinal);
}

/* Sixteen bytes from the hexadecimal digits after "GPU-". */
static void parse_uuid(const char *text, unsigned char uuid[16])
{
	size_t k = 0;

	memset(uuid, 0, 16);
	for (const char *p = text + 4; *p && k < 32; p++) {
		const char *digits = "0123456789abcdef", *d = strchr(digits, tolower(*p));

		if (d)
			uuid[k / 2] |= (unsigned char)((d - digits) << (k % 2 ? 0 : 4));
		k += d ? 1 : 0;
	}
}

EXPORT int cuDeviceGetUuid(unsigned char uuid[16], int device);
EXPORT int cuDeviceGetUuid(unsigned char uuid[16], int device)
{
	if (check(device) == CUDA_SUCCESS)
		parse_uuid(fake.gpus[device].card_uuid, uuid);
	return check(device);
}

#ifndef FAKE_OLD
EXPORT int cuDeviceGetUuid_v2(unsigned char uuid[16], int device);
EXPORT int cuDeviceGetUuid_v2(unsigned char uuid[16], int device)
{
	if (check(device) == CUDA_SUCCESS)
		parse_uuid(fake.gpus[device].uuid, uuid);
	return check(device);
}
#endif

EXPORT int cuDeviceGetPCIBusId(char *buf, int size, int device);
EXPORT int cuDeviceGetPCIBusId(char *buf, int size, int device)
{
	int r = check(device);

	if (r == CUDA_SUCCESS && snprintf(buf, (size_t)size, "0000:%02X:00.0",
					  fake_gpu_bus(fake.gpus[device].index)) >= size)
		r = CUDA_INVALID_VALUE;
	return r;
}

EXPORT int cuDeviceGetName(char *buf, int size, int device);
EXPORT int cuDeviceGetName(char *buf, int size, int device)
{
	if (check(device) == CUDA_SUCCESS)
		(void)snprintf(buf, (size_t)size, "Fake H100 80GB%s",
			       fake.gpus[device].mig ? " MIG 1g.10gb" : "");
	return check(device);
}

EXPORT int cuGetErrorName(int status, const char **name);
EXPORT int cuGetErrorName(int status, const char **name)
{
	switch (status) {
	case CUDA_NOT_INITIALIZED: *name = "CUDA_ERROR_NOT_INITIALIZED"; break;
	case CUDA_NO_DEVICE: *name = "CUDA_ERROR_NO_DEVICE"; break;
	case CUDA_INVALID_DEVICE: *name = "CUDA_ERROR_INVALID_DEVICE"; break;
	case CUDA_SYSTEM_NOT_READY: *name = "CUDA_ERROR_SYSTEM_NOT_READY"; break;
	default: return CUDA_INVALID_VALUE;
	}
	return CUDA_SUCCESS;
}
