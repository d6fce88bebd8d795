/*
 * fake_gpus.h — the one machine that the fake driver libraries (nvml_fake.c, cuda_fake.c) both
 * show: identity of GPU `index` out of `n`. libc only, because cuda_fake.c is loaded into other
 * people's programs.
 */
#ifndef LEM_TESTS_FAKE_GPUS_H
#define LEM_TESTS_FAKE_GPUS_H

#include <stddef.h>
#include <stdio.h>

enum { FAKE_GPUS_MAX = 16 };

static inline void fake_gpu_uuid(unsigned index, char *buf, size_t size)
{
	(void)snprintf(buf, size, "GPU-%08x-fa4e-4000-8000-%012x", 0x1a2b3c40u + index,
		       0xabcdefu + index);
}

/* MIG instance `k` (from 0) of that GPU. */
static inline void fake_mig_uuid(unsigned index, unsigned k, char *buf, size_t size)
{
	(void)snprintf(buf, size, "MIG-%08x-fa4e-5000-8000-%012x", 0x5e6f7080u + index,
		       0x100u * index + k);
}

/* The bus in 00000000:BUS:00.0. */
static inline unsigned fake_gpu_bus(unsigned index)
{
	return 0x10u + index;
}

/* Of /dev/nvidiaMINOR: the other way round, for it need not follow the index. */
static inline unsigned fake_gpu_minor(unsigned index, unsigned n)
{
	return n - 1 - index;
}

#endif
