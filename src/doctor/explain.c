/*
 * explain.c — a table of what daemons, drivers and engines print, and the rule each line means. A
 * line is explained by the first entry that matches, so special ones stand before general ones.
 * Matching ignores case; all parts of an entry must occur in the same line.
 */
#include "doctor/explain.h"

#include "doctor/catalogue.h"

enum {
	PARTS_MAX = 3,
	WINDOW = 2048, /* of a long line at a time */
	OVERLAP = 256, /* no part is longer, so none is missed at a seam */
};

struct known {
	const char *id;
	const char *parts[PARTS_MAX]; /* lower case */
	const char *title, *fix;      /* NULL: the rule's own */
};

/* clang-format off: one known message a line */
static const struct known known[] = {
	/* Docker, containerd, Podman, the NVIDIA Container Toolkit */
	{"R21",
	 {"could not select device driver", "\"cdi\""},
	 "CDI is off in this container engine",
	 "before Docker 28.2: set {\"features\": {\"cdi\": true}} in /etc/docker/daemon.json and "
	 "restart docker"},
	{"R20", {"could not select device driver"}, NULL, NULL},
	{"R37", {"cannot set both count and deviceids"}, NULL, NULL},
	{"R37", {"unexpected count in cdi device request"}, NULL, NULL},
	{"R22", {"failed to stat cdi host device"}, NULL, NULL},
	{"R22", {"error gathering device information", "/dev/", "no such file"}, NULL, NULL},
	{"R22", {"error mounting", "libcuda", "no such file"}, NULL, NULL},
	{"R22", {"error mounting", "libnvidia", "no such file"}, NULL, NULL},
	{"R22", {"error mounting", "/dev/nvidia", "no such file"}, NULL, NULL},
	{"R21", {"unresolvable cdi devices"}, NULL, NULL},
	{"R21", {"cdi device injection failed"}, NULL, NULL},
	{"R21", {"nvidia-container-cli", "unknown device"}, NULL, NULL},
	{"R36", {"nvidia container runtime hook directly"}, NULL, NULL},
	{"R03",
	 {"unknown or invalid runtime name: nvidia"},
	 "the container engine has no runtime named nvidia",
	 NULL},
	{"R03",
	 {"insufficient privileges to read device list"},
	 "the toolkit ignores NVIDIA_VISIBLE_DEVICES here",
	 "use CDI, or set accept-nvidia-visible-devices-envvar-when-unprivileged=true in "
	 "/etc/nvidia-container-runtime/config.toml"},
	{"R03",
	 {"unsupported capabilities found"},
	 "NVIDIA_DRIVER_CAPABILITIES has an unknown word",
	 "remove NVIDIA_DRIVER_CAPABILITIES from env: lem sets compute,utility"},
	{"R35", {"failed to add device rules"}, NULL, NULL},
	{"R20", {"nvidia-cdi-hook", "executable file not found"}, NULL, NULL},
	{"R20", {"nvidia-container", "executable file not found"}, NULL, NULL},
	{"R20", {"fork/exec", "nvidia-container", "no such file"}, NULL, NULL},
	{"R20", {"fork/exec", "nvidia-cdi-hook", "no such file"}, NULL, NULL},
	{"R25", {"unsatisfied condition: cuda"}, NULL, NULL},
	{"R25", {"unsatisfied condition: driver"}, NULL, NULL},
	{"R24", {"driver/library version mismatch"}, NULL, NULL},
	{"R24", {"unsupported display driver / cuda driver combination"}, NULL, NULL},
	{"R23", {"libnvidia-ml.so.1", "cannot open shared object"}, NULL, NULL},
	{"R23", {"libnvidia-ml.so.1", "not found"}, NULL, NULL},
	{"R23", {"nvml error: driver not loaded"}, NULL, NULL},
	{"R23", {"nvidia-container-cli", "driver rpc error"}, NULL, NULL},
	{"R23", {"couldn't communicate with the nvidia driver"}, NULL, NULL},
	{"X12", {"permission denied while trying to connect to the docker"}, NULL, NULL},
	{"X12", {"cannot connect to the docker daemon"}, NULL, NULL},
	{"X12", {"is the docker daemon running"}, NULL, NULL},
	{"X04", {"exec format error"}, NULL, NULL},
	{"X04", {"no matching manifest for"}, NULL, NULL},
	{"X04", {"does not match the specified platform"}, NULL, NULL},
	{"X05", {"manifest unknown"}, NULL, NULL},
	{"X05", {"pull access denied"}, NULL, NULL},
	{"X05",
	 {"no such image"},
	 "the image is not on this machine",
	 "docker pull IMAGE, or set docker.pull: missing"},
	{"X05", {"unauthorized: authentication required"}, NULL, NULL},
	{"X05",
	 {"toomanyrequests"},
	 "the registry limits pulls",
	 "docker login, or wait and pull again"},
	{"X07", {"port is already allocated"}, NULL, NULL},
	{"X08",
	 {"unable to start container process: exec", "executable file not found"},
	 NULL,
	 NULL},
	{"X08",
	 {"unable to start container process: exec", "no such file or directory"},
	 NULL,
	 NULL},
	{"X08", {"unable to start container process: exec", "permission denied"}, NULL, NULL},
	{"X08", {"can't open file", "[errno 2] no such file"}, NULL, NULL},
	{"X13", {"version `glibc_", "not found"}, NULL, NULL},

	/* NCCL, MPI and shared memory, before the general "no space left on device" */
	{"R17", {"error while creating shared memory segment"}, NULL, NULL},
	{"R17", {"failed to extend /dev/shm"}, NULL, NULL},
	{"R17", {"call to posix_fallocate failed"}, NULL, NULL},
	{"R17", {"no space left on device", "/dev/shm"}, NULL, NULL},
	{"R17", {"no space left on device", "psm_"}, NULL, NULL},
	{"R17", {"vader segment", "space"}, NULL, NULL},
	{"R17", {"not enough space for /dev/shm"}, NULL, NULL},
	{"R17", {"insufficient shared memory"}, NULL, NULL},
	{"R17",
	 {"nccl", "unhandled system error"},
	 "shared memory is probably too small for NCCL",
	 NULL},
	{"R06", {"duplicate gpu detected"}, NULL, NULL},
	{"R39", {"peer access is not supported between these two devices"}, NULL, NULL},
	{"R39",
	 {"peer access", "--enable-p2p-check"},
	 NULL,
	 "add sglang.extra_args: {enable-p2p-check: true}, or set env: {NCCL_P2P_DISABLE: 1}"},
	{"R39",
	 {"watchdog caught collective operation timeout"},
	 "the GPUs stopped answering each other",
	 "if it happens at the start, set env: {NCCL_P2P_DISABLE: 1}; NCCL_DEBUG: INFO tells more"},
	{"R16", {"not enough slots available"}, NULL, NULL},
	{"R16", {"attempt to run as root"}, NULL, NULL},

	/* CUDA and the driver */
	{"R18", {"system not yet initialized"}, NULL, NULL},
	{"R18", {"cuda_error_system_not_ready"}, NULL, NULL},
	{"R18", {"cudaerrorsystemnotready"}, NULL, NULL},
	{"R34", {"nvml", "insufficient permissions"}, NULL, NULL},
	{"R19", {"failed to initialize nvml: unknown error"}, "the container lost its GPUs", NULL},
	{"R28", {"cuda-capable device(s) is/are busy or unavailable"}, NULL, NULL},
	{"R28", {"all cuda-capable devices are busy or unavailable"}, NULL, NULL},
	{"R41", {"fallen off the bus"}, NULL, NULL},
	{"R41", {"gpu is lost"}, NULL, NULL},
	{"R41", {"nvrm: xid", ": 79,"}, NULL, NULL},
	{"R41", {"uncorrectable ecc error"}, NULL, NULL},
	{"R41", {"gpu requires reset"}, NULL, NULL},
	{"R25", {"cuda driver version is insufficient"}, NULL, NULL},
	{"R25", {"nvidia driver on your system is too old"}, NULL, NULL},
	{"R25", {"ptx was compiled with an unsupported toolchain"}, NULL, NULL},
	{"R25", {"forward compatibility was attempted on non supported hw"}, NULL, NULL},
	{"X11", {"no kernel image is available for execution"}, NULL, NULL},

	/* llama.cpp, before the general messages of CUDA */
	{"R30", {"invalid value for main_gpu"}, NULL, NULL},
	{"R30", {"ggml", "failed to initialize cuda"}, NULL, NULL},
	{"R30", {"no usable gpu found"}, NULL, NULL},

	{"R07", {"invalid literal for int() with base 10: 'gpu-"}, NULL, NULL},
	{"R07", {"invalid literal for int() with base 10: 'mig-"}, NULL, NULL},

	/* vLLM and SGLang */
	{"R03", {"dp adjusted local rank", "for 0 devices"}, NULL, NULL},
	{"R11", {"dp adjusted local rank"}, NULL, NULL},
	{"R11", {"local_world_size", "number of visible devices"}, NULL, NULL},
	{"R11", {"tp_size %", "dp_size"}, NULL, NULL},
	{"R10", {"is larger than the number of available gpus"}, NULL, NULL},
	{"R10", {"less than max local gpu count"}, NULL, NULL},
	{"R10", {"number of required gpus exceeds the total number"}, NULL, NULL},
	{"R10", {"invalid device ordinal"}, "the engine uses more GPUs than it was given", NULL},
	{"R12", {"must be divisible by tensor parallel size"}, NULL, NULL},
	{"R12", {"num_heads % tp_size"}, NULL, NULL},
	{"R12", {"num_attention_heads % tp_size"}, NULL, NULL},
	{"R13", {"not divisible by weight quantization block_"}, NULL, NULL},
	{"R26", {"free memory on device", "less than desired gpu memory utilization"}, NULL, NULL},
	{"X01", {"no available memory for the cache blocks"}, NULL, NULL},
	{"X01", {"kv cache is needed, which is larger than"}, NULL, NULL},
	{"X01",
	 {"larger than the maximum number of tokens that can be stored in kv cache"},
	 NULL,
	 NULL},
	{"X01",
	 {"not enough memory. please try to increase --mem-fraction-static"},
	 NULL,
	 "raise sglang.mem_fraction_static, use more GPUs or a smaller model"},
	{"X09",
	 {"pipeline parallelism is not supported for this model"},
	 NULL,
	 "set pipeline_parallel_size: 1 and use tensor parallelism"},
	{"X09", {"offline data parallel mode is not supported"}, NULL, "set data_parallel_size: 1"},
	{"X09", {"are not supported for now. supported architectures"}, NULL, NULL},
	{"X09", {"does not recognize this architecture"}, NULL, NULL},
	{"X09", {"unknown model architecture"}, NULL, NULL},
	{"X10", {"current node has no gpu available"}, NULL, NULL},

	/* TensorRT-LLM */
	{"R14", {"gpus are available, but", "are required"}, NULL, NULL},
	{"R14", {"world_size must equal"}, NULL, NULL},
	{"R14", {"mpisize == tp * pp"}, NULL, NULL},
	{"R14", {"mpi size", "!= tp size"}, NULL, NULL},
	{"R15", {"moe_tp_size * moe_ep_size"}, NULL, NULL},

	/* Transformers */
	{"R31", {"mesh should not be bigger than default world size"}, NULL, NULL},

	/* no GPU at all */
	{"R03", {"no cuda gpus are available"}, "the engine sees no GPU", NULL},
	{"R03", {"no cuda-capable device is detected"}, "the engine sees no GPU", NULL},
	{"R03",
	 {"found no nvidia driver on your system"},
	 "the engine sees no NVIDIA driver",
	 NULL},
	{"R03", {"failed to infer device type"}, "the engine sees no GPU", NULL},

	/* memory, disk, network, models */
	{"X01", {"cuda out of memory"}, NULL, NULL},
	{"X01", {"cuda", "out of memory"}, NULL, NULL},
	{"X02", {"out of memory", "killed process"}, NULL, NULL},
	{"X02", {"oom-kill"}, NULL, NULL},
	{"X02", {"oomkilled"}, NULL, NULL},
	{"X02", {"std::bad_alloc"}, NULL, NULL},
	{"X02", {"[errno 12] cannot allocate memory"}, NULL, NULL},
	{"X02", {"mmap", "cannot allocate memory"}, NULL, NULL},
	{"X02", {"fork", "cannot allocate memory"}, NULL, NULL},
	{"X03", {"no space left on device"}, NULL, NULL},
	{"X06", {"cannot access gated repo"}, NULL, NULL},
	{"X06", {"you are trying to access a gated repo"}, NULL, NULL},
	{"X06", {"is not a local folder and is not a valid model identifier"}, NULL, NULL},
	{"X06", {"401 client error", "huggingface.co"}, NULL, NULL},
	{"X06", {"repository not found for url"}, NULL, NULL},
	{"X07", {"address already in use"}, NULL, NULL},

	/* last: it also follows from other causes */
	{"R07",
	 {"failed to be inspected"},
	 "vLLM could not inspect the model; often a UUID in CUDA_VISIBLE_DEVICES",
	 NULL},
};
/* clang-format on */

