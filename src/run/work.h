/*
 * work.h — what was really asked of the engine: the lengths of inputs and outputs, told by the
 * requests of a record. Pure.
 */
#ifndef LEM_RUN_WORK_H
#define LEM_RUN_WORK_H

#include "model/run_record.h"
#include "model/summary.h"

/* input_lengths and output_lengths of the answered requests that count, inputs_differ. A length
 * that nobody told is no length of 0: it is left out. */
void work_count(const struct run_record *r, struct summary *s);

#endif
