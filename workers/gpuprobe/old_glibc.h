/*
 * old_glibc.h — makes a program run with a glibc as old as 2.17 (2012), whichever it is linked
 * against. lem-gpuprobe runs inside other people's images.
 *
 * glibc 2.34 moved libdl into libc and gave dlopen, dlsym, dlerror and __libc_start_main a new
 * version, which a program linked today asks for and which no older glibc has. The versions before
 * remain in every newer one, so they are asked for by name. On an old system dlopen lies in
 * libdl.so.2: the program must name it (`--no-as-needed -l:libdl.so.2`); since 2.34 that library is
 * empty and always there. The start files' call of __libc_start_main is led here by the linker's
 * `--wrap`. Include in one file only, the one that calls dlopen.
 *
 * First versions by machine: sysdeps/unix/sysv/linux/.../shlib-versions of glibc.
 */
#ifndef LEM_GPUPROBE_OLD_GLIBC_H
#define LEM_GPUPROBE_OLD_GLIBC_H

#if defined(__x86_64__)
#define OLD_GLIBC "GLIBC_2.2.5"
#elif defined(__aarch64__) || (defined(__powerpc64__) && defined(__LITTLE_ENDIAN__))
#define OLD_GLIBC "GLIBC_2.17"
#endif

int old_libc_start_main(int (*main)(int, char **, char **), int argc, char **argv,
			void (*init)(void), void (*fini)(void), void (*rtld_fini)(void),
			void *stack_end);
int __wrap___libc_start_main(int (*main)(int, char **, char **), int argc, char **argv,
			     void (*init)(void), void (*fini)(void), void (*rtld_fini)(void),
			     void *stack_end);
int __real___libc_start_main(int (*main)(int, char **, char **), int argc, char **argv,
			     void (*init)(void), void (*fini)(void), void (*rtld_fini)(void),
			     void *stack_end);

#ifdef OLD_GLIBC
__asm__(".symver dlopen,dlopen@" OLD_GLIBC);
__asm__(".symver dlsym,dlsym@" OLD_GLIBC);
__asm__(".symver dlerror,dlerror@" OLD_GLIBC);
__asm__(".symver old_libc_start_main,__libc_start_main@" OLD_GLIBC);
#define REAL_START old_libc_start_main
#else
#define REAL_START __real___libc_start_main
#endif

int __wrap___libc_start_main(int (*main)(int, char **, char **), int argc, char **argv,
			     void (*init)(void), void (*fini)(void), void (*rtld_fini)(void),
			     void *stack_end)
{
	return REAL_START(main, argc, argv, init, fini, rtld_fini, stack_end);
}

#endif
