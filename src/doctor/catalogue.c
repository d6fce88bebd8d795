/*
 * catalogue.c — the rules as a table. Sources are in the project's fact sheet on routing, section
 * 16; issue numbers that a reader can look up stand in the texts.
 */
#include "doctor/catalogue.h"

#include <strings.h>

/* clang-format off: a table that is read by people */
#define CONFIG    DOCTOR_IN_CONFIG
#define HOST      DOCTOR_ON_HOST
#define DAEMON    DOCTOR_IN_ENGINE
#define IMAGE     DOCTOR_IN_IMAGE
#define START     DOCTOR_AFTER_START
#define RUN       DOCTOR_DURING_RUN
#define BY_DESIGN DOCTOR_BY_CONSTRUCTION

const struct doctor_rule doctor_rules[] = {
	{"R01", DOCTOR_BLOCKS, CONFIG | START | BY_DESIGN, "a privileged container sees every GPU",
	 "`privileged: true` adds every device node of the host and allows them all, so gpus: [2, "
	 "5] cannot be "
	 "enforced: the engine silently uses GPUs 0 and 1 (nvidia-docker#764, #1083).",
	 "remove privileged: lem reads energy on the host and needs no privilege inside"},
	{"R02", DOCTOR_BLOCKS, CONFIG | BY_DESIGN, "`count: all` overrides the list of GPUs",
	 "A device request with count: all makes the container engine append "
	 "NVIDIA_VISIBLE_DEVICES=all behind the "
	 "value that was set; the last one wins and every GPU is visible.",
	 "use device_ids with the GPUs' UUIDs instead of count, or let lem start the container"},
	{"R03", DOCTOR_BLOCKS, DAEMON | START, "no GPU reaches the container",
	 "NVIDIA_VISIBLE_DEVICES is only a wish: without the nvidia runtime, CDI or a device "
	 "request nothing reads it "
	 "and the container starts without a GPU and without an error. The toolkit's "
	 "accept-nvidia-visible-devices-envvar-when-unprivileged=false does the same.",
	 "sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker"},
	{"R04", DOCTOR_BLOCKS, CONFIG, "the host's GPU numbers are used inside a container",
	 "Inside a container the GPUs given to it are numbered from 0 in PCI order. "
	 "CUDA_VISIBLE_DEVICES=5 there means "
	 "a sixth GPU, which does not exist: no device, or a silent fall-back to the CPU.",
	 "remove CUDA_VISIBLE_DEVICES and NVIDIA_VISIBLE_DEVICES from env: lem derives them from "
	 "gpus"},
	{"R05", DOCTOR_BLOCKS, CONFIG | HOST, "CUDA_VISIBLE_DEVICES is silently cut short",
	 "CUDA stops at the first item it does not like and says nothing: `0,5,1` on two GPUs is "
	 "GPU 0 alone, and so "
	 "are `0 1`, `0;1` and `0,GPU-…`.",
	 "unset CUDA_VISIBLE_DEVICES"},
	{"R06", DOCTOR_BLOCKS, CONFIG | HOST, "a GPU is named twice",
	 "CUDA refuses a list in which the same GPU stands twice (error 101) and PyTorch then sees "
	 "none; a number and "
	 "a UUID may be the same GPU.",
	 "name each GPU once in gpus; unset CUDA_VISIBLE_DEVICES if it repeats one"},
	{"R07", DOCTOR_BLOCKS, CONFIG | HOST,
	 "a UUID in CUDA_VISIBLE_DEVICES, which the engine cannot read",
	 "vLLM applies int() to every item and dies on `GPU-…`, on the server as \"failed to be "
	 "inspected\" "
	 "(vllm#41848, #20939, #13815).",
	 "unset CUDA_VISIBLE_DEVICES: lem sets whole numbers from gpus"},
	{"R08", DOCTOR_BLOCKS, CONFIG | HOST, "MIG instances do not combine",
	 "A CUDA process uses at most one MIG instance, and there is no peer access between "
	 "instances, so tensor or "
	 "pipeline parallelism over them fails or hangs. A card in MIG mode cannot be used whole "
	 "either, and its "
	 "energy counter is that of the whole card.",
	 "choose full GPUs, use one MIG instance with parallelism 1, or switch MIG off: sudo "
	 "nvidia-smi -i GPU -mig 0"},
	{"R09", DOCTOR_WARNS, CONFIG | START | BY_DESIGN,
	 "the order of gpus is not the order of the ranks",
	 "Container runtimes lose the order of a device list and CUDA's default order is \"fastest "
	 "first\": rank 0 may "
	 "run on another GPU than gpus names first.",
	 "nothing to do: lem sets CUDA_DEVICE_ORDER=PCI_BUS_ID and the permutation, and proves the "
	 "order inside"},
	{"R10", DOCTOR_BLOCKS, CONFIG, "the engine needs more GPUs than gpus lists",
	 "Tensor × pipeline parallelism is the number of GPUs a replica needs; engines notice it "
	 "only minutes later, "
	 "or as `invalid device ordinal` in a worker (vllm#3416, #5790).",
	 "list as many GPUs as tensor × pipeline parallelism needs, or lower it"},
	{"R11", DOCTOR_BLOCKS, CONFIG, "data parallelism needs more GPUs than gpus lists",
	 "Every data-parallel replica needs its own tensor × pipeline GPUs; vLLM's own check "
	 "leaves that factor out.",
	 "list tensor × pipeline × data_parallel GPUs, or lower data_parallel_size"},
	{"R12", DOCTOR_BLOCKS, CONFIG, "the attention heads do not divide among the GPUs",
	 "Tensor parallelism gives each GPU the same number of attention heads.",
	 "choose a tensor_parallel_size that divides the model's number of attention heads, e.g. "
	 "1, 2, 4 or 8"},
	{"R13", DOCTOR_BLOCKS, CONFIG, "quantised blocks do not divide among the GPUs",
	 "Block-quantised weights (FP8) are cut in blocks of 128: each GPU's share of the "
	 "intermediate size must be a "
	 "multiple of it.",
	 "lower tensor_parallel_size (often 4 instead of 8), or use expert parallelism"},
	{"R14", DOCTOR_BLOCKS, CONFIG, "TensorRT-LLM's world size is not the number of GPUs",
	 "tp × pp × cp is the number of ranks; each needs a GPU, and a built engine runs only at "
	 "the world size it was "
	 "built for (TensorRT-LLM#2594, #1047).",
	 "list tp_size × pp_size × cp_size GPUs, or lower them; rebuild an engine that was built "
	 "for another size"},
	{"R15", DOCTOR_BLOCKS, CONFIG, "TensorRT-LLM's expert split does not fit",
	 "moe_tp_size × moe_ep_size must be tp_size.",
	 "choose moe_ep_size among the divisors of tp_size and leave moe_tp_size out"},
	{"R16", DOCTOR_WARNS, START, "MPI has no slots, or refuses to run as root",
	 "In a container Open MPI counts the CPUs it sees as slots and stops as root "
	 "(TensorRT-LLM#5854).",
	 "add to env: OMPI_ALLOW_RUN_AS_ROOT: 1, OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: 1, "
	 "OMPI_MCA_rmaps_base_oversubscribe: 1"},
	{"R17", DOCTOR_BLOCKS, CONFIG | HOST, "shared memory is too small for NCCL",
	 "Several GPUs exchange data through /dev/shm, of which a container gets 64 MiB unless "
	 "told otherwise "
	 "(nccl#290, vllm#1710).",
	 "set docker.shm_size to 8g or more; on a host: sudo mount -o remount,size=16g /dev/shm"},
	{"R18", DOCTOR_BLOCKS, HOST, "the fabric manager is not running",
	 "On machines with NVSwitch CUDA answers 802 (system not yet initialized) until "
	 "nvidia-fabricmanager of exactly "
	 "the driver's version has set the links up, even for one GPU, while nvidia-smi looks fine "
	 "(pytorch#35710).",
	 "sudo systemctl enable --now nvidia-fabricmanager"},
	{"R19", DOCTOR_WARNS, DAEMON, "containers may lose their GPUs while they run",
	 "With the legacy hook and systemd as cgroup driver, `systemctl daemon-reload` takes the "
	 "devices away from "
	 "running containers: NVML says Unknown Error (nvidia-docker#1730, "
	 "nvidia-container-toolkit#48).",
	 "use CDI: sudo nvidia-ctk cdi generate --output=/var/run/cdi/nvidia.yaml && sudo "
	 "systemctl restart docker"},
	{"R20", DOCTOR_BLOCKS, DAEMON, "the container engine cannot pass GPUs",
	 "Neither a runtime named nvidia nor a CDI specification is known to it: `could not select "
	 "device driver`. The "
	 "NVIDIA Container Toolkit is not installed, or the engine was not restarted since.",
	 "sudo apt-get install -y nvidia-container-toolkit && sudo nvidia-ctk runtime configure "
	 "--runtime=docker && "
	 "sudo systemctl restart docker"},
	{"R21", DOCTOR_BLOCKS, DAEMON, "the container engine does not know a GPU",
	 "`unresolvable CDI devices`: the CDI specification is missing or older than the GPU or "
	 "its MIG layout "
	 "(nvidia-container-toolkit#434, #1239).",
	 "sudo systemctl restart nvidia-cdi-refresh || sudo nvidia-ctk cdi generate "
	 "--output=/var/run/cdi/nvidia.yaml"},
	{"R22", DOCTOR_BLOCKS, DAEMON, "a CDI specification names files that are gone",
	 "A specification lists device nodes and driver libraries by path; after a driver update "
	 "or a reboot some of "
	 "them no longer exist and every start fails (nvidia-container-toolkit#885).",
	 "sudo nvidia-ctk cdi generate --output=/var/run/cdi/nvidia.yaml; remove stale files from "
	 "/etc/cdi"},
	{"R23", DOCTOR_BLOCKS, HOST | DAEMON, "no NVIDIA driver",
	 "libnvidia-ml.so.1 cannot be loaded or the kernel module is not: the driver is not "
	 "installed, a reboot is "
	 "pending, or the container engine is a snap that cannot see it "
	 "(nvidia-container-toolkit#676).",
	 "install the NVIDIA driver or reboot; replace a snap Docker by the distribution's "
	 "packages"},
	{"R24", DOCTOR_BLOCKS, HOST, "driver and library have different versions",
	 "The driver was updated while its kernel module was in use: the new library refuses the "
	 "old module.",
	 "reboot, or stop what uses the GPUs and run: sudo rmmod nvidia_uvm nvidia_drm "
	 "nvidia_modeset nvidia && "
	 "sudo modprobe nvidia"},
	{"R25", DOCTOR_BLOCKS, IMAGE | START, "the image's CUDA is newer than the driver",
	 "An image needs a driver that offers at least its CUDA version: `unsatisfied condition: "
	 "cuda>=13.0`, or "
	 "`driver version is insufficient` once the engine starts.",
	 "choose an image for the driver's CUDA version (nvidia-smi shows it), or update the "
	 "driver"},
	{"R26", DOCTOR_BLOCKS, HOST | DOCTOR_BEFORE_RUN, "GPU memory is in use",
	 "Another process holds memory of the GPU, so the engine finds less than it asks for.",
	 "stop the process that holds it (nvidia-smi lists them), or choose a free GPU"},
	{"R27", DOCTOR_WARNS, HOST | DOCTOR_BEFORE_RUN | RUN, "a foreign process uses the GPU",
	 "A GPU's energy counter knows no processes: what somebody else computes on it is counted "
	 "as yours. A run "
	 "during which one was seen is invalid (contaminated).",
	 "stop it, or choose another GPU"},
	{"R28", DOCTOR_BLOCKS, HOST | DOCTOR_BEFORE_RUN,
	 "the compute mode forbids more than one process",
	 "In EXCLUSIVE_PROCESS mode a GPU takes one process, in PROHIBITED none: `all CUDA-capable "
	 "devices are busy or "
	 "unavailable`.",
	 "sudo nvidia-smi -c 0"},
	{"R29", DOCTOR_PREVENTED, BY_DESIGN, "a server listens only inside its container",
	 "SGLang, TensorRT-LLM and Transformers listen on localhost, which nothing outside a "
	 "container reaches.",
	 "nothing to do: lem passes --host 0.0.0.0 and publishes the port on 127.0.0.1 of the "
	 "host"},
	{"R30", DOCTOR_BLOCKS, CONFIG | START, "llama.cpp does not use the GPU that was meant",
	 "main_gpu counts the visible GPUs, and without a usable GPU llama.cpp goes on with the "
	 "CPU and says so only in "
	 "its log.",
	 "main_gpu must be below the number of gpus; use a llama.cpp that was built with CUDA"},
	{"R31", DOCTOR_BLOCKS, CONFIG, "the number of processes is not what the mesh needs",
	 "Transformers under torchrun needs exactly tensor × pipeline × fsdp processes.",
	 "set the number of processes to that product, or tensor_parallel_size to the number of "
	 "processes"},
	{"R32", DOCTOR_BLOCKS, CONFIG, "accelerate overwrites CUDA_VISIBLE_DEVICES",
	 "`accelerate launch --gpu_ids` replaces the list that routes the GPUs.",
	 "remove gpu_ids and list the GPUs in gpus"},
	{"R33", DOCTOR_BLOCKS, HOST, "a container in a Slurm job takes somebody else's GPU",
	 "The container engine runs outside the job's cgroup: its GPU 0 is the machine's GPU 0, "
	 "not the job's.",
	 "nothing to do for lem, which passes UUIDs and compares them with the allocation; do not "
	 "pass numbers to docker"},
	{"R34", DOCTOR_BLOCKS, DAEMON, "SELinux keeps containers from the GPUs",
	 "With SELinux separation containers may not open /dev/nvidia*: NVML says Insufficient "
	 "Permissions.",
	 "sudo setsebool -P container_use_devices on"},
	{"R35", DOCTOR_BLOCKS, DAEMON, "a rootless engine cannot pass GPUs",
	 "A rootless engine cannot change device cgroups, so the legacy hook fails, and CDI is off "
	 "or has no "
	 "specification (nvidia-container-toolkit#434).",
	 "nvidia-ctk cdi generate --output=$HOME/.config/cdi/nvidia.yaml; before Docker 28.2 also "
	 "set "
	 "features.cdi=true in ~/.config/docker/daemon.json; systemctl --user restart docker"},
	{"R36", DOCTOR_BLOCKS, DAEMON, "the toolkit's hook refuses to be called directly",
	 "With mode cdi or csv in /etc/nvidia-container-runtime/config.toml a request by --gpus is "
	 "refused: the hook "
	 "wants the nvidia runtime.",
	 "sudo nvidia-ctk config --in-place --set nvidia-container-runtime.mode=auto; or use CDI, "
	 "as lem does"},
	{"R37", DOCTOR_PREVENTED, BY_DESIGN, "`count: 2` always means GPUs 0 and 1",
	 "A count is the first N GPUs, not N free ones.",
	 "nothing to do: lem never uses a count; elsewhere list device_ids"},
	{"R38", DOCTOR_PREVENTED, BY_DESIGN, "NVIDIA_VISIBLE_DEVICES says `void` inside",
	 "CDI overwrites the variable, so a program that counts its commas gets the wrong number "
	 "of GPUs.",
	 "nothing to do: lem never reads it inside; LEM_GPU_UUIDS carries the list"},
	{"R39", DOCTOR_WARNS, HOST | START, "GPUs cannot reach each other directly",
	 "Without peer access (PCIe ACS or IOMMU, different root complexes) NCCL is slow or hangs "
	 "at its start.",
	 "set env: {NCCL_P2P_DISABLE: 1}; it is recorded with the result"},
	{"R40", DOCTOR_WARNS, HOST, "different GPU models",
	 "Parallel ranks wait for the slowest and fit into the smallest; joules of unlike cards do "
	 "not compare.",
	 "choose GPUs of one model"},
	{"R41", DOCTOR_BLOCKS, HOST, "a GPU is lost or needs a reset",
	 "The GPU has fallen off the bus, has an uncorrectable memory error, or waits for a reset "
	 "(Xid in the kernel "
	 "log).",
	 "sudo nvidia-smi --gpu-reset -i GPU, or reboot; leave the GPU out of gpus until then"},

	{"X01", DOCTOR_BLOCKS, 0, "the model does not fit into GPU memory",
	 "Weights, key-value cache and activations together need more than the GPU has left.",
	 "use more GPUs, a smaller or quantised model, or lower max_model_len, batch size or "
	 "gpu_memory_utilization"},
	{"X02", DOCTOR_BLOCKS, 0, "the machine ran out of memory",
	 "The kernel killed the process, or refused it memory: weights are read through the host's "
	 "memory.",
	 "free memory or raise the container's or job's limit; see `dmesg | grep -i oom`"},
	{"X03", DOCTOR_BLOCKS, 0, "the disk is full",
	 "No space left on device: images, model weights and compile caches are large.",
	 "docker system df; docker image prune; df -h shows which file system"},
	{"X04", DOCTOR_BLOCKS, IMAGE, "the image is for another processor architecture",
	 "`exec format error`: an arm64 image on an amd64 machine, or the reverse.",
	 "pull the image for this machine: docker pull --platform linux/amd64 IMAGE (or "
	 "linux/arm64)"},
	{"X05", DOCTOR_BLOCKS, 0, "the image cannot be pulled",
	 "The registry does not have it, or wants a login.",
	 "check the image's name and tag; docker login REGISTRY where it is private"},
	{"X06", DOCTOR_BLOCKS, 0, "the model cannot be downloaded",
	 "The hub does not have it, or access must be granted first.",
	 "check model_name; accept the licence on the model's page and set HF_TOKEN"},
	{"X07", DOCTOR_BLOCKS, 0, "the port is taken", "Another server listens on it.",
	 "stop the other server (ss -ltnp shows it), or choose another port"},
	{"X08", DOCTOR_BLOCKS, 0, "the image lacks the program that was to be started",
	 "The entry point or the command does not exist in the image, or its interpreter does not.",
	 "check docker.image and docker.entrypoint against the image: docker image inspect IMAGE"},
	{"X09", DOCTOR_BLOCKS, 0, "this version of the engine cannot do that with this model",
	 "The model's architecture, or a way of parallelism for it, is not implemented.",
	 "use a newer image of the engine, another engine, or turn the feature off"},
	{"X10", DOCTOR_BLOCKS, 0, "Ray sees no GPU",
	 "Ray counts GPUs by its own rules and found none, or fewer than the placement needs.",
	 "set vllm.distributed_backend: mp; on one machine Ray is not needed"},
	{"X11", DOCTOR_BLOCKS, 0, "the image was not built for this GPU",
	 "`no kernel image is available`: the engine's binaries lack code for the GPU's "
	 "architecture.",
	 "use an image built for the GPU's compute capability, usually a newer one"},
	{"X12", DOCTOR_BLOCKS, 0, "the container engine cannot be reached",
	 "It is not running, or this user may not open its socket.",
	 "sudo systemctl start docker; for permission: sudo usermod -aG docker $USER, then log in "
	 "again"},
	{"X13", DOCTOR_BLOCKS, 0, "a program needs a newer C library than the image has",
	 "It was linked against a newer glibc than the image carries.", "use a newer image"},
	{"X14", DOCTOR_BLOCKS, 0,
	 "this GPU or engine does not compute in the number format asked for",
	 "bfloat16 needs compute capability 8.0, FP8 8.9, and a quantisation's kernels may need "
	 "more, "
	 "or take one activation format only.",
	 "set fp_precision: float16 (or float32 on a CPU), or another quantization"},
};
/* clang-format on */
const size_t doctor_n_rules = ARRAY_LEN(doctor_rules);

