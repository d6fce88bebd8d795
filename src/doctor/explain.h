/*
 * explain.h — what a failed start means: known lines of engine and daemon messages → the rule of
 * the catalogue (routing.md section 16) with its cause and the command that fixes it. Pure.
 */
#ifndef LEM_DOCTOR_EXPLAIN_H
#define LEM_DOCTOR_EXPLAIN_H

#include "base/base.h"

struct explanation {
	const char *id;    /* "R17" */
	const char *title; /* "shared memory is too small for NCCL" */
	const char *fix;   /* a sentence or a command; never NULL */
	char line[240];    /* the line of the text that says so, without control characters */
};

/* Searches a log or a message; the first line for each rule, in the order of the text, at most cap.
 * Returns how many. */
size_t doctor_explain(const char *text, size_t n, struct explanation *ret, size_t cap);

#endif