static char lower(char c)
{
	if (c >= 'A' && c <= 'Z')
		return (char)(c + ('a' - 'A'));
	return c == '\0' ? ' ' : c;
}

/* Where the first part stands in the text; NULL: no match. */
static const char *match(const struct known *k, const char *lowered)
{
	const char *at = strstr(lowered, k->parts[0]);

	for (size_t i = 1; at && i < PARTS_MAX && k->parts[i]; i++)
		if (!strstr(lowered, k->parts[i]))
			return NULL;
	return at;
}

/* Past an escape sequence of a terminal (ECMA-48: ESC [ parameters final), or past one byte. */
static size_t skip_control(const char *s, size_t i, size_t n)
{
	if (s[i] != '\x1b' || i + 1 >= n || s[i + 1] != '[')
		return i + 1;
	for (i += 2; i < n && (s[i] < '@' || s[i] > '~'); i++)
		;
	return MIN(i + 1, n);
}

/* Bytes of a well-formed UTF-8 character at s[i], 0 when it is none. */
static size_t utf8_length(const char *s, size_t i, size_t n)
{
	unsigned char c = (unsigned char)s[i];
	size_t k = c < 0x80 ? 1 : c >= 0xf0 && c < 0xf5 ? 4 : c >= 0xe0 ? 3 : c >= 0xc2 ? 2 : 0;

	if (k == 0 || c >= 0xf5 || i + k > n)
		return 0;
	for (size_t j = 1; j < k; j++)
		if (((unsigned char)s[i + j] & 0xc0) != 0x80)
			return 0;
	return k;
}

