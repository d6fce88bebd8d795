/*
 * config_checks.h — what a configuration adds to the checks of a host: its own findings, the GPUs
 * it chooses, the image it would start.
 */
#ifndef LEM_DOCTOR_CONFIG_CHECKS_H
#define LEM_DOCTOR_CONFIG_CHECKS_H

#include "config/load.h"
#include "doctor/report.h"

/* Each finding as a result, or one that says there are none. Strings are borrowed from c. */
void doctor_check_findings(const struct config *c, struct doctor_report *r);

/* Resolves gpus: on this host, so that the checks look at those only (f->choice), and says which
 * they are or why not. Before doctor_report_run. */
void doctor_choose_gpus(struct doctor_facts *f, const struct experiment *e,
			struct doctor_report *r);

/* The image: there, for this processor (X04), not too new for the driver (R25). Asks the engine. */
void doctor_check_image(struct doctor_facts *f, const char *ref, struct doctor_report *r);

/* ---- its pure parts ---- */

/* "12.8.1", "cuda>=12.8 brand=tesla,driver>=470": the CUDA version asked for, as NVML counts
 * (12080); 0: none. */
int doctor_image_cuda(const char *const *env);
void doctor_judge_image_cuda(const struct doctor_facts *f, const struct docker_image *image,
			     struct doctor_result *ret);
/* machine: as uname says ("x86_64"). */
void doctor_judge_image_arch(const char *machine, const struct docker_image *image,
			     struct doctor_result *ret);

#endif
