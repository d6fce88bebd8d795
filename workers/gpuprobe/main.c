/*
 * lem-gpuprobe — says which GPUs CUDA sees, in CUDA's order, from where it is started: beside the
 * engine, in the engine's image, with the engine's devices and environment. One JSON document on
 * stdout (src/gpu/proof.h reads it), exit status 0; 1 with an "error" document.
 *
 *   {"lem_gpuprobe": 1, "devices": [{"uuid": "GPU-…", "pci_bus_id": "0000:65:00.0", "name": "…"}],
 *    "cuda_driver": 13000, "cuda_visible_devices": "1,0", "cuda_device_order": "PCI_BUS_ID"}
 *   {"lem_gpuprobe": 1, "error": "cuInit: CUDA_ERROR_NO_DEVICE", "status": 100, …}
 *
 * status is CUDA's; below zero are ours: -1 libcuda cannot be loaded, -2 it lacks a function, -3 it
 * did not answer in time. A MIG instance has the UUID "MIG-…".
 *
 * libc only, and no libc newer than 2.17 (old_glibc.h). It makes no CUDA context, so it takes no
 * memory on a GPU. $LEM_CUDA_LIBRARY names another library than libcuda.so.1;
 * $LEM_GPUPROBE_TIMEOUT_S another bound than 30 s (starting eight cold GPUs takes 10 s and more).
 */
#include "old_glibc.h"

#include <dlfcn.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NO_LIBRARY = -1, NO_FUNCTION = -2, NO_ANSWER = -3 };
enum { TIMEOUT_S = 30, MAX_DEVICES = 64, UUID_BYTES = 16 };

/* The driver API, as far as it is needed: cuda.h of CUDA 12. A CUdevice is an int. */
static struct {
	int (*init)(unsigned flags);
	int (*driver_version)(int *version);
	int (*count)(int *n);
	int (*get)(int *device, int ordinal);
	int (*uuid)(unsigned char uuid[UUID_BYTES], int device); /* of the card, also under MIG */
	int (*uuid_v2)(unsigned char uuid[UUID_BYTES], int device); /* since 11.4; NULL before */
	int (*pci_bus_id)(char *buf, int size, int device);
	int (*name)(char *buf, int size, int device);
	int (*error_name)(int status, const char **name); /* since 6.0 */
} cuda;

static struct {
	char text[32768];
	size_t n;
} out;

static void add(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void add(const char *fmt, ...)
{
	size_t room = sizeof(out.text) - out.n;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(out.text + out.n, room, fmt, ap);
	va_end(ap);
	if (n > 0)
		out.n += (size_t)n < room ? (size_t)n : room - 1;
}

/* At most 200 bytes of it; what is not plain ASCII becomes '?': only for messages. */
static void add_string(const char *s)
{
	if (!s) {
		add("null");
		return;
	}
	add("\"");
	for (size_t i = 0; s[i] && i < 200; i++) {
		if (s[i] == '"' || s[i] == '\\')
			add("\\%c", s[i]);
		else
			add("%c", s[i] >= ' ' && s[i] < 127 ? s[i] : '?');
	}
	add("\"");
}

static void write_all(const char *p, size_t n)
{
	while (n > 0) {
		ssize_t k = write(STDOUT_FILENO, p, n);

		if (k <= 0)
			break;
		p += k;
		n -= (size_t)k;
	}
}

/* The rest of every document, and out with it. */
static void finish(void)
{
	add(", \"cuda_visible_devices\": ");
	add_string(getenv("CUDA_VISIBLE_DEVICES"));
	add(", \"cuda_device_order\": ");
	add_string(getenv("CUDA_DEVICE_ORDER"));
	add("}\n");
	write_all(out.text, out.n);
}

static int fail(int status, const char *what, const char *detail)
{
	char text[200];

	(void)snprintf(text, sizeof(text), "%s: %s", what, detail);
	out.n = 0;
	add("{\"lem_gpuprobe\": 1, \"error\": ");
	add_string(text);
	add(", \"status\": %d", status);
	finish();
	return 1;
}

static int fail_cuda(int status, const char *function)
{
	const char *name = NULL;

	if (!cuda.error_name || cuda.error_name(status, &name) != 0 || !name)
		name = "an error without a name";
	return fail(status, function, name);
}

/* A driver that hangs must not hang us: only what is safe in a signal handler. */
static void on_alarm(int signal)
{
	static const char text[] = "{\"lem_gpuprobe\": 1, \"error\": \"the CUDA driver does not "
				   "answer\", \"status\": -3}\n";

	(void)signal;
	write_all(text, sizeof(text) - 1);
	_exit(1);
}

static void set_alarm(void)
{
	const char *s = getenv("LEM_GPUPROBE_TIMEOUT_S");
	unsigned seconds = 0;

	for (; s && *s >= '0' && *s <= '9' && seconds < 10000; s++)
		seconds = seconds * 10 + (unsigned)(*s - '0');
	(void)signal(SIGALRM, on_alarm);
	alarm(seconds ? seconds : TIMEOUT_S);
}

static int load(void)
{
	const struct {
		const char *name;
		void *at;
		int needed;
	} functions[] = {
		{"cuInit", &cuda.init, 1},
		{"cuDriverGetVersion", &cuda.driver_version, 1},
		{"cuDeviceGetCount", &cuda.count, 1},
		{"cuDeviceGet", &cuda.get, 1},
		{"cuDeviceGetUuid", &cuda.uuid, 1},
		{"cuDeviceGetUuid_v2", &cuda.uuid_v2, 0},
		{"cuDeviceGetPCIBusId", &cuda.pci_bus_id, 1},
		{"cuDeviceGetName", &cuda.name, 1},
		{"cuGetErrorName", &cuda.error_name, 0},
	};
	const char *path = getenv("LEM_CUDA_LIBRARY");
	void *lib = dlopen(path && *path ? path : "libcuda.so.1", RTLD_NOW | RTLD_LOCAL);

	if (!lib) {
		const char *why = dlerror();

		return fail(NO_LIBRARY, "cannot load the CUDA driver", why ? why : "?");
	}
	for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
		void *f = dlsym(lib, functions[i].name);

		if (!f && functions[i].needed)
			return fail(NO_FUNCTION, "the CUDA driver lacks a function",
				    functions[i].name);
		memcpy(functions[i].at, &f, sizeof(f));
	}
	return 0;
}

