#include "sys/bounded.h"

#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/clock.h"

#define LOOK_NS (100 * NS_PER_MS)
#define LAST_LOOK_NS                                                                 \
	(200 * NS_PER_MS) /* for a killed child to go; one stuck in the kernel stays \
			   */

void *bounded_alloc(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? lem_malloc(SIZE_MAX) : p; /* ends the program with its message */
}

void bounded_free(void *memory, size_t size)
{
	if (memory)
		munmap(memory, size);
}

static bool has_ended(int pidfd, int64_t ns)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};

	return poll(&p, 1, (int)(ns / NS_PER_MS)) > 0;
}

/* True when it ended by itself. */
static bool wait_while_alive(int pidfd, const atomic_uint *beat, int64_t silence_ns)
{
	unsigned last = atomic_load(beat);
	int64_t until_ns = clock_now_ns() + silence_ns;

	while (!has_ended(pidfd, LOOK_NS)) {
		unsigned now = atomic_load(beat);

		if (now != last)
			until_ns = clock_now_ns() + silence_ns;
		else if (clock_now_ns() >= until_ns)
			return false;
		last = now;
	}
	return true;
}

static void child(pid_t parent, void (*work)(void *arg), void *arg)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() == parent)
		work(arg);
	_exit(0);
}

int bounded_run(void (*work)(void *arg), void *arg, const atomic_uint *beat, int64_t silence_ns,
		enum bounded_end *ret, int *ret_signal, struct lem_error *err)
{
	_cleanup_fd_ int pidfd = -1;
	pid_t parent = getpid(), pid = fork();
	bool ended;
	int status = 0;

	if (pid < 0)
		return lem_fail_errno(err, errno, "cannot start a child process");
	if (pid == 0)
		child(parent, work, arg);
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0) { /* before Linux 5.3: without it a wait cannot be bounded */
		int e = errno;

		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		return lem_fail_errno(err, e, "cannot watch a child process");
	}
	ended = wait_while_alive(pidfd, beat, silence_ns);
	if (!ended) {
		kill(pid, SIGKILL);
		(void)has_ended(pidfd, LAST_LOOK_NS);
	}
	(void)waitpid(pid, &status, WNOHANG);
	*ret = !ended                                          ? BOUNDED_HUNG
	       : WIFEXITED(status) && WEXITSTATUS(status) == 0 ? BOUNDED_DONE
							       : BOUNDED_DIED;
	if (ret_signal)
		*ret_signal = ended && WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	return 0;
}
