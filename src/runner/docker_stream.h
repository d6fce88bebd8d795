/*
 * docker_stream.h — a container's standard streams as three descriptors, as a process has them. A
 * thread takes the engine's frames apart and writes them into two pipes; writing to `in` goes to
 * the engine's socket as it is. It only copies: nothing is parsed, stamped or logged there.
 */
#ifndef LEM_RUNNER_DOCKER_STREAM_H
#define LEM_RUNNER_DOCKER_STREAM_H

#include "base/error.h"
#include "sys/proc.h"

struct docker_stream;

/* Takes the socket over. first: bytes already read from it. The ends are put into p (non-blocking);
 * they close when the container's streams do. */
int docker_stream_start(int socket_fd, const char *first, size_t n_first, struct proc *p,
			struct docker_stream **ret, struct lem_error *err);
/* Ends the thread, whatever it is waiting for. NULL is fine. */
void docker_stream_stop(struct docker_stream *s);

#endif