/* An instance's UUID differs from its card's; cuDeviceGetUuid always tells the card's. */
static int get_uuid(int device, char *buf, size_t size)
{
	unsigned char card[UUID_BYTES] = {0}, own[UUID_BYTES] = {0};
	int r = cuda.uuid(card, device), is_mig;

	if (r == 0 && cuda.uuid_v2)
		r = cuda.uuid_v2(own, device);
	if (r != 0)
		return r;
	if (!cuda.uuid_v2)
		memcpy(own, card, sizeof(own));
	is_mig = memcmp(own, card, sizeof(own)) != 0;
	(void)snprintf(buf, size,
		       "%s-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
		       is_mig ? "MIG" : "GPU", own[0], own[1], own[2], own[3], own[4], own[5],
		       own[6], own[7], own[8], own[9], own[10], own[11], own[12], own[13], own[14],
		       own[15]);
	return 0;
}

static int add_device(int ordinal)
{
	char uuid[64], pci[32] = "", name[128] = "";
	const char *function = "cuDeviceGet";
	int device = 0, r = cuda.get(&device, ordinal);

	if (r == 0) {
		function = "cuDeviceGetUuid";
		r = get_uuid(device, uuid, sizeof(uuid));
	}
	if (r == 0) {
		function = "cuDeviceGetPCIBusId";
		r = cuda.pci_bus_id(pci, sizeof(pci), device);
	}
	if (r != 0)
		return fail_cuda(r, function);
	(void)cuda.name(name, sizeof(name), device);
	add("%s{\"uuid\": \"%s\", \"pci_bus_id\": ", ordinal ? ", " : "", uuid);
	add_string(pci);
	add(", \"name\": ");
	add_string(name);
	add("}");
	return 0;
}

int main(void)
{
	int version = 0, n = 0, r;

	set_alarm();
	if (load() != 0)
		return 1;
	r = cuda.init(0);
	if (r != 0)
		return fail_cuda(r, "cuInit");
	r = cuda.driver_version(&version);
	if (r != 0)
		return fail_cuda(r, "cuDriverGetVersion");
	r = cuda.count(&n);
	if (r != 0)
		return fail_cuda(r, "cuDeviceGetCount");
	add("{\"lem_gpuprobe\": 1, \"devices\": [");
	for (int i = 0; i < n && i < MAX_DEVICES; i++)
		if (add_device(i) != 0)
			return 1;
	add("], \"cuda_driver\": %d", version);
	finish();
	return 0;
}