/* The line from `from` on as it may be shown: no control characters, whole characters, cut with an
 * ellipsis. */
static void show(const char *s, size_t from, size_t n, char *out, size_t size)
{
	static const char more[] = "…";
	size_t len = 0, i = from;

	if (from > 0)
		len = lem_strlcpy(out, more, size);
	while (i < n) {
		size_t k = utf8_length(s, i, n);

		if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f) {
			size_t next = skip_control(s, i, n);

			if (s[i] == '\t' && len + sizeof(more) < size)
				out[len++] = ' ';
			i = next;
			continue;
		}
		if (len + MAX(k, (size_t)1) + sizeof(more) > size) {
			lem_strlcpy(out + len, more, size - len);
			return;
		}
		if (k == 0) {
			out[len++] = '?';
			i++;
			continue;
		}
		memcpy(out + len, s + i, k);
		len += k;
		i += k;
	}
	out[len] = '\0';
}

/* From where a long line is shown, so that the match is in it: not inside a word or a character. */
static size_t show_from(const char *s, size_t at, size_t n, size_t size)
{
	size_t from;

	while (n > 0 && (s[n - 1] == '\r' || s[n - 1] == ' '))
		n--;
	if (n <= size - 8 || at < size / 2)
		return 0;
	from = at - size / 4;
	while (from < at && s[from] != ' ')
		from++;
	return from < at ? from + 1 : at;
}