const struct doctor_rule *doctor_rule(const char *id)
{
	for (size_t i = 0; i < ARRAY_LEN(doctor_rules); i++)
		if (strcasecmp(doctor_rules[i].id, id) == 0)
			return &doctor_rules[i];
	return NULL;
}

const char *doctor_severity_name(enum doctor_severity s)
{
	static const char *const names[] = {"error", "warning", "prevented"};

	return names[s];
}

void doctor_where_text(unsigned where, struct str *out)
{
	static const struct {
		unsigned bit;
		const char *text;
	} words[] = {
		{DOCTOR_IN_CONFIG, "in every configuration, before launch"},
		{DOCTOR_ON_HOST, "on this host (lem doctor)"},
		{DOCTOR_BEFORE_RUN, "just before every run"},
		{DOCTOR_IN_ENGINE, "in the container engine (lem doctor)"},
		{DOCTOR_IN_IMAGE, "in the image (lem doctor CONFIG.yaml)"},
		{DOCTOR_AFTER_START, "after the start"},
		{DOCTOR_DURING_RUN, "during the run"},
		{DOCTOR_BY_CONSTRUCTION, "cannot come from lem, by construction"},
	};
	size_t before = out->len;

	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (where & words[i].bit)
			str_addf(out, "%s%s", out->len > before ? "; " : "", words[i].text);
	if (out->len == before)
		str_add(out, "in logs only");
}

void doctor_rules_md(struct str *out)
{
	str_add(out, "# Rules of GPU routing\n\n"
		     "What is known to go wrong between `gpus: [2, 5]` and an engine on exactly "
		     "these GPUs. The ids are stable: findings of a\nconfiguration, refusals, "
		     "`lem doctor` and explanations of an engine's log use the same ones.\n"
		     "`lem doctor R17` shows one rule in a terminal. This page is what `lem doctor "
		     "--list --markdown` prints.\n");
	for (size_t i = 0; i < ARRAY_LEN(doctor_rules); i++) {
		const struct doctor_rule *r = &doctor_rules[i];

		str_addf(out, "\n## %s: %s\n%s  \n*%s, %s", r->id, r->title, r->means,
			 doctor_severity_name(r->severity),
			 r->where == DOCTOR_BY_CONSTRUCTION ? "" : "looked for ");
		doctor_where_text(r->where, out);
		str_addf(out, ".*  \n**Fix:** %s\n", r->fix);
	}
}