static void fill(const struct known *k, const char *line, size_t at, size_t n,
		 struct explanation *ret)
{
	const struct doctor_rule *rule = doctor_rule(k->id);

	*ret = (struct explanation){
		.id = rule->id,
		.title = k->title ? k->title : rule->title,
		.fix = k->fix ? k->fix : rule->fix,
	};
	while (n > 0 && (line[n - 1] == '\r' || line[n - 1] == ' '))
		n--;
	show(line, show_from(line, at, n, sizeof(ret->line)), n, ret->line, sizeof(ret->line));
}

/* The first entry that some window of the line matches; *ret_at: where in the line. */
static const struct known *explain_line(const char *line, size_t n, size_t *ret_at)
{
	char lowered[WINDOW + 1];

	for (size_t start = 0;; start += WINDOW - OVERLAP) {
		size_t k = MIN(n - start, (size_t)WINDOW);

		for (size_t i = 0; i < k; i++)
			lowered[i] = lower(line[start + i]);
		lowered[k] = '\0';
		for (size_t i = 0; i < ARRAY_LEN(known); i++) {
			const char *at = match(&known[i], lowered);

			if (at) {
				*ret_at = start + (size_t)(at - lowered);
				return &known[i];
			}
		}
		if (start + k >= n)
			return NULL;
	}
}

static bool is_told(const struct explanation *ret, size_t n, const char *id)
{
	for (size_t i = 0; i < n; i++)
		if (str_eq(ret[i].id, id))
			return true;
	return false;
}

size_t doctor_explain(const char *text, size_t n, struct explanation *ret, size_t cap)
{
	size_t found = 0;

	for (size_t i = 0; i < n && found < cap;) {
		const char *line = text + i;
		const char *end = memchr(line, '\n', n - i);
		size_t len = end ? (size_t)(end - line) : n - i, at = 0;
		const struct known *k = explain_line(line, len, &at);

		if (k && !is_told(ret, found, k->id))
			fill(k, line, at, len, &ret[found++]);
		i += len + 1;
	}
	return found;
}
